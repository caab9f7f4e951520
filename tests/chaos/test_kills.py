"""`kill -9` of the proxy under load: what was settled has one row, the rest is unresolved."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.chaos.audit import audit
from tests.chaos.load import Load
from tests.chaos.rig import REAPED_S, SHORT, Rig


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("stores", ["outlive", "embedded"])
def test_kill_9_under_load(tmp_path: Path, seed: int, full: bool, stores: str) -> None:  # noqa: FBT001
    """Every call has one row, every settled one its cost; no hold outlives its worker by 35 s.

    Stores that outlive the proxy, and such as die with it; all of the proxy killed, or one process.
    """
    rng = random.Random(seed)
    kills = 100 if full else 2
    with Rig(tmp_path, outlive=stores == "outlive", **({} if full else SHORT)) as rig:
        application_id, target = rig.tenant()
        load = Load(target, seed=seed, clients=16).start()
        for number in range(kills):
            rig.watch(rng.uniform(2.0, 4.0))
            if number % 3 == 1:
                rig.kill_one(rng.choice(["worker", "keeper"]))
            else:
                rig.kill()
                rig.watch(rng.choice([0.0, 0.0, 2.0]))
                rig.start()
        rig.watch(1)
        seen = load.stop()
        rig.quiet(REAPED_S + 15)
        figures = audit(rig, application_id, seen, rig.standin.ledger())
        print(f"{kills} kills, {stores}: {figures}, oldest hold {rig.oldest_ms} ms")
        assert figures.told > 50 * kills
        if full:
            assert figures.rows.get("unresolved", 0) > 0
            assert rig.oldest_ms < REAPED_S * 1000
        else:
            assert rig.oldest_ms < rig.ttl_ms + 3_000
