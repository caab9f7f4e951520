"""An exchange: how answers are framed, what waits for a slow client, what a gone one is told."""

from __future__ import annotations

import asyncio

import pytest

from metering.proxy.exchange import Exchange
from tests.proxy.rig import Client

PLAIN = [(b"content-type", b"text/plain")]
CHUNKS = b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"


async def soon() -> None:
    """Let everything that can run, run."""
    for _ in range(5):
        await asyncio.sleep(0)


def begun(client: Client, **attributes: bool) -> Exchange:
    """The exchange of a client whose head has come, with these attributes."""
    exchange = client.head()
    for name, value in attributes.items():
        setattr(exchange, name, value)
    return exchange


@pytest.mark.parametrize(
    ("method", "status", "headers", "attributes", "wire"),
    [
        ("GET", 200, PLAIN, {}, b"transfer-encoding: chunked\r\n\r\n" + CHUNKS),
        ("GET", 200, [(b"content-length", b"5")], {}, b"content-length: 5\r\n\r\nabcde"),
        ("GET", 200, PLAIN, {"http_10": True}, b"connection: close\r\n\r\nabcde"),
        ("GET", 200, PLAIN, {"keep_alive": False}, b"connection: close\r\ntransfer-"),
        ("HEAD", 200, [(b"content-length", b"5")], {}, b"content-length: 5\r\n\r\n"),
        ("HEAD", 200, PLAIN, {}, b"text/plain\r\n\r\n"),
        ("GET", 204, PLAIN, {}, b"text/plain\r\n\r\n"),
        ("GET", 304, PLAIN, {}, b"text/plain\r\n\r\n"),
        # more than was announced would be taken for the next answer
        ("GET", 200, [(b"content-length", b"4")], {}, b"content-length: 4\r\n\r\nabcd"),
    ],
)  # fmt: skip
async def test_how_an_answer_in_pieces_is_framed(
    method: str,
    status: int,
    headers: list[tuple[bytes, bytes]],
    attributes: dict[str, bool],
    wire: bytes,
) -> None:
    """By its length where that is known, else in chunks, else by the connection's end."""
    client = Client(method=method)
    exchange = begun(client, **attributes)
    exchange.start(status, headers)
    for piece in (b"abc", b"", b"de"):
        await exchange.piece(piece)
    exchange.finish(broken=False)

    assert wire in client.received
    assert client.received.endswith((CHUNKS, b"\r\n\r\n", b"abcde", b"\r\nabcd"))
    assert client.closed is bool(attributes)


@pytest.mark.parametrize("headers", [PLAIN, [(b"content-length", b"9")]])
async def test_a_cut_answer_ends_the_connection(headers: list[tuple[bytes, bytes]]) -> None:
    """Without the last chunk, or short of its length: no client takes it for the whole."""
    client = Client()
    exchange = begun(client)
    exchange.start(200, headers)
    await exchange.piece(b"abc")
    exchange.finish(broken=True)

    assert (client.closed, client.complete, exchange.keep_alive) == (True, False, False)


async def test_an_answer_that_falls_short_is_cut() -> None:
    """Fewer bytes than were announced: the connection cannot be used for another answer."""
    client = Client()
    exchange = begun(client)
    exchange.start(200, [(b"content-length", b"9")])
    await exchange.piece(b"abc")
    exchange.finish(broken=False)

    assert (client.closed, exchange.broken) == (True, True)


async def test_a_client_that_reads_slowly_makes_the_provider_wait() -> None:
    """While too much waits for it the next bytes wait; then they come, in order."""
    client = Client()
    exchange = begun(client)
    exchange.start(200, PLAIN)
    await exchange.piece(b"abc")
    client.stop_reading()
    waiting = asyncio.create_task(exchange.piece(b"de"))
    await soon()
    assert not waiting.done()

    client.read_on()
    await waiting
    assert client.body == b"abcde"


async def test_a_client_that_left_stops_nobody() -> None:
    """Its leaving frees who waits for room; from then on bytes are taken and forgotten."""
    client, told = Client(), []
    exchange = begun(client)
    exchange.on_gone = lambda: told.append(True)
    exchange.start(200, PLAIN)
    client.stop_reading()
    waiting = asyncio.create_task(exchange.piece(b"de"))
    await soon()
    client.leave()
    exchange.lost()
    await waiting
    await exchange.piece(b"more")
    exchange.finish(broken=False)

    assert (exchange.gone, told, client.body) == (True, [True], b"")


async def test_who_left_before_the_answer_gets_none() -> None:
    """Nothing is written to a connection that has ended."""
    client = Client()
    exchange = begun(client)
    client.leave()
    exchange.respond(200, PLAIN, b"abc")

    assert (client.received, exchange.response_complete) == (b"", True)


@pytest.mark.parametrize("broken", [False, True])
async def test_leaving_after_the_end_tells_nobody(*, broken: bool) -> None:
    """A client that leaves once all was said is not a client that left; a cut stays a cut."""
    client, told = Client(), []
    exchange = begun(client)
    exchange.on_gone = lambda: told.append(True)
    exchange.start(200, PLAIN)
    exchange.finish(broken=broken)
    exchange.finish(broken=False)
    client.leave()

    assert (told, exchange.broken) == ([], broken)


async def test_a_client_that_takes_nothing_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not waited for for ever; should it read again, it sees a cut."""
    monkeypatch.setattr("metering.proxy.exchange.READS_WITHIN_S", 0.01)
    client, told = Client(), []
    exchange = begun(client)
    exchange.on_gone = lambda: told.append(True)
    exchange.start(200, PLAIN)
    client.stop_reading()
    await exchange.piece(b"more")
    exchange.finish(broken=False)

    assert (exchange.gone, exchange.broken, told) == (True, True, [True])
    assert (client.closed, client.complete) == (True, False)


async def test_a_client_that_asks_is_told_to_go_on() -> None:
    """`Expect: 100-continue` is answered once somebody wants the body, and not before."""
    client = Client()
    exchange = begun(client)
    exchange.expect()
    reading = asyncio.create_task(exchange.body(100, 5))
    await soon()
    assert client.received == b"HTTP/1.1 100 Continue\r\n\r\n"

    exchange.feed(b"{}")
    exchange.end_of_request()
    assert await reading == b"{}"


async def test_an_early_answer_to_one_that_asks_ends_the_connection() -> None:
    """Nobody knows whether the body comes now: it must not be read as the next request."""
    client = Client()
    exchange = begun(client)
    exchange.expect()
    exchange.respond(401, PLAIN, b"no")

    assert client.closed
    assert b"connection: close\r\n" in client.received


async def test_a_body_nobody_asked_for_is_not_taken_whole() -> None:
    """Until its call is known to be allowed, only a little of it is let in."""
    client = Client()
    exchange = begun(client)
    for _ in range(3):
        exchange.feed(b"x" * 40_000)
    before = client.reading

    reading = asyncio.create_task(exchange.body(200_000, 5))
    await soon()
    assert (before, client.reading) == (False, True)
    exchange.end_of_request()
    assert len(await reading) == 120_000
