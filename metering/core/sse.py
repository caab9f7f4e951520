"""Server-sent events as a push parser: `feed(bytes)` gives events, their raw bytes kept.

The raw bytes of all events, joined, are the stream; cut at any byte it gives the same events. An
event ends at two line ends in a row (CR, LF or CRLF). One that is longer than a bound is passed on
unread, in pieces, so that a stream without line ends costs no memory.
"""

from __future__ import annotations

import re

import msgspec

from metering.core.result import insertion

EVENT_BYTES_MAX = 1 << 20
"""The longest event that is read, its final line ends included: of text."""
MEDIA_BYTES_MAX = 32 << 20
"""The same where an event may carry whole images."""
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# Only looked for in streams that have a CR; plain LF streams are split by bytes.split.
_END = re.compile(rb"(?:\r\n|\n|\r(?!\n)){2}")


class Event(msgspec.Struct, frozen=True, gc=False):
    """One event: its bytes as they came, its name, and its data without field names.

    `data` is empty for comments, for events without data, and for what was too long to read.
    """

    raw: bytes
    event: bytes | None = None
    data: bytes = b""


class Parser:
    """Splits a stream into events."""

    def __init__(self, bytes_max: int = EVENT_BYTES_MAX) -> None:
        """`bytes_max` is the longest event that is read."""
        self._bytes_max = bytes_max
        self._pending = bytearray()
        self._scanned = 0
        self._first = True
        self._has_cr = False
        self._too_long = False

    def feed(self, data: bytes) -> list[Event]:
        """The events that end in these bytes."""
        self._has_cr = self._has_cr or b"\r" in data
        if not self._pending and not self._has_cr and data.find(b"\n\n") == len(data) - 2 >= 0:
            return [self._event(data)]  # one whole event, as most providers flush them
        if self._pending:
            self._pending += data
            if not self._ends():
                return self._shed()
            data = bytes(self._pending)
        *pieces, rest = self._split(data)
        self._pending = bytearray(rest)
        self._scanned = len(rest)
        return [self._event(piece) for piece in pieces] + self._shed()

    def finish(self) -> list[Event]:
        """What came after the last blank line, read as an event of its own."""
        raw = bytes(self._pending)
        self._pending.clear()
        return [self._event(raw)] if raw else []

    def _ends(self) -> bool:
        """Whether an event may end in what is pending, looking only at what is new."""
        start = max(0, self._scanned - 3)
        self._scanned = len(self._pending)
        if self._has_cr:
            return _END.search(self._pending, start) is not None
        return self._pending.find(b"\n\n", start) >= 0

    def _split(self, data: bytes) -> list[bytes]:
        """The whole events of the bytes, and what is left of them."""
        if not self._has_cr:
            pieces = data.split(b"\n\n")
            return [piece + b"\n\n" for piece in pieces[:-1]] + pieces[-1:]
        pieces = []
        start = 0
        for end in _END.finditer(data):
            if end.end() == len(data) and data.endswith(b"\r"):
                break  # the LF of this CR may be still to come
            pieces.append(data[start : end.end()])
            start = end.end()
        return [*pieces, data[start:]]

    def _shed(self) -> list[Event]:
        """Gives an event that became too long, but for what may be the beginning of its end."""
        if not self._too_long and len(self._pending) <= self._bytes_max:
            return []
        self._too_long = True
        raw = bytes(self._pending[:-3])
        del self._pending[:-3]
        self._scanned = 0
        return [Event(raw)] if raw else []

    def _event(self, raw: bytes) -> Event:
        first, self._first = self._first, False
        if self._too_long or len(raw) > self._bytes_max:
            self._too_long = False
            return Event(raw)
        if not first and not self._has_cr and raw.startswith(b"data: "):
            data = raw[6:-2]
            if b"\n" not in data and raw.endswith(b"\n\n"):
                return Event(raw, None, data)
        return Event(raw, *_fields(raw.removeprefix(BYTE_ORDER_MARK) if first else raw))


def _fields(text: bytes) -> tuple[bytes | None, bytes]:
    """The name and data of an event's text; other fields and comments are passed over."""
    if b"\r" in text:
        text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    event = None
    data = []
    for line in text.split(b"\n"):
        field, _, value = line.partition(b":")
        if field == b"data":
            data.append(value.removeprefix(b" "))
        elif field == b"event":
            event = value.removeprefix(b" ")
    return event, b"\n".join(data)


def splice_event(event: Event, members: bytes) -> bytes:
    """The event's bytes with `members` (`"a":1,"b":2`) at the end of its JSON object.

    Every byte of the event is kept. An event whose data is no JSON object comes back as it was.
    """
    place = insertion(event.data, members)
    if place is None:
        return event.raw
    at, text = place
    start = event.raw.rfind(event.data)
    if start >= 0:
        start += at
        return event.raw[:start] + text + event.raw[start:]
    lines = event.raw.splitlines(keepends=True)
    for index in range(len(lines) - 1, -1, -1):
        end = lines[index].rfind(b"}")
        if end >= 0 and lines[index].startswith(b"data:"):
            lines[index] = lines[index][:end] + text + lines[index][end:]
            break
    return b"".join(lines)
