"""Images, speech, transcripts and text completions through the real clients, to the pico.

The bill is the stand-in's own, worked out from its own prices.
"""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.acceptance import clients
from tests.acceptance.tenant import ANTHROPIC, OPENAI, Tenant, new_tenant
from tests.standin.ledger import Entry
from tests.standin.media import tone
from tests.standin.process import Standin

PROMPT = "A harbour at dusk, in the manner of an old engraving."
PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40
LIMITED = {"xProxy-Limit-IDs": "team"}
SPEECH, TRANSCRIBE = OPENAI + "/audio/speech", OPENAI + "/audio/transcriptions"


@pytest.fixture
def caller(tenant: Tenant) -> Tenant:
    """The tenant with one blocking limit of a dollar."""
    tenant.limit("team")
    return tenant


def control(**members: Any) -> dict[str, str]:
    """The headers of a call that names the limit and tells the stand-in how to answer."""
    return LIMITED | {"x-standin": json.dumps(members)}


def billed(standin: Standin) -> Entry:
    """The only call in the provider's books."""
    standin.wait_idle()
    (entry,) = standin.ledger()
    assert entry.cost_pico
    return entry


def agree(tenant: Tenant, standin: Standin, result: Any = None) -> dict[str, Any]:
    """Row, limit, result and the provider's own bill say the same; gives the row."""
    row, entry = tenant.row(), billed(standin)
    assert (row["status"], row["pricing"]) == ("ok", "priced"), row
    assert row["cost_pico"] == str(entry.cost_pico)
    assert not row["estimated"]
    charged = tenant.totals("team")["cost"]["total"]["base"]
    assert int(charged.scaleb(12)) == entry.cost_pico
    if result is not None:
        assert round(result["cost"]["total"]["base"] * 10**12) == entry.cost_pico
    return row


# model, size, quality, n
IMAGES: list[tuple[str, str | None, str | None, int]] = [
    ("dall-e-2", "256x256", None, 1),
    ("dall-e-2", "512x512", None, 3),
    ("dall-e-2", None, None, 2),
    ("dall-e-3", None, None, 1),
    ("dall-e-3", "1024x1792", "standard", 1),
    ("dall-e-3", "1024x1024", "hd", 1),
    ("dall-e-3", "1792x1024", "hd", 1),
    ("gpt-image-1.5", "1024x1024", "high", 1),
    ("gpt-image-2", "1536x1024", None, 4),
]


@pytest.mark.parametrize(("model", "size", "quality", "count"), IMAGES)
def test_images_by_size_quality_and_token(
    model: str, size: str | None, quality: str | None, count: int, caller: Tenant, standin: Standin
) -> None:
    """Each image at its price, or its tokens; as many as came."""
    asked = {name: it for name, it in (("size", size), ("quality", quality)) if it}
    with clients.openai_client(caller) as client:
        answer = client.images.generate(
            model=model,
            prompt=PROMPT,
            n=count,
            extra_headers=LIMITED,
            **asked,  # type: ignore[call-overload]
        )
    assert len(answer.data) == count
    agree(caller, standin, answer.model_extra["xproxy_result"])


@pytest.mark.parametrize("size", [60, 3_000_000])
def test_an_image_stream(size: int, caller: Tenant, standin: Standin) -> None:
    """Partial images come at once; the last event carries the result, however large its image."""
    with clients.openai_client(caller) as client:
        stream = client.images.generate(
            model="gpt-image-1.5",
            prompt=PROMPT,
            stream=True,
            partial_images=1,
            extra_headers=control(image_bytes=size),
        )
        events = [event.to_dict() for event in stream]
    assert [event["type"] for event in events] == [
        "image_generation.partial_image",
        "image_generation.completed",
    ]
    assert len(str(events[-1]["b64_json"])) > size
    agree(caller, standin, events[-1]["xproxy_result"])


def test_an_edit_is_a_form(caller: Tenant, standin: Standin) -> None:
    """Pictures are sent as they are, and counted as the provider counts them."""
    with clients.openai_client(caller) as client:
        answer = client.images.edit(
            model="gpt-image-1.5",
            image=[("a.png", PICTURE), ("b.png", PICTURE)],
            prompt=PROMPT,
            extra_headers=LIMITED,
        )
    row = agree(caller, standin, (answer.model_extra or {})["xproxy_result"])
    assert row["units"]["input_image"] == 646
    assert row["units"]["output_image"] == 1056
    assert row["endpoint"] == "/v1/images/edits"


@pytest.mark.parametrize("model", ["tts-1", "tts-1-hd"])
def test_speech_by_characters(model: str, caller: Tenant, standin: Standin) -> None:
    """Sound comes byte for byte; its cost is known before it and stands in the headers."""
    text = PROMPT + " Ångström, 東京, 🎨."
    with clients.openai_client(caller) as client:
        answer = client.audio.speech.with_raw_response.create(
            model=model, voice="alloy", input=text, extra_headers=LIMITED
        )
    seconds = -(-len(text) // 16)
    assert answer.content == tone(seconds)
    assert answer.headers["content-type"] == "audio/wav"
    row = agree(caller, standin)
    assert row["units"] == {"input_characters": len(text)}
    assert int(float(answer.headers["xproxy-cost"]) * 10**12 + 0.5) == int(row["cost_pico"])
    assert answer.headers["xproxy-limits"] == "team=ok"


def test_speech_in_tokens(caller: Tenant, standin: Standin) -> None:
    """As events, speech ends with its usage."""
    with (
        clients.openai_client(caller) as client,
        client.audio.speech.with_streaming_response.create(
            model="gpt-4o-mini-tts",
            voice="alloy",
            input=PROMPT,
            stream_format="sse",
            extra_headers=LIMITED,
        ) as answer,
    ):
        events = [line for line in answer.iter_lines() if line.startswith("data: ")]
    last = json.loads(events[-1].removeprefix("data: "))
    agree(caller, standin, last["xproxy_result"])


def test_speech_that_states_nothing(caller: Tenant, standin: Standin) -> None:
    """As sound it says nothing of its tokens: they are estimated by how long it lasts."""
    body = {"model": "gpt-4o-mini-tts", "voice": "alloy", "input": PROMPT}
    answer = caller.post(SPEECH, body, LIMITED)
    assert answer.content == tone(4)
    row = caller.row()
    assert row["estimated"]
    assert row["units"]["output_audio"] == 80
    theirs = billed(standin).cost_pico or 0
    assert abs(int(row["cost_pico"]) - theirs) < theirs // 100
    assert caller.result(row["request_id"])["cost"]["total"]["base"] > 0


# model, response format, whether the answer says what was used
TRANSCRIPTS = [
    ("whisper-1", "json", True),
    ("whisper-1", "verbose_json", True),
    ("whisper-1", "text", False),
    ("whisper-1", "srt", False),
    ("gpt-4o-transcribe", "json", True),
]


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # as OpenAI calls translations
@pytest.mark.parametrize("kind", ["transcriptions", "translations"])
@pytest.mark.parametrize(("model", "form", "stated"), TRANSCRIPTS)
def test_transcripts(
    kind: str, model: str, form: Any, caller: Tenant, standin: Standin, *, stated: bool
) -> None:
    """Begun seconds, or tokens; where the answer is no JSON, by how long the recording lasts."""
    with clients.openai_client(caller) as client:
        heard = getattr(client.audio, kind).with_raw_response.create(
            model=model, file=("a.wav", tone(37)), response_format=form, extra_headers=LIMITED
        )
    if stated:
        row = agree(caller, standin, heard.http_response.json()["xproxy_result"])
        assert "output_text" in row["units"] or row["units"] == {"audio_seconds": 37}
        return
    row = caller.row()
    assert (row["estimated"], row["units"]) == (True, {"audio_seconds": 37})
    assert row["cost_pico"] == str(billed(standin).cost_pico)
    assert heard.headers["xproxy-cost"]
    assert "xproxy_result" not in heard.text


def test_silence_is_an_answer(caller: Tenant) -> None:
    """A transcript of nothing has no text, and is charged for how long that lasted."""
    answer = caller.post(
        TRANSCRIBE,
        headers=control(body_bytes=0, content_type="text/plain"),
        data={"model": "whisper-1", "response_format": "text"},
        files={"file": ("a.wav", tone(20))},
    )
    assert (answer.status_code, answer.content) == (200, b""), answer.text
    assert caller.row()["units"] == {"audio_seconds": 20}


def test_a_duration_without_usage(caller: Tenant, standin: Standin) -> None:
    """An answer that says how long the recording is says what it costs: begun seconds."""
    answer = caller.post(
        TRANSCRIBE,
        headers=control(wrong_usage="missing"),
        data={"model": "whisper-1", "response_format": "verbose_json"},
        files={"file": ("a.wav", tone(20))},
    )
    assert answer.json()["duration"] == 19.75
    assert agree(caller, standin)["units"] == {"audio_seconds": 20}


def test_a_transcript_stream(caller: Tenant, standin: Standin) -> None:
    """The event that ends it has the usage and carries the result."""
    with clients.openai_client(caller) as client:
        stream = client.audio.transcriptions.create(
            model="gpt-4o-transcribe", file=("a.wav", tone(3)), stream=True, extra_headers=LIMITED
        )
        events = [event.to_dict() for event in stream]
    assert [event["type"] for event in events] == ["transcript.text.delta", "transcript.text.done"]
    agree(caller, standin, events[-1]["xproxy_result"])


@pytest.mark.parametrize("stream", [False, True])
def test_text_completions_of_anthropic(caller: Tenant, standin: Standin, *, stream: bool) -> None:
    """They state no usage: it is counted, and says so."""
    body = {"model": "claude-2.1", "prompt": f"\n\nHuman: {PROMPT}\n\nAssistant:"}
    body |= {"max_tokens_to_sample": 50, "stream": stream}  # type: ignore[dict-item]
    answer = caller.post(ANTHROPIC + "/v1/complete", body, LIMITED)
    row = caller.row()
    result = {"request_id": row["request_id"]}
    carriers = [it for it in answer.text.splitlines() if "xproxy_result" in it]
    assert len(carriers) == 1
    carrier = json.loads(carriers[0].removeprefix("data: "))
    assert carrier["stop_reason"] == "stop_sequence"
    assert carrier["xproxy_result"].items() >= result.items()
    assert (row["estimated"], row["pricing"], row["model"]) == (True, "priced", "claude-2.1")
    assert row["provider_id"] == billed(standin).id
    assert min(row["units"]["input_text"], row["units"]["output_text"]) > 5


BAD_FORMS: list[tuple[dict[str, Any], str, str]] = [
    ({"data": {"model": "whisper-1"}, "content": b""}, "", "invalid_json"),
    ({"files": {"file": b"x"}}, "model", "required_field_missing"),
    (
        {"files": [("model", (None, "whisper-1")), ("model", (None, "whisper-2"))]},
        "model",
        "invalid_request_field",
    ),
    ({"files": {"model": (None, b"\xff\xfe")}}, "model", "invalid_request_field"),
    (
        {
            "content": b"--x\r\nnonsense",
            "headers": {"content-type": "multipart/form-data; boundary=x"},
        },
        "",
        "invalid_form",
    ),
    ({"content": b"", "headers": {"content-type": "multipart/form-data"}}, "", "invalid_form"),
]


@pytest.mark.parametrize(("sent", "field", "code"), BAD_FORMS, ids=lambda it: str(it)[:40])
def test_a_form_that_cannot_be_read(
    sent: dict[str, Any], field: str, code: str, caller: Tenant, standin: Standin
) -> None:
    """400 that names the field and what to do; nothing is forwarded, nothing charged."""
    headers = LIMITED | sent.pop("headers", {})
    sent.pop("data", None) if "content" in sent else None
    answer = caller.post(TRANSCRIBE, headers=headers, **sent)
    assert answer.status_code == 400, answer.text
    assert answer.json()["xproxy_error"]["code"] == code
    assert not field or f"'{field}'" in answer.json()["message"]
    assert standin.stats()["calls"] == 0
    assert caller.totals("team")["requests"]["total"] == 0


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (SPEECH, {"model": "tts-1", "voice": "a", "input": "x" * 1_000}),
        (OPENAI + "/images/generations", {"model": "dall-e-3", "prompt": PROMPT}),
    ],
)
def test_what_cannot_be_paid_is_not_made(
    path: str, body: dict[str, Any], tenant: Tenant, standin: Standin
) -> None:
    """A hard cap knows what characters and images cost: refused before, admitted where it fits."""
    for name, usd in (("small", 0.0149), ("large", 0.05)):
        members = {"limit_id": name, "limit_name": name, "max": usd, "hard_cap": True}
        tenant.manage("POST", "limits", members | {"limit_type": "block"})
    refused = tenant.post(path, body, {"xProxy-Limit-IDs": "small"})
    assert refused.status_code == 400
    assert refused.json()["xproxy_error"]["code"] == "limit_reached"
    assert standin.stats()["calls"] == 0
    assert tenant.post(path, body, {"xProxy-Limit-IDs": "large"}).status_code == 200


def test_a_container_costs_a_session(caller: Tenant) -> None:
    """One that is made by itself is charged by its memory, as the fees of its provider say."""
    answer = caller.post(OPENAI + "/containers", {"name": "c", "memory_limit": "4g"}, LIMITED)
    row = caller.row()
    assert answer.json()["xproxy_result"]["cost"]["total"]["base"] == 0.12
    assert (row["units"], row["cost_pico"]) == ({"container_4g": 1}, str(12 * 10**10))
    assert row["model"] == "tools"


def test_a_provider_error_in_place_of_sound(caller: Tenant) -> None:
    """It comes in the grammar of errors, and costs nothing."""
    body = {"model": "tts-1", "voice": "alloy", "input": PROMPT}
    answer = caller.post(SPEECH, body, control(status=429))
    assert answer.status_code == 429
    assert answer.json()["xproxy_error"]["code"] == "provider_error"
    assert caller.row()["cost_pico"] == "0"


def test_sound_that_breaks_off(caller: Tenant) -> None:
    """The client sees that it was cut; what was spoken so far is charged as an estimate."""
    body = {"model": "gpt-4o-mini-tts", "voice": "alloy", "input": PROMPT * 20}
    with pytest.raises(httpx.RemoteProtocolError):
        caller.post(SPEECH, body, control(cut_at_byte=20_000))
    row = caller.row()
    assert (row["status"], row["estimated"]) == ("ok", True)
    assert int(row["cost_pico"]) > 0
    assert new_tenant(caller.service).post(SPEECH, body).status_code == 200
