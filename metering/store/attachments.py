"""What limits are attached to besides keys: credentials, users, teams and customers, by name."""

from __future__ import annotations

from typing import Literal

import msgspec

from metering.store import Record, Store, as_uuid, pages
from metering.store.pages import Page

Kind = Literal["credential", "user", "team", "customer"]


class Attachment(msgspec.Struct, frozen=True, kw_only=True):
    """A limit that binds the calls of what has a name."""

    kind: Kind
    name: str
    limit_id: str
    attached_ms: int


async def attach(store: Store, application_id: str, attachment: Attachment) -> bool:
    """Have a limit bind what has a name, which it may do already. False: no such limit."""
    its = (attachment.kind, attachment.name, attachment.limit_id, attachment.attached_ms)
    arguments = (as_uuid(application_id), *its)
    return await store.value("attach_limit", *arguments) is not None


async def detach(store: Store, application_id: str, kind: Kind, name: str, limit_id: str) -> bool:
    """Have a limit no longer bind what has a name. False: it did not."""
    arguments = (as_uuid(application_id), kind, name, limit_id)
    return await store.value("detach_limit", *arguments) is not None


async def of_application(store: Store, application_id: str) -> dict[Kind, dict[str, list[str]]]:
    """All limits that are attached to anything in an application, by kind and name."""
    found: dict[Kind, dict[str, list[str]]] = {}
    for record in await store.rows("read_attachments", as_uuid(application_id)):
        found.setdefault(record["kind"], {})[record["name"]] = record["limit_ids"]
    return found


async def count(store: Store, application_id: str, kind: Kind, name: str) -> tuple[int, int]:
    """How many attachments an application has, and how many of them what has this name."""
    record = await store.row("count_attachments", as_uuid(application_id), kind, name)
    return (0, 0) if record is None else (record["of_application"], record["of_name"])


async def attached(store: Store, application_id: str, limit_id: str) -> bool:
    """Whether a limit is attached to anything, keys included."""
    found: bool = await store.value("is_attached", as_uuid(application_id), limit_id)
    return found


async def page(
    store: Store,
    application_id: str,
    *,
    kind: Kind | None = None,
    name: str | None = None,
    limit_id: str | None = None,
    page_size: int | None = None,
    cursor: str | None = None,
) -> Page[Attachment]:
    """An application's attachments by kind, name and limit; of one of each if given."""
    page_size = pages.size(page_size)
    after = pages.read_cursor(cursor, str, str, str)
    arguments = (as_uuid(application_id), kind, name, limit_id, *after, page_size + 1)
    items = [_attachment(record) for record in await store.rows("page_attachments", *arguments)]
    return pages.cut(items, page_size, lambda last: (last.kind, last.name, last.limit_id))


def _attachment(record: Record) -> Attachment:
    return Attachment(**dict(record))
