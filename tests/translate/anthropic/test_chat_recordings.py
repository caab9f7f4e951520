"""Recorded traffic, translated: every answer and stream of Anthropic's, every chat of OpenAI's."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from metering.providers import DIALECTS
from metering.providers.anthropic.messages import Messages
from metering.translate import chat_to_messages
from metering.translate.base import Options
from tests.providers.replay import RESULT, cases, objects
from tests.providers.replay import run as tapped
from tests.standin.recordings import Recording
from tests.translate.anthropic.forms import (
    LOOSE,
    STRICT,
    ChatCompletion,
    ChatCompletionChunk,
    calls_of,
    chat,
    chunks,
    fits_anthropic,
    fits_openai,
    streamed,
    text_of,
)

STREAMS = cases("anthropic", streamed=True)
ANSWERS = cases("anthropic", streamed=False)
CHATS = cases("openai", streamed=False) + cases("openai", streamed=True)
SIZES = (1, 7, 64)
CUT_EVERYWHERE_MAX = 6_000
"""Streams up to so many bytes are cut at every one of them."""


def blocks_of(recording: Recording) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The blocks of a recorded stream, put together, and its usage: as a client of Anthropic's."""
    blocks: list[dict[str, Any]] = []
    usage: dict[str, Any] = {}
    for event in objects(recording.body):
        if event["type"] == "message_start":
            usage |= event["message"]["usage"]
        elif event["type"] == "content_block_start":
            blocks.append({**event["content_block"], "json": ""})
        elif event["type"] == "content_block_delta":
            block, delta = blocks[event["index"]], event["delta"]
            block["json"] += delta.get("partial_json", "")
            for name in ("text", "thinking", "signature"):
                if name in delta:
                    block[name] += delta[name]
        elif event["type"] == "message_delta":
            usage |= {name: it for name, it in event["usage"].items() if it is not None}
    return blocks, usage


def translated(recording: Recording, *cuts: bytes, options: Options = STRICT) -> bytes:
    """A recorded stream as a client gets it that has asked for usage."""
    stream = chat(options, stream=True, stream_options={"include_usage": True}).answers.stream()
    return streamed(stream, *(cuts or (recording.body,)))


def sizes(stream: bytes, size: int) -> Iterator[bytes]:
    """A stream in pieces of a size."""
    return (stream[at : at + size] for at in range(0, len(stream), size))


@pytest.mark.parametrize("recording", STREAMS)
def test_a_recorded_stream_says_the_same(recording: Recording) -> None:
    """Its text, its calls and its usage, in chunks that are OpenAI's own and nothing more."""
    blocks, usage = blocks_of(recording)
    made = chunks(translated(recording))
    for one in made:
        fits_openai(ChatCompletionChunk, one)
    assert text_of(made) == "".join(it["text"] for it in blocks if it["type"] == "text")
    assert calls_of(made) == [
        {"id": it["id"], "name": it["name"], "arguments": it["json"] or "{}"}
        for it in blocks
        if it["type"] == "tool_use"
    ]
    told = made[-1]["usage"]
    names = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    assert told["prompt_tokens"] == sum(usage[name] for name in names)
    assert told["completion_tokens"] == usage["output_tokens"]
    assert told["total_tokens"] == told["prompt_tokens"] + told["completion_tokens"]


@pytest.mark.parametrize("recording", STREAMS)
def test_a_recorded_stream_loses_no_thought_where_not_strict(recording: Recording) -> None:
    """Its thoughts and signatures are there, piece by piece."""
    blocks, _ = blocks_of(recording)
    made = chunks(translated(recording, options=LOOSE))
    deltas = [choice["delta"] for one in made for choice in one["choices"]]
    thought = "".join(it["thinking"] for it in blocks if it["type"] == "thinking")
    assert "".join(it.get("reasoning_content", "") for it in deltas) == thought
    parts = [part["delta"] for it in deltas for part in it.get("content_blocks", [])]
    signed = "".join(it.get("signature", "") for it in blocks)
    assert "".join(it.get("signature", "") for it in parts) == signed


@pytest.mark.parametrize("recording", STREAMS)
def test_a_recorded_stream_may_be_cut_anywhere(recording: Recording) -> None:
    """In pieces of any size the same comes out, to the byte."""
    stream, expected = recording.body, translated(recording)
    for size in SIZES:
        assert translated(recording, *sizes(stream, size)) == expected
    if len(stream) <= CUT_EVERYWHERE_MAX:
        for at in range(len(stream)):
            assert translated(recording, stream[:at], stream[at:]) == expected


@pytest.mark.parametrize("recording", STREAMS)
@pytest.mark.parametrize("usage", [True, False])
def test_the_result_comes_through_on_the_last_chunk(recording: Recording, usage: bool) -> None:  # noqa: FBT001
    """As the tap puts it into the provider's stream."""
    spliced, _ = tapped("anthropic", recording.body)
    stream = chat(stream=True, stream_options={"include_usage": usage}).answers.stream()
    made = streamed(stream, spliced)
    assert made.count(b'"xproxy_result":' + RESULT) == 1
    assert chunks(made)[-1]["xproxy_result"] == json.loads(RESULT)


@pytest.mark.parametrize("recording", ANSWERS)
def test_a_recorded_answer_says_the_same(recording: Recording) -> None:
    """Its text, its calls, its usage; an error its words."""
    if recording.status != 200:
        told = json.loads(chat().answers.error(recording.status, recording.body))
        assert told["error"]["message"] == json.loads(recording.body)["error"]["message"]
        return
    answer = json.loads(recording.body)
    made = chat().answers.whole(recording.body)
    assert made is not None
    told = json.loads(made)
    fits_openai(ChatCompletion, told)
    message = told["choices"][0]["message"]
    texts = [it["text"] for it in answer["content"] if it["type"] == "text"]
    assert message["content"] == ("".join(texts) if texts else None)
    calls = [it for it in answer["content"] if it["type"] == "tool_use"]
    for call, block in zip(message.get("tool_calls", []), calls, strict=True):
        assert (call["id"], call["function"]["name"]) == (block["id"], block["name"])
        assert json.loads(call["function"]["arguments"]) == block["input"]
    metered = Messages().read(recording.body, Messages().ask(b'{"model":"m"}', b"")).counts
    assert metered is not None
    assert told["usage"]["prompt_tokens"] == metered["input"]
    assert told["usage"]["completion_tokens"] == metered["output"]


@pytest.mark.parametrize("recording", ANSWERS)
def test_a_recorded_answer_goes_back_whole(recording: Recording) -> None:
    """What is not strict gives all blocks, and they return to the provider as they were."""
    made = chat(LOOSE).answers.whole(recording.body)
    if made is None:
        assert recording.status != 200
        return
    told = json.loads(made)["choices"][0]["message"]
    if told["content_blocks"]:
        back = json.loads(chat(messages=[{"role": "user", "content": "a"}, told]).body)
        assert back["messages"][1]["content"] == json.loads(recording.body)["content"]


SAID = {
    *("content", "text", "url", "file_data", "refusal", "id", "tool_call_id"),
    *("tool_calls", "image_url", "file"),
}


def strings(value: Any) -> Iterator[str]:
    """The texts that messages hold: what is said, and what tools were called with and answered."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)
    elif isinstance(value, dict):
        for name, item in value.items():
            if name in SAID:
                yield from strings(item)


def unquoted(text: str) -> str:
    """A text as it stands in JSON, less what a data: URL begins with."""
    return json.dumps(re.sub(r"^data:[^,]*,", "", text), ensure_ascii=False)[1:-1]


@pytest.mark.parametrize("recording", CHATS)
def test_a_recorded_chat_loses_nothing(recording: Recording) -> None:
    """Everything said, called and answered is there, every tool with its schema, and what is not
    carried is named."""
    asked = {**recording.request, "model": "claude-opus-4-8"}
    audio = "input_audio" in json.dumps(asked)
    if audio:
        pytest.skip("it speaks to the model, which Anthropic's do not hear")
    said = chat_to_messages(json.dumps(asked, ensure_ascii=False).encode(), STRICT)
    made = json.loads(said.body)
    fits_anthropic(made)
    flat = json.dumps(made, ensure_ascii=False)
    for text in strings(asked["messages"]):
        assert unquoted(text) in flat
    functions = [it["function"] for it in asked.get("tools", []) if it["type"] == "function"]
    tools = [it for it in made.get("tools", []) if "input_schema" in it]
    assert [it["name"] for it in functions] == [it["name"] for it in tools]
    assert [it["parameters"] for it in functions] == [it["input_schema"] for it in tools]
    dialect = DIALECTS["anthropic"]
    ask = dialect.ask(dialect.endpoint("POST", "/v1/messages"), said.body)
    assert (ask.model, ask.max_output_tokens) == ("claude-opus-4-8", made["max_tokens"])
    assert ask.changed_body is None
    assert not set(said.dropped) - {
        *("temperature", "top_p", "seed", "n", "logprobs", "store", "prediction", "modalities"),
        *("prompt_cache_key", "logit_bias", "frequency_penalty", "presence_penalty", "verbosity"),
        *("response_format", "service_tier", "reasoning_effort", "metadata", "moderation"),
        *("prompt_cache_options", "web_search_options.search_context_size"),
    }
