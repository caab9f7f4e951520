"""Postgres frozen, or killed and started again: no caller notices, and every row lands."""

from __future__ import annotations

import random
import signal
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.audit import audit
from tests.chaos.load import Load, Seen
from tests.chaos.rig import Rig, server_pids, signal_all


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """A service whose stores outlive it."""
    with Rig(tmp_path, outlive=True) as rig:
        yield rig


def at_once(_: random.Random) -> dict[str, Any]:
    """A provider that answers at once: what is left of a call's time is ours."""
    return {"chunks": 2}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("how", ["frozen", "killed"])
def test_postgres_is_away(rig: Rig, seed: int, full: bool, how: str) -> None:  # noqa: FBT001
    """Not one error, no call slower than ever by more than a moment; then all rows are there.

    At full size it is away for longer than keys and limits are remembered without asking.
    """
    application_id, target = rig.tenant()
    load = Load(target, seed=seed, clients=6, pause_s=0.05, pace=at_once).start()
    time.sleep(3)
    began_s = time.monotonic()
    server = rig.server("PostgreSQL")
    pids = server_pids(server)
    signal_all(pids, signal.SIGSTOP if how == "frozen" else signal.SIGKILL)
    time.sleep(45 if full else 4)
    ended_s = time.monotonic()
    if how == "frozen":
        signal_all(pids, signal.SIGCONT)
    else:
        assert rig.stores is not None
        rig.stores.revive()
    time.sleep(1)
    seen = load.stop()
    rig.quiet()

    figures = audit(rig, application_id, seen, rig.standin.ledger())
    before = waits([it for it in seen if it.ended_s < began_s])
    during = waits([it for it in seen if began_s <= it.began_s < ended_s])
    print(f"{how}: {figures}")
    print(f"median {before[0]:.1f} -> {during[0]:.1f} ms, p99 {before[1]:.0f} -> {during[1]:.0f}")
    assert [it.status for it in seen] == [200] * len(seen)
    assert set(figures.rows) == {"ok"}
    assert during[0] < 2 * before[0] + 10
    assert during[1] < 2 * before[1] + 300  # at worst one question that is not answered


def waits(seen: list[Seen]) -> tuple[float, float]:
    """(median, 99th percentile) of how long calls took, ms."""
    values = sorted(it.waited_s * 1000 for it in seen)
    return statistics.median(values), values[len(values) * 99 // 100]
