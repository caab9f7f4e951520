"""Both dialects over recorded traffic: bodies as they came but for the result, usage read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from metering.core.result import splice_result
from metering.core.sse import Event
from metering.providers import DIALECTS
from tests.providers.replay import (
    PATHS,
    RESULT,
    body_of,
    cases,
    cuts,
    events,
    objects,
    run,
    setting,
    tokens,
    without_result,
)
from tests.standin.recordings import Recording

JSON = cases("openai", streamed=False) + cases("anthropic", streamed=False)
CHAT = cases("openai", streamed=True)
MESSAGES = cases("anthropic", streamed=True)
CUTS_MAX = 1000
# Both ways a client may ask for a stream.
ASKED: dict[str, list[dict[str, Any]]] = {
    "openai": [{}, {"stream_options": {"include_usage": True}}],
    "anthropic": [{}],
}


def expected_counts(
    provider: str, usage: dict[str, Any], container: object = None
) -> dict[str, int]:
    """The counts of a recorded usage, worked out member by member, zeros left out."""
    if provider == "openai":
        prompt, completion = usage["prompt_tokens_details"], usage["completion_tokens_details"]
        counts = {
            "input": usage["prompt_tokens"],
            "output": usage["completion_tokens"],
            "cache_read": prompt["cached_tokens"],
            "cache_write_5m": prompt.get("cache_write_tokens", 0),
            "reasoning": completion["reasoning_tokens"],
            "input_audio": prompt["audio_tokens"],
            "output_audio": completion["audio_tokens"],
        }
    else:
        cache = [usage["cache_read_input_tokens"], usage["cache_creation_input_tokens"]]
        split = usage.get("cache_creation") or {}
        counts = {
            "input": usage["input_tokens"] + sum(cache),
            "output": usage["output_tokens"],
            "cache_read": cache[0],
            "cache_write_5m": split.get("ephemeral_5m_input_tokens", 0),
            "cache_write_1h": split.get("ephemeral_1h_input_tokens", 0),
            "reasoning": usage.get("output_tokens_details", {}).get("thinking_tokens", 0),
            "web_search": usage.get("server_tool_use", {}).get("web_search_requests", 0),
            "web_fetch": usage.get("server_tool_use", {}).get("web_fetch_requests", 0),
            "code_execution": int(container is not None),
        }
    return {unit: count for unit, count in counts.items() if count or unit in ("input", "output")}


@pytest.mark.parametrize("recording", JSON)
def test_json_answers(recording: Recording) -> None:
    """Usage, model and id are read; spliced, the body is the provider's own but for the result."""
    dialect, endpoint, _ = setting(recording.provider)
    body = recording.body
    usage = dialect.read(endpoint, body)
    spliced = splice_result(body, RESULT)
    document = json.loads(body)

    assert spliced is not None
    assert json.loads(spliced) == document | {"xproxy_result": {"request_id": "r1"}}
    assert spliced.replace(b',"xproxy_result":' + RESULT, b"") == body
    if recording.status != 200:
        assert usage.counts is None
        return
    ran_in = document.get("container")
    assert usage.counts == expected_counts(recording.provider, tokens(recording), ran_in)
    assert (usage.model, usage.provider_id) == (document["model"], document["id"])
    tier = document.get("service_tier") or document["usage"].get("service_tier")
    assert usage.service_tier == tier
    assert usage.finished
    assert not usage.output_text


@pytest.mark.parametrize("recording", JSON + CHAT + MESSAGES)
def test_requests(recording: Recording) -> None:
    """Every recorded request is understood, and goes upstream as it came unless usage is asked."""
    dialect = DIALECTS[recording.provider]
    endpoint = dialect.endpoint(recording.method, recording.path)
    body = body_of(recording)
    ask = dialect.ask(endpoint, body)
    request = recording.request

    assert (endpoint.kind, ask.model) == ("metered", request["model"])
    assert ask.stream is request.get("stream", False) is recording.streamed
    assert ask.choices == request.get("n", 1)
    assert ask.max_output_tokens == request.get("max_completion_tokens", request.get("max_tokens"))
    assert dialect.upstream_body(ask, body) is body
    pretty = json.dumps(request, indent=1).encode()
    assert dialect.upstream_body(dialect.ask(endpoint, pretty), pretty) is pretty
    for message in request["messages"]:
        if isinstance(message.get("content"), str):
            assert message["content"] in "\n".join(ask.texts)
    for tool in request.get("tools", ()):
        assert tool.get("name", tool.get("function", {}).get("name")) in "\n".join(ask.texts)


def distinct(params: list[Any]) -> list[Any]:
    """The recordings less those whose bodies came before: several were made of one exchange."""
    return list({getattr(p.values[0], "body", b""): p for p in reversed(params)}.values())


@pytest.mark.parametrize("recording", CHAT)
def test_chat_streams_with_usage(recording: Recording) -> None:
    """A client that asked for usage gets the stream as it came, the result on the usage chunk."""
    out, usage = run("openai", recording.body, stream_options={"include_usage": True})
    carriers = [chunk for chunk in objects(out) if "xproxy_result" in chunk]
    stated = next(chunk["usage"] for chunk in objects(recording.body) if chunk["usage"])

    assert without_result(out) == recording.body
    assert [chunk["choices"] for chunk in carriers] == [[]]
    assert usage.counts == expected_counts("openai", stated)
    assert usage.finished


@pytest.mark.parametrize("recording", CHAT)
def test_chat_streams_without_usage(recording: Recording) -> None:
    """A client that did not ask gets the events less the usage chunk, the result on the last."""
    out, usage = run("openai", recording.body)
    chunks = objects(out)
    kept = [event.raw for event in events(recording.body) if b'"choices":[],' not in event.raw]

    assert without_result(out) == b"".join(kept)
    assert len(kept) == len(events(recording.body)) - 1
    assert out.endswith(b"data: [DONE]\n\n")
    assert all(chunk["choices"][0] for chunk in chunks)
    assert ["xproxy_result" in chunk for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert usage == run("openai", recording.body, stream_options={"include_usage": True})[1]


@pytest.mark.parametrize("recording", MESSAGES)
def test_messages_streams(recording: Recording) -> None:
    """The stream comes as it was, the result on the message_delta with the stop reason."""
    out, usage = run("anthropic", recording.body)
    carriers = [event for event in objects(out) if "xproxy_result" in event]
    stated: dict[str, Any] = {}
    ran_in = None
    for event in objects(recording.body):
        stated |= event.get("message", event).get("usage") or {}
        ran_in = event.get("delta", {}).get("container") or ran_in

    assert without_result(out) == recording.body
    assert [carrier["type"] for carrier in carriers] == ["message_delta"]
    assert carriers[0]["delta"]["stop_reason"]
    assert usage.counts == expected_counts("anthropic", stated, ran_in)
    assert usage.finished


@pytest.mark.slow
@pytest.mark.parametrize("recording", distinct(CHAT + MESSAGES))
def test_cuts(recording: Recording, size: str) -> None:
    """Cut at any byte, and into single bytes, a stream gives the same bytes and the same usage.

    In CI, long streams are cut in a thousand places at the end and a thousand elsewhere.
    """
    provider, body = recording.provider, recording.body
    most = CUTS_MAX if size == "ci" else len(body)
    for options in ASKED[provider]:
        whole = run(provider, body, **options)

        assert run(provider, *(body[i : i + 1] for i in range(len(body))), **options) == whole
        for cut in cuts(body, most):
            assert run(provider, body[:cut], body[cut:], **options) == whole


@pytest.mark.parametrize("recording", CHAT[:3] + MESSAGES[:3])
def test_truncated_streams(recording: Recording) -> None:
    """A stream that ends anywhere loses nothing; what was delivered is kept until it is counted."""
    for cut in cuts(recording.body, CUTS_MAX // 4):
        sent = recording.body[:cut]
        out, usage = run(recording.provider, sent, result=None)
        shown = [event for event in events(sent) if not is_usage_chunk(event)]
        ended = len(shown) < len(events(sent)) or any(is_stop(event) for event in shown)

        assert out == b"".join(event.raw for event in shown)
        assert usage.finished is ended
        if usage.counts is None or "output" not in usage.counts:
            assert usage.output_text == "".join(map(delivered, shown))
        else:
            assert not usage.output_text


def data_of(event: Event) -> dict[str, Any]:
    try:
        data: dict[str, Any] = json.loads(event.data)
    except ValueError:  # cut off, or [DONE]
        return {}
    return data


def is_usage_chunk(event: Event) -> bool:
    return data_of(event).get("choices") == []


def is_stop(event: Event) -> bool:
    return data_of(event).get("type") == "message_stop"


def delivered(event: Event) -> str:
    """The output text in one event, as a reader of the two APIs would put it together."""
    data = data_of(event)
    if "choices" not in data:
        delta = data.get("delta", {})
        return str(delta.get("text") or delta.get("partial_json") or delta.get("thinking") or "")
    delta = data["choices"][0]["delta"]
    calls = [call["function"] for call in delta.get("tool_calls") or ()]
    texts = [delta.get("content") or "", delta.get("refusal") or ""]
    return "".join(texts + [call.get("name", "") + call["arguments"] for call in calls])


def test_all_endpoints_are_replayed() -> None:
    """The replayed paths are metered."""
    for name, path in PATHS.items():
        assert DIALECTS[name].endpoint("POST", path).kind == "metered"
