"""`xproxy usage`: what was used."""

from __future__ import annotations

from collections.abc import Iterator

import rich_click as click

from metering.cli.session import Session, managed, moment

DIMENSIONS = (
    "month",
    "day",
    "hour",
    "application",
    "key",
    "limit",
    "user",
    "use_case",
    "tag",
    "model",
    "provider",
    "status",
)
SUMS = ("calls", "failed", "blocked", "input_tokens", "output_tokens", "cost_usd")
ENTRY = ("at", "model", "status", "input_tokens", "output_tokens", "cost_usd", "request_id")


@click.command("usage")
@click.option("--by", "group_by", help=f"Sum by (comma-separated): {', '.join(DIMENSIONS)}.")
@click.option("--since", default="24h", show_default=True, help="90m, 24h, 7d, or a time.")
@click.option("--until", help="1h (ago), or a time. Now by default.")
@click.option("--key", help="Only calls of this key (its id).")
@click.option("--limit", help="Only calls charged to this limit.")
@click.option("--user", help="Only calls of this user id.")
@click.option("--use-case", help="Only calls of this use case.")
@click.option("--tag", help="Only calls with this tag.")
@click.option("--model", help="Only this model.")
@click.option("--provider", help="Only this provider: openai, anthropic.")
@click.option("--status", help="Only ok, failed, blocked or unresolved.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, every column.")
@managed
def command(
    session: Session,
    /,
    *,
    group_by: str | None,
    since: str,
    until: str | None,
    as_csv: bool,
    **filters: str | None,
) -> None:
    """Show what was used: call by call, or summed with --by.

    \b
    xproxy usage --by model --since 7d
    xproxy usage --by day,model --since 30d --csv > usage.csv
    xproxy usage --user alice --status blocked
    """
    query: dict[str, object] = {
        **filters,
        "group_by": group_by,
        "from": moment(since, -1),
        "to": until and moment(until, -1),
    }
    if as_csv:
        for text in _csv_pages(session, query):
            click.echo(text, nl=False)
        return
    found = list(session.client.items("usage", **query))
    groups = tuple(name.strip() for name in (group_by or "").split(",") if name.strip())
    columns = (*groups, *SUMS) if groups else ENTRY
    session.show(found, columns, ([item.get(name) for name in columns] for item in found))


def _csv_pages(session: Session, query: dict[str, object]) -> Iterator[str]:
    """Every page, with one header line in all."""
    cursor: str | None = None
    while True:
        text, following = session.client.csv("usage", **{**query, "cursor": cursor})
        yield text if cursor is None else text.partition("\n")[2]
        if not following:
            return
        cursor = following
