"""OpenAI's responses."""

from __future__ import annotations

import time
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
from tests.standin.chat import TIERS
from tests.standin.control import Control

UNASKED: dict[str, Any] = {
    "background": False,
    "error": None,
    "instructions": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "store": True,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}, "verbosity": "medium"},
    "tool_choice": "auto",
    "tools": [],
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}
"""What a response repeats of settings nobody made."""


class Request(msgspec.Struct):
    """The members of a request that the answer depends on."""

    model: str
    input: msgspec.Raw
    instructions: msgspec.Raw = msgspec.Raw(b"")
    tools: msgspec.Raw = msgspec.Raw(b"")
    stream: bool | None = None
    max_output_tokens: int | None = None
    service_tier: str | None = None


decode = msgspec.json.Decoder(Request).decode


def usage_of(control: Control, request: Request) -> dict[str, Any]:
    """What the call used: as dictated, else a function of the request's bytes."""
    if control.usage is not None:
        total = control.usage.get("input_tokens", 0) + control.usage.get("output_tokens", 0)
        return {"total_tokens": total} | control.usage
    asked = 3 + (len(request.input) + len(request.instructions) + len(request.tools)) // 4
    output = 12 + number(request.input, 52)
    output = min(output, request.max_output_tokens or output)
    return {
        "input_tokens": asked,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": asked + output,
    }


def answer(control: Control, request: Request) -> Answer:
    """The answer to one request, streamed or not."""
    usage = usage_of(control, request)
    tokens = usage.get("output_tokens") or 0
    cap = request.max_output_tokens
    cut = cap is not None and tokens >= cap
    tier = control.service_tier or TIERS.get(request.service_tier, request.service_tier)
    response: dict[str, Any] = {
        "id": unique("resp_", 48),
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "incomplete_details": None,
        "max_output_tokens": cap,
        "model": answering(control, request.model),
        "output": [],
        "service_tier": "auto",
        "usage": None,
    } | UNASKED
    item = {"id": unique("msg_", 48), "type": "message", "role": "assistant"}
    text = text_of(control, tokens)
    done = response | {
        "status": "incomplete" if cut else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "output": [item | {"status": "completed", "content": [_part(text)]}],
        "service_tier": tier,
    }
    del done["usage"]
    done |= faults.spoil(usage, control.wrong_usage)
    members: dict[str, Any] = {"id": response["id"], "model": response["model"]}
    members |= {"usage": usage, "tier": tier}
    if not request.stream:
        return json_answer("openai", done, **members)
    return Answer(
        provider="openai",
        pieces=_stream(response, done, item, chunks_of(control, text)),
        headers=request_headers("openai"),
        content_type="text/event-stream; charset=utf-8",
        stream=True,
        **members,
    )


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "annotations": [], "logprobs": [], "text": text}


def _stream(
    begun: dict[str, Any], done: dict[str, Any], item: dict[str, Any], texts: list[str]
) -> list[bytes]:
    """One message with one part of text, piece by piece; the last event repeats it whole."""
    (whole,) = done["output"]
    (part,) = whole["content"]
    place = {"item_id": item["id"], "output_index": 0, "content_index": 0}
    events: list[tuple[str, dict[str, Any]]] = [
        ("created", {"response": begun}),
        ("in_progress", {"response": begun}),
        ("output_item.added", {"output_index": 0, "item": item | {"status": "in_progress"}}),
        ("content_part.added", place | {"part": _part("")}),
        *(
            ("output_text.delta", place | {"delta": text, "obfuscation": unique("", 12)})
            for text in texts
        ),
        ("output_text.done", place | {"text": part["text"]}),
        ("content_part.done", place | {"part": part}),
        ("output_item.done", {"output_index": 0, "item": whole}),
        (done["status"], {"response": done}),
    ]
    return [
        b"event: response.%b\ndata: %b\n\n"
        % (
            name.encode(),
            encode({"type": f"response.{name}", "sequence_number": index} | members),
        )
        for index, (name, members) in enumerate(events)
    ]
