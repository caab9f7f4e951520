"""Anthropic's text completions, which state no usage."""

from __future__ import annotations

from typing import Any

import msgspec

from tests.standin.answers import (
    Answer,
    chunks_of,
    encode,
    json_answer,
    request_headers,
    text_of,
    unique,
)
from tests.standin.control import Control
from tests.standin.prices import Bill

PICO_PER_TOKEN = {"input": 8_000_000, "output": 24_000_000}
"""Claude 2's: $8 and $24 per million."""


class Request(msgspec.Struct):
    """The members of a request that the answer depends on."""

    model: str
    prompt: str
    max_tokens_to_sample: int
    stream: bool | None = None


decode = msgspec.json.Decoder(Request).decode


def answer(control: Control, request: Request) -> Answer:
    """The answer to one text completion, streamed or not."""
    text = text_of(control, min(20, request.max_tokens_to_sample))
    usage = {"input_tokens": 5 + len(request.prompt) // 4, "output_tokens": len(text) // 4}
    head: dict[str, Any] = {"type": "completion", "id": unique("compl_", 24)}
    head["model"] = request.model
    units = {"input": usage["input_tokens"], "output": usage["output_tokens"]}
    paid = Bill("claude-2", units, {it: n * PICO_PER_TOKEN[it] for it, n in units.items()})
    members: dict[str, Any] = {"id": head["id"], "model": request.model}
    members |= {"usage": usage, "bill": paid}
    if not request.stream:
        body = head | {"completion": text, "stop_reason": "stop_sequence", "stop": "\n\nHuman:"}
        return json_answer("anthropic", body, **members)
    said = [head | {"completion": part, "stop_reason": None} for part in chunks_of(control, text)]
    events = [*said, head | {"completion": "", "stop_reason": "stop_sequence"}]
    pieces = [b"event: completion\r\ndata: %b\r\n\r\n" % encode(event) for event in events]
    return Answer(
        provider="anthropic",
        pieces=[b'event: ping\r\ndata: {"type": "ping"}\r\n\r\n', *pieces],
        headers=request_headers("anthropic"),
        content_type="text/event-stream; charset=utf-8",
        stream=True,
        **members,
    )
