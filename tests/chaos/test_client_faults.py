"""Clients that leave at every byte, read slowly, or come and go at random: the books stay exact."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import time
from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlsplit

import pytest

from tests.chaos.audit import Figures, audit, records_of
from tests.chaos.load import (
    CHAT,
    FORMS,
    HEALTHY,
    KINDS,
    MESSAGES,
    RESPONSES,
    Form,
    Seen,
    Target,
    raw,
    twelve,
)
from tests.chaos.rig import PATIENT, Rig, descriptors, resident_kb, until

POINTS = 40
AT_ONCE = 100
STREAMED = (CHAT, MESSAGES, RESPONSES)
ANSWER_MB = 8
"""How large an answer is whose reader is slow: more than sockets take by themselves."""
READER_KB_MAX = 1_024
"""How much of it the service may keep for one reader: an eighth."""
STILL_S = 1
"""So long nothing has moved before all readers are thought to wait."""
SLACK_KB = 48 * 1024


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """One service; each test has an application of its own."""
    with Rig(tmp_path_factory.mktemp("clients"), outlive=False, **PATIENT) as rig:
        yield rig


@pytest.fixture(autouse=True)
def books(rig: Rig) -> None:
    """Empty ones."""
    rig.standin.wait_idle()
    rig.standin.reset()


@contextlib.asynccontextmanager
async def connection(
    target: Target, *, slow: bool = False
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to the service, which ends with a reset when the block does.

    `slow`: with small buffers, and segments as on a real network: over loopback's own, the
    kernel would take megabytes for a client that takes nothing.
    """
    place = urlsplit(target.url)
    sock = socket.socket()
    sock.settimeout(0)
    if slow:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1400)
    await asyncio.get_running_loop().sock_connect(sock, (place.hostname, place.port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=16 * 1024)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def read_whole(reader: asyncio.StreamReader) -> bytes:
    """The body of an answer that comes in chunks, read to the last; of a large one its end."""
    await reader.readuntil(b"\r\n\r\n")
    kept = b""
    while size := int(await reader.readline(), 16):
        kept = (kept + await reader.readexactly(size))[-64 * 1024 :]
        await reader.readexactly(2)
    return kept


def check_after(rig: Rig, target: Target, application_id: str, seen: list[Seen]) -> Figures:
    """The service is as ever: twelve of twelve, nothing held, and all books agree."""
    rig.quiet()
    well = asyncio.run(twelve(target, "after"))
    rig.quiet()
    assert [it.status for it in well] == [200] * HEALTHY
    assert all(it.whole and it.cost_pico for it in well)
    assert not rig.look()
    entries = rig.standin.ledger()
    figures = audit(rig, application_id, [*seen, *well], entries, estimates=True)
    for row in records_of(rig, application_id):
        (tag,) = json.loads(row["tags"])
        assert row["status"] == "ok", f"{tag}: {row['http_status']} {row['error_code']}"
        if row["estimated"]:
            assert "cancel" in tag, f"{tag}: estimated, though it was to be read to its end"
            assert row["cost_pico"] > 0, tag
    return figures


# Leaving at a byte


async def leave_at(target: Target, tag: str, form: Form, at_byte: int, *, cancel: bool) -> Seen:
    """Read so many bytes of a stream's body, and go: every other time properly."""
    told = {"chunks": 12, "chunk_delay_ms": 2, "text": "word " * 60}
    async with connection(target) as (reader, writer):
        writer.write(raw(target, tag, told, form, stream=True, cancel=cancel))
        await reader.readuntil(b"\r\n\r\n")
        with contextlib.suppress(asyncio.IncompleteReadError):  # it was shorter
            await reader.readexactly(at_byte)
        if at_byte % 2:
            writer.close()
            await writer.wait_closed()
    return Seen(tag, streamed=True, began_s=time.monotonic())


async def leave_everywhere(target: Target, repeats: int) -> list[Seen]:
    """At forty bytes of every stream, so many times; every other call is cancelled, not drained."""
    gate = asyncio.Semaphore(25)

    async def one(form: Form, point: int, number: int) -> Seen:
        cancel = bool(number % 2)
        policy = "cancel" if cancel else "drain"
        size = sizes[form.name]
        async with gate:
            tag = f"{policy}-{form.name}-{point}-{number}"
            return await leave_at(target, tag, form, size * point // POINTS, cancel=cancel)

    sizes = {}
    for form in STREAMED:
        async with connection(target) as (reader, writer):
            told = {"chunks": 12, "text": "word " * 60}
            writer.write(raw(target, f"drain-{form.name}-whole", told, form, stream=True))
            sizes[form.name] = len(await read_whole(reader))
    calls = [
        one(form, point, number)
        for point in range(POINTS)
        for number in range(repeats)
        for form in STREAMED
    ]
    whole = [Seen(f"drain-{form.name}-whole", streamed=True, began_s=0) for form in STREAMED]
    return whole + list(await asyncio.gather(*calls))


@pytest.mark.timeout(1200)
def test_leaving_at_any_byte_is_billed(rig: Rig, full: bool) -> None:  # noqa: FBT001
    """Drained, the row is the provider's bill; cancelled, it is, or says that it is estimated."""
    application_id, target = rig.tenant()
    began_s = time.monotonic()

    seen = asyncio.run(leave_everywhere(target, 50 if full else 2))

    figures = check_after(rig, target, application_id, seen)
    print(f"\n{len(seen)} left in {time.monotonic() - began_s:.0f} s: {figures}")
    assert figures.estimated > len(seen) // 4, "most left too late"
    cut = {entry.tag or "" for entry in rig.standin.ledger() if not entry.complete}
    assert all("cancel" in tag for tag in cut), "a stream that was to be drained was not"


# Reading slowly


async def read_slowly(target: Target, tag: str, form: Form, go_on: asyncio.Event) -> Seen:
    """Ask for a large stream, take nothing of it for a while, then all."""
    told = {"filler_bytes": ANSWER_MB << 20, "chunks": 3}
    seen = Seen(tag, streamed=True, began_s=time.monotonic())
    async with connection(target, slow=True) as (reader, writer):
        writer.write(raw(target, tag, told, form, stream=True))
        await go_on.wait()
        body = await read_whole(reader)
    seen.whole = body.count(b'"xproxy_result"') == 1
    seen.ended_s = time.monotonic()
    return seen


async def slow_readers(rig: Rig, target: Target, name: str, count: int) -> tuple[list[Seen], int]:
    """So many of them at once; and the memory of the worker while they wait, in kB.

    The kernel may take all of an answer on a connection that has been used before; of few.
    """
    go_on = asyncio.Event()
    calls = [
        asyncio.create_task(read_slowly(target, f"{name}-{n}", STREAMED[n % 3], go_on))
        for n in range(count)
    ]
    before_kb, still_s = 0, time.monotonic()
    while time.monotonic() - still_s < STILL_S:
        await asyncio.sleep(0.1)
        now_kb = resident_kb(rig.worker)
        if abs(now_kb - before_kb) > 1024 or await in_flight(rig) < count * 9 // 10:
            before_kb, still_s = now_kb, time.monotonic()
    go_on.set()
    return list(await asyncio.gather(*calls)), now_kb


async def in_flight(rig: Rig) -> int:
    """How many calls the provider is answering."""
    stats = await asyncio.to_thread(rig.standin.stats)
    return int(stats["in_flight"])


@pytest.mark.timeout(300)
def test_slow_readers_make_the_provider_wait(rig: Rig, full: bool) -> None:  # noqa: FBT001
    """However large their answers, each takes a bounded part of memory, and gets all in the end.

    What they took is used again: as many more readers take no more.
    """
    application_id, target = rig.tenant()
    count = 500 if full else 30
    seen = asyncio.run(twelve(target, "before"))
    kb = [resident_kb(rig.worker)]
    for name in ("slow", "again"):
        its, waiting_kb = asyncio.run(slow_readers(rig, target, name, count))
        assert all(it.whole for it in its)
        seen += its
        kb += [waiting_kb, resident_kb(rig.worker)]
    figures = check_after(rig, target, application_id, seen)
    print(f"\n{count} readers of {ANSWER_MB} MB, twice: {kb} kB before, waiting, after: {figures}")
    assert kb[1] - kb[0] < count * READER_KB_MAX + SLACK_KB
    assert max(kb) - kb[0] < 2 * count * READER_KB_MAX + SLACK_KB
    assert kb[4] - kb[2] < (kb[2] - kb[0]) // 2 + SLACK_KB, "memory that is not used again"


# Coming and going


async def come_and_go(target: Target, tag: str, rng: random.Random) -> Seen:
    """Connect, send, and leave at some point of it."""
    form, stream = rng.choice(KINDS)
    told = {"delay_ms": rng.choice([0, 0, 10]), "chunk_delay_ms": rng.choice([0, 1, 4])}
    request = raw(target, tag, told, form, stream=stream, cancel="cancel" in tag)
    moment = rng.choice(["connected", "asking", "asked", "waiting", "answered", "answered"])
    async with connection(target) as (reader, writer):
        if moment == "asking":
            request = request[: rng.randrange(1, len(request))]
        if moment != "connected":
            writer.write(request)
        with contextlib.suppress(asyncio.IncompleteReadError):
            if moment == "waiting":
                await asyncio.sleep(rng.random() * 0.03)
            elif moment == "answered":
                await reader.readexactly(rng.randrange(1, 4_000))
        if rng.random() < 0.5:
            writer.close()
    return Seen(tag, stream, time.monotonic())


async def churn(target: Target, count: int, seed: int) -> list[Seen]:
    """So many, a hundred at the same time."""
    rng, gate = random.Random(seed), asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> Seen:
        how = "cancel" if number % 2 else "drain"
        async with gate:
            return await come_and_go(target, f"{how}-{number}", random.Random(rng.getrandbits(64)))

    return list(await asyncio.gather(*(one(number) for number in range(count))))


@pytest.mark.timeout(1200)
def test_coming_and_going_leaves_nothing(rig: Rig, seed: int, full: bool) -> None:  # noqa: FBT001
    """No slot, no hold, no descriptor is lost, however many leave at whatever moment."""
    application_id, target = rig.tenant()
    before = asyncio.run(twelve(target, "before"))
    rig.quiet()
    open_before, kb_before = descriptors(rig.worker), resident_kb(rig.worker)
    count, began_s = 7_500 if full else 500, time.monotonic()

    seen = asyncio.run(churn(target, count, seed))

    took_s = time.monotonic() - began_s
    figures = check_after(rig, target, application_id, before + seen)
    until(lambda: descriptors(rig.worker) <= open_before + AT_ONCE + HEALTHY, 20)
    grown_kb = resident_kb(rig.worker) - kb_before
    print(f"\n{count} came and went in {took_s:.0f} s: {grown_kb:+} kB, {figures}")
    entries = rig.standin.ledger()
    assert len({entry.path for entry in entries}) == len(FORMS)
    assert count // 4 < len(entries) < len(before + seen) + HEALTHY
    assert grown_kb < SLACK_KB
