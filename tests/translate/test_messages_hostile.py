"""Whatever comes in: a request is translated or refused, and an answer never raises."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from metering.errors import InvalidRequest
from metering.translate import messages_to_chat
from tests.providers import replay
from tests.translate import claude

MEMBERS = """
model messages system role content type text source data media_type title context tools name
input_schema tool_choice tool_use_id id input is_error thinking budget_tokens output_config effort
format schema metadata user_id stop_sequences stream max_tokens choices delta message finish_reason
index tool_calls function arguments usage prompt_tokens completion_tokens error xproxy_result
refusal reasoning_content properties required
"""
TEXTS = """
user assistant system text image document tool_use tool_result search_result thinking base64 url
file content enabled adaptive disabled json_schema auto any tool none o3 gpt-5.1 stop length
tool_calls custom high
"""
NAMES, WORDS = st.sampled_from(MEMBERS.split()), st.sampled_from(TEXTS.split())
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | WORDS | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=6),
    max_leaves=24,
)
BLOCKS = st.fixed_dictionaries({"type": WORDS}, optional={"text": st.text()}) | VALUES
TURNS = st.fixed_dictionaries({"role": WORDS, "content": st.lists(BLOCKS, max_size=4) | VALUES})
MORE = "system tools tool_choice thinking output_config metadata"
REQUESTS = st.fixed_dictionaries(
    {"model": WORDS | VALUES, "messages": st.lists(TURNS, max_size=4) | VALUES},
    optional=dict.fromkeys(MORE.split(), VALUES),
)
CHUNKS = st.lists(
    st.fixed_dictionaries(
        {"choices": st.lists(st.dictionaries(NAMES, VALUES, max_size=4), max_size=2) | VALUES},
        optional={"usage": VALUES, "error": VALUES, "xproxy_result": VALUES},
    )
    | VALUES,
    max_size=6,
)


def carried(body: bytes) -> None:
    """A request is carried as JSON, or refused with a remedy."""
    try:
        translated = messages_to_chat(body, claude.OPTIONS)
    except InvalidRequest as refused:
        said = refused
    else:
        json.loads(translated.body)
        return
    assert any(word in said.message for word in ("must be", "; "))


@given(REQUESTS | VALUES)
def test_any_json_is_carried_or_refused(body: Any) -> None:
    """No value of a member raises anything but InvalidRequest."""
    carried(msgspec.json.encode(body))


@given(st.binary() | st.text().map(str.encode))
def test_any_bytes_are_carried_or_refused(body: bytes) -> None:
    """Nor do bytes that are no JSON."""
    carried(body)


def answered(body: bytes, at: int) -> None:
    """As an answer, as an error, and as a stream in two pieces, bytes raise nothing."""
    answers = claude.translate().answers
    whole = answers.whole(body)
    assert whole is None or json.loads(whole)["type"] == "message"
    assert json.loads(answers.error(500, body))["type"] == "error"
    out = claude.streamed([body])
    assert claude.streamed([body[:at], body[at:]]) == out
    last = replay.events(out)[-1]
    assert last.event in (b"message_stop", b"error")
    for event in replay.events(out):
        assert json.loads(event.data)["type"] == (event.event or b"").decode()


@given(st.binary(), st.integers(0, 100))
def test_any_bytes_are_an_answer(body: bytes, at: int) -> None:
    """What is no answer is none, and what is no stream ends in an error."""
    answered(body, at)


@given(CHUNKS, st.integers(0, 300), st.booleans())
def test_any_json_is_an_answer(chunks: list[Any], at: int, done: bool) -> None:  # noqa: FBT001
    """Chunks of any shape become events of Anthropic's, each of them one that can be read."""
    for chunk in chunks:
        answered(json.dumps(chunk).encode(), at)
    stream = b"".join(b"data: " + json.dumps(it).encode() + b"\n\n" for it in chunks)
    answered(stream + b"data: [DONE]\n\n" * done, at)
