"""Usage: rows land once, whatever is delivered twice; then they are read by page or summed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, get_args

import msgspec

from metering.core.limits import Charge
from metering.core.record import Status, UsageRow
from metering.errors import InvalidRequest
from metering.store import Store, ValueRefused, pages, rollups, rows
from metering.store.rollups import Sums, read_sums
from metering.store.rows import Landed

GroupBy = Literal[
    "month",
    "day",
    "hour",
    "application",
    "key",
    "limit",
    "user",
    "use_case",
    "tag",
    "model",
    "provider",
    "status",
]
GROUPS: tuple[GroupBy, ...] = get_args(GroupBy)
"""In the order groups are sorted by."""
LABELS = ("key", "limit", "user", "use_case", "tag", "model", "provider", "status")
"""What the filters after the time range are about, in their order."""
END_MS = (2**48 - 1) // rollups.HOUR_MS * rollups.HOUR_MS
"""The last full hour that a UUIDv7 can be of: the year 10889."""
MONTHS_AHEAD = 3
FIRST_MS = 1_577_836_800_000
"""2020: of calls before that, which nobody can have made, rows stay in the default partition."""
MOVED_MAX = 100_000
"""So many rows are moved to a partition of their own, about two seconds, in which who reads the
default partition waits; more stay there."""
UNLANDABLE = (ValueRefused, msgspec.MsgspecError, ValueError, TypeError, OverflowError)
"""What a row raises that will never land: from Postgres, or while its columns are made."""


class Filters(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows: of calls admitted in [from_ms, to_ms); None asks for anything."""

    application_id: str | None = None
    from_ms: int = 0
    to_ms: int = END_MS
    key_id: str | None = None
    limit_id: str | None = None
    user_id: str | None = None
    use_case_name: str | None = None
    tag: str | None = None
    model: str | None = None
    provider: str | None = None
    status: Status | None = None


class Entry(msgspec.Struct, frozen=True):
    """One row of the ledger, and what it charged each limit."""

    row: UsageRow
    charges: tuple[Charge, ...]


class Group(msgspec.Struct, frozen=True):
    """The sums of the rows that share these values; None: rows that have no such value.

    A row with several tags (or limits) is counted in the group of each of them.
    """

    values: dict[str, str | None]
    sums: Sums


class UsagePage(msgspec.Struct, frozen=True, kw_only=True):
    """Entries, or groups where the query grouped; whatever landed before `as_of_ms` is in them."""

    entries: tuple[Entry, ...] = ()
    groups: tuple[Group, ...] = ()
    cursor: str | None = None
    as_of_ms: int


async def insert(store: Store, landed: Sequence[Landed]) -> int:
    """Land rows with their charges; returns how many were new.

    Rows that are there already are left as they are. A row that Postgres will never take goes to
    the dead letters with its reason, found by halving the batch, and the rest lands. StoreAway
    means nothing is known: send the same rows again.
    """
    if not landed:
        return 0
    try:
        count: int = await store.value("land_usage", *rows.columns(landed))
        return count
    except UNLANDABLE as error:
        if len(landed) == 1:
            await _bury(store, landed[0], error)
            return 0
    middle = len(landed) // 2
    return await insert(store, landed[:middle]) + await insert(store, landed[middle:])


async def _bury(store: Store, landed: Landed, error: Exception) -> None:
    row, cause = landed[0], error.__cause__ or error
    reason = f"{type(cause).__name__}: {cause}"
    try:
        payload = msgspec.msgpack.encode(landed)
    except (ValueError, OverflowError):  # msgpack does not take it either: as Python would write it
        payload = repr(landed).encode("utf-8", "backslashreplace")
    texts = (row.application_id, row.request_id, reason)
    await store.rows("create_dead_letter", *(_printable(text) for text in texts), payload)


async def bury(store: Store, payload: bytes, reason: str) -> None:
    """Keep what could not even be read as a row, with the reason."""
    await store.rows("create_dead_letter", "", "", _printable(reason), payload)


def _printable(text: object) -> str:
    """A text that any text column takes."""
    return str(text).encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A row that could not land: why, and its bytes (msgpack `[row, charges]`)."""

    application_id: str
    request_id: str
    reason: str
    payload: bytes
    created_ms: int


async def dead_letters(store: Store, page_size: int | None = None) -> list[DeadLetter]:
    """The latest rows that could not land."""
    records = await store.rows("read_dead_letters", pages.size(page_size))
    return [DeadLetter(**dict(record)) for record in records]


async def ensure_partitions(store: Store, now_ms: int) -> int:
    """Make this month's partition and those of the next three; returns how many were new."""
    count: int = await store.value("create_usage_partitions", now_ms, MONTHS_AHEAD)
    return count


async def ensure_month(store: Store, at_ms: int) -> int:
    """Make the partition of a past month, for which rows are to land; returns how many were new.

    None is made of a month that is too long ago, or to come.
    """
    count: int | None = await store.value("create_usage_month", at_ms, FIRST_MS, MOVED_MAX)
    return count or 0


async def ensure_months_of_default(store: Store) -> int:
    """The same for all months that rows in the default partition are of."""
    found = await store.rows("read_default_months")
    return sum([await ensure_month(store, record["at_ms"]) for record in found])


async def query(
    store: Store,
    filters: Filters,
    *,
    group_by: Iterable[GroupBy] = (),
    page_size: int | None = None,
    cursor: str | None = None,
    ascending: bool = False,
) -> UsagePage:
    """A page of entries by request id (newest first unless `ascending`), or of groups by value.

    With an application in the filters, row-level security confines the query to it.
    """
    wanted, page_size = set(group_by), pages.size(page_size)
    if unknown := wanted.difference(GROUPS):
        names = ", ".join(sorted(unknown))
        raise InvalidRequest(f"group_by takes {', '.join(GROUPS)}; not {names}", field="group_by")
    if wanted:
        return await _groups(store, filters, wanted, page_size, cursor)
    name = "page_usage_oldest" if ascending else "page_usage_newest"
    return await _entries(store, name, filters, page_size, cursor)


async def sums(store: Store, filters: Filters) -> Sums:
    """The exact sums of all rows that match."""
    page = await _groups(store, filters, set(), 1, None)
    return page.groups[0].sums if page.groups else Sums()


async def _entries(
    store: Store, name: str, filters: Filters, page_size: int, cursor: str | None
) -> UsagePage:
    after = pages.read_cursor(cursor, str, int, str)
    async with store.reader(filters.application_id) as reader:
        records = await reader.rows(name, *arguments(filters), *after, page_size + 1)
    page = pages.cut([Entry(*rows.read(record)) for record in records], page_size, _position)
    return UsagePage(entries=page.items, cursor=page.cursor, as_of_ms=reader.as_of_ms)


def _position(entry: Entry) -> tuple[str, int, str]:
    return entry.row.request_id, entry.row.attempt, entry.row.entry


async def _groups(
    store: Store, filters: Filters, wanted: set[GroupBy], page_size: int, cursor: str | None
) -> UsagePage:
    (after,) = pages.read_cursor(cursor, list[str])
    name, arguments = _grouping(filters, sorted(wanted))
    async with store.reader(filters.application_id) as reader:
        records = await reader.rows(name, *arguments, sorted(wanted), after, page_size + 1)
    page = pages.cut(records, page_size, lambda record: (record["parts"],))
    groups = (Group(_named(record["parts"], wanted), read_sums(record)) for record in page.items)
    return UsagePage(groups=tuple(groups), cursor=page.cursor, as_of_ms=reader.as_of_ms)


def _grouping(filters: Filters, group_by: Sequence[str]) -> tuple[str, tuple[object, ...]]:
    """The query that sums, and its arguments: rollups where they suffice, else rows."""
    labels = dict(zip(LABELS, _labels(filters), strict=True))
    from_ms, to_ms = max(filters.from_ms, 0), min(filters.to_ms, END_MS)
    place = rollups.covering(from_ms, to_ms, group_by, labels)
    if place is None or filters.application_id is None:
        return "group_usage", arguments(filters)
    dimension, value = place
    return "group_rollups", (filters.application_id, dimension, from_ms, to_ms, value)


def _named(parts: Sequence[str], wanted: set[GroupBy]) -> dict[str, str | None]:
    named = zip(GROUPS, parts, strict=True)
    return {name: part or None for name, part in named if name in wanted}


def arguments(filters: Filters) -> tuple[object, ...]:
    """What queries of rows that match begin with."""
    return (filters.application_id, filters.from_ms, filters.to_ms, *_labels(filters))


def _labels(filters: Filters) -> tuple[str | None, ...]:
    return (
        filters.key_id,
        filters.limit_id,
        filters.user_id,
        filters.use_case_name,
        filters.tag,
        filters.model,
        filters.provider,
        filters.status,
    )
