"""`make bench-scripts`: what the two scripts of a call take of Valkey, beside a plain HSET.

Calls are made one after the other through the ledger, on a private Valkey as `make run` starts it.
Valkey's own account says how often a command was called and how long each took (`usec_per_call`
of INFO commandstats; a script's is all that it does). It is emptied between phases, so that
reserve and settle, which are the same command, are told apart. Phases are short and take turns, so
that whatever else the machine does hits all of them; medians count.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import re
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median

import msgspec
import uvloop

from metering.core.limits import Bounds
from metering.core.record import UsageRow
from metering.embedded import Stores
from metering.ledger import Hold, Ledger
from metering.redis import Redis
from metering.spool import Spool
from metering.store import Store
from metering.store.migrations import migrate
from tests.bench.load import WrongAnswerError
from tests.builders import limit, row

LIMITS = (0, 1, 2, 4, 8)
AT_ONCE = 32
TWO_TO_HSET, EIGHT_TO_TWO = "two limits to HSET", "eight limits to two"
AT_MOST = {TWO_TO_HSET: 40, EIGHT_TO_TWO: 3}
"""How many times as much a script should take at most."""
BOUNDS = Bounds(
    likely_pico=12_345_678_901,
    ceiling_pico=98_765_432_109,
    likely_tokens=1_200,
    ceiling_tokens=9_000,
)
LINES = {"input": 2_500_000_000, "output": 9_845_678_901}
UNITS = {"input": 1_000, "output": 950}


def main() -> int:
    """Measure and print; with `--require`, 1 if a ratio is more than it should be."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.scripts", description=__doc__)
    parser.add_argument("--calls", type=int, default=100, help="of each phase")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--require", action="store_true", help="fail if a ratio is too large")
    asked = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="xproxy-bench-") as place,
        Stores(Path(place)) as stores,
    ):
        figures = uvloop.run(measure(stores, Path(place), asked.calls, asked.rounds))
    ratios = {
        f"{verb}, {what}": round(figures[over] / figures[under], 2)
        for verb in ("reserve", "settle")
        for what, over, under in (
            (TWO_TO_HSET, f"{verb} 2", "HSET"),
            (EIGHT_TO_TWO, f"{verb} 8", f"{verb} 2"),
        )
    }
    found = {
        "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}",
        "micros": {name: round(micros, 2) for name, micros in figures.items()},
        "ratios": ratios,
    }
    sys.stdout.write(json.dumps(found, indent=2) + "\n")
    large = any(ratio > AT_MOST[name.partition(", ")[2]] for name, ratio in ratios.items())
    return int(asked.require and large)


async def measure(stores: Stores, folder: Path, calls: int, rounds: int) -> dict[str, float]:
    """Microseconds of one HSET, and of each verb by the number of limits."""
    database_url, redis_url = (
        next(it.url for it in stores.servers if it.title == title)
        for title in ("PostgreSQL", "Valkey")
    )
    await migrate(database_url)
    store, redis = await Store.open(database_url), Redis(redis_url, timeout_ms=5_000)
    ledger = Ledger(redis, store, Spool(folder / "spool", "bench"), hold_ttl_ms=600_000)
    found: dict[str, list[float]] = {}
    for number in range(rounds + 1):  # the first one only warms up
        for name, micros in (await one_round(ledger, redis, calls)).items():
            if number:
                found.setdefault(name, []).append(micros)
    await ledger.close()
    await redis.close()
    await store.close()
    return {name: median(each) for name, each in found.items()}


async def one_round(ledger: Ledger, redis: Redis, calls: int) -> dict[str, float]:
    """The same of one round."""
    await redis.call("FLUSHALL")
    packed = bytes(17 * 8)  # as long as a limit's counters

    async def again(_: int) -> None:
        await redis.call("HSET", "plain", "cnt", packed)

    async def anew(number: int) -> None:
        await redis.call("HSET", f"plain:{number}", "cnt", packed)

    found = {
        "HSET": await phase(redis, "hset", calls, again),
        "HSET of a new hash": await phase(redis, "hset", calls, anew),
    }
    for count in LIMITS:
        for at_once in (1, AT_ONCE) if count == 2 else (1,):
            verbs = await both(ledger, redis, calls, count, at_once)
            name = f"{count}, {at_once} at once" if at_once > 1 else f"{count}"
            found |= {f"{verb} {name}": micros for verb, micros in verbs.items()}
    return found


async def both(
    ledger: Ledger, redis: Redis, calls: int, count: int, at_once: int
) -> dict[str, float]:
    """Microseconds of reserve and of settle, for calls under so many limits."""
    limits = [limit(f"team-{n}", usd=10**9, mode="block") for n in range(count)]
    for its in limits:
        await ledger.define(its)
    holds: dict[int, Hold] = {}

    async def reserve(number: int) -> None:
        verdict = await ledger.reserve(row(), limits, BOUNDS, expected_ms=5_000)
        assert isinstance(verdict, Hold)
        holds[number] = verdict

    async def settle(number: int) -> None:
        hold = holds[number]
        assert await ledger.settle(hold, settled(hold), 1_950) is not None

    return {
        "reserve": await phase(redis, "fcall", calls, reserve, at_once),
        "settle": await phase(redis, "fcall", calls, settle, at_once),
    }


async def phase(
    redis: Redis,
    command: str,
    calls: int,
    make: Callable[[int], Awaitable[None]],
    at_once: int = 1,
) -> float:
    """Make calls, so many at once; microseconds that Valkey spent on each in a command.

    WrongAnswerError if calls one after the other were not one of it each.
    """
    await redis.call("CONFIG", "RESETSTAT")
    for first in range(0, calls, at_once):
        await asyncio.gather(*map(make, range(first, min(calls, first + at_once))))
    times, micros = await spent(redis, command)
    if at_once == 1 and times != calls:
        raise WrongAnswerError(f"{calls} calls: {times} times {command}")
    return micros / calls


async def spent(redis: Redis, command: str) -> tuple[int, int]:
    """(how often a command was called, microseconds of all together) since the last reset."""
    text: bytes = await redis.call("INFO", "commandstats")
    found = re.search(rf"cmdstat_{command}:calls=(\d+),usec=(\d+)", text.decode())
    assert found, f"nobody called {command}"
    return int(found[1]), int(found[2])


def settled(hold: Hold) -> UsageRow:
    """The row of a call whose truth is known."""
    return msgspec.structs.replace(
        hold.row,
        status="ok",
        http_status=200,
        model="gpt-4o-2024-08-06",
        price_id="openai/gpt-4o@2026-10-14",
        provider_id=f"chatcmpl-{hold.row.request_id}",
        units=UNITS,
        lines=LINES,
        input_pico=LINES["input"],
        output_pico=LINES["output"],
        cost_pico=sum(LINES.values()),
    )


if __name__ == "__main__":
    sys.exit(main())
