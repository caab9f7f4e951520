"""OpenAI's answers: usage that can be believed, and every turn of the tap."""

from __future__ import annotations

import json
from typing import Any

import pytest

from metering.core.sse import EVENT_BYTES_MAX
from metering.providers import holding as holding_module
from metering.providers.base import Usage
from tests.providers.replay import RESULT, objects, run, setting

OPENAI, CHAT, PLAIN = setting("openai")


def data(value: Any) -> bytes:
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    return b"data: " + text.encode() + b"\n\n"


def chunk(
    content: str | None = None, finish: str | None = None, index: int = 0, **more: Any
) -> bytes:
    choice = {"index": index, "delta": {"content": content}, "finish_reason": finish}
    return data({"id": "c1", "model": "gpt-4o", "choices": [choice]} | more)


USAGE = {"prompt_tokens": 5, "completion_tokens": 2}
COUNTS = {"input": 5, "output": 2}
USAGE_CHUNK = data({"id": "c1", "choices": [], "usage": USAGE})
DONE = data("[DONE]")
WITH: dict[str, Any] = {"stream_options": {"include_usage": True}}


def spliced(event: bytes) -> bytes:
    return event.removesuffix(b"}\n\n") + b',"xproxy_result":' + RESULT + b"}\n\n"


BOTH_SAID = '{"prompt_tokens":5,"completion_tokens":2,%s}'
OUTPUT = '{"prompt_tokens":5,"completion_tokens":%s}'
DETAILS = {
    "prompt_tokens": 9,
    "completion_tokens": 8,
    "prompt_tokens_details": {
        "cached_tokens": 1,
        "audio_tokens": 2,
        "image_tokens": 3,
        "cache_write_tokens": 4,
        "text_tokens": 0,
    },
    "completion_tokens_details": {
        "reasoning_tokens": 5,
        "audio_tokens": 6,
        "rejected_prediction_tokens": 1,
    },
}
DETAILED = {
    "input": 9,
    "output": 8,
    "cache_read": 1,
    "input_audio": 2,
    "input_image": 3,
    "cache_write_5m": 4,
    "reasoning": 5,
    "output_audio": 6,
}
COUNT_TABLE: list[tuple[str, dict[str, int] | None]] = [
    # usage                                                           counts
    (OUTPUT % "2", COUNTS),
    (OUTPUT % "0", {"input": 5, "output": 0}),
    (OUTPUT % "1000000000", {"input": 5, "output": 10**9}),
    (OUTPUT % "1000000001", None),
    (OUTPUT % "18446744073709551616", None),
    (OUTPUT % "-1", None),
    (OUTPUT % "2.0", None),
    (OUTPUT % '"2"', None),
    (OUTPUT % "true", None),
    (OUTPUT % "null", None),
    (OUTPUT % "NaN", None),
    (OUTPUT % "1e400", None),
    (BOTH_SAID % '"prompt_tokens_details":null', COUNTS),
    (BOTH_SAID % '"prompt_tokens_details":{"cached_tokens":-1}', None),
    (BOTH_SAID % '"completion_tokens_details":{"reasoning_tokens":0}', COUNTS),
    (BOTH_SAID % '"prompt_tokens":6', {"input": 6, "output": 2}),
    (json.dumps(DETAILS), DETAILED),
    ('{"prompt_tokens":0,"completion_tokens":0}', {"input": 0, "output": 0}),
    ('{"prompt_tokens":5}', None),
    ("{}", None),
    ("[]", None),
    ("7", None),
    ("null", None),
]


@pytest.mark.parametrize(("usage", "counts"), COUNT_TABLE)
def test_usage(usage: str, counts: dict[str, int] | None) -> None:
    """Only whole numbers from 0 to 10**9 count; zero is zero; all else is missing."""
    message = (
        '{"message":{"content":"hi","tool_calls":[{"function":{"name":"f","arguments":"{}"}}]}}'
    )
    body = f'{{"id":"c1","model":"m","choices":[{message}],"usage":{usage}}}'.encode()
    read = OPENAI.read(CHAT, body)
    _, tapped = run(
        "openai", chunk("hi", "stop"), b'data: {"choices":[],"usage":%s}\n\n' % usage.encode()
    )

    assert read.counts == tapped.counts == counts
    assert (read.model, read.provider_id) == ("m", "c1")
    assert read.output_text == ("" if counts else "hi\nf\n{}")
    assert tapped.output_text == ("" if counts else "hi")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", Usage()),
        (b"<html>", Usage()),
        (b"[]", Usage()),
        (b'{"a":' + b"[" * 100_000, Usage()),
        (b'{"id":5,"model":["m"],"service_tier":null}', Usage(finished=True)),
        (b'{"id":"c1","x":"\\ud83d","usage":{"prompt_tokens":5,"completion_tokens":2}}',
         Usage(provider_id="c1", counts=COUNTS, finished=True)),
        (b'{"error":{"message":"m"}}', Usage(finished=True, error=True)),
        (b'{"error":null}', Usage(finished=True)),
    ],
)  # fmt: skip
def test_odd_answers(body: bytes, expected: Usage) -> None:
    """An answer that is odd is read as far as it can be, and never fails."""
    assert OPENAI.read(CHAT, body) == expected


def test_headers() -> None:
    """The credential is a bearer token; no header is added."""
    assert OPENAI.credential("sk") == (b"authorization", b"Bearer sk")
    assert OPENAI.default_headers([]) == []


A, B, END = chunk("a"), chunk("b"), chunk(None, "stop")
ONE, TWO, TWO_END = chunk("a", "stop", 0), chunk("b", None, 1), chunk(None, "stop", 1)
FILTER = data({"id": "", "model": "", "choices": [], "prompt_filter_results": []})
BOTH = chunk("b", "stop", usage=USAGE)
TAIL = chunk("late")
ERROR = data({"error": {"message": "boom"}})
COMMENT = b": keep-alive\n\n"
HUGE = b"data: " + b"x" * EVENT_BYTES_MAX + b"\n\n"
WORD, LIST, HALF = data("garbage"), data("[1]"), data("{")
USED = spliced(USAGE_CHUNK)
ENDED = spliced(END)
COUNTED = {"counts": COUNTS, "finished": True}
NOBODY = {"model": None, "provider_id": None}

STREAMS: list[tuple[str, list[bytes], list[bytes], list[bytes], dict[str, Any]]] = [
    # name, the provider's events,
    # what the client gets, what it gets if it asked for usage, what usage says
    ("usual", [A, B, END, USAGE_CHUNK, DONE],
     [A, B, ENDED, DONE], [A, B, END, USED, DONE], COUNTED),
    ("no usage", [A, END, DONE],
     [A, ENDED, DONE], [A, ENDED, DONE], {"output_text": "a", "finished": True}),
    ("no [DONE]", [A, END, USAGE_CHUNK],
     [A, ENDED], [A, END, USED], COUNTED),
    ("cut after the finish", [A, END],
     [A, ENDED], [A, ENDED], {"output_text": "a"}),
    ("cut before the finish", [A, B],
     [A, B], [A, B], {"output_text": "ab"}),
    ("two choices", [ONE, TWO, TWO_END, USAGE_CHUNK, DONE],
     [ONE, TWO, spliced(TWO_END), DONE], [ONE, TWO, TWO_END, USED, DONE], COUNTED),
    ("usage with the finish", [A, BOTH, DONE],
     [A, spliced(BOTH), DONE], [A, spliced(BOTH), DONE], COUNTED),
    ("usage before the end", [A, USAGE_CHUNK, B, END, DONE],
     [A, B, ENDED, DONE], [A, USAGE_CHUNK, B, ENDED, DONE], COUNTED),
    ("usage, no finish", [A, USAGE_CHUNK, DONE],
     [A, DONE], [A, USED, DONE], COUNTED),
    ("usage twice", [A, END, USAGE_CHUNK, USAGE_CHUNK, DONE],
     [A, ENDED, DONE], [A, END, USED, USAGE_CHUNK, DONE], COUNTED),
    ("choices after usage", [A, END, USAGE_CHUNK, TAIL, DONE],
     [A, ENDED, TAIL, DONE], [A, END, USED, TAIL, DONE], COUNTED),
    ("comments", [COMMENT, A, END, COMMENT, USAGE_CHUNK, COMMENT, DONE],
     [COMMENT, A, ENDED, COMMENT, COMMENT, DONE],
     [COMMENT, A, END, COMMENT, USED, COMMENT, DONE], COUNTED),
    ("content filter first", [FILTER, A, END, FILTER, DONE],
     [FILTER, A, ENDED, FILTER, DONE], [FILTER, A, ENDED, FILTER, DONE],
     {"output_text": "a", "finished": True}),
    ("error event", [A, ERROR],
     [A, ERROR], [A, ERROR], {"output_text": "a", "error": True}),
    ("error after the finish", [A, END, ERROR],
     [A, ENDED, ERROR], [A, ENDED, ERROR], {"output_text": "a", "error": True}),
    ("[DONE] alone", [DONE],
     [DONE], [DONE], {"finished": True} | NOBODY),
    ("no JSON", [A, WORD, LIST, END, HALF, DONE],
     [A, WORD, LIST, ENDED, HALF, DONE], [A, WORD, LIST, ENDED, HALF, DONE],
     {"output_text": "a", "finished": True}),
    ("too long an event", [A, HUGE, END, USAGE_CHUNK, DONE],
     [A, HUGE, ENDED, DONE], [A, HUGE, END, USED, DONE], COUNTED),
    ("too much behind the finish", [A, END, HUGE, HUGE, DONE],
     [A, END, HUGE, HUGE, DONE], [A, END, HUGE, HUGE, DONE],
     {"output_text": "a", "finished": True}),
    ("empty", [], [], [], NOBODY),
]  # fmt: skip


@pytest.mark.parametrize(
    ("stream", "plain", "asked", "said"),
    [case[1:] for case in STREAMS],
    ids=[c[0] for c in STREAMS],
)
def test_streams(
    stream: list[bytes], plain: list[bytes], asked: list[bytes], said: dict[str, Any]
) -> None:
    """The result is on the last chunk with choices, or on the usage chunk if that was asked for."""
    expected = Usage(**({"model": "gpt-4o", "provider_id": "c1"} | said))
    for cuts in (stream, [b"".join(stream)]):
        assert run("openai", *cuts) == (b"".join(plain), expected)
        assert run("openai", *cuts, **WITH) == (b"".join(asked), expected)
        unspliced = b"".join(event for event in stream if event != USAGE_CHUNK)
        assert run("openai", *cuts, result=None)[0] == unspliced
        assert run("openai", *cuts, result=None, **WITH)[0] == b"".join(stream)


def test_when_events_go_out() -> None:
    """Until a finish reason every event goes out at once; then the latest with choices is held."""
    tap = OPENAI.tap(CHAT, PLAIN)
    steps = [
        (A, A, False),
        (END, b"", False),
        (TAIL, END, False),
        (COMMENT, b"", False),
        (USAGE_CHUNK, b"", True),
        (DONE, b"", True),
    ]
    for event, out, ready in steps:
        assert (tap.feed(event), tap.ready) == (out, ready)

    assert tap.splice(RESULT) == spliced(TAIL) + COMMENT + DONE
    assert tap.feed(COMMENT + USAGE_CHUNK + b"data: x") == COMMENT
    assert tap.finish() == b"data: x"
    assert tap.splice(RESULT) == b""


def test_odd_chunks() -> None:
    """Chunks of odd types are relayed as they are, and read as far as they can be."""
    odd = [
        data({"id": 7, "model": "m", "choices": [{"delta": {"content": ["a", {"text": "b"}]}}, 5]}),
        data({"choices": {"a": 1}}),
        data('{"choices":[{"delta":{"content":"\\ud83d"},"finish_reason":"stop"}]}'),
        data({"choices": [{"delta": None, "finish_reason": ""}], "usage": None}),
        data({"choices": [], "usage": USAGE, "service_tier": 5}),
    ]
    out, usage = run("openai", *odd, result=None)

    assert out == b"".join(odd[:-1])
    assert (usage.model, usage.provider_id, usage.counts) == ("m", None, COUNTS)


def test_delivered_text() -> None:
    """For an estimate, all that was delivered counts: text, refusals, reasoning, tool calls."""
    deltas = [
        {"content": "a", "refusal": "b", "reasoning_content": "c"},
        {"tool_calls": [{"function": {"name": "d", "arguments": "e"}}, {"function": None}]},
        {"function_call": {"name": "f", "arguments": None}},
    ]
    _, usage = run("openai", *(data({"choices": [{"delta": delta}]}) for delta in deltas))

    assert usage.output_text == "abcdef"


def test_delivered_text_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream without end costs no memory without end."""
    monkeypatch.setattr(holding_module, "OUTPUT_TEXT_MAX", 5)
    _, usage = run("openai", *(chunk("abc") for _ in range(4)))

    assert usage.output_text == "abcab"


def test_service_tier() -> None:
    """The tier that was used is the last one named."""
    stream = [
        chunk("a", service_tier="auto"),
        chunk(None, "stop", service_tier="default"),
        USAGE_CHUNK,
    ]
    assert run("openai", *stream)[1].service_tier == "default"


def test_a_loop_over_choices_works() -> None:
    """Whoever did not ask for usage can read `choices[0]` of every chunk."""
    out, _ = run("openai", A, END, USAGE_CHUNK, DONE)
    assert [item["choices"][0]["finish_reason"] for item in objects(out)] == [None, "stop"]
