"""The audit: every kind of difference is found, explained and repaired; healthy books have none."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from metering.core.difference import Difference, Pair
from metering.core.limits import Bounds
from metering.core.money import PICO_PER_USD as USD
from metering.core.record import UsageRow
from metering.core.windows import Window
from metering.duties import Lease
from metering.duties.audit import Auditor
from metering.duties.writer import Writer
from metering.ledger import Hold, Ledger
from metering.redis import Redis, share
from metering.redis.outbox import Outbox
from metering.spool import Entry, Spool
from metering.store import Store, applications, requests, usage
from metering.store import limits as stored_limits
from tests.builders import APPLICATION, NOW_MS, limit, row

PLACE = share(APPLICATION)
IN_FLIGHT = 200
LIMITS = {
    "team": limit(usd=10),
    "cap": limit("cap", usd=10, mode="hard"),
    "tokens": limit("tokens", unit="tokens", max=10**9, mode="block"),
    "calls": limit("calls", unit="requests", max=10**9, mode="block"),
    "now": limit("now", unit="concurrent", max=10**9, mode="block"),
}


class World:
    """A ledger with limits of every unit, and what audits it."""

    def __init__(self, redis: Redis, store: Store, folder: Path) -> None:
        self.redis, self.store = redis, store
        self.spool = Spool(folder, "test")
        self.ledger = Ledger(redis, store, self.spool, hold_ttl_ms=30_000)
        self.writer = Writer(Outbox(redis), store, Lease(redis, "writer", "test"))
        self.auditor = Auditor(redis, store, self.spool)
        self.auditor.pause_s = 0.0

    async def hold(self, pico: int = USD, **values: Any) -> Hold:
        """A call in flight that every limit holds something of."""
        bounds = Bounds(
            likely_pico=pico // 100,
            ceiling_pico=pico // 50,
            likely_tokens=10,
            ceiling_tokens=20,
            limits={"cap": (pico // 100 + 3, pico // 50 + 3)},
        )
        held = await self.ledger.reserve(
            row(**values), [*LIMITS.values()], bounds, expected_ms=1_000
        )
        assert isinstance(held, Hold)
        return held

    async def call(self, pico: int = USD // 100, *, land: bool = True) -> UsageRow:
        """A call that was made and settled; its row has landed."""
        hold = await self.hold()
        done = truth(hold.row, pico)
        await self.ledger.settle(hold, done, 15)
        if land:
            await self.writer.land()
        return done

    async def bend(self, limit_id: str, at: int, by: int) -> None:
        """Change one of the 17 numbers of a limit's counters."""
        name = PLACE.limit(limit_id)
        packed = await self.redis.call("HGET", name, "cnt")
        numbers = list(struct.unpack("<17d", packed))
        numbers[at] += by
        await self.redis.call("HSET", name, "cnt", struct.pack("<17d", *numbers))

    async def bend_while_running(self, by: int) -> None:
        """Add to a counter while calls move it, as one command to Redis."""
        script = (
            "local c = {struct.unpack('<ddddddddddddddddd', redis.call('HGET', KEYS[1], 'cnt'))}"
            "c[1] = c[1] + ARGV[1] "
            "local packed = struct.pack('<ddddddddddddddddd', unpack(c, 1, 17)) "
            "redis.call('HSET', KEYS[1], 'cnt', packed)"
        )
        await self.redis.call("EVAL", script, 1, PLACE.limit("team"), by // USD)

    async def found(self) -> list[Difference]:
        """What there is to find now."""
        return (await self.auditor.check()).differences

    async def repaired(self) -> list[Difference]:
        """What a repair made good; nothing is left, and another look agrees."""
        report = await self.auditor.repair()
        assert report.differences == []
        assert await self.found() == []
        return report.repaired


def truth(before: UsageRow, pico: int) -> UsageRow:
    """The row of a call that cost so much, and another amount by a limit's own rates."""
    half = pico // 2
    return msgspec.structs.replace(
        before,
        status="ok",
        cost_pico=pico,
        input_pico=half,
        output_pico=pico - half,
        model="gpt-4o",
        limit_costs={"cap": (pico, 7)},
    )


@pytest.fixture
async def world(database: str, redis_url: str, tmp_path: Path) -> AsyncIterator[World]:
    """Healthy books: calls that landed, wait, were refused, released, and are in flight."""
    store, redis = await Store.open(database), Redis(redis_url, timeout_ms=5_000)
    world = World(redis, store, tmp_path)
    await applications.create(store, APPLICATION, "test", NOW_MS)
    await usage.ensure_partitions(store, NOW_MS)
    for one in (*LIMITS.values(), limit("shut", max=0, mode="block", unit="requests")):
        await stored_limits.create(store, one)
        await world.ledger.define(one)
    for pico in (1, USD // 100, 12_345):
        await world.call(pico)
    await world.ledger.release(released := await world.hold(), released.row)
    await world.ledger.expire(expired := await world.hold(), expired.row, 3)
    shut = (await stored_limits.get_many(store, APPLICATION, ["shut"]))["shut"]
    await world.ledger.reserve(row(), [LIMITS["team"], shut], Bounds(), expected_ms=1)
    await world.writer.land()
    await world.call(land=False)
    await world.hold()
    yield world
    await world.ledger.close()
    await redis.close()
    await store.close()


async def test_healthy_books(world: World) -> None:
    """Nothing differs, and the report says what was looked at."""
    report = await world.auditor.check()
    assert (report.differences, report.repaired) == ([], [])
    assert (report.applications, report.waiting, report.journal) == (1, 1, 0)
    assert await world.repaired() == []


@pytest.mark.parametrize(
    ("limit_id", "at", "by", "kind", "name", "pair"),
    [
        #                which of the 17, moved by, what is said of it
        ("team", 1, 1, "counter", "settled", 1),
        ("team", 1, -1, "counter", "settled", -1),
        ("team", 0, 3, "counter", "settled", 3 * USD),
        ("team", 3, 2, "counter", "settled_input", 2),
        ("cap", 5, 5, "counter", "settled_output", 5),
        ("tokens", 0, -4, "counter", "settled", -4),
        ("calls", 0, 1, "counter", "settled", 1),
        ("team", 11, 1, "counter", "ok", 1),
        ("team", 15, -1, "counter", "blocked_external", -1),
        ("team", 7, 9, "hold", "held_likely", 9),
        ("cap", 8, 1, "hold", "held_ceiling", USD),
        ("now", 10, 1, "hold", "holds", 1),
    ],
)
async def test_a_counter_that_was_moved(
    world: World, limit_id: str, at: int, by: int, kind: str, name: str, pair: int
) -> None:
    """By a pico or by a call: it is named with both numbers, and is what it was afterwards."""
    [before] = await world.ledger.totals(APPLICATION, [limit_id])
    await world.bend(limit_id, at, by)
    [one] = await world.found()
    assert (one.kind, one.about, [*one.numbers]) == (kind, limit_id, [name])
    assert one.numbers[name].found - one.numbers[name].expected == pair
    assert f"{name} " in one.cause
    assert ("too much" if pair > 0 else "too little") in one.cause
    [mended] = await world.repaired()
    assert mended == one
    assert await world.ledger.totals(APPLICATION, [limit_id]) == [before]


async def test_a_hold_that_was_lost(world: World) -> None:
    """A call's record is gone: its name is taken out, what it held is free; its end counts."""
    lost = await world.hold()
    await world.redis.call("DEL", lost.record)
    found = await world.found()
    assert [(it.kind, it.about) for it in found if it.kind == "orphan"] == [("orphan", lost.record)]
    holds = {it.about: it for it in found if it.kind == "hold"}
    assert holds.keys() == LIMITS.keys()
    assert holds["team"].numbers == {
        "held_likely": Pair(2 * USD // 100, USD // 100),
        "held_ceiling": Pair(2 * USD // 50, USD // 50),
        "holds": Pair(2, 1),
        "names_of_ended": Pair(1, 0),
    }
    await world.repaired()
    assert await world.ledger.settle(lost, truth(lost.row, 77), 9) is None  # the journal has it
    await world.ledger.replay()
    await world.writer.land()
    assert await world.found() == []
    assert await requests.by_request(world.store, APPLICATION, lost.row.request_id)


async def test_a_name_that_was_lost(world: World) -> None:
    """A limit does not know who holds something of it, though it has counted it: it knows again."""
    hold = await world.hold()
    await world.redis.call("ZREM", PLACE.limit("team") + ";h", hold.record)
    [one] = await world.found()
    assert (one.kind, one.about, one.numbers) == ("hold", "team", {"names_missing": Pair(1, 0)})
    await world.repaired()
    await world.ledger.settle(hold, truth(hold.row, 5), 1)
    assert await world.found() == []


async def test_an_orphaned_record(world: World) -> None:
    """A call in flight that nobody would end gets a deadline; the reaper then gives it up."""
    hold = await world.hold()
    world.ledger.abandon(hold)
    await world.redis.call("ZREM", PLACE.holds, hold.record)
    await world.redis.call("ZREM", PLACE.limit("team") + ";h", hold.record)
    await world.redis.call("ZREM", PLACE.limit("cap") + ";h", hold.record)
    found = {(it.kind, it.about) for it in await world.found()}
    assert found == {("record", hold.record), ("hold", "team"), ("hold", "cap")}
    await world.repaired()
    assert await world.ledger.reap() == 1
    await world.writer.land()
    assert await world.found() == []
    call = await requests.by_request(world.store, APPLICATION, hold.row.request_id)
    assert call is not None
    assert call.row.status == "unresolved"


async def test_a_row_that_was_deleted(world: World) -> None:
    """Sums and counters that still know it are made from the rows there are."""
    gone = await world.call(USD // 4)
    [before] = await world.ledger.totals(APPLICATION, ["team"])
    async with world.store.connection() as connection:
        await connection.execute("DELETE FROM usage WHERE request_id = $1", gone.request_id)
    found = await world.found()
    totals = {it.about: it for it in found if it.kind == "limit_total"}
    team = totals[f"team epoch {NOW_MS}"]
    assert team.numbers["settled"].found - team.numbers["settled"].expected == USD // 4
    assert team.numbers["ok"].found - team.numbers["ok"].expected == 1
    assert "rows were taken away or changed" in team.cause
    assert {it.about.split("=")[0] for it in found if it.kind == "rollup"} >= {"all", "model"}
    repaired = await world.repaired()
    assert {it.kind for it in repaired} == {"limit_total", "rollup", "counter"}
    [after] = await world.ledger.totals(APPLICATION, ["team"])
    assert before.settled - after.settled == USD // 4


@pytest.mark.parametrize(
    ("table", "change", "kind", "name"),
    [
        ("rollups", "cost_pico = cost_pico + 1", "rollup", "cost_pico"),
        ("rollups", "ok = ok - 1", "rollup", "ok"),
        ("limit_totals", "charged = charged - 1", "limit_total", "settled"),
    ],
)
async def test_a_sum_that_is_off(
    world: World, table: str, change: str, kind: str, name: str
) -> None:
    """It is summed up anew from its rows; what was derived from it is right again as well."""
    named = "dimension = ''" if table == "rollups" else "limit_id = 'team'"
    async with world.store.connection() as connection:
        await connection.execute(f"UPDATE {table} SET {change} WHERE {named}")
    found = await world.found()
    assert found[0].kind == kind
    assert [*found[0].numbers] == [name]
    await world.repaired()


async def test_sums_that_are_gone(world: World) -> None:
    """As much as sums that were never made."""
    async with world.store.connection() as connection:
        await connection.execute("DELETE FROM rollups")
        await connection.execute("DELETE FROM limit_totals")
    assert {it.kind for it in await world.found()} == {"rollup", "limit_total", "counter"}
    await world.repaired()


async def test_rows_that_nobody_lands(world: World) -> None:
    """The writer is away: rows that wait for too long are reported, and landed."""
    waiting = await world.call(land=False)
    assert await world.found() == []
    world.auditor.late_ms = -1
    [one] = await world.found()
    assert (one.kind, one.about, one.numbers) == ("outbox", PLACE.outbox, {"rows": Pair(2, 0)})
    await world.repaired()
    assert await requests.by_request(world.store, APPLICATION, waiting.request_id)


async def test_an_entry_that_was_lost_on_its_way(world: World) -> None:
    """The outbox lost a row: counters are what the rows there are have charged."""
    await world.writer.land()
    lost = await world.call(USD // 8, land=False)
    await world.redis.call("DEL", PLACE.outbox)
    counters = {it.about: it for it in await world.found()}
    assert counters.keys() == LIMITS.keys() - {"now"}
    assert counters["team"].numbers["settled"].found - counters["team"].numbers[
        "settled"
    ].expected == (USD // 8)
    await world.repaired()
    assert await requests.by_request(world.store, APPLICATION, lost.request_id) is None


async def test_a_row_that_differs_from_the_journal(world: World) -> None:
    """What its worker noted is charged by one signed correction, once."""
    row_ = await world.call(USD // 100)
    noted = truth(row_, USD // 50)
    await world.spool.append(
        Entry(kind="settle", request_id=row_.request_id, row=noted, limits=[], tokens=30)
    )
    [one] = await world.found()
    assert (one.kind, one.about) == ("journal", row_.request_id)
    assert one.numbers == {"cost": Pair(USD // 100, USD // 50)}
    report = await world.auditor.repair()
    assert [it.kind for it in report.repaired if it.kind != "journal"] == []
    await world.writer.land()
    assert await world.found() == []
    call = await requests.by_request(world.store, APPLICATION, row_.request_id)
    assert call is not None
    assert call.row.cost_pico == USD // 50
    page = await usage.query(world.store, usage.Filters(application_id=APPLICATION))
    entries = [it.row.entry for it in page.entries if it.row.request_id == row_.request_id]
    assert sorted(entries) == ["call", "reconcile:journal"]


async def test_a_dead_letter_stays(world: World) -> None:
    """What no table takes only a person can mend: it is told, and its charge stays counted."""
    poison = await world.call(USD // 16, land=False)
    read = await Outbox(world.redis).read(10)
    [entry] = [it for it in read if poison.request_id.encode() in it.row]
    bad = msgspec.structs.replace(poison, account_name="a\0b")
    await world.redis.call("XDEL", PLACE.outbox, entry.id)
    await world.redis.call(
        *("XADD", PLACE.outbox, "*", "kind", "call", "row", msgspec.msgpack.encode(bad)),
        *("lim", entry.charges),
    )
    await world.writer.land()
    [one] = await world.found()
    assert (one.kind, one.about, one.repair) == ("dead_letter", poison.request_id, None)
    report = await world.auditor.repair()
    assert report.differences == [one]
    assert report.repaired == []


async def test_a_reset_is_no_difference(world: World) -> None:
    """Counters of a new life, with calls of the old one still in flight."""
    for one in LIMITS.values():
        stored = await stored_limits.get(world.store, APPLICATION, one.limit_id)
        assert stored is not None
        before = await world.ledger.reset(stored, NOW_MS + 5)
        await stored_limits.set_epoch(
            world.store, APPLICATION, one.limit_id, NOW_MS + 5, totals=before, reset_ms=NOW_MS
        )
    assert await world.found() == []
    await world.call()
    assert await world.found() == []


async def test_one_application_alone(world: World) -> None:
    """Another one's books are not looked at."""
    other = "00000000-0000-7000-8000-0000000000ff"
    await applications.create(world.store, other, "other", NOW_MS)
    await world.bend("team", 1, 1)
    assert (await world.auditor.check(other)).differences == []
    assert len((await world.auditor.check(APPLICATION)).differences) == 1
    assert (await world.auditor.repair(other)).repaired == []
    assert len((await world.auditor.repair(APPLICATION)).repaired) == 1


async def _load(world: World, until: asyncio.Event, spent: list[int]) -> None:
    """One caller: calls of all ends, one after the other."""
    number = 0
    while not until.is_set():
        number += 1
        hold = await world.hold()
        await asyncio.sleep(0.5)
        if number % 5 == 0:
            await world.ledger.release(hold, hold.row)
        else:
            await world.ledger.settle(hold, truth(hold.row, number), 15)
            spent.append(number)


async def test_under_load(world: World, size: str) -> None:
    """With 200 calls in flight and rows landing, nothing is reported; a counter that is bent then
    is mended without losing a pico of what is settled meanwhile."""
    for limit_id in ("team", "cap"):
        raised = await stored_limits.update(
            world.store, APPLICATION, limit_id, max=10**9 * USD, updated_ms=NOW_MS
        )
        assert raised is not None
        await world.ledger.define(raised)
    [before] = await world.ledger.totals(APPLICATION, ["team"])
    until, spent = asyncio.Event(), list[int]()

    async def land() -> None:
        while not until.is_set():
            await world.writer.land()
            await asyncio.sleep(0.01)

    tasks = [asyncio.create_task(_load(world, until, spent)) for _ in range(IN_FLIGHT)]
    tasks.append(asyncio.create_task(land()))
    await asyncio.sleep(0.3)
    world.auditor.pause_s = 0.2
    for _ in range(20 if size != "ci" else 2):
        [now] = await world.ledger.totals(APPLICATION, ["team"])
        assert now.holds > IN_FLIGHT // 2
        report = await world.auditor.check()
        assert report.differences == []
        await world.bend_while_running(USD)
        repaired = await world.auditor.repair()
        assert [(it.kind, it.about) for it in repaired.repaired] == [("counter", "team")]
        assert repaired.differences == []
    until.set()
    await asyncio.gather(*tasks)
    await world.writer.land()
    while await world.writer.land():
        pass
    [after] = await world.ledger.totals(APPLICATION, ["team"])
    assert after.settled - before.settled == sum(spent)
    assert len(spent) > IN_FLIGHT
    assert await world.found() == []


async def test_limits_with_windows(world: World) -> None:
    """A rolling window's counters are the sum of its parts, landed or not; what has left, and
    earlier windows of one on the calendar, are not missed. What is made good counts from now."""
    lately = limit("lately", window=Window(rolling="1 minute"), epoch=1, created_ms=1)
    daily = limit("daily", window=Window(every="day"), epoch=1, created_ms=1)
    for it in (lately, daily):
        await stored_limits.create(world.store, it)
        await world.ledger.define(it)
    now_ms = await world.ledger.now_ms()

    async def call(left_ms: int = 0) -> None:
        """A call of now, or of so long ago."""
        one = row(at_ms=now_ms)
        hold = await world.ledger.reserve(one, [lately, daily], Bounds(), expected_ms=1)
        assert isinstance(hold, Hold)
        if left_ms:
            held = (await world.redis.call("HGET", hold.record, "lim")).decode()
            for _, epoch in hold.limits:
                held = held.replace(f"|{epoch}|", f"|{epoch - left_ms}|")
            await world.redis.call("HSET", hold.record, "lim", held)
        await world.ledger.settle(hold, truth(hold.row, USD // 8), 15)

    await call(left_ms=86_400_000)
    await world.writer.land()
    for it in (lately, daily):  # from rows: this one's holds are those of a call of now
        await world.ledger.forget(APPLICATION, it.limit_id)
        await world.ledger.define(it)
    for _ in range(3):
        await call()
        await world.writer.land()
        await asyncio.sleep(0.4)
    await call()
    open_ = await world.ledger.reserve(row(), [lately, daily], Bounds(), expected_ms=1)
    assert isinstance(open_, Hold)
    assert [it for it in await world.found() if it.about in ("lately", "daily")] == []

    for name in ("lately", "daily"):
        await world.bend(name, 0, 3)
        await world.bend(name, 11, 2)
    found = [it for it in await world.found() if it.about in ("lately", "daily")]
    assert {(it.about, it.numbers["settled"].found, it.numbers["ok"].expected) for it in found} == {
        ("lately", 3 * USD + USD // 2, 4),
        ("daily", 3 * USD + USD // 2, 4),
    }
    await world.repaired()
    assert [it.settled for it in await world.ledger.present([lately, daily])] == [USD // 2] * 2
