"""OpenAI's chat completions, and its embeddings."""

from __future__ import annotations

import time
from dataclasses import dataclass
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

FINGERPRINT = "fp_5tand1n000"
TIERS = {None: "default", "auto": "default", "standard": "default"}


class Request(msgspec.Struct):
    """The members of a request that the answer depends on."""

    model: str
    messages: msgspec.Raw
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n: int | None = None
    service_tier: str | None = None
    tools: msgspec.Raw = msgspec.Raw(b"")


class EmbeddingsRequest(msgspec.Struct):
    """The members of an embeddings request."""

    model: str
    input: msgspec.Raw


decode = msgspec.json.Decoder(Request).decode
decode_embeddings = msgspec.json.Decoder(EmbeddingsRequest).decode


def usage_of(control: Control, request: Request) -> dict[str, Any]:
    """What the call used: as dictated, else a function of the request's bytes."""
    if control.usage is not None:
        usage = dict(control.usage)
        total = usage.get("prompt_tokens", 0) + usage.get("completion_tokens", 0)
        return usage | {"total_tokens": usage.get("total_tokens", total)}
    prompt = 3 + (len(request.messages) + len(request.tools)) // 4
    output = 12 + number(request.messages, 52)
    cap = request.max_completion_tokens or request.max_tokens
    output = min(output, cap or output) * (request.n or 1)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "total_tokens": prompt + output,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


@dataclass(frozen=True)
class Completion:
    """What a whole answer and a stream have in common."""

    head: dict[str, Any]
    tail: dict[str, Any]
    usage: dict[str, Any]
    """The member `usage` as it is reported; empty: not at all."""
    text: str
    reason: str
    choices: int


def answer(control: Control, request: Request) -> Answer:
    """The answer to one chat completion, streamed or not."""
    usage = usage_of(control, request)
    tier = control.service_tier or TIERS.get(request.service_tier, request.service_tier)
    head: dict[str, Any] = {
        "id": unique("chatcmpl-", 29),
        "object": "chat.completion.chunk" if request.stream else "chat.completion",
        "created": int(time.time()),
        "model": answering(control, request.model),
    }
    choices = request.n or 1
    tokens = (usage.get("completion_tokens") or 0) // choices
    cap = request.max_completion_tokens or request.max_tokens
    completion = Completion(
        head=head,
        tail={"service_tier": tier, "system_fingerprint": FINGERPRINT},
        usage=faults.spoil(usage, control.wrong_usage),
        text=text_of(control, tokens),
        reason="length" if cap is not None and tokens >= cap else "stop",
        choices=choices,
    )
    asked = bool((request.stream_options or {}).get("include_usage"))
    stream = bool(request.stream)
    return Answer(
        provider="openai",
        id=head["id"],
        pieces=_stream(completion, control, asked=asked) if stream else _whole(completion),
        headers=request_headers("openai"),
        content_type="text/event-stream; charset=utf-8" if stream else "application/json",
        model=head["model"],
        usage=usage,
        tier=tier,
        stream=stream,
    )


def _whole(completion: Completion) -> list[bytes]:
    message: dict[str, Any] = {"role": "assistant", "content": completion.text, "refusal": None}
    message["annotations"] = []
    choices = [
        {"index": i, "message": message, "logprobs": None, "finish_reason": completion.reason}
        for i in range(completion.choices)
    ]
    return [encode(completion.head | {"choices": choices} | completion.usage | completion.tail)]


def _stream(completion: Completion, control: Control, *, asked: bool) -> list[bytes]:
    """The role chunk, the text, the finish chunk, the usage chunk if asked for, and `[DONE]`."""
    head = completion.head | completion.tail
    extra = {"usage": None} if asked else {}
    deltas: list[tuple[dict[str, Any], str | None]] = [
        ({"role": "assistant", "content": "", "refusal": None}, None),
        *(({"content": part}, None) for part in chunks_of(control, completion.text)),
        ({}, completion.reason),
    ]
    pieces = []
    for delta, finish in deltas:
        for index in range(completion.choices):
            choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
            pieces.append(_event(head | {"choices": [choice]} | extra))
    if asked and completion.usage:
        pieces.append(_event(head | {"choices": []} | completion.usage))
    return [*pieces, b"data: [DONE]\n\n"]


def _event(chunk: dict[str, Any]) -> bytes:
    # Real chunks end with random letters, so that their lengths give nothing away.
    chunk["obfuscation"] = unique("", 12)
    return b"data: %b\n\n" % encode(chunk)


def embeddings(control: Control, request: EmbeddingsRequest) -> Answer:
    """One small vector for every input."""
    inputs = msgspec.json.decode(request.input)
    count = len(inputs) if isinstance(inputs, list) else 1
    prompt = 1 + len(request.input) // 4
    usage = control.usage or {"prompt_tokens": prompt, "total_tokens": prompt}
    vector = [round(number(b"%d" % i + bytes(request.input), 2000) / 1000 - 1, 3) for i in range(8)]
    model = answering(control, request.model)
    data = [{"object": "embedding", "index": i, "embedding": vector} for i in range(count)]
    body = {"object": "list", "data": data, "model": model}
    body |= faults.spoil(usage, control.wrong_usage)
    return json_answer("openai", body, model=model, usage=usage)
