"""What both dialects' stream taps share: relay at once, but hold back what carries the result.

    relaying - _carry -> holding - `ready` -> settled by the caller - splice -> relaying again

While an event is held, those after it wait behind it, so the order is the provider's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from io import StringIO

from metering.core.sse import EVENT_BYTES_MAX, Event, Parser, splice_event
from metering.providers.base import Usage

HELD_BYTES_MAX = 2 << 20
"""More than this is not held back: the stream then goes on without a carrier."""
OUTPUT_TEXT_MAX = 1 << 20
"""How much delivered text is kept for an estimate, in characters."""


class HoldingTap(ABC):
    """A `StreamTap` less the dialect: `_take` calls `_pass`, `_carry` or `_end` for each event."""

    def __init__(self, event_bytes_max: int = EVENT_BYTES_MAX) -> None:
        """`event_bytes_max` is the longest event that is read."""
        self.ready = False
        """See `base.StreamTap`."""
        self._parser = Parser(event_bytes_max)
        self._out: list[bytes] = []
        self._held: list[Event] = []
        self._held_bytes = 0
        self._carrier: Event | None = None
        self._spliced = False
        self._finished = False
        self._error = False
        self._text = StringIO()

    def feed(self, data: bytes) -> bytes:
        """See `base.StreamTap`."""
        return self._run(self._parser.feed(data))

    def finish(self) -> bytes:
        """See `base.StreamTap`."""
        out = self._run(self._parser.finish())
        self.ready = True
        return out

    def splice(self, result: bytes | None) -> bytes:
        """See `base.StreamTap`."""
        carrier = self._carrier if result is not None else None
        members = b'"xproxy_result":' + (result or b"")
        given = [
            splice_event(event, members) if event is carrier else event.raw for event in self._held
        ]
        self._forget()
        self._spliced = True
        return b"".join(given)

    @abstractmethod
    def usage(self) -> Usage:
        """See `base.StreamTap`."""

    @abstractmethod
    def _take(self, event: Event) -> None:
        """Decide on one event; called until `ready`."""

    @abstractmethod
    def _hidden(self, event: Event) -> bool:
        """Whether an event that comes once `ready` must not reach the client."""

    def _run(self, events: list[Event]) -> bytes:
        for event in events:
            if not self.ready:
                self._take(event)
            elif not self._hidden(event):
                self._pass(event)
        if not self._out:
            return b""
        out = b"".join(self._out)
        self._out.clear()
        return out

    def _pass(self, event: Event) -> None:
        """Relays an event, behind what is held."""
        if not self._held and (self._spliced or not self.ready):
            self._out.append(event.raw)
            return
        self._held.append(event)
        self._held_bytes += len(event.raw)
        if self._held_bytes > HELD_BYTES_MAX and not self.ready:
            self._release()

    def _carry(self, event: Event) -> None:
        """Holds an event back, as the one that is to carry the result."""
        self._held.append(event)
        self._held_bytes += len(event.raw)
        self._carrier = event

    def _end(self, event: Event) -> None:
        """Holds an event back behind the carrier: usage is final."""
        self.ready = True
        self._held.append(event)

    def _release(self) -> None:
        """Relays what is held, unchanged."""
        self._out.extend(event.raw for event in self._held)
        self._forget()

    def _forget(self) -> None:
        self._held.clear()
        self._held_bytes = 0
        self._carrier = None

    def _say(self, text: str) -> None:
        """Keeps delivered output."""
        room = OUTPUT_TEXT_MAX - self._text.tell()
        if room > 0:
            self._text.write(text[:room])
