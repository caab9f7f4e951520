"""What becomes of each member of a responses request."""

from __future__ import annotations

import json
from typing import Any

import pytest

from metering.errors import InvalidRequest
from metering.translate.anthropic.responses_reasoning import sealed_thinking
from metering.translate.base import Options
from tests.translate.anthropic.forms import CREATED, FUNCTION
from tests.translate.anthropic.responses import body, respond, turns

FLAT = {"type": "function", **FUNCTION}
USER = {"role": "user", "content": "a"}
CALL = {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": '{"n":1.50}'}
OUTPUT = {"type": "function_call_output", "call_id": "call_1", "output": "1"}
THOUGHT = {"type": "thinking", "thinking": "hm \u00e4", "signature": "s=="}
REASONING = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [{"type": "summary_text", "text": "hm \u00e4"}],
    "encrypted_content": sealed_thinking(b'"hm \\u00e4"', b'"s=="'),
}
FOREIGN = {"type": "reasoning", "id": "rs_2", "summary": [], "encrypted_content": "gAAAAABo=="}
OPUS = "claude-opus-4-8"
OLD = "claude-3-haiku-20240307"


def said(text: str) -> dict[str, Any]:
    """A block of text."""
    return {"type": "text", "text": text}


def refused(**asked: Any) -> InvalidRequest:
    """Why a request makes no sense."""
    with pytest.raises(InvalidRequest) as raised:
        respond(**asked)
    return raised.value


def test_the_least_request() -> None:
    """A string is the user's; the cap is what the model writes at most, or the default."""
    least = {"model": "claude-sonnet-4-5", "messages": [{"role": "user", "content": "hi"}]}
    assert body() == {**least, "max_tokens": 4096}
    most = Options(created_s=CREATED, max_output_tokens=64000)
    assert body(most) == {**least, "max_tokens": 64000}


def image(**source: Any) -> dict[str, Any]:
    """A block of an image."""
    return {"type": "image", "source": source}


def document(title: str | None = None, **source: Any) -> dict[str, Any]:
    """A block of a document."""
    named = {} if title is None else {"title": title}
    return {"type": "document", "source": source, **named}


PARTS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"type": "input_text", "text": "a"}, said("a")),
    ({"type": "text", "text": "a"}, said("a")),
    ({"type": "output_text", "text": "a", "annotations": [], "logprobs": []}, said("a")),
    ({"type": "refusal", "refusal": "a"}, said("a")),
    (
        {"type": "input_text", "text": "a", "cache_control": {"type": "ephemeral"}},
        {**said("a"), "cache_control": {"type": "ephemeral"}},
    ),
    (
        {"type": "input_image", "image_url": "https://x/a.png", "detail": "auto"},
        image(type="url", url="https://x/a.png"),
    ),
    (
        {"type": "input_image", "image_url": "data:image/png;base64,AAAA"},
        image(type="base64", media_type="image/png", data="AAAA"),
    ),
    ({"type": "input_image", "file_id": "file_1"}, image(type="file", file_id="file_1")),
    (
        {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,AA"},
        document("a.pdf", type="base64", media_type="application/pdf", data="AA"),
    ),
    (
        {"type": "input_file", "filename": "a.txt", "file_data": "aGk="},
        document("a.txt", type="text", media_type="text/plain", data="hi"),
    ),
    (
        {"type": "input_file", "file_url": "https://x/a.pdf"},
        document(type="url", url="https://x/a.pdf"),
    ),
    ({"type": "input_file", "file_id": "file_1"}, document(type="file", file_id="file_1")),
]


@pytest.mark.parametrize(("part", "block"), PARTS)
def test_a_part_becomes_a_block(part: dict[str, Any], block: dict[str, Any]) -> None:
    """Nothing of it is lost: said by the user, and by a tool."""
    assert turns({"role": "user", "content": [part]})[0]["content"] == [block]
    answered = turns(USER, CALL, {**OUTPUT, "output": [part]})[-1]["content"][0]
    assert answered["content"] == [block]
    assert respond(input=[{"role": "user", "content": [part]}]).dropped == ()


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ([USER], [USER]),
        ([{"type": "message", **USER, "id": "m", "status": "completed"}], [USER]),
        (
            [USER, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}],
            [USER, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}],
        ),
        ([USER, {"role": "user", "content": ""}], [USER]),
        (
            [USER, CALL, OUTPUT],
            [
                USER,
                {
                    "role": "assistant",
                    "content": [
                        {"type": "tool_use", "id": "call_1", "name": "f", "input": {"n": 1.5}}
                    ],
                },
                {
                    "role": "user",
                    "content": [{"type": "tool_result", "tool_use_id": "call_1", "content": "1"}],
                },
            ],
        ),
    ],
)
def test_items_become_turns(items: list[Any], expected: list[dict[str, Any]]) -> None:
    """Messages, calls and their outputs."""
    assert turns(*items) == expected


def test_a_turn_of_the_assistant_is_one() -> None:
    """Thinking, text and calls that follow one another belong together, and so do the results,
    which the user's next words join."""
    other = {**CALL, "call_id": "call_2", "arguments": ""}
    text = {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "output_text", "text": "b"}],
    }
    outputs: list[Any] = [OUTPUT, {**OUTPUT, "call_id": "call_2", "output": []}]
    made = turns(USER, REASONING, text, CALL, other, *outputs, {"role": "user", "content": "c"})
    assert [turn["role"] for turn in made] == ["user", "assistant", "user"]
    assert made[1]["content"] == [
        THOUGHT,
        said("b"),
        {"type": "tool_use", "id": "call_1", "name": "f", "input": {"n": 1.5}},
        {"type": "tool_use", "id": "call_2", "name": "f", "input": {}},
    ]
    assert made[2]["content"] == [
        {"type": "tool_result", "tool_use_id": "call_1", "content": "1"},
        {"type": "tool_result", "tool_use_id": "call_2"},
        said("c"),
    ]


def test_arguments_go_as_the_bytes_they_are() -> None:
    """Numbers keep their digits."""
    assert b'"input":{"n":1.50}' in respond(input=[USER, CALL, OUTPUT]).body


def test_system_messages() -> None:
    """Instructions come first; what a developer says stays in its place, where the model takes it
    there, and goes to the others where it does not."""
    late = {"role": "developer", "content": [{"type": "input_text", "text": "y"}]}
    items = [{"role": "system", "content": "x"}, USER, late]
    made = body(instructions="i", input=items, model=OPUS)
    assert made["system"] == [said("i"), said("x")]
    assert made["messages"] == [USER, {"role": "system", "content": [said("y")]}]
    asked = respond(instructions="i", input=items)
    assert json.loads(asked.body)["system"] == [said("i"), said("x"), said("y")]
    assert asked.changed == ("input[2]",)
    assert "system" not in body(instructions="")


def test_instructions_alone_are_the_users() -> None:
    """Anthropic asks for a message of the user."""
    asked = respond(input=[{"role": "developer", "content": "x"}])
    assert json.loads(asked.body)["messages"] == [{"role": "user", "content": [said("x")]}]
    assert asked.changed == ("input",)


def test_reasoning_of_others_is_dropped() -> None:
    """Nobody else can read it: it is named. So is reasoning that nothing comes of."""
    items = [USER, FOREIGN, CALL, OUTPUT, {"type": "reasoning", "id": "r", "summary": []}]
    asked = respond(input=items)
    assert asked.dropped == ("input[1]", "input[4]")
    assert json.loads(asked.body)["messages"] == turns(USER, CALL, OUTPUT)
    asked = respond(input=[USER, REASONING, {"role": "user", "content": "b"}])
    assert asked.dropped == ("input[1]",)
    assert THOUGHT not in json.loads(asked.body)["messages"]


@pytest.mark.parametrize("kind", ["web_search_call", "file_search_call", "mcp_call"])
def test_calls_of_the_providers_own_tools_are_dropped(kind: str) -> None:
    """What came of them stands in the answer."""
    assert respond(input=[USER, {"type": kind, "id": "x"}]).dropped == ("input[1]",)


TOOL = {"name": "f", "input_schema": {"type": "object"}}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (FLAT, TOOL),
        ({**FLAT, "strict": None, "description": "d"}, {**TOOL, "description": "d"}),
        ({**FLAT, "strict": True}, {**TOOL, "strict": True}),
        (
            {"type": "function", "name": "f"},
            {**TOOL, "input_schema": {"type": "object", "properties": {}}},
        ),
        ({**FLAT, "defer_loading": False}, TOOL),
        ({"type": "web_search"}, {"type": "web_search_20250305", "name": "web_search"}),
        (
            {
                "type": "web_search_preview",
                "search_context_size": "medium",
                "user_location": {"type": "approximate", "country": "DE", "city": None},
                "filters": {"allowed_domains": ["a.de"]},
            },
            {
                "type": "web_search_20250305",
                "name": "web_search",
                "user_location": {"type": "approximate", "country": "DE"},
                "allowed_domains": ["a.de"],
            },
        ),
    ],
)
def test_a_tool(given: dict[str, Any], expected: dict[str, Any]) -> None:
    """Functions and the search of the web are carried whole."""
    assert body(tools=[given])["tools"] == [expected]
    assert respond(tools=[given]).dropped == ()


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("auto", {"type": "auto"}),
        ("none", {"type": "none"}),
        ("required", {"type": "any"}),
        ({"type": "function", "name": "f"}, {"type": "tool", "name": "f"}),
        ({"type": "web_search_preview"}, {"type": "tool", "name": "web_search"}),
    ],
)
def test_a_choice_of_tools(choice: Any, expected: dict[str, Any]) -> None:
    """As Anthropic says it; one call at a time, where it is asked for."""
    tools = [FLAT, {"type": "web_search"}]
    assert body(tools=tools, tool_choice=choice)["tool_choice"] == expected
    made = body(tools=tools, tool_choice=choice, parallel_tool_calls=False)["tool_choice"]
    single = {} if choice == "none" else {"disable_parallel_tool_use": True}
    assert made == {**expected, **single}


def test_allowed_tools() -> None:
    """The others are not sent."""
    tools = [FLAT, {**FLAT, "name": "g"}, {"type": "web_search"}]
    allowed = [{"type": "function", "name": "g"}, {"type": "web_search"}]
    choice = {"type": "allowed_tools", "mode": "required", "tools": allowed}
    made = body(tools=tools, tool_choice=choice)
    assert [tool["name"] for tool in made["tools"]] == ["g", "web_search"]
    assert made["tool_choice"] == {"type": "any"}


FORMAT = {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}
MATRIX: list[tuple[dict[str, Any], dict[str, Any], tuple[str, ...]]] = [
    ({"max_output_tokens": 9}, {"max_tokens": 9}, ()),
    ({"temperature": 0.5}, {"temperature": 0.5}, ()),
    ({"temperature": 1.5}, {"temperature": 1}, ()),
    ({"top_p": 0.5}, {"top_p": 0.5}, ()),
    ({"temperature": 0.5, "model": OPUS}, {}, ("temperature",)),
    ({"stream": True}, {"stream": True}, ()),
    ({"stream": False, "stream_options": {"include_obfuscation": False}}, {}, ()),
    ({"reasoning": {"effort": "low"}, "model": OPUS}, {"output_config": {"effort": "low"}}, ()),
    (
        {"reasoning": {"effort": "high", "summary": "auto"}, "model": OPUS},
        {"thinking": {"type": "adaptive", "display": "summarized"}},
        (),
    ),
    (
        {"reasoning": {"effort": "low", "summary": "auto"}, "max_output_tokens": 8192},
        {"thinking": {"type": "enabled", "budget_tokens": 1024}},
        (),
    ),
    ({"reasoning": {"summary": "auto"}}, {}, ("reasoning.summary",)),
    ({"reasoning": {"effort": "low", "mode": "pro"}}, {}, ("reasoning.mode",)),
    ({"reasoning": {"effort": "low"}, "model": OLD}, {}, ("reasoning.effort",)),
    ({"text": {"format": {"type": "text"}, "verbosity": "medium"}}, {}, ()),
    (
        {"text": {"format": FORMAT}},
        {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}},
        (),
    ),
    ({"text": {"format": FORMAT}, "model": OLD}, {}, ("text.format",)),
    (
        {"text": {"format": {"type": "json_object"}, "verbosity": "low"}},
        {},
        ("text.verbosity", "text.format"),
    ),
    ({"metadata": {"user_id": "u", "a": "b"}}, {"metadata": {"user_id": "u"}}, ("metadata.a",)),
    ({"user": "u"}, {"metadata": {"user_id": "u"}}, ()),
    ({"safety_identifier": "u"}, {"metadata": {"user_id": "u"}}, ()),
    ({"service_tier": "default"}, {"service_tier": "standard_only"}, ()),
    ({"service_tier": "flex"}, {}, ("service_tier",)),
    ({"store": True}, {}, ("store",)),
    ({"store": False, "truncation": "disabled", "top_logprobs": 0, "background": False}, {}, ()),
    ({"truncation": "auto"}, {}, ("truncation",)),
    ({"top_logprobs": 2}, {}, ("top_logprobs",)),
    ({"include": ["reasoning.encrypted_content"]}, {}, ()),
    ({"include": ["message.output_text.logprobs"]}, {}, ("include[0]",)),
    ({"prompt_cache_key": "k", "max_tool_calls": 3}, {}, ("prompt_cache_key", "max_tool_calls")),
    ({"context_management": [{"type": "compaction"}]}, {}, ("context_management",)),
    ({"what": 1, "previous_response_id": None, "conversation": None}, {}, ("what",)),
    (
        {"tools": [{**FLAT, "x": 1, "defer_loading": True}]},
        {},
        ("tools[0].defer_loading", "tools[0].x"),
    ),
    (
        {"tools": [{"type": "web_search", "search_context_size": "low", "filters": {"x": 1}}]},
        {},
        ("tools[0].search_context_size", "tools[0].filters.x"),
    ),
    (
        {
            "input": [
                {
                    "role": "user",
                    "content": [
                        {"type": "input_image", "image_url": "https://x/y", "detail": "high"}
                    ],
                }
            ]
        },
        {},
        ("input[0].content[0].detail",),
    ),
    ({"input": [{**USER, "name": "n"}]}, {}, ("input[0].name",)),
    ({"cache_control": {"type": "ephemeral"}}, {"cache_control": {"type": "ephemeral"}}, ()),
]


@pytest.mark.parametrize(("asked", "expected", "dropped"), MATRIX)
def test_a_member(
    asked: dict[str, Any], expected: dict[str, Any], dropped: tuple[str, ...]
) -> None:
    """Each is carried, or named as dropped."""
    translated = respond(**asked)
    made = json.loads(translated.body)
    for name, value in expected.items():
        assert (
            made[name] == value if name != "output_config" else value.items() <= made[name].items()
        )
    assert translated.dropped == dropped


def test_what_comes_through_with_another_value_is_named() -> None:
    """A temperature beyond what is allowed, an effort that the model has not."""
    assert respond(temperature=1.5).changed == ("temperature",)
    assert respond(reasoning={"effort": "xhigh"}, model="claude-opus-4-6").changed == (
        "reasoning.effort",
    )


def test_betas_become_a_header() -> None:
    """As for chats; OpenAI's own `context_management` needs none."""
    given = respond(betas=["b-2025-01-01"], context_management=[]).headers
    assert given == ((b"anthropic-beta", b"b-2025-01-01"),)


def user(*parts: Any) -> dict[str, Any]:
    """A request with these parts."""
    return {"input": [{"role": "user", "content": list(parts)}]}


def with_tool(**tool: Any) -> dict[str, Any]:
    """A request with this tool."""
    return {"tools": [FLAT, tool]}


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"model": None}, "model"),
    ({"input": None}, "input"),
    ({"input": ""}, "input"),
    ({"input": []}, "input"),
    ({"input": 5}, "input"),
    ({"input": ["a"]}, "input[0]"),
    ({"input": [{"role": "user"}]}, "input[0].content"),
    ({"input": [{"content": "a"}]}, "input[0].role"),
    ({"input": [{"role": "tool", "content": "a"}]}, "input[0].role"),
    ({"input": [USER, {"type": "item_reference", "id": "x"}]}, "input[1]"),
    ({"input": [USER, {"type": "custom_tool_call"}]}, "input[1].type"),
    ({"input": [USER, {"type": "compaction"}]}, "input[1].type"),
    ({"input": [{**CALL, "call_id": None}]}, "input[0].call_id"),
    ({"input": [{**CALL, "call_id": 1}]}, "input[0].call_id"),
    ({"input": [{**CALL, "name": None}]}, "input[0].name"),
    ({"input": [{**CALL, "arguments": "{"}]}, "input[0].arguments"),
    ({"input": [USER, CALL, {**OUTPUT, "output": None}]}, "input[2].output"),
    ({"input": [USER, CALL, {**OUTPUT, "output": {}}]}, "input[2].output"),
    (user({"text": "a"}), "input[0].content[0].type"),
    (user({"type": "input_audio"}), "input[0].content[0].type"),
    (user({"type": "input_text"}), "input[0].content[0].text"),
    (user({"type": "input_text", "text": 1}), "input[0].content[0].text"),
    (user({"type": "input_image"}), "input[0].content[0].image_url"),
    (user({"type": "input_image", "image_url": "x"}), "input[0].content[0].image_url"),
    (user({"type": "input_image", "file_id": 1}), "input[0].content[0].file_id"),
    (user({"type": "input_file"}), "input[0].content[0].file_data"),
    (
        {
            "input": [
                {
                    "role": "system",
                    "content": user({"type": "input_image", "file_id": "f"})["input"][0]["content"],
                }
            ]
        },
        "input[0].content[0].type",
    ),
    ({"instructions": ["a"]}, "instructions"),
    ({"previous_response_id": "resp_1"}, "previous_response_id"),
    ({"conversation": "conv_1"}, "conversation"),
    ({"prompt": {"id": "p"}}, "prompt"),
    ({"background": True}, "background"),
    ({"max_output_tokens": -1}, "max_output_tokens"),
    ({"max_output_tokens": "9"}, "max_output_tokens"),
    ({"temperature": "a"}, "temperature"),
    ({"stream": "a"}, "stream"),
    ({"reasoning": {"effort": "a"}}, "reasoning.effort"),
    ({"reasoning": 1}, "reasoning"),
    ({"text": {"format": {"type": "x"}}}, "text.format.type"),
    ({"text": {"format": {"type": "json_schema"}}}, "text.format.schema"),
    ({"metadata": 1}, "metadata"),
    ({"include": [1]}, "include[0]"),
    (with_tool(name="g"), "tools[1].type"),
    (with_tool(type="function"), "tools[1].name"),
    (with_tool(type="file_search"), "tools[1].type"),
    (with_tool(type="code_interpreter"), "tools[1].type"),
    (with_tool(type="custom", name="g"), "tools[1].type"),
    (with_tool(**FLAT), "tools[1].name"),
    ({"tools": [FLAT], "tool_choice": "x"}, "tool_choice"),
    ({"tools": [FLAT], "tool_choice": {"type": "mcp"}}, "tool_choice"),
    ({"tools": [FLAT], "tool_choice": {"type": "function"}}, "tool_choice.name"),
    ({"tools": [FLAT], "tool_choice": {"type": "web_search"}}, "tool_choice.name"),
    ({"tools": [FLAT], "tool_choice": {"type": "allowed_tools", "tools": []}}, "tool_choice.tools"),
]


@pytest.mark.parametrize(("asked", "field"), REFUSED)
def test_what_makes_no_sense_is_named(asked: dict[str, Any], field: str) -> None:
    """By its path, with what to send instead."""
    error = refused(**asked)
    assert error.field == field
    assert f"'{field}'" in str(error)
    assert error.status == 400
