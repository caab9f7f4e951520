"""A stream of OpenAI's in Anthropic's form: blocks one after the other, and an end that is one."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import anthropic
import pytest

from metering.core.sse import EVENT_BYTES_MAX
from tests.providers import replay
from tests.translate import claude

DONE = b"data: [DONE]\n\n"
RESULT = b'{ "cost":0.000000000001,"n":[1] }'
USAGE = {
    "prompt_tokens": 10,
    "completion_tokens": 3,
    "prompt_tokens_details": {"cached_tokens": 4},
}
COUNTS = {
    "input_tokens": 6,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 4,
    "output_tokens": 3,
}


def event(given: Any) -> bytes:
    """One event of a provider's."""
    return b"data: " + json.dumps(given).encode() + b"\n\n"


def chunk(delta: Any = None, finish: str | None = None, **more: Any) -> bytes:
    """A chunk with a delta."""
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish}
    return event({"id": "c1", "model": "gpt-4o", "choices": [choice], **more})


def call(arguments: str | None, index: Any = 0, **more: Any) -> dict[str, Any]:
    """What a delta says of a call."""
    function = {"arguments": arguments, **({"name": more.pop("name")} if "name" in more else {})}
    place = {"index": index} if index is not None else {}
    return {**place, **more, "function": function}


def calls(*given: dict[str, Any]) -> bytes:
    """A chunk of calls."""
    return chunk({"tool_calls": list(given)})


def begun(index: Any, call_id: str, arguments: str = "") -> dict[str, Any]:
    """The first that is said of a call: of the function named as its id."""
    return call(arguments, index, id=call_id, name=call_id)


USED = event({"id": "c1", "choices": [], "usage": USAGE})
STOPPED = chunk(finish="stop") + USED + DONE
CALLED = chunk(finish="tool_calls") + USED + DONE


def text(said: str) -> dict[str, Any]:
    """A block of text."""
    return {"type": "text", "text": said}


def thought(said: str) -> dict[str, Any]:
    """A block of thinking."""
    return {"type": "thinking", "thinking": said, "signature": ""}


def used(call_id: str, **given: Any) -> dict[str, Any]:
    """A block of a call."""
    return {"type": "tool_use", "id": call_id, "name": call_id, "input": given}


class Case(NamedTuple):
    """A stream, and the content and the reason to stop it comes to."""

    stream: bytes
    content: list[dict[str, Any]]
    reason: str = "end_turn"


A, B = used("a", x=1), used("b", y=2)
CASES = {
    "text": Case(
        chunk({"role": "assistant", "content": ""})
        + chunk({"content": "h"})
        + chunk({"content": "i"})
        + STOPPED,
        [text("hi")],
    ),
    "nothing": Case(chunk({"role": "assistant", "content": None}) + STOPPED, []),
    "reasoning": Case(
        chunk({"reasoning_content": "h"})
        + chunk({"reasoning": "m", "content": ""})
        + chunk({"content": "hi"})
        + chunk({"reasoning_content": "hm"})
        + STOPPED,
        [thought("hm"), text("hi"), thought("hm")],
    ),
    "refusal": Case(
        chunk({"refusal": "n"}) + chunk({"refusal": "o"}) + STOPPED, [text("no")], "refusal"
    ),
    "filtered": Case(chunk({"content": "hi"}, "content_filter") + DONE, [text("hi")], "refusal"),
    "length": Case(chunk({"content": "hi"}, "length") + USED + DONE, [text("hi")], "max_tokens"),
    "told to call": Case(calls(begun(0, "a", '{"x":1}')) + STOPPED, [A], "tool_use"),
    "call after call": Case(
        chunk({"content": "hi"})
        + calls(begun(0, "a"))
        + calls(call('{"x"'))
        + calls(call(":1}"))
        + calls(begun(1, "b"))
        + calls(call('{"y":2}', 1))
        + CALLED,
        [text("hi"), A, B],
        "tool_use",
    ),
    "all begun first": Case(
        calls(begun(0, "a"), begun(1, "b"))
        + calls(call('{"x":1}', 0))
        + calls(call('{"y":2}', 1))
        + CALLED,
        [A, B],
        "tool_use",
    ),
    "mixed": Case(
        calls(begun(0, "a", '{"x"'))
        + calls(begun(1, "b", '{"y'))
        + chunk({"content": "h"})
        + calls(call(":1}", 0))
        + calls(call('":2}', 1))
        + chunk({"content": "i"})
        + CALLED,
        [A, B, text("hi")],
        "tool_use",
    ),
    "the second first": Case(
        calls(begun(1, "b", '{"y":2}'), begun(0, "a", '{"x":1}')) + CALLED, [B, A], "tool_use"
    ),
    "text after a call": Case(
        calls(begun(0, "a", '{"x":1}')) + chunk({"content": "hi"}) + CALLED,
        [A, text("hi")],
        "tool_use",
    ),
    "space after the arguments": Case(
        calls(begun(0, "a", '{"x":1}')) + calls(begun(1, "b", '{"y":2}'), call(" ", 0)) + CALLED,
        [A, B],
        "tool_use",
    ),
    "all of index 0": Case(
        calls(begun(0, "a", '{"x":1}')) + calls(begun(0, "b", '{"y":2}')) + CALLED,
        [A, B],
        "tool_use",
    ),
    "the id again": Case(
        calls(begun(0, "a", '{"x"')) + calls(begun(0, "a", ":1}")) + CALLED, [A], "tool_use"
    ),
    "no index": Case(
        calls(begun(None, "a", '{"x"'), call(":1}", None))
        + calls(begun(None, "b", '{"y":2}'))
        + CALLED,
        [A, B],
        "tool_use",
    ),
    "no index, no ids": Case(
        calls(call('{"x":1}', None, name="f"), call("{}", None, name="f")) + CALLED,
        [
            {"type": "tool_use", "id": f"toolu_c1_{i}", "name": "f", "input": given}
            for i, given in enumerate(({"x": 1}, {}))
        ],
        "tool_use",
    ),
    "no arguments": Case(calls(begun(0, "a")) + CALLED, [used("a")], "tool_use"),
    "function_call": Case(
        chunk({"function_call": {"name": "f", "arguments": '{"x"'}})
        + chunk({"function_call": {"arguments": ":1}"}}, "function_call")
        + DONE,
        [{"type": "tool_use", "id": "toolu_c1_0", "name": "f", "input": {"x": 1}}],
        "tool_use",
    ),
    "a whole message": Case(
        event({"id": "c1", "choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]})
        + DONE,
        [text("hi")],
    ),
    "after the reason": Case(
        chunk({"content": "h"}, "stop") + chunk({"content": "i"}) + DONE, [text("h"), text("i")]
    ),
    "no reason": Case(chunk({"content": "hi"}) + DONE, [text("hi")]),
    "no [DONE]": Case(chunk({"content": "hi"}, "stop") + USED, [text("hi")]),
    "first of Azure's": Case(
        event({"id": "", "model": "", "choices": [], "prompt_filter_results": []})
        + chunk({"content": "hi"})
        + STOPPED,
        [text("hi")],
    ),
    "comments and noise": Case(
        b": PROCESSING\n\n" + event([]) + b"data: {\n\n" + chunk({"content": "hi"}) + STOPPED,
        [text("hi")],
    ),
    "CRLF": Case((chunk({"content": "hi"}) + STOPPED).replace(b"\n", b"\r\n"), [text("hi")]),
    "vLLM's stop": Case(
        event(
            {"choices": [{"delta": {"content": "hi"}, "finish_reason": "stop", "stop_reason": "X"}]}
        )
        + DONE,
        [text("hi")],
        "stop_sequence",
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_deltas_become_blocks(case: Case) -> None:
    """Each event is one of Anthropic's types, each block ends before the next begins, and
    Anthropic's SDK makes the message of them that OpenAI's client would."""
    out = claude.streamed([case.stream])
    open_block: int | None = None
    count = 0
    kinds = []
    for read in claude.events(out):
        kinds.append(read.type)
        if read.type == "content_block_start":
            assert (open_block, read.index) == (None, count)
            open_block, count = read.index, count + 1
        elif read.type == "content_block_delta":
            assert read.index == open_block
        elif read.type == "content_block_stop":
            assert read.index == open_block
            open_block = None
    assert open_block is None
    assert (kinds[0], kinds[-2:]) == ("message_start", ["message_delta", "message_stop"])
    message = claude.final(out)
    assert [it.to_dict(exclude_none=True) for it in message.content] == case.content
    assert message.stop_reason == case.reason


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_stream_may_be_cut_at_every_byte(case: Case) -> None:
    """The same bytes come out in total."""
    whole = claude.streamed([case.stream])
    for at in range(len(case.stream) + 1):
        assert claude.streamed([case.stream[:at], case.stream[at:]]) == whole
    assert claude.streamed(case.stream[at : at + 1] for at in range(len(case.stream))) == whole


def test_what_is_said_goes_on_at_once() -> None:
    """Each delta is out before the next comes in; only the end waits for the usage behind it."""
    stream = claude.translate(stream=True).answers.stream()
    assert stream.feed(chunk({"role": "assistant", "content": ""})).startswith(
        b"event: message_start\n"
    )
    assert b'"text":"hi"' in stream.feed(chunk({"content": "hi"}))
    assert b'"name":"a"' in stream.feed(calls(begun(0, "a")))
    assert rb'"partial_json":"{\"x\""' in stream.feed(calls(call('{"x"')))
    assert b":1}" in stream.feed(calls(call(":1}")))
    second = stream.feed(calls(begun(1, "b")))
    assert second.index(b"content_block_stop") < second.index(b'"name":"b"')
    assert b"content_block_stop" in stream.feed(chunk(finish="tool_calls"))
    assert stream.feed(USED) == b""
    assert stream.feed(DONE).endswith(b'data: {"type":"message_stop"}\n\n')
    assert stream.finish(cut=False) == stream.feed(b"data: {}\n\n") == b""


PLACES = {
    "its own chunk": USED,
    "with the last choice": chunk(finish="stop", usage=USAGE),
    "in each chunk": chunk({"content": ""}, usage={"prompt_tokens": 1}) + USED,
}


@pytest.mark.parametrize("usage", PLACES.values(), ids=PLACES)
def test_usage_is_read_wherever_it_stands(usage: bytes) -> None:
    """Hosts put it in a chunk of its own, on the last one, or on each."""
    ends = chunk({"content": "hi"}, "stop") + usage + DONE
    assert claude.final(claude.streamed([ends])).usage.to_dict() == COUNTS


def test_a_stream_without_usage_counts_nothing() -> None:
    """Anthropic's types need counts; where there are none they are 0."""
    usage = claude.final(claude.streamed([chunk({"content": "hi"}, "stop") + DONE])).usage
    assert (usage.input_tokens, usage.output_tokens) == (0, 0)


def result_on(given: bytes) -> bytes:
    """The same event with a result in it."""
    return given[:-3] + b',"xproxy_result":' + RESULT + b"}\n\n"


CARRIERS = {
    "usage": chunk({"content": "hi"}, "stop") + result_on(USED) + DONE,
    "choice": result_on(chunk({"content": "hi"}, "stop")) + DONE,
    "choice, usage unsaid": result_on(chunk({"content": "hi"}, "stop")) + USED + DONE,
    "never done": result_on(chunk({"content": "hi"}, "stop")),
    "laid out": (chunk({"content": "hi"}, "stop") + result_on(USED) + DONE).replace(
        b'"xproxy_result":', b'"xproxy_result":\ndata: '
    ),
}


@pytest.mark.parametrize("stream", CARRIERS.values(), ids=CARRIERS)
def test_the_result_rides_on_message_delta(stream: bytes) -> None:
    """Its bytes are the meter's, in the place where the meter puts it into Anthropic's own."""
    out = claude.streamed([stream])
    (carrier,) = [it for it in replay.events(out) if b"xproxy_result" in it.raw]
    assert carrier.event == b"message_delta"
    assert carrier.data.endswith(b'"xproxy_result":' + RESULT + b"}")
    assert json.loads(carrier.data)["usage"]


CUTS = {
    "nothing": (b"", False),
    "only [DONE]": (DONE, False),
    "no reason": (chunk({"content": "hi"}), False),
    "a block open": (calls(begun(0, "a", '{"x"'), begun(1, "b")), True),
    "after the reason": (chunk({"content": "hi"}, "stop"), True),
    "after the usage": (chunk({"content": "hi"}, "stop") + result_on(USED), True),
    "within an event": (chunk({"content": "hi"}) + USED[:-9], True),
}


@pytest.mark.parametrize(("stream", "cut"), CUTS.values(), ids=CUTS)
def test_a_cut_stream_is_an_error(stream: bytes, cut: bool) -> None:  # noqa: FBT001
    """What is missing is told, never as a proper end; a result that is there rides on the error."""
    out = claude.streamed([stream], cut=cut)
    assert b"message_delta" not in out
    assert b"message_stop" not in out
    last = replay.events(out)[-1]
    assert last.event == b"error"
    told = json.loads(last.data)
    assert told["error"]["type"] == "api_error"
    assert "cut off" in told["error"]["message"]
    assert ("xproxy_result" in told) is (b"xproxy_result" in stream)
    with pytest.raises(anthropic.APIStatusError, match="cut off"):
        claude.final(out)


def test_a_stream_that_was_done_is_not_cut() -> None:
    """A connection that breaks after the last event breaks nothing."""
    stream = chunk({"content": "hi"}) + STOPPED
    assert claude.streamed([stream], cut=True) == claude.streamed([stream])
    assert claude.streamed([stream[:-2]], cut=True) == claude.streamed([stream])


FAULTS = {
    "server_error": ({"message": "no", "type": "server_error", "code": None}, "api_error"),
    "rate limit": (
        {"message": "no", "type": "tokens", "code": "rate_limit_exceeded"},
        "rate_limit_error",
    ),
    "quota": ({"message": "no", "type": "insufficient_quota"}, "rate_limit_error"),
    "request": ({"message": "no", "type": "invalid_request_error"}, "invalid_request_error"),
    "status": ({"message": "no", "code": 503}, "overloaded_error"),
    "text": ("no", "api_error"),
}


@pytest.mark.parametrize(("given", "kind"), FAULTS.values(), ids=FAULTS)
def test_an_error_within_a_stream_ends_it(given: Any, kind: str) -> None:
    """It is told as Anthropic does, and what comes after it is not."""
    stream = chunk({"content": "hi"}) + event({"error": given}) + STOPPED
    out = claude.streamed([stream])
    last = replay.events(out)[-1]
    assert (last.event, json.loads(last.data)["error"]) == (
        b"error",
        {"type": kind, "message": "no"},
    )
    assert b"message_stop" not in out
    with pytest.raises(anthropic.APIStatusError, match="no"):
        claude.final(out)


@pytest.mark.parametrize("size", [EVENT_BYTES_MAX + 1, 1 << 16])
def test_an_event_too_long_to_read_is_an_error(size: int) -> None:
    """What it said is lost, so the stream must not look whole."""
    stream = chunk({"content": "hi"}) + chunk({"content": "x" * EVENT_BYTES_MAX}) + STOPPED
    out = claude.streamed(stream[at : at + size] for at in range(0, len(stream), size))
    assert b"too long" in out
    assert b"message_stop" not in out


def test_texts_keep_their_bytes() -> None:
    """Escapes are the provider's; lone surrogates, which no JSON may have, are replaced."""
    stream = (
        b'data: {"choices":[{"delta":{"content":"\\u00e9\\/"}}]}\n\n'
        b'data: {"choices":[{"delta":{"content":"\\ud83d\\ud83d\\ude00"},"x":NaN}]}\n\n' + STOPPED
    )
    out = claude.streamed([stream])
    assert rb'"text":"\u00e9\/"' in out
    assert rb'"text":"\ufffd\ud83d\ude00"' in out


def test_many_calls_at_once_take_no_longer() -> None:
    """Calls that are written mixed are looked at once each, not with every delta."""
    count = 2_000
    mixed = b"".join(calls(begun(i, f"c{i}", '{"x":"')) for i in range(count))
    rest = b"".join(calls(call('"}', i)) for i in range(count))
    message = claude.final(claude.streamed([mixed, rest, CALLED]))
    assert [it.to_dict(exclude_none=True) for it in message.content] == [
        used(f"c{i}", x="") for i in range(count)
    ]
