"""Chat completions, and the completions before them, whose answers are alike.

Of a stream, usage is always asked for. Its chunk, which has no choices, reaches only a client that
asked for it too; the `"usage":null` that the other chunks then carry stays in them, since every
event is relayed as it came.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw

from metering.core.reach import PLAIN, Reach
from metering.core.sse import Event
from metering.errors import InvalidRequest
from metering.providers import request
from metering.providers.answer import (
    Count,
    flat,
    loose,
    loose_raw,
    loose_str,
    read_object,
    said,
    strings,
)
from metering.providers.base import Ask, StreamTap, Usage
from metering.providers.holding import HoldingTap
from metering.providers.openai import beyond
from metering.providers.openai.details import InputDetails, OutputDetails, token_counts

DEFAULT_MAX_TOKENS = 16
"""The output cap of a completion that sets none."""
USAGE_WANTED = Raw(b'{"include_usage":true}')


class _Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: str | None = None


class _Call(msgspec.Struct, gc=False):
    function: _Function | None = None


class _Delta(msgspec.Struct):
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[_Call] | None = None
    function_call: _Function | None = None


class _Choice(msgspec.Struct):
    finish_reason: str | None = None
    delta: _Delta | None = None
    text: str | None = None
    """Of a completion."""
    usage: Raw = Raw(b"")
    """Moonshot's, on the last."""


class _Groq(msgspec.Struct, gc=False):
    usage: Raw = Raw(b"")


class _Chunk(msgspec.Struct):
    id: str | None = None
    model: str | None = None
    service_tier: str | None = None
    choices: list[_Choice] | None = None
    usage: Raw = Raw(b"")
    x_groq: _Groq | None = None
    error: Raw = Raw(b"")

    @property
    def stated(self) -> Raw:
        """The usage, wherever it stands; empty where it is missing or null."""
        if said(self.usage):
            return self.usage
        elsewhere = [choice.usage for choice in self.choices or ()]
        if self.x_groq is not None:
            elsewhere.append(self.x_groq.usage)
        return next(filter(said, elsewhere), Raw(b""))


class _Answer(msgspec.Struct):
    id: str | None = None
    model: str | None = None
    service_tier: str | None = None
    usage: Raw = Raw(b"")
    error: Raw = Raw(b"")


class _Usage(msgspec.Struct):
    prompt_tokens: Count
    completion_tokens: Count
    total_tokens: Any = None
    prompt_tokens_details: InputDetails | None = None
    completion_tokens_details: OutputDetails | None = None
    cached_tokens: Count | None = None
    """Moonshot's and Together's, in place of the details'."""
    prompt_cache_hit_tokens: Count | None = None
    """DeepSeek's."""

    @property
    def output(self) -> int:
        """All tokens that were written. xAI leaves those of reasoning out, but not of the total."""
        details = self.completion_tokens_details
        reasoning = (details and details.reasoning_tokens) or 0
        apart = self.prompt_tokens + self.completion_tokens + reasoning == self.total_tokens
        return self.completion_tokens + (reasoning if apart else 0)

    @property
    def cached(self) -> int | None:
        """How many tokens of the prompt came from a cache, where the details do not say."""
        return self.cached_tokens or self.prompt_cache_hit_tokens


_chunk_decoder = msgspec.json.Decoder(_Chunk)
_answer_decoder = msgspec.json.Decoder(_Answer)
_usage_decoder = msgspec.json.Decoder(_Usage)


def counts(raw: Raw | bytes) -> dict[str, int] | None:
    """The counts of a `usage` member, totals always, details where not zero; None: unbelievable."""
    try:
        usage = _usage_decoder.decode(raw)
    except ValueError:
        return None
    into = usage.prompt_tokens_details
    if usage.cached and (into is None or into.cached_tokens is None):
        into = msgspec.structs.replace(into or InputDetails(), cached_tokens=usage.cached)
    return token_counts(usage.prompt_tokens, usage.output, into, usage.completion_tokens_details)


class Chat:
    """`/v1/chat/completions`; see `base.Form`."""

    def ask(self, body: bytes, content_type: bytes, named: str = "") -> Ask:  # noqa: ARG002
        """See `base.Form`."""
        fields = request.members(body)
        stream, include_usage, changed = _stream(body, fields)
        caps = [request.count(fields, name) for name in ("max_completion_tokens", "max_tokens")]
        return Ask(
            model=request.model(fields, named),
            stream=stream,
            include_usage=include_usage,
            max_output_tokens=max((cap for cap in caps if cap is not None), default=None),
            choices=request.choices(fields),
            service_tier=request.tier(fields),
            texts=request.prompt_texts(fields, (), ("tools", "functions", "response_format")),
            end_user=request.user(fields),
            body_bytes=len(body),
            changed_body=request.encode(fields) if changed else None,
        )

    def reach(self, body: bytes, ask: Ask) -> Reach:
        """See `base.Form`."""
        return beyond.chat(body, ask.model)

    def read(self, body: bytes, ask: Ask) -> Usage:  # noqa: ARG002
        """See `base.Form`."""
        answer = read_object(_answer_decoder, body)
        if answer is None:
            return Usage()
        found = counts(answer.usage)
        return Usage(
            model=answer.model,
            provider_id=answer.id,
            service_tier=answer.service_tier,
            counts=found,
            output_text="" if found else _output_text(body),
            finished=True,
            error=said(answer.error),
        )

    def tap(self, ask: Ask) -> StreamTap:
        """See `base.Form`."""
        return ChatTap(include_usage=ask.include_usage)


class Completions(Chat):
    """`/v1/completions`, for models that continue a text; see `base.Form`."""

    def ask(self, body: bytes, content_type: bytes, named: str = "") -> Ask:  # noqa: ARG002
        """See `base.Form`."""
        fields = request.members(body)
        stream, include_usage, changed = _stream(body, fields)
        prompts = request.inputs(fields, "prompt")
        cap = request.count(fields, "max_tokens")
        # `best_of` answers are made, and billed, for each prompt; the best `n` come back
        made = max(request.choices(fields), request.choices(fields, "best_of"))
        return Ask(
            model=request.model(fields, named),
            stream=stream,
            include_usage=include_usage,
            max_output_tokens=DEFAULT_MAX_TOKENS if cap is None else cap,
            choices=made * prompts.size,
            texts=prompts.texts,
            tokens=prompts.tokens,
            end_user=request.user(fields),
            body_bytes=len(body),
            changed_body=request.encode(fields) if changed else None,
        )

    def reach(self, body: bytes, ask: Ask) -> Reach:  # noqa: ARG002
        """See `base.Form`. Its text is all there is."""
        return PLAIN


def _stream(body: bytes, fields: dict[str, Raw]) -> tuple[bool, bool, bool]:
    """Whether a stream is asked for, with the usage chunk, and whether the body must change.

    Sets the member that has OpenAI state the usage.
    """
    changed = request.repeats(body, fields)
    if not request.flag(fields, "stream"):
        return False, False, changed
    include_usage, wanted = _stream_options(fields)
    if wanted is not None:
        fields["stream_options"] = wanted
    return True, include_usage, changed or wanted is not None


def _stream_options(fields: dict[str, Raw]) -> tuple[bool, Raw | None]:
    """Whether the caller asked for usage, and the options to send if others than the caller's."""
    raw = fields.get("stream_options")
    if raw is None or not said(raw):
        return False, USAGE_WANTED
    text = bytes(raw)
    try:
        options = request.members(text)
        asked = request.flag(options, "include_usage")
    except InvalidRequest:
        expected = "an object whose include_usage is true or false"
        raise request.wrong("stream_options", expected) from None
    if asked and not request.repeats(text, options):
        return True, None
    options["include_usage"] = Raw(b"true")
    return asked, Raw(request.encode(options))


def _output_text(body: bytes) -> str:
    return "\n".join(strings((loose(body) or {}).get("choices")))


def _read_chunk(data: bytes) -> _Chunk | None:
    return read_object(_chunk_decoder, data, _loose_chunk)


def _loose_chunk(value: dict[str, Any]) -> _Chunk:
    answer = flat(_Answer, value)
    choices = value.get("choices")
    return _Chunk(
        id=answer.id,
        model=answer.model,
        service_tier=answer.service_tier,
        choices=[_loose_choice(choice) for choice in choices if isinstance(choice, dict)]
        if isinstance(choices, list)
        else None,
        usage=answer.usage,
        error=answer.error,
    )


def _loose_choice(choice: dict[str, Any]) -> _Choice:
    return _Choice(
        finish_reason=loose_str(choice.get("finish_reason")),
        delta=_Delta(content="".join(strings(choice.get("delta")))),
        text=loose_str(choice.get("text")),
        usage=loose_raw(choice.get("usage")),
    )


class ChatTap(HoldingTap):
    """The tap of a chat completion stream.

    From the first `finish_reason` on, the latest chunk with choices is held; the usage chunk,
    `[DONE]` or the end of the stream makes it `ready`.
    """

    def __init__(self, *, include_usage: bool) -> None:
        """`include_usage`: the client asked for the usage chunk, so that is the carrier."""
        super().__init__()
        self._include_usage = include_usage
        self._ending = False
        self._id: str | None = None
        self._model: str | None = None
        self._service_tier: str | None = None
        self._counts: dict[str, int] | None = None

    def usage(self) -> Usage:
        """See `base.StreamTap`."""
        return Usage(
            model=self._model,
            provider_id=self._id,
            service_tier=self._service_tier,
            counts=self._counts,
            output_text="" if self._counts else self._text.getvalue(),
            finished=self._finished,
            error=self._error,
        )

    def _take(self, event: Event) -> None:
        if not event.data:
            self._pass(event)
            return
        if event.data.strip() == b"[DONE]":
            self._finished = True
            self._end(event)
            return
        chunk = _read_chunk(event.data)
        if chunk is None:
            self._pass(event)
            return
        usage = self._read(chunk)
        if chunk.choices:
            self._take_choices(event, chunk.choices)
        elif not usage:
            self._pass(event)
        else:
            if self._include_usage:
                self._carry(event)
            self.ready = self._finished = self._ending

    def _take_choices(self, event: Event, choices: list[_Choice]) -> None:
        for choice in choices:
            self._ending = self._ending or bool(choice.finish_reason)
            if choice.delta is not None:
                self._say_delta(choice.delta)
            elif choice.text:
                self._say(choice.text)
        self._release()
        if self._ending:
            self._carry(event)
        else:
            self._pass(event)

    def _read(self, chunk: _Chunk) -> bool:
        """Takes note of what a chunk says about the answer; whether it has usage."""
        self._id = self._id or chunk.id
        self._model = self._model or chunk.model
        self._service_tier = chunk.service_tier or self._service_tier
        self._error = self._error or said(chunk.error)
        stated = chunk.stated
        if not stated:
            return False
        self._counts = counts(stated)  # the last word, believable or not
        return True

    def _say_delta(self, delta: _Delta) -> None:
        for text in (delta.content, delta.refusal, delta.reasoning_content):
            if text:
                self._say(text)
        functions = [call.function for call in delta.tool_calls or ()]
        for function in (*functions, delta.function_call):
            if function is not None:
                self._say((function.name or "") + (function.arguments or ""))

    def _hidden(self, event: Event) -> bool:
        if self._include_usage or b'"usage"' not in event.data:
            return False
        chunk = _read_chunk(event.data)
        return chunk is not None and not chunk.choices and said(chunk.usage)
