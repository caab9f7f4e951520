"""The events of a message as those of a response, each as soon as it comes.

A response ends with `response.completed` or `response.incomplete`, which is told when the message
has come to its proper end. One that breaks off ends as OpenAI's do: with `error`, and then
`response.failed`. The last event has the result of the call, `xproxy_result`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from msgspec import UNSET

from metering.translate import reading
from metering.translate.anthropic import faults
from metering.translate.anthropic.finish import refusal
from metering.translate.anthropic.message_stream import (
    Delta,
    MessageStream,
    Read,
    block_decoder,
    delta_decoder,
)
from metering.translate.anthropic.responses_form import Form, ending
from metering.translate.anthropic.responses_output import Output

_CODES = {"rate_limit_error": "rate_limit_exceeded", "invalid_request_error": "invalid_prompt"}
"""The codes that a failed response has, which are few; others are `server_error`."""


class ResponsesStream(MessageStream):
    """See `base.Stream`."""

    def __init__(self, form: Form) -> None:
        """`form`: of a response that nothing is known of yet."""
        super().__init__()
        self._form = form
        self._told: list[bytes] = []
        self._number = 0
        self._output: Output | None = None
        self._ended = Delta()

    def _tell(self, event: str, members: dict[str, Any]) -> None:
        """Writes an event, with the next number."""
        data = reading.encode({"type": event, "sequence_number": self._number, **members})
        self._number += 1
        self._told.append(b"event: %b\ndata: %b\n\n" % (event.encode(), data))

    def _out(self) -> bytes:
        """What has been written."""
        out = b"".join(self._told)
        self._told.clear()
        return out

    def _begun(self) -> Output:
        """The output; the response is made known before there is any."""
        if self._output is None:
            self._output = Output(self._tell, self._form.message_id)
            response = self._form.made("in_progress", [], self._used)
            for event in ("response.created", "response.in_progress"):
                self._tell(event, {"response": response})
        return self._output

    def _start(self, read: Read) -> bytes:
        if read.message is not None and self._output is None:
            self._used.add(read.message.usage)
            self._form.name(read.message.id, read.message.model)
        self._begun()
        return self._out()

    def _block_start(self, read: Read) -> bytes:
        block = reading.found(block_decoder, read.content_block)
        if block is None:
            return self._fail()
        self._begun().begin(read.index, block)
        return self._out()

    def _block_delta(self, read: Read) -> bytes:
        delta = reading.found(delta_decoder, read.delta)
        if delta is None:
            return self._fail()
        self._begun().go_on(read.index, delta)
        return self._out()

    def _block_stop(self, _: Read) -> bytes:
        self._begun().end_block()
        return self._out()

    def _message_delta(self, read: Read) -> bytes:
        self._used.add(read.usage)
        delta = reading.found(delta_decoder, read.delta)
        if delta is not None and delta.stop_reason is not None:
            self._ended = delta
        return b""

    def _message_stop(self, _: Read) -> bytes:
        self._over = True
        output = self._begun()
        explained = refusal(self._ended.stop_reason, self._ended.stop_details)
        if explained:
            output.refuse(explained)
        status, reason = ending(self._ended.stop_reason)
        items = output.end(status)
        response = self._form.made(status, items, self._used, reason=reason)
        return self._end(f"response.{status}", response)

    def _failed(self, fault: faults.Fault) -> bytes:
        """See `MessageStream`."""
        items = self._begun().cut()
        told = {"code": fault.code, "message": fault.message, "param": None}
        self._tell("error", told)
        error = {"code": _CODES.get(fault.code, "server_error"), "message": fault.message}
        response = self._form.made("failed", items, self._used, error=error)
        return self._end("response.failed", response)

    def _end(self, event: str, response: dict[str, Any]) -> bytes:
        """The last event, which has the result."""
        carried = {} if self._result is UNSET else {"xproxy_result": self._result}
        self._tell(event, {"response": response, **carried})
        return self._out()

    takers: ClassVar[Mapping[str, Callable[[Any, Read], bytes]]] = {
        "message_start": _start,
        "content_block_start": _block_start,
        "content_block_delta": _block_delta,
        "content_block_stop": _block_stop,
        "message_delta": _message_delta,
        "message_stop": _message_stop,
    }
