"""Providers' credentials. Secrets come sealed, and are read by nobody but who serves calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from metering.core.credentials import NO_CONFIG, ModelConfig
from metering.core.sealing import Sealed
from metering.core.virtual_keys import NO_TERMS, Terms
from metering.errors import Conflict
from metering.store import Record, Store, as_uuid, pages
from metering.store.pages import Page
from sql import queries

Seal = Callable[[str], Sealed]
"""Seals a secret under the master secret of an id."""


NO_SECRET: tuple[object, ...] = (None,) * 5
_encoder = msgspec.json.Encoder(decimal_format="number")
_config = msgspec.json.Decoder(ModelConfig)
_terms = msgspec.json.Decoder(Terms)


class CredentialRow(msgspec.Struct, frozen=True, kw_only=True):
    """What is stored of a credential, its secret aside."""

    credential_id: str
    application_id: str
    slug: str
    name: str
    provider: str
    origin: str | None
    is_default: bool
    blocked: bool
    last4: str | None
    """None: there is no secret."""
    secret_ms: int | None
    created_ms: int
    created_by: str
    updated_ms: int
    expires_ms: int | None = None
    note: str | None = None
    model_config: ModelConfig = NO_CONFIG
    terms: Terms = NO_TERMS
    """The budgets and rates that were asked for by Portkey's routes."""


class SealedRow(NamedTuple):
    """A credential as calls use it; `sealed` is None where there is no secret."""

    credential_id: str
    slug: str
    provider: str
    origin: str | None
    blocked: bool
    expires_ms: int | None
    model_config: ModelConfig
    sealed: Sealed | None


class Change(NamedTuple):
    """A credential as it is to be; `seal` its new secret, None where it keeps the one it has. A
    row without `last4` has no secret any more."""

    row: CredentialRow
    seal: Seal | None = None


class Changed(NamedTuple):
    """A credential as it is now, and the slugs of those that are no default any more."""

    row: CredentialRow
    displaced: tuple[str, ...]


async def create(store: Store, row: CredentialRow, seal: Seal) -> Changed:
    """Add a credential; Conflict when the application has one of this slug."""
    async with store.transaction() as connection:
        sealed = seal(await connection.fetchval(queries["read_master_in_force"]))
        displaced: list[Record] = []
        if row.is_default:
            displaced = await connection.fetch(
                queries["clear_default_credential"], row.application_id, row.provider, row.slug
            )
        values = (*msgspec.structs.astuple(row)[:-4], *_more(row))
        record = await connection.fetchrow(
            queries["create_credential"], *values, sealed.text, sealed.key, sealed.by
        )
        if record is None:
            raise Conflict(f"there is a credential {row.slug!r} already", field="slug")
    return Changed(_row(record), tuple(it["slug"] for it in displaced))


async def change(
    store: Store, application_id: str, slug: str, decide: Callable[[CredentialRow], Change]
) -> Changed | None:
    """Change a credential to what is decided of it as it is; None: there is no such."""
    if (application := as_uuid(application_id)) is None:
        return None
    async with store.transaction() as connection:
        record = await connection.fetchrow(queries["lock_credential"], application, slug)
        if record is None:
            return None
        before = _row(record)
        row, seal = decide(before)
        displaced: list[Record] = []
        if row.is_default and not before.is_default:
            displaced = await connection.fetch(
                queries["clear_default_credential"], application, row.provider, slug
            )
        values = (application, slug, row.name, row.origin, row.is_default, row.blocked)
        query, more = "update_credential_and_secret", NO_SECRET
        if seal is not None:
            sealed = seal(await connection.fetchval(queries["read_master_in_force"]))
            more = (row.last4, row.secret_ms, *msgspec.structs.astuple(sealed))
        elif row.last4 is not None:
            query, more = "update_credential", ()
        await connection.execute(queries[query], *values, row.updated_ms, *_more(row), *more)
    return Changed(row, tuple(it["slug"] for it in displaced))


async def get(store: Store, application_id: str, slug: str) -> CredentialRow | None:
    """One credential of an application."""
    record = await store.row("read_credential", as_uuid(application_id), slug)
    return None if record is None else _row(record)


async def sealed(store: Store, application_id: str, slug: str) -> SealedRow | None:
    """One credential of an application, with its sealed secret."""
    record = await store.row("read_sealed_credential", as_uuid(application_id), slug)
    if record is None:
        return None
    values = dict(record)
    text, key, by = (values.pop(name) for name in ("sealed", "row_key", "wrapped_by"))
    values["credential_id"] = str(values["credential_id"])
    values["model_config"] = _config.decode(values["model_config"])
    return SealedRow(**values, sealed=None if text is None else Sealed(text, key, by))


async def defaults(store: Store, application_id: str) -> dict[str, str]:
    """The slugs of an application's default credentials, by provider."""
    records = await store.rows("read_default_credentials", as_uuid(application_id))
    return {record["provider"]: record["slug"] for record in records}


async def page(
    store: Store,
    application_id: str | None,
    *,
    page_size: int | None = None,
    cursor: str | None = None,
    ascending: bool = False,
) -> Page[CredentialRow]:
    """Credentials of one application or (None) of all by age, newest first unless `ascending`."""
    if application_id is not None and as_uuid(application_id) is None:
        return Page(())
    page_size = pages.size(page_size)
    after = pages.read_cursor(cursor, int, str)
    query = "page_credentials_oldest" if ascending else "page_credentials_newest"
    records = await store.rows(query, application_id, *after, page_size + 1)
    items = [_row(record) for record in records]
    return pages.cut(items, page_size, lambda last: (last.created_ms, last.credential_id))


async def numbered(
    store: Store, application_id: str, skip: int, most: int
) -> tuple[list[CredentialRow], int]:
    """Credentials of an application, newest first, after so many; and how many it has."""
    application = as_uuid(application_id)
    counted: int = await store.value("count_credentials", application)
    records = await store.rows("number_credentials", application, skip, most)
    return [_row(record) for record in records], counted


async def delete(store: Store, application_id: str, slug: str) -> bool:
    """Remove a credential; whether there was one."""
    found = await store.value("delete_credential", as_uuid(application_id), slug)
    return found is not None


def _row(record: Record) -> CredentialRow:
    values = dict(record)
    values["credential_id"] = str(values["credential_id"])
    values["application_id"] = str(values["application_id"])
    values["model_config"] = _config.decode(values["model_config"])
    values["terms"] = _terms.decode(values["terms"])
    return CredentialRow(**values)


def _more(row: CredentialRow) -> tuple[object, ...]:
    """The last members of a row, as they are stored."""
    config, terms = (_encoder.encode(it).decode() for it in (row.model_config, row.terms))
    return (row.expires_ms, row.note, config, terms)
