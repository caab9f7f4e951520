"""Calls that come at once are decided and ended by one run of a script, each on its own account."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from metering.core.limits import Bounds, Refused
from metering.core.money import PICO_PER_USD as USD
from metering.errors import StoreAway
from metering.ledger import Hold, Ledger
from metering.ledger.replies import states_of
from metering.redis import Redis, share
from metering.redis.batch import CALLS_MAX
from tests.builders import APPLICATION, limit, row

CENT = USD // 100
BOUNDS = Bounds(likely_pico=5 * CENT, ceiling_pico=5 * CENT)
TEAM = limit(mode="block")
BROKEN = limit("broken", mode="block")


async def reserve_all(ledger: Ledger, *limits: Any) -> list[Any]:
    """A call for each limit, all in one tick: holds, refusals, or faults."""
    asked = (ledger.reserve(row(), [it], BOUNDS, expected_ms=5_000) for it in limits)
    return await asyncio.gather(*asked, return_exceptions=True)


async def runs(redis: Redis) -> int:
    """How many scripts Redis has run."""
    text = (await redis.call("INFO", "commandstats")).decode()
    return sum(
        int(line.split("calls=")[1].split(",")[0])
        for line in text.splitlines()
        if line.startswith("cmdstat_fcall:")
    )


async def broken(ledger: Ledger, redis: Redis) -> None:
    """A limit whose counters nobody can read."""
    for it in (TEAM, BROKEN):
        await ledger.define(it)
    await redis.call("HSET", share(APPLICATION).limit("broken"), "cnt", "no numbers")


async def test_many_at_once_are_decided_in_turn(ledger: Ledger, redis: Redis) -> None:
    """The first come are admitted, by a few runs, and counters know of all of them."""
    await ledger.define(TEAM)
    before = await runs(redis)
    found = await reserve_all(ledger, *[TEAM] * (3 * CALLS_MAX))
    took = await runs(redis) - before

    admitted = [isinstance(it, Hold) for it in found]
    assert admitted == [True] * 21 + [False] * (3 * CALLS_MAX - 21)
    assert took <= 4
    [totals] = await ledger.totals(APPLICATION, ["team"])
    assert (totals.holds, totals.held_likely) == (21, 21 * 5 * CENT)
    assert totals.counts["blocked"] == 3 * CALLS_MAX - 21
    assert await redis.call("XLEN", share(APPLICATION).outbox) == 3 * CALLS_MAX - 21


async def test_many_at_once_are_ended_in_turn(ledger: Ledger, redis: Redis) -> None:
    """Each is charged its own cost, and told the state that it left the limit in."""
    holds: list[Hold] = await reserve_all(ledger, *[TEAM] * 5)
    before = await runs(redis)
    ends = [
        msgspec.structs.replace(hold.row, status="ok", cost_pico=30 * CENT, input_pico=30 * CENT)
        for hold in holds
    ]
    found = await asyncio.gather(*map(ledger.settle, holds, ends, [1] * 5))

    assert await runs(redis) - before == 1
    states = [states_of(charged)["team"] for charged in found if charged]
    assert states == ["ok", "ok", "ok", "overrun", "overrun"]
    [totals] = await ledger.totals(APPLICATION, ["team"])
    assert (totals.settled, totals.holds, totals.held_likely) == (150 * CENT, 0, 0)
    assert await redis.call("ZCARD", share(APPLICATION).holds) == 0


async def test_a_refusal_counts_the_holds_before_it(ledger: Ledger) -> None:
    """Retry-After is the median of live holds, those of the same run included."""
    await ledger.define(TEAM)
    found = await reserve_all(ledger, *[TEAM] * 22)

    verdict = found[-1]
    assert isinstance(verdict, Refused)
    assert (verdict.retryable, verdict.retry_after_s) == (True, 5)
    assert verdict.refusals[0].holds == 21


async def test_a_call_that_cannot_be_read_keeps_nobody(ledger: Ledger, redis: Redis) -> None:
    """It alone is refused, as if Redis were away; the calls beside it are decided."""
    await broken(ledger, redis)
    found = await reserve_all(ledger, TEAM, BROKEN, TEAM)

    assert isinstance(found[1], StoreAway)
    assert [isinstance(it, Hold) for it in (found[0], found[2])] == [True, True]
    [totals] = await ledger.totals(APPLICATION, ["team"])
    assert totals.holds == 2


async def test_an_end_that_cannot_be_read_keeps_nobody(ledger: Ledger, redis: Redis) -> None:
    """It waits in the journal; the others are ended."""
    for it in (TEAM, BROKEN):
        await ledger.define(it)
    holds = await reserve_all(ledger, TEAM, BROKEN, TEAM)
    await broken(ledger, redis)
    found = await asyncio.gather(*(ledger.settle(it, it.row, 1) for it in holds))

    assert [charged is not None for charged in found] == [True, False, True]
    [totals] = await ledger.totals(APPLICATION, ["team"])
    assert totals.holds == 0


async def test_scripts_that_redis_has_forgotten(ledger: Ledger, redis: Redis) -> None:
    """They are told again, and run once."""
    await ledger.define(TEAM)
    await redis.call("SCRIPT", "FLUSH")
    await redis.call("FUNCTION", "FLUSH")
    found = await reserve_all(ledger, *[TEAM] * 3)

    assert [isinstance(it, Hold) for it in found] == [True] * 3
    [totals] = await ledger.totals(APPLICATION, ["team"])
    assert totals.holds == 3


@pytest.mark.parametrize("others", [1, 10])
async def test_who_gives_up_waiting_disturbs_nobody(ledger: Ledger, others: int) -> None:
    """A cancelled call's reply is thrown away; each of the others gets its own."""
    await ledger.define(TEAM)
    asked = [
        asyncio.create_task(ledger.reserve(row(), [TEAM], BOUNDS, expected_ms=5_000))
        for _ in range(1 + others)
    ]
    await asyncio.sleep(0)
    asked[0].cancel()
    found = await asyncio.gather(*asked, return_exceptions=True)

    assert isinstance(found[0], asyncio.CancelledError)
    assert all(isinstance(it, Hold) for it in found[1:])
