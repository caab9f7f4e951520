"""A bounded queue of bytes between the pump, which goes on, and a client, which may leave."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

BYTES_MAX = 256 * 1024
READS_WITHIN_S = 120
"""A client that takes nothing for so long, while the pipe is full, counts as gone."""


class Pipe:
    """Bytes for one client. `broken` says that not all of the provider's stream came through."""

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._closed = False
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self.gone = False
        self.broken = False
        self.on_gone: Callable[[], None] | None = None

    async def put(self, data: bytes) -> None:
        """Add bytes, waiting for room; of a client that has gone nothing is kept."""
        if self._size >= BYTES_MAX and not self.gone:
            await self._wait_for_room()
        if data and not self.gone:
            self._pieces.append(data)
            self._size += len(data)
            self._changed.set()

    async def _wait_for_room(self) -> None:
        self._room.clear()
        try:
            async with asyncio.timeout(READS_WITHIN_S):
                await self._room.wait()
        except TimeoutError:
            self.broken = True
            self.leave()

    def close(self, *, broken: bool = False) -> None:
        """Nothing more will come."""
        self._closed = True
        self.broken = self.broken or broken
        self._changed.set()

    async def get(self) -> bytes | None:
        """All bytes there are; None at the end."""
        while not self._pieces:
            if self._closed or self.gone:
                return None
            self._changed.clear()
            await self._changed.wait()
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        self._room.set()
        return data

    def leave(self) -> None:
        """The client has gone."""
        if not self.gone:
            self.gone = True
            self._pieces.clear()
            self._room.set()
            self._changed.set()
            if self.on_gone is not None and not self._closed:
                self.on_gone()
