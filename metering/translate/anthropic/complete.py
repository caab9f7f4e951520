"""A text completion's request as one for Anthropic's text completions, and its answers back.

Both are from before there were messages. Anthropic's asks for a dialogue: a prompt that is none
becomes its first turn. Neither its answers nor its streams say what was used.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from metering.core.sse import MEDIA_BYTES_MAX, Event, Parser
from metering.translate import reading
from metering.translate.anthropic import faults
from metering.translate.anthropic.chat_request import stops, user
from metering.translate.anthropic.chat_stream import DONE
from metering.translate.anthropic.finish import finish_reason
from metering.translate.anthropic.message_stream import PING
from metering.translate.base import Options, Translated
from metering.translate.reading import Lost, is_list, is_text, missing, wrong

HUMAN, ASSISTANT = "\n\nHuman:", "\n\nAssistant:"
OUTPUT_DEFAULT = 16
"""OpenAI's own cap where the client has set none."""
_PASSED = ("top_p", "top_k")
_READ = frozenset(
    {
        *("model", "prompt", "max_tokens", "max_tokens_to_sample", "stop", "stop_sequences"),
        *("temperature", "top_p", "top_k", "user", "safety_identifier", "metadata", "stream"),
        *("stream_options",),
    }
)
_DEFAULTS: dict[str, Any] = {
    "n": 1,
    "best_of": 1,
    "echo": False,
    "logprobs": 0,
    "logit_bias": {},
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "suffix": "",
}


class _Completion(msgspec.Struct):
    completion: Raw = Raw(b'""')
    id: Raw = Raw(b'""')
    model: Raw = Raw(b'""')
    stop_reason: str | None = None
    type: str = "completion"
    xproxy_result: Raw | UnsetType = UNSET


_completion = msgspec.json.Decoder(_Completion)


def completions_to_complete(body: bytes, options: Options) -> Translated:
    """See `base.Translate`."""
    fields = reading.top(body)
    lost = Lost()
    if "model" not in fields or not reading.text(fields["model"], "model"):
        raise missing("model", "name the model to call")
    made: dict[str, Any] = {
        "model": fields["model"],
        "prompt": _prompt(fields),
        "max_tokens_to_sample": _cap(fields),
    }
    stops(made, fields, lost)
    user(made, fields, lost)
    if "temperature" in fields:
        given = reading.number(fields["temperature"], "temperature")
        made["temperature"] = fields["temperature"] if 0 <= given <= 1 else min(1, max(0, given))
        if not 0 <= given <= 1:
            lost.change("temperature")
    made |= {name: fields[name] for name in _PASSED if name in fields}
    if "stream" in fields and reading.flag(fields["stream"], "stream"):
        made["stream"] = True
    reading.drop(fields, _READ, _DEFAULTS, lost)
    return Translated(
        body=reading.encode(made),
        answers=CompleteAnswers(options),
        dropped=lost.dropped,
        changed=lost.changed,
    )


def _prompt(fields: dict[str, Raw]) -> str:
    """The prompt as a dialogue in which the assistant is next."""
    if "prompt" not in fields:
        raise missing("prompt", "it is the text to complete")
    given = fields["prompt"]
    if is_list(given):
        texts = reading.items(given, "prompt")
        if len(texts) != 1 or not is_text(texts[0]):
            raise wrong("prompt", "one text: there is one answer, and tokens are OpenAI's own")
        given = texts[0]
    text = reading.text(given, "prompt")
    if HUMAN in text:
        return text if ASSISTANT in text else f"{text}{ASSISTANT}"
    return f"{HUMAN} {text}{ASSISTANT}"


def _cap(fields: dict[str, Raw]) -> int:
    for name in ("max_tokens", "max_tokens_to_sample"):
        if name in fields:
            return reading.count(fields[name], name)
    return OUTPUT_DEFAULT


class CompleteAnswers:
    """See `base.Answers`."""

    def __init__(self, options: Options) -> None:
        self._options = options

    def whole(self, body: bytes) -> bytes | None:
        """See `base.Answers`."""
        read = reading.found(_completion, body)
        if read is None or read.type != "completion":
            return None
        return _made(read, self._options, finish_reason(read.stop_reason))

    def error(self, status: int, body: bytes) -> bytes:
        """See `base.Answers`."""
        return faults.error(status, body)

    def stream(self) -> CompleteStream:
        """See `base.Answers`."""
        return CompleteStream(self._options)


class CompleteStream:
    """See `base.Stream`. The event with a `stop_reason` is the last one, and has the result."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._parser = Parser(MEDIA_BYTES_MAX)
        self._over = False

    def feed(self, data: bytes) -> bytes:
        """See `base.Stream`."""
        return b"".join(self._take(event) for event in self._parser.feed(data))

    def finish(self, *, cut: bool) -> bytes:  # noqa: ARG002 (what was cut has not come to its end)
        """See `base.Stream`."""
        out = b"".join(self._take(event, last=True) for event in self._parser.finish())
        if self._over:
            return out
        self._over = True
        return out + faults.told(faults.CUT)

    def _take(self, event: Event, *, last: bool = False) -> bytes:
        unread = not event.data and len(event.raw) >= MEDIA_BYTES_MAX - 3
        if self._over or not (event.data or unread):
            return b""
        data = event.data.replace(b"\n", b" ")
        read = reading.found(_completion, data) if data else None
        if read is None:
            self._over = not last
            return b"" if last else faults.told(faults.UNREADABLE)
        if read.type == "error":
            self._over = True
            return faults.told(faults.said(data))
        if read.type != "completion":
            return PING if read.type == "ping" else b""
        reason = finish_reason(read.stop_reason) if read.stop_reason else None
        out = b"data: " + _made(read, self._options, reason) + b"\n\n"
        self._over = reason is not None
        return out + DONE if self._over else out


def _made(read: _Completion, options: Options, reason: str | None) -> bytes:
    """A completion, whole or a piece of it; they have the same form."""
    choice = {"text": read.completion, "index": 0, "logprobs": None, "finish_reason": reason}
    made: dict[str, Any] = {
        "id": read.id,
        "object": "text_completion",
        "created": options.created_s,
        "model": read.model,
        "choices": [choice],
    }
    if not options.strict:
        made["provider"] = faults.PROVIDER
        if read.stop_reason is not None:
            choice["stop_reason"] = read.stop_reason
    if read.xproxy_result is not UNSET:
        made["xproxy_result"] = read.xproxy_result
    return reading.encode(made)
