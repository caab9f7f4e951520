"""Responses: messages, items and tools in, items and tool calls out; and their compaction."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw

from metering.core.reach import Reach
from metering.core.sse import MEDIA_BYTES_MAX, Event
from metering.providers import request
from metering.providers.answer import (
    Count,
    flat,
    loose,
    loose_str,
    read_object,
    said,
    strings,
)
from metering.providers.base import Ask, StreamTap, Usage
from metering.providers.holding import HoldingTap
from metering.providers.openai import beyond, tools
from metering.providers.openai.details import InputDetails, OutputDetails, token_counts

PENDING = ("queued", "in_progress")
"""What an answer is that was asked for in the background and not waited for."""
TERMINAL = ("response.completed", "response.incomplete", "response.failed", "response.cancelled")


class _Usage(msgspec.Struct):
    input_tokens: Count
    output_tokens: Count
    input_tokens_details: InputDetails | None = None
    output_tokens_details: OutputDetails | None = None


class _Response(msgspec.Struct):
    id: str | None = None
    model: str | None = None
    service_tier: str | None = None
    status: str | None = None
    usage: Raw = Raw(b"")
    error: Raw = Raw(b"")
    output: Raw = Raw(b"")
    tools: Raw = Raw(b"")
    tool_usage: Raw = Raw(b"")


class _StreamEvent(msgspec.Struct):
    type: str | None = None
    response: _Response | None = None
    delta: str | None = None


_response_decoder = msgspec.json.Decoder(_Response)
_event_decoder = msgspec.json.Decoder(_StreamEvent)
_usage_decoder = msgspec.json.Decoder(_Usage)


class Responses:
    """`/v1/responses`; see `base.Form`."""

    def ask(self, body: bytes, content_type: bytes, named: str = "") -> Ask:  # noqa: ARG002
        """See `base.Form`."""
        fields = request.members(body)
        texts = request.prompt_texts(
            {name: fields[name] for name in ("instructions", "tools", "text") if name in fields},
            ("instructions",),
            ("tools", "text"),
        )
        return Ask(
            model=request.model(fields, named, unless="prompt"),
            stream=request.flag(fields, "stream"),
            max_output_tokens=request.count(fields, "max_output_tokens"),
            service_tier=request.tier(fields),
            texts=(*request.item_texts(fields.get("input")), *texts),
            end_user=request.user(fields),
            body_bytes=len(body),
            changed_body=request.once(body, fields),
        )

    def reach(self, body: bytes, ask: Ask) -> Reach:
        """See `base.Form`."""
        return beyond.response(body, ask.model)

    def read(self, body: bytes, ask: Ask) -> Usage:  # noqa: ARG002
        """See `base.Form`."""
        response = read_object(_response_decoder, body)
        if response is None:
            return Usage()
        found = usage_of(response, finished=True)
        if found.counts is not None or found.pending:
            return found
        return msgspec.structs.replace(found, output_text=_output_text(body))

    def tap(self, ask: Ask) -> StreamTap:  # noqa: ARG002
        """See `base.Form`."""
        return ResponsesTap()


def usage_of(response: _Response, *, finished: bool, error: bool = False) -> Usage:
    """What a response says was used."""
    counts = _counts(response.usage)
    others: dict[str, dict[str, int]] = {}
    if counts is not None:
        fees, others = tools.used(response.output, response.tools, response.tool_usage)
        counts |= fees
    return Usage(
        model=response.model,
        provider_id=response.id,
        service_tier=response.service_tier,
        counts=counts,
        finished=finished,
        pending=counts is None and response.status in PENDING,
        error=error or said(response.error),
        other_models=others,
    )


def _counts(raw: Raw) -> dict[str, int] | None:
    try:
        usage = _usage_decoder.decode(raw)
    except ValueError:
        return None
    return token_counts(
        usage.input_tokens,
        usage.output_tokens,
        usage.input_tokens_details,
        usage.output_tokens_details,
    )


def _output_text(body: bytes) -> str:
    return "\n".join(strings((loose(body) or {}).get("output")))


def _loose_event(value: dict[str, Any]) -> _StreamEvent:
    response = value.get("response")
    return _StreamEvent(
        type=loose_str(value.get("type")),
        response=flat(_Response, response) if isinstance(response, dict) else None,
        delta="".join(strings(value.get("delta"))),
    )


class ResponsesTap(HoldingTap):
    """The tap of a responses stream: the terminal event has the usage, and carries the result."""

    def __init__(self) -> None:
        super().__init__(MEDIA_BYTES_MAX)  # the terminal event repeats all output, images too
        self._response = _Response()

    def usage(self) -> Usage:
        """See `base.StreamTap`."""
        found = usage_of(self._response, finished=self._finished, error=self._error)
        if found.counts is not None:
            return found
        return msgspec.structs.replace(found, output_text=self._text.getvalue(), pending=False)

    def _take(self, event: Event) -> None:
        found = read_object(_event_decoder, event.data, _loose_event) if event.data else None
        if found is None:
            self._pass(event)
            return
        if found.response is not None:
            self._response = found.response
        if found.type in TERMINAL:
            self._finished = self.ready = True
            self._carry(event)
            return
        self._error = self._error or found.type == "error"
        if found.delta and found.type != "response.audio.delta":  # that is no text
            self._say(found.delta)
        self._pass(event)

    def _hidden(self, event: Event) -> bool:  # noqa: ARG002
        return False
