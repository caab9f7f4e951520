"""What a provider answers, read: as long as its client is there, or patience lasts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from metering.errors import ProviderFault, ProviderLate
from metering.proxy.exchange import Exchange
from metering.settings import Settings
from metering.translate.base import Stream
from metering.upstream import Body, Reply

EVENT_BYTES = 250
"""About the size of a stream's event, which carries about a token."""


class Source:
    """One answer's body."""

    __slots__ = (
        "_client",
        "_drained_bytes",
        "_draining",
        "_patience",
        "_patience_ends",
        "_patient",
        "_settings",
        "body",
    )

    body: Body

    def __init__(
        self, client: Exchange, settings: Settings, *, draining: bool, patient: bool
    ) -> None:
        """`draining`: it is read on for a while after its client has left; `patient`: to its
        end."""
        self._client = client
        self._settings = settings
        self._draining = draining
        self._patient = patient
        self._patience: asyncio.Timeout | None = None
        self._patience_ends: float | None = None
        self._drained_bytes = 0

    def client_left(self) -> None:
        """From now on nobody hears what is read."""
        if self._patient:
            return
        wait_s = self._settings.drain_s if self._draining else 0
        self._patience_ends = asyncio.get_running_loop().time() + wait_s
        if self._patience is not None:
            self._patience.reschedule(self._patience_ends)

    async def chunks(self) -> AsyncIterator[bytes]:
        """What is left of the body; ends early when the client has left and patience is over."""
        while True:
            try:
                async with asyncio.timeout_at(self._patience_ends) as self._patience:
                    chunk = await self.body.read()
            except TimeoutError:
                return
            finally:
                self._patience = None
            if not chunk:
                return
            yield chunk
            if self._client.gone and self._drained(len(chunk)):
                return

    def _drained(self, size: int) -> bool:
        """Whether enough was read for a client that is gone: its time or its share is over."""
        if self._patient:
            return False
        self._drained_bytes += size
        ends = self._patience_ends or 0.0
        late = asyncio.get_running_loop().time() >= ends
        return late or self._drained_bytes > self._settings.drain_tokens * EVENT_BYTES

    async def pass_on(
        self, body: bytes, bytes_max: int, to: Callable[[bytes], Awaitable[None]]
    ) -> tuple[bytes | None, bool]:
        """Relay what is left of a body as it comes. Gives all of it, with what was read before,
        or None if that is larger than a size; and whether it was cut."""
        kept: bytearray | None = bytearray(body)
        try:
            async for chunk in self.chunks():
                await to(chunk)
                if kept is not None and len(kept) + len(chunk) <= bytes_max:
                    kept += chunk
                else:
                    kept = None
        except ProviderFault:
            return _given(kept), True
        return _given(kept), False

    async def read(self, bytes_max: int) -> tuple[bytes, bool]:
        """The body up to a size, and whether that is all of it."""
        parts, size = [], 0
        while data := await self.body.read():
            parts.append(data)
            size += len(data)
            if size > bytes_max:
                return b"".join(parts), False
        return parts[0] if len(parts) == 1 else b"".join(parts), True


def _given(kept: bytearray | None) -> bytes | None:
    return None if kept is None else bytes(kept)


async def in_time(reply: Awaitable[Reply], timeout_ms: int) -> Reply:
    """A reply that begins within a time; raises ProviderLate."""
    try:
        async with asyncio.timeout(timeout_ms / 1000):
            return await reply
    except TimeoutError:
        raise ProviderLate(
            f"the provider did not begin its answer within the {timeout_ms} ms that the call "
            "allows",
            should_retry=False,  # it may answer, and charge for it
        ) from None


def given_in(form: Stream, client: Exchange) -> Callable[[bytes], Awaitable[None]]:
    """Gives a client what a stream is in another form."""

    async def give(data: bytes) -> None:
        await client.piece(form.feed(data))

    return give
