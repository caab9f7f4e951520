"""One HTTP exchange with a client: its request as it came, and the one answer to it.

What is written goes to the client's socket at once; a client that takes nothing makes the provider
wait. Nothing here is ever cancelled: of a client that has gone, writes are forgotten.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Protocol

from metering.errors import BodyTooLarge, CallerFault, InvalidRequest
from metering.surfaces import PAYI, Surface

Headers = list[tuple[bytes, bytes]]

BODY_AHEAD_BYTES = 64 * 1024
"""So much of a body is taken before anyone has asked for it."""
WAITING_BYTES_MAX = 64 * 1024
"""So much may wait for a client to read; then its provider has to wait."""
READS_WITHIN_S = 120
"""A client that takes nothing for so long, while so much waits, counts as gone."""
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class ClientLeft(Exception):
    """The client closed the connection before its request was whole."""


class Copy:
    """An answer as it is given, up to a size."""

    __slots__ = ("_bytes_max", "_parts", "_size", "headers", "status")

    def __init__(self, bytes_max: int) -> None:
        self.status = 0
        self.headers: Headers = []
        self._bytes_max = bytes_max
        self._parts: list[bytes] = []
        self._size = 0

    def begin(self, status: int, headers: Headers) -> None:
        """Its head."""
        self.status = status
        self.headers = [header for header in headers if header[0] != b"content-length"]

    def add(self, data: bytes) -> None:
        """More of its body."""
        self._size += len(data)
        if self._size > self._bytes_max:
            self._parts.clear()
        else:
            self._parts.append(data)

    @property
    def body(self) -> bytes | None:
        """The body; None: it was larger."""
        return None if self._size > self._bytes_max else b"".join(self._parts)


class Flow(Protocol):
    """How a connection holds its two directions back."""

    write_paused: bool
    """Whether too much waits for the client."""

    def pause_reading(self) -> None:
        """Take nothing more from the client for now."""

    def resume_reading(self) -> None:
        """Take more."""

    async def drain(self) -> None:
        """Returns when the client has taken what waited, or has gone."""


class Exchange:
    """A request and its answer. The connection feeds it, and is told when it has ended."""

    __slots__ = (
        "_body",
        "_changed",
        "_chunked",
        "_expects",
        "_fault",
        "_flow",
        "_left_bytes",
        "_on_end",
        "_permanent",
        "_size",
        "_transport",
        "_whole",
        "announced_bytes",
        "broken",
        "copy",
        "gone",
        "headers",
        "http_10",
        "keep_alive",
        "method",
        "on_gone",
        "peer",
        "query",
        "raw_path",
        "response_complete",
        "started",
        "surface",
        "told",
    )

    def __init__(
        self,
        method: str,
        target: tuple[bytes, bytes],
        headers: Headers,
        *,
        transport: asyncio.Transport,
        flow: Flow,
        permanent: Sequence[tuple[bytes, bytes]] = (),
        on_end: Callable[[], None],
    ) -> None:
        """`target` is path and query as they came, `headers` are in lower case. `permanent` are
        headers of every answer. `on_end` is called when the connection may take the next one."""
        self.method = method
        self.raw_path, self.query = target
        self.headers = headers
        self.surface: Surface = PAYI
        """Whose path it came by: it speaks that one's grammar."""
        self.told: Sequence[tuple[bytes, bytes]] = ()
        """What each answer to it says that is not made here."""
        self.peer = ""
        """The address of the connection's other end."""
        self.announced_bytes = 0
        self.http_10 = False
        self.keep_alive = True
        self.started = False
        self.response_complete = False
        self.gone = False
        """The client has gone, or counts as gone."""
        self.broken = False
        """Not all of the answer came through to it."""
        self.on_gone: Callable[[], None] | None = None
        self.copy: Copy | None = None
        """What is answered is copied there, whether the client is here or has gone."""
        self._transport = transport
        self._flow = flow
        self._permanent = permanent
        self._on_end = on_end
        self._body: list[bytes] = []
        self._size = 0
        self._whole = False
        self._expects = False
        self._fault: CallerFault | None = None
        self._changed: asyncio.Future[None] | None = None
        self._chunked = False
        self._left_bytes: int | None = None

    # The connection's side

    def expect(self) -> None:
        """The client waits for a word before it sends its body."""
        self._expects = True

    def feed(self, data: bytes) -> None:
        """A piece of the request's body; after the answer nobody wants it."""
        if self.response_complete:
            return
        self._body.append(data)
        self._size += len(data)
        if self._changed is not None:
            self._wake()
        elif self._size > BODY_AHEAD_BYTES:
            self._flow.pause_reading()

    def end_of_request(self) -> None:
        """The request is whole."""
        self._whole = True
        if self._changed is not None:
            self._wake()

    def spoil(self, fault: CallerFault) -> None:
        """The rest of the request makes no sense: who waits for it is told, and the connection
        ends with the answer."""
        self._fault = fault
        self.keep_alive = False
        if self.response_complete:
            self._transport.close()
        elif self._changed is not None:
            self._wake()

    def lost(self) -> None:
        """The connection has ended."""
        self.leave()
        if self._changed is not None:
            self._wake()

    def _wake(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    def leave(self) -> None:
        """The client has gone: tell whoever wants to know, unless all was said already."""
        if not self.gone:
            self.gone = True
            if self.on_gone is not None and not self.response_complete:
                self.on_gone()

    # The request

    async def body(self, bytes_max: int, within_s: float) -> bytes:
        """The whole request body; BodyTooLarge before it fills memory, InvalidRequest if it takes
        too long."""
        self._check(self.announced_bytes, bytes_max)
        if not self._whole:
            try:
                async with asyncio.timeout(within_s):
                    await self._rest(bytes_max)
            except TimeoutError:
                raise InvalidRequest(
                    f"the request body did not arrive within {within_s} s; "
                    "XPROXY_BODY_S raises the bound"
                ) from None
            finally:
                self._changed = None
        self._check(self._size, bytes_max)
        return self._body[0] if len(self._body) == 1 else b"".join(self._body)

    async def _rest(self, bytes_max: int) -> None:
        if self._expects and not self._body:
            self._transport.write(CONTINUE)
        loop = asyncio.get_running_loop()
        while not self._whole:
            if self.gone:
                raise ClientLeft
            if self._fault is not None:
                raise self._fault
            self._check(self._size, bytes_max)
            self._changed = loop.create_future()
            self._flow.resume_reading()
            await self._changed

    @staticmethod
    def _check(size: int, bytes_max: int) -> None:
        if size > bytes_max:
            raise BodyTooLarge(
                f"the request body is larger than {bytes_max} bytes; "
                "XPROXY_BODY_BYTES_MAX raises the bound"
            )

    # The answer

    def respond(self, status: int, headers: Headers, body: bytes) -> None:
        """Answer at once, in one piece."""
        self.started = True
        if self.copy is not None:
            self.copy.begin(status, headers)
            self.copy.add(body)
        if not self.gone:
            lines = self._head(status, headers)
            lines.append(b"content-length: %d\r\n\r\n" % len(body))
            if self.method != "HEAD":
                lines.append(body)
            self._transport.write(b"".join(lines))
        self._end()

    def start(self, status: int, headers: Headers) -> None:
        """Begin an answer that comes in pieces, of the length that its headers name, if any."""
        self.started = True
        if self.copy is not None:
            self.copy.begin(status, headers)
        if self.gone:
            return
        bodiless = self.method == "HEAD" or status in (204, 304)
        length = next((int(value) for name, value in headers if name == b"content-length"), None)
        if length is None and not bodiless:
            self._chunked = not self.http_10
            self.keep_alive = self.keep_alive and self._chunked
        self._left_bytes = 0 if bodiless else length
        lines = self._head(status, headers)
        lines.append(b"transfer-encoding: chunked\r\n\r\n" if self._chunked else b"\r\n")
        self._transport.write(b"".join(lines))

    async def piece(self, data: bytes) -> None:
        """The next bytes of the answer, at once, unless too much waits for the client already."""
        if self.copy is not None:
            self.copy.add(data)
        if self._flow.write_paused and not self.gone:
            await self._wait_for_room()
        if not data or self.gone:
            return
        if self._chunked:
            self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))
        elif self._left_bytes is None:
            self._transport.write(data)
        else:
            data = data[: self._left_bytes]  # more than was announced would be the next answer
            self._left_bytes -= len(data)
            self._transport.write(data)

    async def _wait_for_room(self) -> None:
        try:
            async with asyncio.timeout(READS_WITHIN_S):
                await self._flow.drain()
        except TimeoutError:
            self.broken = True
            self.leave()

    def finish(self, *, broken: bool) -> None:
        """The end of an answer that came in pieces; a broken one is seen to have been cut."""
        if self.response_complete:
            return
        self.broken = self.broken or broken or bool(self._left_bytes)
        if self.broken:
            self.keep_alive = False
        elif self._chunked and not self.gone:
            self._transport.write(b"0\r\n\r\n")
        self._end()

    def _end(self) -> None:
        self.response_complete = True
        if not self.keep_alive or self.gone:
            self._transport.close()
        self._on_end()

    def _head(self, status: int, headers: Headers) -> list[bytes]:
        """The status line and the headers, but for those that say how long the body is."""
        if self._expects and not self._whole:
            self.keep_alive = False  # whether it sends its body now, nobody knows
        lines = [STATUS_LINES.get(status) or _status_line(status)]
        lines += [b"%b: %b\r\n" % header for header in self._permanent]
        lines += [b"%b: %b\r\n" % header for header in headers]
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        elif self.http_10:
            lines.append(b"connection: keep-alive\r\n")
        return lines


def _status_line(status: int, phrase: str = "") -> bytes:
    return f"HTTP/1.1 {status} {phrase}\r\n".encode("latin-1")


STATUS_LINES = {it.value: _status_line(it.value, it.phrase) for it in HTTPStatus}
