"""What becomes of a stream: typed events, each at once, and an end that says how it came about."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai import APIError

from metering.core.sse import MEDIA_BYTES_MAX
from tests.providers.replay import RESULT, events, objects
from tests.providers.replay import run as tapped
from tests.translate.anthropic.forms import FUNCTION, sse, streamed
from tests.translate.anthropic.responses import accumulated, client, respond, stream_of, told, whole
from tests.translate.anthropic.test_chat_streams import (
    FAILED,
    PING,
    START,
    STOP,
    Said,
    begin,
    delta,
    end,
    ended,
    say,
    think,
    use,
)

TEXT = [START, PING, *say(0, "Hi", " th\u00e4re"), ended(), STOP]


def types(made: list[Said]) -> list[str]:
    """The types of events, less what they all begin with."""
    return [one["type"].removeprefix("response.") for one in made]


def search(index: int) -> list[Said]:
    """A search of the web, by the provider."""
    block = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}
    found = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []}
    pieces = [delta(index, "input_json_delta", partial_json=it) for it in ('{"query":', '"q"}')]
    return [
        *(begin(index, **block), *pieces, end(index)),
        *(begin(index + 1, **found), end(index + 1)),
    ]


def test_a_stream_of_text() -> None:
    """The events that OpenAI sends, in its order; each says which part of what it goes on with."""
    made = told(stream_of(sse(*TEXT)))
    assert types(made) == [
        *("created", "in_progress", "output_item.added", "content_part.added"),
        *("output_text.delta", "output_text.delta", "output_text.done", "content_part.done"),
        *("output_item.done", "completed"),
    ]
    assert made[0]["response"]["status"] == "in_progress"
    assert made[0]["response"]["id"] == "msg_1"
    assert [one["delta"] for one in made[4:6]] == ["Hi", " th\u00e4re"]
    assert made[6]["text"] == "Hi th\u00e4re"
    assert {one["item_id"] for one in made[3:8]} == {"msg_1_0"}
    assert made[8]["item"] == made[9]["response"]["output"][0]
    assert made[9]["response"]["usage"]["total_tokens"] == 21


def test_each_event_goes_out_at_once() -> None:
    """No piece waits for the next one."""
    stream = respond(stream=True).answers.stream()
    for said, gives in (
        (START, ["created", "in_progress"]),
        (PING, []),
        (begin(0, type="text", text=""), ["output_item.added", "content_part.added"]),
        (delta(0, "text_delta", text="a"), ["output_text.delta"]),
        (delta(0, "text_delta", text=""), []),
        (end(0), []),
        (
            begin(1, type="tool_use", id="toolu_1", name="f", input={}),
            ["output_text.done", "content_part.done", "output_item.done", "output_item.added"],
        ),
        (delta(1, "input_json_delta", partial_json="{"), ["function_call_arguments.delta"]),
        (end(1), []),
        (ended(), []),
        (STOP, ["function_call_arguments.done", "output_item.done", "completed"]),
        (STOP, []),
    ):
        assert types(objects(stream.feed(sse(said)))) == gives
    assert stream.finish(cut=False) == b""


def test_thinking() -> None:
    """A summary as it comes, and sealed at its end; one without words is sealed alone."""
    quiet = [
        begin(1, type="thinking", thinking="", signature=""),
        delta(1, "signature_delta", signature="t="),
        delta(1, "signature_delta", signature="="),
        end(1),
    ]
    redacted = [begin(2, type="redacted_thinking", data="abc"), end(2)]
    made = told(stream_of(sse(START, *think(0), *quiet, *redacted, ended(), STOP)))
    assert types(made)[2:9] == [
        *("output_item.added", "reasoning_summary_part.added", "reasoning_summary_text.delta"),
        *("reasoning_summary_text.done", "reasoning_summary_part.done", "output_item.done"),
        "output_item.added",
    ]
    blocks = [
        {"type": "thinking", "thinking": "hm", "signature": "s=="},
        {"type": "thinking", "thinking": "", "signature": "t=="},
        {"type": "redacted_thinking", "data": "abc"},
    ]
    output = made[-1]["response"]["output"]
    back = respond(
        input=[{"role": "user", "content": "a"}, *output, {"role": "assistant", "content": "b"}]
    )
    assert json.loads(back.body)["messages"][1]["content"][:3] == blocks


def test_calls() -> None:
    """Their arguments in pieces; without any an empty object, and whole ones at once."""
    given = [*use(0, '{"a":', "1}"), *use(1), *use(2, input={"b": 2})]
    made = told(stream_of(sse(START, *given, ended("tool_use"), STOP)))
    output = made[-1]["response"]["output"]
    assert [it["arguments"] for it in output[:2]] == ['{"a":1}', "{}"]
    assert json.loads(output[2]["arguments"]) == {"b": 2}
    assert [it["call_id"] for it in output] == ["toolu_0", "toolu_1", "toolu_2"]
    done = [one for one in made if one["type"] == "response.function_call_arguments.done"]
    assert [one["arguments"] for one in done] == [it["arguments"] for it in output]
    pieces = [one["delta"] for one in made if one["type"].endswith("arguments.delta")]
    assert "".join(pieces) == "".join(it["arguments"] for it in output)


def test_a_search_and_what_it_found() -> None:
    """The search is an item of its own, and the pages are annotations."""
    cited = {"type": "web_search_result_location", "url": "https://x", "title": "X"}
    text = [
        *say(2, "a"),
        begin(3, type="text", text="", citations=[]),
        delta(3, "citations_delta", citation=cited),
        delta(3, "text_delta", text="b\U0001f600"),
        end(3),
    ]
    made = told(stream_of(sse(START, *search(0), *text, ended(), STOP)))
    assert types(made)[2:7] == [
        *("output_item.added", "web_search_call.in_progress", "web_search_call.searching"),
        *("web_search_call.completed", "output_item.done"),
    ]
    [called, message] = made[-1]["response"]["output"]
    assert called["action"]["query"] == "q"
    note = {"type": "url_citation", "title": "X", "url": "https://x"}
    assert message["content"][0]["annotations"] == [{**note, "start_index": 1, "end_index": 3}]
    [added] = [one for one in made if one["type"].endswith("annotation.added")]
    assert added["annotation"] == message["content"][0]["annotations"][0]


def test_a_stream_comes_to_what_a_whole_answer_is() -> None:
    """By the same blocks, to the last member."""
    given = [*think(0), *say(1, "a", "b"), *use(2, '{"a":1}')]
    blocks = [
        {"type": "thinking", "thinking": "hm", "signature": "s=="},
        {"type": "text", "text": "ab"},
        {"type": "tool_use", "id": "toolu_2", "name": "f2", "input": {"a": 1}},
    ]
    usage = {**START["message"]["usage"], "output_tokens": 6}
    message = {**START["message"], "content": blocks, "stop_reason": "max_tokens", "usage": usage}
    last = told(stream_of(sse(START, *given, ended("max_tokens"), STOP)))[-1]
    assert last["type"] == "response.incomplete"
    expected = whole(message)
    assert json.loads(expected["output"][2].pop("arguments")) == {"a": 1}
    assert last["response"]["output"][2].pop("arguments") == '{"a":1}'
    assert last["response"] == expected


def test_the_sdk_accumulates_a_stream() -> None:
    """Its own helper makes the response of it that the last event has."""
    given = sse(START, *think(0), *say(1, "a", "b"), *use(2, '{"a":1}'), ended("tool_use"), STOP)
    stream = stream_of(given, tools=[{"type": "function", **FUNCTION}])
    made = accumulated(stream)
    last = told(stream)[-1]["response"]
    assert [it["type"] for it in made["output"]] == ["reasoning", "message", "function_call"]
    assert made["output"][1]["content"][0]["text"] == "ab"
    assert made["output"][2]["arguments"] == '{"a":1}'
    assert made["usage"] == last["usage"]
    assert made["output"][0]["encrypted_content"] == last["output"][0]["encrypted_content"]


def test_a_refusal() -> None:
    """It is explained in a part of its own, and the answer is not complete."""
    stop = {"stop_reason": "refusal", "stop_details": {"type": "refusal", "explanation": "no"}}
    given = [START, *say(0, "a"), {**ended(), "delta": stop}, STOP]
    made = told(stream_of(sse(*given)))
    assert types(made)[-6:] == [
        *("content_part.added", "refusal.delta", "refusal.done", "content_part.done"),
        *("output_item.done", "incomplete"),
    ]
    assert made[-1]["response"]["incomplete_details"] == {"reason": "content_filter"}
    assert accumulated(stream_of(sse(*TEXT)))["status"] == "completed"


def failed(stream: bytes) -> tuple[Said, Said]:
    """How a stream has broken off: its `error`, and the response that has failed."""
    made = told(stream)
    assert types(made)[:2] == ["created", "in_progress"]
    assert types(made)[-2:] == ["error", "failed"]
    assert not {"response.completed", "response.incomplete"} & {one["type"] for one in made}
    return made[-2], made[-1]


@pytest.mark.parametrize("upto", range(len(TEXT)))
def test_a_stream_that_is_cut_is_never_complete(upto: int) -> None:
    """Wherever it breaks off, which the provider may do without a fault: it ends with an error and
    as failed, with what there is of it."""
    for cut in (True, False):
        error, last = failed(stream_of(sse(*TEXT[:upto]), cut=cut))
        assert error["code"] == "stream_cut"
        assert last["response"]["error"]["code"] == "server_error"
        assert last["response"]["status"] == "failed"
        output = last["response"]["output"]
        said = output[0]["content"][0]["text"] if output else ""
        assert "Hi th\u00e4re".startswith(said)
        assert all(it["status"] == "incomplete" for it in output)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("overloaded_error", "server_error"),
        ("rate_limit_error", "rate_limit_exceeded"),
        ("invalid_request_error", "invalid_prompt"),
    ],
)
def test_an_error_amid_a_stream(kind: str, code: str) -> None:
    """In the provider's words; nothing comes after it."""
    wrong = {"type": "error", "error": {"type": kind, "message": "m"}}
    stream = stream_of(sse(START, *say(0, "a"), *use(1, "{"), wrong, ended(), STOP))
    error, last = failed(stream)
    assert (error["code"], error["message"], error["param"]) == (kind, "m", None)
    assert last["response"]["error"] == {"code": code, "message": "m"}
    items = last["response"]["output"]
    assert [it["status"] for it in items] == ["completed", "incomplete"]


def test_the_sdk_does_not_take_a_failed_stream_for_an_answer() -> None:
    """Its helper raises."""
    with pytest.raises((RuntimeError, APIError)):
        accumulated(stream_of(sse(START, *say(0, "a"), FAILED)))
    read = client(stream_of(sse(FAILED)), "text/event-stream").responses
    made = [one.type for one in read.create(model="m", input="hi", stream=True)]
    assert made == ["response.created", "response.in_progress", "error", "response.failed"]


@pytest.mark.parametrize(
    "said",
    [
        b"data: {\n\n",
        b'data: {"type":"content_block_start","content_block":1}\n\n',
        b'data: {"type":"content_block_delta","delta":1}\n\n',
        b'data: "' + b"x" * MEDIA_BYTES_MAX,
    ],
)
def test_what_cannot_be_read_is_an_error(said: bytes) -> None:
    """Never passed over."""
    error, _ = failed(stream_of(sse(START) + said + sse(*TEXT[2:])))
    assert error["code"] == "stream_unreadable"


def test_the_result_is_on_the_last_event() -> None:
    """Where that of OpenAI's own streams is; whichever event of the provider's it came on."""
    result = json.loads(RESULT)
    with_it = sse(START, *say(0, "a"), ended(xproxy_result=result), STOP)
    later = sse(START, *say(0, "a"), ended(), {**STOP, "xproxy_result": result})
    wrong = sse(START, {**FAILED, "xproxy_result": result})
    cut = sse(START, ended(xproxy_result=result))
    for stream in (with_it, later, wrong, cut):
        made = [json.loads(event.data) for event in events(stream_of(stream))]
        assert made[-1]["xproxy_result"] == result
        assert not any("xproxy_result" in one for one in made[:-1])
    assert list(made[-1]) == ["type", "sequence_number", "response", "xproxy_result"]


def test_the_result_of_a_metered_stream() -> None:
    """As the provider's tap splices it in."""
    out, _ = tapped("anthropic", sse(*TEXT))
    made = objects(stream_of(out))
    assert made[-1]["xproxy_result"] == json.loads(RESULT)
    assert made[-1]["type"] == "response.completed"


def test_a_stream_without_its_beginning() -> None:
    """It is told of as far as it goes, under the name that was asked for."""
    made = told(stream_of(sse(delta(0, "text_delta", text="a"), ended(), STOP)))
    assert made[-1]["response"]["output"][0]["content"][0]["text"] == "a"
    assert made[-1]["response"]["model"] == "claude-sonnet-4-5"


def test_pieces_of_what_is_not_under_way_say_nothing() -> None:
    """Not of another block, and not of another kind."""
    strays: list[Any] = [
        delta(4, "input_json_delta", partial_json="{"),
        delta(0, "input_json_delta", partial_json="{"),
        delta(0, "thinking_delta", thinking="x"),
        delta(0, "signature_delta", signature="x"),
        delta(0, "what", text="x"),
        {"type": "what"},
    ]
    given = say(0, "a")
    made = told(stream_of(sse(START, *given[:2], *strays, given[2], ended(), STOP)))
    assert made == told(stream_of(sse(START, *given, ended(), STOP)))


def test_pieces_of_any_size_give_the_same() -> None:
    """To the byte, with every kind of line end."""
    given = sse(START, *think(0), *search(1), *say(3, "a", "\u00e4"), *use(4, "{}"), ended(), STOP)
    expected = stream_of(given)
    for stream in (given, given.replace(b"\n", b"\r\n"), given.replace(b"\n", b"\r")):
        for size in (1, 2, 3, 7, 64):
            cuts = [stream[at : at + size] for at in range(0, len(stream), size)]
            assert streamed(respond(stream=True).answers.stream(), *cuts) == expected
