"""A worker that sleeps for longer than its holds live: given up first, put right when it wakes."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from pathlib import Path

import httpx
import pytest

from tests.chaos.audit import audit
from tests.chaos.load import CHAT, MESSAGES, Seen, Target, call
from tests.chaos.rig import SHORT, Rig, descriptors, until


async def burst(target: Target, count: int, delay_ms: int) -> list[Seen]:
    """Calls at once, whose answers take a while."""
    async with httpx.AsyncClient(timeout=120, trust_env=False) as client:
        told = {"delay_ms": delay_ms, "chunks": 3}
        calls = (
            call(client, target, f"n{n}", told, CHAT if n % 3 else MESSAGES, stream=n % 2 == 0)
            for n in range(count)
        )
        return list(await asyncio.gather(*calls))


@pytest.mark.timeout(300)
def test_a_worker_is_paused_for_longer_than_its_holds_live(
    tmp_path: Path,
    full: bool,  # noqa: FBT001
) -> None:
    """Its calls are `unresolved` at first; a `late` correction each makes every sum exact."""
    settings = {} if full else SHORT
    with Rig(tmp_path, outlive=True, XPROXY_WORKERS="2", **settings) as rig:
        application_id, target = rig.tenant()
        seen: list[Seen] = []
        life_s = rig.ttl_ms / 1000
        load = threading.Thread(
            target=lambda: seen.extend(asyncio.run(burst(target, 16, int(life_s * 500))))
        )
        load.start()
        time.sleep(0.5 + life_s / 5)
        pid = max(rig.processes("worker"), key=descriptors)  # the one that has calls under way
        os.kill(pid, signal.SIGSTOP)
        try:
            until(lambda: unresolved(rig), life_s + 15)
            time.sleep(life_s / 2)
        finally:
            os.kill(pid, signal.SIGCONT)
        load.join()
        rig.quiet()

        figures = audit(rig, application_id, seen, rig.standin.ledger())
        print(figures)
        assert [it.status for it in seen] == [200] * len(seen)
        assert figures.rows["unresolved"] == figures.late > 0
        assert figures.cost_pico == sum(it.cost_pico or 0 for it in rig.standin.ledger())


def unresolved(rig: Rig) -> int:
    """How many calls were given up."""
    found: int = rig.query("SELECT count(*) FROM usage WHERE status = 'unresolved'")[0][0]
    return found
