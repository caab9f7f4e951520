"""Whatever a client sends is translated or refused; whatever a provider sends raises nothing.

`XPROXY_TEST_SIZE=full` tries thirty times as much.
"""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metering.errors import InvalidRequest
from metering.translate import chat_to_messages, completions_to_complete
from metering.translate.anthropic.models import models_list
from metering.translate.base import Answers, Translate
from tests.providers.replay import events
from tests.translate.anthropic.forms import LOOSE, STRICT, sse, streamed

TRANSLATIONS: list[Translate] = [chat_to_messages, completions_to_complete]
WORDS = [
    *(
        "model",
        "messages",
        "role",
        "content",
        "type",
        "text",
        "user",
        "assistant",
        "system",
        "tool",
    ),
    *("tool_calls", "function", "name", "arguments", "id", "image_url", "url", "file", "file_data"),
    *("tools", "parameters", "tool_choice", "required", "auto", "allowed_tools", "tool_call_id"),
    *("stop", "temperature", "top_p", "stream", "stream_options", "metadata", "thinking", "none"),
    *("enabled", "budget_tokens", "response_format", "json_schema", "schema", "reasoning_effort"),
    *("max_tokens", "prompt", "cache_control", "content_blocks", "functions", "function_call"),
    *("data:image/png;base64,AA", "{}", "claude-opus-4-8", "claude-sonnet-4-5", "developer"),
    *("message_start", "message", "content_block_start", "content_block", "content_block_delta"),
    *("delta", "message_delta", "message_stop", "content_block_stop", "index", "usage", "error"),
    *("text_delta", "input_json_delta", "partial_json", "stop_reason", "tool_use", "input"),
    *("input_tokens", "output_tokens", "completion", "data", "created_at", "xproxy_result"),
]
SCALARS = st.one_of(
    *(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.sampled_from(WORDS)),
    st.text(st.characters(codec=None), max_size=5),  # lone surrogates too
)
NAMES = st.sampled_from(WORDS) | st.text(max_size=3)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=6),
    max_leaves=30,
)
FEW = settings(
    max_examples=100 if os.environ.get("XPROXY_TEST_SIZE", "ci") == "ci" else 3000,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


def messages() -> st.SearchStrategy[Any]:
    """Lists of what are nearly messages."""
    roles = st.sampled_from(["user", "assistant", "system", "tool", "function", "x"])
    part = st.fixed_dictionaries(
        {"type": st.sampled_from(WORDS)},
        optional=dict.fromkeys(("text", "image_url", "file", "cache_control", "refusal"), JSON),
    )
    content = st.text(max_size=3) | st.lists(part, max_size=3) | JSON
    call = st.fixed_dictionaries(
        {
            "id": st.text(max_size=3),
            "function": st.fixed_dictionaries(
                {"name": st.text(max_size=3), "arguments": st.sampled_from(["", "{}", "{", "[]"])}
            ),
        }
    )
    return st.lists(
        st.fixed_dictionaries(
            {"role": roles, "content": content},
            optional={
                "tool_call_id": st.text(max_size=3),
                "tool_calls": st.lists(call, max_size=2) | JSON,
                "function_call": JSON,
                "content_blocks": JSON,
                "cache_control": JSON,
                "name": JSON,
            },
        ),
        max_size=5,
    )  # fmt: skip


BODIES = st.fixed_dictionaries(
    {"model": st.sampled_from(["claude-opus-4-8", "claude-3-haiku", "claude-fable-6"])},
    optional={
        "messages": messages() | JSON,
        "prompt": JSON,
        **{name: JSON for name in WORDS if name not in {"model", "messages", "prompt"}},
    },
)


@pytest.mark.parametrize("translate", TRANSLATIONS)
@given(asked=JSON | BODIES)
@FEW
def test_any_json_is_translated_or_refused(translate: Translate, asked: Any) -> None:
    """Never another fault; what is translated is JSON."""
    try:
        said = translate(json.dumps(asked).encode(), STRICT)
    except InvalidRequest:
        return
    assert isinstance(json.loads(said.body), dict)


@pytest.mark.parametrize("translate", TRANSLATIONS)
@given(body=st.binary(max_size=60))
@FEW
def test_any_bytes_are_translated_or_refused(translate: Translate, body: bytes) -> None:
    """A body that is no JSON is one more that makes no sense."""
    with pytest.raises(InvalidRequest):
        translate(body, STRICT)


@pytest.mark.parametrize(
    "asked",
    [
        {"messages": [{"role": "user", "content": [{"type": "image", "source": {}}] * 20_000}]},
        {"messages": [{"role": "user", "content": "a"}], "tools": [
            {"type": "bash_20250124", "name": f"t{index}"} for index in range(20_000)]},
        {"messages": [{"role": "user", "content": "a"},
                      *[{"role": "system", "content": "s"}] * 10_000,
                      *[{"role": "user", "content": "b"}] * 10_000]},
        {"messages": [{"role": "user", "content": "a"},
                      *[{"role": "tool", "tool_call_id": "c", "content": "r"}] * 20_000]},
    ],
    ids=["parts", "tools", "system", "results"],
)  # fmt: skip
@pytest.mark.timeout(10)
def test_many_of_anything_take_no_longer_than_they_must(asked: dict[str, Any]) -> None:
    """A request is read in time that grows with its length, not with its square."""
    body = json.dumps({"model": "claude-opus-4-8", **asked}).encode()
    assert len(chat_to_messages(body, STRICT).body) > 100_000


def answers(strict: bool) -> list[Answers]:  # noqa: FBT001
    """What comes back, of both translations."""
    options = STRICT if strict else LOOSE
    chat = b'{"model":"m","messages":[{"role":"user","content":"x"}],"stream":true,'
    chat += b'"stream_options":{"include_usage":true}}'
    return [
        chat_to_messages(chat, options).answers,
        completions_to_complete(b'{"model":"m","prompt":"x"}', options).answers,
    ]


@given(body=st.binary(max_size=60) | JSON.map(lambda it: json.dumps(it).encode()))
@FEW
def test_any_answer_raises_nothing(body: bytes) -> None:
    """It is read or it is not; as an error it is always told of."""
    for strict in (True, False):
        for one in answers(strict):
            made = one.whole(body)
            assert made is None or json.loads(made.decode(errors="replace"))
            assert json.loads(one.error(500, body))["error"]["type"]
    models_list(body)


EVENTS = st.fixed_dictionaries(
    {"type": st.sampled_from([it for it in WORDS if "_" in it or it in {"error", "completion"}])},
    optional=dict.fromkeys(
        ("index", "message", "content_block", "delta", "usage", "error", "completion"), JSON
    ),
)


@given(said=st.lists(EVENTS, max_size=6), noise=st.binary(max_size=20), cut=st.booleans())
@FEW
def test_any_stream_raises_nothing(said: list[dict[str, Any]], noise: bytes, cut: bool) -> None:  # noqa: FBT001
    """It ends properly or with an error, and in pieces it gives the same."""
    stream = sse(*said) + noise
    for strict in (True, False):
        for one in answers(strict):
            made = streamed(one.stream(), stream, cut=cut)
            assert made == streamed(one.stream(), *(bytes((it,)) for it in stream), cut=cut)
            assert made.endswith(b"data: [DONE]\n\n") or b'"error"' in events(made)[-1].data
            assert all(it.raw.startswith((b"data: ", b": ping\n")) for it in events(made))
