"""Stores killed again and again under load, and Valkey emptied or set back: no pico is lost."""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.chaos.audit import audit
from tests.chaos.load import Load, Seen, Target, call
from tests.chaos.rig import PATIENT, SHORT, Rig, server_pids, signal_all, until

RECOVERED_S = 10.0
"""So soon after a loss limits that refuse without a store let calls in again."""


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """A service whose stores outlive it, with short-lived holds."""
    with Rig(tmp_path, outlive=True, **(SHORT | PATIENT)) as rig:
        yield rig


def flush(rig: Rig, rng: random.Random) -> None:
    """FLUSHALL: the server lives, and knows nothing."""
    time.sleep(rng.uniform(0.5, 2.0))
    with rig.redis() as redis:
        redis.flushall()


def kill(rig: Rig, rng: random.Random) -> None:
    """`kill -9`, and a start with what its log has."""
    time.sleep(rng.uniform(0.5, 2.0))
    _kill(rig, "Valkey")
    time.sleep(rng.choice([0.0, 0.5, 2.0]))
    _revive(rig)


def set_back(rig: Rig, rng: random.Random) -> None:
    """`kill -9`, and a start with the log of a while ago, cut somewhere."""
    folder = rig.server("Valkey").directory
    copy = rig.folder / "copy"
    shutil.copytree(folder, copy)
    time.sleep(rng.uniform(0.5, 2.0))
    _kill(rig, "Valkey")
    shutil.rmtree(folder)
    copy.rename(folder)
    for log in folder.glob("appendonlydir/*.incr.aof"):
        size = log.stat().st_size
        with log.open("r+b") as file:
            file.truncate(int(size * rng.uniform(0.5, 1.0)))
    _revive(rig)


def kill_postgres(rig: Rig, rng: random.Random) -> None:
    """`kill -9` of the postmaster and all of its processes."""
    time.sleep(rng.uniform(0.5, 2.0))
    _kill(rig, "PostgreSQL")
    time.sleep(rng.choice([0.0, 0.5, 2.0]))
    _revive(rig)


def _kill(rig: Rig, title: str) -> None:
    signal_all(server_pids(rig.server(title)), signal.SIGKILL)
    until(lambda: not rig.server(title).alive(), 5)


def _revive(rig: Rig) -> None:
    assert rig.stores is not None
    rig.stores.revive()


def is_let_in(target: Target, seen: list[Seen]) -> bool:
    """Whether a call passes all of its limits now."""

    async def one() -> Seen:
        async with httpx.AsyncClient(timeout=20, trust_env=False) as client:
            return await call(client, target, f"back-{time.monotonic_ns()}", {}, stream=False)

    seen.append(asyncio.run(one()))
    return seen[-1].status == 200


def fill(rig: Rig, rng: random.Random) -> None:
    """Out of memory, and to refuse writes then; after a while there is room again."""
    time.sleep(rng.uniform(0.5, 2.0))
    with rig.redis() as redis:
        redis.config_set("maxmemory", 1)
        time.sleep(rng.uniform(1.0, 3.0))
        redis.config_set("maxmemory", 0)


def evict(rig: Rig, rng: random.Random) -> None:
    """Out of memory, and to forget whatever it likes; it should never have been told so."""
    time.sleep(rng.uniform(0.5, 2.0))
    with rig.redis() as redis:
        redis.config_set("maxmemory-policy", "allkeys-random")
        for _ in range(rng.randint(1, 4)):  # a few keys at a time
            redis.config_set("maxmemory", redis.info("memory")["used_memory"] - 2_000)
            time.sleep(0.05)
            redis.config_set("maxmemory", 0)
            time.sleep(rng.uniform(0.0, 1.0))


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("how", [flush, kill, set_back, fill, evict, kill_postgres])
def test_a_store_is_lost_under_load(rig: Rig, seed: int, full: bool, how: object) -> None:  # noqa: FBT001
    """What clients were told and the provider billed is in rows and counters, to the pico; limits
    that block let nobody in on trust, and let calls in again soon."""
    assert callable(how)
    rng = random.Random(seed)
    application_id, target = rig.tenant()
    load = Load(target, seed=seed, clients=8).start()
    seen: list[Seen] = []
    slowest_s, times = 0.0, 20 if full else 2
    for _ in range(times):
        how(rig, rng)
        began_s = time.monotonic()
        until(lambda: is_let_in(target, seen), RECOVERED_S)
        slowest_s = max(slowest_s, time.monotonic() - began_s)
    time.sleep(0.5)
    seen += load.stop()
    rig.quiet()
    figures = audit(rig, application_id, seen, rig.standin.ledger())
    refused = sum(it.status == 503 for it in seen)
    print(f"{figures}, {refused} refused, let in after {slowest_s:.1f} s at most")
    assert {it.status for it in seen} <= {200, 503}
    assert figures.rows["ok"] > 20 * times
    assert figures.rows.get("unresolved", 0) == figures.late
