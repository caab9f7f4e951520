"""Limits with rates of their own, while processes die: each is charged its own floor or ceiling."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.audit import audit
from tests.chaos.load import Seen, Target
from tests.chaos.rig import LIMITS, SHORT, Rig, server_pids, signal_all
from tests.chaos.test_redis_away import some

KINDS = {
    "open": LIMITS["open"],
    "dear": LIMITS["open"] | {"max": 1},
    "cap": LIMITS["hard"],
    "dearcap": LIMITS["hard"],
}
TIMES = {"dear": 2, "dearcap": 3}
"""What limits are charged, in calls' costs; the others once."""


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """A service whose stores outlive it, with short-lived holds."""
    with Rig(tmp_path, outlive=True, **SHORT) as rig:
        yield rig


def tenant(rig: Rig) -> tuple[str, Target]:
    """An application whose limits have these rates, and calls in its name."""
    application_id, target = rig.tenant(**KINDS)
    for limit_id, factor in TIMES.items():
        body = {"rates": [{"match": "*", "multiplier": str(factor)}]}
        whose: dict[str, Any] = {"application": application_id, "limit": limit_id}
        rig.service.manage("PUT", "prices/own", body, **whose)
    return application_id, target


def begun(target: Target, **told: Any) -> tuple[threading.Thread, list[Seen]]:
    """A call that is under way, and what its client will have seen."""
    seen: list[Seen] = []
    thread = threading.Thread(
        target=lambda: seen.extend(asyncio.run(some(target, "running", 1, **told)))
    )
    thread.start()
    return thread, seen


def test_a_worker_dies(rig: Rig) -> None:
    """Hard caps are charged their own ceiling, others their own floor, as heartbeats left it."""
    application_id, target = tenant(rig)
    running, seen = begun(target, chunk_delay_ms=500, chunks=60)
    time.sleep(3)
    rig.kill()
    running.join()
    rig.start()
    rig.quiet()
    figures = audit(rig, application_id, seen, rig.standin.ledger())
    floor, dear, ceiling, dearcap = (rig.spent(application_id, it) for it in KINDS)
    assert figures.rows == {"unresolved": 1}
    assert figures.cost_pico == floor > 0
    assert ceiling > floor
    assert (dear, dearcap) == (2 * floor, 3 * ceiling)


def test_redis_is_away_at_the_end_of_a_call(rig: Rig) -> None:
    """The journal knows what each limit is charged, and replays it once."""
    application_id, target = tenant(rig)
    before = asyncio.run(some(target, "before", 1))
    running, seen = begun(target, delay_ms=1_500)
    time.sleep(0.7)
    pids = server_pids(rig.server("Valkey"))
    signal_all(pids, signal.SIGSTOP)
    running.join()
    signal_all(pids, signal.SIGCONT)
    rig.quiet()
    figures = audit(rig, application_id, before + seen, rig.standin.ledger())
    assert (seen[0].result or {}).get("warnings"), "it was told its cost without Redis"
    assert figures.rows == {"ok": 2}
    spent = {it: rig.spent(application_id, it) for it in KINDS}
    assert spent == {it: TIMES.get(it, 1) * figures.cost_pico for it in KINDS}
