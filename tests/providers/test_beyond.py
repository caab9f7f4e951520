"""What requests hold beyond their text: what is bounded, by how much, and what is not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from metering.core.reach import PLAIN, Advice, Reach
from metering.providers import DIALECTS
from metering.providers.base import Ask
from metering.providers.beyond import ENVELOPE_TOKENS, TYPED_TOOL_TOKENS
from metering.providers.openai.beyond import image_tokens

CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"
PNG = "data:image/png;base64," + "A" * 100
BOTH = ENVELOPE_TOKENS + TYPED_TOOL_TOKENS
"""What a tool that is named by its type adds."""


def reach(path: str, **members: Any) -> Reach:
    """How far a request goes beyond its bytes."""
    dialect = DIALECTS["anthropic" if path in (MESSAGES, "/v1/complete") else "openai"]
    endpoint = dialect.endpoint("POST", path)
    body = json.dumps({"model": "gpt-4o", **members}).encode()
    return dialect.reach(endpoint, body, dialect.ask(endpoint, body, b"application/json"))


def says(*parts: dict[str, Any]) -> list[dict[str, Any]]:
    """Messages of one turn with these parts."""
    return [{"role": "user", "content": list(parts)}]


def anthropic_image(**source: Any) -> dict[str, Any]:
    return {"type": "image", "source": source}


TOOL = {"name": "t", "description": "d", "input_schema": {"type": "object"}}
FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
BASE64 = {"type": "base64", "media_type": "image/png", "data": "A" * 100}
ADVISOR = {"type": "advisor_20260301", "name": "advisor", "model": "claude-opus-4-8"}
PLAN: list[tuple[str, dict[str, Any], Reach | None]] = [
    # text is bounded by its bytes, on every endpoint
    (CHAT, {"messages": says({"type": "text", "text": "hi"}), "n": 3}, PLAIN),
    (MESSAGES, {"system": [{"type": "text", "text": "x"}], "messages": []}, PLAIN),
    (MESSAGES, {"messages": says({"type": "thinking", "thinking": "", "signature": "s"})}, PLAIN),
    (RESPONSES, {"input": "hi", "instructions": "be kind", "background": True}, PLAIN),
    ("/v1/responses/compact", {"input": [{"role": "user", "content": "x"}]}, PLAIN),
    ("/v1/decisions", {"input": "x", "questions": []}, PLAIN),
    ("/v1/completions", {"prompt": [[1, 2], [3]], "best_of": 4}, PLAIN),
    ("/v1/embeddings", {"input": [[1, 2, 3]]}, PLAIN),
    ("/v1/complete", {"prompt": "x"}, PLAIN),
    ("/v1/containers", {"name": "c"}, PLAIN),
    ("/v1/audio/speech", {"input": "x"}, PLAIN),
    ("/v1/images/generations", {"model": "dall-e-3", "prompt": "x"}, PLAIN),
    # images by the vendor's largest, their base64 left out of the text
    (
        MESSAGES,
        {"messages": says(anthropic_image(**BASE64), anthropic_image(type="url", url="https://x"))},
        Reach(input_tokens=10_000, not_text_bytes=100),
    ),
    (
        MESSAGES,
        {"messages": says({"type": "tool_result", "content": [anthropic_image(**BASE64)]})},
        Reach(input_tokens=5_000, not_text_bytes=100),
    ),
    (
        CHAT,
        {"messages": says({"type": "image_url", "image_url": {"url": PNG, "detail": "high"}})},
        Reach(input_tokens=1_500, not_text_bytes=len(PNG)),
    ),
    (
        RESPONSES,
        {"input": says({"type": "input_image", "file_id": "file_1"})},
        Reach(input_tokens=1_500),
    ),
    (
        CHAT,
        {"model": "gpt-6-sol", "messages": says({"type": "image_url", "image_url": {"url": PNG}})},
        Reach(whole_context=True),
    ),
    # what only the provider can measure is as much as the window holds
    (
        MESSAGES,
        {"messages": says({"type": "document", "source": BASE64})},
        Reach(whole_context=True),
    ),
    (
        MESSAGES,
        {"messages": says({"type": "document", "source": {"type": "text", "data": "x"}})},
        PLAIN,
    ),
    (MESSAGES, {"messages": says({"type": "container_upload"})}, Reach(whole_context=True)),
    (MESSAGES, {"messages": says({"type": "unheard_of"})}, Reach(whole_context=True)),
    (MESSAGES, {"messages": says({"type": "video", "url": "u"})}, Reach(whole_context=True)),
    (MESSAGES, {"messages": says({"type": "audio", "data": "d"})}, Reach(whole_context=True)),
    (CHAT, {"messages": says({"type": "file", "file": {}})}, Reach(whole_context=True)),
    (
        CHAT,
        {"messages": [{"role": "assistant", "audio": {"id": "a"}}]},
        Reach(whole_context=True),
    ),
    (RESPONSES, {"input": says({"type": "input_file"})}, Reach(whole_context=True)),
    (RESPONSES, {"input": [{"type": "item_reference", "id": "i"}]}, Reach(whole_context=True)),
    (
        RESPONSES,
        {"input": [{"type": "reasoning", "encrypted_content": "e"}]},
        Reach(whole_context=True),
    ),
    # tools of the caller's: their text, and what the vendor puts around it
    (MESSAGES, {"messages": [], "tools": [TOOL]}, Reach(input_tokens=ENVELOPE_TOKENS)),
    (
        MESSAGES,
        {"messages": [], "tools": [{"type": "bash_20250124", "name": "bash"}]},
        Reach(input_tokens=BOTH),
    ),
    (CHAT, {"messages": [], "tools": [FUNCTION]}, Reach(input_tokens=ENVELOPE_TOKENS)),
    (
        RESPONSES,
        {"input": "x", "tools": [{"type": "computer_use_preview"}]},
        Reach(input_tokens=BOTH),
    ),
    # tools of the vendor's: each pass reads the window, each use has its fee
    (
        MESSAGES,
        {"messages": [], "tools": [{"type": "web_search_20250305", "max_uses": 3}]},
        Reach(input_tokens=BOTH, whole_context=True, passes=11, fees={"web_search": 3}),
    ),
    (
        MESSAGES,
        {"messages": [], "tools": [{"type": "code_execution_20260120"}]},
        Reach(input_tokens=BOTH, whole_context=True, passes=11, fees={"code_execution": 1}),
    ),
    (
        MESSAGES,
        {"messages": [], "tools": [{"type": "tool_search_tool_bm25_20251119"}]},
        Reach(input_tokens=BOTH, passes=11),
    ),
    (MESSAGES, {"messages": [], "mcp_servers": [{}]}, None),
    (
        RESPONSES,
        {
            "input": "x",
            "max_tool_calls": 2,
            "tools": [
                {"type": "web_search"},
                {"type": "file_search"},
                {"type": "code_interpreter", "container": {"type": "auto", "memory_limit": "4g"}},
            ],
        },
        Reach(
            input_tokens=ENVELOPE_TOKENS + 3 * TYPED_TOOL_TOKENS,
            whole_context=True,
            passes=3,
            fees={"web_search": 2, "file_search": 2, "container_4g": 2},
        ),
    ),
    # a second model: so many uses, each of its window
    (
        MESSAGES,
        {"messages": [], "tools": [ADVISOR | {"max_uses": 2, "max_tokens": 1_024}]},
        Reach(
            input_tokens=BOTH,
            whole_context=True,
            passes=13,
            advice=(Advice("claude-opus-4-8", 2, 1_024),),
        ),
    ),
    (
        MESSAGES,
        {"messages": says({"type": "tool_addition", "tool": ADVISOR | {"max_uses": 0}})},
        Reach(
            input_tokens=TYPED_TOOL_TOKENS,
            whole_context=True,
            passes=11,
            advice=(Advice("claude-opus-4-8", 0),),
        ),
    ),
    (MESSAGES, {"messages": [], "context_management": {"edits": []}}, Reach(passes=2)),
    # output that no cap counts; images by OpenAI's table
    (CHAT, {"messages": [], "prediction": {}}, Reach(output_tokens=2)),
    (
        MESSAGES,
        {"messages": [], "max_tokens": 100, "thinking": {"budget_tokens": 900}},
        Reach(output_tokens=900),
    ),
    (MESSAGES, {"messages": [], "max_tokens": 100, "thinking": {"budget_tokens": 90}}, PLAIN),
    (
        CHAT,
        {"messages": [], "web_search_options": {}},
        Reach(whole_context=True, passes=2, fees={"web_search": 1}),
    ),
    (
        "/v1/images/generations",
        {"model": "gpt-image-1-mini", "prompt": "x", "quality": "low", "partial_images": 2},
        Reach(output_cap=608),
    ),
    ("/v1/images/generations", {"model": "gpt-image-1", "prompt": "x"}, Reach(output_cap=6_240)),
    (
        "/v1/images/edits",
        {"model": "gpt-image-1", "prompt": "x", "images": []},
        Reach(output_cap=6_240, whole_context=True),
    ),
]


@pytest.mark.parametrize(("path", "members", "expected"), PLAN)
def test_what_bounds_a_request(path: str, members: dict[str, Any], expected: Reach | None) -> None:
    """Each part of a request has the bound that its vendor states, else its model's window."""
    if expected is None:
        expected = Reach(input_tokens=ENVELOPE_TOKENS, whole_context=True, passes=11)
    assert reach(path, **members) == expected


NOT_BOUND: list[tuple[str, dict[str, Any], str, str]] = [
    (MESSAGES, {"tools": [{"type": "web_search_20250305"}]}, "tools", "set its max_uses"),
    (MESSAGES, {"tools": [{"type": "web_fetch_20250910"}]}, "tools", "set its max_uses"),
    (MESSAGES, {"tools": [{"type": "web_search_1", "max_uses": -1}]}, "tools", "set its max_uses"),
    (MESSAGES, {"tools": [ADVISOR]}, "tools", "set its model and max_uses"),
    (MESSAGES, {"tools": [ADVISOR | {"model": 5, "max_uses": 1}]}, "tools", "set its model"),
    (MESSAGES, {"tools": [{"type": "unheard_of"}]}, "tools", "not known here"),
    (MESSAGES, {"tools": ["odd"]}, "tools", "not known here"),
    (
        MESSAGES,
        {"messages": says({"type": "tool_addition", "tool": {"type": "web_search_1"}})},
        "tools",
        "set its max_uses",
    ),
    (MESSAGES, {"fallbacks": "default"}, "fallbacks", "leave it out"),
    (RESPONSES, {"previous_response_id": "resp_1"}, "previous_response_id", "send it as input"),
    (RESPONSES, {"conversation": {"id": "c"}}, "conversation", "send it as input"),
    (RESPONSES, {"prompt": {"id": "p"}}, "prompt", "send instructions and input"),
    (RESPONSES, {"context_management": [{}]}, "context_management", "leave it out"),
    (RESPONSES, {"reasoning": {"mode": "pro"}}, "reasoning", "leave mode out"),
    (RESPONSES, {"tools": [{"type": "web_search"}]}, "tools", "set max_tool_calls"),
    (RESPONSES, {"tools": [{"type": "mcp"}]}, "tools", "set max_tool_calls"),
    (RESPONSES, {"tools": [{"type": "shell"}]}, "tools", "set max_tool_calls"),
    (
        RESPONSES,
        {"input": [{"type": "additional_tools", "tools": [{"type": "tool_search"}]}]},
        "tools",
        "set max_tool_calls",
    ),
    (
        RESPONSES,
        {"tools": [{"type": "namespace", "tools": [{"type": "image_generation"}]}]},
        "tools",
        "not known here",
    ),
    (CHAT, {"tools": [{"type": "web_search"}]}, "tools", "set max_tool_calls"),
]


@pytest.mark.parametrize(("path", "members", "field", "remedy"), NOT_BOUND)
def test_what_has_no_bound(path: str, members: dict[str, Any], field: str, remedy: str) -> None:
    """What the provider keeps, other models, and tools without a number of uses say so."""
    found = reach(path, **members)
    assert found.field == field
    assert found.unbounded.startswith(field + " ")
    assert remedy in found.unbounded


@pytest.mark.parametrize(
    "tool",
    [
        {"type": "tool_search", "execution": "client"},
        {"type": "shell", "environment": {"type": "local"}},
        {"type": "apply_patch"},
        {"type": "local_shell"},
        {"type": "custom", "name": "c"},
    ],
)
def test_tools_that_the_caller_runs(tool: dict[str, Any]) -> None:
    """They cost the tokens of their description, and are called one request at a time."""
    found = reach(RESPONSES, input="x", tools=[tool])
    assert (found.unbounded, found.passes, found.whole_context) == ("", 1, False)


@pytest.mark.parametrize(
    "members",
    [
        {"previous_response_id": None, "context_management": []},
        {"reasoning": {"effort": "high", "mode": "standard"}},
        {"tools": None},
    ],
)
def test_what_is_not_there(members: dict[str, Any]) -> None:
    """A member that is null or empty is not there."""
    assert not reach(RESPONSES, input="x", **members).unbounded


@pytest.mark.parametrize(
    ("model", "most"),
    [
        ("gpt-4o", 1_500),
        ("gpt-4o-mini-2024-07-18", 50_000),
        ("ft:gpt-4o:org", 1_500),
        ("gpt-5", 1_500),
        ("gpt-5-mini", 4_000),
        ("gpt-5.4", None),
        ("gpt-6-sol", None),
        ("anything", None),
    ],
)
def test_images_of_models(model: str, most: int | None) -> None:
    """A model whose rule is not known has no more than its window."""
    assert image_tokens(model) == most


def test_a_recording_is_bounded_by_its_bytes() -> None:
    """Whatever its header says: no codec of speech makes less of a second."""
    dialect = DIALECTS["openai"]
    endpoint = dialect.endpoint("POST", "/v1/audio/transcriptions")
    body = json.dumps({"model": "whisper-1", "prompt": "x" * 1_000}).encode()
    ask = dialect.ask(endpoint, body, b"application/json")
    most_s = dialect.reach(endpoint, body, ask).fees["audio_seconds"]
    assert most_s == -(-len(body) // 500)


@pytest.mark.parametrize(
    ("path", "name"), [(CHAT, "messages"), (MESSAGES, "messages"), (RESPONSES, "input")]
)
def test_a_member_that_cannot_be_read(path: str, name: str) -> None:
    """One that is not UTF-8 has no bound; it is named."""
    dialect = DIALECTS["anthropic" if path == MESSAGES else "openai"]
    body = b'{"model":"gpt-4o","%s":["\xff"]}' % name.encode()
    found = dialect.reach(dialect.endpoint("POST", path), body, Ask(model="gpt-4o"))
    assert found.field == name
    assert "cannot be read" in found.unbounded
