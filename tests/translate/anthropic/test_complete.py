"""Text completions, from before there were messages."""

from __future__ import annotations

import json
from typing import Any

import pytest

from metering.errors import InvalidRequest
from metering.translate import completions_to_complete
from metering.translate.base import Translated
from tests.providers.replay import events, objects
from tests.providers.replay import run as tapped
from tests.translate.anthropic.forms import (
    CREATED,
    LOOSE,
    STRICT,
    Completion,
    fits_openai,
    sse,
    streamed,
)

PROMPT = "\n\nHuman: hi\n\nAssistant:"


def ask(*, strict: bool = True, **asked: Any) -> Translated:
    """A text completion's request."""
    sent = {"model": "claude-2.1", "prompt": "hi", **asked}
    return completions_to_complete(json.dumps(sent).encode(), STRICT if strict else LOOSE)


# asked; what the body has; dropped; changed
MEMBERS: list[tuple[dict[str, Any], dict[str, Any], tuple[str, ...], tuple[str, ...]]] = [
    ({}, {}, (), ()),
    ({"prompt": ["hi"]}, {}, (), ()),
    ({"prompt": PROMPT}, {}, (), ()),
    ({"prompt": "\n\nHuman: hi"}, {}, (), ()),
    ({"max_tokens": 7}, {"max_tokens_to_sample": 7}, (), ()),
    ({"stop": "END"}, {"stop_sequences": ["END"]}, (), ()),
    ({"stop": ["a", " "]}, {"stop_sequences": ["a"]}, ("stop[1]",), ()),
    ({"temperature": 0.5, "top_p": 0.5}, {"temperature": 0.5, "top_p": 0.5}, (), ()),
    ({"temperature": 2, "top_k": 3}, {"temperature": 1, "top_k": 3}, (), ("temperature",)),
    ({"user": "u"}, {"metadata": {"user_id": "u"}}, (), ()),
    ({"stream": True}, {"stream": True}, (), ()),
    ({"n": 1, "best_of": 1, "echo": False, "suffix": "", "logprobs": None}, {}, (), ()),
    (
        {"n": 2, "best_of": 2, "echo": True, "suffix": "s", "logprobs": 1, "seed": 1},
        {},
        ("n", "best_of", "echo", "suffix", "logprobs", "seed"),
        (),
    ),
]


@pytest.mark.parametrize("row", MEMBERS, ids=lambda row: json.dumps(row[0])[:60])
def test_each_member_has_its_place(row: tuple[Any, ...]) -> None:
    """A prompt that is no dialogue becomes one; 16 tokens are OpenAI's own default."""
    asked, expected, dropped, changed = row
    said = ask(**asked)
    base = {"model": "claude-2.1", "prompt": PROMPT, "max_tokens_to_sample": 16}
    assert json.loads(said.body) == {**base, **expected}
    assert (said.dropped, said.changed) == (dropped, changed)


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"model": None}, "model"),
        ({"prompt": None}, "prompt"),
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": 1}, "prompt"),
        ({"max_tokens": "x"}, "max_tokens"),
        ({"temperature": "x"}, "temperature"),
        ({"stream": 1}, "stream"),
    ],
)
def test_what_makes_no_sense_is_refused(asked: dict[str, Any], field: str) -> None:
    """Several prompts and prompts of tokens too: there is one answer, and tokens are OpenAI's."""
    with pytest.raises(InvalidRequest) as fault:
        ask(**asked)
    assert fault.value.field == field


def completion(text: str, stop: str | None = None, **more: Any) -> dict[str, Any]:
    """An answer, or an event of one."""
    said = {"type": "completion", "id": "compl_1", "completion": text, "stop_reason": stop}
    return {**said, "model": "claude-2.1", **more}


@pytest.mark.parametrize(("stop", "reason"), [("stop_sequence", "stop"), ("max_tokens", "length")])
def test_a_completion_is_a_text_completion(stop: str, reason: str) -> None:
    """With no usage, as none is stated."""
    made = ask().answers.whole(json.dumps(completion(" Hi", stop)).encode())
    assert made is not None
    fits_openai(Completion, json.loads(made))
    assert json.loads(made) == {
        "id": "compl_1",
        "object": "text_completion",
        "created": CREATED,
        "model": "claude-2.1",
        "choices": [{"text": " Hi", "index": 0, "logprobs": None, "finish_reason": reason}],
    }


def test_what_is_not_strict_says_more() -> None:
    """The provider's own reason, and who it is."""
    made = ask(strict=False).answers.whole(json.dumps(completion("x", "max_tokens")).encode())
    assert made is not None
    read = json.loads(made)
    assert read["provider"] == "anthropic"
    assert read["choices"][0]["stop_reason"] == "max_tokens"


@pytest.mark.parametrize("body", [b"", b"[]", b'{"type":"error"}', b'{"completion":[]', b"\xff"])
def test_what_is_no_completion_cannot_be_read(body: bytes) -> None:
    """Then there is no answer."""
    assert ask().answers.whole(body) is None


EVENTS = (completion(" H"), {"type": "ping"}, completion("i"), completion("", "stop_sequence"))


def test_a_stream_of_completions() -> None:
    """The one with the reason is the last, and carries the result that the tap has put there."""
    spliced, _ = tapped("anthropic", sse(*EVENTS), path="/v1/complete", prompt="x")
    made = [
        json.loads(event.data)
        for event in events(streamed(ask(stream=True).answers.stream(), spliced))[:-1]
        if event.data
    ]
    fits_openai(Completion, made[-1], strict=False)  # the others' reason is null, as OpenAI's is
    assert "".join(one["choices"][0]["text"] for one in made) == " Hi"
    assert [one["choices"][0]["finish_reason"] for one in made] == [None, None, "stop"]
    assert ["xproxy_result" in one for one in made] == [False, False, True]


def test_cut_at_any_byte_the_same_comes_out() -> None:
    """And where it is cut before its last event, that is told as an error."""
    stream = sse(*EVENTS)
    expected = streamed(ask().answers.stream(), stream)
    assert expected.endswith(b"data: [DONE]\n\n")
    for at in range(len(stream)):
        assert streamed(ask().answers.stream(), stream[:at], stream[at:]) == expected
    for at in range(len(sse(*EVENTS[:-1]))):
        made = streamed(ask().answers.stream(), stream[:at], cut=True)
        assert objects(made)[-1]["error"]["code"] == "stream_cut"
        assert b"[DONE]" not in made


@pytest.mark.parametrize(
    ("broken", "code"),
    [
        (sse({"type": "error", "error": {"type": "api_error", "message": "x"}}), "api_error"),
        (b"data: nope\n\n", "stream_unreadable"),
    ],
)
def test_a_stream_that_fails_says_so_once(broken: bytes, code: str) -> None:
    """Then nothing more comes."""
    made = streamed(ask().answers.stream(), sse(*EVENTS[:1]) + broken + sse(*EVENTS), cut=True)
    assert [it["error"]["code"] for it in objects(made) if "error" in it] == [code]
    assert b"[DONE]" not in made


def test_errors_are_as_those_of_chats() -> None:
    """The provider's own words."""
    body = b'{"type":"error","error":{"type":"not_found_error","message":"gone"}}'
    assert json.loads(ask().answers.error(404, body))["error"]["message"] == "gone"
