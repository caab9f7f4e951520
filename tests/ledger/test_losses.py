"""Calls of two workers while Redis loses this and that, in any order: nothing is lost of them.

The steps that `machine` has too are few here; what it cannot have are the losses, as what comes
back depends on who remembers what. In the end every call that a worker ended has one row at its
cost, every counter is what rows and calls in flight say, and no cap was ever exceeded.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    precondition,
    rule,
    run_state_machine_as_test,
)

from metering.core.limits import Limit, Refused
from metering.duties import Lease, recovery
from metering.duties.writer import Writer
from metering.errors import StoreAway
from metering.ledger import Hold
from metering.redis import Redis, share
from metering.redis.outbox import Outbox
from metering.store import Store, applications, usage
from metering.store import limits as stored_limits
from tests.builders import limit, request_id, row
from tests.ledger.test_recovery import CENT, HOLD, World, differences, landed_pico, truth

workers = st.sampled_from([0, 1])
NAMES = ("hard", "block")
STEPS = 40


class Losses(RuleBasedStateMachine):
    """Calls, and what Redis loses meanwhile."""

    run: ClassVar[Any]
    url: ClassVar[str]
    store: ClassVar[Store]
    folder: ClassVar[Path]
    steps: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        self.live: list[tuple[int, Hold]] = []
        self.told: dict[str, int] = {}
        self.limits: dict[str, Limit] = {}
        self.application_id = self.run(self.begin())

    async def begin(self) -> str:
        """An empty Redis, a world, an application of its own with two limits."""
        number = request_id()
        redis = Redis(self.url, 2_000)
        await redis.call("FLUSHALL")
        writer = Writer(Outbox(redis), self.store, Lease(redis, "writer", "test"))
        self.redis = redis
        self.world = World(self.url, self.store, writer, self.folder / number)
        await self.world.recover()
        now_ms = await self.world.keeper.now_ms()
        await applications.create(self.store, number, number, now_ms)
        for name in NAMES:
            one = limit(name, usd=1, mode=name, application_id=number, epoch=now_ms - 1)
            await stored_limits.create(self.store, one)
            self.limits[name] = one
        return number

    @property
    def spent(self) -> int:
        """What workers ended calls with, in cents."""
        return sum(self.told.values())

    @rule(by=workers)
    def call(self, by: int) -> None:
        """A call is held against both limits, or refused, or asked to come back."""
        Losses.steps += 1
        verdict = self.run(self.reserve(by))
        if isinstance(verdict, Hold):
            assert not verdict.spooled
            self.live.append((by, verdict))
            assert self.spent + 10 * len(self.live) <= 100, "the cap was exceeded"
        elif isinstance(verdict, Refused):
            assert self.spent + 10 * len(self.live) > 90, "there was room"

    async def reserve(self, by: int) -> Any:
        """What a worker says."""
        worker = self.world.workers[by]
        now_ms = await worker.now_ms()
        one = row(application_id=self.application_id, at_ms=now_ms, request_id=request_id(now_ms))
        try:
            return await worker.reserve(one, [*self.limits.values()], HOLD, expected_ms=1)
        except StoreAway:
            return None

    @precondition(lambda self: self.live)
    @rule(at=st.integers(0, 20), cents=st.integers(0, 10))
    def end(self, at: int, cents: int) -> None:
        """A call ends, at no more than it was held with."""
        Losses.steps += 1
        by, hold = self.live.pop(at % len(self.live))
        self.told[hold.row.request_id] = cents
        self.run(self.world.workers[by].settle(hold, truth(hold, cents), cents))

    @rule()
    def land(self) -> None:
        """What waits for Postgres lands."""
        Losses.steps += 1
        self.run(self.world.writer.land())

    @rule(by=workers)
    def pulse(self, by: int) -> None:
        """A worker looks whether Redis still knows, and tells what it had not heard of."""
        Losses.steps += 1
        self.run(self.world.workers[by].pulse())
        try:
            self.run(self.world.workers[by].replay())
        except StoreAway:
            assert not self.world.workers[by].generation.trusted

    @rule()
    def recover(self) -> None:
        """Everybody hands in, and a generation begins if one is due."""
        Losses.steps += 1
        self.run(self.world.recover())

    @rule()
    def flush(self) -> None:
        """FLUSHALL."""
        self.lose("FLUSHALL")

    @rule(what=st.sampled_from(["hard", "block", "outbox", "holds", "record"]))
    def evict(self, what: str) -> None:
        """A key goes."""
        place = share(self.application_id)
        if what in NAMES:
            self.lose("DEL", place.limit(what))
        elif what == "record":
            if self.live:
                self.lose("DEL", self.live[0][1].record)
        else:
            self.lose("DEL", getattr(place, what))

    @rule()
    def restart(self) -> None:
        """The server is another, and has kept everything."""
        Losses.steps += 1
        for redis in self.world.redises:
            redis._other_server(f"server-{Losses.steps}")

    def lose(self, *command: str) -> None:
        """A command of somebody else's."""
        Losses.steps += 1
        self.run(self.ask(*command))

    async def ask(self, *command: str) -> Any:
        """What Redis says."""
        return await self.redis.call(*command)

    def teardown(self) -> None:
        """All ends are in rows, at their cost; the books are whole."""
        self.run(self.check())

    async def check(self) -> None:
        """The proof."""
        world = self.world
        await world.recover()
        for worker in world.workers:
            await worker.heartbeat(0)  # whose hold is gone is missed now, at the latest
        await world.recover()
        landed = await landed_pico(world)
        assert {it: landed.get(it) for it in self.told} == {
            it: cents * CENT for it, cents in self.told.items()
        }
        for name, its in zip(
            NAMES, await world.keeper.present([*self.limits.values()]), strict=True
        ):
            assert (name, its.settled, its.holds) == (name, self.spent * CENT, len(self.live))
        assert await differences(world) == []
        for by, hold in self.live:
            await world.workers[by].settle(hold, truth(hold, 1), 1)
        while await world.writer.land():
            pass
        await world.close()
        await self.redis.close()


@pytest.mark.timeout(1800)
async def test_nothing_is_lost_whatever_redis_loses(
    redis_url: str,
    database: str,
    tmp_path: Path,
    size: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Flushes, evictions and restarts between any steps of two workers' calls."""
    monkeypatch.setattr(recovery, "GATHERED_S", 0.0)  # both are connected all the time
    examples = {"ci": 12, "full": 600, "soak": 2_000}[size]
    await asyncio.to_thread(drive, redis_url, database, tmp_path, examples)


def drive(url: str, database: str, folder: Path, examples: int) -> None:
    """Run the machine, on an event loop of its own."""
    Losses.steps = 0
    with asyncio.Runner() as runner:
        Losses.run, Losses.url, Losses.folder = staticmethod(runner.run), url, folder
        Losses.store = runner.run(_opened(database))
        try:
            run_state_machine_as_test(
                Losses,
                settings=settings(
                    max_examples=examples,
                    stateful_step_count=STEPS,
                    deadline=None,
                    database=None,
                    print_blob=True,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            runner.run(Losses.store.close())
    print(f"\n{Losses.steps} steps in {examples} examples, nothing lost")


async def _opened(database: str) -> Store:
    store = await Store.open(database)
    await usage.ensure_partitions(store, time.time_ns() // 1_000_000)
    return store
