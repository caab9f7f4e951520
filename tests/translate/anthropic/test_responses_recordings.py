"""Recorded traffic as responses: Anthropic's answers and streams, requests to OpenAI."""

from __future__ import annotations

import json
from typing import Any

import pytest

from metering.errors import InvalidRequest
from metering.providers.anthropic.messages import Messages
from tests.providers.replay import RESULT, cases, events, objects
from tests.providers.replay import run as tapped
from tests.standin.recordings import Recording
from tests.translate.anthropic.forms import fits_anthropic
from tests.translate.anthropic.responses import (
    accumulated,
    fits_response,
    respond,
    stream_of,
    told,
)
from tests.translate.anthropic.test_chat_recordings import SIZES, blocks_of, sizes, unquoted

STREAMS = cases("anthropic", streamed=True)
ANSWERS = cases("anthropic", streamed=False)
REQUESTS = cases("openai", "/v1/responses", streamed=False) + cases(
    "openai", "/v1/responses", streamed=True
)
KINDS = {"text", "thinking", "redacted_thinking", "tool_use"}
"""The blocks that come back from a client as they were given out."""
USER = {"role": "user", "content": "a"}
GOES_ON = {"role": "assistant", "content": "z"}
"""What the assistant goes on with: no turn of its ends with thinking."""


def back(output: list[Any]) -> list[dict[str, Any]]:
    """What an answer's items become in the next request; citations have no place there."""
    items = [USER, *output, GOES_ON]
    turn = json.loads(respond(input=items).body)["messages"][-1]["content"]
    blocks = [] if isinstance(turn, str) else turn[:-1]
    return [{name: it for name, it in block.items() if name != "citations"} for block in blocks]


def given(blocks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The blocks that are to come back, texts in a row as one; empty ones are none."""
    made: list[dict[str, Any]] = []
    joins = False
    for block in blocks:
        kind = block["type"]
        if kind == "text" and joins:
            made[-1]["text"] += block["text"]
        elif kind == "text" and block["text"]:
            made.append({"type": "text", "text": block["text"]})
            joins = True
        elif kind in KINDS:
            names = ("type", "thinking", "signature", "data", "id", "name", "input")
            made.append({name: block[name] for name in names if name in block})
            joins = False
        elif kind == "server_tool_use" and block["name"] == "web_search":
            joins = False
    return made


@pytest.mark.parametrize("recording", ANSWERS)
def test_a_recorded_answer(recording: Recording) -> None:
    """A response of OpenAI's own form, with all of the usage; what a client sends back of it is
    what the provider gave."""
    if recording.status != 200:
        made = json.loads(respond().answers.error(recording.status, recording.body))
        assert made["error"]["message"] == json.loads(recording.body)["error"]["message"]
        return
    whole = respond().answers.whole(recording.body)
    assert whole is not None
    made = json.loads(whole)
    fits_response(made)
    assert back(made["output"]) == given(json.loads(recording.body)["content"])
    metered = Messages().read(recording.body, Messages().ask(b'{"model":"m"}', b"")).counts
    assert metered is not None
    assert made["usage"]["input_tokens"] == metered["input"]
    assert made["usage"]["output_tokens"] == metered["output"]


@pytest.mark.parametrize("recording", STREAMS)
def test_a_recorded_stream(recording: Recording) -> None:
    """Typed events with all that was said, thought and called, and with the usage."""
    blocks, usage = blocks_of(recording)
    for block in blocks:
        if block["type"] == "tool_use":
            block["input"] = json.loads(block["json"] or "{}")
    made = told(stream_of(recording.body))
    last = made[-1]["response"]
    fits_response(last)
    assert back(last["output"]) == given(blocks)
    text = "".join(one["delta"] for one in made if one["type"] == "response.output_text.delta")
    assert text == "".join(it["text"] for it in blocks if it["type"] == "text")
    done = [one["item"] for one in made if one["type"] == "response.output_item.done"]
    assert done == last["output"]
    names = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    assert last["usage"]["input_tokens"] == sum(usage[name] for name in names)
    assert last["usage"]["output_tokens"] == usage["output_tokens"]


@pytest.mark.parametrize("recording", STREAMS)
def test_the_sdk_reads_a_recorded_stream(recording: Recording) -> None:
    """What its own helper accumulates is the answer."""
    stream = stream_of(recording.body)
    made, last = accumulated(stream), told(stream)[-1]["response"]
    assert [it["id"] for it in made["output"]] == [it["id"] for it in last["output"]]
    assert made["usage"] == last["usage"]


@pytest.mark.parametrize("recording", STREAMS)
def test_a_recorded_stream_may_be_cut_anywhere(recording: Recording) -> None:
    """In pieces of any size the same comes out, to the byte."""
    expected = stream_of(recording.body)
    for size in SIZES:
        assert stream_of(*sizes(recording.body, size)) == expected


@pytest.mark.parametrize("recording", STREAMS)
def test_a_recorded_stream_that_breaks_off_has_failed(recording: Recording) -> None:
    """After any of its events but the last."""
    raw = [event.raw for event in events(recording.body)]
    for upto in range(0, len(raw), max(1, len(raw) // 20)):
        made = objects(stream_of(b"".join(raw[:upto]), cut=True))
        assert [one["type"] for one in made[-2:]] == ["error", "response.failed"]


@pytest.mark.parametrize("recording", STREAMS)
def test_a_metered_recorded_stream_has_its_result(recording: Recording) -> None:
    """On the last event."""
    out, _ = tapped("anthropic", recording.body)
    assert objects(stream_of(out))[-1]["xproxy_result"] == json.loads(RESULT)


SAID = {"content", "text", "arguments", "output", "instructions", "call_id"}


def strings(value: Any) -> list[str]:
    """The texts that items hold."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        return [text for item in value for text in strings(item)]
    if isinstance(value, dict):
        return [text for name, it in value.items() if name in SAID for text in strings(it)]
    return []


@pytest.mark.parametrize("recording", REQUESTS)
def test_a_recorded_request_is_translated_or_refused(recording: Recording) -> None:
    """What is refused is named; of the others nothing said or called is lost, and what is not
    carried is named."""
    asked = {**recording.request, "model": "claude-opus-4-8"}
    refused: str | None = None
    try:
        said = respond(**asked)
    except InvalidRequest as error:
        refused = error.field or ""
    if refused is not None:
        assert refused.partition("[")[0].partition(".")[0] in asked
        return
    made = json.loads(said.body)
    fits_anthropic(made)
    flat = json.dumps(made, ensure_ascii=False)
    items = [asked["input"]] if isinstance(asked["input"], str) else asked["input"]
    kept = [it for at, it in enumerate(items) if f"input[{at}]" not in said.dropped]
    for item in kept:
        called = isinstance(item, dict) and item.get("type") == "function_call"
        for text in [item["call_id"], item["name"]] if called else strings(item):
            assert unquoted(text) in flat
    functions = [it for it in asked.get("tools") or [] if it["type"] == "function"]
    tools = [it for it in made.get("tools", []) if "input_schema" in it]
    assert [it["parameters"] for it in functions] == [it["input_schema"] for it in tools]
    assert not {it for it in said.dropped if not it.startswith(("input[", "include["))} - {
        *("temperature", "truncation", "context_management", "prompt_cache_key", "moderation"),
        *("prompt_cache_options", "text.verbosity", "text.format", "reasoning.summary"),
        *("reasoning.context", "reasoning.mode", "reasoning.generate_summary"),
        "tools[0].external_web_access",
    }
