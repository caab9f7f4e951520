"""The front door: uvicorn's connections, whose data-plane requests go straight to the flow.

uvicorn accepts, parses and ends connections, and serves the control plane over ASGI. A call to a
provider needs none of ASGI's messages: it becomes an `Exchange`, which writes to the socket itself.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from metering.app import guard
from metering.app.first import clock_ms
from metering.core.ids import uuid7_text
from metering.errors import CallerFault
from metering.proxy.exchange import WAITING_BYTES_MAX, Exchange
from metering.surfaces import payi


class Front(HttpToolsProtocol):
    """One client's connection."""

    IDLE_S = 75.0
    """How long a connection is kept without a request."""

    def __init__(
        self, *, serve: Callable[[Exchange], object], owns: Callable[[bytes], bool], **given: Any
    ) -> None:
        """`serve` begins to serve a call, `owns` tells by its raw path whether it is one; `given`
        is uvicorn's."""
        super().__init__(**given)
        self._serve = serve
        self._owns = owns
        self._taken: Exchange | None = None
        """The call whose request comes in, or came last; None if that was the control plane's."""
        self._running: Exchange | None = None
        """The call that is being answered; one that was sent ahead of its answer waits."""
        self._idle_since: float | None = self.loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._head_open = False
        """Whether a request has begun whose head is not whole."""
        self._head_bytes = 0
        """At most so large is the head that is coming in, as far as it has come."""
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
        """Bytes have come. A head that never ends is not kept in memory until it does."""
        self._head_bytes = len(data) + (self._head_bytes if self._head_open else 0)
        super().data_received(data)
        if self._head_open and self._head_bytes > 2 * guard.HEAD_BYTES_MAX:
            self._head_open = False
            self._take(_target(self.url), self.headers, guard.too_large())

    def on_message_begin(self) -> None:
        """A request begins. uvicorn's own dictionary of it is made only for who needs one."""
        self.url = b""
        self.headers = []
        self._head_open = True
        self._heads += 1

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head is whole: whose request is it?"""
        self._head_open = False
        target = _target(self.url)
        http_10 = self.parser.get_http_version() == "1.0"
        measure = self._head_bytes > guard.HEAD_BYTES_MAX
        fault = guard.check(self.headers, http_10=http_10, measure=measure)
        if fault is not None or self._owns(target[0]):
            self._take(target, self.headers, fault, http_10=http_10)
        else:
            self._begin_cycle()

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
        target: tuple[bytes, bytes],
        headers: list[tuple[bytes, bytes]],
        fault: CallerFault | None,
        *,
        http_10: bool = False,
    ) -> None:
        """Make an exchange of a request; a `fault` is all the answer it gets."""
        named = dict(headers)
        length = named.get(b"content-length")
        if length is not None:
            headers = [header for header in headers if header[0] != b"content-length"]
        exchange = Exchange(
            self.parser.get_method().decode("ascii"),
            target,
            headers,
            transport=self.transport,
            flow=self.flow,
            permanent=self.server_state.default_headers,
            on_end=self.on_response_complete,
        )
        exchange.http_10 = http_10
        exchange.keep_alive = fault is None and self.parser.should_keep_alive()
        exchange.announced_bytes = int(length or 0)  # the parser has checked it
        if named.get(b"expect", b"").lower() == b"100-continue":
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
            exchange.respond(*payi.error(fault, uuid7_text(clock_ms(), os.urandom(10))))

    def on_body(self, body: bytes) -> None:
        """A piece of a request's body."""
        if self._taken is not None:
            self._taken.feed(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """A request is whole."""
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
        self._idle_since = self.loop.time()

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
