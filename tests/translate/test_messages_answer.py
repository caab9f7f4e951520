"""A whole answer of OpenAI's in Anthropic's form, and its errors."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import anthropic
import pytest

from tests.translate import claude

ID = "chatcmpl-1"
TEXT = {"content": "hi"}
SAID = [{"type": "text", "text": "hi"}]
MADE_ID = "toolu_chatcmpl1_0"


class Case(NamedTuple):
    """A message and what ended it, and the content, the reason and the sequence they become."""

    message: dict[str, Any]
    finish: str | None
    content: list[dict[str, Any]]
    reason: str
    choice: dict[str, Any] | None = None
    sequence: str | None = None


def calls(*arguments: Any, **more: Any) -> dict[str, Any]:
    """A message of calls with these arguments."""
    return {
        "content": None,
        "tool_calls": [
            {"id": f"c{i}", "type": "function", "function": {"name": "f", "arguments": it}, **more}
            for i, it in enumerate(arguments)
        ],
    }


def used(given: Any, call_id: str = "c0") -> dict[str, Any]:
    """A call in Anthropic's form."""
    return {"type": "tool_use", "id": call_id, "name": "f", "input": given}


CASES = {
    "text": Case(TEXT, "stop", SAID, "end_turn"),
    "cut short": Case(TEXT, "length", SAID, "max_tokens"),
    "filtered": Case(TEXT, "content_filter", SAID, "refusal"),
    "unknown reason": Case(TEXT, "eos", SAID, "end_turn"),
    "no reason": Case(TEXT, None, SAID, "end_turn"),
    "nothing": Case({"content": None}, "stop", [], "end_turn"),
    "empty": Case({"content": ""}, "stop", [], "end_turn"),
    "refusal": Case(
        {"content": None, "refusal": "no"}, "stop", [{"type": "text", "text": "no"}], "refusal"
    ),
    "stop sequence": Case(TEXT, "stop", SAID, "stop_sequence", {"stop_reason": "END"}, "END"),
    "stop token": Case(TEXT, "stop", SAID, "end_turn", {"stop_reason": 128009}),
    "parts": Case(
        {"content": [{"type": "text", "text": "h"}, {"type": "x"}, {"type": "text", "text": "i"}]},
        "stop",
        SAID,
        "end_turn",
    ),
    "reasoning_content": Case(
        {**TEXT, "reasoning_content": "hm"},
        "stop",
        [{"type": "thinking", "thinking": "hm", "signature": ""}, *SAID],
        "end_turn",
    ),
    "reasoning": Case(
        {**TEXT, "reasoning": "hm"},
        "stop",
        [{"type": "thinking", "thinking": "hm", "signature": ""}, *SAID],
        "end_turn",
    ),
    "calls": Case(
        calls('{"a":1}', "{}"), "tool_calls", [used({"a": 1}), used({}, "c1")], "tool_use"
    ),
    "text and a call": Case(
        {**calls('{"a":1}'), **TEXT}, "tool_calls", [*SAID, used({"a": 1})], "tool_use"
    ),
    "call it was told to make": Case(calls("{}"), "stop", [used({})], "tool_use"),
    "call cut short": Case(calls('{"a":'), "length", [used({"_raw": '{"a":'})], "max_tokens"),
    "no arguments": Case(
        calls("", " ", None), "tool_calls", [used({}), used({}, "c1"), used({}, "c2")], "tool_use"
    ),
    "arguments that are no object": Case(
        calls("[1]"), "tool_calls", [used({"_raw": "[1]"})], "tool_use"
    ),
    "arguments as an object": Case(calls({"a": 1}), "tool_calls", [used({"a": 1})], "tool_use"),
    "no id": Case(calls("{}", id=""), "tool_calls", [used({}, MADE_ID)], "tool_use"),
    "function_call": Case(
        {"content": None, "function_call": {"name": "f", "arguments": '{"a":1}'}},
        "function_call",
        [used({"a": 1}, MADE_ID)],
        "tool_use",
    ),
}


def answer(message: Any, finish: str | None = "stop", **more: Any) -> bytes:
    """A whole answer of OpenAI's."""
    choice = {
        "index": 0,
        "message": message,
        "finish_reason": finish,
        **(more.pop("choice", None) or {}),
    }
    return json.dumps({"id": ID, "model": "gpt-4o", "choices": [choice], **more}).encode()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_message_becomes_blocks(case: Case) -> None:
    """Each kind of content has its block, and each reason to stop its name."""
    message = claude.whole(answer(case.message, case.finish, choice=case.choice))
    assert [it.to_dict(exclude_none=True) for it in message.content] == case.content
    assert (message.stop_reason, message.stop_sequence) == (case.reason, case.sequence)
    assert (message.id, message.model, message.role) == (ID, "gpt-4o", "assistant")


def test_members_come_in_the_order_of_anthropics() -> None:
    """Who reads an answer by eye finds what he is used to."""
    translated = claude.translate().answers.whole(answer(TEXT))
    assert translated is not None
    assert list(json.loads(translated)) == [
        *("model", "id", "type", "role", "content"),
        *("stop_reason", "stop_sequence", "stop_details", "usage"),
    ]


NOTHING = {
    "input_tokens": 0,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 0,
    "output_tokens": 0,
}
ODD_USAGES: list[Any] = [None, 1, [], {"prompt_tokens": 1.5, "completion_tokens": -1}]
USAGES: dict[str, tuple[Any, dict[str, Any]]] = {
    "all": (
        {
            "prompt_tokens": 100,
            "completion_tokens": 20,
            "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 30},
            "completion_tokens_details": {"reasoning_tokens": 8},
        },
        {
            "input_tokens": 10,
            "cache_creation_input_tokens": 30,
            "cache_read_input_tokens": 60,
            "output_tokens": 20,
            "output_tokens_details": {"thinking_tokens": 8},
        },
    ),
    "plain": (
        {"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": None},
        {
            "input_tokens": 5,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": 2,
        },
    ),
    **{str(odd): (odd, NOTHING) for odd in ODD_USAGES},
}


@pytest.mark.parametrize(("given", "expected"), USAGES.values(), ids=USAGES)
def test_usage_is_parted_as_anthropic_does(given: Any, expected: dict[str, Any]) -> None:
    """What was read from or written to the cache is not in `input_tokens`; what cannot be believed
    counts as nothing."""
    assert claude.whole(answer(TEXT, usage=given)).usage.to_dict() == expected


@pytest.mark.parametrize(
    ("given", "expected"), [("default", "standard"), ("priority", "priority"), ("flex", None)]
)
def test_the_tier_is_told_where_there_is_a_word(given: str, expected: str | None) -> None:
    """Anthropic's types know two of OpenAI's tiers."""
    assert claude.whole(answer(TEXT, service_tier=given)).usage.service_tier == expected


def test_arguments_keep_their_numbers() -> None:
    """What the model wrote is the input, byte for byte."""
    written = '{ "n": 12345678901234567890.10, "e": 1e400, "n": 2.0 }'
    translated = claude.translate().answers.whole(answer(calls(written)))
    assert translated is not None
    assert b'"input":' + written.encode() in translated


ODD = {
    "lone surrogates": (
        rb'{"choices":[{"message":{"content":"a\ud800b\\ud800\ud83d\ude00"}}]}',
        "a\N{REPLACEMENT CHARACTER}b\\ud800\N{GRINNING FACE}",
    ),
    "NaN": (
        b'{"x":NaN,"y":[-Infinity],"choices":[{"message":{"content":"NaN \\"Infinity"}}]}',
        'NaN "Infinity',
    ),
    "not UTF-8": (b'{"choices":[{"message":{"content":"\xff"}}]}', "\N{REPLACEMENT CHARACTER}"),
}


@pytest.mark.parametrize(("body", "text"), ODD.values(), ids=ODD)
def test_json_that_others_write_is_read(body: bytes, text: str) -> None:
    """Some hosts write what is not quite JSON: the text in it comes through."""
    assert [it.to_dict() for it in claude.whole(body).content] == [{"type": "text", "text": text}]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"choices":[]}',
        b'{"choices":[{}]}',
        b'{"choices":1}',
        b'{"error":{"message":"x"}}',
        b'{"choices":' + b"[" * 100_000,
    ],
)
def test_what_is_no_answer_cannot_be_read(body: bytes) -> None:
    """None says so, and nothing is made up."""
    assert claude.translate().answers.whole(body) is None


STATUSES = {
    400: ("invalid_request_error", anthropic.BadRequestError),
    401: ("authentication_error", anthropic.AuthenticationError),
    402: ("billing_error", anthropic.APIStatusError),
    403: ("permission_error", anthropic.PermissionDeniedError),
    404: ("not_found_error", anthropic.NotFoundError),
    409: ("invalid_request_error", anthropic.ConflictError),
    413: ("request_too_large", anthropic.APIStatusError),
    422: ("invalid_request_error", anthropic.UnprocessableEntityError),
    429: ("rate_limit_error", anthropic.RateLimitError),
    500: ("api_error", anthropic.InternalServerError),
    502: ("api_error", anthropic.InternalServerError),
    503: ("overloaded_error", anthropic.InternalServerError),
    504: ("timeout_error", anthropic.InternalServerError),
    529: ("overloaded_error", anthropic.InternalServerError),
}


@pytest.mark.parametrize("status", STATUSES)
def test_errors_are_told_by_their_status(status: int) -> None:
    """Anthropic's SDK raises what it would of Anthropic's own."""
    given = {"error": {"message": "no", "type": "t", "param": None, "code": "c"}}
    body = claude.translate().answers.error(status, json.dumps(given).encode())
    kind, raised = STATUSES[status]
    assert json.loads(body) == {"type": "error", "error": {"type": kind, "message": "no"}}
    assert isinstance(claude.error(status, body), raised)


BODIES = {
    "a text": (b'{"error":"no"}', "no"),
    "a list": (b'[{"error":{"message":"no"}}]', "no"),
    "no envelope": (b'{"message":"no","code":1}', "no"),
    "detail": (b'{"detail":"no"}', "no"),
    "no message": (b'{"error":{"code":1}}', '{"error":{"code":1}}'),
    "a page": (b"<html>\n  <h1>502</h1>\n</html>", "<html> <h1>502</h1> </html>"),
    "long": (b"x" * 9999, "x" * 500),
    "nothing": (b"", "the provider gave no reason"),
    "not UTF-8": (b"\xff", "\N{REPLACEMENT CHARACTER}"),
}


@pytest.mark.parametrize(("body", "message"), BODIES.values(), ids=BODIES)
def test_errors_of_other_shapes_keep_their_words(body: bytes, message: str) -> None:
    """What a host says is told, shortened where it is no JSON."""
    told = json.loads(claude.translate().answers.error(502, body))
    assert told == {"type": "error", "error": {"type": "api_error", "message": message}}
