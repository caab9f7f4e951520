"""What the tests of responses share: a request translated, and OpenAI's SDK as the client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2
from openai import OpenAI
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

from metering.translate import responses_to_messages
from metering.translate.anthropic.message_stream import PING
from metering.translate.base import Options, Translated
from tests.providers.replay import events
from tests.translate.anthropic.forms import MODEL, STRICT, fits_anthropic, streamed

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
UNKNOWN = {"store"}
"""Members that OpenAI sends, and its SDK has no types for."""


def respond(options: Options = STRICT, **asked: Any) -> Translated:
    """A request, said short: of a model that thinks, with one message; None leaves one out."""
    said = {"model": MODEL, "input": "hi", **asked}
    return responses_to_messages(json.dumps(said).encode(), options)


def body(options: Options = STRICT, **asked: Any) -> dict[str, Any]:
    """What such a request becomes, held against Anthropic's own types."""
    made = json.loads(respond(options, **asked).body)
    assert isinstance(made, dict)
    fits_anthropic(made)
    return made


def turns(*items: dict[str, Any], **asked: Any) -> list[dict[str, Any]]:
    """What items become."""
    made = body(input=list(items), **asked)["messages"]
    assert isinstance(made, list)
    return made


def fits_response(made: Any) -> None:
    """Asserts that an answer is one by OpenAI's SDK, and has nothing it does not know."""
    assert set(extras(Response.model_validate(made, strict=True))) <= UNKNOWN


def extras(value: Any) -> Iterator[str]:
    """The members that the SDK has no types for."""
    if isinstance(value, BaseModel):
        yield from value.model_extra or {}
        for _, item in value:
            yield from extras(item)
    elif isinstance(value, list):
        for item in value:
            yield from extras(item)


def whole(answer: dict[str, Any], **asked: Any) -> dict[str, Any]:
    """What a client gets of a whole answer, held against the SDK's types."""
    made = respond(**asked).answers.whole(json.dumps(answer).encode())
    assert made is not None
    told = json.loads(made)
    assert isinstance(told, dict)
    fits_response(told)
    return told


def stream_of(*cuts: bytes, cut: bool = False, **asked: Any) -> bytes:
    """What a client gets of a stream in these cuts."""
    return streamed(respond(stream=True, **asked).answers.stream(), *cuts, cut=cut)


def told(stream: bytes) -> list[dict[str, Any]]:
    """The events of a stream: each is one by the SDK's types, named as it is typed, and they are
    numbered in their order. Comments are none."""
    made = []
    for number, event in enumerate(it for it in events(stream) if it.raw != PING):
        said = json.loads(event.data)
        assert event.event == said["type"].encode()
        assert said["sequence_number"] == number
        assert set(extras(EVENT.validate_python(said, strict=True))) <= UNKNOWN
        made.append(said)
    return made


def client(content: bytes, content_type: str, status: int = 200) -> OpenAI:
    """OpenAI's SDK, answered with this."""

    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(status, content=content, headers={"content-type": content_type})

    transport = httpx2.Client(transport=httpx2.MockTransport(answer))
    return OpenAI(api_key="k", max_retries=0, http_client=transport)


def accumulated(stream: bytes) -> dict[str, Any]:
    """The response that the SDK makes of a stream."""
    with client(stream, "text/event-stream").responses.stream(model="m", input="hi") as events:
        made = events.get_final_response().to_dict()
    assert isinstance(made, dict)
    return made
