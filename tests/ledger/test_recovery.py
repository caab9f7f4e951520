"""Redis loses what it knew: limits stay closed until all of it is there again, to the pico."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from metering.core.limits import Bounds, Limit, Refused, Totals
from metering.core.record import UsageRow
from metering.core.windows import Window
from metering.duties import Lease
from metering.duties.audit import Auditor
from metering.duties.recovery import MEMBER, Recovery
from metering.duties.writer import Writer
from metering.errors import StoreAway
from metering.ledger import Hold, Ledger
from metering.ledger.replies import what_is
from metering.ledger.unlanded import KEPT_MAX
from metering.redis import Redis, keys, share
from metering.spool import Spool
from metering.store import Store, books
from metering.store import limits as stored_limits
from tests.builders import APPLICATION, limit, request_id, row

CENT = 10**10
HOLD = Bounds(likely_pico=5 * CENT, ceiling_pico=10 * CENT, likely_tokens=5, ceiling_tokens=10)
PLACE = share(APPLICATION)
KINDS: dict[str, dict[str, Any]] = {
    "hard": {"mode": "hard"},
    "block": {"mode": "block"},
    "words": {"mode": "hard", "unit": "tokens", "max": 1_000},
    "calls": {"mode": "block", "unit": "requests", "max": 1_000},
    "at once": {"mode": "block", "unit": "concurrent", "max": 1_000},
    "daily": {"mode": "hard", "window": Window(every="day")},
    "lately": {"mode": "hard", "window": Window(rolling="1 hour")},
}


class World:
    """Two workers, a keeper, and the stores they share."""

    def __init__(self, url: str, store: Store, writer: Writer, folder: Path) -> None:
        self.store = store
        self.writer = writer
        self.redises = [Redis(url, 2_000, name=f"{MEMBER}{number}") for number in range(2)]
        self.redises.append(Redis(url, 2_000, name="xproxy:keeper"))
        ledgers = [
            Ledger(redis, store, Spool(folder, f"w{number}"), hold_ttl_ms=30_000)
            for number, redis in enumerate(self.redises)
        ]
        for ledger in ledgers:
            ledger.generation.watch()
        *self.workers, self.keeper = ledgers
        self.redis = self.redises[2]
        self.journal = Spool(folder, "audit")
        self.recovery = Recovery(
            self.redis, store, self.keeper, Lease(self.redis, "recovery", "k"), patience_s=0.5
        )

    async def recover(self, *, without: tuple[Ledger, ...] = ()) -> None:
        """All pulses there are, until the keeper trusts what Redis knows."""
        async with asyncio.timeout(10):
            while True:
                for worker in self.workers:
                    if worker not in without:
                        await worker.pulse()
                await self.recovery.step()
                if self.keeper.generation.trusted:
                    break
                await asyncio.sleep(0.05)
            for worker in self.workers:
                if worker not in without:
                    await worker.pulse()
                    await worker.replay()

    async def close(self) -> None:
        """End everything."""
        for ledger in (*self.workers, self.keeper):
            await ledger.close()
        for redis in self.redises:
            await redis.close()


@pytest.fixture
async def world(
    redis_url: str, store: Store, writer: Writer, tmp_path: Path
) -> AsyncIterator[World]:
    """A world that has just begun."""
    world = World(redis_url, store, writer, tmp_path / "journals")
    await world.recover()
    yield world
    await world.close()


@pytest.fixture
async def limits(world: World) -> dict[str, Limit]:
    """One limit of every kind, live."""
    made = {}
    now_ms = await world.keeper.now_ms()
    for name, its in KINDS.items():
        usd = {} if "max" in its else {"usd": 100}
        one = limit(name, **usd, **its, epoch=now_ms - 1_000, created_ms=now_ms - 1_000)
        await stored_limits.create(world.store, one)
        await world.keeper.define(one)
        made[name] = one
    return made


async def begin(worker: Ledger, limits: dict[str, Limit]) -> Hold:
    """A call that all limits let in."""
    now_ms = await worker.now_ms()
    one = row(at_ms=now_ms, request_id=request_id(now_ms))
    hold = await worker.reserve(one, [*limits.values()], HOLD, expected_ms=1_000)
    assert isinstance(hold, Hold)
    return hold


def truth(hold: Hold, cents: int) -> UsageRow:
    """What a call came to: two thirds of it input."""
    pico = cents * CENT
    output = pico // 3
    return msgspec.structs.replace(
        hold.row, status="ok", cost_pico=pico, input_pico=pico - output, output_pico=output
    )


async def end(worker: Ledger, hold: Hold, cents: int) -> None:
    """The call ends; a cent is a token."""
    await worker.settle(hold, truth(hold, cents), cents)


async def seen(ledger: Ledger, limits: dict[str, Limit]) -> dict[str, Totals]:
    """All counters, in the windows that are now; epochs of parts may differ."""
    found = await ledger.present([*limits.values()])
    return dict(zip(limits, found, strict=True))


async def differences(world: World) -> list[str]:
    """What an audit of all books finds."""
    auditor = Auditor(world.redis, world.store, world.journal)
    auditor.pause_s = 0.0
    report = await auditor.check()
    return [f"{it.kind} {it.about}: {it.cause}" for it in report.differences]


async def busy(world: World, limits: dict[str, Limit]) -> list[tuple[Ledger, Hold]]:
    """Ends that have landed, ends that have not, and calls that run, of both workers."""
    for worker in world.workers:
        await end(worker, await begin(worker, limits), 3)
    while await world.writer.land():
        pass
    for worker in world.workers:
        await end(worker, await begin(worker, limits), 4)
        released = await begin(worker, limits)
        await worker.release(released, msgspec.structs.replace(released.row, status="failed"))
    return [(worker, await begin(worker, limits)) for worker in world.workers]


async def landed_pico(world: World) -> dict[str, int]:
    """What every row says, by call, once all have landed."""
    while await world.writer.land():
        pass
    records = await world.store._pool.fetch(
        "SELECT request_id::text, sum(cost_pico)::bigint AS pico FROM usage GROUP BY 1"
    )
    return {record["request_id"]: record["pico"] for record in records}


def check(totals: dict[str, Totals], settled: int, live: int) -> None:
    """So many cents are spent, and so many calls run."""
    for name in ("hard", "block", "daily", "lately"):
        its = totals[name]
        assert (name, its.settled, its.holds) == (name, settled * CENT, live)
        assert its.settled_input + its.settled_output == its.settled
        assert its.held_likely == live * 5 * CENT
        assert its.held_ceiling == live * 10 * CENT
    assert (totals["words"].settled, totals["words"].held_ceiling) == (settled, live * 10)
    assert totals["at once"].held_likely == live


async def test_what_redis_lost_of_a_limit_is_rebuilt(
    world: World, limits: dict[str, Limit]
) -> None:
    """Deleted, or evicted: from rows that landed, rows that wait, and calls that run."""
    live = await busy(world, limits)
    before = await seen(world.keeper, limits)
    check(before, 14, 2)
    for name in limits:
        key = PLACE.limit(name)
        await world.redis.call("DEL", key, f"{key};h", f"{key};w")

    assert await seen(world.keeper, limits) == before
    assert await differences(world) == []
    more = await begin(world.workers[0], limits)
    await end(world.workers[0], more, 5)
    for worker, hold in live:
        await end(worker, hold, 5)
    check(await seen(world.keeper, limits), 14 + 15, 0)


async def test_what_ends_while_a_limit_is_rebuilt_is_counted_once(
    world: World, limits: dict[str, Limit]
) -> None:
    """Calls of a limit end and begin while its counters are lost again and again."""
    worker, other = world.workers
    spent = 0
    for number in range(20):
        holds = [await begin(worker, limits) for _ in range(3)]
        name = [*limits][number % len(limits)]
        await world.redis.call("DEL", PLACE.limit(name))
        ended = [end(worker, hold, 1) for hold in holds]
        beside = asyncio.gather(world.writer.land(), other.load(APPLICATION, [name]), *ended)
        begun = await begin(other, limits)
        await beside
        await end(other, begun, 1)
        spent += 4
        check(await seen(world.keeper, limits), spent, 0)


async def test_an_emptied_redis_admits_nothing_until_all_is_there_again(
    world: World, limits: dict[str, Limit]
) -> None:
    """FLUSHALL under way: what blocks refuses, what allows passes, and no pico is lost."""
    live = await busy(world, limits)
    before = await seen(world.keeper, limits)
    await world.redis.call("FLUSHALL")

    hard, free = limits["hard"], limit("free", on_store_down="allow")
    await stored_limits.create(world.store, free)
    with pytest.raises(StoreAway) as refusal:
        await world.workers[0].reserve(row(), [hard], HOLD, expected_ms=1)
    assert refusal.value.should_retry
    with pytest.raises(StoreAway):
        await world.workers[1].totals(APPLICATION, ["hard"])
    passed = await world.workers[0].reserve(row(), [free], HOLD, expected_ms=1)
    assert isinstance(passed, Hold)
    assert passed.spooled
    await end(*live[0], 5)
    await world.recover()

    after = await seen(world.keeper, limits)
    check(after, 14 + 5, 1)
    assert {name: its.counts for name, its in after.items()} == {
        name: its.counts | {"ok": its.counts["ok"] + 1} for name, its in before.items()
    }
    await end(*live[1], 5)
    await end(world.workers[0], passed, 6)
    check(await seen(world.keeper, limits), 24, 0)
    assert await differences(world) == []
    assert sum((await landed_pico(world)).values()) == 30 * CENT
    check(await seen(world.keeper, limits), 24, 0)
    assert (await world.keeper.totals(APPLICATION, ["free"]))[0].settled == 6 * CENT


async def test_a_hard_cap_holds_through_a_flush(world: World) -> None:
    """A dollar, ten cents a call: whatever is lost in between, ten calls at most are let in."""
    hard = {"tight": limit("tight", usd=1, mode="hard")}
    await stored_limits.create(world.store, hard["tight"])
    admitted = []
    for number in range(40):
        worker = world.workers[number % 2]
        try:
            now_ms = await worker.now_ms()
            one = row(at_ms=now_ms, request_id=request_id(now_ms))
            verdict = await worker.reserve(one, [*hard.values()], HOLD, expected_ms=1)
        except StoreAway:
            await world.recover()
            continue
        if isinstance(verdict, Hold):
            admitted.append(verdict)
            if number % 3 == 0:
                await worker.settle(verdict, truth(verdict, 10), 10)
        if number in (4, 9, 13, 20):
            await world.redis.call("FLUSHALL")
    assert len(admitted) == 10
    assert isinstance(verdict, Refused)


async def test_an_older_state_is_not_believed(world: World, limits: dict[str, Limit]) -> None:
    """A server comes back with what it knew a while ago: calls that ended since have ended."""
    first = [(worker, await begin(worker, limits)) for worker in world.workers]
    names = await world.redis.call("KEYS", "*")
    copies = [(name, await world.redis.call("DUMP", name)) for name in names]
    for worker, hold in first:
        await end(worker, hold, 3)
    assert await world.writer.land() == 2
    live = await busy(world, limits)

    await world.redis.call("FLUSHALL")
    for name, copy in copies:
        await world.redis.call("RESTORE", name, 0, copy)
    for redis in world.redises:  # as after a restart
        redis._other_server("another")
    with pytest.raises(StoreAway):
        await world.workers[0].reserve(row(), [limits["hard"]], HOLD, expected_ms=1)
    await world.recover()

    check(await seen(world.keeper, limits), 14 + 6, 2)
    assert await world.keeper.reap() == 0
    for worker, hold in live:
        await end(worker, hold, 1)
    check(await seen(world.keeper, limits), 22, 0)
    assert sum((await landed_pico(world)).values()) == 22 * CENT


async def test_who_cannot_be_reached_hands_in_later(world: World, limits: dict[str, Limit]) -> None:
    """A worker that says nothing is waited for a while; what it knows is added when it comes."""
    live = await busy(world, limits)
    silent = world.workers[1]
    await world.redis.call("FLUSHALL")
    await world.recover(without=(silent,))
    check(await seen(world.keeper, limits), 3 + 3 + 4, 1)

    with pytest.raises(StoreAway):  # it does not decide by what it has not handed in to
        await silent.reserve(row(), [limits["hard"]], HOLD, expected_ms=1)
    await silent.pulse()
    check(await seen(world.keeper, limits), 14, 2)
    await begin(silent, limits)
    for worker, hold in live:
        await end(worker, hold, 1)
    check(await seen(world.keeper, limits), 16, 1)


async def test_a_call_without_a_hold_is_told_again_too(world: World) -> None:
    """It passed while nobody could tell what its limit had counted; then all is lost once more."""
    free = limit("free", on_store_down="allow")
    await stored_limits.create(world.store, free)
    worker = world.workers[0]
    worker.generation.doubt()
    now_ms = await worker.now_ms()
    one = row(at_ms=now_ms, request_id=request_id(now_ms))
    hold = await worker.reserve(one, [free], HOLD, expected_ms=1)
    assert isinstance(hold, Hold)
    assert hold.spooled
    await world.recover()
    await end(worker, hold, 4)
    await world.redis.call("FLUSHALL")
    await world.recover()
    assert worker.generation.trusted
    assert await landed_pico(world) == {one.request_id: 4 * CENT}
    assert (await worker.totals(APPLICATION, ["free"]))[0].settled == 4 * CENT


async def away(*_: object) -> None:
    """Redis does not answer."""
    raise StoreAway("away")


@pytest.mark.parametrize("end_is", ["told", "journaled"])
async def test_a_call_that_redis_never_heard_of_is_no_loss(
    world: World, monkeypatch: pytest.MonkeyPatch, end_is: str
) -> None:
    """It passed while Redis was away: neither heartbeats nor its end miss a hold of it."""
    free = limit("free", on_store_down="allow")
    await stored_limits.create(world.store, free)
    worker = world.workers[0]
    worker.generation.doubt()
    hold = await begin(worker, {"free": free})
    assert hold.spooled
    await world.recover()
    generation = worker.generation.known
    await worker.heartbeat(0)
    if end_is == "journaled":
        with monkeypatch.context() as patched:
            patched.setattr(worker, "load", away)
            assert await worker.settle(hold, truth(hold, 4), 4) is None
        assert await worker.replay() == 1
    else:
        await end(worker, hold, 4)
    await worker.pulse()
    assert worker.generation.known == generation
    assert (await worker.totals(APPLICATION, ["free"]))[0].settled == 4 * CENT


async def test_a_generation_that_ends_under_way_is_named(
    world: World, limits: dict[str, Limit]
) -> None:
    """Counters are not rebuilt for one that has ended: calls are told so, and a new limit waits."""
    worker = world.workers[0]
    name = PLACE.limit("hard")
    await world.redis.call("DEL", name, PLACE.generation)
    with pytest.raises(StoreAway, match="are being rebuilt"):
        await worker.totals(APPLICATION, ["hard"])
    assert not worker.generation.trusted
    await world.workers[1].define(limits["hard"])
    assert what_is(await world.redis.call("HGET", name, "is"))[0] == "closed"
    await world.recover()
    check(await seen(world.keeper, limits), 0, 0)


async def test_an_outbox_that_is_gone_is_told_again(world: World, limits: dict[str, Limit]) -> None:
    """Evicted, with rows that had not landed: they land, and counters are what they were."""
    live = await busy(world, limits)
    await world.redis.call("DEL", PLACE.outbox)
    for worker in world.workers:
        await worker.pulse()
    assert not world.workers[0].generation.trusted
    await world.recover()
    check(await seen(world.keeper, limits), 14, 2)
    for worker, hold in live:
        await end(worker, hold, 1)
    assert sum((await landed_pico(world)).values()) == 16 * CENT


async def test_a_record_that_is_gone_is_charged_once(
    world: World, limits: dict[str, Limit]
) -> None:
    """Evicted while its call runs: who knows what else is, so all of it is rebuilt."""
    worker = world.workers[0]
    hold = await begin(worker, {"hard": limits["hard"]})
    await world.redis.call("DEL", hold.record)
    await end(worker, hold, 7)
    assert await worker.replay() == 0
    assert not worker.generation.trusted
    await world.recover()
    (its,) = await world.keeper.totals(APPLICATION, ["hard"])
    assert (its.settled, its.holds, its.held_ceiling) == (7 * CENT, 0, 0)
    assert (await landed_pico(world))[hold.row.request_id] == 7 * CENT
    assert await worker.replay() == 0


async def test_what_has_landed_is_not_kept(world: World, limits: dict[str, Limit]) -> None:
    """A worker remembers ends until their rows have landed; no more than so many."""
    worker = world.workers[0]
    for _ in range(5):
        await end(worker, await begin(worker, limits), 1)
    await worker.pulse()
    assert len(worker._unlanded) == 5
    while await world.writer.land():
        pass
    await end(worker, await begin(worker, limits), 1)
    await worker.pulse()
    assert len(worker._unlanded) == 1
    assert KEPT_MAX >= 10_000


async def test_a_rebuild_does_not_outlive_its_generation(
    world: World, limits: dict[str, Limit], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Emptied between the look and the opening: what was seen is not what there is."""
    await busy(world, limits)
    await world.redis.call("DEL", PLACE.limit("hard"))
    still, emptied = books.still, list[Any]()

    async def fetched(connection: Any, *arguments: Any) -> Any:
        found = await connection.fetch(*arguments)
        if not emptied:
            emptied.append(await world.redis.call("FLUSHALL"))
            await world.workers[0]._define(limits["hard"])
        return found

    @asynccontextmanager
    async def still_and_emptied(store: Store) -> AsyncIterator[Any]:
        """The moment in which no row lands, with a flush in its midst."""
        async with still(store) as connection:
            yield SimpleNamespace(fetch=partial(fetched, connection))

    monkeypatch.setattr(books, "still", still_and_emptied)
    with pytest.raises(StoreAway):
        await world.keeper.open([limits["hard"]])
    assert emptied
    assert what_is(await world.redis.call("HGET", PLACE.limit("hard"), "is"))[0] == "closed"


async def test_a_redis_that_may_evict_is_warned_of(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever runs it is told what to set; one that keeps everything is fine."""
    await world.redis.call("FLUSHALL")
    await world.recover()
    assert "redis_evicts" not in capsys.readouterr().out
    await world.redis.call("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    try:
        await world.redis.call("FLUSHALL")
        await world.recover()
    finally:
        await world.redis.call("CONFIG", "SET", "maxmemory-policy", "noeviction")
    assert "maxmemory-policy noeviction" in capsys.readouterr().out


async def test_a_new_installation_waits_for_nobody(
    redis_url: str, store: Store, tmp_path: Path
) -> None:
    """Nothing was ever counted: nothing can have been lost, however long the server has run."""
    redis = Redis(redis_url, 2_000, name="xproxy:keeper")
    ledger = Ledger(redis, store, Spool(tmp_path, "k"), hold_ttl_ms=30_000)
    ledger.generation.watch()
    recovery = Recovery(redis, store, ledger, Lease(redis, "recovery", "k"), patience_s=5)
    async with asyncio.timeout(5):
        while await redis.call("GET", keys.GENERATION) is None:
            await recovery.step()
            await asyncio.sleep(0.05)
    assert ledger.generation.trusted
    assert await redis.call("GET", PLACE.generation) == await redis.call("GET", keys.GENERATION)
    await redis.close()
