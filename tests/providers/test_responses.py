"""Responses: recorded and made up; what they ask, what they used, what carries the result."""

from __future__ import annotations

import json
from typing import Any

import pytest

from metering.errors import InvalidRequest
from metering.providers.answer import loose
from metering.providers.base import Usage
from tests.providers.replay import (
    body_of,
    cases,
    cuts,
    events,
    objects,
    run,
    setting,
    without_result,
)
from tests.standin.recordings import Recording

PATH, COMPACT = "/v1/responses", "/v1/responses/compact"
OPENAI, RESPONSES, _ = setting("openai", PATH)
JSON = cases("openai", PATH, streamed=False) + cases("openai", COMPACT, streamed=False)
STREAMS = cases("openai", PATH, streamed=True)
CUTS_MAX = 300


def read(answer: dict[str, Any]) -> Usage:
    """What a whole answer says."""
    return OPENAI.read(RESPONSES, json.dumps(answer).encode())


def expected_counts(answer: dict[str, Any]) -> dict[str, int]:
    """The counts of a recorded answer, worked out member by member, zeros left out."""
    usage, output = answer["usage"], answer["output"]
    into = usage["input_tokens_details"]
    searches = [it for it in output if it["type"] == "web_search_call"]
    counts = {
        "input": usage["input_tokens"],
        "output": usage["output_tokens"],
        "cache_read": into["cached_tokens"],
        "cache_write_5m": into.get("cache_write_tokens", 0),
        "reasoning": usage["output_tokens_details"]["reasoning_tokens"],
        "web_search": sum(it["action"]["type"] == "search" for it in searches),
        "file_search": sum(it["type"] == "file_search_call" for it in output),
        "container_1g": len({it["container_id"] for it in output if "container_id" in it}),
    }
    return {unit: count for unit, count in counts.items() if count or unit in ("input", "output")}


@pytest.mark.parametrize("recording", JSON)
def test_json_answers(recording: Recording) -> None:
    """Tokens and fees are read; an answer that is still being made says so."""
    endpoint = OPENAI.endpoint("POST", recording.path)
    answer = json.loads(recording.body)
    usage = OPENAI.read(endpoint, recording.body)

    assert usage.finished
    if recording.status != 200:
        assert (usage.counts, usage.error) == (None, True)
        return
    assert (usage.model, usage.provider_id) == (answer.get("model"), answer["id"])
    assert usage.service_tier == answer.get("service_tier")
    if answer.get("status") in ("queued", "in_progress"):
        assert (usage.counts, usage.pending) == (None, True)
        return
    assert usage.counts == expected_counts(answer)
    assert not usage.pending
    assert not usage.output_text


@pytest.mark.parametrize("recording", JSON + STREAMS)
def test_requests(recording: Recording) -> None:
    """Every recorded request is understood, and goes upstream as it came."""
    endpoint = OPENAI.endpoint("POST", recording.path)
    body, request = body_of(recording), recording.request
    ask = OPENAI.ask(endpoint, body)
    text = "\n".join(ask.texts)

    assert ask.model == request["model"]
    assert ask.stream is request.get("stream", False)
    assert OPENAI.upstream_body(ask, body) is body
    assert request.get("instructions", "") in text
    for tool in request.get("tools", ()):
        assert tool["type"] in text
    for item in request["input"] if isinstance(request["input"], list) else ():
        for member in ("content", "output", "arguments"):
            if isinstance(item.get(member), str):
                assert item[member] in text


@pytest.mark.parametrize("recording", STREAMS)
def test_streams(recording: Recording) -> None:
    """The stream comes as it was, the result on the terminal event."""
    out, usage = run("openai", recording.body, path=PATH)
    [last] = [it["response"] for it in objects(out) if "xproxy_result" in it]

    assert without_result(out) == recording.body
    assert (last["status"], usage.finished) == ("completed", True)
    assert usage.counts == expected_counts(last)
    assert (usage.model, usage.provider_id) == (last["model"], last["id"])


@pytest.mark.parametrize("recording", STREAMS)
def test_cuts(recording: Recording) -> None:
    """Cut anywhere, and into pieces, a stream gives the same bytes and the same usage."""
    body = recording.body
    whole = run("openai", body, path=PATH)

    assert run("openai", *(body[at : at + 7] for at in range(0, len(body), 7)), path=PATH) == whole
    for cut in cuts(body, CUTS_MAX):
        assert run("openai", body[:cut], body[cut:], path=PATH) == whole


@pytest.mark.parametrize("recording", STREAMS[:3])
def test_truncated_streams(recording: Recording) -> None:
    """A stream that ends anywhere loses nothing; what was delivered is kept for the estimate."""
    for cut in cuts(recording.body, CUTS_MAX // 4):
        sent = recording.body[:cut]
        out, usage = run("openai", sent, result=None, path=PATH)
        seen = [it for one in events(sent) if (it := loose(one.data))]
        ended = any(it["type"] == "response.completed" for it in seen)

        assert out == sent
        assert (usage.finished, usage.pending) == (ended, False)
        if not ended:
            deltas = [it["delta"] for it in seen if isinstance(it.get("delta"), str)]
            assert usage.output_text == "".join(deltas)


TOKENS = {"input_tokens": 9, "output_tokens": 4}
COUNTS = {"input": 9, "output": 4}
SEARCH = {"type": "web_search_call", "action": {"type": "search"}}
OPEN = {"type": "web_search_call", "action": {"type": "open_page"}}
IMAGES = {"input_tokens": 3, "output_tokens": 7, "output_tokens_details": {"image_tokens": 7}}
ANSWERS: list[tuple[dict[str, Any], dict[str, int] | None]] = [
    # members of the answer                                      counts
    ({"usage": TOKENS}, COUNTS),
    ({"usage": TOKENS, "output": [SEARCH, OPEN, SEARCH]}, COUNTS | {"web_search": 2}),
    ({"usage": TOKENS, "output": [{"type": "web_search_call"}]}, COUNTS | {"web_search": 1}),
    ({"usage": TOKENS, "output": [SEARCH | {"action": 5}]}, COUNTS | {"web_search": 1}),
    ({"usage": TOKENS, "output": [{"type": "file_search_call"}]}, COUNTS | {"file_search": 1}),
    ({"usage": TOKENS, "output": [SEARCH], "tool_usage": {"web_search": {"num_requests": 3}}},
     COUNTS | {"web_search": 3}),
    ({"usage": TOKENS, "output": [SEARCH], "tool_usage": {"web_search": {"num_requests": -3}}},
     COUNTS | {"web_search": 1}),
    ({"usage": TOKENS, "output": "odd", "tool_usage": "odd"}, COUNTS),
    ({"usage": TOKENS | {"output_tokens": 2.5}}, None),
    ({"usage": TOKENS | {"output_tokens": -1}}, None),
    ({"usage": TOKENS | {"input_tokens": True}}, None),
    ({"usage": None, "status": "completed"}, None),
    ({"usage": {}}, None),
    ({}, None),
]  # fmt: skip


@pytest.mark.parametrize(("members", "expected"), ANSWERS)
def test_counts(members: dict[str, Any], expected: dict[str, int] | None) -> None:
    """Tokens that can be believed, and the fees of the tools; a lone surrogate changes nothing."""
    answer = {"id": "resp_1", "model": "gpt-5", **members}

    assert read(answer).counts == expected
    odd = json.dumps(answer | {"metadata": {"a": "\ud800"}}).encode()
    assert OPENAI.read(RESPONSES, odd).counts == expected


@pytest.mark.parametrize(
    ("tools", "model"),
    [
        ([{"type": "image_generation", "model": "gpt-image-1.5"}], "gpt-image-1.5"),
        ([{"type": "web_search"}, {"type": "image_generation"}], "gpt-image-1"),
        ("odd", "gpt-image-1"),
        (None, "gpt-image-1"),
    ],
)
def test_images_are_another_models(tools: Any, model: str) -> None:
    """What the image tool used is priced as the model that the tool names."""
    usage = read({"usage": TOKENS, "tools": tools, "tool_usage": {"image_gen": IMAGES}})

    assert usage.counts == COUNTS
    assert usage.other_models == {model: {"input": 3, "output": 7, "output_image": 7}}
    nothing = IMAGES | {"input_tokens": 0, "output_tokens": 0, "output_tokens_details": None}
    assert not read({"usage": TOKENS, "tool_usage": {"image_gen": nothing}}).other_models


CODE = {"type": "code_interpreter_call", "container_id": "cntr_1"}
SHELL = {"type": "shell_call", "environment": {"type": "x", "container_id": "cntr_2"}}
AUTO = {"type": "code_interpreter", "container": {"type": "auto"}}
LARGE = {"type": "code_interpreter", "container": {"type": "auto", "memory_limit": "4g"}}
NAMED = {"type": "code_interpreter", "container": "cntr_1"}
OWN_SHELL = {"type": "shell", "environment": {"type": "container_auto", "memory_limit": "16g"}}
NAMED_SHELL = {
    "type": "shell",
    "environment": {"type": "container_reference", "container_id": "cntr_2"},
}
CONTAINERS: list[tuple[list[Any], Any, dict[str, int]]] = [
    # output              tools                    sessions
    ([CODE], [AUTO], {"container_1g": 1}),
    ([CODE, CODE], [AUTO], {"container_1g": 1}),
    ([CODE, CODE | {"container_id": "cntr_9"}], [LARGE], {"container_4g": 2}),
    ([CODE], [NAMED], {}),
    ([CODE, SHELL], [NAMED, OWN_SHELL], {"container_16g": 1}),
    ([SHELL], [NAMED_SHELL], {}),
    ([SHELL], [{"type": "shell", "environment": None}], {"container_1g": 1}),
    ([SHELL | {"environment": "odd"}], [OWN_SHELL], {}),
    ([CODE], "odd", {"container_1g": 1}),
    ([{"type": "message"}], [AUTO], {}),
]


@pytest.mark.parametrize(("output", "tools", "sessions"), CONTAINERS)
def test_containers(output: list[Any], tools: Any, sessions: dict[str, int]) -> None:
    """A container that the request did not name is a session of the response, by its memory."""
    usage = read({"usage": TOKENS, "output": output, "tools": tools})
    assert usage.counts == COUNTS | sessions


def test_an_svg_is_written_by_another_model() -> None:
    """Its author's tokens are in the item, and add up."""
    svg = {"model": "gpt-6-sol", "input_tokens": 5, "output_tokens": 9, "reasoning_tokens": 4}
    item = {"type": "image_generation_call", "svg_usage": svg | {"total_tokens": 14}}
    odd = {"type": "image_generation_call", "svg_usage": {"model": "m"}}
    usage = read({"usage": TOKENS, "output": [item, item, odd]})
    assert usage.other_models == {"gpt-6-sol": {"input": 10, "output": 18, "reasoning": 8}}


@pytest.mark.parametrize("status", ["queued", "in_progress"])
def test_background_answers_are_pending(status: str) -> None:
    """The request was only taken in: nobody knows yet what it comes to."""
    assert read({"id": "resp_1", "status": status, "usage": None}).pending
    assert not read({"id": "resp_1", "status": status, "usage": TOKENS}).pending


def test_what_was_said_is_kept_when_nobody_counted() -> None:
    """An answer without usage is estimated from its text."""
    message = {"type": "message", "content": [{"type": "output_text", "text": "ledger"}]}
    assert read({"status": "completed", "output": [message]}).output_text == "ledger"
    assert OPENAI.read(RESPONSES, b"no JSON") == Usage()


def event(kind: str, **members: Any) -> bytes:
    return b"data: " + json.dumps({"type": kind, **members}).encode() + b"\n\n"


@pytest.mark.parametrize("kind", ["completed", "incomplete", "failed", "cancelled"])
def test_every_terminal_event_carries_the_result(kind: str) -> None:
    """However it ended: what comes after it is relayed as well."""
    response = {"id": "resp_1", "model": "gpt-5", "usage": TOKENS}
    start, odd = event("response.created", response={"id": "resp_1"}), b": comment\n\n"
    last, after = event(f"response.{kind}", response=response), event("more")
    out, usage = run("openai", start + odd + b"data: odd\n\n" + last + after, path=PATH)

    assert without_result(out) == start + odd + b"data: odd\n\n" + last + after
    assert [it["type"] for it in objects(out) if "xproxy_result" in it] == [f"response.{kind}"]
    assert (usage.counts, usage.provider_id) == (COUNTS, "resp_1")


def test_streams_that_break() -> None:
    """An error event is noted; sound is no text; odd events are read as far as they can be."""
    parts = [
        event("response.output_text.delta", delta="one \ud800"),
        event("response.audio.delta", delta="UklGRg=="),
        event("error", message="overloaded"),
    ]
    out, usage = run("openai", b"".join(parts), path=PATH)

    assert out == b"".join(parts)
    assert usage.error
    assert not usage.finished
    assert (usage.counts, usage.output_text) == (None, "one ?")


ASKS: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    # members of the request                                               texts
    ({"input": "hello"}, ("hello",)),
    ({"input": [{"role": "user", "content": "hello"}]}, ("hello",)),
    ({"input": [{"content": [{"type": "input_text", "text": "a"}, {"image_url": "b"}]}]}, ("a",)),
    ({"input": [{"type": "function_call", "arguments": "{}", "name": "f"}]}, ("{}",)),
    ({"input": [{"type": "function_call_output", "output": "42"}]}, ("42",)),
    ({"input": [{"type": "reasoning", "summary": [{"text": "s"}]}]}, ("s",)),
    ({"input": [5]}, ("[5]",)),
    ({"input": "a", "instructions": "b", "tools": [{"type": "t"}]},
     ("a", "b", '[{"type":"t"}]')),
    ({"input": None}, ()),
]  # fmt: skip


@pytest.mark.parametrize(("members", "texts"), ASKS)
def test_prompts(members: dict[str, Any], texts: tuple[str, ...]) -> None:
    """All text that the model reads is counted, and no picture."""
    body = json.dumps({"model": "gpt-5", **members}, separators=(",", ":")).encode()
    assert OPENAI.ask(RESPONSES, body).texts == texts


def test_a_stored_prompt_brings_its_model() -> None:
    """Then the request need not name one; else it must."""
    ask = OPENAI.ask(RESPONSES, b'{"prompt":{"id":"pmpt_1"},"max_output_tokens":7}')
    assert (ask.model, ask.max_output_tokens) == ("", 7)
    for body in (b'{"prompt":null}', b"{}", b'{"prompt":{"id":"p"},"model":5}'):
        with pytest.raises(InvalidRequest) as refused:
            OPENAI.ask(RESPONSES, body)
        assert refused.value.field == "model"
