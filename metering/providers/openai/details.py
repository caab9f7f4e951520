"""How OpenAI breaks token counts down; every endpoint does it in the same members."""

from __future__ import annotations

import msgspec

from metering.providers.answer import Count, nonzero


class InputDetails(msgspec.Struct, gc=False):
    """Parts of the input."""

    cached_tokens: Count | None = None
    cache_write_tokens: Count | None = None
    audio_tokens: Count | None = None
    image_tokens: Count | None = None


class OutputDetails(msgspec.Struct, gc=False):
    """Parts of the output."""

    reasoning_tokens: Count | None = None
    audio_tokens: Count | None = None
    image_tokens: Count | None = None


def token_counts(
    input_tokens: int,
    output_tokens: int,
    into: InputDetails | None,
    out: OutputDetails | None,
) -> dict[str, int]:
    """Counts as `pricing.units` names them: totals always, details where not zero."""
    found = {"input": input_tokens, "output": output_tokens}
    if into is not None:
        found |= nonzero(
            (
                ("cache_read", into.cached_tokens),
                ("cache_write_5m", into.cache_write_tokens),
                ("input_audio", into.audio_tokens),
                ("input_image", into.image_tokens),
            )
        )
    if out is not None:
        found |= nonzero(
            (
                ("reasoning", out.reasoning_tokens),
                ("output_audio", out.audio_tokens),
                ("output_image", out.image_tokens),
            )
        )
    return found
