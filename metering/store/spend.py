"""What was spent, as LiteLLM's reports ask: by several dimensions at once, and call by call,
corrections added to what they correct."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Literal

import msgspec

from metering.errors import InvalidRequest
from metering.store import Store, as_uuid, pages, rows, usage
from metering.store.requests import summed
from metering.store.usage import GROUPS, Entry, Filters, Group, GroupBy, arguments

By = Literal["day", "key", "user", "customer", "tag", "model", "provider", "endpoint", "cache"]
"""What sums may be told apart by; `cache`: they have tokens of caches too."""
ROLLED = frozenset({"day", "key", "user", "tag", "model", "provider"})
"""What rollups know, one at a time, by day or not."""
MEMBERS = {"key": "key_id", "user": "user_id"}
SUMS_MAX = 50_000


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """What was spent by those who share these values; None: they are not told apart, or have none.

    A call with several tags is counted under each of them.
    """

    day: str | None = None
    key_id: str | None = None
    user_id: str | None = None
    customer: str | None = None
    tag: str | None = None
    model: str | None = None
    provider: str | None = None
    endpoint: str | None = None
    ok: int = 0
    failed: int = 0
    """The provider's failures, and refusals."""
    input_tokens: int = 0
    """Those of caches included."""
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cost_pico: int = 0


class Whose(msgspec.Struct, frozen=True, kw_only=True):
    """Of which calls, beside the filters of usage; None: any."""

    customer: str | None = None
    key_ids: Sequence[str] | None = None
    request_ids: Sequence[str] | None = None


ANYBODY = Whose()
_NUMBERS = (
    *("ok", "failed", "input_tokens", "output_tokens", "cache_read_tokens"),
    *("cache_write_tokens", "cost_pico"),
)


async def sums(
    store: Store, filters: Filters, by: Iterable[By], whose: Whose = ANYBODY
) -> list[Spent]:
    """Exact sums by some dimensions, in order. Raises InvalidRequest if there are too many."""
    names = list(by)
    if whose == ANYBODY and not names:
        return [_spent(Group({}, await usage.sums(store, filters)))]
    if whose == ANYBODY and ROLLED.issuperset(names) and len({*names} - {"day"}) <= 1:
        return await _rolled(store, filters, [it for it in GROUPS if it in names])
    which = (*arguments(filters), names, whose.customer, whose.key_ids)
    async with store.reader(filters.application_id) as reader:
        records = await reader.rows("sum_spend_by", *which, SUMS_MAX + 1)
    if len(records) > SUMS_MAX:
        raise _too_many()
    numbers = [{name: int(record[name]) for name in _NUMBERS} for record in records]
    return [Spent(**(dict(record) | its)) for record, its in zip(records, numbers, strict=True)]


async def _rolled(store: Store, filters: Filters, names: Sequence[GroupBy]) -> list[Spent]:
    """What rollups may answer, and usage knows whether they do."""
    found: list[Spent] = []
    cursor: str | None = None
    while True:
        page = await usage.query(
            store, filters, group_by=names, page_size=pages.PAGE_SIZE_MAX, cursor=cursor
        )
        found += [_spent(it) for it in page.groups]
        cursor = page.cursor
        if cursor is None:
            return found
        if len(found) > SUMS_MAX:
            raise _too_many()


def _spent(group: Group) -> Spent:
    values = {MEMBERS.get(name, name): value for name, value in group.values.items()}
    its = group.sums
    return Spent(
        **values,  # type: ignore[arg-type]
        ok=its.ok + its.unresolved,
        failed=its.failed + its.blocked,
        input_tokens=its.input_tokens,
        output_tokens=its.output_tokens,
        cost_pico=its.cost_pico,
    )


def _too_many() -> InvalidRequest:
    return InvalidRequest(
        f"these are more than {SUMS_MAX} sums: ask for fewer days", field="start_date"
    )


async def calls(
    store: Store, filters: Filters, whose: Whose = ANYBODY, *, skip: int = 0, most: int
) -> list[Entry]:
    """Calls that match, newest first, after so many."""
    async with store.reader(filters.application_id) as reader:
        records = await reader.rows("page_spend_calls", *_which(filters, whose), skip, most)
    landed = [rows.read(record) for record in records]
    together = groupby(landed, key=lambda it: (it[0].request_id, it[0].attempt))
    found = [summed(list(entries)) for _, entries in together]
    return [it for it in found if it is not None]


async def count(store: Store, filters: Filters, whose: Whose = ANYBODY) -> int:
    """How many `calls` has in all."""
    async with store.reader(filters.application_id) as reader:
        [record] = await reader.rows("count_spend_calls", *_which(filters, whose))
    return int(record[0])


def _which(filters: Filters, whose: Whose) -> tuple[object, ...]:
    request_ids = None
    if whose.request_ids is not None:
        request_ids = [it for it in map(as_uuid, whose.request_ids) if it is not None]
    return (*arguments(filters), whose.customer, whose.key_ids, request_ids)
