"""OpenAI's own client over the translation, with recorded and made-up answers of Anthropic's."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import openai
import pytest
from pydantic import BaseModel

from metering.translate import chat_to_messages, completions_to_complete
from metering.translate.anthropic.models import models_list
from metering.translate.base import Translate
from tests.providers.replay import cases
from tests.standin.recordings import Recording
from tests.translate.anthropic.forms import STRICT, sse
from tests.translate.anthropic.test_chat_answers import message, text
from tests.translate.anthropic.test_chat_recordings import blocks_of
from tests.translate.anthropic.test_chat_streams import FAILED, START, STOP, ended, say, use
from tests.translate.anthropic.test_complete import EVENTS, completion
from tests.translate.anthropic.test_models import OPUS

Sent = list[dict[str, Any]]
HI: Any = [{"role": "user", "content": "hi"}]


def client(status: int, answer: bytes, sent: Sent | None = None) -> openai.OpenAI:
    """A client whose calls all get this answer of Anthropic's; `sent`: what came there."""

    def serve(request: httpx2.Request) -> httpx2.Response:
        if request.url.path.endswith("/models"):
            return httpx2.Response(status, content=models_list(answer))
        chats = request.url.path.endswith("/chat/completions")
        translate: Translate = chat_to_messages if chats else completions_to_complete
        said = translate(request.content, STRICT)
        body = json.loads(said.body)
        if sent is not None:
            sent.append(body)
        if status != 200:
            return httpx2.Response(status, content=said.answers.error(status, answer))
        if not body.get("stream"):
            return httpx2.Response(200, content=said.answers.whole(answer))
        stream = said.answers.stream()
        pieces = [stream.feed(answer), stream.finish(cut=False)]
        kind = {"content-type": "text/event-stream"}
        return httpx2.Response(200, headers=kind, content=b"".join(pieces))

    transport = httpx2.MockTransport(serve)
    return openai.OpenAI(
        api_key="k",
        base_url="http://localhost/v1",
        max_retries=0,
        http_client=httpx2.Client(transport=transport),
    )


@pytest.mark.parametrize("recording", cases("anthropic", streamed=True))
def test_recorded_streams_are_put_together(recording: Recording) -> None:
    """By the client's own hands: the text, the calls, the usage."""
    blocks, _ = blocks_of(recording)
    asking = client(200, recording.body).chat.completions.stream(
        model="claude-x", messages=HI, stream_options={"include_usage": True}
    )
    with asking as stream:
        made = stream.get_final_completion()
    said = made.choices[0].message
    assert (said.content or "") == "".join(it["text"] for it in blocks if it["type"] == "text")
    calls = [(it["id"], it["json"] or "{}") for it in blocks if it["type"] == "tool_use"]
    assert [(it.id, it.function.arguments) for it in said.tool_calls or []] == calls
    assert made.usage is not None
    assert made.usage.total_tokens == made.usage.prompt_tokens + made.usage.completion_tokens


def test_tools_are_run_and_answered() -> None:
    """A loop of a client's: what it was given goes back as it is, with its results."""
    sent: Sent = []
    said = (START, *say(0, "I will"), *use(1, '{"a":1}'), *use(2), ended("tool_use"), STOP)
    asking = client(200, sse(*said), sent)
    with asking.chat.completions.stream(model="claude-x", messages=HI) as stream:
        made = stream.get_final_completion().choices[0]
    assert made.finish_reason == "tool_calls"
    results: Any = [
        {"role": "tool", "tool_call_id": it.id, "content": "r"}
        for it in made.message.tool_calls or []
    ]
    again: Any = [*HI, made.message, *results]
    client(200, message(text("x")), sent).chat.completions.create(model="claude-x", messages=again)
    turns = sent[1]["messages"]
    assert [it["type"] for it in turns[1]["content"]] == ["text", "tool_use", "tool_use"]
    assert [it["tool_use_id"] for it in turns[2]["content"]] == ["toolu_1", "toolu_2"]


class City(BaseModel):
    """What is asked for."""

    name: str
    people: int


def test_an_answer_in_a_schema_is_parsed() -> None:
    """The client's schema goes to Anthropic, and the answer is what it says."""
    sent: Sent = []
    asking = client(200, message(text('{"name":"Bonn","people":340000}')), sent)
    made = asking.chat.completions.parse(
        model="claude-opus-4-8", messages=HI, response_format=City, reasoning_effort="low"
    )
    assert made.choices[0].message.parsed == City(name="Bonn", people=340000)
    schema = sent[0]["output_config"]["format"]["schema"]
    assert schema["required"] == ["name", "people"]
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize(
    ("stream", "code"),
    [
        (sse(START, *say(0, "x"), FAILED), "overloaded_error"),
        (sse(START, *say(0, "x")), "stream_cut"),
        (sse(START, *say(0, "x"), ended()), "stream_cut"),
        (sse(START) + b"data: nope\n\n", "stream_unreadable"),
    ],
)
def test_a_stream_that_fails_raises(stream: bytes, code: str) -> None:
    """What came before it is given, then the client has an error: it does not take it for all."""
    made = client(200, stream).chat.completions.create(model="claude-x", messages=HI, stream=True)
    with pytest.raises(openai.APIError) as fault:
        for _ in made:
            pass
    assert fault.value.code == code


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (404, openai.NotFoundError),
        (429, openai.RateLimitError),
        (529, openai.InternalServerError),
    ],
)
def test_errors_are_the_clients_own(status: int, kind: type[openai.APIStatusError]) -> None:
    """By their status, with Anthropic's words and type."""
    body = b'{"type":"error","error":{"type":"some_error","message":"Because."},"request_id":"r"}'
    with pytest.raises(kind) as fault:
        client(status, body).chat.completions.create(model="claude-x", messages=HI)
    assert "Because." in fault.value.message
    assert (fault.value.code, fault.value.type) == ("some_error", "some_error")


def test_text_completions_and_models() -> None:
    """The older endpoint, whole and streamed, and the list of what there is."""
    whole = client(200, json.dumps(completion(" Hi", "stop_sequence")).encode())
    assert whole.completions.create(model="claude-2.1", prompt="x").choices[0].text == " Hi"
    pieces = client(200, sse(*EVENTS)).completions.create(
        model="claude-2.1", prompt="x", stream=True
    )
    assert "".join(it.choices[0].text for it in pieces) == " Hi"
    page = json.dumps({"data": [OPUS], "has_more": False}).encode()
    listed = client(200, page).models.list()
    assert [it.id for it in listed] == ["claude-opus-4-6"]
