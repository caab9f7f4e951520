"""Messages: blocks of every kind in and out, and tools that Anthropic runs.

`input_tokens` leaves out what was read from and written to the cache; the counts here do not.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw

from metering.core.reach import Reach
from metering.core.sse import Event
from metering.providers import request
from metering.providers.answer import (
    Count,
    flat,
    loose,
    loose_raw,
    loose_str,
    nonzero,
    read_object,
    said,
    strings,
)
from metering.providers.anthropic import beyond
from metering.providers.base import Ask, StreamTap, Usage
from metering.providers.holding import HoldingTap


class _CacheCreation(msgspec.Struct, gc=False):
    ephemeral_5m_input_tokens: Count | None = None
    ephemeral_1h_input_tokens: Count | None = None


class _ServerTools(msgspec.Struct, gc=False):
    web_search_requests: Count | None = None
    web_fetch_requests: Count | None = None


class _OutputDetails(msgspec.Struct, gc=False):
    thinking_tokens: Count | None = None


class _Tokens(msgspec.Struct):
    input_tokens: Count
    output_tokens: Count | None = None
    cache_creation_input_tokens: Count | None = None
    cache_read_input_tokens: Count | None = None
    cache_creation: _CacheCreation | None = None


class _Iteration(_Tokens):
    type: str | None = None
    model: str | None = None


class _Usage(_Tokens):
    server_tool_use: _ServerTools | None = None
    output_tokens_details: _OutputDetails | None = None
    service_tier: object = None
    inference_geo: object = None
    speed: object = None
    iterations: Raw = Raw(b"")


class _Answer(msgspec.Struct):
    id: str | None = None
    model: str | None = None
    type: str | None = None
    usage: Raw = Raw(b"")
    container: Raw = Raw(b"")
    """Where code was run, if any was."""


class _Delta(msgspec.Struct, gc=False):
    stop_reason: str | None = None
    container: Raw = Raw(b"")
    text: str | None = None
    partial_json: str | None = None
    thinking: str | None = None


class _StreamEvent(msgspec.Struct):
    type: str | None = None
    message: _Answer | None = None
    delta: _Delta | None = None
    usage: dict[str, Raw] | None = None


_answer_decoder = msgspec.json.Decoder(_Answer)
_usage_decoder = msgspec.json.Decoder(_Usage)
_event_decoder = msgspec.json.Decoder(_StreamEvent)
_iterations_decoder = msgspec.json.Decoder(list[_Iteration] | None)
_members_decoder = msgspec.json.Decoder(dict[str, Raw])


def _counts(tokens: _Tokens) -> dict[str, int]:
    """Totals always, details where not zero; `output` only if it was said."""
    read = tokens.cache_read_input_tokens or 0
    split = tokens.cache_creation
    short = (split.ephemeral_5m_input_tokens or 0) if split else 0
    long = (split.ephemeral_1h_input_tokens or 0) if split else 0
    written = tokens.cache_creation_input_tokens
    if written is not None and written != short + long:
        # A stream's last word on the total comes without the split, which its first event had.
        long = written if not short and long else min(long, written)
        short = written - long
    found = {"input": tokens.input_tokens + read + short + long}
    if tokens.output_tokens is not None:
        found["output"] = tokens.output_tokens
    if read or short or long:
        found |= nonzero(
            (("cache_read", read), ("cache_write_5m", short), ("cache_write_1h", long))
        )
    return found


def _decode_usage(raw: Raw | bytes) -> _Usage | None:
    try:
        return _usage_decoder.decode(raw)
    except ValueError:
        return None


def _usage_counts(usage: _Usage) -> tuple[dict[str, int], dict[str, dict[str, int]]]:
    """The counts of the answer's own model, and those of others.

    The totals leave out what compacting the context used, which is billed too; and a turn of the
    advisor tool, which is another model's.
    """
    found = _counts(usage)
    if usage.output_tokens_details is not None:
        found |= nonzero((("reasoning", usage.output_tokens_details.thinking_tokens),))
    if usage.server_tool_use is not None:
        tools = usage.server_tool_use
        found |= nonzero(
            (("web_search", tools.web_search_requests), ("web_fetch", tools.web_fetch_requests))
        )
    others: dict[str, dict[str, int]] = {}
    for turn in _turns(usage.iterations):
        if turn.type == "compaction":
            _add(found, _counts(turn))
        elif turn.type == "advisor_message" and turn.model:
            _add(others.setdefault(turn.model, {}), _counts(turn))
    return found, others


def _turns(raw: Raw) -> list[_Iteration]:
    try:
        return _iterations_decoder.decode(raw) or [] if raw else []
    except ValueError:
        return []


def _add(into: dict[str, int], more: dict[str, int]) -> None:
    for unit, count in more.items():
        into[unit] = into.get(unit, 0) + count


def _usage(
    answer: _Answer, usage: _Usage | None, text: str, *, finished: bool, error: bool
) -> Usage:
    """What is reported of an answer; `text` is kept only while the output was not counted."""
    if usage is None:
        return Usage(
            model=answer.model,
            provider_id=answer.id,
            output_text=text,
            finished=finished,
            error=error,
        )
    found, others = _usage_counts(usage)
    if said(answer.container):
        found["code_execution"] = 1
    geo = loose_str(usage.inference_geo)
    return Usage(
        model=answer.model,
        provider_id=answer.id,
        finished=finished,
        error=error,
        service_tier="fast" if usage.speed == "fast" else loose_str(usage.service_tier),
        scope=geo if geo != "not_available" else None,
        counts=found,
        output_text="" if "output" in found else text,
        other_models=others,
    )


class Messages:
    """`/v1/messages`; see `base.Form`."""

    def ask(self, body: bytes, content_type: bytes, named: str = "") -> Ask:  # noqa: ARG002
        """See `base.Form`."""
        fields = request.members(body)
        return Ask(
            model=request.model(fields, named),
            stream=request.flag(fields, "stream"),
            max_output_tokens=request.count(fields, "max_tokens"),
            service_tier=request.tier(fields),
            texts=request.prompt_texts(fields, ("system",), ("tools",)),
            end_user=request.metadata_user(fields),
            body_bytes=len(body),
            changed_body=request.once(body, fields),
        )

    def reach(self, body: bytes, ask: Ask) -> Reach:  # noqa: ARG002
        """See `base.Form`."""
        return beyond.reach(body)

    def read(self, body: bytes, ask: Ask) -> Usage:  # noqa: ARG002
        """See `base.Form`."""
        answer = read_object(_answer_decoder, body)
        if answer is None:
            return Usage()
        usage = _decode_usage(answer.usage)
        if usage is not None and usage.output_tokens is None:
            usage = None
        text = "" if usage else "\n".join(strings((loose(body) or {}).get("content")))
        return _usage(answer, usage, text, finished=True, error=answer.type == "error")

    def tap(self, ask: Ask) -> StreamTap:  # noqa: ARG002
        """See `base.Form`."""
        return MessagesTap()


def _loose_event(value: dict[str, Any]) -> _StreamEvent:
    message, delta, usage = value.get("message"), value.get("delta"), value.get("usage")
    stop, container = None, Raw(b"")
    if isinstance(delta, dict):
        stop, container = loose_str(delta.get("stop_reason")), loose_raw(delta.get("container"))
    return _StreamEvent(
        type=loose_str(value.get("type")),
        message=flat(_Answer, message) if isinstance(message, dict) else None,
        delta=_Delta(stop_reason=stop, text="".join(strings(delta)), container=container),
        usage={name: loose_raw(item) for name, item in usage.items()}
        if isinstance(usage, dict)
        else None,
    )


class MessagesTap(HoldingTap):
    """The tap of a messages stream.

    The `message_delta` with a `stop_reason` is held until a next one releases it, or
    `message_stop` or the end of the stream makes it `ready`. What the last `usage` says of a
    count holds; counts that only `message_start` stated stay.
    """

    def __init__(self) -> None:
        super().__init__()
        self._ending = False
        self._answer = _Answer()
        self._members: dict[str, Raw] = {}
        self._output_said = False

    def usage(self) -> Usage:
        """See `base.StreamTap`."""
        members = dict(self._members)
        if not self._output_said:
            members.pop("output_tokens", None)  # what `message_start` says is only the beginning
        usage = _decode_usage(request.encode(members)) if members else None
        text = self._text.getvalue()
        return _usage(self._answer, usage, text, finished=self._finished, error=self._error)

    def _take(self, event: Event) -> None:
        read = read_object(_event_decoder, event.data, _loose_event) if event.data else None
        kind = read.type if read is not None else None
        if read is None or kind is None:
            self._pass(event)
        elif kind == "message_delta":
            self._take_message_delta(event, read)
        elif kind == "message_stop":
            self._finished = True
            self._end(event)
        else:
            self._read(kind, read)
            self._pass(event)

    def _read(self, kind: str, read: _StreamEvent) -> None:
        if kind == "content_block_delta" and read.delta is not None:
            for text in (read.delta.text, read.delta.partial_json, read.delta.thinking):
                if text:
                    self._say(text)
        elif kind == "message_start" and read.message is not None:
            self._answer = read.message
            self._merge(read.message.usage)
        elif kind == "error":
            self._error = True

    def _take_message_delta(self, event: Event, read: _StreamEvent) -> None:
        if read.usage is not None:
            self._merge(request.encode(read.usage))
            self._output_said = self._output_said or said(read.usage.get("output_tokens", Raw(b"")))
        if read.delta is not None:
            self._ending = self._ending or bool(read.delta.stop_reason)
            if said(read.delta.container):
                self._answer.container = Raw(bytes(read.delta.container))
        self._release()
        if self._ending:
            self._carry(event)
        else:
            self._pass(event)

    def _merge(self, raw: Raw | bytes) -> None:
        """Takes over the members of a `usage` that are not null."""
        try:
            members = _members_decoder.decode(raw)
        except ValueError:
            return
        for name, value in members.items():
            if said(value):
                self._members[name] = Raw(bytes(value))

    def _hidden(self, event: Event) -> bool:  # noqa: ARG002
        return False
