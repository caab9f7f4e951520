"""Months that calls are reported of long after, and the partition of those that have none."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import asyncpg
import pytest

from metering.errors import StoreAway
from metering.store import Store, rollups, usage
from tests.store.samples import HOUR_MS, landed, request_id

APPLICATION = request_id()


@pytest.fixture
async def store(database: str) -> AsyncIterator[Store]:
    """A store whose usage has the default partition and no other."""
    store = await Store.open(database)
    yield store
    await store.close()


def months_ago_ms(count: int) -> int:
    """A time in the month so many months before this one."""
    today = datetime.now(UTC)
    month = today.year * 12 + today.month - 1 - count
    return int(datetime(month // 12, month % 12 + 1, 1, tzinfo=UTC).timestamp()) * 1000


def month(count: int) -> str:
    """The partition of the month so many months before this one."""
    return datetime.fromtimestamp(months_ago_ms(count) / 1000, UTC).strftime("usage_%Y_%m")


async def places(store: Store) -> list[str]:
    """Where rows are, oldest first."""
    async with store.connection() as connection:
        found = await connection.fetch(
            "SELECT tableoid::regclass::text AS place FROM usage ORDER BY request_id"
        )
    return [it["place"] for it in found]


async def test_past_months_get_partitions_of_their_own(store: Store) -> None:
    """Since 2020, once; not what is longer ago, nor to come."""
    past = [usage.FIRST_MS - 2 * HOUR_MS, months_ago_ms(20), months_ago_ms(5)]
    made = [await usage.ensure_month(store, at_ms + HOUR_MS) for at_ms in (*past, *past)]
    assert made == [0, 1, 1, 0, 0, 0]
    assert await usage.ensure_month(store, months_ago_ms(-9)) == 0
    rows = [landed(APPLICATION, "a", request_id=request_id(it + HOUR_MS)) for it in past]
    await usage.insert(store, rows)
    assert await places(store) == ["usage_default", month(20), month(5)]


async def test_rows_in_the_default_are_sorted_in(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each to its month, unless they are too many to be moved at once; none is lost or counted
    twice, and a month that is too far stays where it is."""
    months = [0, *map(months_ago_ms, (7, 6, 6, 6, 5))]
    times = [at_ms + n * HOUR_MS for at_ms in months for n in (0, 1)]
    rows = [landed(APPLICATION, "a", request_id=request_id(it)) for it in times]
    await usage.insert(store, rows)
    assert set(await places(store)) == {"usage_default"}
    monkeypatch.setattr(usage, "MOVED_MAX", 5)
    assert await usage.ensure_months_of_default(store) == 2
    assert Counter(await places(store)) == {
        "usage_default": 2 + 6,
        **{month(count): 2 for count in (7, 5)},
    }
    monkeypatch.setattr(usage, "MOVED_MAX", 6)
    assert await usage.ensure_months_of_default(store) == 1
    assert Counter(await places(store))["usage_default"] == 2
    assert await usage.ensure_months_of_default(store) == 0
    assert await usage.insert(store, rows) == 0
    assert await rollups.differences(store) == (0, 0)
    assert (await usage.sums(store, usage.Filters(application_id=APPLICATION))).ok == 12


async def test_nobody_waits_long_for_a_partition(store: Store) -> None:
    """While a backup holds the default one, a month cannot be made; whoever tries lets go, so that
    rows land and are read meanwhile, and it is made afterwards."""
    at_ms = months_ago_ms(4)
    row = landed(APPLICATION, request_id=request_id(at_ms))
    async with store.transaction() as backup:
        await backup.execute("LOCK TABLE usage_default IN ACCESS SHARE MODE")
        with pytest.raises(StoreAway) as caught:
            await usage.ensure_month(store, at_ms)
        assert isinstance(caught.value.__cause__, asyncpg.LockNotAvailableError)
        assert await usage.insert(store, [row]) == 1
        assert (await usage.query(store, usage.Filters())).entries
    assert await places(store) == ["usage_default"]
    assert await usage.ensure_months_of_default(store) == 1
    assert await places(store) == [month(4)]


@pytest.mark.parametrize("own", [True, False], ids=["partition", "default"])
async def test_reports_of_past_months_read_their_own_rows(store: Store, *, own: bool) -> None:
    """An hour of a month long ago is found by the index, in a partition of its own and in the
    default one, where rows of other months are."""
    at_ms = months_ago_ms(8)
    times = [at_ms + n * HOUR_MS for n in range(400)]
    if own:
        await usage.ensure_month(store, at_ms)
    others = [landed(APPLICATION, request_id=request_id(n * HOUR_MS)) for n in range(400)]
    await usage.insert(store, [landed(APPLICATION, request_id=request_id(it)) for it in times])
    await usage.insert(store, others)
    async with store.connection() as connection:
        await connection.execute("ANALYZE usage")
        plan = await connection.fetch(
            "EXPLAIN ANALYZE SELECT * FROM usage_matching($1, uuid7_floor($2), uuid7_floor($3),"
            " NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
            APPLICATION,
            at_ms + 100 * HOUR_MS,
            at_ms + 101 * HOUR_MS,
        )
    text = "\n".join(line[0] for line in plan)
    assert (month(8) if own else "usage_default") in text
    assert text.count("Scan") == text.count("Index Scan") == 1, text
    assert "rows=1.00" in text or "rows=1 " in text
    assert "Rows Removed" not in text, text
