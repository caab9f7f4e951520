"""Calls of a time range, page after page, each with all of its entries."""

from __future__ import annotations

from itertools import groupby
from typing import NamedTuple

from metering.core.record import UsageRow
from metering.store import Store, as_uuid, pages, rows
from metering.store.requests import summed
from metering.store.usage import Entry, Filters, arguments


class Call(NamedTuple):
    """A call with its corrections added to it, and the names of all of its entries."""

    sum: Entry
    entries: frozenset[str]


class CallPage(NamedTuple):
    """Some calls, and the cursor of the next page; whatever landed before `as_of_ms` is in them."""

    calls: list[Call]
    cursor: str | None
    as_of_ms: int


async def page(store: Store, filters: Filters, page_size: int, cursor: str | None) -> CallPage:
    """A page of calls that match, oldest first."""
    request_id, attempt, application_id = pages.read_cursor(cursor, str, int, str)
    after = (as_uuid(str(request_id)), attempt, application_id)
    async with store.reader(filters.application_id) as reader:
        records = await reader.rows("page_usage_calls", *arguments(filters), *after, page_size + 1)
    landed = [rows.read(record) for record in records]
    found = [list(group) for _, group in groupby(landed, key=lambda it: _place(it[0]))]
    cut = pages.cut(found, page_size, lambda entries: _place(entries[0][0]))
    sums = ((summed(it), frozenset(row.entry for row, _ in it)) for it in cut.items)
    calls = [Call(total, names) for total, names in sums if total is not None]
    return CallPage(calls, cut.cursor, reader.as_of_ms)


def _place(row: UsageRow) -> tuple[str, int, str]:
    return row.request_id, row.attempt, row.application_id
