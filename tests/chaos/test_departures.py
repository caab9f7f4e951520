"""Clients that leave before their answer is whole: they are billed, and leave nothing behind."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.chaos.audit import audit
from tests.chaos.load import CHAT, MESSAGES, Seen, Target, call, raw
from tests.chaos.rig import Rig, descriptors, resident_kb, until

AT_ONCE = 25
HEALTHY = 100


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """One service; each test has an application of its own."""
    with Rig(tmp_path_factory.mktemp("departures"), outlive=False) as rig:
        yield rig


@pytest.fixture(autouse=True)
def books(rig: Rig) -> None:
    """Empty ones."""
    rig.standin.wait_idle()
    rig.standin.reset()


async def leave(target: Target, tag: str, rng: random.Random, told: dict[str, Any]) -> Seen:
    """Begin a call and go away after some bytes of the answer, or before there is one."""
    form, stream = rng.choice((CHAT, MESSAGES)), rng.random() < 0.8
    place = urlsplit(target.url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    writer.write(raw(target, tag, told, form, stream=stream, cancel=tag.startswith("cancel")))
    if stream and rng.random() < 0.9:
        await reader.readuntil(b"data:")
        await asyncio.sleep(rng.random() * 0.1)
    else:
        await writer.drain()
        await asyncio.sleep(0.02)  # or nobody would have read the request
    if rng.random() < 0.5:
        writer.transport.abort()
    writer.close()
    return Seen(tag, stream, time.monotonic())


async def departures(target: Target, count: int, seed: int, how: str) -> list[Seen]:
    """So many of them, some at the same time."""
    rng, gate = random.Random(seed), asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> Seen:
        told = {"chunks": rng.randint(4, 12), "chunk_delay_ms": rng.choice([5, 20, 40])}
        async with gate:
            seen = await leave(target, f"{how}-{number}", rng, told)
            await asyncio.sleep(0.05)
            return seen

    return list(await asyncio.gather(*(one(n) for n in range(count))))


async def healthy(target: Target) -> list[Seen]:
    """The next calls, all at once."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(timeout=20, limits=limits, trust_env=False) as client:
        return list(
            await asyncio.gather(
                *(call(client, target, f"next-{n}", {}, stream=n % 2 == 0) for n in range(HEALTHY))
            )
        )


@pytest.mark.timeout(1200)
def test_who_leaves_is_billed_exactly_and_leaves_nothing(rig: Rig, seed: int, full: bool) -> None:  # noqa: FBT001
    """The stream is read to its end without him; then the next hundred calls are as ever."""
    application_id, target = rig.tenant()
    made = asyncio.run(departures(target, AT_ONCE, seed, "drain"))  # pools and caches are filled
    rig.quiet()
    open_before, kb_before = descriptors(rig.worker), resident_kb(rig.worker)
    count = 2_000 if full else 200

    made += asyncio.run(departures(target, count, seed + 1, "drained"))
    rig.quiet()
    kb_after = resident_kb(rig.worker)
    # Connections to the provider that nobody needs are kept for a quarter of a minute.
    until(lambda: descriptors(rig.worker) <= open_before + 2 * AT_ONCE, 20)
    seen = asyncio.run(healthy(target))
    rig.quiet()

    figures = audit(rig, application_id, made + seen, rig.standin.ledger())
    slowest_s = max(it.waited_s for it in seen)
    print(f"{count} left: {figures}, {kb_after - kb_before:+} kB, slowest {slowest_s:.2f} s")
    assert figures.rows == {"ok": len(made) + len(seen)}
    assert [it.status for it in seen] == [200] * HEALTHY
    assert all(it.cost_pico is not None for it in seen)
    estimated = rig.query(
        "SELECT count(*) FROM usage WHERE application_id = $1 AND estimated", application_id
    )
    assert estimated[0][0] == 0
    assert kb_after - kb_before < 48 * 1024


@pytest.mark.timeout(300)
def test_who_says_so_is_billed_for_what_he_got(rig: Rig, seed: int, full: bool) -> None:  # noqa: FBT001
    """With `xProxy-On-Disconnect: cancel` the provider is left too; the row says `estimated`."""
    application_id, target = rig.tenant()
    count = 300 if full else 60

    made = asyncio.run(departures(target, count, seed, "cancel"))
    rig.quiet()

    rows = {
        json.loads(row["tags"])[0]: row
        for row in rig.query("SELECT * FROM usage WHERE application_id = $1", application_id)
    }
    assert set(rows) == {it.tag for it in made}
    cut = [entry for entry in rig.standin.ledger() if not entry.complete]
    estimated = sum(rows[entry.tag or ""]["estimated"] for entry in cut)
    print(f"{len(cut)} of {count} streams were cancelled, {estimated} of them are estimated")
    # Of some the usage had come, and only the end of the stream had not.
    assert estimated > count // 4
    for entry in cut:
        row = rows[entry.tag or ""]
        assert row["status"] == "ok"
        assert row["cost_pico"] > 0
        assert row["estimated"] or row["output_tokens"] > 0
    assert not rig.look()
