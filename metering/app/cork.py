"""What is written to a client in one tick of the loop leaves as one piece.

uvicorn writes the head of an answer and its body one after the other, which is two system calls
for us and two wake-ups for the client.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class Corked:
    """A transport that gathers; everything but writing and closing is the real one's."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        """`transport` is the socket's own."""
        self._transport = transport
        self._loop = loop
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Write at the end of this tick."""
        if not self._pieces:
            self._loop.call_soon(self._uncork)
        self._pieces.append(data)

    def close(self) -> None:
        """Write what has gathered, then close."""
        self._uncork()
        self._transport.close()

    def _uncork(self) -> None:
        pieces, self._pieces = self._pieces, []
        if pieces and not self._transport.is_closing():
            self._transport.write(pieces[0] if len(pieces) == 1 else b"".join(pieces))

    def __getattr__(self, name: str) -> Any:
        """All the rest."""
        return getattr(self._transport, name)


class CorkedProtocol(HttpToolsProtocol):
    """uvicorn's protocol over a corked transport."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected."""
        super().connection_made(cast(asyncio.Transport, Corked(transport, self.loop)))
