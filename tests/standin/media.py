"""OpenAI's images and audio: pictures of a few bytes, a tone instead of speech, and their bills.

Prices are USD as the vendor's pages have them, kept apart from the product's on purpose.
"""

from __future__ import annotations

import email.parser
import email.policy
import io
import time
import wave
from base64 import b64encode
from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import msgspec

from tests.standin import faults
from tests.standin.answers import Answer, encode, json_answer, request_headers, text_of
from tests.standin.control import Control
from tests.standin.prices import Bill

PICO_PER_USD = 10**12
SAMPLES_PER_S = 24_000
LETTERS_PER_S = 16
"""How fast the stand-in speaks."""
PER_IMAGE = {
    ("dall-e-2", "256x256", None): "0.016",
    ("dall-e-2", "512x512", None): "0.018",
    ("dall-e-2", "1024x1024", None): "0.02",
    ("dall-e-3", "1024x1024", "standard"): "0.04",
    ("dall-e-3", "1024x1792", "standard"): "0.08",
    ("dall-e-3", "1792x1024", "hd"): "0.12",
    ("dall-e-3", "1024x1024", "hd"): "0.08",
}
"""By model, size and quality."""
PER_MILLION = {
    "gpt-image-1.5": {"text_in": "5", "image_in": "8", "text_out": "10", "image_out": "32"},
    "gpt-image-2": {"text_in": "5", "image_in": "8", "text_out": "30", "image_out": "30"},
    "gpt-4o-transcribe": {"text_in": "2.5", "audio_in": "6", "text_out": "10"},
    "gpt-4o-mini-tts": {"text_in": "0.6", "audio_out": "12"},
    "tts-1": {"letters": "15"},
    "tts-1-hd": {"letters": "30"},
}
PER_SECOND = {"whisper-1": Decimal("0.006") / 60}
Fields = dict[str, Any]


def bill(model: str, units: Mapping[str, int]) -> Bill:
    """What units cost by the million; each line rounded once."""
    prices = PER_MILLION[model]
    lines = {
        unit: _pico(Decimal(prices[unit]) * count / 1_000_000)
        for unit, count in units.items()
        if count
    }
    return Bill(model, dict(units), lines)


def _pico(usd: Decimal) -> int:
    return int((usd * PICO_PER_USD).to_integral_value(ROUND_HALF_EVEN))


def read(body: bytes, content_type: str) -> Fields:
    """The fields of a form or of a JSON object; files are bytes, several of a name a list."""
    if not content_type.startswith("multipart/form-data"):
        fields: Fields = msgspec.json.decode(body)
        return fields
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    parsed = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
    fields = {}
    for part in parsed.iter_parts():
        name = str(part.get_param("name", header="content-disposition"))
        value = part.get_payload(decode=True)
        assert isinstance(value, bytes)
        if part.get_filename() is None:
            fields[name] = value.decode()
        else:
            fields.setdefault(name.removesuffix("[]"), []).append(value)
    return fields


def images(control: Control, fields: Fields) -> Answer:
    """Pictures: of one price each, or in tokens, as the model has it."""
    model, count = fields.get("model", "gpt-image-2"), int(fields.get("n") or 1)
    size = fields.get("size") or "1024x1024"
    body: dict[str, Any] = {"created": int(time.time())}
    picture = b64encode(b"\x89PNG" + b"\0" * control.image_bytes).decode()
    body["data"] = [{"b64_json": picture} for _ in range(count)]
    if model not in PER_MILLION:
        quality = fields.get("quality") or ("standard" if model == "dall-e-3" else None)
        each = _pico(Decimal(PER_IMAGE[model, size, quality]))
        paid = Bill(model, {"images": count}, {"images": each * count})
        return json_answer("openai", body, model=model, usage={}, bill=paid)
    usage, units = _image_usage(control, fields, count)
    if fields.get("stream") in (True, "true"):
        return _image_stream(picture, usage, bill(model, units), model)
    body |= {"size": size, "quality": "high"} | faults.spoil(usage, control.wrong_usage)
    return json_answer("openai", body, model=model, usage=usage, bill=bill(model, units))


def _image_usage(control: Control, fields: Fields, count: int) -> tuple[Fields, dict[str, int]]:
    text, seen = 4 + len(fields["prompt"]) // 4, 323 * len(fields.get("image", ()))
    units = {"text_in": text, "image_in": seen, "text_out": 0, "image_out": 1056 * count}
    usage = {
        "input_tokens": text + seen,
        "input_tokens_details": {"text_tokens": text, "image_tokens": seen},
        "output_tokens": units["image_out"],
        "total_tokens": text + seen + units["image_out"],
    }
    return control.usage or usage, units


def _image_stream(picture: str, usage: Fields, paid: Bill, model: str) -> Answer:
    common = {"b64_json": picture, "created_at": int(time.time()), "size": "1024x1024"}
    partial = {"type": "image_generation.partial_image", "partial_image_index": 0} | common
    last = {"type": "image_generation.completed"} | common | {"usage": usage}
    return _events([partial, last], model=model, usage=usage, bill=paid)


def _events(events: list[Fields], **members: Any) -> Answer:
    pieces = [b"event: %b\ndata: %b\n\n" % (it["type"].encode(), encode(it)) for it in events]
    headers = request_headers("openai")
    return Answer(
        provider="openai",
        id="",
        pieces=pieces,
        headers=headers,
        content_type="text/event-stream; charset=utf-8",
        stream=True,
        **members,
    )


def tone(seconds: int) -> bytes:
    """A recording of so many seconds: silence, in a WAVE file."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(1)
        out.setframerate(SAMPLES_PER_S // 10)
        out.writeframes(b"\x80" * (SAMPLES_PER_S // 10) * seconds)
    return file.getvalue()


def speech(control: Control, fields: Fields) -> Answer:
    """A text spoken: sound, or events with sound in them."""
    model, text = fields["model"], fields["input"]
    seconds = -(-len(text) // LETTERS_PER_S)
    usage: Fields = {}
    if "letters" in PER_MILLION[model]:
        paid = bill(model, {"letters": len(text)})
    else:
        heard = {"text_in": 1 + len(text) // 4, "audio_out": 20 * seconds}
        paid = bill(model, heard)
        usage = {"input_tokens": heard["text_in"], "output_tokens": heard["audio_out"]}
        usage["total_tokens"] = sum(usage.values())
    if fields.get("stream_format") == "sse":
        delta = {"type": "speech.audio.delta", "audio": b64encode(tone(seconds)).decode()}
        done = {"type": "speech.audio.done"} | faults.spoil(usage, control.wrong_usage)
        return _events([delta, done], model=model, usage=usage, bill=paid)
    answer = json_answer("openai", None, model=model, usage=usage, bill=paid)
    answer.pieces, answer.content_type = [tone(seconds)], "audio/wav"
    return answer


def transcript(control: Control, fields: Fields) -> Answer:
    """What was heard in a recording, in the format asked for."""
    model, (recording,) = fields["model"], fields["file"]
    with wave.open(io.BytesIO(recording)) as sound:
        seconds = -(-sound.getnframes() // sound.getframerate())
    text, kind = text_of(control, 12), fields.get("response_format") or "json"
    if model in PER_SECOND:
        paid = Bill(model, {"seconds": seconds}, {"seconds": _pico(PER_SECOND[model] * seconds)})
        usage: Fields = {"type": "duration", "seconds": seconds}
    else:
        units = {"text_in": 3, "audio_in": 10 * seconds, "text_out": 12}
        paid = bill(model, units)
        usage = {"type": "tokens", "input_tokens": 3 + 10 * seconds, "output_tokens": 12}
        usage["input_token_details"] = {"text_tokens": 3, "audio_tokens": 10 * seconds}
        usage["total_tokens"] = usage["input_tokens"] + usage["output_tokens"]
    given = {"model": model, "usage": usage, "bill": paid}
    told = faults.spoil(usage, control.wrong_usage)
    if fields.get("stream") == "true":
        delta = {"type": "transcript.text.delta", "delta": text}
        return _events([delta, {"type": "transcript.text.done", "text": text} | told], **given)
    body: Fields = {"text": text}
    if kind == "verbose_json":
        body |= {"task": "transcribe", "language": "english", "duration": seconds - 0.25}
    answer = json_answer("openai", body | told, **given)
    if kind in ("text", "srt", "vtt"):
        answer.pieces, answer.content_type = [text.encode() + b"\n"], "text/plain; charset=utf-8"
    return answer
