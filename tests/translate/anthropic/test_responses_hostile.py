"""Whatever a client sends as a responses request, and whatever a provider answers.

`XPROXY_TEST_SIZE=full` tries thirty times as much.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from metering.errors import InvalidRequest
from metering.translate import responses_to_messages
from metering.translate.anthropic.message_stream import PING
from tests.providers.replay import events
from tests.translate.anthropic.forms import STRICT, sse, streamed
from tests.translate.anthropic.responses import respond
from tests.translate.anthropic.test_hostile import EVENTS, FEW, JSON

TYPES = st.sampled_from(
    [
        *("message", "function_call", "function_call_output", "reasoning", "item_reference"),
        *("web_search_call", "input_text", "output_text", "refusal", "input_image", "input_file"),
        *("function", "web_search", "allowed_tools", "json_schema", "x"),
    ]
)
PART = st.fixed_dictionaries(
    {"type": TYPES},
    optional=dict.fromkeys(
        ("text", "image_url", "file_id", "file_data", "file_url", "filename", "detail"), JSON
    ),
)
CONTENT = st.text(max_size=3) | st.lists(PART, max_size=3) | JSON
ITEM = st.fixed_dictionaries(
    {"type": TYPES},
    optional={
        "role": st.sampled_from(["user", "assistant", "system", "developer", "x"]),
        "content": CONTENT,
        "output": CONTENT,
        "call_id": st.text(max_size=3) | JSON,
        "name": st.text(max_size=3) | JSON,
        "arguments": st.sampled_from(["", "{}", "{", "[]"]) | JSON,
        "encrypted_content": JSON | st.sampled_from(["e30=", "eyJ0eXBlIjoidGhpbmtpbmcifQ==", "A"]),
    },
)
TOOL = st.fixed_dictionaries(
    {"type": TYPES},
    optional=dict.fromkeys(("name", "parameters", "strict", "filters", "user_location"), JSON),
)
NAMES = (
    *("instructions", "include", "reasoning", "text", "metadata", "stream", "stream_options"),
    *("max_output_tokens", "temperature", "top_p", "parallel_tool_calls", "service_tier", "user"),
    *("background", "store", "truncation", "previous_response_id", "thinking", "output_config"),
)
BODIES = st.fixed_dictionaries(
    {
        "model": st.sampled_from(["claude-opus-4-8", "claude-3-haiku", "claude-fable-6"]),
        "input": st.text(max_size=3) | st.lists(ITEM, max_size=5) | JSON,
    },
    optional={
        "tools": st.lists(TOOL, max_size=3) | JSON,
        "tool_choice": TOOL | JSON,
        **dict.fromkeys(NAMES, JSON),
    },
)


@given(asked=JSON | BODIES)
@FEW
def test_any_json_is_translated_or_refused(asked: Any) -> None:
    """Never another fault; what is translated is JSON, and can be answered."""
    try:
        said = responses_to_messages(json.dumps(asked).encode(), STRICT)
    except InvalidRequest:
        return
    assert isinstance(json.loads(said.body), dict)
    made = said.answers.whole(b'{"content":[]}')
    assert json.loads(made or b"")["status"] == "completed"


@given(body=st.binary(max_size=60))
@FEW
def test_any_bytes_are_refused(body: bytes) -> None:
    """A body that is no JSON makes no sense."""
    try:
        responses_to_messages(body, STRICT)
    except InvalidRequest:
        return
    raise AssertionError(body)


BLOCK = st.fixed_dictionaries(
    {
        "type": st.sampled_from(
            ["text", "thinking", "redacted_thinking", "tool_use", "server_tool_use"]
        )
    },
    optional={
        **dict.fromkeys(
            ("text", "thinking", "signature", "data", "citations", "id", "input"), JSON
        ),
        "name": st.just("web_search") | JSON,
    },
)
ANSWER = st.fixed_dictionaries(
    {"content": st.lists(BLOCK, max_size=4) | JSON},
    optional=dict.fromkeys(("id", "model", "stop_reason", "stop_details", "usage"), JSON),
)


@given(body=st.binary(max_size=60) | (JSON | ANSWER).map(lambda it: json.dumps(it).encode()))
@FEW
def test_any_answer_raises_nothing(body: bytes) -> None:
    """It is read or it is not; as an error it is always told of."""
    answers = respond().answers
    made = answers.whole(body)
    assert made is None or json.loads(made.decode(errors="replace"))["object"] == "response"
    assert json.loads(answers.error(500, body))["error"]["type"]


STARTS = st.fixed_dictionaries(
    {"type": st.just("content_block_start"), "index": st.integers(0, 2), "content_block": BLOCK}
)
PIECES = st.fixed_dictionaries(
    {
        "type": st.just("content_block_delta"),
        "index": st.integers(0, 2),
        "delta": st.fixed_dictionaries(
            {
                "type": st.sampled_from(
                    [
                        *("text_delta", "thinking_delta", "signature_delta", "input_json_delta"),
                        "citations_delta",
                    ]
                )
            },
            optional=dict.fromkeys(
                ("text", "thinking", "signature", "partial_json", "citation"),
                st.text(max_size=3) | JSON,
            ),
        ),
    }
)
ENDS = ("response.completed", "response.incomplete", "response.failed")


@given(
    said=st.lists(EVENTS | STARTS | PIECES, max_size=8),
    noise=st.binary(max_size=20),
    cut=st.booleans(),
)
@FEW
def test_any_stream_raises_nothing(said: list[dict[str, Any]], noise: bytes, cut: bool) -> None:  # noqa: FBT001
    """It begins and ends as a response does, its events are numbered, and in pieces it gives the
    same."""
    stream = sse(*said) + noise
    made = streamed(respond(stream=True).answers.stream(), stream, cut=cut)
    pieces = [bytes((it,)) for it in stream]
    assert made == streamed(respond(stream=True).answers.stream(), *pieces, cut=cut)
    said_so = [event.data for event in events(made) if event.raw != PING]
    told = [json.loads(data.decode(errors="replace")) for data in said_so]
    assert [one["sequence_number"] for one in told] == list(range(len(told)))
    assert [one["type"] for one in told[:2]] == ["response.created", "response.in_progress"]
    assert [one["type"] in ENDS for one in told].index(True) == len(told) - 1
