"""Anthropic's messages, and its token counting."""

from __future__ import annotations

from typing import Any

import msgspec

from tests.standin import faults
from tests.standin.answers import (
    Answer,
    answering,
    chunks_of,
    encode,
    json_answer,
    number,
    request_headers,
    text_of,
    unique,
)
from tests.standin.control import Control

DELTA_MEMBERS = (
    "input_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
    "output_tokens",
    "output_tokens_details",
    "server_tool_use",
)
"""What `message_delta` repeats of the usage, cumulative."""


class Request(msgspec.Struct):
    """The members of a request that the answer depends on."""

    model: str
    max_tokens: int
    messages: msgspec.Raw
    stream: bool | None = None
    system: msgspec.Raw = msgspec.Raw(b"")
    tools: msgspec.Raw = msgspec.Raw(b"")


class CountRequest(msgspec.Struct):
    """The members of a token count's request."""

    model: str
    messages: msgspec.Raw
    system: msgspec.Raw = msgspec.Raw(b"")
    tools: msgspec.Raw = msgspec.Raw(b"")


decode = msgspec.json.Decoder(Request).decode
decode_count = msgspec.json.Decoder(CountRequest).decode


def input_tokens(request: Request | CountRequest) -> int:
    """The tokens of a prompt, as a function of its bytes."""
    return 8 + (len(request.messages) + len(request.system) + len(request.tools)) // 4


def usage_of(control: Control, request: Request) -> dict[str, Any]:
    """What the call used: as dictated, else a function of the request's bytes."""
    if control.usage is not None:
        tier = control.service_tier
        return dict(control.usage) | ({"service_tier": tier} if tier else {})
    output = min(request.max_tokens, 12 + number(request.messages, 52))
    return {
        "input_tokens": input_tokens(request),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "output_tokens": output,
        "service_tier": control.service_tier or "standard",
        "inference_geo": "not_available",
    }


def answer(control: Control, request: Request) -> Answer:
    """The answer to one message, streamed or not."""
    usage = usage_of(control, request)
    tokens = usage.get("output_tokens") or 0
    text = text_of(control, tokens)
    message: dict[str, Any] = {
        "model": answering(control, request.model),
        "id": unique("msg_01", 22),
        "type": "message",
        "role": "assistant",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }
    block: dict[str, Any] = {"type": "text", "text": text}
    reason = "max_tokens" if tokens >= request.max_tokens else "end_turn"
    if control.tool is not None:
        used = {"name": control.tool.name, "input": control.tool.input}
        block, reason = {"type": "tool_use", "id": unique("toolu_01", 22), **used}, "tool_use"
    if request.stream:
        pieces = _stream(control, message, usage, block, reason)
    else:
        body = message | {"content": [block], "stop_reason": reason}
        pieces = [encode(body | faults.spoil(usage, control.wrong_usage))]
    return Answer(
        provider="anthropic",
        id=message["id"],
        pieces=pieces,
        headers=request_headers("anthropic"),
        content_type="text/event-stream; charset=utf-8" if request.stream else "application/json",
        model=message["model"],
        usage=usage,
        tier=usage.get("service_tier"),
        stream=bool(request.stream),
    )


def _stream(
    control: Control,
    message: dict[str, Any],
    usage: dict[str, Any],
    block: dict[str, Any],
    reason: str,
) -> list[bytes]:
    early = usage | {"output_tokens": min(1, usage.get("output_tokens") or 0)}
    final = {name: usage[name] for name in DELTA_MEMBERS if name in usage}
    end = {"stop_reason": reason, "stop_sequence": None}
    if block["type"] == "text":
        delta, member, text = "text_delta", "text", block["text"]
        block = block | {"text": ""}
    else:
        delta, member, text = "input_json_delta", "partial_json", encode(block["input"]).decode()
        block = block | {"input": {}}
    opening = message | faults.spoil(early, control.wrong_usage)
    closing = {"delta": end} | faults.spoil(final, control.wrong_usage)
    return [
        _event("message_start", {"message": opening}),
        _event("content_block_start", {"index": 0, "content_block": block}),
        b'event: ping\ndata: {"type": "ping"}\n\n',
        *(
            _event("content_block_delta", {"index": 0, "delta": {"type": delta, member: piece}})
            for piece in chunks_of(control, text)
        ),
        _event("content_block_stop", {"index": 0}),
        _event("message_delta", closing),
        _event("message_stop", {}),
    ]


def _event(name: str, members: dict[str, Any]) -> bytes:
    data = encode({"type": name} | members)
    # Real events are padded with blanks before their last brace, so lengths give nothing away.
    padding = b" " * number(data, 16)
    return b"event: %b\ndata: %b%b}\n\n" % (name.encode(), data[:-1], padding)


def count_tokens(request: CountRequest) -> Answer:
    """How long a prompt is; free of charge."""
    body = {"input_tokens": input_tokens(request)}
    return json_answer("anthropic", body, model=request.model)
