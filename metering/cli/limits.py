"""`xproxy limits`: what an application may spend."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
    xproxy limits create calls --max 1000 --unit requests --type block --every day
    xproxy limits create monthly --max 50 --type block --every month --zone Europe/Berlin
    xproxy limits list
    xproxy limits update team-budget --max 25
    xproxy limits reset team-budget
    xproxy limits why team-budget
    xproxy limits attach team-budget --team search

    A call names its limits in the header xProxy-Limit-IDs: team-budget,calls
    What is attached binds whatever headers say.
    """


for _command in (attach, detach, attachments):
    command.add_command(_command)


on_store_down = click.option(
    "--on-store-down",
    "down",
    type=click.Choice(["refuse", "allow"], case_sensitive=False),
    help="Calls while Redis is away: refused, unless given, by limits that block.",
)


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
@click.option("--every", help='Begin anew every hour, day, week, month, quarter, year, "10 days".')
@click.option("--zone", help="Whose clocks say when: Europe/Berlin. UTC, unless given.")
@click.option("--first-day", help="Of --every week: monday, unless given.")
@click.option("--anchor", help='Of --every "10 days": the day to count from, 2026-01-31.')
@click.option("--rolling", help='Count what the last "24 hours" (or minutes, days) came to.')
@on_store_down
@click.option("--property", "properties", multiple=True, callback=pairs, help="name=value.")
@managed
def create(
    session: Session,
    /,
    *,
    name: str,
    maximum: Decimal,
    limit_id: str | None,
    limit_type: str,
    hard_cap: bool,
    unit: str,
    threshold: Decimal | None,
    down: str | None,
    properties: dict[str, str],
    **window: str | None,
) -> None:
    """Create the limit NAME. Creating the same limit again changes nothing.

    \b
    xproxy limits create team-budget --max 10 --type block --threshold 0.8
    xproxy limits create monthly --max 50 --type block --every month --zone Asia/Tokyo
    xproxy limits create sprint --max 50 --every "14 days" --anchor 2026-01-05
    xproxy limits create lately --max 5 --type block --rolling "24 hours"
    """
    said = {member: text for member, text in window.items() if text is not None}
    body = {
        "limit_name": name,
        "limit_id": limit_id or name,
        "max": maximum,
        "limit_type": limit_type,
        "hard_cap": hard_cap,
        "unit": unit,
        "threshold": threshold,
        "window": said or None,
        "on_store_down": down,
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
@on_store_down
@managed
def update(
    session: Session, limit_id: str, maximum: Decimal | None, name: str | None, down: str | None
) -> None:
    """Change a limit; it applies to calls from now on."""
    body = {"max": maximum, "limit_name": name, "on_store_down": down}
    _show_one(session, session.client.put("limits", limit_id, body=body))


@command.command("reset")
@click.argument("limit_id")
@managed
def reset(session: Session, limit_id: str) -> None:
    """Start counting from zero again; what was counted is kept as history."""
    answer = session.client.post("limits", limit_id, "reset")
    spent = answer["limit_history"]["totals"]["cost"]["total"]["base"]
    session.say(answer, f"Reset {limit_id}; it had counted {spent:f}")


@command.command("why")
@click.argument("limit_id")
@click.option("--request", "request_id", help="Only the refusal of this call (its request id).")
@click.option("--last", default=10, show_default=True, help="So many at most.")
@managed
def why(session: Session, limit_id: str, *, request_id: str | None, last: int) -> None:
    """Say why a limit refused calls, newest first, with the numbers that prove it.

    \b
    xproxy limits why team-budget
    xproxy limits why team-budget --request 0198c1f2-...
    """
    found = session.client.get("limits", limit_id, "why", request_id=request_id, limit=last)
    if not session.as_json:
        for sentence in sentences(found):
            click.echo(sentence)
    if session.as_json or found["items"]:
        session.show(found, _WHY, (_why_row(one) for one in found["items"]))


@command.command("delete")
@click.argument("limit_id")
@managed
def delete(session: Session, limit_id: str) -> None:
    """Delete a limit: it binds nothing more, and calls that name it are refused."""
    answer = session.client.delete("limits", limit_id)
    session.say(answer, f"Deleted limit {limit_id}")


@command.command("history")
@click.argument("limit_id")
@managed
def history(session: Session, limit_id: str) -> None:
    """Show what a limit came to in the windows that have ended, and between resets."""
    unit = session.client.get("limits", limit_id)["limit"]["unit"]
    found = list(session.client.items("limits", limit_id, "history"))
    rows = (
        (
            one["starts_at"],
            one["ends_at"],
            amount(one["max"], unit),
            amount(one["totals"]["cost"]["total"]["base"], unit),
            one["totals"]["requests"]["total"],
        )
        for one in found
    )
    session.show(found, ("from", "to", "max", "spent", "calls"), rows)


_WHY = ("at", "request", "model", "final", "max", "settled", "held", "needed", "holds", "resets")


def _why_row(one: Mapping[str, Any]) -> tuple[object, ...]:
    amounts = (amount(one[name], one["unit"]) for name in ("max", "settled", "held", "needed"))
    resets_at = one.get("resets_at")
    its = (one["at"], one["request_id"], one.get("model"), one["final"])
    return (*its, *amounts, one["holds"], resets_at)


def sentences(found: Mapping[str, Any]) -> Iterator[str]:
    """What a person asks: why was the latest call refused, does waiting help, how is it now."""
    now = found["now"]
    named, unit = f"Limit {now['limit_id']}", now["unit"]
    if not found["items"]:
        yield f"{named} has refused no call."
    for one in found["items"][:1]:
        told = {
            name: amount(one[name], one["unit"])
            for name in ("max", "settled", "held", "needed", "missing")
        }
        yield (
            f"{named} refused call {one['request_id']} at {one['at']}: {told['settled']} were "
            f"settled, {told['held']} held by {one['holds']} calls in flight, and the call needed "
            f"{told['needed']}: {told['missing']} more than the max of {told['max']}."
        )
        if one["final"]:
            helps = one.get("resets_at") and one["needed"] <= one["max"]
            until = f", or wait until {one['resets_at']}" if helps else ""
            yield f"What was settled sufficed to refuse it: raise the max or reset it{until}."
        else:
            yield "Only calls in flight were in its way: it helps to wait until they have ended."
    spent, left = amount(now["spent"], unit), amount(now["remaining"], unit)
    held = f"{amount(now['held'], unit)} held by {now['holds']} calls in flight"
    yield f"Now {spent} of {amount(now['max'], unit)} are settled, {held}, {left} left."


_COLUMNS = (
    *("id", "name", "type", "max", "spent", "threshold", "calls", "blocked"),
    *("window", "resets at"),
)


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
        window_text(limit),
        limit.get("resets_at"),
    )


def window_text(limit: Mapping[str, Any]) -> str | None:
    """A limit's window in a few words: `every month, Europe/Berlin`, `rolling 24 hours`."""
    window = limit.get("window") or {}
    if "rolling" in window:
        return f"rolling {window['rolling']}"
    if not window:
        return None
    parts = (window.get(name) for name in ("first_day", "anchor", "zone"))
    return ", ".join([f"every {window['every']}", *filter(None, parts)])


def _show_one(session: Session, answer: Mapping[str, Any]) -> None:
    session.show(answer, _COLUMNS, [_row(answer["limit"])])
