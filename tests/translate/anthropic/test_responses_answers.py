"""What becomes of a whole answer, held against OpenAI's own types."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai import BadRequestError
from openai.types.responses import Response

from metering.translate import responses_to_messages
from tests.translate.anthropic.forms import CREATED, FUNCTION, STRICT
from tests.translate.anthropic.responses import body, client, respond, whole

Said = dict[str, Any]
TEXT: Said = {"type": "text", "text": "Hi \u00e4"}
THOUGHT: Said = {"type": "thinking", "thinking": "hm\n", "signature": "s=="}
REDACTED: Said = {"type": "redacted_thinking", "data": "abc"}
USE: Said = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"n": 1}}
SEARCH: Said = {
    "type": "server_tool_use",
    "id": "srvtoolu_1",
    "name": "web_search",
    "input": {"query": "q"},
}
FOUND: Said = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []}


def answer(*blocks: Said, **more: Any) -> Said:
    """A message of Anthropic's."""
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-x",
        "content": list(blocks),
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 10,
            "cache_read_input_tokens": 5,
            "cache_creation_input_tokens": 2,
            "output_tokens": 6,
            "output_tokens_details": {"thinking_tokens": 4},
            "service_tier": "standard",
        },
        **more,
    }


def test_an_answer() -> None:
    """All of it: the names are the provider's, the usage is in sums, and the rest is a repetition
    of what was asked."""
    asked = {
        "instructions": "i",
        "tools": [{"type": "function", **FUNCTION}, {"type": "web_search"}],
        "tool_choice": {"type": "function", "name": "f"},
        "temperature": 0.5,
        "top_p": 0.9,
        "parallel_tool_calls": False,
        "metadata": {"a": "b"},
        "max_output_tokens": 9,
        "text": {"verbosity": "low"},
        "reasoning": {"effort": "none"},
        "truncation": "auto",
        "user": "u",
        "safety_identifier": "u",
    }
    assert whole(answer(TEXT), **asked) == {
        **asked,
        "id": "msg_1",
        "object": "response",
        "created_at": CREATED,
        "status": "completed",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "model": "claude-x",
        "tools": [
            {"type": "function", **FUNCTION, "strict": False},
            {"type": "web_search"},
        ],
        "text": {"format": {"type": "text"}, "verbosity": "low"},
        "previous_response_id": None,
        "store": False,
        "service_tier": "default",
        "output": [
            {
                "id": "msg_1_0",
                "type": "message",
                "role": "assistant",
                "status": "completed",
                "content": [
                    {
                        "type": "output_text",
                        "text": "Hi \u00e4",
                        "annotations": [],
                        "logprobs": [],
                    }
                ],
            }
        ],
        "usage": {
            "input_tokens": 17,
            "input_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 2},
            "output_tokens": 6,
            "output_tokens_details": {"reasoning_tokens": 4},
            "total_tokens": 23,
        },
    }


def test_the_items_of_an_answer() -> None:
    """Each block that has a place in a response, in their order; texts in a row are one."""
    made = whole(answer(THOUGHT, REDACTED, TEXT, TEXT, SEARCH, FOUND, TEXT, USE))["output"]
    assert [(it["type"], it["id"]) for it in made] == [
        ("reasoning", "rs_1_0"),
        ("reasoning", "rs_1_1"),
        ("message", "msg_1_2"),
        ("web_search_call", "ws_1_3"),
        ("message", "msg_1_4"),
        ("function_call", "fc_1_5"),
    ]
    assert made[0]["summary"] == [{"type": "summary_text", "text": "hm\n"}]
    assert made[1]["summary"] == []
    assert made[2]["content"][0]["text"] == "Hi \u00e4Hi \u00e4"
    assert made[3]["action"] == {"type": "search", "query": "q", "queries": ["q"]}
    assert made[5]["call_id"] == "toolu_1"
    assert made[5]["name"] == "f"
    assert json.loads(made[5]["arguments"]) == {"n": 1}
    assert {it["status"] for it in made} == {"completed"}


def test_what_an_answer_gives_goes_back_as_it_came() -> None:
    """The next request has the thinking with its signature, what was said, and the calls."""
    blocks = [THOUGHT, REDACTED, TEXT, USE]
    output = whole(answer(*blocks))["output"]
    result = {"type": "function_call_output", "call_id": "toolu_1", "output": "1"}
    items = [{"role": "user", "content": "a"}, *output, result]
    assert body(input=items)["messages"][1]["content"] == blocks
    assert respond(input=items).dropped == ()


def test_the_sdk_sends_back_what_it_was_given() -> None:
    """As its users do it: the output's items, dumped by their models."""
    made = respond().answers.whole(json.dumps(answer(THOUGHT, TEXT, USE)).encode()) or b""
    read = client(made, "application/json").responses.create(model="m", input="hi")
    assert read.output_text == "Hi \u00e4"
    items = [{"role": "user", "content": "a"}, *(it.model_dump() for it in read.output)]
    assert body(input=items)["messages"][1]["content"] == [THOUGHT, TEXT, USE]
    assert respond(input=items).dropped == ()


def test_a_thought_without_words_is_sealed() -> None:
    """The newest models leave them out: there is no summary, and it goes back nevertheless."""
    [made] = whole(answer({**THOUGHT, "thinking": ""}))["output"]
    assert made["summary"] == []
    items = [{"role": "user", "content": "a"}, made, {"role": "assistant", "content": "b"}]
    assert body(input=items)["messages"][1]["content"][0] == {**THOUGHT, "thinking": ""}


def test_pages_that_are_cited() -> None:
    """Each annotation is for its own block's part of the text."""
    cited = [{"type": "web_search_result_location", "url": "https://x", "title": "X"}]
    other = [{"type": "char_location", "document_index": 0}]
    blocks = [TEXT, {**TEXT, "citations": cited}, {**TEXT, "citations": [*other, *cited]}]
    part = whole(answer(*blocks))["output"][0]["content"][0]
    note = {"type": "url_citation", "title": "X", "url": "https://x"}
    assert part["annotations"] == [
        {**note, "start_index": 4, "end_index": 8},
        {**note, "start_index": 8, "end_index": 12},
    ]


@pytest.mark.parametrize(
    ("reason", "status", "incomplete"),
    [
        ("end_turn", "completed", None),
        ("tool_use", "completed", None),
        ("stop_sequence", "completed", None),
        (None, "completed", None),
        ("max_tokens", "incomplete", "max_output_tokens"),
        ("model_context_window_exceeded", "incomplete", "max_output_tokens"),
        ("refusal", "incomplete", "content_filter"),
    ],
)
def test_why_it_ended(reason: str | None, status: str, incomplete: str | None) -> None:
    """Only what was not cut short is complete; the last item shares its fate."""
    made = whole(answer(TEXT, USE, stop_reason=reason))
    assert made["status"] == status
    assert made["incomplete_details"] == (incomplete and {"reason": incomplete})
    assert [it["status"] for it in made["output"]] == ["completed", status]


def test_a_refusal_is_explained() -> None:
    """In the part that OpenAI has for it."""
    details = {"type": "refusal", "explanation": "no"}
    made = whole(answer(TEXT, stop_reason="refusal", stop_details=details))
    assert made["output"][1]["content"] == [{"type": "refusal", "refusal": "no"}]


def test_the_result_stands_beside() -> None:
    """Where the responses of OpenAI itself have it."""
    made = respond().answers.whole(json.dumps(answer(TEXT, xproxy_result={"a": 1})).encode())
    assert json.loads(made or b"")["xproxy_result"] == {"a": 1}


def test_an_answer_with_nothing_known() -> None:
    """It is a response still."""
    made = whole({"content": [{"type": "what"}, {"type": "server_tool_use", "name": "x"}]})
    assert made["output"] == []
    assert made["usage"] is None
    assert made["model"] == "claude-sonnet-4-5"


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"content":1}', b"<html>"])
def test_what_is_no_message_is_none(body: bytes) -> None:
    """It cannot be read."""
    assert respond().answers.whole(body) is None


def test_an_error() -> None:
    """The SDK raises it with the provider's words."""
    said = {"type": "error", "error": {"type": "invalid_request_error", "message": "m"}}
    made = respond().answers.error(400, json.dumps(said).encode())
    with pytest.raises(BadRequestError) as raised:
        client(made, "application/json", 400).responses.create(model="m", input="hi")
    assert raised.value.code == "invalid_request_error"
    assert "m" in raised.value.message


def test_the_request_is_repeated_on_one_line() -> None:
    """However it was written: events have no line ends in them."""
    tools = [{"type": "function", **FUNCTION}]
    asked = json.dumps({"model": "m", "input": "a", "tools": tools}, indent=1).encode()
    made = responses_to_messages(asked, STRICT).answers.whole(json.dumps(answer()).encode()) or b""
    assert b"\n" not in made
    assert Response.model_validate_json(made).tools
