"""SIGTERM under load: what has begun is finished, what is finished has landed."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.audit import audit
from tests.chaos.load import Load, Seen
from tests.chaos.rig import Rig


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
    stops = 50 if full else 4
    seen: list[Seen] = []
    slowest_s = 0.0
    with Rig(tmp_path, outlive=True) as rig:
        application_id, target = rig.tenant()
        for number in range(stops):
            load = Load(target, seed=rng.getrandbits(32), clients=16, pace=lengthy).start()
            time.sleep(rng.uniform(0.6, 1.5))
            began_s = time.monotonic()
            assert rig.service.stop() == 0, rig.service.log_tail()
            slowest_s = max(slowest_s, time.monotonic() - began_s)
            assert rig.unlanded() == 0  # at its end, not some time later
            seen += load.stop()
            if number < stops - 1:
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
