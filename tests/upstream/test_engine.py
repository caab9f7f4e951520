"""The engine against a server that says exactly the bytes it is told, on a real socket."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from metering.errors import (
    ProviderFault,
    ProviderTimeout,
    ProviderUnreachable,
    ProviderUntrusted,
)
from metering.upstream import EngineTransport, Reply, Upstream
from metering.upstream.engine import _address

Say = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Server:
    """A server whose connections all follow one script."""

    def __init__(self, say: Say, tls: ssl.SSLContext | None = None) -> None:
        self._say = say
        self._tls = tls
        self.connections = 0
        self.requests: list[bytes] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"{'https' if self._tls else 'http'}://127.0.0.1:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await self._say(_Recording(reader, self.requests), writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


class _Recording(asyncio.StreamReader):
    """Reads one request at a time and remembers it."""

    def __init__(self, reader: asyncio.StreamReader, requests: list[bytes]) -> None:
        super().__init__()
        self._reader = reader
        self._requests = requests

    async def read(self, n: int = -1) -> bytes:
        head = await self._reader.readuntil(b"\r\n\r\n")
        size = 0
        for line in head.split(b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                size = int(line.split(b":")[1])
        request = head + await self._reader.readexactly(size)
        self._requests.append(request)
        return request


def always(*answers: bytes, pause_s: float = 0.0, close: bool = False) -> Say:
    """Answer every request with the same pieces."""

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.read()
            for piece in answers:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(pause_s)
            if close:
                return

    return say


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    """The engine, with short deadlines."""
    upstream = Upstream(EngineTransport(connect_s=2, idle_s=0.6))
    yield upstream
    await upstream.close()


@pytest.fixture
def tls(tmp_path: Path) -> tuple[ssl.SSLContext, bytes]:
    """A server's context for the name `localhost`, and the root (PEM) that signed it: itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    plain = serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    (tmp_path / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, form, plain))
    (tmp_path / "cert.pem").write_bytes(pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    return context, pem


async def ask(
    upstream: Upstream, url: str, method: str = "POST", body: bytes = b"{}"
) -> tuple[Reply, bytes]:
    """One whole exchange."""
    reply = await upstream.send(method, url, [(b"x-a", b"1")], body)
    data = await read(reply)
    await reply.stream.aclose()
    return reply, data


async def read(reply: Reply) -> bytes:
    """The body to its end."""
    return b"".join(await pieces_of(reply))


async def pieces_of(reply: Reply) -> list[bytes]:
    """The body in the pieces it came in."""
    pieces = []
    while piece := await reply.stream.read():
        pieces.append(piece)
    return pieces


@pytest.mark.parametrize(
    ("pieces", "close", "status", "body", "connections"),
    [
        ([OK], False, 200, b"ok", 1),
        ([CHUNKED + b"2\r\nok\r\n0\r\n\r\n"], False, 200, b"ok", 1),
        ([b"HTTP/1.1 200 OK\r\n\r\nto the end"], True, 200, b"to the end", 2),
        ([b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok"], False, 200, b"ok", 2),
        ([OK.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")], False, 200, b"ok", 2),
        ([b"HTTP/1.1 204 No Content\r\n\r\n"], False, 204, b"", 1),
        ([b"HTTP/1.1 100 Continue\r\n\r\n", OK], False, 200, b"ok", 1),
        ([b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + OK], False, 200, b"ok", 1),
        ([OK[:9], OK[9:30], OK[30:]], False, 200, b"ok", 1),
        ([OK + b"more than was announced"], False, 200, b"ok", 2),
    ],
)  # fmt: skip
async def test_answers_in_every_legal_form(
    upstream: Upstream,
    pieces: list[bytes],
    close: bool,  # noqa: FBT001 - a column of the table
    status: int,
    body: bytes,
    connections: int,
) -> None:
    """Length, chunks or the end of the connection; interim answers are passed over.

    A connection is used again only after an answer that lets it.
    """
    async with Server(always(*pieces, close=close)) as server:
        for _ in range(2):
            reply, data = await ask(upstream, server.url)
            assert (reply.status, data) == (status, body)
            await asyncio.sleep(0.02)
        assert server.connections == connections


async def test_what_is_sent(upstream: Upstream) -> None:
    """Path and query as spelled, headers in order, a length where there is a body."""
    async with Server(always(OK)) as server:
        await ask(upstream, server.url + "/v1/a%2Fb;c?x=%20y&z=?", body=b"abc")
        await ask(upstream, server.url, method="GET", body=b"")

        host = server.url.removeprefix("http://").encode()
        assert server.requests == [
            b"POST /v1/a%2Fb;c?x=%20y&z=? HTTP/1.1\r\nhost: " + host
            + b"\r\nx-a: 1\r\ncontent-length: 3\r\n\r\nabc",
            b"GET / HTTP/1.1\r\nhost: " + host + b"\r\nx-a: 1\r\n\r\n",
        ]  # fmt: skip


async def test_trailers_are_no_headers(upstream: Upstream) -> None:
    """What comes after the body says nothing about it."""
    answer = CHUNKED + b"2\r\nok\r\n0\r\ncontent-encoding: gzip\r\nx: y\r\n\r\n"
    async with Server(always(answer)) as server:
        for _ in range(2):
            reply, data = await ask(upstream, server.url)
            assert data == b"ok"
            assert reply.headers == [(b"transfer-encoding", b"chunked")]
        assert server.connections == 1


async def test_a_head_answer_has_no_body(upstream: Upstream) -> None:
    """The length of a HEAD answer is announced, not sent."""
    async with Server(always(b"HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n")) as server:
        reply, data = await ask(upstream, server.url, method="HEAD", body=b"")
        assert (dict(reply.headers)[b"content-length"], data) == (b"999", b"")


@pytest.mark.parametrize(
    ("pieces", "where"),
    [
        ([b""], "head"),
        ([b"HTTP/1.1 200 OK\r\ncontent-le"], "head"),
        ([b"this is not HTTP\r\n\r\n"], "head"),
        ([b"HTTP/1.1 101 OK\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n" + OK], "head"),
        ([b"HTTP/1.1 200 OK\r\nx: " + b"y" * 300_000], "head"),
        ([b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", b"cut"], "body"),
        ([b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"3\r\ncut\r\n"], "body"),
        ([b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"zz\r\n"], "body"),
    ],
)
async def test_a_broken_answer_is_a_fault_after_sending(
    upstream: Upstream, pieces: list[bytes], where: str
) -> None:
    """The provider may have worked by then: nobody should try again by itself."""
    async with Server(always(*pieces, pause_s=0.02, close=True)) as server:
        if where == "head":
            with pytest.raises(ProviderUnreachable) as caught:
                await upstream.send("POST", server.url, [], b"{}")
        else:
            reply = await upstream.send("POST", server.url, [], b"{}")
            with pytest.raises(ProviderUnreachable) as caught:
                await read(reply)
        assert caught.value.sent
        assert caught.value.should_retry is False


@pytest.mark.parametrize("pieces", [[], [b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhal"]])
async def test_silence_ends_at_the_deadline(upstream: Upstream, pieces: list[bytes]) -> None:
    """Before the head or in the middle of the body."""
    async with Server(always(*pieces, b"", pause_s=30)) as server:
        with pytest.raises(ProviderTimeout) as caught:
            await ask(upstream, server.url)
        assert caught.value.sent


async def test_an_answer_without_end_has_one() -> None:
    """A provider that goes on and on is left when its time in all is over."""
    endless = [b"HTTP/1.1 200 OK\r\n\r\n", *[b"more "] * 300]
    upstream = Upstream(EngineTransport(connect_s=2, idle_s=2, total_s=0.5))
    async with Server(always(*endless, pause_s=0.05)) as server:
        with pytest.raises(ProviderTimeout) as caught:
            await ask(upstream, server.url)
        assert caught.value.sent
    await upstream.close()


async def test_nobody_there(upstream: Upstream) -> None:
    """No connection, no name, no URL: nothing was sent, trying again is safe."""
    async with Server(always(OK)) as server:
        gone = server.url
    for url in (gone, "http://nothing.invalid/x", "http://127.0.0.1:99999/", "ftp://127.0.0.1/"):
        with pytest.raises(ProviderFault) as caught:
            await upstream.send("POST", url, [], b"{}")
        assert not caught.value.sent
        assert caught.value.should_retry


async def test_a_connection_the_provider_closed_is_not_used_again(upstream: Upstream) -> None:
    """An idle connection is looked at first: 20 calls to a server that hangs up after each."""

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.write(OK)
        await asyncio.sleep(0.03)

    async with Server(say) as server:
        for number in range(20):
            _, data = await ask(upstream, server.url)
            assert data == b"ok"
            await asyncio.sleep(0.06 if number % 2 else 0.25)


async def test_a_reader_that_stops_stops_the_provider(upstream: Upstream) -> None:
    """No more than the read-ahead is taken; all of it comes once somebody reads."""
    size = 32 * 1024 * 1024
    written = 0

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await reader.read()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        for _ in range(size // 65536):
            writer.write(b"x" * 65536)
            await writer.drain()
            written += 65536

    async with Server(say) as server:
        reply = await upstream.send("POST", server.url, [], b"{}")
        await asyncio.sleep(0.3)
        assert written < size / 2
        assert sum(map(len, await pieces_of(reply))) == size
        await reply.stream.aclose()


async def test_a_large_request_arrives_whole(upstream: Upstream) -> None:
    """Eight megabytes, and the connection is good for the next call."""
    async with Server(always(OK)) as server:
        await ask(upstream, server.url, body=b"y" * (8 << 20))
        await ask(upstream, server.url)
        assert [len(it) >> 20 for it in server.requests] == [8, 0]
        assert server.connections == 1


async def test_closing_early_closes_the_connection(upstream: Upstream) -> None:
    """What is not read to its end is not used again, and the next call is well."""
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nhalf"
    async with Server(always(answer[:-2], answer[-2:], pause_s=0.1)) as server:
        reply = await upstream.send("POST", server.url, [], b"{}")
        await reply.stream.aclose()
        _, data = await ask(upstream, server.url)
        assert data == b"half"
        assert server.connections == 2


async def test_many_at_once_share_nothing(upstream: Upstream) -> None:
    """A hundred concurrent exchanges each get their own answer."""

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            body = (await reader.read()).rpartition(b"\r\n\r\n")[2]
            await asyncio.sleep(0.005)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))

    async with Server(say) as server:
        bodies = [b"%d" % number for number in range(100)]
        answers = await asyncio.gather(*(ask(upstream, server.url, body=it) for it in bodies))
        assert [data for _, data in answers] == bodies


async def test_tls_checks_the_name_and_the_signer(tls: tuple[ssl.SSLContext, bytes]) -> None:
    """A certificate of a signer we trust, for the name we asked for, and nothing else."""
    serving, root = tls
    trusting = ssl.create_default_context(cadata=root.decode())
    async with Server(always(OK), tls=serving) as server:
        good = Upstream(EngineTransport(connect_s=2, idle_s=2, tls=trusting))
        wary = Upstream(EngineTransport(connect_s=2, idle_s=2))
        named = server.url.replace("127.0.0.1", "localhost")

        assert (await ask(good, named))[1] == b"ok"
        assert (await ask(good, named))[1] == b"ok"
        assert server.connections == 1
        for upstream, url in ((good, server.url), (wary, named)):
            with pytest.raises(ProviderUnreachable) as caught:
                await upstream.send("POST", url, [], b"{}")
            assert not caught.value.sent
        await good.close()
        await wary.close()


ELSEWHERE = "127.9.9.9"
"""A loopback address that nobody listens on."""


async def test_a_chosen_origin_is_reached_by_its_addresses_alone(
    upstream: Upstream,
) -> None:
    """The name is for Host only: who it belongs to now is not asked again."""
    async with Server(always(OK)) as server:
        port = server.url.rpartition(":")[2]
        url = f"http://nobody.invalid:{port}/x"
        for addresses in (("127.0.0.1",), (ELSEWHERE, "127.0.0.1")):
            reply = await upstream.send("POST", url, [], b"{}", addresses)
            assert await read(reply) == b"ok"
            await reply.stream.aclose()
        assert server.requests[0].startswith(
            f"POST /x HTTP/1.1\r\nhost: nobody.invalid:{port}\r\n".encode()
        )
        assert server.connections == 1
        for nowhere in ((), (ELSEWHERE,)):
            with pytest.raises(ProviderFault) as caught:
                await upstream.send("POST", server.url, [], b"{}", nowhere)
            assert not caught.value.sent


async def test_connections_of_chosen_origins_are_kept_apart(upstream: Upstream) -> None:
    """One that was opened for the operator's base URL never serves a caller's, nor the reverse."""
    async with Server(always(OK)) as server:
        for number, addresses in enumerate([None, ("127.0.0.1",)] * 3):
            reply = await upstream.send("POST", server.url, [], b"{}", addresses)
            await read(reply)
            await reply.stream.aclose()
            assert server.connections == min(2, number + 1)


async def test_a_chosen_origin_cannot_reach_what_is_connected_already(upstream: Upstream) -> None:
    """Even with a connection to the same host and port open: it connects to its own address."""
    async with Server(always(OK)) as server:
        await ask(upstream, server.url)
        with pytest.raises(ProviderFault):
            await upstream.send("POST", server.url, [], b"{}", (ELSEWHERE,))
        assert len(server.requests) == 1


async def test_origins_that_are_not_called_again_are_forgotten(upstream: Upstream) -> None:
    """Callers who choose many origins fill no memory."""
    engine = upstream._transport
    assert isinstance(engine, EngineTransport)
    async with Server(always(OK)) as server:
        port = server.url.rpartition(":")[2]
        for number in range(20):
            url = f"http://h{number}.invalid:{port}"
            reply = await upstream.send("POST", url, [], b"{}", ("127.0.0.1",))
            await read(reply)
            await reply.stream.aclose()
        before = _address.cache_info().currsize
        assert len(engine._idle) == 20
        for connection in (it for pool in engine._idle.values() for it in pool):
            connection.close()
        engine._sweep()
        assert len(engine._idle) == 0
        assert _address.cache_info().currsize == before


async def test_a_redirect_is_an_answer(upstream: Upstream) -> None:
    """Nobody follows it, wherever it leads."""
    async with Server(always(OK)) as inside:
        moved = f"HTTP/1.1 302 Found\r\nlocation: {inside.url}\r\ncontent-length: 0\r\n\r\n"
        async with Server(always(moved.encode())) as server:
            for addresses in (None, ("127.0.0.1",)):
                reply = await upstream.send("POST", server.url, [], b"{}", addresses)
                assert reply.status == 302
                await reply.stream.aclose()
        assert inside.connections == 0


async def test_tls_of_a_chosen_origin_is_for_its_name(
    tls: tuple[ssl.SSLContext, bytes],
) -> None:
    """Connected by address, SNI and certificate are the name's; one that is wrong is said so."""
    serving, root = tls
    asked: list[str | None] = []
    serving.sni_callback = lambda _, name, __: asked.append(name)
    trusting = ssl.create_default_context(cadata=root.decode())
    async with Server(always(OK), tls=serving) as server:
        port = server.url.rpartition(":")[2]
        good = Upstream(EngineTransport(connect_s=2, idle_s=2, tls=trusting))
        wary = Upstream(EngineTransport(connect_s=2, idle_s=2))
        named, other = (f"https://{name}:{port}/" for name in ("localhost", "other.invalid"))

        reply = await good.send("POST", named, [], b"{}", ("127.0.0.1",))
        assert await read(reply) == b"ok"
        await reply.stream.aclose()
        assert server.requests[0].startswith(
            f"POST / HTTP/1.1\r\nhost: localhost:{port}\r\n".encode()
        )
        for upstream, url in ((good, other), (wary, named), (good, server.url)):
            with pytest.raises(ProviderUntrusted, match="SSL certificate") as caught:
                await upstream.send("POST", url, [], b"{}", ("127.0.0.1",))
            assert (caught.value.sent, caught.value.status) == (False, 400)
        assert asked[:2] == ["localhost", "other.invalid"]
        assert len(server.requests) == 1
        await good.close()
        await wary.close()


async def test_httpx_itself_can_use_it() -> None:
    """The transport is httpx's interface: a client over it works as over its own."""
    async with (
        Server(always(OK)) as server,
        httpx.AsyncClient(transport=EngineTransport(connect_s=2, idle_s=2)) as client,
    ):
        response = await client.post(server.url + "/x", json={"a": 1})
        assert (response.status_code, response.text) == (200, "ok")
