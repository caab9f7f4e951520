"""`xproxy audit`: what is on record."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import rich_click as click

from metering.cli.session import Session, managed, moment

UNSAID = ("application_id", "created_at", "attached_at", "set_at", "epoch")
"""What every thing has, and the entry says in another place."""
NOTHING: tuple[object, ...] = (None, False, "", [], {})


@click.group("audit")
def command() -> None:
    """What is on record of those who manage this service.

    \b
    xproxy audit log
    xproxy audit log --object limit --id team-budget --since 30d
    """


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
