"""Clients that leave, at every point of a call: what was used is billed, nothing waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx
import pytest

from tests.proxy.rig import (
    ASK,
    CHAT,
    COST_PICO,
    STREAM,
    STREAMED,
    Client,
    Pieces,
    Rig,
    answer,
    chunk,
    completion,
    until,
)

EVENTS = "text/event-stream"


async def leaving(rig: Rig, client: Client) -> None:
    """Serve a client that leaves once it has read something, and its call to its end."""
    serving = asyncio.create_task(rig.serve(client))
    await until(lambda: bool(client.body))
    client.leave()
    async with asyncio.timeout(5):
        await serving
    assert rig.flow.running == 0
    assert rig.ledger.live == 0


async def test_drained_streams_are_billed_exactly(rig: Rig) -> None:
    """The provider is read to its end for a client that is gone: the usage it states is charged."""
    rest = asyncio.Event()
    body = Pieces(STREAM[0], rest, *STREAM[1:])
    rig.answer = answer(body, content_type=EVENTS)
    client = Client(CHAT, STREAMED)
    client.on_left = rest.set
    await leaving(rig, client)

    row = await rig.row(client)
    assert client.body == STREAM[0]
    assert (row.status, row.estimated, row.cost_pico) == ("ok", False, COST_PICO)
    assert (body.given, body.closed) == (len(STREAM), True)


@pytest.mark.parametrize("policy", ["cancel", "CANCEL"])
async def test_cancelled_streams_are_closed_and_estimated(rig: Rig, policy: str) -> None:
    """`xProxy-On-Disconnect: cancel` closes the provider at once; delivered output is counted."""
    body = Pieces(chunk("Hello, "), chunk("world"), asyncio.Event())
    rig.answer = answer(body, content_type=EVENTS)
    client = Client(CHAT, STREAMED, headers=[("xProxy-On-Disconnect", policy)])
    await leaving(rig, client)

    row = await rig.row(client)
    assert body.closed
    assert (row.status, row.estimated, row.units["output_text"]) == ("ok", True, 3)


@pytest.mark.parametrize("settings", [{"drain_s": 0}, {"drain_tokens": 40}])
async def test_draining_is_bounded(make_rig: Callable[..., Rig], settings: dict[str, int]) -> None:
    """In time and in tokens: an endless stream is closed, and what was said is estimated."""
    rig = make_rig(**settings)
    endless = [chunk("word ") for _ in range(5_000)]
    body = Pieces(*endless, asyncio.Event())
    rig.answer = answer(body, content_type=EVENTS)
    client = Client(CHAT, STREAMED)
    serving = asyncio.create_task(rig.serve(client))
    await until(lambda: body.given > 100)
    client.leave()
    async with asyncio.timeout(5):
        await serving

    row = await rig.row(client)
    assert body.closed
    assert body.given < len(endless)
    assert (row.status, row.estimated) == ("ok", True)
    assert row.units["output_text"] > 100


async def test_a_slow_client_slows_its_provider_and_loses_nothing(rig: Rig) -> None:
    """While it takes nothing the provider is not read; then it gets every byte, in order."""
    pieces = [chunk(f"{n} " + "x" * 1_000) for n in range(1_000)]
    body = Pieces(*pieces, *STREAM)
    rig.answer = answer(body, content_type=EVENTS)
    client = Client(CHAT, STREAMED, headers=[("xProxy-Result", "off")])
    serving = asyncio.create_task(rig.call(client))
    await until(lambda: body.given > 100)
    client.stop_reading()
    given = body.given
    await asyncio.sleep(0.05)
    assert body.given <= given + 1
    client.read_on()
    await serving

    assert client.body == b"".join((*pieces, *STREAM[:3], STREAM[4]))
    assert client.complete
    assert (await rig.row(client)).cost_pico == COST_PICO


async def test_gone_before_the_answer(rig: Rig) -> None:
    """The provider works on, and is paid: so is the call."""
    body = Pieces(completion())
    client = Client()

    async def late(_: httpx.Request) -> httpx.Response:
        client.leave()
        await asyncio.sleep(0.05)
        return answer(body)

    rig.answer = late
    await rig.call(client)

    [row] = await rig.rows()
    assert row.cost_pico == COST_PICO


@pytest.mark.parametrize("parts", [[], [b""], [b'{"model":'], [b"{", b'"model"']])
async def test_gone_before_its_body_was_whole(rig: Rig, parts: list[bytes]) -> None:
    """There is no call: nothing is held, sent, or answered."""
    client = await rig.call(Client(parts=parts))

    assert (client.status, rig.requests, rig.ledger.live) == (None, [], 0)


async def test_many_departures_leave_nothing_behind(rig: Rig) -> None:
    """After a hundred of them no hold, no pump and no connection is left, and all are charged."""
    bodies = []

    async def stream(_: httpx.Request) -> httpx.Response:
        bodies.append(Pieces(*STREAM))
        return answer(bodies[-1], content_type=EVENTS)

    rig.answer = stream
    clients = [Client(CHAT, ASK | {"stream": n % 3 > 0}) for n in range(100)]
    served = asyncio.gather(*(rig.serve(it) for it in clients))
    await asyncio.sleep(0)
    for number, client in enumerate(clients):
        if number % 2:
            client.leave()
    await served

    rows = await rig.rows()
    assert [row.cost_pico for row in rows] == [COST_PICO] * len(clients)
    assert all(it.closed for it in bodies)
    assert (rig.flow.running, rig.ledger.live) == (0, 0)
