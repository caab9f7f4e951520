"""The blocks of a streamed message, one after the other, of deltas that may come mixed.

    text, thinking    end where anything else begins
    a call            ends where another thing begins, if its arguments are whole by then; else
                      what begins waits until the answer ends

Anthropic's clients take one block at a time, and OpenAI's deltas name the call they belong to, so
hosts may write several at once. Hardly any does: what is written call after call goes on at once.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw

from metering.translate import reading
from metering.translate.openai import completions, members
from metering.translate.openai.completions import Call

_START = (
    b"event: content_block_start\n"
    b'data: {"type":"content_block_start","index":%d,"content_block":%b}\n\n'
)
_DELTA = (
    b"event: content_block_delta\n"
    b'data: {"type":"content_block_delta","index":%d,"delta":{"type":%b:%b}}\n\n'
)
_STOP = b'event: content_block_stop\ndata: {"type":"content_block_stop","index":%d}\n\n'


class _Block(msgspec.Struct, frozen=True):
    number: int
    """Of a call its place among them; below zero: no call."""
    start: bytes
    """The block as it begins."""
    delta: bytes
    """The type of its deltas, and the name of what they add."""


_TEXT = _Block(-1, b'{"type":"text","text":""}', b'"text_delta","text"')
_THINKING = _Block(
    -2, b'{"type":"thinking","thinking":"","signature":""}', b'"thinking_delta","thinking"'
)
_INPUT = b'"input_json_delta","partial_json"'


class _Known(msgspec.Struct):
    """A call that was begun."""

    id: bytes | None
    block: _Block


class StreamBlocks:
    """Writes the events of blocks to a list of pieces."""

    def __init__(self, out: list[bytes]) -> None:
        self.called = False
        """Whether any tool was called."""
        self._out = out
        self._index = -1
        self._open: _Block | None = None
        self._written = bytearray()
        """The arguments of the call that is open, as they stand in JSON strings."""
        self._waiting: dict[int, tuple[_Block, bytearray]] = {}
        self._ended: set[int] = set()
        """Calls that were written whole."""
        self._calls: dict[bytes, _Known] = {}
        self._count = 0

    def say(self, text: Raw) -> None:
        """More text."""
        self._add(_TEXT, text)

    def think(self, thought: Raw) -> None:
        """More of the reasoning."""
        self._add(_THINKING, thought)

    def call(self, call: Call, answer: Raw) -> None:
        """More of a call, or a new one, of the answer with this id."""
        self._add(self._named(call, answer), completions.arguments(call.function))

    def close(self) -> None:
        """Ends what is open, and writes what waits for that."""
        self._close()
        for block, written in self._waiting.values():
            self._begin(block)
            if written:
                self._delta(block, _string(written))
            self._close()
        self._waiting.clear()

    def _named(self, call: Call, answer: Raw) -> _Block:
        """The block of a call: by its index, but by its id where hosts count all of them as 0."""
        slot = bytes(call.index)
        known = self._calls.get(slot)
        given = completions.text(call.id)
        name = completions.text(call.function.name) if call.function is not None else None
        if known is not None and not _another(known, given, name, slot):
            return known.block
        start = {
            "type": "tool_use",
            "id": completions.call_id(given, answer, self._count),
            "name": name or "",
            "input": {},
        }
        self.called = True
        block = _Block(self._count, reading.encode(start), _INPUT)
        self._calls[slot] = _Known(bytes(given) if given is not None else None, block)
        self._count += 1
        return block

    def _add(self, block: _Block, piece: Raw | None) -> None:
        if block is not self._open:
            if block.number in self._ended:
                return
            waiting = self._waiting.get(block.number)
            if waiting is None and (self._waiting or not self._whole()):
                waiting = self._waiting[block.number] = (block, bytearray())
            if waiting is not None:
                waiting[1].extend(_inside(piece))
                return
            self._close()
            self._begin(block)
        if piece is not None:
            self._delta(block, piece)

    def _whole(self) -> bool:
        """Whether what is open may end here."""
        if self._open is None or self._open.number < 0:
            return True
        said = members.value(_string(self._written))
        return isinstance(said, str) and members.is_object(Raw(said.encode()))

    def _begin(self, block: _Block) -> None:
        self._index += 1
        self._open = block
        self._out.append(_START % (self._index, block.start))

    def _delta(self, block: _Block, piece: Raw) -> None:
        self._out.append(_DELTA % (self._index, block.delta, piece))
        if block.number >= 0:
            self._written += _inside(piece)

    def _close(self) -> None:
        if self._open is None:
            return
        self._out.append(_STOP % self._index)
        if self._open.number >= 0:
            self._ended.add(self._open.number)
        self._written.clear()
        self._open = None


def _another(known: _Known, given: Raw | None, name: Raw | None, slot: bytes) -> bool:
    """Whether a delta begins another call than the one known by its index."""
    if given is not None:
        return known.id is not None and bytes(given) != known.id
    return not slot and name is not None


def _inside(piece: Raw | None) -> memoryview:
    """A JSON string less its quotes."""
    return memoryview(piece)[1:-1] if piece is not None else memoryview(b"")


def _string(inside: bytearray) -> Raw:
    return Raw(b"".join((b'"', inside, b'"')))
