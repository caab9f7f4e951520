"""The audit log: what was changed, by whom, before and after. Triggers write it; see the schema."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from metering.store import Record, Store, as_uuid, pages
from metering.store.pages import Page

Action = Literal["created", "updated", "deleted", "repriced", "rotated", "repaired"]


class Actor(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who made a change. The service itself has its role alone."""

    role: str
    key_id: str | None = None
    """None for the operator's own admin key, and the service."""
    address: str | None = None
    request_id: str | None = None


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """An entry: a row as it was and as it is, secrets aside; None where there was none."""

    audit_id: int
    at_ms: int
    application_id: str | None
    actor: Actor
    action: Action
    object: str
    object_id: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """Which entries are asked for; None asks for any."""

    application_id: str | None = None
    """Row-level security keeps the answer to it."""
    object: str | None = None
    object_id: str | None = None
    key_id: str | None = None
    """Of who made the change."""
    from_ms: int | None = None
    to_ms: int | None = None


_read_actor = msgspec.json.Decoder(Actor).decode
_read_row = msgspec.json.Decoder(dict[str, Any] | None).decode


async def page(
    store: Store, asked: Asked, *, page_size: int | None = None, cursor: str | None = None
) -> Page[Change]:
    """Entries, newest first."""
    if asked.application_id is not None and as_uuid(asked.application_id) is None:
        return Page(())
    page_size = pages.size(page_size)
    [after] = pages.read_cursor(cursor, int)
    arguments = (*msgspec.structs.astuple(asked), after, page_size + 1)
    async with store.reader(asked.application_id) as reader:
        records = await reader.rows("page_audit", *arguments)
    items = [_change(record) for record in records]
    return pages.cut(items, page_size, lambda last: (last.audit_id,))


async def note(
    store: Store,
    application_id: str | None,
    action: Action,
    named: tuple[str, str],
    particulars: dict[str, Any],
) -> None:
    """Put on record what changes no table that has a trigger; `named` is what kind of thing it was
    done to, and which."""
    after = msgspec.json.encode(particulars).decode()
    await store.rows("note_audit", as_uuid(application_id), action, *named, after)


def _change(record: Record) -> Change:
    values = dict(record)
    application_id = values["application_id"]
    values["application_id"] = None if application_id is None else str(application_id)
    values["actor"] = _read_actor(values["actor"])
    for name in ("before", "after"):
        values[name] = _read_row(values[name] or "null")
    return Change(**values)
