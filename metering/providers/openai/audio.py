"""Speech from text, and text from speech: billed by characters, by seconds, or by tokens.

Speech comes as sound, which states nothing: its characters are the request's. A transcript that
is not asked for in JSON states nothing either.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal

import msgspec
from msgspec import Raw

from metering.core.reach import PLAIN, Reach
from metering.providers import form_data, request
from metering.providers.answer import Count, nonzero, read_object, said
from metering.providers.base import Ask, StreamTap, Usage
from metering.providers.openai.done import DoneTap
from metering.providers.request import COUNT_MAX

PLAIN_FORMATS = frozenset({"text", "srt", "vtt"})
"""Transcripts that are no JSON."""
BYTES_PER_S_MIN = 500
"""Of the sparsest recording of speech that a codec makes: Opus begins at 6 kbit/s, MP3 at 8."""


class _Details(msgspec.Struct, gc=False):
    audio_tokens: Count | None = None
    text_tokens: Count | None = None


class _Tokens(msgspec.Struct):
    input_tokens: Count
    output_tokens: Count
    input_token_details: _Details | None = None
    output_token_details: _Details | None = None


class _Duration(msgspec.Struct):
    seconds: Raw


class _Transcript(msgspec.Struct):
    text: str | None = None
    duration: Raw = Raw(b"")
    usage: Raw = Raw(b"")
    error: Raw = Raw(b"")


_tokens_decoder = msgspec.json.Decoder(_Tokens)
_duration_decoder = msgspec.json.Decoder(_Duration)
_number_decoder = msgspec.json.Decoder(Decimal)
_transcript_decoder = msgspec.json.Decoder(_Transcript)


class Speech:
    """`/v1/audio/speech`; see `base.Form`."""

    def ask(self, body: bytes, content_type: bytes, named: str = "") -> Ask:  # noqa: ARG002
        """See `base.Form`."""
        fields = request.members(body)
        spoken = request.inputs(fields, "input").texts
        return Ask(
            model=request.model(fields, named),
            stream=request.word(fields, "stream_format") == "sse",
            plain=True,
            texts=(*spoken, *request.inputs(fields, "instructions").texts),
            counted={"input_characters": sum(map(len, spoken))},
            body_bytes=len(body),
            changed_body=request.once(body, fields),
        )

    def reach(self, body: bytes, ask: Ask) -> Reach:  # noqa: ARG002
        """See `base.Form`. Its text is all there is."""
        return PLAIN

    def read(self, body: bytes, ask: Ask) -> Usage:
        """See `base.Form`."""
        return Usage(counted=ask.counted, output_audio=body, finished=True)

    def tap(self, ask: Ask) -> StreamTap:
        """See `base.Form`."""
        return DoneTap(".done", spoken_counts, counted=ask.counted)


class Transcriptions:
    """`/v1/audio/{transcriptions,translations}`; see `base.Form`."""

    def ask(self, body: bytes, content_type: bytes, named: str = "") -> Ask:
        """See `base.Form`."""
        sent = form_data.read(body, content_type)
        return Ask(
            model=request.model(sent.fields, named),
            stream=request.flag(sent.fields, "stream"),
            plain=request.word(sent.fields, "response_format") in PLAIN_FORMATS,
            texts=request.inputs(sent.fields, "prompt").texts,
            audio=b"".join(sent.files.get("file", ())),
            body_bytes=len(body),
            changed_body=None if sent.is_form else request.once(body, sent.fields),
        )

    def reach(self, body: bytes, ask: Ask) -> Reach:  # noqa: ARG002
        """See `base.Form`. What a recording says of its length may be less than it is."""
        return Reach(fees={"audio_seconds": -(-len(body) // BYTES_PER_S_MIN)})

    def read(self, body: bytes, ask: Ask) -> Usage:
        """See `base.Form`."""
        answer = read_object(_transcript_decoder, body)
        if answer is None:
            text = body.decode(errors="replace") if ask.plain else ""
            return Usage(output_text=text, finished=ask.plain)
        found = heard_counts(answer.usage)
        return Usage(
            counts=found,
            counted=_lasted(answer.duration),
            output_text="" if found else answer.text or "",
            finished=True,
            error=said(answer.error),
        )

    def tap(self, ask: Ask) -> StreamTap:  # noqa: ARG002
        """See `base.Form`."""
        return DoneTap(".done", heard_counts)


def heard_counts(raw: Raw) -> dict[str, int] | None:
    """The counts of a transcript's `usage`, tokens or seconds; None: none to be believed."""
    tokens = _tokens(raw)
    if tokens is None:
        try:
            return _lasted(_duration_decoder.decode(raw).seconds) or None
        except ValueError:
            return None
    details = tokens.input_token_details or _NO_DETAILS
    return _totals(tokens) | nonzero((("input_audio", details.audio_tokens),))


def spoken_counts(raw: Raw) -> dict[str, int] | None:
    """The counts of a speech's `usage`: what is not said to be text is sound."""
    tokens = _tokens(raw)
    if tokens is None:
        return None
    text = (tokens.output_token_details or _NO_DETAILS).text_tokens or 0
    return _totals(tokens) | nonzero((("output_audio", max(0, tokens.output_tokens - text)),))


_NO_DETAILS = _Details()


def _tokens(raw: Raw) -> _Tokens | None:
    try:
        return _tokens_decoder.decode(raw)
    except ValueError:
        return None


def _totals(tokens: _Tokens) -> dict[str, int]:
    return {"input": tokens.input_tokens, "output": tokens.output_tokens}


def _lasted(raw: Raw) -> dict[str, int]:
    """The seconds a recording lasts, as the answer says; OpenAI bills begun ones."""
    text = bytes(raw)
    try:
        seconds = Decimal(-1) if text.startswith(b'"') else _number_decoder.decode(text)
    except ValueError:
        return {}
    if not 0 <= seconds <= COUNT_MAX:
        return {}
    return {"audio_seconds": int(seconds.to_integral_value(ROUND_CEILING))}
