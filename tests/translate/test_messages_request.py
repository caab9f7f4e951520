"""A request of Anthropic's in OpenAI's form: each member, what becomes of it, and what is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from openai.types.chat.completion_create_params import (
    CompletionCreateParamsNonStreaming,
    CompletionCreateParamsStreaming,
)
from pydantic import TypeAdapter

from metering.errors import InvalidRequest
from metering.translate import messages_to_chat
from tests.translate import claude

HI = [{"role": "user", "content": "hi"}]
TEXT = {"type": "text", "text": "hi"}
PNG = {"type": "base64", "media_type": "image/png", "data": "AAAA"}
PDF = {"type": "base64", "media_type": "application/pdf", "data": "JVBE"}
IMAGE = {"type": "image", "source": PNG}
SHOWN = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
CALL = {"type": "tool_use", "id": "t1", "name": "add", "input": {"a": 1}}
CALLED = {"id": "t1", "type": "function", "function": {"name": "add", "arguments": '{"a":1}'}}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
CLOSED = {**SCHEMA, "required": ["a"], "additionalProperties": False}
TOOL = {"name": "add", "input_schema": SCHEMA}
FUNCTION = {"type": "function", "function": {"name": "add", "parameters": SCHEMA}}
CACHE = {"type": "ephemeral"}
O3, GPT5, GPT51, GPT52, GPT56 = "o3", "gpt-5-mini", "gpt-5.1", "openai/gpt-5.2", "gpt-5.6-sol"


class Case(NamedTuple):
    """Members of a request, and those that OpenAI gets; what is told of the others."""

    asked: dict[str, Any]
    sent: dict[str, Any]
    dropped: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()


def user(*blocks: Any) -> dict[str, Any]:
    """A turn of the user's."""
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks: Any) -> dict[str, Any]:
    """A turn of the assistant's."""
    return {"role": "assistant", "content": list(blocks)}


def result(content: Any = "5", **more: Any) -> dict[str, Any]:
    """The result of a tool."""
    return {"type": "tool_result", "tool_use_id": "t1", "content": content, **more}


def tool(content: Any = "5") -> dict[str, Any]:
    """The same in OpenAI's form."""
    return {"role": "tool", "tool_call_id": "t1", "content": content}


def thinking(tokens: int) -> dict[str, Any]:
    """A budget for thinking."""
    return {"type": "enabled", "budget_tokens": tokens}


def turns(*given: Any) -> dict[str, Any]:
    """Turns, after which the user has the word."""
    return {"messages": [*given]}


LIMITS = {
    "max_tokens": Case({"max_tokens": 7}, {"max_tokens": 7}),
    "no max_tokens": Case({"max_tokens": None}, {}),
    "temperature": Case({"temperature": 0.70}, {"temperature": 0.7}),
    "top_p": Case({"top_p": 0.9}, {"top_p": 0.9}),
    "top_k": Case({"top_k": 5}, {}, ("top_k",)),
    "stop_sequences": Case({"stop_sequences": ["a", "b"]}, {"stop": ["a", "b"]}),
    "no stop_sequences": Case({"stop_sequences": []}, {}),
    "user": Case({"metadata": {"user_id": "u", "x": 1}}, {"user": "u"}, ("metadata.x",)),
    "no user": Case({"metadata": {"user_id": None}}, {}),
    "auto tier": Case({"service_tier": "auto"}, {"service_tier": "auto"}),
    "standard tier": Case({"service_tier": "standard_only"}, {"service_tier": "default"}),
    "not streamed": Case({"stream": False}, {}),
    "streamed": Case({"stream": True}, {"stream": True, "stream_options": {"include_usage": True}}),
    "Anthropic's alone": Case(
        {"container": "c", "mcp_servers": [{"url": "u"}], "context_management": {"edits": [1]}},
        {},
        ("container", "mcp_servers", "context_management"),
    ),
    "empty": Case({"container": None, "mcp_servers": []}, {}),
    "unknown": Case({"new_member": 1, "speed": "fast"}, {}, ("new_member", "speed")),
}
TOOLS = {
    "tool": Case(
        {"tools": [{**TOOL, "type": "custom", "description": "Adds", "strict": True}]},
        {
            "tools": [
                {
                    "type": "function",
                    "function": {
                        "name": "add",
                        "description": "Adds",
                        "parameters": SCHEMA,
                        "strict": True,
                    },
                }
            ]
        },
    ),
    "tool's other members": Case(
        {"tools": [{**TOOL, "input_examples": [{"a": 1}], "defer_loading": True}]},
        {"tools": [FUNCTION]},
        ("tools[0].input_examples", "tools[0].defer_loading"),
    ),
    "search of tools": Case(
        {"tools": [{"type": "tool_search_tool_bm25_20251119", "name": "s"}, TOOL]},
        {"tools": [FUNCTION]},
        ("tools[0]",),
    ),
    "no tools": Case({"tools": [], "tool_choice": {"type": "auto"}}, {}),
    **{
        f"choice {asked['type']}": Case(
            {"tools": [TOOL], "tool_choice": asked}, {"tools": [FUNCTION], "tool_choice": sent}
        )
        for asked, sent in (
            ({"type": "auto"}, "auto"),
            ({"type": "any"}, "required"),
            ({"type": "none"}, "none"),
            ({"type": "tool", "name": "add"}, {"type": "function", "function": {"name": "add"}}),
        )
    },
    "one at a time": Case(
        {"tools": [TOOL], "tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
        {"tools": [FUNCTION], "tool_choice": "auto", "parallel_tool_calls": False},
    ),
}
THINKING = {
    "series cap": Case({"model": O3}, {"model": O3, "max_completion_tokens": 9}),
    "family cap": Case({"model": GPT52}, {"model": GPT52, "max_completion_tokens": 9}),
    "chat cap": Case(
        {"model": "gpt-5-chat-latest", "thinking": thinking(2048)},
        {"model": "gpt-5-chat-latest", "max_completion_tokens": 9},
        ("thinking",),
    ),
    "Azure's 3.5": Case({"model": "gpt-35-turbo"}, {"model": "gpt-35-turbo", "max_tokens": 9}),
    "open model": Case(
        {"model": "openai/gpt-oss-120b", "thinking": thinking(2048)},
        {"model": "openai/gpt-oss-120b", "max_tokens": 9, "reasoning_effort": "low"},
        (),
        ("thinking.budget_tokens",),
    ),
    **{
        f"{tokens} tokens": Case(
            {"model": O3, "thinking": thinking(tokens)},
            {"model": O3, "max_completion_tokens": 9, "reasoning_effort": sent},
            (),
            ("thinking.budget_tokens",),
        )
        for tokens, sent in (
            (1024, "low"),
            (4095, "low"),
            (4096, "medium"),
            (16383, "medium"),
            (16384, "high"),
        )
    },
    "adaptive": Case(
        {"model": GPT51, "thinking": {"type": "adaptive", "display": "omitted"}},
        {"model": GPT51, "max_completion_tokens": 9, "reasoning_effort": "medium"},
        ("thinking.display",),
    ),
    "disabled": Case(
        {
            "model": GPT51,
            "thinking": {"type": "disabled"},
            "output_config": {"effort": "high"},
        },
        {"model": GPT51, "max_completion_tokens": 9, "reasoning_effort": "none"},
    ),
    "cannot be disabled": Case(
        {"model": GPT5, "thinking": {"type": "disabled"}},
        {"model": GPT5, "max_completion_tokens": 9},
        ("thinking",),
    ),
    "between tools": Case(
        {"model": GPT5, "thinking": {"type": "between_tools"}},
        {"model": GPT5, "max_completion_tokens": 9},
        ("thinking",),
    ),
    "does not think": Case(
        {"thinking": thinking(2048), "output_config": {"effort": "low"}},
        {},
        ("output_config.effort", "thinking"),
    ),
    "need not think": Case({"thinking": {"type": "disabled"}}, {}),
    "effort before budget": Case(
        {"model": O3, "thinking": thinking(2048), "output_config": {"effort": "high"}},
        {"model": O3, "max_completion_tokens": 9, "reasoning_effort": "high"},
        ("thinking.budget_tokens",),
    ),
    **{
        f"{model} {asked}": Case(
            {"model": model, "output_config": {"effort": asked}},
            {"model": model, "max_completion_tokens": 9, "reasoning_effort": sent},
            (),
            () if asked == sent else ("output_config.effort",),
        )
        for model, asked, sent in (
            (O3, "low", "low"),
            (O3, "xhigh", "high"),
            (GPT51, "max", "high"),
            (GPT52, "xhigh", "xhigh"),
            (GPT52, "max", "xhigh"),
            (GPT56, "max", "max"),
        )
    },
}


def schema(given: Any, **more: Any) -> dict[str, Any]:
    """The form of an answer, as OpenAI is asked for it."""
    described = {"name": "output", "schema": given, **more}
    return {"response_format": {"type": "json_schema", "json_schema": described}}


FORMATS = {
    "closed schema": Case(
        {"output_config": {"format": {"type": "json_schema", "schema": CLOSED}}},
        schema(CLOSED, strict=True),
    ),
    "open schema": Case(
        {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}, "x": 1}},
        schema(SCHEMA),
        ("output_config.x",),
        ("output_config.format",),
    ),
    "open within": Case(
        {"output_format": {"type": "json_schema", "schema": {"anyOf": [CLOSED, SCHEMA]}}},
        schema({"anyOf": [CLOSED, SCHEMA]}),
        (),
        ("output_format",),
    ),
}


def said(
    *asked: Any, sent: list[Any], told: tuple[str, ...] = (), new: tuple[str, ...] = ()
) -> Case:
    """A case of turns, and the messages they become."""
    return Case({"messages": list(asked)}, {"messages": sent}, told, new)


MESSAGES = {
    "system": Case({"system": "be"}, {"messages": [{"role": "system", "content": "be"}, *HI]}),
    "system block": Case(
        {"system": [{**TEXT, "cache_control": CACHE}], "cache_control": CACHE},
        {"messages": [{"role": "system", "content": "hi"}, *HI]},
        ("cache_control",),
    ),
    "system blocks": Case(
        {"system": [TEXT, TEXT]}, {"messages": [{"role": "system", "content": [TEXT, TEXT]}, *HI]}
    ),
    "empty system": Case({"system": []}, {"messages": HI}),
    "system turn": said(
        *HI,
        {"role": "system", "content": [TEXT, {"type": "tool_addition", "tool": {}}]},
        sent=[*HI, {"role": "system", "content": "hi"}],
        told=("messages[1].content[1]",),
    ),
    "text": said(user(TEXT), sent=HI),
    "texts": said(user(TEXT, TEXT), sent=[user(TEXT, TEXT)]),
    "cited text": said(
        *HI,
        assistant({**TEXT, "citations": [{"type": "char_location"}]}),
        *HI,
        sent=[*HI, {"role": "assistant", "content": "hi"}, *HI],
        told=("messages[1].content[0].citations",),
    ),
    "image": said(user(IMAGE, TEXT), sent=[user(SHOWN, TEXT)]),
    "image by URL": said(
        user({"type": "image", "source": {"type": "url", "url": "https://a/b.png"}}),
        sent=[user({"type": "image_url", "image_url": {"url": "https://a/b.png"}})],
    ),
    "PDF": said(
        user({"type": "document", "source": PDF, "title": "a.pdf", "context": "old"}),
        sent=[
            user(
                {"type": "text", "text": "old"},
                {
                    "type": "file",
                    "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBE"},
                },
            )
        ],
    ),
    "untitled PDF": said(
        user({"type": "document", "source": PDF, "citations": {"enabled": True}}),
        sent=[
            user(
                {
                    "type": "file",
                    "file": {
                        "filename": "document.pdf",
                        "file_data": "data:application/pdf;base64,JVBE",
                    },
                },
            )
        ],
        told=("messages[0].content[0].citations",),
    ),
    "text document": said(
        user(
            {
                "type": "document",
                "source": {"type": "text", "media_type": "text/plain", "data": "hi"},
                "title": "T",
            }
        ),
        sent=[user({"type": "text", "text": "T"}, TEXT)],
    ),
    "document of blocks": said(
        user({"type": "document", "source": {"type": "content", "content": [TEXT, IMAGE]}}),
        sent=[user(TEXT, SHOWN)],
    ),
    "search result": said(
        user({"type": "search_result", "source": "s", "title": "T", "content": [TEXT]}),
        sent=[user({"type": "text", "text": "T"}, {"type": "text", "text": "s"}, TEXT)],
        new=("messages[0].content[0]",),
    ),
    "upload": said(
        user({"type": "container_upload", "file_id": "f"}, TEXT),
        sent=HI,
        told=("messages[0].content[0]",),
    ),
    "call": said(
        *HI,
        assistant(TEXT, {**CALL, "caller": {"type": "direct"}}),
        user(result()),
        sent=[*HI, {"role": "assistant", "content": "hi", "tool_calls": [CALLED]}, tool()],
    ),
    "call alone": said(
        *HI,
        assistant({**CALL, "caller": {"type": "code_execution_20260120", "tool_id": "x"}}),
        user(TEXT, result()),
        sent=[*HI, {"role": "assistant", "tool_calls": [CALLED]}, tool(), *HI],
        told=("messages[1].content[0].caller",),
    ),
    "result of blocks": said(
        user(result([TEXT, TEXT]), result([TEXT]), result(None), result([])),
        sent=[tool([TEXT, TEXT]), tool("hi"), tool(""), tool("")],
    ),
    "failed": said(
        user(result("no", is_error=True), result([], is_error=True), result("5", is_error=False)),
        sent=[tool("Error: no"), tool("Error: "), tool()],
        new=("messages[0].content[0].is_error", "messages[0].content[1].is_error"),
    ),
    "image of a tool": said(
        user(result([IMAGE, TEXT]), result([IMAGE]), TEXT),
        sent=[
            tool("hi"),
            tool("Shown in the next message of the user."),
            user(
                {"type": "text", "text": "Shown by the tool call t1:"},
                SHOWN,
                {"type": "text", "text": "Shown by the tool call t1:"},
                SHOWN,
                TEXT,
            ),
        ],
        new=("messages[0].content[0].content[0]", "messages[0].content[1].content[0]"),
    ),
    "tool reference": said(
        user(result([{"type": "tool_reference", "tool_name": "x"}, TEXT])),
        sent=[tool("hi")],
        told=("messages[0].content[0].content[0]",),
    ),
    "thought": said(
        *HI,
        assistant({"type": "thinking", "thinking": "hm", "signature": "s"}, TEXT),
        *HI,
        sent=[*HI, {"role": "assistant", "content": "hi"}, *HI],
        told=("messages[1].content[0]",),
    ),
    "thought alone": said(
        *HI,
        assistant({"type": "redacted_thinking", "data": "x"}),
        *HI,
        sent=[*HI, *HI],
        told=("messages[1].content[0]",),
    ),
    "Anthropic's tools": said(
        *HI,
        assistant(
            {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
            {"type": "web_search_tool_result", "tool_use_id": "s", "content": []},
            TEXT,
        ),
        *HI,
        sent=[*HI, {"role": "assistant", "content": "hi"}, *HI],
        told=("messages[1].content[0]", "messages[1].content[1]"),
    ),
    "prefill": said(
        *HI,
        {"role": "assistant", "content": "The"},
        sent=[*HI, {"role": "assistant", "content": "The"}],
        new=("messages[1]",),
    ),
    "unknown member": said({**HI[0], "name": "n"}, sent=HI, told=("messages[0].name",)),
}
CASES = {**LIMITS, **TOOLS, **THINKING, **FORMATS, **MESSAGES}


def deep(value: Any) -> Iterator[Any]:
    """All that is in a value: pydantic checks an iterable as it is read."""
    yield value
    if isinstance(value, dict):
        value = value.values()
    if not isinstance(value, str) and hasattr(value, "__iter__"):
        for item in value:
            yield from deep(item)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_each_member_is_carried_or_told(case: Case) -> None:
    """What OpenAI gets is exactly this, in its SDK's types; what it does not get has its path."""
    translated = claude.translate(**case.asked)
    sent = json.loads(translated.body)
    base: dict[str, Any] = {"model": "m", "messages": HI}
    if case.asked.get("max_tokens", 9) is not None and "max_completion_tokens" not in case.sent:
        base["max_tokens"] = 9
    assert sent == {**base, **case.sent}
    assert (translated.dropped, translated.changed) == (case.dropped, case.changed)
    kind = (
        CompletionCreateParamsStreaming if "stream" in sent else CompletionCreateParamsNonStreaming
    )
    assert list(deep(TypeAdapter(kind).validate_python(sent)))


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no model": ({"model": None}, "model"),
    "empty model": ({"model": ""}, "model"),
    "model": ({"model": 1}, "model"),
    "no messages": ({"messages": None}, "messages"),
    "messages": ({"messages": {}}, "messages"),
    "message": ({"messages": [*HI, 1]}, "messages[1]"),
    "empty": ({"messages": []}, "messages"),
    "nothing said": ({"messages": [user()]}, "messages"),
    "role": (turns({"role": "tool", "content": "x"}), "messages[0].role"),
    "no role": (turns({"content": "x"}), "messages[0].role"),
    "no content": (turns({"role": "user"}), "messages[0].content"),
    "content": (turns({"role": "user", "content": 1}), "messages[0].content"),
    "block": (turns(user(TEXT, "x")), "messages[0].content[1]"),
    "no type": (turns(user({"text": "x"})), "messages[0].content[0].type"),
    "type": (turns(user({"type": 1})), "messages[0].content[0].type"),
    "no text": (turns(user({"type": "text"})), "messages[0].content[0].text"),
    "text": (turns(user({"type": "text", "text": 1})), "messages[0].content[0].text"),
    "no source": (turns(user({"type": "image"})), "messages[0].content[0].source"),
    "source": (
        turns(user({"type": "image", "source": {"type": "x"}})),
        "messages[0].content[0].source.type",
    ),
    "no data": (
        turns(user({"type": "image", "source": {"type": "base64", "media_type": "image/png"}})),
        "messages[0].content[0].source.data",
    ),
    "image file": (
        turns(user({"type": "image", "source": {"type": "file", "file_id": "f"}})),
        "messages[0].content[0].source",
    ),
    "document file": (
        turns(user({"type": "document", "source": {"type": "file", "file_id": "f"}})),
        "messages[0].content[0].source",
    ),
    "document by URL": (
        turns(user({"type": "document", "source": {"type": "url", "url": "https://a"}})),
        "messages[0].content[0].source",
    ),
    "in a result": (
        turns(user(result([{"type": "image", "source": {"type": "file"}}]))),
        "messages[0].content[0].content[0].source",
    ),
    "in a document": (
        turns(user({"type": "document", "source": {"type": "content", "content": [CALL]}})),
        "messages[0].content[0].source.content[0].type",
    ),
    "result of nothing": (
        turns(user({"type": "tool_result"})),
        "messages[0].content[0].tool_use_id",
    ),
    "is_error": (turns(user(result(is_error=1))), "messages[0].content[0].is_error"),
    "user's call": (turns(user(CALL)), "messages[0].content[0].type"),
    "assistant's result": (turns(*HI, assistant(result())), "messages[1].content[0].type"),
    "input": (turns(*HI, assistant({**CALL, "input": "x"})), "messages[1].content[0].input"),
    "nameless call": (
        turns(assistant({"type": "tool_use", "id": "x"})),
        "messages[0].content[0].name",
    ),
    "system": ({"system": 1}, "system"),
    "system block": ({"system": [1]}, "system[0]"),
    "max_tokens": ({"max_tokens": "9"}, "max_tokens"),
    "temperature": ({"temperature": True}, "temperature"),
    "stops": ({"stop_sequences": list("abcde")}, "stop_sequences"),
    "stop": ({"stop_sequences": "a"}, "stop_sequences"),
    "tier": ({"service_tier": "x"}, "service_tier"),
    "stream": ({"stream": 1}, "stream"),
    "metadata": ({"metadata": []}, "metadata"),
    "user": ({"metadata": {"user_id": 1}}, "metadata.user_id"),
    "tools": ({"tools": {}}, "tools"),
    "server tool": (
        {"tools": [TOOL, {"type": "web_search_20250305", "name": "web_search"}]},
        "tools[1].type",
    ),
    "client tool": ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "tools[0].type"),
    "no schema": ({"tools": [{"name": "x"}]}, "tools[0].input_schema"),
    "schema": ({"tools": [{"name": "x", "input_schema": []}]}, "tools[0].input_schema"),
    "strict": ({"tools": [{**TOOL, "strict": 1}]}, "tools[0].strict"),
    "choice": ({"tools": [TOOL], "tool_choice": {"type": "x"}}, "tool_choice.type"),
    "nameless choice": ({"tools": [TOOL], "tool_choice": {"type": "tool"}}, "tool_choice.name"),
    "choice of none": ({"tool_choice": {"type": "any"}}, "tools"),
    "effort": ({"output_config": {"effort": "x"}}, "output_config.effort"),
    "format": ({"output_config": {"format": {"type": "x"}}}, "output_config.format.type"),
    "no format": (
        {"output_config": {"format": {"type": "json_schema"}}},
        "output_config.format.schema",
    ),
    "budget": ({"model": O3, "thinking": thinking(0)}, "thinking.budget_tokens"),
    "thinking": ({"model": O3, "thinking": {}}, "thinking.type"),
}


@pytest.mark.parametrize(("asked", "path"), REFUSED.values(), ids=REFUSED)
def test_nonsense_is_refused_by_its_path(asked: dict[str, Any], path: str) -> None:
    """A 400 names the member at fault, and what to send instead."""
    with pytest.raises(InvalidRequest) as refused:
        claude.translate(**asked)
    assert refused.value.field == path
    assert f"'{path}'" in refused.value.message
    assert any(word in refused.value.message for word in ("must be", "; "))


BODIES = {
    "no JSON": b"{",
    "no object": b"[]",
    "not UTF-8": b'{"model":"\xff"}',
    "lone surrogate": b'{"model":"m","messages":[{"role":"user","content":"\\ud800"}]}',
    "deep": b'{"model":"m","messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "NaN": b'{"model":"m","temperature":NaN}',
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_what_is_no_json_is_refused(body: bytes) -> None:
    """It is the caller's fault, whatever is wrong with the bytes."""
    with pytest.raises(InvalidRequest) as refused:
        messages_to_chat(body, claude.OPTIONS)
    assert refused.value.code == "invalid_json"


def test_what_goes_on_keeps_its_bytes() -> None:
    """Numbers, schemas and texts are not written anew; of two members of one name, the last goes,
    as every parser takes it."""
    body = (
        b'{"model":"m","model":"gpt-4o","temperature":0.10000000000000000001,"messages":['
        b'{"role":"user","content":"\\u00e9\\n"},{"role":"assistant","content":['
        b'{"type":"tool_use","id":"t","name":"f","input":{"n":12345678901234567890.10, "e":1e400}}]'
        b'},{"role":"user","content":[{"type":"tool_result","tool_use_id":"t"}]}],'
        b'"tools":[{"name":"f","input_schema":{ "b":1, "a":2.0, "a":3 }}]}'
    )
    sent = messages_to_chat(body, claude.OPTIONS).body
    for kept in (
        b'"model":"gpt-4o"',
        b'"temperature":0.10000000000000000001',
        b'"content":"\\u00e9\\n"',
        rb'"arguments":"{\"n\":12345678901234567890.10, \"e\":1e400}"',
        b'"parameters":{ "b":1, "a":2.0, "a":3 }',
    ):
        assert kept in sent


def test_a_deep_schema_is_carried() -> None:
    """What nests as deep as can be read at all is not looked through, but goes on as it is."""
    inner = b'{"type":"array","items":' * 400 + b"{}" + b"}" * 400
    body = (
        b'{"model":"m","messages":[{"role":"user","content":"x"}],'
        b'"output_format":{"type":"json_schema","schema":%b}}' % inner
    )
    assert inner in messages_to_chat(body, claude.OPTIONS).body
