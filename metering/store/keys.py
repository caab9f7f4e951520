"""Keys: who may call. Only digests are stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from metering.errors import Conflict
from metering.store import Record, Store, as_uuid, pages
from metering.store.pages import Page

Role = Literal["admin", "app", "read"]


class KeyRow(msgspec.Struct, frozen=True, kw_only=True):
    """What is stored of a key, its digest aside. An admin key may belong to no application."""

    key_id: str
    application_id: str | None
    role: Role
    name: str
    last4: str
    permissions: tuple[str, ...] = ()
    limit_ids: tuple[str, ...] = ()
    """Limits that bind every call of the key."""
    created_ms: int
    expires_ms: int | None = None
    blocked: bool = False


def _key(record: Record) -> KeyRow:
    values = dict(record)
    application_id = values["application_id"]
    values["key_id"] = str(values["key_id"])
    values["application_id"] = None if application_id is None else str(application_id)
    values["permissions"] = tuple(values["permissions"])
    values["limit_ids"] = tuple(values["limit_ids"])
    return KeyRow(**values)


async def create(store: Store, key: KeyRow, digest: bytes) -> KeyRow:
    """Add a key by its 32-byte digest; Conflict when the digest or id is taken."""
    record = await store.row(
        "create_key",
        key.key_id,
        key.application_id,
        key.role,
        key.name,
        digest,
        key.last4,
        key.permissions,
        key.limit_ids,
        key.created_ms,
        key.expires_ms,
    )
    if record is None:
        raise Conflict("there is such a key already")
    return _key(record)


async def by_digest(store: Store, digest: bytes) -> KeyRow | None:
    """Who a caller is; blocked and expired keys too, so that the refusal can say which."""
    record = await store.row("read_key_by_digest", digest)
    return None if record is None else _key(record)


async def get(store: Store, key_id: str, application_id: str | None = None) -> KeyRow | None:
    """One key by its id, of one application or (None) of any."""
    if (identity := _identity(key_id, application_id)) is None:
        return None
    record = await store.row("read_key", *identity)
    return None if record is None else _key(record)


async def page(
    store: Store,
    application_id: str | None,
    *,
    page_size: int | None = None,
    cursor: str | None = None,
    ascending: bool = False,
) -> Page[KeyRow]:
    """Keys of one application or (None) of all by age, newest first unless `ascending`."""
    if application_id is not None and as_uuid(application_id) is None:
        return Page(())
    page_size = pages.size(page_size)
    after = pages.read_cursor(cursor, int, str)
    query = "page_keys_oldest" if ascending else "page_keys_newest"
    records = await store.rows(query, application_id, *after, page_size + 1)
    items = [_key(record) for record in records]
    return pages.cut(items, page_size, lambda last: (last.created_ms, last.key_id))


async def block(
    store: Store, key_id: str, *, blocked: bool = True, application_id: str | None = None
) -> KeyRow | None:
    """Stop a key from calling, or let it call again."""
    if (identity := _identity(key_id, application_id)) is None:
        return None
    record = await store.row("block_key", *identity, blocked)
    return None if record is None else _key(record)


async def delete(store: Store, key_id: str, application_id: str | None = None) -> bytes | None:
    """Remove a key; returns its digest, for whoever remembers callers by it. None: no such key."""
    if (identity := _identity(key_id, application_id)) is None:
        return None
    digest: bytes | None = await store.value("delete_key", *identity)
    return digest


def _identity(key_id: str, application_id: str | None) -> Sequence[object] | None:
    """The arguments that find a key; None if what was asked can be the id of nothing."""
    key, application = as_uuid(key_id), as_uuid(application_id)
    if key is None or (application is None and application_id is not None):
        return None
    return key, application
