"""Images: made, edited, varied. Today's models bill tokens, those before them each image.

The tokens of an output that is not broken down are images. An SVG is written by another model,
whose tokens are stated apart.
"""

from __future__ import annotations

import re

import msgspec
from msgspec import Raw

from metering.core.reach import PLAIN, Reach
from metering.core.sse import MEDIA_BYTES_MAX
from metering.providers import form_data, request
from metering.providers.answer import Count, nonzero, read_object, said
from metering.providers.base import Ask, StreamTap, Usage
from metering.providers.openai.done import DoneTap
from pricing.units import UNITS

DEFAULT_SIZE = "1024x1024"
DEFAULT_QUALITY = "standard"
DALL_E_2 = "dall-e-2"
"""The one model whose images have a price by size alone."""
TABULATED = re.compile(r"gpt-image-1(-mini)?(-20[0-9-]+)?")
"""Models of which OpenAI states how many tokens an image has."""
MOST_TOKENS = {"low": 408, "medium": 1_584, "high": 6_240}
"""By quality, those of the largest image."""
PARTIAL_TOKENS = 100
"""Of each image that is sent before it is finished."""


class _Details(msgspec.Struct, gc=False):
    image_tokens: Count | None = None


class _CachedDetails(msgspec.Struct, gc=False):
    cached_image_tokens: Count | None = None


class _Usage(msgspec.Struct):
    input_tokens: Count
    output_tokens: Count
    input_tokens_details: _Details | None = None
    output_tokens_details: _Details | None = None
    cached_tokens: Count | None = None
    cached_tokens_details: _CachedDetails | None = None


class _SvgUsage(msgspec.Struct, gc=False):
    model: str
    input_tokens: Count
    output_tokens: Count
    reasoning_tokens: Count = 0


class _Image(msgspec.Struct, gc=False):
    """One image; its megabytes are passed over."""


class _Answer(msgspec.Struct):
    data: Raw = Raw(b"")
    usage: Raw = Raw(b"")
    svg_usage: Raw = Raw(b"")
    error: Raw = Raw(b"")


_NO_DETAILS = _Details()
_answer_decoder = msgspec.json.Decoder(_Answer)
_images_decoder = msgspec.json.Decoder(list[_Image] | None)
_usage_decoder = msgspec.json.Decoder(_Usage)
_svg_decoder = msgspec.json.Decoder(_SvgUsage)


class Images:
    """`/v1/images/{generations,edits,variations}`; see `base.Form`."""

    def ask(self, body: bytes, content_type: bytes, named: str = "") -> Ask:
        """See `base.Form`."""
        sent = form_data.read(body, content_type)
        model, images = request.optional_model(sent.fields) or named, request.choices(sent.fields)
        return Ask(
            model=model,
            stream=request.flag(sent.fields, "stream"),
            choices=images,
            texts=request.inputs(sent.fields, "prompt").texts,
            counted=dict.fromkeys(_units(sent.fields, model), images),
            end_user=request.user(sent.fields),
            body_bytes=len(body),
            changed_body=None if sent.is_form else request.once(body, sent.fields),
        )

    def reach(self, body: bytes, ask: Ask) -> Reach:
        """See `base.Form`."""
        if not TABULATED.fullmatch(ask.model):
            return PLAIN  # billed by the image, or by tokens of which no table is known
        if not body.lstrip().startswith(b"{"):
            return Reach(whole_context=True)
        fields = request.members(body)
        most = MOST_TOKENS.get(request.word(fields, "quality") or "", max(MOST_TOKENS.values()))
        partial = request.count(fields, "partial_images") or 0
        return Reach(
            output_cap=most + partial * PARTIAL_TOKENS,
            whole_context=not fields.keys().isdisjoint(("image", "images", "mask")),
        )

    def read(self, body: bytes, ask: Ask) -> Usage:
        """See `base.Form`."""
        answer = read_object(_answer_decoder, body)
        if answer is None:
            return Usage()
        return Usage(
            counts=counts(answer.usage),
            counted=dict.fromkeys(ask.counted, _how_many(answer.data)),
            finished=True,
            error=said(answer.error),
            other_models=svg_author(answer.svg_usage),
        )

    def tap(self, ask: Ask) -> StreamTap:
        """See `base.Form`."""
        return DoneTap(
            ".completed",
            counts,
            times=ask.choices,
            counted=dict.fromkeys(ask.counted, 1),
            event_bytes_max=MEDIA_BYTES_MAX,
        )


def counts(raw: Raw) -> dict[str, int] | None:
    """The counts of a `usage` member; None: there is none to be believed."""
    try:
        usage = _usage_decoder.decode(raw)
    except ValueError:
        return None
    seen = (usage.input_tokens_details or _NO_DETAILS).image_tokens
    made = (usage.output_tokens_details or _NO_DETAILS).image_tokens
    cached = usage.cached_tokens_details
    found = {"input": usage.input_tokens, "output": usage.output_tokens}
    return found | nonzero(
        (
            ("input_image", seen),
            ("cache_read", usage.cached_tokens),
            ("cache_read_image", cached.cached_image_tokens if cached is not None else None),
            ("output_image", usage.output_tokens if made is None else made),
        )
    )


def _how_many(data: Raw) -> int:
    try:
        return len(_images_decoder.decode(data) or ()) if data else 0
    except ValueError:
        return 0


def _units(fields: dict[str, Raw], model: str) -> list[str]:
    """The units an image counts in, where it is billed as such: by size, and by quality."""
    size = request.word(fields, "size") or DEFAULT_SIZE
    quality = request.word(fields, "quality")
    if quality is None and DALL_E_2 not in model:
        quality = DEFAULT_QUALITY
    named = f"image_{size}" if DALL_E_2 in model else f"image_{quality}_{size}"
    return ["images", named] if named in UNITS else ["images"]


def svg_author(raw: Raw) -> dict[str, dict[str, int]]:
    """The counts of the model that wrote an SVG, by model, of a `svg_usage` member."""
    try:
        usage = _svg_decoder.decode(raw) if raw else None
    except ValueError:
        return {}
    if usage is None:
        return {}
    found = {"input": usage.input_tokens, "output": usage.output_tokens}
    return {usage.model: found | nonzero((("reasoning", usage.reasoning_tokens),))}
