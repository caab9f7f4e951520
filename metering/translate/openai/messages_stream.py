"""A stream of chat completions as a stream of messages.

    first chunk with a choice   message_start
    deltas                      blocks, at once
    finish_reason               the end of the last block
    [DONE], or the end          message_delta with the usage and the `xproxy_result`, message_stop
    error, or a cut             error, and nothing more

The end is written when it is sure, since the usage comes behind the reason to stop; a stream that
lacks it is told as an error.
"""

from __future__ import annotations

from msgspec import Raw

from metering.core.sse import EVENT_BYTES_MAX, Event, Parser
from metering.translate import reading
from metering.translate.openai import completions, members
from metering.translate.openai.completions import Choice, Completion
from metering.translate.openai.stream_blocks import StreamBlocks

_NO_TEXT = Raw(b'""')
_STARTED = {"input_tokens": 0, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
_CUT = "the provider's stream was cut off before its end; send the request again"
_TOO_LONG = "the provider's stream has an event that is too long to be read"
_STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'


class MessagesStream:
    """See `base.Stream`."""

    def __init__(self) -> None:
        self._parser = Parser()
        self._out: list[bytes] = []
        self._blocks = StreamBlocks(self._out)
        self._id = self._model = _NO_TEXT
        self._started = self._refused = self._ended = False
        self._finish: Raw | None = None
        self._matched = Raw(b"")
        self._usage = Raw(b"")
        self._result: bytes | None = None

    def feed(self, data: bytes) -> bytes:
        """See `base.Stream`."""
        return self._run(self._parser.feed(data))

    def finish(self, *, cut: bool) -> bytes:
        """See `base.Stream`."""
        out = self._run(self._parser.finish())
        if not self._ended:
            if cut or self._finish is None:
                self._fail(completions.failure("api_error", _CUT))
            else:
                self._end()
            out += self._taken()
        return out

    def _run(self, events: list[Event]) -> bytes:
        for event in events:
            if self._ended:
                break
            self._take(event)
        return self._taken()

    def _taken(self) -> bytes:
        out = b"".join(self._out)
        self._out.clear()
        return out

    def _take(self, event: Event) -> None:
        data = event.data.strip()
        if data == b"[DONE]":
            self._done()
        elif data:
            chunk = completions.read(data)
            if chunk is not None:
                self._read(chunk)
        elif len(event.raw) > EVENT_BYTES_MAX - len(b"\r\n\r\n"):
            self._fail(completions.failure("api_error", _TOO_LONG))

    def _read(self, chunk: Completion) -> None:
        if members.said(chunk.xproxy_result):
            self._result = _on_one_line(chunk.xproxy_result)
        if members.said(chunk.error):
            self._fail(completions.error(chunk.error))
            return
        if members.said(chunk.usage):
            self._usage = chunk.usage
        if not self._started:
            self._id = completions.text(chunk.id) or self._id
            self._model = completions.text(chunk.model) or self._model
        if chunk.choices:
            if not self._started:
                self._start(chunk)
            self._choose(chunk.choices[0])

    def _start(self, chunk: Completion) -> None:
        self._started = True
        message: dict[str, object] = {
            "model": self._model,
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "stop_details": None,
            "usage": {**_STARTED, "output_tokens": 0, **completions.tier(chunk.service_tier)},
        }
        self._emit(b"message_start", {"type": "message_start", "message": message})

    def _choose(self, choice: Choice) -> None:
        said = choice.delta or choice.message
        if said is not None:
            if (thought := said.thought) is not None:
                self._blocks.think(thought)
            if (text := completions.text(said.content)) is not None:
                self._blocks.say(text)
            if (refusal := completions.text(said.refusal)) is not None:
                self._refused = True
                self._blocks.say(refusal)
            for call in said.calls:
                self._blocks.call(call, self._id)
        if members.said(choice.stop_reason):
            self._matched = choice.stop_reason
        if completions.text(choice.finish_reason) is not None:
            self._finish = choice.finish_reason
            self._blocks.close()

    def _done(self) -> None:
        if self._started:
            self._end()
        else:
            self._fail(completions.failure("api_error", _CUT))

    def _end(self) -> None:
        self._blocks.close()
        delta = completions.stop(
            self._finish or Raw(b""),
            self._matched,
            called=self._blocks.called,
            refused=self._refused,
        )
        usage = completions.usage(self._usage)
        self._emit(
            b"message_delta",
            self._carrying({"type": "message_delta", "delta": delta, "usage": usage}),
        )
        self._out.append(_STOP)
        self._ended = True

    def _fail(self, error: dict[str, object]) -> None:
        self._emit(b"error", self._carrying(error))
        self._ended = True

    def _carrying(self, event: dict[str, object]) -> dict[str, object]:
        """An event with the result, if there is one."""
        if self._result is not None:
            event["xproxy_result"] = Raw(self._result)
        return event

    def _emit(self, name: bytes, event: dict[str, object]) -> None:
        self._out.append(b"event: %b\ndata: %b\n\n" % (name, reading.encode(event)))


def _on_one_line(raw: Raw) -> bytes:
    """JSON of the provider's, less the line ends between its tokens."""
    return bytes(raw).replace(b"\r", b" ").replace(b"\n", b" ")
