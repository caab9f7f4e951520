"""What becomes of a message: whole, and as an error."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.translate.anthropic.forms import (
    CREATED,
    FUNCTION,
    LOOSE,
    STRICT,
    ChatCompletion,
    chat,
    fits_openai,
)

THINKING = {"type": "thinking", "thinking": "hm", "signature": "s=="}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1}}
USAGE = {"input_tokens": 10, "output_tokens": 6}


def text(said: str, **more: Any) -> dict[str, Any]:
    """A block of text."""
    return {"type": "text", "text": said, **more}


def message(*content: Any, stop: str = "end_turn", **more: Any) -> bytes:
    """A message of Anthropic's."""
    made = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-x",
        "content": list(content),
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": USAGE,
    }
    return json.dumps({**made, **more}).encode()


def whole(body: bytes, *, strict: bool = True, **asked: Any) -> dict[str, Any]:
    """What a client gets of it, held against OpenAI's own types."""
    made = chat(STRICT if strict else LOOSE, **asked).answers.whole(body)
    assert made is not None
    read = json.loads(made)
    assert isinstance(read, dict)
    fits_openai(ChatCompletion, read, strict=strict)
    return read


def test_a_message_is_a_chat_completion() -> None:
    """All of it, in OpenAI's order, with the message's own id."""
    assert whole(message(text("Hi"), text(" there."))) == {
        "id": "msg_1",
        "object": "chat.completion",
        "created": CREATED,
        "model": "claude-x",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hi there.", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 10,
            "completion_tokens": 6,
            "total_tokens": 16,
            "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        },
    }


def test_calls_alone_leave_no_content() -> None:
    """`content` is null then, as OpenAI's is; the input is the JSON it was, in a string."""
    body = message(CALL, stop="tool_use").replace(b'{"a": 1}', b'{"b":1.50, "a":"\xc3\xa4"}')
    choice = whole(body)["choices"][0]
    assert choice["message"]["content"] is None
    assert choice["message"]["tool_calls"] == [
        {
            "id": "toolu_1",
            "type": "function",
            "function": {"name": "f", "arguments": '{"b":1.50, "a":"ä"}'},
        }
    ]
    assert choice["finish_reason"] == "tool_calls"


def test_who_speaks_of_functions_gets_a_function_call() -> None:
    """As it was before there were tools."""
    choice = whole(message(text("x"), CALL, stop="tool_use"), functions=[FUNCTION])["choices"][0]
    assert choice["message"]["function_call"] == {"name": "f", "arguments": '{"a": 1}'}
    assert "tool_calls" not in choice["message"]
    assert choice["finish_reason"] == "function_call"


@pytest.mark.parametrize(
    ("stop", "reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("tool_use", "tool_calls"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "content_filter"),
        ("something_new", "stop"),
    ],
)
@pytest.mark.parametrize("strict", [True, False])
def test_why_it_ended_is_said_in_openais_words(stop: str, reason: str, strict: bool) -> None:  # noqa: FBT001
    """Also where not strict, where Portkey gives Anthropic's; that stands beside it there."""
    body = message(text("x"), stop=stop, stop_sequence="END")
    choice = whole(body, strict=strict)["choices"][0]
    assert choice["finish_reason"] == reason
    if strict:
        assert "stop_reason" not in choice
    else:
        assert (choice["stop_reason"], choice["stop_sequence"]) == (stop, "END")


def test_a_refusal_says_why() -> None:
    """What Anthropic explains of it is OpenAI's `refusal`."""
    details = {"type": "refusal", "category": "bio", "explanation": "Not that."}
    choice = whole(message(stop="refusal", stop_details=details))["choices"][0]
    assert choice["message"]["refusal"] == "Not that."
    assert choice["message"]["content"] is None


CACHED = {
    "input_tokens": 10,
    "cache_read_input_tokens": 1000,
    "cache_creation_input_tokens": 100,
    "cache_creation": {"ephemeral_5m_input_tokens": 40, "ephemeral_1h_input_tokens": 60},
    "output_tokens": 6,
    "output_tokens_details": {"thinking_tokens": 4},
    "service_tier": "priority",
}


def test_usage_always_adds_up() -> None:
    """What was read from and written to the cache is part of the prompt: Portkey's own numbers
    (10 and 6 are 1,116) do not add up."""
    made = whole(message(usage=CACHED))
    assert made["usage"] == {
        "prompt_tokens": 1110,
        "completion_tokens": 6,
        "total_tokens": 1116,
        "prompt_tokens_details": {"cached_tokens": 1000, "cache_write_tokens": 100},
        "completion_tokens_details": {"reasoning_tokens": 4},
    }
    assert made["service_tier"] == "priority"


def test_usage_that_is_not_strict_has_anthropics_beside() -> None:
    """Under the names Portkey gives it, and how the writes are split."""
    usage = whole(message(usage=CACHED), strict=False)["usage"]
    for name in ("cache_read_input_tokens", "cache_creation_input_tokens", "cache_creation"):
        assert usage[name] == CACHED[name]


@pytest.mark.parametrize("tier", ["batch", 1, None, []])
def test_tiers_that_openai_does_not_have_are_not_told(tier: Any) -> None:
    """Nor what is none."""
    assert "service_tier" not in whole(message(usage={**USAGE, "service_tier": tier}))


@pytest.mark.parametrize("details", [1, {"thinking_tokens": "x"}, {}])
def test_thoughts_that_were_not_counted_are_not_told(details: Any) -> None:
    """No figure is made up."""
    usage = whole(message(usage={**USAGE, "output_tokens_details": details}))["usage"]
    assert "completion_tokens_details" not in usage


@pytest.mark.parametrize("usage", [None, {}, {"output_tokens": None}, [], "x"])
def test_usage_that_was_not_said_is_not_made_up(usage: Any) -> None:
    """There is none then."""
    assert "usage" not in whole(message(usage=usage))


def test_counts_that_cannot_be_believed_are_none() -> None:
    """They are nothing to add up."""
    usage = whole(message(usage={"input_tokens": -1, "output_tokens": 1e300}))["usage"]
    assert usage["total_tokens"] == 0


SEARCHED = [
    THINKING,
    {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "q"}},
    {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []},
    text("\u00dcber "),
    text(
        "x.",
        citations=[
            {
                "type": "web_search_result_location",
                "url": "https://x/",
                "title": "X",
                "encrypted_index": "e",
                "cited_text": "c",
            }
        ],
    ),
]


def test_thoughts_are_not_what_was_said() -> None:
    """Nor are calls of the provider's own tools; of what they found, the text and its sources."""
    told = whole(message(*SEARCHED))["choices"][0]["message"]
    assert told == {
        "role": "assistant",
        "content": "Über x.",
        "refusal": None,
        "annotations": [
            {
                "type": "url_citation",
                "url_citation": {
                    "start_index": 5,
                    "end_index": 7,
                    "title": "X",
                    "url": "https://x/",
                },
            }
        ],
    }


def test_all_blocks_stand_beside_where_not_strict() -> None:
    """Byte for byte, so that they can go back: signatures, and what nobody knows yet."""
    body = message(*SEARCHED, {"type": "new", "x": [1.50]})
    made = chat(LOOSE).answers.whole(body)
    assert made is not None
    inner = body[
        body.index(b'"content": [') + len(b'"content": [') : body.index(b', {"type": "new"')
    ]
    for block in inner.split(b'}, {"type": '):
        assert block in made
    told = json.loads(made)["choices"][0]["message"]
    assert told["content_blocks"] == json.loads(body)["content"]
    assert told["reasoning_content"] == "hm"
    assert json.loads(made)["provider"] == "anthropic"
    back = chat(messages=[{"role": "user", "content": "a"}, told])
    assert json.loads(back.body)["messages"][1]["content"] == told["content_blocks"]
    assert back.dropped == ()


def test_a_result_goes_on() -> None:
    """One that stands in the provider's answer already."""
    body = message(text("x"), xproxy_result={"request_id": "r"})
    assert whole(body, strict=False)["xproxy_result"] == {"request_id": "r"}


@pytest.mark.parametrize(
    "body", [b"", b"nope", b"[]", b"{}", b'{"content":1}', b"\xff\xfe", b"[" * 99_999]
)
def test_what_is_no_message_cannot_be_read(body: bytes) -> None:
    """Then there is no answer, and nothing is raised."""
    assert chat().answers.whole(body) is None


def test_text_that_is_not_quite_json_is_read_all_the_same() -> None:
    """Lone surrogates, as other encoders let them through."""
    body = message(text("x")).replace(b'"x"', b'"\\ud800!"')
    assert whole(body)["choices"][0]["message"]["content"] == "?!"


def failed(status: int, body: bytes) -> dict[str, Any]:
    """An error as a client reads it."""
    made = json.loads(chat().answers.error(status, body))
    assert isinstance(made, dict)
    return made


def test_an_error_keeps_its_words_and_type() -> None:
    """The provider's own message, whose type is also OpenAI's `code`."""
    inner = {"type": "rate_limit_error", "message": "Slow down", "details": None}
    body = {"type": "error", "error": inner, "request_id": "req_1", "xproxy_result": {"a": 1}}
    assert failed(429, json.dumps(body).encode()) == {
        "error": {
            "message": "Slow down",
            "type": "rate_limit_error",
            "param": None,
            "code": "rate_limit_error",
        },
        "provider": "anthropic",
        "request_id": "req_1",
        "xproxy_result": {"a": 1},
    }


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (404, "not_found_error"),
        (429, "rate_limit_error"),
        (502, "api_error"),
        (529, "overloaded_error"),
    ],
)
def test_an_error_that_is_no_json_is_told_by_its_status(status: int, kind: str) -> None:
    """With what it says, shortened."""
    made = failed(status, b"<html>\n <b>Bad</b>" + b"x" * 10_000)["error"]
    assert (made["type"], made["code"], made["param"]) == (kind, kind, None)
    assert made["message"].startswith(f"Anthropic answered {status}: <html> <b>Bad</b>xxx")
    assert len(made["message"]) < 600
    assert failed(status, b"")["error"]["message"] == f"Anthropic answered {status} without a body"
