"""One HTTP/1.1 connection to a provider: one exchange at a time, its bytes as they come.

Parsing is llhttp's (httptools), the parser our own server trusts. A connection goes back to the
pool only after an answer that was whole, that the provider lets us keep, and nothing after it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Literal, cast

import httptools

from metering.core.origins import HEADER
from metering.errors import (
    ProviderFault,
    ProviderTimeout,
    ProviderUnreachable,
    ProviderUntrusted,
)

READ_AHEAD_BYTES = 64 * 1024
"""More than this is not taken from the socket before it is read."""
HEAD_BYTES_MAX = 64 * 1024
Headers = list[tuple[bytes, bytes]]
Ends = Literal["length", "close"]


def unreachable(*, sent: bool) -> ProviderUnreachable:
    """The provider refused or dropped the connection."""
    message = (
        "The provider broke the connection before its answer was whole."
        if sent
        else "The provider could not be reached."
    )
    fault = ProviderUnreachable(message, should_retry=not sent)
    fault.sent = sent
    return fault


def timed_out(*, sent: bool) -> ProviderTimeout:
    """The provider was silent for too long."""
    fault = ProviderTimeout(should_retry=not sent)
    fault.sent = sent
    return fault


def untrusted(host: str, reason: str) -> ProviderUntrusted:
    """The certificate of an origin that the caller chose is not its own, or of nobody we trust."""
    message = f"Header {HEADER}: the SSL certificate of {host} is not valid: {reason}"
    fault = ProviderUntrusted(message, field=HEADER, should_retry=False)
    fault.sent = False
    return fault


class Connection(asyncio.Protocol):
    """A connection. `status` and `headers` are of the answer under way."""

    def __init__(self) -> None:
        """Not connected yet."""
        self.status = 0
        self.headers: Headers = []
        self.closed = False
        self.active_at = self.began_at = 0.0
        """When the last byte came or went, by the loop's clock."""
        self.whole = True
        """Whether the answer has ended; true between exchanges."""
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._parser: httptools.HttpResponseParser
        self._head: asyncio.Future[None] | None = None
        self._more: asyncio.Future[None] | None = None
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._head_bytes = self._before_head_bytes = 0
        self._paused = False
        self._keep = False
        self._bodiless = False
        self._ends: Ends = "length"
        self._fault: ProviderFault | None = None

    # An exchange

    def exchange(self, method: str, head: bytes, body: bytes) -> asyncio.Future[None]:
        """Send a request; the future ends with the head of its answer, or with a ProviderFault."""
        self.status, self.headers = 0, []
        self._head_bytes = self._before_head_bytes = 0
        self.whole = self._keep = False
        self._bodiless = method == "HEAD"
        self._parser = httptools.HttpResponseParser(self)
        self._head = answered = self._loop.create_future()
        self.active_at = self.began_at = self._loop.time()
        if len(body) < READ_AHEAD_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.writelines((head, body))
        return answered

    async def read(self) -> bytes:
        """All bytes there are, waiting for some; empty at the end. Raises ProviderFault."""
        while not self._pieces:
            if self._fault is not None:
                raise self._fault
            if self.whole:
                return b""
            self._more = self._loop.create_future()
            await self._more
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        return data

    @property
    def reusable(self) -> bool:
        """Whether another exchange may follow."""
        return (
            self.whole
            and self._keep
            and not self.closed
            and not self._pieces
            and not self._transport.get_write_buffer_size()
        )

    def fail(self, fault: ProviderFault) -> None:
        """End the exchange with a fault, and the connection."""
        if not self.whole:
            self._fault = self._fault or fault
            self._wake()
        self.close()

    def close(self) -> None:
        """Drop the connection."""
        self.closed = True
        self._transport.abort()

    def fileno(self) -> int:
        """The socket's number; -1 where there is none."""
        socket = self._transport.get_extra_info("socket")
        return -1 if socket is None else int(socket.fileno())

    # What asyncio says

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """We are connected."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        if self.whole:  # nobody asked for them
            self.close()
            return
        self.active_at = self._loop.time()
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):  # nobody asked for another
            self.fail(unreachable(sent=True))
            return
        if not self.status:
            self._before_head_bytes += len(data)
            if self._before_head_bytes > HEAD_BYTES_MAX:  # a header without an end
                self.fail(unreachable(sent=True))
        elif self._size > READ_AHEAD_BYTES and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def connection_lost(self, error: Exception | None) -> None:
        """The provider closed, or we did."""
        self.closed = True
        if self.whole:
            return
        if error is None and self.status and self._ends == "close":
            self._finish(keep=False)
        else:
            self.fail(unreachable(sent=True))

    # What the parser says

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header; its name in lower case. A trailer, which comes after the body, is none."""
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > HEAD_BYTES_MAX:
            raise ValueError("the head is too large")  # the parser's caller makes it a fault
        if not self.status:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head is whole; that of an interim answer (1xx) does not count."""
        status = self._parser.get_status_code()
        if 100 <= status < 200:
            self.headers = []
            return
        self.status = status
        names = {name for name, _ in self.headers}
        sized = b"content-length" in names or b"transfer-encoding" in names
        self._ends = "length" if sized or status in (204, 304) else "close"
        if self._head is not None and not self._head.done():
            self._head.set_result(None)
        if self._bodiless:  # llhttp would wait for the body that is only announced
            self._finish(keep=False)

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        if not self.whole:
            self._pieces.append(body)
            self._size += len(body)
            self._wake()

    def on_message_complete(self) -> None:
        """The answer is whole."""
        if self.status and not self.whole:
            self._finish(keep=self._parser.should_keep_alive())

    def _finish(self, *, keep: bool) -> None:
        self.whole, self._keep = True, keep
        self._wake()

    def _wake(self) -> None:
        if self._head is not None and not self._head.done() and self._fault is not None:
            self._head.set_exception(self._fault)
        more, self._more = self._more, None
        if more is not None and not more.done():
            more.set_result(None)
