"""The front door: uvicorn's connections, whose data-plane requests go straight to the flow.

uvicorn accepts, parses and ends connections, and serves the control plane over ASGI. A call to a
provider needs none of ASGI's messages: it becomes an `Exchange`, which writes to the socket itself.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from metering.app import guard
from metering.app.first import clock_ms
from metering.core.ids import uuid7_text
from metering.errors import CallerFault
from metering.proxy.exchange import WAITING_BYTES_MAX, Exchange
from metering.surfaces import PAYI, Surface, surface_of


class Front(HttpToolsProtocol):
    """One client's connection."""

    IDLE_S = 75.0
    """How long a connection is kept without a request."""

    def __init__(self, *, serve: Callable[[Exchange], object], **given: Any) -> None:
        """`serve` begins to serve a call; `given` is uvicorn's."""
        super().__init__(**given)
        self._serve = serve
        self._taken: Exchange | None = None
        """The call whose request comes in, or came last; None if that was the control plane's."""
        self._running: Exchange | None = None
        """The call that is being answered; one that was sent ahead of its answer waits."""
        self._idle_since: float | None = self.loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._head_open = False
        """Whether a request has begun whose head is not whole."""
        self._body_open = False
        """Whether a head is whole whose request is not."""
        self._bare_bytes = 0
        """At most so many bytes have come of a head, or since the last of a body."""
        self._data_bytes = 0
        self._deaf = False
        """Whether nothing more is read: where a request would begin is in doubt."""
        self._heads = 0
        self._head_seen = 0
        """The number of the head that was open when the timer last looked."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=WAITING_BYTES_MAX)
        self._look_later()

    def connection_lost(self, exc: Exception | None) -> None:
        """It has gone, or we closed."""
        if self._timer is not None:
            self._timer.cancel()
        running, self._running = self._running, None
        if self._taken is not None:
            self.cycle = cast(Any, None)
        super().connection_lost(exc)
        if running is not None:
            running.lost()

    # Requests

    def data_received(self, data: bytes) -> None:
        """Bytes have come. What never ends is not kept in memory until it does."""
        if self._deaf:
            return
        self._bare_bytes += len(data)
        self._data_bytes = len(data)
        try:
            self._parse(data)
        except httptools.HttpParserError:
            if not self._deaf:  # else it was us who stopped the parser
                self._refuse(guard.unreadable())
        if self._bare_bytes > 2 * guard.HEAD_BYTES_MAX and not self._deaf:
            self._refuse(guard.too_large())

    def _parse(self, data: bytes) -> None:
        """Parse bytes as if no other protocol had been asked for, which nobody has to grant.

        The parser would take what follows such a head for that protocol, or for a request.
        """
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as asked:
                data = data[asked.args[0] :]
                self._read_head_again()
            else:
                return

    def _read_head_again(self) -> None:
        """Read a head less what asks for another protocol."""
        version = self.parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, version)]
        lines += [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's
        self.parser.feed_data(b"\r\n".join((*lines, b"", b"")))

    def on_message_begin(self) -> None:
        """A request begins. uvicorn's own dictionary of it is made only for who needs one."""
        self.url = b""
        self.headers = []
        self._idle_since = None
        self._head_open = True
        self._bare_bytes = self._data_bytes
        self._heads += 1

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header. A trailer, which comes after the body, is none: it passes no check."""
        if self._head_open:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head is whole: whose request is it?"""
        method, version = self.parser.get_method(), self.parser.get_http_version()
        measure = self._bare_bytes > guard.HEAD_BYTES_MAX
        fault = guard.check(method, self.url, version, self.headers, measure=measure)
        if fault is None and self.parser.should_upgrade():
            return  # it will be read again
        self._head_open = False
        self._bare_bytes = 0
        if not self.url.startswith(b"/"):
            self.headers = guard.named_by_target(self.url, self.headers)
        target = _target(self.url)
        surface = surface_of(target[0])
        if surface is not None and surface.any_provider:
            surface = None if surface.lists(method, target[0], self.headers) else surface
        if fault is not None:
            self._deaf = True
            self._take(method, target, self.headers, surface, fault, http_10=version == "1.0")
            raise fault  # which stops the parser: nothing that follows is a request
        if surface is not None:
            self._take(method, target, self.headers, surface, http_10=version == "1.0")
        else:
            self._begin_cycle()
        self._body_open = True

    def _refuse(self, fault: CallerFault) -> None:
        """What comes makes no sense, or no end: the last answer says so, and no more is read."""
        body_open = self._body_open
        self._deaf, self._head_open, self._body_open = True, False, False
        if body_open and self._taken is not None:
            self._taken.spoil(fault)
        elif body_open and self.cycle.response_started:
            self.transport.close()  # the control plane did not want the rest
        else:
            if body_open:
                self._drop_cycle()
            self._take(b"", (b"", b""), [], None, fault)

    def _drop_cycle(self) -> None:
        """Have the control plane forget the request that came last."""
        if self.pipeline:  # where it waits
            self.pipeline.popleft()
        else:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self.cycle = cast(Any, None)

    def _begin_cycle(self) -> None:
        """What uvicorn would have done so far, and what it does now."""
        self._taken = None
        url, headers = self.url, self.headers
        super().on_message_begin()
        self.url = url
        for name, value in headers:
            super().on_header(name, value)
        super().on_headers_complete()

    def _take(
        self,
        method: bytes,
        target: tuple[bytes, bytes],
        headers: list[tuple[bytes, bytes]],
        surface: Surface | None,
        fault: CallerFault | None = None,
        *,
        http_10: bool = False,
    ) -> None:
        """Make an exchange of a request; a `fault` is all the answer it gets."""
        named = dict(headers)
        length = named.get(b"content-length")
        if length is not None:
            headers = [header for header in headers if header[0] != b"content-length"]
        exchange = Exchange(
            method.decode("ascii"),
            target,
            headers,
            transport=self.transport,
            flow=self.flow,
            permanent=self.server_state.default_headers,
            on_end=self.on_response_complete,
        )
        exchange.surface = (surface or PAYI).of(headers)
        exchange.peer = self.client[0] if self.client else ""
        exchange.http_10 = http_10
        exchange.keep_alive = fault is None and self.parser.should_keep_alive()
        exchange.announced_bytes = int(length or 0)  # the parser has checked it
        if named.get(b"expect", b"").lower() == b"100-continue" and not http_10:
            exchange.expect()
        before: Any = self.cycle
        self._taken, self.cycle = exchange, cast(Any, exchange)
        if before is None or before.response_complete:
            self._start(exchange, fault)
        else:  # it came before its predecessor's answer: it has to wait
            self.flow.pause_reading()
            self.pipeline.appendleft(cast(Any, (exchange, fault)))

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        if isinstance(cycle, Exchange):
            self._start(cycle, app)
        else:
            super()._start_asgi_task(cycle, app)

    def _start(self, exchange: Exchange, fault: CallerFault | None) -> None:
        self._running = exchange
        if fault is None:
            self._serve(exchange)
        else:
            request_id = uuid7_text(clock_ms(), os.urandom(10))
            exchange.respond(*exchange.surface.error(fault, request_id))

    def on_body(self, body: bytes) -> None:
        """A piece of a request's body."""
        self._bare_bytes = 0
        if self._taken is not None:
            self._taken.feed(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """A request is whole."""
        if self._head_open:  # it will be read again
            return
        self._body_open = False
        if not self.parser.should_keep_alive():  # a trailer may have said so: no more is parsed
            self.cycle.keep_alive = False
            if self.cycle.response_complete:
                self.transport.close()
        if self._taken is not None:
            self._taken.end_of_request()
        else:
            super().on_message_complete()

    # Between requests: one timer a connection, not one an answer

    def _unset_keepalive_if_required(self) -> None:
        self._idle_since = None

    def on_response_complete(self) -> None:
        """An answer is whole: the next request, or a wait for one that has an end."""
        self._running = None
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            return
        self._idle_since = None if self._head_open else self.loop.time()

    def _look_later(self) -> None:
        self._timer = self.loop.call_later(min(self.IDLE_S, guard.HEAD_S) / 2, self._look)

    def _look(self) -> None:
        """Close a connection that has been idle for long, or whose head takes too long."""
        idle = self._idle_since is not None and self.loop.time() - self._idle_since >= self.IDLE_S
        if idle:
            self.timeout_keep_alive_handler()
        elif self._head_open and self._head_seen == self._heads:
            self.transport.close()
        else:
            self._head_seen = self._heads if self._head_open else 0
            self._look_later()


def _target(url: bytes) -> tuple[bytes, bytes]:
    """Path and query of a request target, as they came; the parser has checked its characters."""
    path, _, query = url.partition(b"#")[0].partition(b"?")
    if not path.startswith(b"/"):  # the form for proxies: with scheme and host
        path = b"/" + path.partition(b"://")[2].partition(b"/")[2]
    return path, query
