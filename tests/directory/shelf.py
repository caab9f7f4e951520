"""A place that is read in Postgres's stead, so that its moments can be chosen."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


class Shelf:
    """A place that is read, and may be away; `asked` counts how often."""

    def __init__(self) -> None:
        self.value: object = "first"
        self.away = False
        self.asked = 0
        self.meanwhile: Callable[[], Awaitable[None]] | None = None
        """What happens between the reading and the answer."""

    async def read(self) -> object:
        """What is there now."""
        self.asked += 1
        value = self.value
        if self.meanwhile is not None:
            await self.meanwhile()
        if self.away:
            await asyncio.sleep(60)
        return value
