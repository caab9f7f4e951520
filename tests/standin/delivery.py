"""Handing an answer over: encoded, cut into pieces, paced, and broken off where it is told to."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import struct
import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from itertools import pairwise
from typing import Any

from tests.standin import faults
from tests.standin.answers import Answer, Headers
from tests.standin.control import Control

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

RESET_GRACE_S = 0.05
"""How long the client has to read what was sent: a reset throws away what it has not read."""


class Delivery:
    """One answer on its way. `on_last` is called once, before the last byte or the breaking-off."""

    def __init__(
        self,
        answer: Answer,
        control: Control,
        transport: asyncio.Transport,
        on_last: Callable[[Delivery], None],
    ) -> None:
        self.answer = answer
        self.control = control
        self.body_sent = 0
        self.body_total = 0
        self._plain: list[bytes] = []
        """What `pieces` were before they were compressed."""
        self._sent = hashlib.sha256()
        self._stated_at: int | None = None
        self.begun = False
        self.complete = False
        self._finished = False
        self._transport = transport
        self._on_last = on_last

    @property
    def stated(self) -> bool:
        """Whether the client was told the final usage: that is what it then pays."""
        return self._stated_at is not None and self.body_sent >= self._stated_at

    @property
    def client(self) -> bool:
        """Whether the client is still there."""
        return not self._transport.is_closing()

    @property
    def sha256(self) -> str:
        """The hash of the body as far as it was handed over, before it was compressed."""
        if self.control.content_encoding and self.complete:
            return hashlib.sha256(b"".join(self._plain)).hexdigest()
        return self._sent.hexdigest()

    async def run(self, receive: Receive, send: Send) -> None:
        """Hand the answer over; returns when it is done, broken off, or the client has left."""
        control = self.control
        if control.delay_ms:
            await asyncio.sleep(control.delay_ms / 1000)
        if control.instead is not None:
            self._transport.write(faults.NOT_HTTP[control.instead])
            await self._break_off()
            return
        pieces = faults.malform(self.answer.pieces, control.malformed)
        self._plain = pieces = faults.fill(pieces, control.filler_bytes)
        if not control.content_encoding:
            self._stated_at = _end_of_usage(b"".join(pieces))
        pieces = encoded(pieces, control.content_encoding)
        self.body_total = sum(map(len, pieces))
        pieces = recut(pieces, control.split, control.split_at)
        cut = control.cut_at_byte if control.reset_at_byte is None else control.reset_at_byte
        if control.hang is not False:
            if control.hang is not True:
                await self._send(pieces[: control.hang], send, more=True)
            await self._hang(receive)
        elif cut is not None and cut < self.body_total:
            if cut:
                await self._send(_first_bytes(pieces, cut), send, more=True)
            await self._break_off()
        elif control.length_off > 0:
            await self._send(pieces, send, more=True)
            await self._break_off()
        elif control.length_off < 0:
            announced = self.body_total + control.length_off
            await self._send(_first_bytes(pieces, announced), send, more=True)
            self._transport.write(b"".join(pieces)[announced:])
            await self._send([], send, more=False)
        else:
            await self._send(pieces, send, more=False)

    async def _send(self, pieces: list[bytes], send: Send, *, more: bool) -> None:
        if not self.begun:
            await self._begin(send)
        pieces = pieces or [b""]
        for index, piece in enumerate(pieces):
            if index:
                # Yields even without a delay: a client that left must not keep the loop busy.
                await asyncio.sleep(self.control.chunk_delay_ms / 1000)
            if not self.client:
                break
            last = not more and index == len(pieces) - 1
            self.body_sent += len(piece)
            self._sent.update(piece)
            if last:
                self.complete = True
                self._finish()
            await send({"type": "http.response.body", "body": piece, "more_body": not last})
        if not more:
            self._finish()

    def _finish(self) -> None:
        if not self._finished:
            self._finished = True
            self._on_last(self)

    async def _begin(self, send: Send) -> None:
        self.begun = True
        start = {"type": "http.response.start", "status": self.answer.status}
        await send(start | {"headers": self._headers()})

    def _headers(self) -> Headers:
        own = [(b"content-type", self.answer.content_type.encode()), *self.answer.headers]
        if not self.answer.stream or self.control.length_off:
            length = self.body_total + self.control.length_off
            own.append((b"content-length", str(length).encode()))
        if self.control.length_off < 0:
            # what is too much would else be the head of the next answer, of a call that did nothing
            own.append((b"connection", b"close"))
        if self.control.content_encoding:
            own.append((b"content-encoding", self.control.content_encoding.encode()))
        if not self.control.headers:
            return own
        new = {k.lower().encode(): v.encode() for k, v in self.control.headers.items()}
        return [(k, v) for k, v in own if k not in new] + list(new.items())

    async def _break_off(self) -> None:
        self._finish()
        if self.control.reset_at_byte is not None and self.client:
            await asyncio.sleep(RESET_GRACE_S)
            connection = self._transport.get_extra_info("socket")
            if connection is not None and self.client:
                linger = struct.pack("ii", 1, 0)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self._transport.abort()
        self._transport.close()

    async def _hang(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._finish()


def _end_of_usage(body: bytes) -> int | None:
    """Where the event of a stream ends that states the usage last."""
    at = max(body.rfind(b'"usage":{'), body.rfind(b'"usage": {'))
    end = body.find(b"\n\n", at)
    return end + 2 if at >= 0 and end >= 0 else None


def encoded(pieces: list[bytes], encoding: str | None) -> list[bytes]:
    """The pieces compressed, each one flushed; an encoding not known here is not applied."""
    for name in (encoding or "").split(", "):
        if name in ("gzip", "deflate"):
            press = zlib.compressobj(wbits=31 if name == "gzip" else 15)
            flushed = [press.compress(piece) + press.flush(zlib.Z_SYNC_FLUSH) for piece in pieces]
            pieces = [*flushed, press.flush()]
    return pieces


def recut(pieces: list[bytes], size: int | None, offsets: list[int]) -> list[bytes]:
    """The same bytes in pieces of a size, or cut at offsets; else as they are."""
    if size:
        body = b"".join(pieces)
        return [body[i : i + size] for i in range(0, len(body), size)]
    if offsets:
        body = b"".join(pieces)
        bounds = [0, *sorted(offsets), len(body)]
        return [body[a:b] for a, b in pairwise(bounds) if b > a]
    return pieces


def _first_bytes(pieces: list[bytes], count: int) -> list[bytes]:
    kept = []
    for piece in pieces:
        if count <= 0:
            break
        kept.append(piece[:count])
        count -= len(piece)
    return kept
