"""Limits: definitions, what resets ended, and what landed rows charged them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

import msgspec

from metering.core.limits import STATES, Limit, Mode, OnStoreDown, Totals, Unit
from metering.core.windows import Window
from metering.errors import Conflict
from metering.store import Record, Store, as_uuid, pages
from metering.store.pages import Page

LAST_EPOCH = 2**53
EPOCHS_MAX = 1_000


class LimitHistory(msgspec.Struct, frozen=True, kw_only=True):
    """What a reset ended: the limit as it was, and its counters in `epoch`."""

    limit_id: str
    limit_name: str
    mode: Mode
    unit: Unit
    max: int
    totals: Totals
    epoch: int
    reset_ms: int


def _limit(record: Record) -> Limit:
    values = dict(record)
    values["application_id"] = str(values["application_id"])
    values["max"] = int(values["max"])
    values["properties"] = msgspec.json.decode(values["properties"])
    if values["window"] is not None:
        values["window"] = msgspec.json.decode(values["window"], type=Window)
    return Limit(**values)


async def create(store: Store, limit: Limit) -> tuple[Limit, bool]:
    """Add a limit: (as stored, True), or (the one that has its id or else its name, False)."""
    record = await store.row(
        "create_limit",
        limit.application_id,
        limit.limit_id,
        limit.limit_name,
        limit.mode,
        limit.unit,
        Decimal(limit.max),
        limit.threshold_ppm,
        limit.epoch,
        _json(limit.properties),
        limit.created_ms,
        limit.updated_ms,
        None if limit.window is None else _json(limit.window),
        limit.on_store_down,
    )
    if record is not None:
        return _limit(record), True
    taken = (limit.application_id, limit.limit_id, limit.limit_name)
    record = await store.row("read_limit_taken", *taken)
    if record is None:  # deleted between the two statements
        raise Conflict("this limit was deleted just now; try again")
    return _limit(record), False


async def get(store: Store, application_id: str, limit_id: str) -> Limit | None:
    """One limit by its id."""
    return (await get_many(store, application_id, [limit_id])).get(limit_id)


async def get_many(store: Store, application_id: str, limit_ids: Sequence[str]) -> dict[str, Limit]:
    """The limits that exist among these ids, by id."""
    records = await store.rows("read_limits", as_uuid(application_id), limit_ids)
    return {record["limit_id"]: _limit(record) for record in records}


async def page(
    store: Store,
    application_id: str,
    *,
    limit_name: str | None = None,
    page_size: int | None = None,
    cursor: str | None = None,
    ascending: bool = False,
) -> Page[Limit]:
    """An application's limits by age, newest first unless `ascending`."""
    page_size = pages.size(page_size)
    after = pages.read_cursor(cursor, int, str)
    query = "page_limits_oldest" if ascending else "page_limits_newest"
    async with store.reader(application_id) as reader:
        records = await reader.rows(query, application_id, limit_name, *after, page_size + 1)
    items = [_limit(record) for record in records]
    return pages.cut(items, page_size, lambda last: (last.created_ms, last.limit_id))


class Tagged(NamedTuple):
    """Limits that have one of some tags, by the property that tags are in."""

    property: str
    tags: Sequence[str]


async def numbered(
    store: Store,
    application_id: str,
    number: int,
    page_size: int,
    *,
    limit_name: str | None = None,
    tagged: Tagged | None = None,
    ascending: bool = False,
) -> tuple[list[Limit], int]:
    """A page by its number, from 1 on, and how many limits there are on all pages."""
    property_, tags = tagged or (None, None)
    which = (application_id, limit_name, tags, property_)
    async with store.reader(application_id) as reader:
        [counted] = await reader.rows("count_limits", *which)
        skipped = (number - 1) * page_size
        records = await reader.rows("number_limits", *which, ascending, skipped, page_size)
    return [_limit(record) for record in records], counted[0]


async def update(
    store: Store,
    application_id: str,
    limit_id: str,
    *,
    max: int | None = None,  # noqa: A002 - the limit's own word
    limit_name: str | None = None,
    on_store_down: OnStoreDown | None = None,
    mode: Mode | None = None,
    threshold_ppm: int | None = None,
    updated_ms: int,
) -> Limit | None:
    """Change a limit, None leaves as it is, a threshold of 0 takes it away; Conflict when the name
    is another limit's."""
    amount = None if max is None else Decimal(max)
    changed = (amount, limit_name, updated_ms, on_store_down, mode, threshold_ppm)
    record = await store.row("update_limit", as_uuid(application_id), limit_id, *changed)
    return None if record is None else _limit(record)


async def set_properties(
    store: Store,
    application_id: str,
    limit_id: str,
    properties: Mapping[str, str | None],
    updated_ms: int,
) -> Limit | None:
    """Merge properties; a None removes its name."""
    arguments = (as_uuid(application_id), limit_id, _json(properties), updated_ms)
    record = await store.row("update_limit_properties", *arguments)
    return None if record is None else _limit(record)


async def set_epoch(
    store: Store,
    application_id: str,
    limit_id: str,
    epoch: int,
    *,
    totals: Totals,
    reset_ms: int,
) -> Limit | None:
    """Begin a later epoch and keep the counters of the one that ends.

    None if there is no such limit, or if this epoch or a later one has begun: once is enough.
    """
    arguments = (as_uuid(application_id), limit_id, epoch, _json(totals), reset_ms)
    record = await store.row("reset_limit", *arguments)
    return None if record is None else _limit(record)


async def history(
    store: Store, application_id: str, limit_id: str, page_size: int = pages.PAGE_SIZE
) -> list[LimitHistory]:
    """What the resets of a limit ended, latest first."""
    arguments = (as_uuid(application_id), limit_id, page_size)
    return [_history(record) for record in await store.rows("read_limit_history", *arguments)]


async def delete(store: Store, application_id: str, limit_id: str) -> bool:
    """Remove a limit, and from all that it is attached to; what rows were charged for it stays.

    False if there is none.
    """
    return await store.value("delete_limit", as_uuid(application_id), limit_id) is not None


async def totals(
    store: Store,
    application_id: str,
    limit_id: str,
    since: int,
    before: int = LAST_EPOCH,
    *,
    most: int = EPOCHS_MAX,
) -> list[Totals]:
    """What landed rows charged a limit in its epochs in [since, before), latest first; no holds in
    it. Epochs in which nothing charged it are left out."""
    arguments = (as_uuid(application_id), limit_id, since, before, most)
    return [read_totals(record) for record in await store.rows("read_limit_totals", *arguments)]


def read_totals(record: Record) -> Totals:
    """The totals of a record that has a column for each."""
    return Totals(
        epoch=record["epoch"],
        settled=int(record["charged"]),
        settled_input=int(record["input"]),
        settled_output=int(record["output"]),
        counts={state: record[state] for state in STATES},
    )


def _history(record: Record) -> LimitHistory:
    values = dict(record)
    values["max"] = int(values["max"])
    values["totals"] = msgspec.json.decode(values["totals"], type=Totals)
    return LimitHistory(**values)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
