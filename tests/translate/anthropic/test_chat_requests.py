"""What becomes of each member of a chat request."""

from __future__ import annotations

import json
from typing import Any

import pytest

from metering.errors import InvalidRequest
from metering.translate import chat_to_messages
from metering.translate.base import Options
from tests.translate.anthropic.forms import HI, MODEL, STRICT, TOOL, body, chat

OLDEST, OLDER, FOUR_SIX, FOUR_EIGHT = (
    *("claude-3-5-sonnet-20240620", "claude-3-7-sonnet-latest"),
    *("claude-opus-4-6", "claude-opus-4-8"),
)
NEWEST, SONNET, HAIKU = "claude-opus-5-5", "claude-sonnet-5-5", "claude-haiku-5-5"
SCHEMA = {"type": "object", "additionalProperties": False, "anyOf": [{"required": ["a"]}]}
FORMAT = {"type": "json_schema", "json_schema": {"name": "n", "strict": True, "schema": SCHEMA}}
Row = tuple[dict[str, Any], dict[str, Any], tuple[str, ...], tuple[str, ...]]

# asked; what the body has beside model, messages and max_tokens 4096; dropped; changed
MEMBERS: list[Row] = [
    ({}, {}, (), ()),
    # caps
    ({"max_tokens": 7}, {"max_tokens": 7}, (), ()),
    ({"max_completion_tokens": 8}, {"max_tokens": 8}, (), ()),
    ({"max_completion_tokens": 8, "max_tokens": 9}, {"max_tokens": 8}, ("max_tokens",), ()),
    # sampling
    ({"temperature": 0.25}, {"temperature": 0.25}, (), ()),
    ({"temperature": 1.7}, {"temperature": 1}, (), ("temperature",)),
    ({"temperature": -1}, {"temperature": 0}, (), ("temperature",)),
    ({"top_p": 0.5, "top_k": 3}, {"top_p": 0.5, "top_k": 3}, (), ()),
    ({"temperature": 0.5, "top_p": 0.5}, {"temperature": 0.5}, ("top_p",), ()),
    ({"temperature": 0.5, "top_p": 1}, {"temperature": 0.5}, (), ()),
    (
        {"model": OLDEST, "temperature": 0.5, "top_p": 0.5},
        {"temperature": 0.5, "top_p": 0.5},
        (),
        (),
    ),
    (
        {"model": NEWEST, "temperature": 0.5, "top_p": 0.9, "top_k": 3},
        {},
        ("temperature", "top_p", "top_k"),
        (),
    ),
    ({"model": NEWEST, "temperature": 1, "top_p": 1}, {}, (), ()),
    # stops
    ({"stop": "END"}, {"stop_sequences": ["END"]}, (), ()),
    ({"stop": ["a", "\n", "b"]}, {"stop_sequences": ["a", "b"]}, ("stop[1]",), ()),
    ({"stop": "\n"}, {}, ("stop",), ()),
    ({"stop": None, "stop_sequences": ["x"]}, {"stop_sequences": ["x"]}, (), ()),
    # whom it is for
    ({"user": "u"}, {"metadata": {"user_id": "u"}}, (), ()),
    ({"safety_identifier": "s"}, {"metadata": {"user_id": "s"}}, (), ()),
    (
        {"metadata": {"user_id": "m", "team": "t"}, "user": "u"},
        {"metadata": {"user_id": "m"}},
        ("user", "metadata.team"),
        (),
    ),
    ({"metadata": {"team": "t"}}, {}, ("metadata.team",), ()),
    # tiers
    ({"service_tier": "auto"}, {"service_tier": "auto"}, (), ()),
    ({"service_tier": "standard_only"}, {"service_tier": "standard_only"}, (), ()),
    ({"service_tier": "default"}, {"service_tier": "standard_only"}, (), ()),
    ({"service_tier": "priority"}, {"service_tier": "auto"}, (), ("service_tier",)),
    ({"service_tier": "flex"}, {}, ("service_tier",), ()),
    # formats
    ({"response_format": {"type": "text"}}, {}, (), ()),
    ({"response_format": {"type": "json_object"}}, {}, ("response_format",), ()),
    (
        {"response_format": FORMAT},
        {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
        (),
        (),
    ),
    ({"model": OLDEST, "response_format": FORMAT}, {}, ("response_format",), ()),
    # streams
    ({"stream": True}, {"stream": True}, (), ()),
    ({"stream": False}, {}, (), ()),
    (
        {"stream": True, "stream_options": {"include_usage": True, "x": 1}},
        {"stream": True},
        ("stream_options.x",),
        (),
    ),
    # what Anthropic has no word for
    ({"n": 1, "logprobs": False, "frequency_penalty": 0, "store": False}, {}, (), ()),
    ({"seed": None, "logit_bias": {}, "modalities": ["text"], "verbosity": "medium"}, {}, (), ()),
    (
        {"n": 2, "seed": 1, "logprobs": True, "top_logprobs": 2, "logit_bias": {"1": 1}},
        {},
        ("n", "seed", "logprobs", "top_logprobs", "logit_bias"),
        (),
    ),
    (
        {"presence_penalty": 0.5, "frequency_penalty": 0.5, "store": True, "verbosity": "low"},
        {},
        ("presence_penalty", "frequency_penalty", "store", "verbosity"),
        (),
    ),
    ({"prompt_cache_key": "k", "prediction": {}}, {}, ("prompt_cache_key", "prediction"), ()),
    ({"not_known_yet": 1}, {}, ("not_known_yet",), ()),
    # what is Anthropic's own
    ({"cache_control": {"type": "ephemeral"}}, {"cache_control": {"type": "ephemeral"}}, (), ()),
    ({"thinking": {"type": "disabled"}}, {"thinking": {"type": "disabled"}}, (), ()),
    ({"container": "c", "inference_geo": "us"}, {"container": "c", "inference_geo": "us"}, (), ()),
    (
        {"output_config": {"effort": "low"}, "response_format": FORMAT},
        {
            "output_config": {
                "effort": "low",
                "format": {"type": "json_schema", "schema": SCHEMA},
            }
        },
        (),
        (),
    ),
]

ADAPTIVE = {"type": "adaptive"}
# model, asked; what the body has beside; dropped; changed
EFFORTS: list[tuple[str, dict[str, Any], dict[str, Any], tuple[str, ...], tuple[str, ...]]] = [
    (NEWEST, {"reasoning_effort": "xhigh"}, {"e": "xhigh", "t": ADAPTIVE}, (), ()),
    (NEWEST, {"reasoning_effort": "none"}, {"e": "low"}, (), ("reasoning_effort",)),
    ("claude-nova-7", {"reasoning_effort": "minimal"}, {"e": "low"}, (), ("reasoning_effort",)),
    ("claude-mythos-preview", {"reasoning_effort": "max"}, {"e": "max", "t": ADAPTIVE}, (), ()),
    (SONNET, {"reasoning_effort": "none"}, {"t": {"type": "between_tools"}}, (), ()),
    (HAIKU, {"reasoning_effort": "none"}, {"t": {"type": "disabled"}}, (), ()),
    (FOUR_EIGHT, {"reasoning_effort": "none"}, {}, (), ()),
    (FOUR_EIGHT, {"reasoning": {"effort": "low"}}, {"e": "low", "t": ADAPTIVE}, (), ()),
    (
        FOUR_EIGHT,
        {"reasoning": {"effort": "low", "summary": "auto"}},
        {"e": "low", "t": ADAPTIVE},
        ("reasoning.summary",),
        (),
    ),
    (
        FOUR_SIX,
        {"reasoning_effort": "xhigh"},
        {"e": "max", "t": ADAPTIVE},
        (),
        ("reasoning_effort",),
    ),
    (
        "claude-opus-4-5-20251101",
        {"reasoning_effort": "xhigh", "max_tokens": 90_000},
        {"e": "high", "t": {"type": "enabled", "budget_tokens": 32_768}, "m": 90_000},
        (),
        ("reasoning_effort",),
    ),
    # older models: a budget below the cap, which stays the client's
    (MODEL, {"reasoning_effort": "low"}, {"b": 1024, "m": 1024 + 4096}, (), ()),
    (MODEL, {"reasoning_effort": "high"}, {"b": 10_240, "m": 16384 + 4096}, (), ()),
    (MODEL, {"reasoning_effort": "high", "max_tokens": 8000}, {"b": 4000, "m": 8000}, (), ()),
    (MODEL, {"reasoning_effort": "high", "max_tokens": 1500}, {"b": 1024, "m": 1500}, (), ()),
    (
        MODEL,
        {"reasoning_effort": "high", "max_tokens": 1024},
        {"m": 1024},
        ("reasoning_effort",),
        (),
    ),
    (OLDER, {"reasoning_effort": "none"}, {}, (), ()),
    (OLDEST, {"reasoning_effort": "high"}, {}, ("reasoning_effort",), ()),
    # thinking goes with no other way to choose words, and not with tools that must be called
    (
        FOUR_SIX,
        {"reasoning_effort": "low", "temperature": 0},
        {"e": "low", "t": ADAPTIVE},
        ("temperature",),
        (),
    ),
    (
        MODEL,
        {"reasoning_effort": "low", "tools": [TOOL], "tool_choice": "required"},
        {},
        ("reasoning_effort",),
        (),
    ),
    # Anthropic's own words
    (
        MODEL,
        {"thinking": {"type": "enabled", "budget_tokens": 2000}, "max_tokens": 3000},
        {"b": 2000, "m": 3000},
        (),
        (),
    ),
    (
        MODEL,
        {"thinking": {"type": "enabled", "budget_tokens": 2000}, "max_tokens": 2000},
        {"b": 1999, "m": 2000},
        (),
        ("thinking.budget_tokens",),
    ),
    (
        MODEL,
        {"thinking": {"type": "enabled", "budget_tokens": 2000}, "max_tokens": 1000},
        {"m": 1000},
        ("thinking",),
        (),
    ),
    (
        MODEL,
        {"thinking": {"type": "enabled", "budget_tokens": 9000}},
        {"b": 9000, "m": 9000 + 4096},
        (),
        (),
    ),
    (
        MODEL,
        {"thinking": {"type": "disabled"}, "reasoning_effort": "high"},
        {"t": {"type": "disabled"}},
        ("reasoning_effort",),
        (),
    ),
]  # fmt: skip

BAD: list[tuple[Any, str]] = [
    ({"model": None}, "model"),
    ({"model": ""}, "model"),
    ({"model": 1}, "model"),
    ({"messages": None}, "messages"),
    ({"messages": {}}, "messages"),
    ({"messages": []}, "messages"),
    ({"messages": ["x"]}, "messages[0]"),
    ({"messages": [{"role": "system", "content": ""}]}, "messages"),
    ({"messages": [{"content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": 1}]}, "messages[0].content"),
    ({"stream": "yes"}, "stream"),
    ({"temperature": "hot"}, "temperature"),
    ({"temperature": True}, "temperature"),
    ({"max_tokens": 1.5}, "max_tokens"),
    ({"max_tokens": -1}, "max_tokens"),
    ({"stop": [1]}, "stop[0]"),
    ({"stop": 1}, "stop"),
    ({"user": 1}, "user"),
    ({"reasoning_effort": "hard"}, "reasoning_effort"),
    ({"response_format": {"type": "xml"}}, "response_format.type"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.schema"),
    ({"thinking": 1}, "thinking"),
    ({"output_config": 1}, "output_config"),
    ({"service_tier": 1}, "service_tier"),
    ({"betas": ["a\r\nx: y"]}, "betas"),
]


@pytest.mark.parametrize("row", MEMBERS, ids=lambda row: json.dumps(row[0])[:60])
def test_each_member_has_its_place(row: Row) -> None:
    """A member is carried, or it is named: as dropped, or as changed."""
    asked, expected, dropped, changed = row
    made = body(**asked)
    assert made.pop("model") == asked.get("model", MODEL)
    assert made.pop("messages") == HI
    assert made == {"max_tokens": 4096, **expected}
    said = chat(**asked)
    assert (set(said.dropped), said.changed) == (set(dropped), changed)


@pytest.mark.parametrize("row", EFFORTS, ids=lambda row: f"{row[0]} {json.dumps(row[1])[:50]}")
def test_thinking_is_asked_for_as_the_model_knows_it(row: tuple[Any, ...]) -> None:
    """Efforts where the model has them, a budget below the cap where it does not, else a name."""
    model, asked, expected, dropped, changed = row
    made = body(model=model, **asked)
    thinking = expected.get("t")
    if "b" in expected:
        thinking = {"type": "enabled", "budget_tokens": expected["b"]}
    assert made.get("thinking") == thinking
    assert made.get("output_config", {}).get("effort") == expected.get("e")
    assert made["max_tokens"] == expected.get("m", 4096)
    said = chat(model=model, **asked)
    assert (said.dropped, said.changed) == (dropped, changed)


@pytest.mark.parametrize(("asked", "field"), BAD, ids=lambda it: json.dumps(it)[:50])
def test_what_makes_no_sense_is_refused(asked: dict[str, Any], field: str) -> None:
    """The caller is told which member, and what it must be."""
    with pytest.raises(InvalidRequest) as fault:
        chat(**asked)
    assert fault.value.field == field
    assert field in fault.value.message
    assert fault.value.status == 400


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"nope", b'{"model":"m","messages":', b'{"a":' + b"[" * 200_000 + b"}", b"\xff"],
    ids=lambda it: it[:20].decode(errors="replace"),
)
def test_a_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    """Whatever comes is answered with 400, however deep it is nested."""
    with pytest.raises(InvalidRequest) as fault:
        chat_to_messages(body, STRICT)
    assert fault.value.code == "invalid_json"


@pytest.mark.parametrize("member", ["model", "stop"])
def test_a_member_that_is_no_utf8_is_refused(member: str) -> None:
    """With its path; JSON is UTF-8."""
    body = json.dumps({"model": MODEL, "messages": HI, "stop": "x", "user": "u", member: "bad"})
    with pytest.raises(InvalidRequest) as fault:
        chat_to_messages(body.encode().replace(b"bad", b"\xff"), STRICT)
    assert fault.value.field == member


def test_the_last_of_two_members_holds() -> None:
    """Of a name sent twice one value goes on, the one that every parser takes."""
    made = chat_to_messages(
        b'{"model":"a","model":"b","messages":[{"role":"user","content":"x","content":"y"}]}',
        STRICT,
    )
    assert json.loads(made.body)["messages"] == [{"role": "user", "content": "y"}]
    assert made.body.count(b'"model"') == 1


def test_a_model_without_a_cap_gets_its_own() -> None:
    """The seed's own example sets no cap, and Anthropic asks for one."""
    assert body(Options(created_s=1, max_output_tokens=8192))["max_tokens"] == 8192


def test_a_budget_stays_below_the_models_cap() -> None:
    """A budget is lowered to what the model can write, half of it at most."""
    made = body(Options(created_s=1, max_output_tokens=8192), reasoning_effort="high")
    assert made["thinking"]["budget_tokens"] == 4096
    assert made["max_tokens"] == 8192


def test_numbers_are_not_rounded() -> None:
    """What passes keeps its digits."""
    sent = '{"model":"m","messages":[{"role":"user","content":"x"}],"temperature":0.10}'
    made = chat_to_messages(sent.replace('"m"', f'"{MODEL}"').encode(), STRICT)
    assert b'"temperature":0.10' in made.body


def test_betas_become_the_header() -> None:
    """Anthropic's SDK has them as a member, its API as a header; what needs one gets it."""
    assert chat(betas=["a", "b"], anthropic_beta="c").headers == ((b"anthropic-beta", b"a,b,c"),)
    assert chat(mcp_servers=[]).headers == ((b"anthropic-beta", b"mcp-client-2025-11-20"),)
    own = chat(mcp_servers=[], betas=["mcp-client-2026-09-15"])
    assert own.headers == ((b"anthropic-beta", b"mcp-client-2026-09-15"),)
    assert chat(anthropic_version="2023-06-01").headers == ((b"anthropic-version", b"2023-06-01"),)
    assert chat().headers == ()
    assert b"betas" not in chat(betas=["a"]).body
