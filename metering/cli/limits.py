"""`xproxy limits`: what an application may spend."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import rich_click as click

from metering.cli.attachments import attach, attachments, detach
from metering.cli.session import Session, amount, managed, number, pairs


@click.group("limits")
def command() -> None:
    """Limits: how much an application may spend, and what happens then.

    \b
    xproxy limits create team-budget --max 10 --type block
    xproxy limits create cap --max 2.50 --type block --hard-cap
    xproxy limits create calls --max 1000 --unit requests --type block
    xproxy limits list
    xproxy limits update team-budget --max 25
    xproxy limits reset team-budget
    xproxy limits attach team-budget --team search

    A call names its limits in the header xProxy-Limit-IDs: team-budget,calls
    What is attached binds whatever headers say.
    """


for _command in (attach, detach, attachments):
    command.add_command(_command)


@command.command("create")
@click.argument("name")
@click.option("--max", "maximum", required=True, callback=number, help="USD, or a count of --unit.")
@click.option("--id", "limit_id", help="The id calls name it by. The name, unless given.")
@click.option(
    "--type",
    "limit_type",
    type=click.Choice(["allow", "block"], case_sensitive=False),
    default="allow",
    show_default=True,
    help="allow: only reports; block: refuses calls once max is spent.",
)
@click.option("--hard-cap", is_flag=True, help="Never exceed max, by holding what calls may cost.")
@click.option(
    "--unit",
    type=click.Choice(["usd", "tokens", "requests", "concurrent"]),
    default="usd",
    show_default=True,
    help="What is counted.",
)
@click.option("--threshold", callback=number, help="Share of max that counts as exceeded: 0.8.")
@click.option("--property", "properties", multiple=True, callback=pairs, help="name=value.")
@managed
def create(
    session: Session,
    *,
    name: str,
    maximum: Decimal,
    limit_id: str | None,
    limit_type: str,
    hard_cap: bool,
    unit: str,
    threshold: Decimal | None,
    properties: dict[str, str],
) -> None:
    """Create the limit NAME. Creating the same limit again changes nothing.

    \b
    xproxy limits create team-budget --max 10 --type block --threshold 0.8
    """
    body = {
        "limit_name": name,
        "limit_id": limit_id or name,
        "max": maximum,
        "limit_type": limit_type,
        "hard_cap": hard_cap,
        "unit": unit,
        "threshold": threshold,
        "properties": properties,
    }
    _show_one(session, session.client.post("limits", body=body))


@command.command("list")
@click.option("--name", help="Only the limit of this name.")
@managed
def list_(session: Session, name: str | None) -> None:
    """List the limits with what was spent. See also: xproxy budgets."""
    found = list(session.client.items("limits", limit_name=name))
    session.show(found, _COLUMNS, (_row(one) for one in found))


@command.command("show")
@click.argument("limit_id")
@managed
def show(session: Session, limit_id: str) -> None:
    """Show one limit and its counters."""
    _show_one(session, session.client.get("limits", limit_id))


@command.command("update")
@click.argument("limit_id")
@click.option("--max", "maximum", callback=number, help="The new max, not below what is spent.")
@click.option("--name", help="The new name.")
@managed
def update(session: Session, limit_id: str, maximum: Decimal | None, name: str | None) -> None:
    """Change a limit's max or name; it applies to calls from now on."""
    body = {"max": maximum, "limit_name": name}
    _show_one(session, session.client.put("limits", limit_id, body=body))


@command.command("reset")
@click.argument("limit_id")
@managed
def reset(session: Session, limit_id: str) -> None:
    """Start counting from zero again; what was counted is kept as history."""
    answer = session.client.post("limits", limit_id, "reset")
    spent = answer["limit_history"]["totals"]["cost"]["total"]["base"]
    session.say(answer, f"Reset {limit_id}; it had counted {spent:f}")


@command.command("delete")
@click.argument("limit_id")
@managed
def delete(session: Session, limit_id: str) -> None:
    """Delete a limit: it binds nothing more, and calls that name it are refused."""
    answer = session.client.delete("limits", limit_id)
    session.say(answer, f"Deleted limit {limit_id}")


_COLUMNS = ("id", "name", "type", "max", "spent", "threshold", "calls", "blocked")


def _row(limit: Mapping[str, Any]) -> tuple[object, ...]:
    totals, unit = limit["totals"], limit["unit"]
    return (
        limit["limit_id"],
        limit["limit_name"],
        "hard cap" if limit["hard_cap"] else limit["limit_type"],
        amount(limit["max"], unit),
        amount(totals["cost"]["total"]["base"], unit),
        limit.get("threshold"),
        totals["requests"]["total"],
        totals["requests"]["blocked"],
    )


def _show_one(session: Session, answer: Mapping[str, Any]) -> None:
    session.show(answer, _COLUMNS, [_row(answer["limit"])])
