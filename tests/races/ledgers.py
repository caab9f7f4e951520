"""Races through the ledgers of two proxies on one Redis: many, of random calls."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from metering.core.limits import Bounds, Limit, Refused
from metering.core.money import PICO_PER_USD
from metering.core.record import UsageRow
from metering.ledger import Hold, Ledger
from metering.redis import Redis
from metering.spool import Spool
from metering.store import Store
from tests.builders import APPLICATION, limit, row
from tests.monitor import Monitor
from tests.races.truth import Asked, Call, Figures, Race, Told, Way, trace

INPUT_PICO, OUTPUT_PICO = 2_500_000, 10_000_000
"""Of a token: $2.50 and $10 a million."""
CAPS = (1_024, 4_096, 16_384)
OUTPUT_LIKELY = 1_000
CALLS_MIN = 200
MAX_PICO = PICO_PER_USD


def some_calls(rng: random.Random, width: int) -> list[Call]:
    """Calls that differ from what is thought of them: twice as many as are under way at once.

    They take longer the more there are, so that really so many are under way at once.
    """
    return [_call(rng, 0.005 + 0.0005 * width) for _ in range(max(CALLS_MIN, 2 * width))]


def _call(rng: random.Random, typical_s: float) -> Call:
    cap, counted = rng.choice(CAPS), rng.randint(100, 6_000)
    into = counted * rng.randint(90, 125) // 100  # by another tokenizer than ours
    out = min(cap, int(rng.lognormvariate(6.9, 0.9)))  # median 1,000, mean 1,500
    return Call(
        cost_pico=into * INPUT_PICO + out * OUTPUT_PICO,
        likely_pico=counted * INPUT_PICO + min(cap, OUTPUT_LIKELY) * OUTPUT_PICO,
        ceiling_pico=4 * counted * INPUT_PICO + cap * OUTPUT_PICO,  # a byte is at most a token
        seconds=typical_s * rng.uniform(0.2, 2),
    )


@asynccontextmanager
async def two_ledgers(store: Store, redis_url: str, folder: Path) -> AsyncIterator[list[Ledger]]:
    """Those of two proxies: each has a connection and a journal of its own."""
    redises = [Redis(redis_url, timeout_ms=20_000) for _ in range(2)]
    ledgers = [
        Ledger(redis, store, Spool(folder / f"spool-{at}", f"race-{at}"), hold_ttl_ms=600_000)
        for at, redis in enumerate(redises)
    ]
    yield ledgers
    for ledger, redis in zip(ledgers, redises, strict=True):
        await ledger.close()
        await redis.close()


async def race(
    ledgers: Sequence[Ledger], redis_url: str, way: Way, width: int, calls: Sequence[Call]
) -> Figures:
    """So many clients at once, half of them at each proxy, make these calls under one limit."""
    one = limit(f"race-{random.SystemRandom().getrandbits(64):x}", max=MAX_PICO, mode=_mode(way))
    await ledgers[0].define(one)
    waiting, asked, turned_away = iter(calls), dict[str, Asked](), list[Call]()
    with Monitor(redis_url) as monitor:
        await asyncio.gather(
            *(
                _client(ledgers[number % 2], one, way, waiting, asked, turned_away)
                for number in range(width)
            )
        )
        marks = trace(monitor.seen())
    figures = Race(way, MAX_PICO, asked).told_again(marks)
    figures.turned_away = len(turned_away)
    (totals,) = await ledgers[0].totals(APPLICATION, [one.limit_id])
    if (totals.settled, totals.holds) != (figures.spent_pico, 0):
        figures.broken.append(f"the books: {totals}, and {figures.spent_pico} was spent")
    return figures


def _mode(way: Way) -> str:
    return "allow" if way == "check" else way


async def _client(
    ledger: Ledger,
    one: Limit,
    way: Way,
    waiting: Iterator[Call],
    asked: dict[str, Asked],
    turned_away: list[Call],
) -> None:
    for call in waiting:
        if way == "check" and await _used_up(ledger, one):
            turned_away.append(call)
        else:
            came = row()
            verdict = await ledger.reserve(came, [one], _bounds(call), expected_ms=1_000)
            if isinstance(verdict, Hold):
                asked[came.request_id] = Asked(call)
                await asyncio.sleep(call.seconds)
                assert await ledger.settle(verdict, _priced(verdict, call), 1_000) is not None
                continue
            assert isinstance(verdict, Refused)
            asked[came.request_id] = Asked(call, _told(verdict))
        await asyncio.sleep(call.seconds / 4)  # a client that is refused does something else


async def _used_up(ledger: Ledger, one: Limit) -> bool:
    (totals,) = await ledger.totals(APPLICATION, [one.limit_id])
    return totals.settled > one.max


def _bounds(call: Call) -> Bounds:
    return Bounds(
        likely_pico=call.likely_pico,
        ceiling_pico=call.ceiling_pico,
        likely_tokens=1_000,
        ceiling_tokens=10_000,
    )


def _priced(hold: Hold, call: Call) -> UsageRow:
    return msgspec.structs.replace(
        hold.row, status="ok", cost_pico=call.cost_pico, output_pico=call.cost_pico
    )


def _told(refused: Refused) -> Told:
    (why,) = refused.refusals
    return Told(
        retryable=refused.retryable,
        settled_pico=why.settled,
        held_pico=why.held,
        needed_pico=why.needed,
        holds=why.holds,
    )
