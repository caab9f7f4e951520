"""A message as a response."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, Raw, UnsetType

from metering.translate import reading
from metering.translate.anthropic import faults
from metering.translate.anthropic.chat_usage import Used
from metering.translate.anthropic.finish import refusal
from metering.translate.anthropic.message_stream import block_decoder
from metering.translate.anthropic.responses_form import Form, echo, ending
from metering.translate.anthropic.responses_output import Output
from metering.translate.anthropic.responses_stream import ResponsesStream
from metering.translate.base import Options


class _Message(msgspec.Struct):
    content: list[Raw]
    id: Raw = Raw(b'""')
    model: Raw = Raw(b'""')
    stop_reason: str | None = None
    stop_details: Raw = Raw(b"null")
    usage: Raw = Raw(b"null")
    xproxy_result: Raw | UnsetType = UNSET


_message = msgspec.json.Decoder(_Message)


class ResponsesAnswers:
    """See `base.Answers`."""

    def __init__(self, options: Options, fields: dict[str, Raw]) -> None:
        """`fields`: the request, which a response repeats in part."""
        self._created_s = options.created_s
        self._echo = echo(fields)

    def whole(self, body: bytes) -> bytes | None:
        """See `base.Answers`."""
        read = reading.found(_message, body)
        if read is None:
            return None
        form = Form(self._created_s, self._echo)
        form.name(read.id, read.model)
        output = Output(lambda *_: None, form.message_id)
        for index, raw in enumerate(read.content):
            block = reading.found(block_decoder, raw)
            if block is not None:
                output.begin(index, block)
                output.end_block()
        explained = refusal(read.stop_reason, read.stop_details)
        if explained:
            output.refuse(explained)
        used = Used()
        used.add(read.usage)
        status, reason = ending(read.stop_reason)
        made = form.made(status, output.end(status), used, reason=reason)
        if read.xproxy_result is not UNSET:
            made["xproxy_result"] = read.xproxy_result
        return reading.encode(made)

    def error(self, status: int, body: bytes) -> bytes:
        """See `base.Answers`."""
        return faults.error(status, body)

    def stream(self) -> ResponsesStream:
        """See `base.Answers`."""
        return ResponsesStream(Form(self._created_s, self._echo))
