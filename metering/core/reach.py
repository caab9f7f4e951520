"""What a call may come to that the bytes of its request do not bound. Read for hard caps alone."""

from __future__ import annotations

import msgspec


class Advice(msgspec.Struct, frozen=True):
    """Another model that the call's may ask, each time with all that was said so far."""

    model: str
    uses: int
    """How often at most."""
    output_cap: int | None = None
    """At most so many tokens of one piece of advice; None: as many as the model may write."""


class Reach(msgspec.Struct, frozen=True, kw_only=True):
    """How far a call may go beyond its text."""

    not_text_bytes: int = 0
    """Bytes of the body that are no text, and are bounded by `input_tokens` instead: images."""
    input_tokens: int = 0
    """At most so many tokens of a prompt beside those of its text: images, what tools add."""
    output_tokens: int = 0
    """At most so many tokens of output that its cap does not count: rejected predictions."""
    output_cap: int | None = None
    """At most so many tokens of one answer, where the vendor's table says it: of an image."""
    whole_context: bool = False
    """Whether the prompt has parts of unknown size: all that holds is the model's window."""
    passes: int = 1
    """How often at most the model reads its prompt: once more after tools that the vendor runs."""
    fees: dict[str, int] = {}
    """By unit, how many uses of tools there are at most."""
    advice: tuple[Advice, ...] = ()
    """Other models that may be asked, billed beside the call's at their own prices."""
    unbounded: str = ""
    """Why nothing bounds the cost, and what to do about it; empty: something does."""
    field: str = ""
    """The member of the request that is the reason."""


PLAIN = Reach()
"""Of a call whose text, cap and counts are all there is."""
