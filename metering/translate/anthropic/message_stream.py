"""The events of a message, read: what every stream of another form is made of.

Anthropic's own streams are read by their bytes, one event after the other; what is no event of a
message says nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import msgspec
from msgspec import UNSET, Raw, UnsetType

from metering.core.sse import MEDIA_BYTES_MAX, Event, Parser
from metering.translate import reading
from metering.translate.anthropic import faults
from metering.translate.anthropic.chat_usage import Used

PING = b": ping\n\n"
"""A comment, which says nothing but that the stream is alive: models may think for minutes."""
NOTHING = Raw(b"")
_NULL = Raw(b"null")


class Start(msgspec.Struct):
    """The message, as it begins."""

    id: Raw = Raw(b'""')
    model: Raw = Raw(b'""')
    usage: Raw = _NULL


class Block(msgspec.Struct):
    """A block, whole or as it begins."""

    type: str = ""
    text: Raw = NOTHING
    thinking: Raw = NOTHING
    signature: Raw = NOTHING
    data: Raw = NOTHING
    citations: Raw = NOTHING
    id: Raw = _NULL
    name: Raw = _NULL
    input: Raw = NOTHING


class Delta(msgspec.Struct):
    """What a block goes on with; or how the message ends."""

    type: str = ""
    text: Raw = NOTHING
    thinking: Raw = NOTHING
    signature: Raw = NOTHING
    citation: Raw = NOTHING
    partial_json: Raw = NOTHING
    stop_reason: str | None = None
    stop_sequence: Raw = _NULL
    stop_details: Raw = _NULL


class Read(msgspec.Struct):
    """An event."""

    type: str = ""
    index: int = 0
    message: Start | None = None
    content_block: Raw = NOTHING
    delta: Raw = NOTHING
    usage: Raw = _NULL
    xproxy_result: Raw | UnsetType = UNSET


_event = msgspec.json.Decoder(Read)
block_decoder = msgspec.json.Decoder(Block)
delta_decoder = msgspec.json.Decoder(Delta)


class MessageStream(ABC):
    """A `base.Stream` less the form that it is given in."""

    takers: ClassVar[Mapping[str, Callable[[Any, Read], bytes]]]
    """What each event becomes, by its type."""

    def __init__(self) -> None:
        self._parser = Parser(MEDIA_BYTES_MAX)
        self._used = Used()
        self._over = False
        self._result: Raw | UnsetType = UNSET
        """The result, until it has been passed on."""

    def feed(self, data: bytes) -> bytes:
        """See `base.Stream`."""
        return b"".join([out for event in self._parser.feed(data) if (out := self._take(event))])

    def finish(self, *, cut: bool) -> bytes:  # noqa: ARG002 (what was cut has not come to its end)
        """See `base.Stream`."""
        out = b"".join(self._take(event, last=True) for event in self._parser.finish())
        return out if self._over else out + self._fail(faults.CUT)

    def _take(self, event: Event, *, last: bool = False) -> bytes:
        """What an event becomes."""
        if self._over:
            return b""
        data = event.data
        if not data:
            return b"" if len(event.raw) < MEDIA_BYTES_MAX - 3 else self._fail()
        if b"\n" in data:  # an object over several lines; ours are one line each
            data = data.replace(b"\n", b" ")
        read = reading.found(_event, data)
        if read is None:
            return b"" if last else self._fail()
        if read.xproxy_result is not UNSET:
            self._result = read.xproxy_result
        take = self.takers.get(read.type)
        if take is not None:
            return take(self, read)
        if read.type == "ping":
            return PING
        return self._fail(faults.said(data)) if read.type == "error" else b""

    def _fail(self, fault: faults.Fault = faults.UNREADABLE) -> bytes:
        """The end of a stream that tells of an error, is cut or cannot be read."""
        self._over = True
        return self._failed(fault)

    @abstractmethod
    def _failed(self, fault: faults.Fault) -> bytes:
        """How the client is told of it."""
