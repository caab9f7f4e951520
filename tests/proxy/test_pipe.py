"""The pipe: bounded for a client that reads, bottomless for one that has gone."""

from __future__ import annotations

import asyncio

import pytest

from metering.proxy.pipe import BYTES_MAX, Pipe


async def soon() -> None:
    """Let everything that can run, run."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_what_waits_is_taken_at_once_in_order() -> None:
    """A reader gets all there is, as one piece; then None, for ever."""
    pipe = Pipe()
    for piece in (b"a", b"", b"b", b"c"):
        await pipe.put(piece)
    pipe.close()

    assert [await pipe.get(), await pipe.get(), await pipe.get()] == [b"abc", None, None]
    assert not pipe.broken


async def test_a_full_pipe_makes_the_provider_wait() -> None:
    """Once a full buffer waits for the client, the next bytes wait until it has read."""
    pipe = Pipe()
    await pipe.put(b"x" * BYTES_MAX)
    waiting = asyncio.create_task(pipe.put(b"more"))
    await soon()
    assert not waiting.done()

    assert await pipe.get() == b"x" * BYTES_MAX
    await waiting
    assert await pipe.get() == b"more"


async def test_one_piece_may_be_larger_than_the_buffer() -> None:
    """What is there when there is room is taken whole: a piece is never cut."""
    pipe = Pipe()
    await pipe.put(b"x" * (3 * BYTES_MAX))

    assert await pipe.get() == b"x" * (3 * BYTES_MAX)


async def test_a_client_that_left_stops_nobody() -> None:
    """Its leaving frees a pump that waits for room; from then on bytes are taken and forgotten."""
    pipe, told = Pipe(), []
    pipe.on_gone = lambda: told.append(True)
    await pipe.put(b"x" * BYTES_MAX)
    waiting = asyncio.create_task(pipe.put(b"more"))
    await soon()

    pipe.leave()
    pipe.leave()
    await waiting
    for _ in range(10):
        await pipe.put(b"x" * BYTES_MAX)

    assert (pipe.gone, told) == (True, [True])
    assert await pipe.get() is None


async def test_a_waiting_reader_is_woken() -> None:
    """By bytes, by the end, and by the client's leaving."""
    for act in (Pipe.close, Pipe.leave):
        pipe = Pipe()
        reading = asyncio.create_task(pipe.get())
        await soon()
        act(pipe)
        assert await reading is None
    pipe = Pipe()
    reading = asyncio.create_task(pipe.get())
    await soon()
    await pipe.put(b"a")
    assert await reading == b"a"


@pytest.mark.parametrize("broken", [False, True])
async def test_leaving_after_the_end_tells_nobody(*, broken: bool) -> None:
    """A client that leaves once all was said is not a client that left; a cut stays a cut."""
    pipe, told = Pipe(), []
    pipe.on_gone = lambda: told.append(True)
    pipe.close(broken=broken)
    pipe.close()
    pipe.leave()

    assert (told, pipe.broken) == ([], broken)


async def test_a_client_that_takes_nothing_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full pipe is not waited for for ever; should the client read again, it sees a cut."""
    monkeypatch.setattr("metering.proxy.pipe.READS_WITHIN_S", 0.01)
    pipe = Pipe()
    await pipe.put(b"x" * BYTES_MAX)
    await pipe.put(b"more")

    assert (pipe.gone, pipe.broken) == (True, True)
    assert await pipe.get() is None
