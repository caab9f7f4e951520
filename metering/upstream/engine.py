"""A pool of connections to providers, behind httpx's transport interface.

No proxy environment, no redirects, no cookies, no decompression: what is sent is what was asked,
what comes is relayed. A connection that has been idle is looked at before it is used again, so
that one the provider has closed meanwhile is not mistaken for a call that failed; nothing else is
ever tried twice.

A call whose origin the caller chose comes with the addresses that were judged for it, and is
connected to one of them. Its connections are used by such calls alone: what the operator's own
base URLs reach is out of reach for them.
"""

from __future__ import annotations

import asyncio
import select
import ssl
from collections.abc import AsyncIterator, Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple, Protocol, cast
from urllib.parse import urlsplit

import httpx

from metering.errors import ProviderFault
from metering.upstream.connection import Connection, timed_out, unreachable, untrusted

IDLE_S = 15.0
"""How long an idle connection is kept: less than any provider keeps it."""
LOOK_AFTER_S = 0.2
"""An idle connection is looked at if it is older than that."""
SWEEP_S = 0.5
ADDRESSES_MAX = 4
"""So many addresses of a chosen origin are tried, each for its share of the time to connect."""


class Body(Protocol):
    """An answer's body as it comes."""

    async def read(self) -> bytes:
        """The next bytes, waiting for some; empty at the end. Raises ProviderFault."""

    async def aclose(self) -> None:
        """Give the connection back if all was read, else close it."""


class Reply(NamedTuple):
    """A provider's answer whose head has come."""

    status: int
    headers: Sequence[tuple[bytes, bytes]]
    """Names in lower case."""
    stream: Body
    """Raw bytes as they come; to be closed."""


Addresses = tuple[str, ...] | None
"""Where to connect instead of asking for the name; None: an origin of the operator's."""


class _Address(NamedTuple):
    host: str
    port: int
    tls: bool
    host_header: bytes
    target: bytes
    addresses: Addresses = None

    @property
    def origin(self) -> tuple[str, int, bool, bool]:
        """What its connections are kept by: those of callers' choice apart from the operator's."""
        return self.host, self.port, self.tls, self.addresses is not None


@lru_cache(maxsize=1024)
def _address(url: str) -> _Address:
    """Where a URL leads; raises ProviderUnreachable for one that leads nowhere."""
    parts = urlsplit(url)
    try:
        port, host = parts.port, parts.hostname
    except ValueError:
        raise unreachable(sent=False) from None
    tls = parts.scheme == "https"
    if not host or parts.scheme not in ("http", "https"):
        raise unreachable(sent=False)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return _Address(
        host,
        port or (443 if tls else 80),
        tls,
        parts.netloc.rpartition("@")[2].encode("idna" if not host.isascii() else "latin-1"),
        target.encode("latin-1"),
    )


def _chosen(url: str, addresses: tuple[str, ...]) -> _Address:
    """The same of an origin that the caller chose; not remembered, for callers may choose many."""
    return _address.__wrapped__(url)._replace(addresses=addresses)


class EngineTransport(httpx.AsyncBaseTransport):
    """An httpx transport that costs a tenth of httpx's own."""

    def __init__(
        self,
        *,
        connect_s: float,
        idle_s: float,
        total_s: float = 3_600,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`connect_s` bounds a connect with its handshake, `idle_s` a provider's silence, `total_s`
        all of an exchange.

        `tls` is by default httpx's context: certifi's roots, or those of `SSL_CERT_FILE`.
        """
        self._loop = asyncio.get_running_loop()  # kept: asking for it costs a system call
        self._connect_s = connect_s
        self._idle_s = idle_s
        self._total_s = total_s
        self._idle: dict[tuple[str, int, bool, bool], list[Connection]] = {}
        self._busy: set[Connection] = set()
        self._tls = tls
        self._sweeper: asyncio.TimerHandle | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """The way httpx sends a request; the response's stream is raw bytes, to be closed."""
        passed = [header for header in request.headers.raw if header[0].lower() not in _OURS]
        body = await request.aread()
        reply = await self.send(request.method, str(request.url), passed, body)
        stream = cast(httpx.AsyncByteStream, reply.stream)
        return httpx.Response(reply.status, headers=list(reply.headers), stream=stream)

    async def send(
        self,
        method: str,
        url: str,
        headers: Iterable[tuple[bytes, bytes]],
        body: bytes,
        addresses: Addresses = None,
    ) -> Reply:
        """The same without httpx's objects. The engine sets Host and Content-Length."""
        address = _address(url) if addresses is None else _chosen(url, addresses)
        head = _head(method, address, headers, len(body))
        connection = self._take(address) or await self._connect(address)
        self._busy.add(connection)
        try:
            await connection.exchange(method, head, body)
        except BaseException:  # cancelled or not: a half-used connection is of no use to anybody
            self._drop(connection)
            raise
        return Reply(connection.status, connection.headers, _Stream(self, address, connection))

    async def aclose(self) -> None:
        """Close every connection."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in [*self._busy, *(it for pool in self._idle.values() for it in pool)]:
            connection.close()
        self._busy.clear()
        self._idle.clear()

    def done(self, address: _Address, connection: Connection) -> None:
        """An exchange has ended: keep its connection if it is good for another."""
        self._busy.discard(connection)
        if connection.reusable:
            connection.active_at = self._loop.time()
            self._idle.setdefault(address.origin, []).append(connection)
        else:
            connection.close()

    def _take(self, address: _Address) -> Connection | None:
        """The connection used last, if the provider has not closed it."""
        pool = self._idle.get(address.origin)
        now_s = self._loop.time()
        while pool:
            connection = pool.pop()
            if connection.closed:
                continue
            if now_s - connection.active_at < LOOK_AFTER_S or not _readable(connection.fileno()):
                return connection
            connection.close()  # it says something nobody asked for, or goodbye
        return None

    async def _connect(self, address: _Address) -> Connection:
        self._sweep_later()
        if address.addresses is None:
            return await self._connect_to(address, address.host, self._connect_s)
        fault: ProviderFault = unreachable(sent=False)
        tried = address.addresses[:ADDRESSES_MAX]
        for host in tried:
            try:
                return await self._connect_to(address, host, self._connect_s / len(tried))
            except ProviderFault as error:
                fault = error
        raise fault

    async def _connect_to(self, address: _Address, host: str, within_s: float) -> Connection:
        """Connect to a name or an address; certificate and SNI are the name's."""
        tls = self._context() if address.tls else None
        name = address.host if address.tls else None
        try:
            async with asyncio.timeout(within_s):
                _, connection = await self._loop.create_connection(
                    Connection, host, address.port, ssl=tls, server_hostname=name
                )
        except TimeoutError:
            raise timed_out(sent=False) from None
        except ssl.SSLCertVerificationError as error:
            if address.addresses is None:
                raise unreachable(sent=False) from error
            raise untrusted(address.host, error.verify_message) from error
        except (OSError, ssl.SSLError, UnicodeError) as error:
            raise unreachable(sent=False) from error
        return connection

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = httpx.create_ssl_context()
            self._tls.set_alpn_protocols(["http/1.1"])
        return self._tls

    def _drop(self, connection: Connection) -> None:
        self._busy.discard(connection)
        connection.close()

    # Deadlines: one timer for all connections

    def _sweep_later(self) -> None:
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(SWEEP_S, self._sweep)

    def _sweep(self) -> None:
        """End exchanges whose provider is silent or has no end, and connections nobody needs."""
        self._sweeper = None
        now_s = self._loop.time()
        for connection in list(self._busy):
            silent = now_s - connection.active_at > self._idle_s
            if silent or now_s - connection.began_at > self._total_s:
                connection.fail(timed_out(sent=True))
        for origin, pool in list(self._idle.items()):
            for connection in [it for it in pool if now_s - it.active_at > IDLE_S or it.closed]:
                pool.remove(connection)
                connection.close()
            if not pool:  # callers choose origins: they may be many, and never come again
                del self._idle[origin]
        if self._busy or self._idle:
            self._sweep_later()


class _Stream(httpx.AsyncByteStream):
    """An answer's body as it comes from the socket."""

    def __init__(
        self, transport: EngineTransport, address: _Address, connection: Connection
    ) -> None:
        self._transport = transport
        self._address = address
        self._connection: Connection | None = connection

    async def read(self) -> bytes:
        """The next bytes, once; ProviderFault if the provider breaks off or falls silent."""
        return b"" if self._connection is None else await self._connection.read()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The same in the way of httpx."""
        while data := await self.read():
            yield data

    async def aclose(self) -> None:
        """Give the connection back if all was read, else close it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._transport.done(self._address, connection)


_OURS = (b"host", b"content-length", b"connection", b"transfer-encoding")


def _head(
    method: str, address: _Address, headers: Iterable[tuple[bytes, bytes]], body_bytes: int
) -> bytes:
    lines = [
        method.encode("latin-1") + b" " + address.target + b" HTTP/1.1\r\nhost: ",
        address.host_header,
        b"\r\n",
    ]
    for name, value in headers:
        lines += (name, b": ", value, b"\r\n")
    if body_bytes or method in ("POST", "PUT", "PATCH"):
        lines.append(b"content-length: %d\r\n" % body_bytes)
    lines.append(b"\r\n")
    return b"".join(lines)


def _readable(fileno: int) -> bool:
    """Whether a socket has something to read: of an idle one that can only be its end."""
    if fileno < 0:
        return True
    poll = select.poll()
    poll.register(fileno, select.POLLIN)
    return bool(poll.poll(0))
