"""`xproxy audit`: whether all books agree, and what is on record."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import islice
from typing import Any

import rich_click as click

from metering.cli.session import Session, cell, managed, moment, show_table

PATIENCE_S = 1800.0
"""All rows are summed up, however many there are."""

UNSAID = ("application_id", "created_at", "attached_at", "set_at", "epoch")
"""What every thing has, and the entry says in another place."""
NOTHING: tuple[object, ...] = (None, False, "", [], {})


class Checking(click.RichGroup):
    """A group that checks when no command is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `check` before options of its own."""
        if not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names):
            args = ["check", *args]
        return super().parse_args(ctx, args)


@click.group("audit", cls=Checking)
def command() -> None:
    """Whether all books agree to the pico, and what is on record of those who manage this service.

    \b
    xproxy audit                    the same as: xproxy audit check
    xproxy audit --repair
    xproxy audit log
    xproxy audit log --object limit --id team-budget --since 30d
    """


@command.command("check")
@click.option("--repair", is_flag=True, help="Make good what can be, while calls go on.")
@managed
def check(session: Session, *, repair: bool) -> None:
    """Compare rows, sums, live counters, holds, journals and outbox; exit code 1 if any differ.

    \b
    xproxy audit check --application 0198c1f2-...
    xproxy audit check --repair --json

    Rows are the truth: a repair derives the rest from them. It writes a correction only where a row
    differs from what its worker noted of the call.
    """
    found = session.client.post("audit", "check", body={"repair": repair}, timeout_s=PATIENCE_S)
    if session.as_json:
        session.show_json(found)
    else:
        _tell(found)
    if found["differences"]:
        sys.exit(1)


def _tell(found: dict[str, Any]) -> None:
    all_of_it = [(True, it) for it in found["repaired"]]
    all_of_it += [(False, it) for it in found["differences"]]
    if all_of_it:
        columns = ("kind", "about", "number", "found", "expected", "repaired")
        show_table(columns, [line for done, it in all_of_it for line in _lines(it, done)])
    for done, it in all_of_it:
        what = f" Repaired: {it['repair']}." if done else ""
        hint = "" if done or not it.get("repair") else " `xproxy audit --repair` makes it good."
        click.echo(f"{it['kind']} {it['about']}: {it['cause']}.{what}{hint}")
    click.echo(
        f"{len(found['differences'])} differences, {len(found['repaired'])} repaired; looked at "
        f"{found['applications']} applications, {found['waiting']} rows that wait for Postgres, "
        f"{found['journal']} entries in journals"
    )


def _lines(it: dict[str, Any], done: bool) -> Iterator[tuple[object, ...]]:
    for name, pair in it["numbers"].items() or [("", {"found": None, "expected": None})]:
        yield it["kind"], it["about"], name, cell(pair["found"]), cell(pair["expected"]), done


@command.command("log")
@click.option("--object", "object_", help="Only changes of these: key, limit, application, ...")
@click.option("--id", "object_id", help="Only changes of the one with this id.")
@click.option("--key", help="Only changes made with this key (its id).")
@click.option("--since", help="90m, 24h, 7d, or a time. From the beginning by default.")
@click.option("--until", help="1h (ago), or a time. Now by default.")
@click.option("--last", default=100, show_default=True, help="So many at most.")
@managed
def log(
    session: Session,
    *,
    object_: str | None,
    object_id: str | None,
    key: str | None,
    since: str | None,
    until: str | None,
    last: int,
) -> None:
    """Show who changed what, newest first: every change, with the values before and after.

    \b
    xproxy audit log --object key --since 7d
    xproxy audit log --key 0198c1f2-... --json
    """
    query: dict[str, object] = {
        "object": object_,
        "object_id": object_id,
        "key": key,
        "from": since and moment(since, -1),
        "to": until and moment(until, -1),
    }
    found = list(islice(session.client.items("audit", **query), last))
    columns = ("at", "who", "action", "what", "id", "change")
    session.show(found, columns, (_row(change) for change in found))


def _row(change: dict[str, Any]) -> tuple[object, ...]:
    actor = change["actor"]
    who = actor.get("key_id") or ("operator" if actor["role"] == "admin" else actor["role"])
    words = ", ".join(_words(change))
    return change["at"], who, change["action"], change["object"], change["object_id"], words


def _words(change: dict[str, Any]) -> Iterator[str]:
    before, after = (change.get(side) or {} for side in ("before", "after"))
    for name in {**before, **after}:
        if change["action"] == "updated":
            yield f"{name}: {before.get(name)} -> {after.get(name)}"
        elif name not in UNSAID and (value := (after or before)[name]) not in NOTHING:
            yield f"{name}={value}"
