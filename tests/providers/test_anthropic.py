"""Anthropic's dialect: endpoints, requests, usage with its cache and tools, and the tap."""

from __future__ import annotations

import json
from typing import Any

import pytest

from metering.errors import InvalidRequest
from metering.providers.base import Usage
from tests.providers.replay import RESULT, run, setting

ANTHROPIC, MESSAGES, PLAIN = setting("anthropic")


def event(kind: str, **members: Any) -> bytes:
    text = json.dumps({"type": kind} | members, separators=(",", ":"))
    return f"event: {kind}\ndata: {text}\n\n".encode()


def start(**usage: Any) -> bytes:
    message = {"id": "msg_1", "model": "claude", "type": "message", "usage": usage}
    return event("message_start", message=message)


def text(content: str) -> bytes:
    return event("content_block_delta", index=0, delta={"type": "text_delta", "text": content})


def delta(reason: str | None = "end_turn", **usage: Any) -> bytes:
    return event("message_delta", delta={"stop_reason": reason}, usage=usage)


def spliced(raw: bytes) -> bytes:
    return raw.removesuffix(b"}\n\n") + b',"xproxy_result":' + RESULT + b"}\n\n"


STOP = event("message_stop")
PING = event("ping")
ERROR = event("error", error={"type": "overloaded_error"})


@pytest.mark.parametrize(
    ("method", "path", "name", "kind"),
    [
        ("POST", "/v1/messages", "messages", "metered"),
        ("POST", "/v1/messages/", "messages", "metered"),
        ("POST", "//v1/%6Dessages", "messages", "metered"),
        ("POST", "/v1/messages/count_tokens", "other", "free"),
        ("POST", "/v1/messages/batches", "other", "unmetered"),
        ("POST", "/v1/complete", "complete", "metered"),
        ("POST", "/v1/files", "other", "free"),
        ("GET", "/v1/models", "other", "free"),
        ("DELETE", "/v1/files/f", "other", "free"),
    ],
)
def test_endpoints(method: str, path: str, name: str, kind: str) -> None:
    """Messages are metered, counting tokens and reading is free."""
    endpoint = ANTHROPIC.endpoint(method, path)
    assert (endpoint.name, endpoint.kind) == (name, kind)


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        (b"nope", "invalid_json", None),
        (b'{"max_tokens":1}', "required_field_missing", "model"),
        (b'{"model":"m","stream":"yes"}', "invalid_request_field", "stream"),
        (b'{"model":"m","max_tokens":1.0}', "invalid_request_field", "max_tokens"),
    ],
)
def test_bad_requests(body: bytes, code: str, field: str | None) -> None:
    """The member at fault is named."""
    with pytest.raises(InvalidRequest) as caught:
        ANTHROPIC.ask(MESSAGES, body)

    assert (caught.value.code, caught.value.field) == (code, field)


def test_asks() -> None:
    """Caps, tier and all text are read: system, parts within parts, documents, tools; no base64."""
    body = {
        "model": "claude",
        "max_tokens": 30,
        "service_tier": "auto",
        "system": [{"type": "text", "text": "one"}],
        "messages": [
            {"role": "user", "content": "two"},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "three"},
                    {"type": "tool_use", "name": "t", "input": {"a": "four"}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "content": "five"},
                    {"type": "tool_result", "content": [{"type": "text", "text": "six"}]},
                    {"type": "image", "source": {"type": "base64", "data": "AAAA"}},
                    {
                        "type": "document",
                        "title": "seven",
                        "context": "eight",
                        "source": {"type": "text", "data": "nine"},
                    },
                    {"type": "document", "source": {"type": "content", "content": "ten"}},
                ],
            },
        ],
        "tools": [{"name": "eleven"}],
    }
    raw = json.dumps(body, separators=(",", ":")).encode()
    ask = ANTHROPIC.ask(MESSAGES, raw)

    assert (ask.model, ask.max_output_tokens, ask.choices) == ("claude", 30, 1)
    assert (ask.service_tier, ask.stream, ask.body_bytes) == ("auto", False, len(raw))
    assert "\n".join(ask.texts).split("\n") == [
        *("one", "two", "three", '{"a":"four"}', "five", "six"),
        *("seven", "eight", "nine", "ten", '[{"name":"eleven"}]'),
    ]
    assert ANTHROPIC.upstream_body(ask, raw) is raw


def test_repeated_members_are_sent_once() -> None:
    """What is priced is what is sent."""
    raw = b'{"model":"opus","model":"haiku","stream":true}'
    ask = ANTHROPIC.ask(MESSAGES, raw)
    assert ANTHROPIC.upstream_body(ask, raw) == b'{"model":"haiku","stream":true}'


BASE = {"input_tokens": 10, "output_tokens": 5}
FIVE, HOUR = "ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"
COUNT_TABLE: list[tuple[dict[str, Any], dict[str, int] | None]] = [
    # beside input_tokens 10, output_tokens 5         counts
    ({}, {"input": 10, "output": 5}),
    ({"cache_read_input_tokens": 7}, {"input": 17, "output": 5, "cache_read": 7}),
    ({"cache_creation_input_tokens": 3}, {"input": 13, "output": 5, "cache_write_5m": 3}),
    (
        {"cache_creation_input_tokens": 3, "cache_creation": {FIVE: 1, HOUR: 2}},
        {"input": 13, "output": 5, "cache_write_5m": 1, "cache_write_1h": 2},
    ),
    (
        {"cache_creation": {FIVE: 1, HOUR: 2}},
        {"input": 13, "output": 5, "cache_write_5m": 1, "cache_write_1h": 2},
    ),
    (
        {"cache_creation_input_tokens": 9, "cache_creation": {FIVE: 1, HOUR: 2}},
        {"input": 19, "output": 5, "cache_write_5m": 7, "cache_write_1h": 2},
    ),
    (
        {"cache_creation_input_tokens": 9, "cache_creation": {FIVE: 0, HOUR: 2}},
        {"input": 19, "output": 5, "cache_write_1h": 9},
    ),
    ({"cache_creation_input_tokens": 0, "cache_creation": {HOUR: 2}}, {"input": 10, "output": 5}),
    ({"cache_creation_input_tokens": None, "cache_creation": None}, {"input": 10, "output": 5}),
    (
        {"output_tokens_details": {"thinking_tokens": 4}},
        {"input": 10, "output": 5, "reasoning": 4},
    ),
    (
        {"server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 1}},
        {"input": 10, "output": 5, "web_search": 2, "web_fetch": 1},
    ),
    ({"server_tool_use": None, "service_tier": 7, "new": {"a": 1}}, {"input": 10, "output": 5}),
    (
        {
            "iterations": [
                BASE | {"type": "message"},
                {"type": "compaction", "cache_read_input_tokens": 1}
                | {"input_tokens": 100, "output_tokens": 20},
            ]
        },
        {"input": 111, "output": 25, "cache_read": 1},
    ),
    ({"iterations": [{"type": "new"}]}, {"input": 10, "output": 5}),
    ({"iterations": None}, {"input": 10, "output": 5}),
    ({"input_tokens": 0, "output_tokens": 0}, {"input": 0, "output": 0}),
    ({"input_tokens": -1}, None),
    ({"input_tokens": 1.0}, None),
    ({"input_tokens": True}, None),
    ({"input_tokens": "1"}, None),
    ({"input_tokens": 10**9 + 1}, None),
    ({"input_tokens": float("nan")}, None),
    ({"input_tokens": None}, None),
    ({"cache_read_input_tokens": -5}, None),
]  # fmt: skip


@pytest.mark.parametrize(("usage", "counts"), COUNT_TABLE)
def test_usage(usage: dict[str, Any], counts: dict[str, int] | None) -> None:
    """Totals contain cache reads and writes; what cannot be believed is missing."""
    body = {"id": "msg_1", "model": "claude", "content": [{"text": "hi"}], "usage": BASE | usage}
    read = ANTHROPIC.read(MESSAGES, json.dumps(body).encode())

    assert read.counts == counts
    assert (read.model, read.provider_id, read.finished) == ("claude", "msg_1", True)
    assert read.output_text == ("" if counts else "hi")
    if "input_tokens" not in usage:
        stream = [start(**BASE | usage), text("hi"), delta(output_tokens=5), STOP]
        assert run("anthropic", *stream)[1].counts == counts


@pytest.mark.parametrize("output_tokens", [None, -1, "5", 5.0])
def test_answers_without_output(output_tokens: Any) -> None:
    """A whole answer whose output was not counted has no counts, but its text."""
    usage = {"input_tokens": 10, "output_tokens": output_tokens}
    body = {"content": [{"text": "hi"}, {"name": "f", "input": {"text": "x"}}], "usage": usage}
    read = ANTHROPIC.read(MESSAGES, json.dumps(body).encode())
    assert (read.counts, read.output_text) == (None, "hi\nf\nx")


@pytest.mark.parametrize(
    ("usage", "tier", "scope"),
    [
        ({"service_tier": "standard", "inference_geo": "not_available"}, "standard", None),
        ({"service_tier": "priority", "inference_geo": "us"}, "priority", "us"),
        (
            {"service_tier": "standard", "speed": "fast", "inference_geo": "global"},
            "fast",
            "global",
        ),
        ({"service_tier": "standard", "speed": "standard"}, "standard", None),
        ({"service_tier": None, "inference_geo": None}, None, None),
    ],
)
def test_tier_and_scope(usage: dict[str, Any], tier: str | None, scope: str | None) -> None:
    """Where and how fast it ran is reported, since it may change the price."""
    body = json.dumps({"usage": BASE | usage}).encode()
    read = ANTHROPIC.read(MESSAGES, body)
    assert (read.service_tier, read.scope) == (tier, scope)


def test_the_advisor_is_another_model() -> None:
    """What the advisor tool used is reported under its own model, added up."""
    advice = {"type": "advisor_message", "model": "opus", "input_tokens": 7, "output_tokens": 3}
    body = json.dumps({"usage": BASE | {"iterations": [advice, advice]}}).encode()
    read = ANTHROPIC.read(MESSAGES, body)
    assert read.counts == {"input": 10, "output": 5}
    assert read.other_models == {"opus": {"input": 14, "output": 6}}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", Usage()),
        (b"[]", Usage()),
        (b'{"type":"error","error":{}}', Usage(finished=True, error=True)),
        (b'{"id":5,"model":"m"}', Usage(model="m", finished=True)),
        (b'{"id":"i","x":"\\udc00","usage":{"input_tokens":1,"output_tokens":2}}',
         Usage(provider_id="i", counts={"input": 1, "output": 2}, finished=True)),
    ],
)  # fmt: skip
def test_odd_answers(body: bytes, expected: Usage) -> None:
    """An answer that is odd is read as far as it can be, and never fails."""
    assert ANTHROPIC.read(MESSAGES, body) == expected


CONTAINER = {"id": "container_011", "expires_at": "2026-11-28T12:00:00Z"}


@pytest.mark.parametrize(("container", "used"), [(CONTAINER, 1), (None, 0)])
def test_where_code_was_run(container: dict[str, str] | None, used: int) -> None:
    """A container that an answer names was used: said once, whatever was run in it."""
    message = {"id": "msg_1", "model": "m", "usage": BASE, "container": container}
    usage = ANTHROPIC.read(MESSAGES, json.dumps(message).encode())
    assert (usage.counts or {}).get("code_execution", 0) == used


def test_headers() -> None:
    """Keys and tokens have their own headers; the version is added where there is none."""
    version = (b"anthropic-version", b"2023-06-01")
    assert ANTHROPIC.credential("sk-ant-api03-x") == (b"x-api-key", b"sk-ant-api03-x")
    token = (b"authorization", b"Bearer sk-ant-oat01-x")
    assert ANTHROPIC.credential("sk-ant-oat01-x") == token
    assert ANTHROPIC.default_headers([(b"accept", b"x")]) == [version]
    assert ANTHROPIC.default_headers([(b"anthropic-version", b"2024-01-01")]) == []


HEAD = start(input_tokens=10, output_tokens=1, cache_read_input_tokens=4)
COUNTS = {"input": 14, "output": 5, "cache_read": 4}
CUT = {"input": 14, "cache_read": 4}
EARLY, LAST = delta(None, output_tokens=3), delta(output_tokens=5)
MORE = delta(None, output_tokens=6)
SECOND = delta("refusal", output_tokens=5)
BARE = event("message_start", message={"id": "msg_1", "model": "claude"})
BARE_LAST = event("message_delta", delta={"stop_reason": "x"})
BAD, NULL = delta(output_tokens="5"), delta(output_tokens=None)
FULL = delta(input_tokens=20, output_tokens=5, cache_read_input_tokens=None)

STREAMS: list[tuple[str, list[bytes], list[bytes], dict[str, Any]]] = [
    # name, the provider's events, what the client gets, what usage says
    ("usual", [HEAD, PING, text("a"), LAST, STOP], [HEAD, PING, text("a"), spliced(LAST), STOP],
     {"counts": COUNTS, "finished": True}),
    ("ping behind the last", [HEAD, LAST, PING, STOP], [HEAD, spliced(LAST), PING, STOP],
     {"counts": COUNTS, "finished": True}),
    ("delta without a reason", [HEAD, EARLY, LAST, STOP], [HEAD, EARLY, spliced(LAST), STOP],
     {"counts": COUNTS, "finished": True}),
    ("a next delta releases", [HEAD, LAST, SECOND, STOP], [HEAD, LAST, spliced(SECOND), STOP],
     {"counts": COUNTS, "finished": True}),
    ("a next without a reason", [HEAD, LAST, MORE, STOP], [HEAD, LAST, spliced(MORE), STOP],
     {"counts": COUNTS | {"output": 6}, "finished": True}),
    ("later counts replace", [HEAD, FULL, STOP], [HEAD, spliced(FULL), STOP],
     {"counts": {"input": 24, "output": 5, "cache_read": 4}, "finished": True}),
    ("no message_stop", [HEAD, LAST], [HEAD, spliced(LAST)], {"counts": COUNTS}),
    ("cut in the middle", [HEAD, text("a"), text("b")], [HEAD, text("a"), text("b")],
     {"counts": CUT, "output_text": "ab"}),
    ("error", [HEAD, text("a"), ERROR], [HEAD, text("a"), ERROR],
     {"counts": CUT, "output_text": "a", "error": True}),
    ("error behind the last", [HEAD, LAST, ERROR], [HEAD, spliced(LAST), ERROR],
     {"counts": COUNTS, "error": True}),
    ("stop alone", [STOP], [STOP], {"finished": True, "model": None, "provider_id": None}),
    ("after the stop", [HEAD, LAST, STOP, PING], [HEAD, spliced(LAST), STOP, PING],
     {"counts": COUNTS, "finished": True}),
    ("no usage at all", [BARE, text("a"), BARE_LAST, STOP],
     [BARE, text("a"), spliced(BARE_LAST), STOP], {"output_text": "a", "finished": True}),
    ("usage that is none", [HEAD, BAD, STOP], [HEAD, spliced(BAD), STOP], {"finished": True}),
    ("output null", [HEAD, text("a"), NULL, STOP], [HEAD, text("a"), spliced(NULL), STOP],
     {"counts": CUT, "output_text": "a", "finished": True}),
    ("empty", [], [], {"model": None, "provider_id": None}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("stream", "got", "said"), [case[1:] for case in STREAMS], ids=[case[0] for case in STREAMS]
)
def test_streams(stream: list[bytes], got: list[bytes], said: dict[str, Any]) -> None:
    """The result is on the last message_delta; counts add up over the stream's two places."""
    expected = Usage(**({"model": "claude", "provider_id": "msg_1"} | said))
    for cuts in (stream, [b"".join(stream)]):
        assert run("anthropic", *cuts) == (b"".join(got), expected)
        assert run("anthropic", *cuts, result=None) == (b"".join(stream), expected)


def test_when_events_go_out() -> None:
    """Every event goes out at once, but the delta with the reason and what is behind it."""
    tap = ANTHROPIC.tap(MESSAGES, PLAIN)
    steps = [
        (HEAD, HEAD, False),
        (EARLY, EARLY, False),
        (LAST, b"", False),
        (PING, b"", False),
        (SECOND, LAST + PING, False),
        (STOP, b"", True),
        (PING, b"", True),
    ]
    for raw, out, ready in steps:
        assert (tap.feed(raw), tap.ready) == (out, ready)

    assert tap.splice(RESULT) == spliced(SECOND) + STOP + PING
    assert tap.feed(PING) == PING
    assert tap.finish() == b""


def test_odd_events() -> None:
    """Events of odd types are relayed as they are, and read as far as they can be."""
    odd = [
        b"data: {}\n\n",
        b"data: [1]\n\n",
        b"data: nope\n\n",
        b": comment\n\n",
        event("message_start", message=5),
        event("message_start", message={"id": 5, "model": "m", "usage": 7}),
        event("content_block_delta", delta=5),
        event("content_block_delta", delta={"text": 5}),
        event("content_block_delta"),
        b'data: {"type":"content_block_delta","delta":{"text":"a\\ud83d"}}\n\n',
        event("content_block_delta", delta={"partial_json": "b"}),
        event("content_block_delta", delta={"thinking": "c", "text": None}),
        event("message_delta", delta=5, usage={"output_tokens": 9}),
        event("message_delta", delta={"stop_reason": 5}, usage=5),
    ]
    out, usage = run("anthropic", *odd)

    assert out == b"".join(odd)
    assert (usage.model, usage.provider_id, usage.counts) == ("m", None, None)
    assert usage.output_text == "a?bc"
