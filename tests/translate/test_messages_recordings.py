"""Recorded answers of OpenAI's, and recorded requests of Anthropic's, translated."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from metering.errors import InvalidRequest
from metering.translate import messages_to_chat
from metering.translate.base import Translated
from tests.providers import replay
from tests.standin.recordings import Recording
from tests.translate import claude

SIZES = (1, 7, 64)
USAGE = {"include_usage": True}


def pieces(stream: bytes, size: int) -> list[bytes]:
    """A stream in pieces of a size."""
    return [stream[at : at + size] for at in range(0, len(stream), size)]


def metered(recording: Recording) -> bytes:
    """A recorded stream as it leaves the meter: with the result in its usage chunk."""
    return replay.run("openai", recording.body, stream_options=USAGE)[0]


def joined(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    """A chat completion of its chunks: text, calls, the reason to stop, usage."""
    calls: dict[int, dict[str, str]] = {}
    found: dict[str, Any] = {"text": "", "finish_reason": None, "usage": None}
    for chunk in chunks:
        found["usage"] = chunk.get("usage") or found["usage"]
        for choice in chunk["choices"][:1]:
            found["finish_reason"] = choice["finish_reason"] or found["finish_reason"]
            found["text"] += choice["delta"].get("content") or ""
            found["text"] += choice["delta"].get("refusal") or ""
            for call in choice["delta"].get("tool_calls") or ():
                one = calls.setdefault(call["index"], {"id": "", "name": "", "arguments": ""})
                one["id"] += call.get("id") or ""
                one["name"] += call["function"].get("name") or ""
                one["arguments"] += call["function"].get("arguments") or ""
    return {**found, "calls": [calls[index] for index in sorted(calls)]}


def said(message: Any) -> tuple[str, list[tuple[str, str, Any]]]:
    """The text of a message, and its calls."""
    text = "".join(it.text for it in message.content if it.type == "text")
    calls = [(it.id, it.name, it.input) for it in message.content if it.type == "tool_use"]
    return text, calls


def agrees(message: Any, usage: dict[str, Any]) -> bool:
    """Whether a message's usage is what OpenAI said."""
    ours = message.usage
    prompt = ours.input_tokens + ours.cache_read_input_tokens + ours.cache_creation_input_tokens
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    return (prompt, ours.cache_read_input_tokens, ours.output_tokens) == (
        usage["prompt_tokens"],
        cached,
        usage["completion_tokens"],
    )


@pytest.mark.parametrize("recording", replay.cases("openai", streamed=True))
def test_a_recorded_stream_comes_whole(recording: Recording) -> None:
    """Text, calls, reason to stop and usage are OpenAI's; the result rides on `message_delta`."""
    stream = metered(recording)
    sent = joined(replay.objects(stream))
    out = claude.streamed([stream])
    list(claude.events(out))
    message = claude.final(out)
    calls = [(it["id"], it["name"], json.loads(it["arguments"])) for it in sent["calls"]]
    assert said(message) == (sent["text"], calls)
    assert agrees(message, sent["usage"])
    assert message.id == replay.objects(stream)[0]["id"]
    assert (message.stop_reason == "tool_use") is bool(calls)
    assert b'"xproxy_result":' + replay.RESULT + b"}\n\nevent: message_stop" in out


@pytest.mark.parametrize("recording", replay.cases("openai", streamed=True))
def test_a_recorded_stream_may_be_cut_anywhere(recording: Recording) -> None:
    """The same bytes come out, however they came in."""
    stream = metered(recording)
    whole = claude.streamed([stream])
    for size in SIZES:
        assert claude.streamed(pieces(stream, size)) == whole


@pytest.mark.parametrize("recording", replay.cases("openai", streamed=True)[:4])
def test_a_stream_that_ends_early_has_no_end(recording: Recording) -> None:
    """At whatever byte a provider's stream is cut off, what the client has begins the whole, and
    an error follows it: nothing that looks like an end."""
    stream = metered(recording)
    whole = claude.streamed([stream])
    end = whole.index(b"event: message_delta")
    for at in replay.cuts(stream, 300):
        out = claude.streamed([stream[:at], stream[at:]])
        assert out == whole
        if b"[DONE]" in stream[:at]:
            continue
        early = claude.streamed([stream[:at]], cut=True)
        begun, _, told = early.rpartition(b"event: error\n")
        assert whole[:end].startswith(begun)
        assert b"cut off" in told


@pytest.mark.parametrize("recording", replay.cases("openai", streamed=False))
def test_a_recorded_answer_comes_whole(recording: Recording) -> None:
    """Text, calls, reason to stop and usage are OpenAI's; an error is told as Anthropic's."""
    body = recording.body
    given = json.loads(body)
    if recording.status != 200:
        out = claude.translate().answers.error(recording.status, body)
        raised = claude.error(recording.status, out)
        assert given["error"]["message"] in str(raised)
        assert type(raised).__name__ == "BadRequestError"
        return
    message = claude.whole(body)
    sent = given["choices"][0]["message"]
    calls = [
        (it["id"], it["function"]["name"], json.loads(it["function"]["arguments"]))
        for it in sent.get("tool_calls") or ()
    ]
    assert said(message) == ((sent["content"] or "") + (sent.get("refusal") or ""), calls)
    assert agrees(message, given["usage"])
    assert (message.id, message.model) == (given["id"], given["model"])


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
def test_recorded_requests_are_carried_or_refused_by_a_path(*, streamed: bool) -> None:
    """What is refused or dropped is named by where it stands in the request."""
    for case in replay.cases("anthropic", streamed=streamed):
        (recording,) = case.values
        if recording is None:
            pytest.skip("no recordings")
        translated = carried(recording)
        if isinstance(translated, InvalidRequest):
            assert translated.field
            assert find(recording.request, translated.field) is not None
            continue
        for path in (*translated.dropped, *translated.changed):
            assert path == "cache_control" or find(recording.request, path) is not None
        sent = json.loads(translated.body)
        assert sent["model"] == recording.request["model"]
        assert not (streamed and not sent["stream_options"]["include_usage"])


def carried(recording: Recording) -> Translated | InvalidRequest:
    """A recorded request's translation, or why there is none."""
    try:
        return messages_to_chat(replay.body_of(recording), claude.OPTIONS)
    except InvalidRequest as refused:
        return refused


def find(body: Any, path: str) -> Any:
    """What stands in a body at a path; raises LookupError."""
    for name, index in re.findall(r"([^.\[\]]+)|\[(\d+)\]", path):
        body = body[name] if name else body[int(index)]
    return body
