"""One HTTP exchange with a client, over plain ASGI."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from metering.errors import BodyTooLarge, InvalidRequest

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

BODY_DEADLINE_S = 60


class ClientLeft(Exception):
    """The client closed the connection before its request was whole."""


class Exchange:
    """A request as it came, and the one answer to it."""

    __slots__ = ("_receive", "_send", "headers", "method", "query", "raw_path", "started")

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.method: str = scope["method"]
        self.raw_path: bytes = scope["raw_path"]
        self.query: bytes = scope["query_string"]
        self.headers: Headers = scope["headers"]
        self._receive = receive
        self._send = send
        self.started = False

    async def body(self, bytes_max: int) -> bytes:
        """The whole request body; BodyTooLarge before it fills memory, and a deadline."""
        self._check(self._announced(), bytes_max)
        first = await self._receive()
        if first["type"] == "http.disconnect":
            raise ClientLeft
        body: bytes = first.get("body", b"")
        if not first.get("more_body"):
            self._check(len(body), bytes_max)
            return body
        try:
            async with asyncio.timeout(BODY_DEADLINE_S):
                return await self._rest(body, bytes_max)
        except TimeoutError:
            raise InvalidRequest(
                f"the request body did not arrive within {BODY_DEADLINE_S} s"
            ) from None

    async def _rest(self, body: bytes, bytes_max: int) -> bytes:
        parts, size, more = [body], len(body), True
        while more:
            self._check(size, bytes_max)
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientLeft
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            more = message.get("more_body", False)
        self._check(size, bytes_max)
        return b"".join(parts)

    def _announced(self) -> int:
        """The length the request announces; 0 where it does not. The server has checked it."""
        for name, value in self.headers:
            if name == b"content-length":
                return int(value)
        return 0

    @staticmethod
    def _check(size: int, bytes_max: int) -> None:
        if size > bytes_max:
            raise BodyTooLarge(
                f"the request body is larger than {bytes_max} bytes; "
                "XPROXY_BODY_BYTES_MAX raises the bound"
            )

    async def respond(self, status: int, headers: Headers, body: bytes) -> None:
        """Answer at once."""
        sized = [*headers, (b"content-length", str(len(body)).encode())]
        await self.start(status, sized)
        await self._send({"type": "http.response.body", "body": body})

    async def start(self, status: int, headers: Headers) -> None:
        """Begin an answer that comes in pieces."""
        self.started = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def piece(self, data: bytes, *, last: bool = False) -> None:
        """A piece of the answer. Without its last piece the client sees that it was cut."""
        await self._send({"type": "http.response.body", "body": data, "more_body": not last})

    async def left(self) -> None:
        """Returns when the client has gone."""
        while (await self._receive())["type"] != "http.disconnect":
            pass
