"""Anthropic's SDK as the client of a translation: what it makes of bytes it is answered with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import httpx2
import msgspec
from anthropic import Anthropic
from anthropic.types import Message, RawMessageStreamEvent
from pydantic import TypeAdapter

from metering.translate import messages_to_chat
from metering.translate.base import Options, Translated

OPTIONS = Options(created_s=1_800_000_000)
_EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
_ASKED: dict[str, Any] = {
    "model": "m",
    "max_tokens": 9,
    "messages": [{"role": "user", "content": "hi"}],
}


def translate(**asked: Any) -> Translated:
    """The translation of a small request with these members; None leaves one out."""
    body = {name: value for name, value in {**_ASKED, **asked}.items() if value is not None}
    return messages_to_chat(msgspec.json.encode(body), OPTIONS)


def streamed(cuts: Iterable[bytes], *, cut: bool = False) -> bytes:
    """What a client gets of a provider's stream in these cuts."""
    stream = translate(stream=True).answers.stream()
    out = [stream.feed(piece) for piece in cuts]
    return b"".join((*out, stream.finish(cut=cut)))


def whole(body: bytes) -> Message:
    """What the SDK reads of a provider's whole answer, checked against its types."""
    translated = translate().answers.whole(body)
    assert translated is not None
    Message.model_validate_json(translated, strict=True)
    message: Message = _client(translated, "application/json").messages.create(**_ASKED)
    return message


def events(stream: bytes) -> Iterator[RawMessageStreamEvent]:
    """The events that the SDK reads of a stream, checked against its types."""
    for event in _client(stream, "text/event-stream").messages.create(**_ASKED, stream=True):
        _EVENT.validate_python(event.to_dict())
        yield event


def final(stream: bytes) -> Message:
    """The message that the SDK makes of a stream."""
    with _client(stream, "text/event-stream").messages.stream(**_ASKED) as events:
        return events.get_final_message()


def error(status: int, body: bytes) -> Exception:
    """What the SDK raises of an answer with this status."""
    try:
        _client(body, "application/json", status).messages.create(**_ASKED)
    except Exception as raised:  # noqa: BLE001 - it is the result
        return raised
    raise AssertionError(body)


def _client(body: bytes, content_type: str, status: int = 200) -> Anthropic:
    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(status, content=body, headers={"content-type": content_type})

    transport = httpx2.MockTransport(answer)
    client = httpx2.Client(transport=transport)
    return Anthropic(api_key="k", max_retries=0, http_client=client)
