"""What becomes of the tools of a chat, and of how they are chosen."""

from __future__ import annotations

import json
from typing import Any

import pytest

from metering.errors import InvalidRequest
from metering.translate import chat_to_messages
from tests.translate.anthropic.forms import FUNCTION, HI, MODEL, STRICT, TOOL, body, chat

SCHEMA = (
    '{"type": "object", "$defs": {"d": {"type": "number", "maximum": 1e400}}, "definitions": {},'
    ' "properties": {"z": {"anyOf": [{"$ref": "#/$defs/d"}, {"type": "null"}]}, "a": {}},'
    ' "required": ["z"], "additionalProperties": false, "oneOf": [{}]}'
)
FORCED = {"type": "function", "function": {"name": "f"}}
OTHER = {"type": "function", "function": {"name": "g"}}
BUILT_IN = {"type": "web_search_20250305", "name": "web_search", "max_uses": 2}


def allowed(mode: str, *tools: dict[str, Any]) -> dict[str, Any]:
    """A choice among some tools."""
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": list(tools)}}


def test_a_schema_goes_byte_for_byte() -> None:
    """Portkey keeps `type`, `properties` and `required`; here nothing is lost or reordered."""
    sent = (
        b'{"model":"%b","messages":[{"role":"user","content":"x"}],"tools":[{"type":"function",'
        b'"function":{"name":"f","description":"d","parameters":%b,"strict":true}}]}'
    )
    made = chat_to_messages(sent % (MODEL.encode(), SCHEMA.encode()), STRICT).body
    assert b'"input_schema":' + SCHEMA.encode() in made
    assert b'"description":"d","strict":true' in made


# tool; what it becomes; dropped
TOOLS: list[tuple[dict[str, Any], dict[str, Any], tuple[str, ...]]] = [
    (TOOL, {"name": "f", "input_schema": {"type": "object"}}, ()),
    (
        {"type": "function", "function": {"name": "f", "description": None, "strict": None}},
        {"name": "f", "input_schema": {"type": "object", "properties": {}}},
        (),
    ),
    (
        {"type": "function", "function": {"name": "f", "parameters": {}}},
        {"name": "f", "input_schema": {"type": "object"}},
        (),
    ),
    (
        {
            **TOOL,
            "defer_loading": True,
            "allowed_callers": ["direct"],
            "input_examples": [{"a": 1}],
            "extra": 1,
        },
        {
            "name": "f",
            "input_schema": {"type": "object"},
            "defer_loading": True,
            "allowed_callers": ["direct"],
            "input_examples": [{"a": 1}],
        },
        ("tools[0].extra",),
    ),
    (
        {"type": "function", "function": {**FUNCTION, "returns": {}}},
        {"name": "f", "input_schema": {"type": "object"}},
        ("tools[0].function.returns",),
    ),
    (BUILT_IN, BUILT_IN, ()),
    (
        {"type": "web_search", "web_search": {"name": "web_search_20250305", "max_uses": 2}},
        BUILT_IN,
        (),
    ),
    (
        {"name": "f", "input_schema": {"type": "object"}},
        {"name": "f", "input_schema": {"type": "object"}},
        (),
    ),
    (
        {"type": "custom", "name": "f", "input_schema": {"type": "object"}},
        {"type": "custom", "name": "f", "input_schema": {"type": "object"}},
        (),
    ),
]


@pytest.mark.parametrize(("tool", "expected", "dropped"), TOOLS, ids=lambda it: json.dumps(it)[:60])
def test_each_tool_has_its_form(
    tool: dict[str, Any], expected: dict[str, Any], dropped: tuple[str, ...]
) -> None:
    """Functions become tools; Anthropic's own pass, also as Portkey writes them."""
    assert body(tools=[tool])["tools"] == [expected]
    assert chat(tools=[tool]).dropped == dropped


def test_strictness_is_lost_on_models_that_have_none() -> None:
    """And that is said; `false` is what they are anyway."""
    strict = {"type": "function", "function": {**FUNCTION, "strict": True}}
    lax = {"type": "function", "function": {**FUNCTION, "name": "g", "strict": False}}
    said = chat(model="claude-sonnet-4-0", tools=[strict, lax])
    assert b"strict" not in said.body
    assert said.dropped == ("tools[0].function.strict",)


AUTO, ANY, NONE = {"type": "auto"}, {"type": "any"}, {"type": "none"}
# asked; tool_choice
CHOICES: list[tuple[dict[str, Any], dict[str, Any] | None]] = [
    ({}, None),
    ({"tool_choice": "auto"}, AUTO),
    ({"tool_choice": "none"}, NONE),
    ({"tool_choice": "required"}, ANY),
    ({"tool_choice": FORCED}, {"type": "tool", "name": "f"}),
    ({"tool_choice": {"type": "tool", "name": "f"}}, {"type": "tool", "name": "f"}),
    ({"tool_choice": {"type": "any"}}, ANY),
    (
        {"tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": True}},
        {"type": "tool", "name": "f", "disable_parallel_tool_use": True},
    ),
    ({"parallel_tool_calls": True}, None),
    ({"parallel_tool_calls": False}, {**AUTO, "disable_parallel_tool_use": True}),
    (
        {"parallel_tool_calls": False, "tool_choice": "required"},
        {**ANY, "disable_parallel_tool_use": True},
    ),
    ({"parallel_tool_calls": False, "tool_choice": "none"}, NONE),
]


@pytest.mark.parametrize(("asked", "choice"), CHOICES, ids=lambda it: json.dumps(it)[:60])
def test_how_tools_are_chosen(asked: dict[str, Any], choice: dict[str, Any] | None) -> None:
    """As OpenAI says it; and one call at a time, which Portkey loses."""
    assert body(tools=[TOOL], **asked).get("tool_choice") == choice


def test_only_allowed_tools_are_sent() -> None:
    """Anthropic has no word for a choice among them, but what is not there cannot be called."""
    made = body(tools=[TOOL, OTHER], tool_choice=allowed("required", FORCED))
    assert [it["name"] for it in made["tools"]] == ["f"]
    assert made["tool_choice"] == ANY


@pytest.mark.parametrize("model", ["claude-opus-5-5", "claude-sonnet-5-5", "claude-fable-5-1"])
@pytest.mark.parametrize("choice", ["required", FORCED])
def test_models_that_cannot_be_made_to_call_are_left_to_choose(model: str, choice: Any) -> None:
    """They refuse such a request; that it has changed is said."""
    said = chat(model=model, tools=[TOOL], tool_choice=choice, parallel_tool_calls=False)
    assert json.loads(said.body)["tool_choice"] == {**AUTO, "disable_parallel_tool_use": True}
    assert said.changed == ("tool_choice",)
    assert body(model="claude-opus-5", tools=[TOOL], tool_choice="required")["tool_choice"] == ANY


def test_a_choice_without_tools_is_none() -> None:
    """Anthropic refuses it; what it says is so anyway."""
    assert "tool_choice" not in body(tool_choice="auto", parallel_tool_calls=False)
    assert "tool_choice" not in body(tool_choice="none", tools=[])


def test_functions_are_tools() -> None:
    """As it was before: one call at a time, as a client of functions answers one."""
    made = body(functions=[FUNCTION], function_call={"name": "f"})
    assert made["tools"] == [{"name": "f", "input_schema": {"type": "object"}}]
    single = {"disable_parallel_tool_use": True}
    assert made["tool_choice"] == {"type": "tool", "name": "f", **single}
    assert body(functions=[FUNCTION])["tool_choice"] == {**AUTO, **single}


def test_web_search_is_anthropics() -> None:
    """With where the user is; how much of a page is read has no word."""
    near = {"city": "Berlin", "country": "DE"}
    options = {
        "search_context_size": "low",
        "user_location": {"type": "approximate", "approximate": near},
    }
    assert body(web_search_options=options)["tools"] == [
        {
            "type": "web_search_20250305",
            "name": "web_search",
            "user_location": {"type": "approximate", **near},
        }
    ]
    plain = {"type": "approximate", "city": "Berlin"}
    made = body(web_search_options={"user_location": plain})["tools"][0]
    assert made["user_location"] == plain
    assert "user_location" not in body(web_search_options={})["tools"][0]
    said = chat(web_search_options=options)
    assert said.dropped == ("web_search_options.search_context_size",)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"tools": {}}, "tools"),
    ({"tools": [1]}, "tools[0]"),
    ({"tools": [{"type": "function"}]}, "tools[0].function"),
    ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
    ({"tools": [TOOL, TOOL]}, "tools[1].function.name"),
    ({"tools": [{"type": "custom", "custom": {"name": "c"}}]}, "tools[0].type"),
    ({"tools": [{"type": "bash", "bash": {}}]}, "tools[0].bash.name"),
    (
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": 1}}]},
        "tools[0].function.parameters",
    ),
    ({"tools": [TOOL], "tool_choice": "sometimes"}, "tool_choice"),
    ({"tools": [TOOL], "tool_choice": {"type": "custom"}}, "tool_choice"),
    ({"tools": [TOOL], "tool_choice": OTHER}, "tool_choice.function.name"),
    ({"tools": [TOOL], "tool_choice": {"type": "function"}}, "tool_choice.name"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tools": [TOOL], "tool_choice": {"type": "allowed_tools"}}, "tool_choice.allowed_tools"),
    (
        {"tools": [TOOL], "tool_choice": allowed("sometimes", TOOL)},
        "tool_choice.allowed_tools.mode",
    ),
    ({"tools": [TOOL], "tool_choice": allowed("auto", OTHER)}, "tool_choice.allowed_tools.tools"),
    ({"tools": [TOOL], "tool_choice": allowed("auto")}, "tool_choice.allowed_tools.tools"),
    ({"tools": [TOOL], "parallel_tool_calls": "no"}, "parallel_tool_calls"),
]


@pytest.mark.parametrize(("asked", "field"), BAD, ids=lambda it: json.dumps(it)[:60])
def test_tools_that_make_no_sense_are_refused(asked: dict[str, Any], field: str) -> None:
    """With the path."""
    with pytest.raises(InvalidRequest) as fault:
        chat(messages=HI, **asked)
    assert fault.value.field == field
