"""The rules in plain Python and the scripts on a real Valkey come to the same, whatever happens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from metering.redis.scripts import Script
from tests.ledger.machine import Arena
from tests.ledger.planted import rehearsed

STEPS = 50
"""Of an example."""


@contextmanager
def arena(url: str, database: str, folder: Path, scripts: Mapping[str, Script]) -> Iterator[Arena]:
    """Two proxies, on an event loop of their own: a machine's steps are not asynchronous."""
    with asyncio.Runner() as runner:
        redis, ledgers = runner.run(Arena.open(url, database, folder, scripts))
        here = Arena(runner.run, redis, ledgers)
        try:
            yield here
        finally:
            runner.run(here.close())


async def test_the_scripts_do_what_the_rules_say(
    redis_url: str, database: str, tmp_path: Path, size: str
) -> None:
    """Whatever happens to calls, limits and proxies, in any order, twice or late."""
    steps = {"ci": 1_500, "full": 100_000, "soak": 500_000}[size]
    await asyncio.to_thread(drive, redis_url, database, tmp_path, steps)


def drive(url: str, database: str, folder: Path, steps: int) -> None:
    """Run the machine until it has made so many steps."""
    began = time.monotonic()
    with arena(url, database, folder, rehearsed()) as here:
        while here.steps < steps:
            run_state_machine_as_test(
                here.machine(),
                settings=settings(
                    max_examples=max(1, (steps - here.steps) // STEPS),
                    stateful_step_count=STEPS,
                    deadline=None,
                    database=None,
                    print_blob=True,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        took_s = time.monotonic() - began
        print(f"\n{here.steps} steps in {here.examples} examples, no difference, {took_s:.0f} s")
