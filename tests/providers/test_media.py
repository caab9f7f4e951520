"""Images, audio, decisions and text completions: what is asked for and what was used."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import httpx
import pytest

from metering.core.result import splice_result
from metering.errors import InvalidRequest
from metering.providers import DIALECTS
from metering.providers.base import Ask, Usage
from tests.providers.replay import RESULT, objects, run, without_result

OPENAI, ANTHROPIC = DIALECTS["openai"], DIALECTS["anthropic"]
GENERATE, EDIT, SPEAK, HEAR, DECIDE = (
    OPENAI.endpoint("POST", "/v1/" + path)
    for path in (
        "images/generations",
        "images/edits",
        "audio/speech",
        "audio/transcriptions",
        "decisions",
    )
)
COMPLETE = ANTHROPIC.endpoint("POST", "/v1/complete")


def form(fields: list[tuple[str, Any]]) -> tuple[bytes, bytes]:
    """Body and content type of a form as httpx, and so the SDKs, send it; files are pairs."""
    parts = [(name, it if isinstance(it, tuple) else (None, it)) for name, it in fields]
    sent = httpx.Request("POST", "http://x", files=parts)
    return sent.read(), sent.headers["content-type"].encode()


def image_ask(**members: Any) -> Ask:
    """What a request for images asks for."""
    return OPENAI.ask(GENERATE, json.dumps({"prompt": "a boat", **members}).encode())


UNITS: list[tuple[dict[str, Any], dict[str, int]]] = [
    # members of the request                                  what it shows
    ({"model": "dall-e-2"}, {"images": 1, "image_1024x1024": 1}),
    ({"model": "dall-e-2", "size": "256x256", "n": 4}, {"images": 4, "image_256x256": 4}),
    ({"model": "dall-e-3"}, {"images": 1, "image_standard_1024x1024": 1}),
    ({"model": "dall-e-3", "size": "1024x1792"}, {"images": 1, "image_standard_1024x1792": 1}),
    ({"model": "dall-e-3", "quality": "hd"}, {"images": 1, "image_hd_1024x1024": 1}),
    ({"model": "my-deployment", "quality": "hd"}, {"images": 1, "image_hd_1024x1024": 1}),
    ({"model": "gpt-image-2", "size": "1536x864"}, {"images": 1}),
    ({"model": "gpt-image-2", "size": 5, "quality": "max"}, {"images": 1}),
]  # fmt: skip


@pytest.mark.parametrize(("members", "shown"), UNITS)
def test_images_by_size_and_quality(members: dict[str, Any], shown: dict[str, int]) -> None:
    """What is not said is what the provider takes; as many are charged as came."""
    ask = image_ask(**members)
    assert (ask.counted, ask.choices, ask.texts) == (shown, members.get("n", 1), ("a boat",))
    one = OPENAI.read(GENERATE, b'{"created":1,"data":[{"url":"u","b64_json":null}]}', ask)
    assert (one.counts, one.counted, one.finished) == (None, dict.fromkeys(shown, 1), True)
    none = OPENAI.read(GENERATE, b'{"data":"odd"}', ask)
    assert none.counted == dict.fromkeys(shown, 0)


IMAGE_USAGE: list[tuple[Any, dict[str, int] | None]] = [
    ({"input_tokens": 9, "output_tokens": 7}, {"input": 9, "output": 7, "output_image": 7}),
    (
        {
            "input_tokens": 9,
            "output_tokens": 7,
            "input_tokens_details": {"image_tokens": 5, "text_tokens": 4},
            "output_tokens_details": {"image_tokens": 6, "text_tokens": 1},
        },
        {"input": 9, "output": 7, "input_image": 5, "output_image": 6},
    ),
    (
        {
            "input_tokens": 9,
            "output_tokens": 0,
            "cached_tokens": 4,
            "cached_tokens_details": {"cached_image_tokens": 3},
        },
        {"input": 9, "output": 0, "cache_read": 4, "cache_read_image": 3},
    ),
    ({"input_tokens": 9, "output_tokens": 1.5}, None),
    ({"input_tokens": 9}, None),
    (None, None),
]


@pytest.mark.parametrize(("stated", "counts"), IMAGE_USAGE)
def test_images_by_token(stated: Any, counts: dict[str, int] | None) -> None:
    """Output that is not broken down is images."""
    body = json.dumps({"data": [{}], "usage": stated}).encode()
    assert OPENAI.read(GENERATE, body, image_ask(model="gpt-image-2")).counts == counts


def test_the_author_of_an_svg_is_another_model() -> None:
    """Its tokens are stated beside the picture's."""
    svg = {"model": "gpt-6-sol", "input_tokens": 5, "output_tokens": 9, "reasoning_tokens": 0}
    usage = OPENAI.read(GENERATE, json.dumps({"data": [], "svg_usage": svg}).encode())
    assert usage.other_models == {"gpt-6-sol": {"input": 5, "output": 9}}
    assert OPENAI.read(GENERATE, b"{}").other_models == {}


def test_an_image_needs_no_model() -> None:
    """The provider chooses where none is named; a wrong one is refused."""
    assert image_ask().model == image_ask(model=None).model == ""
    with pytest.raises(InvalidRequest, match="'model'"):
        image_ask(model=5)
    with pytest.raises(InvalidRequest, match="'n' must be 1 or more"):
        image_ask(n=0)


def test_a_form_is_read_as_json_is() -> None:
    """Text fields, numbers and flags; files beside them; of unknown fields the last."""
    body, kind = form(
        [
            ("model", "gpt-image-1.5"),
            ("n", "2"),
            ("stream", "true"),
            ("prompt", "a boat"),
            ("size", "1024x1024"),
            ("user", "a"),
            ("user", "b"),
            ("image[]", ("a.png", b"\x89PNG")),
            ("image[]", ("b.png", b"\r\n--x")),
        ]
    )
    ask = OPENAI.ask(EDIT, body, kind)
    assert (ask.model, ask.choices, ask.stream) == ("gpt-image-1.5", 2, True)
    assert (ask.texts, ask.body_bytes, ask.changed_body) == (("a boat",), len(body), None)


FORMS: list[tuple[list[tuple[str, Any]], str]] = [
    ([("model", "a"), ("model", "b")], "'model' must be sent once"),
    ([("model", "a"), ("n", "2"), ("n", "2")], "'n' must be sent once"),
    ([("model", "a"), ("n", "02")], "'n' must be a whole number"),
    ([("model", "a"), ("n", "²")], "'n' must be a whole number"),
    ([("model", "a"), ("n", "0")], "'n' must be 1 or more"),
    ([("model", "a"), ("stream", "yes")], "'stream' must be true or false"),
    ([("model", b"\xff")], "'model' must be UTF-8 text"),
    ([("model", "a"), ("prompt", "x" * (256 * 1024 + 1))], "'prompt' must be at most 262144"),
    ([("user", "a")] * 129, "not valid multipart"),
]


@pytest.mark.parametrize(("fields", "says"), FORMS, ids=[says for _, says in FORMS])
def test_a_form_that_says_two_things_is_refused(fields: list[tuple[str, Any]], says: str) -> None:
    """A provider might take the other one than we do."""
    body, kind = form(fields)
    with pytest.raises(InvalidRequest, match=says):
        OPENAI.ask(EDIT, body, kind)


@pytest.mark.parametrize("kind", [b"multipart/form-data", b"multipart/form-data; boundary=y"])
def test_a_form_without_its_boundary(kind: bytes) -> None:
    """What is no form of the kind it claims to be is refused, whole or not."""
    body, right = form([("model", "a")])
    for sent in (body, body[:-6]):
        with pytest.raises(InvalidRequest, match="not valid multipart"):
            OPENAI.ask(EDIT, sent, kind)
    with pytest.raises(InvalidRequest, match="not valid multipart"):
        OPENAI.ask(EDIT, body[:-6], right)


def test_speech_is_asked_in_characters() -> None:
    """Characters are code points of what is to be spoken, not of how."""
    body = {"model": "tts-1", "input": "né 🎨", "instructions": "softly", "stream_format": "audio"}
    ask = OPENAI.ask(SPEAK, json.dumps(body).encode())
    assert (ask.counted, ask.texts) == ({"input_characters": 4}, ("né 🎨", "softly"))
    assert (ask.plain, ask.stream) == (True, False)
    assert OPENAI.ask(SPEAK, b'{"model":"m","input":"a","stream_format":"sse"}').stream
    heard = OPENAI.read(SPEAK, b"RIFF", ask)
    assert heard == Usage(counted=ask.counted, output_audio=b"RIFF", finished=True)


HEARD: list[tuple[dict[str, Any], dict[str, int] | None, dict[str, int]]] = [
    # the answer                                                counts, what it shows
    ({"usage": {"type": "duration", "seconds": 9}}, {"audio_seconds": 9}, {}),
    ({"usage": {"type": "duration", "seconds": 8.47}}, {"audio_seconds": 9}, {}),
    ({"usage": {"type": "duration", "seconds": -1}}, None, {}),
    ({"usage": {"type": "duration", "seconds": "8"}}, None, {}),
    ({"usage": {"type": "duration", "seconds": 1e300}}, None, {}),
    ({"usage": {"type": "duration", "seconds": None}}, None, {}),
    ({"duration": 8.01}, None, {"audio_seconds": 9}),
    ({"duration": "long"}, None, {}),
    ({"usage": {"input_tokens": 14, "output_tokens": 45}}, {"input": 14, "output": 45}, {}),
    (
        {"usage": {"input_tokens": 14, "output_tokens": 45,
                   "input_token_details": {"audio_tokens": 10, "text_tokens": 4}}},
        {"input": 14, "output": 45, "input_audio": 10},
        {},
    ),
    ({"usage": {"input_tokens": True, "output_tokens": 45}}, None, {}),
    ({}, None, {}),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "counts", "shown"), HEARD)
def test_transcripts(
    answer: dict[str, Any], counts: dict[str, int] | None, shown: dict[str, int]
) -> None:
    """Begun seconds, or tokens; where they are not stated, what the answer shows."""
    usage = OPENAI.read(HEAR, json.dumps({"text": "ledger", **answer}).encode())
    assert (usage.counts, usage.counted, usage.finished) == (counts, shown, True)
    assert usage.output_text == ("" if counts else "ledger")


@pytest.mark.parametrize("kind", ["text", "srt", "vtt", "json"])
def test_transcripts_that_are_no_json(kind: str) -> None:
    """Their text is kept for an estimate, if they were asked for; else nobody can read them."""
    fields = [("model", "whisper-1"), ("file", ("a.wav", b"RIFF")), ("response_format", kind)]
    ask = OPENAI.ask(HEAR, *form(fields))
    assert (ask.audio, ask.plain) == (b"RIFF", kind != "json")
    usage = OPENAI.read(HEAR, b"So it began.\n", ask)
    plain = Usage(output_text="So it began.\n", finished=True)
    assert usage == (plain if ask.plain else Usage())


def test_decisions() -> None:
    """Questions are part of the prompt; usage is a response's."""
    body = {"model": "gpt-6-luna", "input": "a boat", "questions": [{"type": "predicate"}]}
    ask = OPENAI.ask(DECIDE, json.dumps(body).encode())
    assert ask.texts == ("a boat", '[{"type": "predicate"}]')
    stated = {"input_tokens": 9, "output_tokens": 2, "input_tokens_details": {"cached_tokens": 4}}
    usage = OPENAI.read(DECIDE, json.dumps({"model": "m", "usage": stated}).encode(), ask)
    assert usage.counts == {"input": 9, "output": 2, "cache_read": 4}


@pytest.mark.parametrize(
    ("asked", "made", "sessions"),
    [
        ({}, {}, {"container_1g": 1}),
        ({"memory_limit": "4g"}, {"memory_limit": "4g"}, {"container_4g": 1}),
        ({"memory_limit": "4g"}, {}, {"container_4g": 1}),
        ({"memory_limit": "3g"}, {"memory_limit": "16g"}, {"container_16g": 1}),
    ],
)
def test_containers(asked: dict[str, str], made: dict[str, str], sessions: dict[str, int]) -> None:
    """A container costs a session of its memory, as the answer says, or else the request."""
    endpoint = OPENAI.endpoint("POST", "/v1/containers")
    ask = OPENAI.ask(endpoint, json.dumps({"name": "c"} | asked).encode())
    usage = OPENAI.read(endpoint, json.dumps({"id": "cntr_1"} | made).encode(), ask)
    assert (usage.counted, usage.provider_id, usage.finished) == (sessions, "cntr_1", True)
    assert OPENAI.read(endpoint, b"[]", ask) == Usage()
    assert run("openai", b": x\n\n", path="/v1/containers", name="c")[1].counts is None


# Streams


def event(kind: str, **members: Any) -> bytes:
    """One event as OpenAI sends it."""
    data = json.dumps({"type": kind, **members}).encode()
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)


USED = {"input_tokens": 9, "output_tokens": 7}
PARTIAL = event("image_generation.partial_image", b64_json="AAAA", partial_image_index=0)
MADE = event("image_generation.completed", b64_json="A" * 2_000_000, usage=USED)
AUDIO = b64encode(b"RIFF").decode()
SPOKEN = event("speech.audio.delta", audio=AUDIO)
SAID = event("transcript.text.delta", delta="led") + event("transcript.text.delta", delta="ger")
STREAMS: list[tuple[str, bytes, dict[str, Any], dict[str, int]]] = [
    # path, the stream, members of the request, counts
    (
        "/v1/images/generations",
        PARTIAL + MADE,
        {"prompt": "a"},
        {"input": 9, "output": 7, "output_image": 7},
    ),
    (
        "/v1/images/generations",
        MADE + PARTIAL + MADE,
        {"prompt": "a", "n": 2},
        {"input": 18, "output": 14, "output_image": 14},
    ),
    (
        "/v1/audio/speech",
        SPOKEN + event("speech.audio.done", usage=USED),
        {"input": "ledger"},
        {"input": 9, "output": 7, "output_audio": 7},
    ),
    (
        "/v1/audio/transcriptions",
        SAID + event("transcript.text.done", text="ledger", usage=USED),
        {},
        {"input": 9, "output": 7},
    ),
]


@pytest.mark.parametrize(("path", "sent", "members", "counts"), STREAMS)
def test_streams(path: str, sent: bytes, members: dict[str, Any], counts: dict[str, int]) -> None:
    """The stream comes as it was, the result on its last event, wherever it is cut."""
    out, usage = run("openai", sent, path=path, **members)
    assert without_result(out) == sent
    assert ["xproxy_result" in it for it in objects(out)][-1:] == [True]
    assert sum("xproxy_result" in it for it in objects(out)) == 1
    assert (usage.counts, usage.finished) == (counts, True)
    for at in (*range(1, 90), len(sent) // 2, *range(len(sent) - 90, len(sent))):
        assert run("openai", sent[:at], sent[at:], path=path, **members) == (out, usage), at


def test_a_stream_that_does_not_end() -> None:
    """What came of it is kept for an estimate; what it should have become is missing."""
    _, spoken = run("openai", SPOKEN + SPOKEN, path="/v1/audio/speech", input="a")
    assert (spoken.counts, spoken.output_audio, spoken.finished) == (None, b"RIFFRIFF", False)
    odd = event("speech.audio.delta", audio="no base64!") + b": a comment\n\n"
    assert run("openai", odd, path="/v1/audio/speech", input="a")[1].output_audio == b""
    _, heard = run("openai", SAID, path="/v1/audio/transcriptions")
    assert (heard.counts, heard.output_text, heard.finished) == (None, "ledger", False)
    _, made = run("openai", MADE, path="/v1/images/generations", prompt="a", n=2)
    assert (made.counts, made.finished) == ({"input": 9, "output": 7, "output_image": 7}, False)


@pytest.mark.parametrize("usage", [None, {}, {"input_tokens": -1, "output_tokens": 2}, "odd"])
def test_a_stream_that_does_not_say_what_was_used(usage: Any) -> None:
    """It ended well, but its usage is not to be believed: what it shows is left."""
    sent = event("image_generation.completed", b64_json="A", usage=usage)
    sent += event("error", error={"message": "m"}) + b": a comment\n\n" + b"data: no JSON\n\n"
    out, found = run("openai", sent, path="/v1/images/generations", model="dall-e-2", prompt="a")
    assert without_result(out) == sent
    assert (found.counts, found.finished) == (None, True)
    assert found.counted == {"images": 1, "image_1024x1024": 1}


def test_speech_that_ends_without_usage() -> None:
    """It is estimated by what was heard, if there is not too much of it to keep."""
    out, usage = run("openai", SPOKEN + event("speech.audio.done"), path="/v1/audio/speech")
    assert (usage.counts, usage.output_audio, usage.finished) == (None, b"RIFF", True)
    assert b"xproxy_result" in out
    large = event("speech.audio.delta", audio=b64encode(bytes(600_000)).decode())
    heard = run("openai", *[large] * 16, path="/v1/audio/speech")[1].output_audio
    assert 8 << 20 <= len(heard) < 9_600_000


def test_no_answer_at_all() -> None:
    """What is no JSON was not asked for."""
    assert OPENAI.read(GENERATE, b"<html>", image_ask()) == Usage()


def test_an_error_in_the_stream() -> None:
    """It is noted, whatever its shape; a lone surrogate does not hide it."""
    for sent in (
        event("error", error={"message": "m"}),
        event("x", error={"message": "m"}),
        b'data: {"type":"error","delta":"\\ud800"}\n\n',
    ):
        assert run("openai", sent, path="/v1/audio/transcriptions")[1].error


COMPLETION = {"type": "completion", "id": "compl_1", "model": "claude-2.1"}


def said(text: str, stop: str | None = None) -> bytes:
    """One event of a text completion."""
    return event("completion", **COMPLETION, completion=text, stop_reason=stop)


def test_a_text_completion() -> None:
    """All of its text is kept: nobody else counts it."""
    body = {"model": "claude-2.1", "prompt": "\n\nHuman: a\n\nAssistant:"}
    ask = ANTHROPIC.ask(COMPLETE, json.dumps(body | {"max_tokens_to_sample": 7}).encode())
    assert (ask.max_output_tokens, ask.texts) == (7, (body["prompt"],))
    answer = COMPLETION | {"completion": " a boat", "stop_reason": "stop_sequence"}
    whole = json.dumps(answer).encode()
    usage = ANTHROPIC.read(COMPLETE, whole, ask)
    assert (usage.model, usage.provider_id, usage.output_text) == (
        "claude-2.1",
        "compl_1",
        " a boat",
    )
    assert usage.finished
    assert splice_result(whole, RESULT) is not None
    assert ANTHROPIC.read(COMPLETE, b"[]") == Usage()
    assert ANTHROPIC.read(COMPLETE, b'{"type":"error","id":NaN}').error


def test_a_text_completion_stream() -> None:
    """The event with a stop reason carries the result, wherever the stream is cut."""
    sent = event("ping") + said(" a") + said(" boat") + said("", "stop_sequence") + event("ping")
    out, usage = run("anthropic", sent, path="/v1/complete", prompt="a")
    assert without_result(out) == sent
    assert next(it for it in objects(out) if "xproxy_result" in it)["stop_reason"]
    assert (usage.output_text, usage.finished, usage.counts) == (" a boat", True, None)
    for at in range(1, len(sent)):
        cut = run("anthropic", sent[:at], sent[at:], path="/v1/complete", prompt="a")
        assert cut == (out, usage), at
    short = said(" a") + b"data: no JSON\n\n" + event("error")
    broken = run("anthropic", short, path="/v1/complete", prompt="a")[1]
    assert (broken.output_text, broken.finished, broken.error) == (" a", False, True)
