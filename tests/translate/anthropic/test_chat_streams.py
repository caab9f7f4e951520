"""What becomes of a stream: each event at once, and an end that says how it came about."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from metering.core.sse import MEDIA_BYTES_MAX
from metering.translate.base import Stream
from tests.providers.replay import RESULT, objects
from tests.providers.replay import run as tapped
from tests.translate.anthropic.forms import (
    CREATED,
    FUNCTION,
    LOOSE,
    STRICT,
    ChatCompletionChunk,
    calls_of,
    chat,
    chunks,
    fits_openai,
    sse,
    streamed,
    text_of,
)

Said = dict[str, Any]
START: Said = {
    "type": "message_start",
    "message": {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-x",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {
            "input_tokens": 10,
            "cache_read_input_tokens": 5,
            "output_tokens": 1,
            "service_tier": "standard",
        },
    },
}
PING: Said = {"type": "ping"}
STOP: Said = {"type": "message_stop"}
FAILED: Said = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}


def begin(index: int, **block: Any) -> Said:
    """A block begins."""
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(index: int, kind: str, **said: Any) -> Said:
    """A block goes on."""
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **said}}


def end(index: int) -> Said:
    """A block ends."""
    return {"type": "content_block_stop", "index": index}


def ended(reason: str = "end_turn", **more: Any) -> Said:
    """The message ends."""
    return {
        "type": "message_delta",
        "delta": {"stop_reason": reason, "stop_sequence": None},
        "usage": {"input_tokens": None, "output_tokens": 6},
        **more,
    }


def say(index: int, *texts: str) -> list[Said]:
    """A block of text."""
    pieces = [delta(index, "text_delta", text=text) for text in texts]
    return [begin(index, type="text", text=""), *pieces, end(index)]


def use(index: int, *pieces: str, **more: Any) -> list[Said]:
    """A call of a tool."""
    block = {"type": "tool_use", "id": f"toolu_{index}", "name": f"f{index}", "input": {}, **more}
    deltas = [delta(index, "input_json_delta", partial_json=piece) for piece in pieces]
    return [begin(index, **block), *deltas, end(index)]


def think(index: int) -> list[Said]:
    """A block of thinking."""
    return [
        begin(index, type="thinking", thinking="", signature=""),
        delta(index, "thinking_delta", thinking="hm"),
        delta(index, "signature_delta", signature="s=="),
        end(index),
    ]


def opened(*, strict: bool = True, usage: bool = False, **asked: Any) -> Stream:
    """A stream that is about to be translated."""
    options = {"stream_options": {"include_usage": True}} if usage else {}
    return chat(STRICT if strict else LOOSE, stream=True, **options, **asked).answers.stream()


def told(*said: Said, **how: Any) -> list[Said]:
    """The chunks of a whole stream."""
    return chunks(streamed(opened(**how), sse(*said)))


def deltas(made: list[Said]) -> list[Said]:
    """The deltas of chunks."""
    return [choice["delta"] for one in made for choice in one["choices"]]


def test_a_stream_of_text() -> None:
    """The role first, then each piece, then why it ended; nothing for what says nothing, but for
    a comment where the provider says that it is still there."""
    made = streamed(opened(), sse(START, PING, *say(0, "Hi", " th\u00e4re"), ended(), STOP))
    head = f'data: {{"id":"msg_1","object":"chat.completion.chunk","created":{CREATED},'
    head += '"model":"claude-x","service_tier":"default","choices":[{"index":0,"delta":'
    quiet = ": ping"
    role = '{"role":"assistant","content":"","refusal":null}'
    assert made.decode().split("\n\n") == [
        head + role + ',"logprobs":null,"finish_reason":null}]}',
        quiet,
        head + '{"content":"Hi"},"logprobs":null,"finish_reason":null}]}',
        head + '{"content":" th\\u00e4re"},"logprobs":null,"finish_reason":null}]}',
        head + '{},"logprobs":null,"finish_reason":"stop"}]}',
        "data: [DONE]",
        "",
    ]
    for one in chunks(made):
        fits_openai(ChatCompletionChunk, one)


def test_each_event_goes_out_at_once() -> None:
    """No chunk waits for the next event: not the first one, and not the one with the reason."""
    stream = opened()
    for said, gives in (
        (START, 1),
        (PING, 1),
        (begin(0, type="text", text=""), 0),
        (delta(0, "text_delta", text="a"), 1),
        (end(0), 0),
        (ended(), 1),
        (STOP, 1),
    ):
        assert stream.feed(sse(said)).count(b"\n\n") == gives, said
    assert stream.finish(cut=False) == b""


def test_calls_are_numbered_among_themselves() -> None:
    """From 0, whatever stands between them; their arguments come in pieces as they are."""
    made = told(
        START,
        *say(0, "x"),
        *use(1, "", '{"a":', " 1.50}"),
        *think(2),
        *use(3, "{}"),
        ended("tool_use"),
        STOP,
    )
    assert calls_of(made) == [
        {"id": "toolu_1", "name": "f1", "arguments": '{"a": 1.50}'},
        {"id": "toolu_3", "name": "f3", "arguments": "{}"},
    ]
    assert made[-1]["choices"][0]["finish_reason"] == "tool_calls"
    for one in made:
        fits_openai(ChatCompletionChunk, one)


def test_a_call_without_arguments_has_an_empty_object() -> None:
    """Anthropic streams nothing then, and clients parse what they get."""
    assert calls_of(told(START, *use(0, ""), ended("tool_use"), STOP))[0]["arguments"] == "{}"


def test_an_input_that_comes_whole_goes_on_whole() -> None:
    """With the beginning of its block; pieces after it would say it twice."""
    made = told(START, *use(0, '{"b":2}', input={"a": 1}), ended("tool_use"), STOP)
    assert json.loads(calls_of(made)[0]["arguments"]) == {"a": 1}


def test_who_speaks_of_functions_gets_function_calls() -> None:
    """And one of them."""
    said = (START, *use(0, '{"a":', "1}"), *use(1, "{}"), ended("tool_use"), STOP)
    made = told(*said, functions=[FUNCTION])
    calls = [it["function_call"] for it in deltas(made) if "function_call" in it]
    assert calls[0] == {"name": "f0", "arguments": ""}
    assert "".join(it["arguments"] for it in calls) == '{"a":1}'
    assert made[-1]["choices"][0]["finish_reason"] == "function_call"


def test_thoughts_are_hidden_where_strict() -> None:
    """With no empty chunks in their place."""
    made = told(
        START, *think(0), begin(1, type="redacted_thinking", data="x"), end(1), ended(), STOP
    )
    assert len(made) == 2


def test_thoughts_and_blocks_are_shown_where_not() -> None:
    """`reasoning_content`, and each part as Portkey gives it, signatures too."""
    search = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
    said = (
        START,
        *think(0),
        *say(1, "a"),
        begin(2, **search),
        end(2),
        ended("stop_sequence"),
        STOP,
    )
    made = told(*said, strict=False)
    assert deltas(made)[1:] == [
        {
            "reasoning_content": "hm",
            "content_blocks": [{"index": 0, "delta": {"type": "thinking_delta", "thinking": "hm"}}],
        },
        {
            "content_blocks": [
                {"index": 0, "delta": {"type": "signature_delta", "signature": "s=="}}
            ]
        },
        {
            "content": "a",
            "content_blocks": [{"index": 1, "delta": {"type": "text_delta", "text": "a"}}],
        },
        {"content_blocks": [{"index": 2, "delta": search}]},
        {},
    ]
    last = made[-1]["choices"][0]
    assert (last["finish_reason"], last["stop_reason"]) == ("stop", "stop_sequence")
    assert {one["provider"] for one in made} == {"anthropic"}


def test_usage_comes_on_its_own_chunk_if_asked_for() -> None:
    """As OpenAI's does: all others say null; what came later and is not null holds."""
    *made, last = told(START, *say(0, "x"), ended(), STOP, usage=True)
    assert all(one["usage"] is None for one in made)
    assert last["choices"] == []
    assert last["usage"]["prompt_tokens"] == 15
    assert last["usage"]["completion_tokens"] == 6
    assert last["usage"]["total_tokens"] == 21
    assert made[-1]["choices"][0]["finish_reason"] == "stop"
    for one in (*made, last):
        fits_openai(ChatCompletionChunk, one)


def test_no_usage_comes_unasked() -> None:
    """Who reads `choices[0]` of every chunk finds one in every chunk."""
    made = told(START, *say(0, "x"), ended(), STOP)
    assert all(one["choices"] and "usage" not in one for one in made)


@pytest.mark.parametrize("usage", [True, False])
def test_the_result_is_on_the_last_chunk(usage: bool) -> None:  # noqa: FBT001
    """Where the tap has put it on the provider's last word, byte for byte, and once."""
    spliced, _ = tapped("anthropic", sse(START, *say(0, "x"), ended(), STOP), result=b'{"c":1.50}')
    made = streamed(opened(usage=usage), spliced)
    assert made.count(b"xproxy_result") == made.count(b',"xproxy_result":{"c":1.50}') == 1
    assert "xproxy_result" in chunks(made)[-1]


def test_a_result_that_comes_late_has_a_chunk_of_its_own() -> None:
    """Where another `message_delta` came before, which has been told already."""
    made = told(START, ended(), ended(xproxy_result={"a": 1}), STOP)
    assert [it["choices"][0]["finish_reason"] for it in made] == [None, "stop", "stop"]
    assert made[-1]["xproxy_result"] == {"a": 1}


def test_an_error_amid_a_stream_is_an_error() -> None:
    """With the provider's words; no finish reason and no `[DONE]`, which would be a proper end."""
    made = streamed(opened(), sse(START, *say(0, "x"), FAILED, ended(), STOP))
    last = objects(made)[-1]
    assert last["error"] == {
        "message": "Overloaded",
        "type": "overloaded_error",
        "param": None,
        "code": "overloaded_error",
    }
    assert b"[DONE]" not in made
    assert b'"finish_reason":"' not in made


WHOLE = sse(START, *say(0, "x"), ended(), STOP)


@pytest.mark.parametrize("cut", [True, False])
def test_a_stream_that_is_cut_says_so(cut: bool) -> None:  # noqa: FBT001
    """Wherever it is cut before its last event, by a fault or by its end; Portkey ends cleanly."""
    for at in range(WHOLE.index(b"event: message_stop")):
        made = streamed(opened(), WHOLE[:at], cut=cut)
        last = objects(made)[-1]
        assert last["error"]["code"] == "stream_cut", at
        assert last["error"]["type"] == "api_error"
        assert b"[DONE]" not in made
    assert b"stream_cut" not in streamed(opened(), WHOLE, cut=cut)


def test_a_result_of_a_stream_that_is_cut_is_on_the_error() -> None:
    """Where no chunk could carry it: the one with usage did not come."""
    said = sse(START, *say(0, "x"), ended(xproxy_result={"a": 1}))
    assert objects(streamed(opened(usage=True), said))[-1]["xproxy_result"] == {"a": 1}
    assert streamed(opened(), said).count(b"xproxy_result") == 1
    spliced, _ = tapped("anthropic", said.replace(b', "xproxy_result": {"a": 1}', b""))
    made = streamed(opened(usage=True), spliced, cut=True)
    assert objects(made)[-1]["xproxy_result"] == json.loads(RESULT)


def test_a_result_on_an_error_or_on_the_last_event() -> None:
    """Wherever one stands in the provider's stream, it is passed on."""
    failed = objects(streamed(opened(), sse({**FAILED, "xproxy_result": {"a": 1}})))[-1]
    assert failed["xproxy_result"] == {"a": 1}
    last = told(START, {**STOP, "xproxy_result": {"a": 1}}, usage=True)[-1]
    assert last["xproxy_result"] == {"a": 1}


def test_an_error_without_words_is_one_all_the_same() -> None:
    """It says that the stream cannot be read."""
    made = streamed(opened(), sse(START, {"type": "error", "error": 1}))
    assert objects(made)[-1]["error"]["code"] == "stream_unreadable"


def test_a_text_that_comes_with_its_beginning() -> None:
    """Is said; and one that has nothing but a beginning says nothing."""
    blocks = (begin(0, type="text", text="a"), end(0), begin(1, type="text"), end(1))
    for strict in (True, False):
        assert text_of(told(START, *blocks, ended(), STOP, strict=strict)) == "a"


def test_an_error_says_what_is_needed_once() -> None:
    """After an error event the end of the stream is no second fault."""
    assert streamed(opened(), sse(START, FAILED), cut=True).count(b'"error"') == 1


def pieces(stream: bytes) -> Iterator[tuple[bytes, ...]]:
    """A stream cut in two at every byte, and into single ones."""
    for at in range(len(stream)):
        yield stream[:at], stream[at:]
    yield tuple(stream[at : at + 1] for at in range(len(stream)))


@pytest.mark.parametrize("ends", [b"\n", b"\r\n", b"\r"], ids=["lf", "crlf", "cr"])
def test_cut_at_any_byte_the_same_comes_out(ends: bytes) -> None:
    """With every kind of line end, strict and not."""
    stream = sse(START, *think(0), *say(1, "\u00e4"), *use(2, '{"a":1}'), ended(), STOP)
    stream = stream.replace(b"\n", ends)
    for strict in (True, False):
        expected = streamed(opened(strict=strict, usage=True), stream)
        assert expected.endswith(b"data: [DONE]\n\n")
        for cuts in pieces(stream):
            assert streamed(opened(strict=strict, usage=True), *cuts) == expected


def test_events_over_several_lines_are_read() -> None:
    """And become one line, as ours are."""
    spread = json.dumps(delta(0, "text_delta", text="a"), indent=1).replace("\n", "\ndata: ")
    stream = sse(START) + f"data: {spread}\n\n".encode() + sse(ended(), STOP)
    assert text_of(chunks(streamed(opened(strict=False), stream))) == "a"


def test_a_reason_that_never_came_is_a_plain_stop() -> None:
    """The message has come to its end all the same."""
    assert told(START, STOP)[-1]["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("details", "delta"),
    [
        ({"type": "refusal", "explanation": "Not that."}, {"refusal": "Not that."}),
        ({"type": "refusal", "explanation": None}, {}),
        (None, {}),
    ],
)
def test_a_refusal_says_why(details: Any, delta: Said) -> None:
    """In the chunk with the reason, if anything is explained."""
    last = ended()
    last["delta"] = {"stop_reason": "refusal", "stop_details": details}
    choice = told(START, last, STOP)[-1]["choices"][0]
    assert choice["finish_reason"] == "content_filter"
    assert choice["delta"] == delta


@pytest.mark.parametrize(
    "broken",
    [
        b"data: {nope}\n\n",
        b'data: {"type":"content_block_delta","index":"x"}\n\n',
        b'data: {"type":"content_block_delta","index":0,"delta":1}\n\n',
        b'data: {"type":"content_block_start","index":0,"content_block":1}\n\n',
    ],
)
def test_what_cannot_be_read_is_not_passed_over(broken: bytes) -> None:
    """It may have been what was said: the answer is not complete then, and that is told."""
    made = streamed(opened(), sse(START) + broken + sse(ended(), STOP))
    assert objects(made)[-1]["error"]["code"] == "stream_unreadable"
    assert b"[DONE]" not in made


def test_an_event_beyond_any_size_is_not_passed_over() -> None:
    """What is too long to be read is told of, too."""
    long = sse(delta(0, "text_delta", text="x" * MEDIA_BYTES_MAX))
    made = streamed(opened(), sse(START), long, sse(ended(), STOP))
    assert objects(made)[-1]["error"]["code"] == "stream_unreadable"


def test_events_nobody_knows_yet_are_passed_over() -> None:
    """As Anthropic asks of its clients."""
    new: Said = {"type": "new_event", "x": 1}
    assert (
        len(told(START, new, begin(0, type="new", y=1), delta(0, "new_delta", z=1), ended(), STOP))
        == 2
    )
