"""Price lists that were loaded, and prices that somebody negotiated; both only ever appended."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Literal, NamedTuple

import msgspec

from metering.core.prices import OwnRate
from metering.errors import Conflict
from metering.store import Record, Store, as_uuid, pages
from metering.store.pages import Page

Kind = Literal["application", "credential", "limit"]


class PriceState(NamedTuple):
    """Which price list, which own prices and resources are in force: what changes when they do."""

    version: int
    """0: none was loaded."""
    own_count: int
    own_revision: int
    resource_count: int
    resource_revision: int


class PriceVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A price list that was loaded, its files aside."""

    version: int
    digest: str
    packaged: str
    """The digest of the package's own files at that time."""
    note: str
    loaded_ms: int
    loaded_by: str


class OwnPrices(msgspec.Struct, frozen=True, kw_only=True):
    """Negotiated prices: whose, and which."""

    revision: int
    application_id: str
    kind: Kind
    name: str
    rates: tuple[OwnRate, ...]
    set_ms: int
    set_by: str
    limit_created_ms: int | None = None
    """When the limit was created that they are of, if they are a limit's."""


_decode_files = msgspec.json.Decoder(dict[str, str]).decode
_decode_rates = msgspec.json.Decoder(tuple[OwnRate, ...]).decode


async def state(store: Store) -> PriceState:
    """What is in force now."""
    [record] = await store.rows("read_price_state")
    return PriceState(**record)


async def add(store: Store, version: PriceVersion, files: Mapping[str, bytes]) -> PriceVersion:
    """Put a price list in force; Conflict when another one has its number."""
    record = await store.row(
        "add_price_version",
        version.version,
        version.digest,
        version.packaged,
        _json({name: content.decode() for name, content in files.items()}),
        version.note,
        version.loaded_ms,
        version.loaded_by,
    )
    if record is None:
        raise Conflict(
            f"Another price list was loaded at the same time, as version {version.version}: "
            "look at it (xproxy prices versions), then load yours again"
        )
    return PriceVersion(**record)


async def read(store: Store, version: int) -> tuple[PriceVersion, dict[str, bytes]] | None:
    """A price list and the bytes of its files by name; None: there is no such version."""
    record = await store.row("read_price_version", version)
    if record is None:
        return None
    values = dict(record)
    files = await asyncio.to_thread(_files, values.pop("files"))
    return PriceVersion(**values), files


async def page(
    store: Store, *, page_size: int | None = None, cursor: str | None = None
) -> Page[PriceVersion]:
    """Price lists, newest first."""
    page_size = pages.size(page_size)
    [after] = pages.read_cursor(cursor, int)
    records = await store.rows("page_price_versions", after, page_size + 1)
    items = [PriceVersion(**record) for record in records]
    return pages.cut(items, page_size, lambda last: (last.version,))


async def set_own(
    store: Store,
    application_id: str,
    rates: tuple[OwnRate, ...],
    *,
    kind: Kind = "application",
    name: str = "",
    set_ms: int,
    set_by: str,
) -> OwnPrices:
    """Prices of an application's own, or of a credential or limit of it, in place of those there
    were; none ends them. A limit that there is not has none: ValueRefused."""
    arguments = (application_id, kind, name, _json(rates), set_ms, set_by)
    [record] = await store.rows("set_own_prices", *arguments)
    return _own(record)


async def own(store: Store, application_id: str | None = None) -> list[OwnPrices]:
    """What is negotiated now, of an application or (None) of all."""
    application = as_uuid(application_id)
    if application is None and application_id is not None:  # what is no id is nobody's, not all's
        return []
    return [_own(it) for it in await store.rows("read_own_prices", application)]


def _files(text: str) -> dict[str, bytes]:
    return {name: content.encode() for name, content in _decode_files(text).items()}


def _own(record: Record) -> OwnPrices:
    values = dict(record)
    values["application_id"] = str(values["application_id"])
    values["rates"] = _decode_rates(values["rates"])
    return OwnPrices(**values)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
