"""What was seen to get lost in Portkey's gateway between OpenAI's form and Anthropic's, case by
case: none of it does here."""

from __future__ import annotations

import json
from typing import Any

import pytest

from metering.errors import InvalidRequest
from tests.translate.anthropic.forms import (
    HI,
    LOOSE,
    MODEL,
    STRICT,
    TOOL,
    body,
    chat,
    chunks,
    sse,
    streamed,
)
from tests.translate.anthropic.test_chat_answers import CACHED, message, text, whole
from tests.translate.anthropic.test_chat_streams import FAILED, START, STOP, ended, opened, say

HOUR = {"type": "ephemeral", "ttl": "1h"}


def test_the_seeds_own_example_without_a_cap() -> None:
    """Sent without `max_tokens`, or with more than the model writes: Anthropic's 400."""
    assert body(tools=[TOOL], tool_choice="auto")["max_tokens"] == 4096


def test_a_model_that_is_missing() -> None:
    """Another one was called in its place."""
    with pytest.raises(InvalidRequest):
        chat(model=None)


def test_system_messages_that_begin_with_no_text() -> None:
    """Skipped, all of them."""
    parts = [text(""), text("a"), text("b")]
    assert body(messages=[{"role": "developer", "content": parts}, *HI])["system"] == parts[1:]


def test_the_ttl_of_a_mark() -> None:
    """Dropped: an hour's cache became five minutes'."""
    content = [text("a", cache_control=HOUR)]
    assert (
        body(messages=[{"role": "user", "content": content}])["messages"][0]["content"] == content
    )


def test_a_mark_on_an_image_by_url() -> None:
    """Dropped, as were those on results of tools."""
    image = {"type": "image_url", "image_url": {"url": "https://x/y"}, "cache_control": HOUR}
    made = body(messages=[{"role": "user", "content": [image]}])["messages"][0]["content"]
    assert made[0]["cache_control"] == HOUR


@pytest.mark.parametrize("name", ["cache_control", "output_config", "container"])
def test_anthropics_own_members(name: str) -> None:
    """Vanished: only some were let through."""
    value: Any = {"cache_control": HOUR, "output_config": {"effort": "low"}, "container": "c"}[name]
    assert body(**{name: value})[name] == value


def test_arguments_that_are_no_json() -> None:
    """500, 'Something went wrong'."""
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a":'}}
    with pytest.raises(InvalidRequest) as fault:
        chat(messages=[*HI, {"role": "assistant", "content": None, "tool_calls": [call]}])
    assert fault.value.field == "messages[1].tool_calls[0].function.arguments"


def test_tools_that_answer_in_a_row() -> None:
    """A turn of the user for each, which Anthropic refuses."""
    calls = [{"id": it, "type": "function", "function": {"name": "f"}} for it in ("a", "b")]
    results = [{"role": "tool", "tool_call_id": it, "content": "r"} for it in ("a", "b")]
    said = {"role": "assistant", "content": None, "tool_calls": calls}
    made = body(messages=[*HI, said, *results])["messages"]
    assert [len(it["content"]) for it in made[1:]] == [2, 2]


def test_parts_that_cannot_be_heard() -> None:
    """Dropped in silence."""
    audio = {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}
    with pytest.raises(InvalidRequest):
        chat(messages=[{"role": "user", "content": [audio]}])


@pytest.mark.parametrize(
    "lost", ["additionalProperties", "anyOf", "oneOf", "definitions", "$defs", "minProperties"]
)
def test_what_a_schema_says(lost: str) -> None:
    """Only `type`, `properties`, `required` and `$defs` were kept."""
    schema = {"type": "object", lost: {"x": [1]}}
    tool = {"type": "function", "function": {"name": "f", "parameters": schema, "strict": True}}
    made = body(tools=[tool])["tools"][0]
    assert (made["input_schema"], made["strict"]) == (schema, True)
    assert "description" not in made


def test_one_call_at_a_time() -> None:
    """`parallel_tool_calls: false` was dropped."""
    made = body(tools=[TOOL], parallel_tool_calls=False)
    assert made["tool_choice"]["disable_parallel_tool_use"] is True


def test_a_single_stop() -> None:
    """Sent as a string, which Anthropic refuses."""
    assert body(stop="END")["stop_sequences"] == ["END"]


def test_temperatures_beyond_one() -> None:
    """Clamped in silence."""
    assert chat(temperature=1.7).changed == ("temperature",)


def test_a_schema_to_answer_in_and_an_effort() -> None:
    """Both dropped."""
    schema = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}
    made = body(model="claude-opus-4-8", response_format=schema, reasoning_effort="low")
    assert made["output_config"].keys() == {"effort", "format"}
    assert made["thinking"] == {"type": "adaptive"}


@pytest.mark.parametrize("name", ["seed", "n", "logprobs", "presence_penalty", "store", "new"])
def test_what_has_no_place(name: str) -> None:
    """Dropped in silence; here by name."""
    assert chat(STRICT, **{name: 2}).dropped == (name,)


def test_usage_that_adds_up() -> None:
    """`10 + 6 = 1116`, as the cache was in the total alone."""
    usage = whole(message(usage=CACHED))["usage"]
    assert usage["prompt_tokens"] + usage["completion_tokens"] == usage["total_tokens"] == 1116


def test_why_an_answer_ended() -> None:
    """Anthropic's word, by default; and a refusal was a plain stop."""
    assert whole(message(), strict=False)["choices"][0]["finish_reason"] == "stop"
    assert whole(message(stop="refusal"))["choices"][0]["finish_reason"] == "content_filter"


def test_the_words_of_an_error() -> None:
    """With 'anthropic error: ' before them, and no code."""
    inner = {"type": "overloaded_error", "message": "Overloaded"}
    made = json.loads(chat().answers.error(529, json.dumps({"error": inner}).encode()))["error"]
    assert (made["message"], made["code"]) == ("Overloaded", "overloaded_error")


@pytest.mark.parametrize("options", [STRICT, LOOSE], ids=["strict", "loose"])
def test_chunks_that_say_nothing(options: Any) -> None:
    """One for the beginning of each text."""
    made = chunks(streamed(chat(options).answers.stream(), sse(START, *say(0, "x"), ended(), STOP)))
    assert [len(it["choices"][0]["delta"]) > 0 for it in made] == [True, True, False]


def test_usage_of_a_stream() -> None:
    """In the chunk with the reason, asked for or not."""
    made = chunks(streamed(opened(usage=True), sse(START, ended(), STOP)))
    assert [(len(it["choices"]), it["usage"] is None) for it in made] == [
        (1, True),
        (1, True),
        (0, False),
    ]


def test_an_error_amid_a_stream() -> None:
    """A chunk with the reason `overloaded_error`, its message lost, and then `[DONE]`."""
    made = streamed(opened(), sse(START, FAILED))
    assert b'"message":"Overloaded"' in made
    assert b"[DONE]" not in made


def test_a_stream_that_breaks_off() -> None:
    """A clean end, as if it were all."""
    assert b'"code":"stream_cut"' in streamed(opened(), sse(START, *say(0, "x")))


def test_the_id_of_an_answer() -> None:
    """The time in milliseconds, the same for all streams of one."""
    made = chunks(streamed(opened(), sse(START, ended(), STOP)))
    assert {it["id"] for it in made} == {"msg_1"}
    assert MODEL != made[0]["model"] == "claude-x"
