"""Redis frozen, killed, or gone with the proxy: what may go on goes on, and nothing is lost."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.chaos.audit import audit
from tests.chaos.load import CHAT, ROUTES, Load, Seen, Target, call
from tests.chaos.rig import SHORT, Rig, server_pids, signal_all, until

ANSWER_S = 1.5
"""How long a call may take while Redis does not answer, on a busy machine; the deadlines on its
way are a quarter of a second at admission and one at the end."""


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """A service whose stores outlive it, with short-lived holds."""
    with Rig(tmp_path, outlive=True, **SHORT) as rig:
        yield rig


def freeze(rig: Rig, seconds: float) -> Callable[[], None]:
    """Redis is there and says nothing."""
    pids = server_pids(rig.server("Valkey"))
    signal_all(pids, signal.SIGSTOP)

    def thaw() -> None:
        time.sleep(seconds)
        signal_all(pids, signal.SIGCONT)

    return thaw


def kill(rig: Rig, seconds: float) -> Callable[[], None]:
    """Redis is not there."""
    stores = rig.stores
    assert stores is not None
    signal_all(server_pids(rig.server("Valkey")), signal.SIGKILL)

    def again() -> None:
        time.sleep(seconds)
        stores.revive()

    return again


async def some(target: Target, prefix: str, count: int, **told: Any) -> list[Seen]:
    """A few calls, one after the other, alternately streamed, and alternately by either route."""
    async with httpx.AsyncClient(timeout=20, trust_env=False) as client:
        return [
            await call(
                client,
                target,
                f"{prefix}-{n}",
                told,
                CHAT.by(ROUTES[n // 2 % 2]),
                stream=n % 2 == 0,
            )
            for n in range(count)
        ]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("how", [freeze, kill])
def test_redis_is_away_for_a_while(rig: Rig, seed: int, full: bool, how: Any) -> None:  # noqa: FBT001
    """Calls that nothing can refuse pass and are replayed once; blocking limits refuse, soon."""
    application_id, everything = rig.tenant()
    free = Target(url=everything.url, key=everything.key)
    watched = Target(url=everything.url, key=everything.key, limits=("open", "words"))
    bound = Target(url=everything.url, key=everything.key, limits=("open", "wide"))
    load = Load(watched, seed=seed, clients=4).start()
    outages: list[list[Seen]] = []
    for number in range(5 if full else 1):
        seconds = 12 if full and number % 2 else 5  # longer and shorter than a hold lives
        time.sleep(0.5)
        came_back = how(rig, 0)
        began_s = time.monotonic()
        passed = asyncio.run(some(free, f"free-{number}", 4))
        passed += asyncio.run(some(watched, f"watched-{number}", 4))
        refused = asyncio.run(some(bound, f"bound-{number}", 6))
        time.sleep(max(0.0, began_s + seconds - time.monotonic()))
        came_back()
        check_away(passed, refused)
        outages += [passed, refused]
        until(
            lambda: asyncio.run(some(bound, f"back-{time.monotonic_ns()}", 1))[0].status == 200, 5
        )
    seen = load.stop()
    assert [it.status for it in seen] == [200] * len(seen)
    rig.quiet()
    seen += [one for outage in outages for one in outage]
    back = [entry.tag for entry in rig.standin.ledger() if (entry.tag or "").startswith("back")]
    seen += [Seen(tag or "", streamed=True, began_s=0) for tag in back]
    figures = audit(rig, application_id, seen, rig.standin.ledger())
    late = sum(bool((it.result or {}).get("warnings")) for it in seen)
    slowest_s = max(it.waited_s for it in seen if it.tag[0] in "fwb")
    print(f"{how.__name__}: {figures}, {late} without states, the slowest took {slowest_s:.2f} s")
    assert figures.rows.get("unresolved", 0) == figures.late


def check_away(passed: list[Seen], refused: list[Seen]) -> None:
    """What clients saw while Redis was away."""
    assert [it.status for it in passed] == [200] * len(passed)
    assert all(it.cost_pico is not None for it in passed)
    assert all((it.result or {}).get("warnings") for it in passed)
    assert [it.status for it in refused] == [503] * len(refused)
    assert all(1 <= int(it.headers["retry-after"]) <= 20 for it in refused)
    assert all(it.headers.get("x-should-retry") != "false" for it in refused)
    assert max(it.waited_s for it in passed + refused) < ANSWER_S


def test_the_proxy_dies_while_redis_is_away(rig: Rig) -> None:
    """What it had begun is in its journal; the next process writes the rows, `unresolved`."""
    application_id, everything = rig.tenant()
    watched = Target(url=everything.url, key=everything.key, limits=("open", "words"))
    before = asyncio.run(some(watched, "before", 2))  # so that the limits are known
    came_back = kill(rig, 0)
    ended = asyncio.run(some(watched, "ended", 5))  # settled into the journal
    running: list[Seen] = []
    load = threading.Thread(
        target=lambda: running.extend(asyncio.run(some(watched, "running", 1, delay_ms=3_000)))
    )
    load.start()
    time.sleep(1.5)
    rig.kill()
    load.join()
    came_back()
    rig.start()
    rig.quiet()

    seen = before + ended + running
    figures = audit(rig, application_id, seen, rig.standin.ledger())
    print(figures)
    assert [it.status for it in ended] == [200] * 5
    assert figures.rows == {"ok": 7, "unresolved": 1}
    assert not list((rig.folder / "data" / "spool").glob("*.unreadable"))


def test_a_burst_under_a_hard_cap_while_redis_is_away(rig: Rig) -> None:
    """30 calls at once: none is let through on trust, no provider is asked, nothing is charged."""
    application_id, everything = rig.tenant()
    capped = Target(url=everything.url, key=everything.key, limits=("hard",))
    before = asyncio.run(some(capped, "before", 1))  # so that the limit is known
    came_back = kill(rig, 0)

    async def burst() -> list[Seen]:
        return [
            seen
            for group in await asyncio.gather(*(some(capped, f"away-{n}", 1) for n in range(30)))
            for seen in group
        ]

    refused = asyncio.run(burst())
    came_back()
    assert [it.status for it in refused] == [503] * 30
    assert [it.tag for it in rig.standin.ledger()] == [before[0].tag]
    until(lambda: asyncio.run(some(capped, f"back-{time.monotonic_ns()}", 1))[0].status == 200, 5)
    rig.quiet()
    billed_pico = sum(it.cost_pico or 0 for it in rig.standin.ledger())
    assert rig.spent(application_id, "hard") == billed_pico
