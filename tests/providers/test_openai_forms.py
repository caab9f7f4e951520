"""OpenAI's smaller endpoints: embeddings, and the completions before chats."""

from __future__ import annotations

import json
from typing import Any

import pytest

from metering.providers.base import Usage
from tests.providers.replay import cases, objects, run, setting, tokens
from tests.standin.recordings import Recording

EMBEDDINGS, COMPLETIONS = "/v1/embeddings", "/v1/completions"
OPENAI, EMBED, _ = setting("openai", EMBEDDINGS)
COMPLETE = OPENAI.endpoint("POST", COMPLETIONS)


@pytest.mark.parametrize("recording", cases("openai", EMBEDDINGS, streamed=False))
def test_recorded_embeddings(recording: Recording) -> None:
    """The tokens of the input are all that costs."""
    usage = OPENAI.read(EMBED, recording.body)
    assert usage.counts == {"input": tokens(recording)["prompt_tokens"]}
    assert (usage.model, usage.finished) == (recording.request["model"], True)


INPUTS: list[tuple[Any, tuple[str, ...], int, int]] = [
    # input                   texts          tokens  how many
    ("hello", ("hello",), 0, 1),
    (["a", "b"], ("a", "b"), 0, 2),
    ([1, 2, 3], (), 3, 1),
    ([[1, 2], [3]], (), 3, 2),
    ([["a"]], ('[["a"]]',), 0, 1),
    (None, (), 0, 1),
    ([], (), 0, 1),
]


@pytest.mark.parametrize(("given", "texts", "counted", "size"), INPUTS)
def test_inputs(given: Any, texts: tuple[str, ...], counted: int, size: int) -> None:
    """Texts are left to the tokenizer, tokens are counted; a completion answers each of them."""
    body = json.dumps({"model": "m", "input": given, "prompt": given}, separators=(",", ":"))
    ask = OPENAI.ask(EMBED, body.encode())
    assert (ask.texts, ask.tokens, ask.max_output_tokens) == (texts, counted, 0)
    ask = OPENAI.ask(COMPLETE, body.encode())
    assert (ask.texts, ask.tokens, ask.choices, ask.max_output_tokens) == (texts, counted, size, 16)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{", Usage()),
        (b"{}", Usage(finished=True)),
        (b'{"model":"m","usage":{"prompt_tokens":-1}}', Usage(model="m", finished=True)),
        (b'{"model":"\\ud800","usage":{"prompt_tokens":3}}',
         Usage(model="?", counts={"input": 3}, finished=True)),
        (b'{"error":{"message":"m"}}', Usage(finished=True, error=True)),
    ],
)  # fmt: skip
def test_odd_embeddings(body: bytes, expected: Usage) -> None:
    """An answer that is odd is read as far as it can be, and never fails."""
    assert OPENAI.read(EMBED, body) == expected


def test_completions_that_are_thrown_away_cost_too() -> None:
    """`best_of` are made for each prompt, whatever `n` come back."""
    ask = OPENAI.ask(COMPLETE, b'{"model":"m","prompt":["a","b"],"n":2,"best_of":3,"max_tokens":5}')
    assert (ask.choices, ask.max_output_tokens) == (6, 5)


def test_completion_streams() -> None:
    """They are chats with texts: usage is asked for, and hidden from who did not ask."""
    ask = OPENAI.ask(COMPLETE, b'{"model":"m","prompt":"a","stream":true}')
    assert b'"stream_options":{"include_usage":true}' in (ask.changed_body or b"")
    chunks = [
        {"id": "cmpl-1", "choices": [{"text": "one", "finish_reason": None}]},
        {"id": "cmpl-1", "choices": [{"text": " two", "finish_reason": "stop"}]},
    ]
    total = {"id": "cmpl-1", "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}
    said = [b"data: " + json.dumps(it).encode() + b"\n\n" for it in (*chunks, total)]

    out, usage = run("openai", *said, b"data: [DONE]\n\n", path=COMPLETIONS)
    assert [("xproxy_result" in it, it["choices"]) for it in objects(out)] == [
        (False, chunks[0]["choices"]),
        (True, chunks[1]["choices"]),
    ]
    assert (usage.counts, usage.provider_id) == ({"input": 1, "output": 2}, "cmpl-1")
    _, cut = run("openai", *said[:2], path=COMPLETIONS)
    assert (cut.counts, cut.output_text) == (None, "one two")
