"""SIGTERM under load: what has begun is finished, what is finished has landed."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.chaos.audit import audit
from tests.chaos.load import Load, Seen, Target, call
from tests.chaos.rig import SHORT, Rig


def lengthy(rng: random.Random) -> dict[str, Any]:
    """A provider that takes its time: up to two seconds."""
    return {
        "delay_ms": rng.choice([0, 100, 500]),
        "chunk_delay_ms": rng.choice([20, 50, 100]),
        "chunks": rng.randint(5, 15),
    }


@pytest.mark.timeout(1800)
def test_sigterm_under_load(tmp_path: Path, seed: int, full: bool) -> None:  # noqa: FBT001
    """No stream is cut, no call unanswered, no row lost; it exits 0, as soon as it can."""
    rng = random.Random(seed)
    stops = 50 if full else 3
    seen: list[Seen] = []
    slowest_s = 0.0
    with Rig(tmp_path, outlive=True) as rig:
        application_id, target = rig.tenant()
        for _ in range(stops):
            load = Load(target, seed=rng.getrandbits(32), clients=16, pace=lengthy).start()
            time.sleep(rng.uniform(0.6, 1.5))
            began_s = time.monotonic()
            assert rig.service.stop() == 0, rig.service.log_tail()
            slowest_s = max(slowest_s, time.monotonic() - began_s)
            assert rig.unlanded() == 0  # at its end, not some time later
            seen += load.stop()
            rig.start()
        answered = {it.tag for it in seen if it.status is not None}
        entries = rig.standin.ledger()
        figures = audit(rig, application_id, seen, entries)
        print(f"{stops} stops: {figures}, the slowest took {slowest_s:.1f} s")
        assert {entry.tag for entry in entries} == answered
        assert not [it for it in seen if it.headers and not it.whole], "cut"
        assert set(figures.rows) == {"ok"}
        assert figures.told == figures.billed == len(answered)
        assert slowest_s < 10


def test_what_takes_too_long_is_given_up(tmp_path: Path) -> None:
    """Whoever comes late is refused, who was there has the shutdown time, once; then it ends.

    The call that was not finished is `unresolved`.
    """
    with Rig(tmp_path, outlive=True, XPROXY_SHUTDOWN_S="3", **SHORT) as rig:
        application_id, target = rig.tenant()
        seen: list[Seen] = []
        threads = [
            threading.Thread(target=lambda s=s: seen.extend(asyncio.run(slow(target, s))))
            for s in (2, 8)
        ]
        for thread in threads:
            thread.start()
        time.sleep(1)
        began_s = time.monotonic()
        os.kill(rig.service.pid, signal.SIGTERM)
        time.sleep(0.3)
        with pytest.raises(httpx.ConnectError):
            rig.service.http.get("/health/ready")
        assert rig.service.wait() == 0
        took_s = time.monotonic() - began_s
        for thread in threads:
            thread.join()
        rig.standin.wait_idle(30)
        rig.start()
        rig.quiet()

        print(f"it took {took_s:.1f} s")
        assert 2.5 < took_s < 5
        assert {it.tag: it.status for it in seen}["slow-2"] == 200
        figures = audit(rig, application_id, seen, rig.standin.ledger())
        assert figures.rows == {"ok": 1, "unresolved": 1}


async def slow(target: Target, seconds: int) -> list[Seen]:
    """A call whose answer takes so long."""
    async with httpx.AsyncClient(timeout=60, trust_env=False) as client:
        return [await call(client, target, f"slow-{seconds}", {"delay_ms": seconds * 1000})]
