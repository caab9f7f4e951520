"""The events of a message as chunks of a chat completion, each as soon as it comes.

A chunk is bytes around a delta, and text goes through as the JSON string it is. The result of a
call, `xproxy_result`, comes on the last chunk: on the one with usage where the client has asked for
that, else with the finish reason; of a stream that breaks off, on its error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import msgspec
from msgspec import UNSET, Raw

from metering.translate import reading
from metering.translate.anthropic import faults
from metering.translate.anthropic.finish import finish_reason, refusal
from metering.translate.anthropic.message_stream import (
    Block,
    Delta,
    MessageStream,
    Read,
    block_decoder,
    delta_decoder,
)
from metering.translate.base import Options

DONE = b"data: [DONE]\n\n"


class _Call(msgspec.Struct):
    """A call that is under way."""

    index: int
    said: bool = False
    """Whether arguments have been given."""
    whole: bool = False
    """Whether all of them came with its beginning."""


_EMPTY = b'""'


class ChatStream(MessageStream):
    """See `base.Stream`."""

    def __init__(self, options: Options, *, model: str, include_usage: bool, legacy: bool) -> None:
        """`legacy`: the client knows functions, not tools."""
        super().__init__()
        self._options = options
        self._include_usage = include_usage
        self._legacy = legacy
        self._head = b""
        self._tail = b',"usage":null}\n\n' if include_usage else b"}\n\n"
        self._name(Raw(_EMPTY), Raw(reading.encode(model)))
        self._calls: dict[int, _Call] = {}
        self._begun = False
        self._reason = b""
        """Why the answer ended, once that has been said."""

    def _name(self, answer: Raw, model: Raw) -> None:
        """What all chunks begin with."""
        made = b'data: {"id":%b,"object":"chat.completion.chunk","created":%d,"model":%b,'
        self._head = made % (bytes(answer), self._options.created_s, bytes(model))
        if self._used.tier is not None:
            self._head += b'"service_tier":%b,' % reading.encode(self._used.tier)
        if not self._options.strict:
            self._head += b'"provider":%b,' % reading.encode(faults.PROVIDER)
        self._head += b'"choices":['

    def _failed(self, fault: faults.Fault) -> bytes:
        """See `MessageStream`."""
        return faults.told(fault, self._result)

    def _start(self, read: Read) -> bytes:
        if read.message is not None:
            self._used.add(read.message.usage)
            self._name(read.message.id, read.message.model)
        return self._begin()

    def _begin(self) -> bytes:
        """The chunk with the role, which is the first."""
        if self._begun:
            return b""
        self._begun = True
        return self._chunk(b'{"role":"assistant","content":"","refusal":null}')

    def _block_start(self, read: Read) -> bytes:
        block = reading.found(block_decoder, read.content_block)
        if block is None:
            return self._fail()
        if block.type == "tool_use":
            return self._begin() + self._call(read.index, block)
        if block.type == "text" and bytes(block.text) not in {b"", _EMPTY}:
            return self._said(b'"content":' + bytes(block.text), read.index, read.content_block)
        if block.type == "thinking" and bytes(block.thinking) in {b"", _EMPTY}:
            return b""
        if block.type == "text" or self._options.strict:
            return b""
        return self._said(b"", read.index, read.content_block)

    def _call(self, at: int, block: Block) -> bytes:
        """A call of a tool: its number among them, its name, and its input if that came whole."""
        given = bytes(block.input).strip()
        whole = given not in {b"", b"{}", b"null"}
        if self._legacy and self._calls:
            return b""  # where there is one call, as the request has asked for
        self._calls[at] = call = _Call(len(self._calls), said=whole, whole=whole)
        text = given.decode(errors="replace") if whole else ""
        function = {"name": block.name, "arguments": text}
        if self._legacy:
            return self._chunk(reading.encode({"function_call": function}))
        made = {"index": call.index, "id": block.id, "type": "function", "function": function}
        return self._chunk(reading.encode({"tool_calls": [made]}))

    def _arguments(self, call: _Call, piece: bytes) -> bytes:
        call.said = True
        if self._legacy:
            return self._chunk(b'{"function_call":{"arguments":%b}}' % piece)
        made = b'{"tool_calls":[{"index":%d,"function":{"arguments":%b}}]}'
        return self._chunk(made % (call.index, piece))

    def _block_delta(self, read: Read) -> bytes:
        delta = reading.found(delta_decoder, read.delta)
        if delta is None:
            return self._fail()
        if reading.is_text(delta.text):
            return self._said(b'"content":' + bytes(delta.text), read.index, read.delta)
        call = self._calls.get(read.index)
        if call is not None and delta.type == "input_json_delta":
            piece = bytes(delta.partial_json) if reading.is_text(delta.partial_json) else b""
            return self._arguments(call, piece) if piece[1:-1] and not call.whole else b""
        if self._options.strict:
            return b""
        if reading.is_text(delta.thinking):
            member = b'"reasoning_content":' + bytes(delta.thinking)
            return self._said(member, read.index, read.delta)
        return self._said(b"", read.index, read.delta)

    def _said(self, member: bytes, at: int, block: Raw) -> bytes:
        """A chunk with a member of the delta, and, where not strict, the block's part itself."""
        if self._options.strict:
            return self._begin() + self._chunk(b"{%b}" % member)
        comma = b"," if member else b""
        made = b'{%b%b"content_blocks":[{"index":%d,"delta":%b}]}'
        return self._begin() + self._chunk(made % (member, comma, at, bytes(block)))

    def _block_stop(self, read: Read) -> bytes:
        """A call without arguments has an empty object of them."""
        call = self._calls.get(read.index)
        return self._arguments(call, b'"{}"') if call is not None and not call.said else b""

    def _message_delta(self, read: Read) -> bytes:
        self._used.add(read.usage)
        delta = reading.found(delta_decoder, read.delta)
        if delta is None or delta.stop_reason is None or self._reason:
            return b""
        return self._begin() + self._end(delta)

    def _end(self, delta: Delta) -> bytes:
        """The chunk that says why it ended."""
        self._reason = reading.encode(finish_reason(delta.stop_reason, legacy=self._legacy))
        explained = refusal(delta.stop_reason, delta.stop_details)
        said = {"refusal": explained} if explained else {}
        more = b""
        if not self._options.strict:
            raw = {"stop_reason": delta.stop_reason, "stop_sequence": delta.stop_sequence}
            more = b"," + reading.encode(raw)[1:-1]
        return self._chunk(reading.encode(said), more, last=True)

    def _message_stop(self, read: Read) -> bytes:  # noqa: ARG002 (as all takers)
        self._over = True
        out = self._begin()
        if not self._reason:
            out += self._end(Delta())
        if self._include_usage:
            usage = self._used.told(strict=self._options.strict)
            out += self._head + b'],"usage":' + reading.encode(usage) + self._carried() + b"}\n\n"
        elif self._result is not UNSET:  # it came after the chunk that was to carry it
            out += self._chunk(b"{}", last=True)
        return out + DONE

    def _chunk(self, delta: bytes, more: bytes = b"", *, last: bool = False) -> bytes:
        """A chunk of the one choice; the `last` one says why it ended, and has the result unless
        the usage is to come."""
        reason = self._reason if last else b"null"
        result = self._carried() if last and not self._include_usage else b""
        made = b'%b{"index":0,"delta":%b,"logprobs":null,"finish_reason":%b%b}]%b%b'
        return made % (self._head, delta, reason, more, result, self._tail)

    def _carried(self) -> bytes:
        """The result as a member, once."""
        result, self._result = self._result, UNSET
        return b"" if result is UNSET else b',"xproxy_result":' + bytes(result)

    takers: ClassVar[Mapping[str, Callable[[Any, Read], bytes]]] = {
        "message_start": _start,
        "content_block_start": _block_start,
        "content_block_delta": _block_delta,
        "content_block_stop": _block_stop,
        "message_delta": _message_delta,
        "message_stop": _message_stop,
    }
