"""Keys: who may call. Only digests are stored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from metering.core.rates import Kind
from metering.core.terms import NO_TERMS, Terms
from metering.errors import Conflict
from metering.store import Record, Store, as_uuid, pages
from metering.store.pages import Page

Role = Literal["admin", "app", "read"]


class KeyRow(msgspec.Struct, frozen=True, kw_only=True):
    """What is stored of a key, its digests aside. An admin key may belong to no application."""

    key_id: str
    application_id: str | None
    role: Role
    name: str
    last4: str
    permissions: tuple[str, ...] = ()
    limit_ids: tuple[str, ...] = ()
    """Limits that bind every call of the key."""
    rate_limits: dict[Kind, int] = {}
    """By kind, the most of it."""
    user_id: str | None = None
    """Whom the key acts for: limits that are attached to them bind its calls; team and customer
    likewise."""
    team: str | None = None
    customer: str | None = None
    created_ms: int
    expires_ms: int | None = None
    """Found by its digest: when that secret ends, which may be the end of a grace period."""
    previous_ends_ms: int | None = None
    """When the secret before the last rotation ends, or has ended."""
    last_used_ms: int | None = None
    last_used_from: str | None = None
    blocked: bool = False
    models: tuple[str, ...] = ()
    """The ones that it may call, see `core.models`; none: all."""
    aliases: dict[str, str] = {}
    """By the model that a call names, the one that is called."""
    tags: tuple[str, ...] = ()
    """Of all its calls."""
    terms: Terms = NO_TERMS
    """The budgets and rates that were asked for: `limit_ids` and `rate_limits` have what became of
    them."""
    details: dict[str, Any] = {}
    """What is only ever shown."""
    idempotent: bool = False
    """Found by its digest: whether its application has repeated calls made once."""


class Changed(NamedTuple):
    """A key as it is now, and the digests by which callers may remember it as it was."""

    key: KeyRow
    digests: tuple[bytes, ...]


CHANGEABLE = (
    *("name", "permissions", "limit_ids", "user_id", "team", "customer", "expires_ms", "blocked"),
    *("rate_limits", "models", "aliases", "tags", "terms", "details"),
)
"""The fields that `update` may change, in its query's order."""
IN_JSON = ("rate_limits", "aliases", "terms", "details")
_encoder = msgspec.json.Encoder(decimal_format="number")
_terms = msgspec.json.Decoder(Terms)
_details = msgspec.json.Decoder(dict[str, Any])


def _key(record: Record) -> KeyRow:
    values: dict[str, Any] = {name: record.get(name) for name in KeyRow.__struct_fields__}
    values["idempotent"] = bool(values["idempotent"])
    application_id = values["application_id"]
    values["key_id"] = str(values["key_id"])
    values["application_id"] = None if application_id is None else str(application_id)
    values["permissions"] = tuple(values["permissions"])
    values["limit_ids"] = tuple(values["limit_ids"])
    values["models"], values["tags"] = tuple(values["models"]), tuple(values["tags"])
    values["rate_limits"] = msgspec.json.decode(values["rate_limits"])
    values["aliases"] = msgspec.json.decode(values["aliases"])
    values["terms"] = read_terms(values["terms"])
    values["details"] = read_details(values["details"])
    return KeyRow(**values)


def read_terms(text: str) -> Terms:
    """Terms as they are stored."""
    return _terms.decode(text)


def read_details(text: str) -> dict[str, Any]:
    """Details as they are stored."""
    return _details.decode(text)


def _digests(record: Record) -> tuple[bytes, ...]:
    return tuple(it for it in (record["digest"], record["previous_digest"]) if it is not None)


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
        key.user_id,
        key.team,
        key.customer,
        key.created_ms,
        key.expires_ms,
        written(key.rate_limits),
        key.blocked,
        key.models,
        written(key.aliases),
        key.tags,
        written(key.terms),
        written(key.details),
    )
    if record is None:
        raise Conflict("there is such a key already")
    return _key(record)


async def by_digest(store: Store, digest: bytes, now_ms: int) -> KeyRow | None:
    """Who a caller is. A key that is blocked, expired or rotated away is found no more than one
    that never was, so that nothing, time included, tells them apart."""
    record = await store.row("read_key_by_digest", digest, now_ms)
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


async def update(
    store: Store, key_id: str, changes: Mapping[str, object], application_id: str | None = None
) -> Changed | None:
    """Change some of the `CHANGEABLE` fields; the others stay. None: no such key."""
    if (identity := _identity(key_id, application_id)) is None:
        return None
    values = {name: written(it) if name in IN_JSON else it for name, it in changes.items()}
    flagged = [it for name in CHANGEABLE for it in (name in values, values.get(name))]
    record = await store.row("update_key", *identity, *flagged)
    return None if record is None else Changed(_key(record), _digests(record))


async def rotate(
    store: Store,
    key_id: str,
    digest: bytes,
    last4: str,
    *,
    previous_ends_ms: int | None,
    application_id: str | None = None,
) -> Changed | None:
    """Give a key another secret. The one it has is good until `previous_ends_ms` (None: no more),
    the one before that ends now. None: no such key."""
    if (identity := _identity(key_id, application_id)) is None:
        return None
    record = await store.row("rotate_key", *identity, digest, last4, previous_ends_ms)
    return None if record is None else Changed(_key(record), _digests(record))


async def delete(
    store: Store, key_id: str, application_id: str | None = None
) -> tuple[bytes, ...] | None:
    """Remove a key; its digests, for whoever remembers callers by them. None: no such key."""
    if (identity := _identity(key_id, application_id)) is None:
        return None
    record = await store.row("delete_key", *identity)
    return None if record is None else _digests(record)


async def bound_by(store: Store, application_id: str, limit_id: str) -> tuple[bytes, ...]:
    """The digests of the keys that a limit binds."""
    records = await store.rows("read_digests_bound_by", as_uuid(application_id), limit_id)
    return tuple(digest for record in records for digest in _digests(record))


async def id_of(store: Store, application_id: str, digest: bytes, now_ms: int) -> str | None:
    """The id of an application's key by the digest of a secret that it has, good or not."""
    found = await store.value("read_key_id", as_uuid(application_id), digest, now_ms)
    return None if found is None else str(found)


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which keys of an application, of those that act for it; None: any."""

    user_id: str | None = None
    team: str | None = None
    name: str | None = None
    budget_id: str | None = None


async def some(
    store: Store, application_id: str, wanted: Wanted, *, skip: int = 0, most: int = 1_000
) -> list[KeyRow]:
    """Keys of an application, newest first, after so many."""
    which = msgspec.structs.astuple(wanted)
    records = await store.rows("list_keys", as_uuid(application_id), *which, skip, most)
    return [_key(record) for record in records]


async def get_many(store: Store, application_id: str, key_ids: Iterable[str]) -> dict[str, KeyRow]:
    """By id, those of some keys that an application has."""
    wanted = [it for it in map(as_uuid, key_ids) if it is not None]
    records = await store.rows("read_some_keys", as_uuid(application_id), wanted)
    return {row.key_id: row for row in map(_key, records)}


async def count(store: Store, application_id: str, wanted: Wanted) -> int:
    """How many `some` has in all."""
    which = msgspec.structs.astuple(wanted)
    found: int = await store.value("count_keys", as_uuid(application_id), *which)
    return found


async def note_use(store: Store, uses: Mapping[str, tuple[int, str]]) -> None:
    """Write down when (Unix ms), and from where, keys were last used."""
    if uses:
        times, addresses = zip(*uses.values(), strict=True)
        await store.rows("note_key_use", list(uses), times, addresses)


def _identity(key_id: str, application_id: str | None) -> Sequence[object] | None:
    """The arguments that find a key; None if what was asked can be the id of nothing."""
    key, application = as_uuid(key_id), as_uuid(application_id)
    if key is None or (application is None and application_id is not None):
        return None
    return key, application


def written(value: object) -> str:
    """A value as JSON, decimals as numbers."""
    return _encoder.encode(value).decode()
