"""What these tests share: a request translated, and both SDKs' own types to hold it against."""

from __future__ import annotations

import json
from typing import Any

from anthropic.types.beta.message_create_params import (
    MessageCreateParamsNonStreaming,
    MessageCreateParamsStreaming,
)
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.completion import Completion
from pydantic import BaseModel, TypeAdapter

from metering.translate import chat_to_messages
from metering.translate.base import Options, Stream, Translated
from tests.providers.replay import events

CREATED = 1_700_000_000
STRICT = Options(created_s=CREATED)
LOOSE = Options(created_s=CREATED, strict=False)
MODEL = "claude-sonnet-4-5"
HI: list[dict[str, Any]] = [{"role": "user", "content": "hi"}]
FUNCTION = {"name": "f", "parameters": {"type": "object"}}
TOOL = {"type": "function", "function": FUNCTION}
SAMPLING = ("temperature", "top_p", "top_k")
"""Members that the newest SDK has no types for any more."""
_PARAMS: dict[bool, TypeAdapter[Any]] = {
    False: TypeAdapter(MessageCreateParamsNonStreaming),
    True: TypeAdapter(MessageCreateParamsStreaming),
}


def chat(options: Options = STRICT, **asked: Any) -> Translated:
    """A chat request, said short: of a model that thinks, with one message."""
    return chat_to_messages(json.dumps({"model": MODEL, "messages": HI, **asked}).encode(), options)


def body(options: Options = STRICT, **asked: Any) -> dict[str, Any]:
    """What such a request becomes, held against Anthropic's own types."""
    made = json.loads(chat(options, **asked).body)
    assert isinstance(made, dict)
    fits_anthropic(made)
    return made


def turns(*messages: dict[str, Any], model: str = MODEL) -> list[dict[str, Any]]:
    """What messages become."""
    made = body(messages=list(messages), model=model)["messages"]
    assert isinstance(made, list)
    return made


def fits_anthropic(made: dict[str, Any]) -> None:
    """Asserts that a request is one by Anthropic's SDK, and has nothing it does not know."""
    known = {name: value for name, value in made.items() if name not in SAMPLING}
    if "tools" in made:  # the SDK's types forget what schemas say beside `properties`
        schemas = {"input_schema": {"type": "object"}}
        known["tools"] = [{**it, **schemas} if "input_schema" in it else it for it in made["tools"]]
    assert _drained(_PARAMS["stream" in made].validate_python(known)) == known


def _drained(value: Any) -> Any:
    """A validated value, its lazy parts read, which validates them."""
    if isinstance(value, dict):
        return {name: _drained(item) for name, item in value.items()}
    if isinstance(value, str | int | float | None):
        return value
    return [_drained(item) for item in value]


def fits_openai(kind: type[BaseModel], made: Any, *, strict: bool = True) -> None:
    """Asserts that an answer is one by OpenAI's SDK, and, if `strict`, has nothing more."""
    read = kind.model_validate(made, strict=True)
    if strict:
        assert not _extras(read)


def _extras(value: Any) -> list[str]:
    if isinstance(value, BaseModel):
        inner = [name for _, item in value for name in _extras(item)]
        return [*(value.model_extra or {}), *inner]
    if isinstance(value, list):
        return [name for item in value for name in _extras(item)]
    return []


def streamed(stream: Stream, *cuts: bytes, cut: bool = False) -> bytes:
    """What a client gets of a stream in these cuts."""
    return b"".join(stream.feed(piece) for piece in cuts) + stream.finish(cut=cut)


def sse(*said: dict[str, Any]) -> bytes:
    """A stream of Anthropic's events."""
    return b"".join(
        b"event: %b\ndata: %b\n\n" % (one["type"].encode(), json.dumps(one).encode())
        for one in said
    )


def chunks(stream: bytes, kind: type[BaseModel] = ChatCompletionChunk) -> list[dict[str, Any]]:
    """The chunks of a proper stream: each is OpenAI's, and `[DONE]` is the end."""
    found = [event.data for event in events(stream) if event.data]
    assert found[-1] == b"[DONE]"
    made = [json.loads(data) for data in found[:-1]]
    for one in made:
        kind.model_validate(one, strict=True)
    return made


def text_of(made: list[dict[str, Any]]) -> str:
    """The text that chunks come to."""
    deltas = [choice["delta"] for one in made for choice in one["choices"]]
    return "".join(delta.get("content") or "" for delta in deltas)


def calls_of(made: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The calls that chunks come to, as a client puts them together."""
    calls: dict[int, dict[str, Any]] = {}
    for one in made:
        for choice in one["choices"]:
            for piece in choice["delta"].get("tool_calls", []):
                call = calls.setdefault(piece["index"], {"id": piece.get("id"), "arguments": ""})
                call["name"] = piece["function"].get("name") or call["name"]
                call["arguments"] += piece["function"]["arguments"]
    assert list(calls) == list(range(len(calls)))
    return list(calls.values())


__all__ = ["ChatCompletion", "ChatCompletionChunk", "Completion"]
