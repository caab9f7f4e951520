"""`xproxy budgets`: what is left."""

from __future__ import annotations

import rich_click as click

from metering.cli.session import Session, amount, managed


@click.command("budgets")
@managed
def command(session: Session) -> None:
    """Show every limit with what is spent, held by calls in flight, and left.

    \b
    xproxy budgets
    xproxy budgets --json | jq '.[] | select(.percent > 80)'
    """
    found = list(session.client.items("budgets"))
    columns = ("limit", "mode", "max", "spent", "held", "remaining", "used", "state", "resets at")
    rows = (
        (
            one["limit_id"],
            one["mode"],
            *(amount(one[name], one["unit"]) for name in ("max", "spent", "held", "remaining")),
            f"{one['percent']}%",
            one["state"],
            one["resets_at"],
        )
        for one in found
    )
    session.show(found, columns, rows)
