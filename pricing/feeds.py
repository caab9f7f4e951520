"""The log of what was taken from where, and the judgement whether a list is whole.

`feeds.jsonl` has a line for every list that an update took, appended: its version, how much was in
it, and its fingerprint. A list that has lost a fifth of its models since the last time is broken.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TypeAlias

import msgspec

from pricing.catalogue import PriceDataError

SHRUNK = 5
"""A list that lacks one in so many of its models is not taken."""


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """A list as it was taken."""

    source: str
    """Its name and version."""
    models: int
    prices: int
    sha256: str
    checked: str

    @property
    def name(self) -> str:
        """Its name without the version."""
        return self.source.partition(" ")[0]


Log: TypeAlias = Sequence[Taken]

_decode = msgspec.json.Decoder(Taken).decode_lines
_encode = msgspec.json.Encoder().encode_lines


def read_log(content: bytes) -> list[Taken]:
    """The lines of a log."""
    try:
        return _decode(content)
    except msgspec.DecodeError as error:
        raise PriceDataError(f"feeds.jsonl: {error}") from None


def last_of(log: Log, name: str) -> Taken | None:
    """What was taken last of a list."""
    return next((taken for taken in reversed(log) if taken.name == name), None)


def refuse_shrunk(log: Log, taken: Iterable[Taken], accepted: Collection[str] = ()) -> None:
    """Raise PriceDataError for a list that is much shorter than it was, and was not accepted."""
    for feed in taken:
        before = last_of(log, feed.name)
        if feed.name in accepted:
            continue
        if not feed.models:
            raise PriceDataError(f"{feed.source} has no models")
        if before and feed.models * SHRUNK < before.models * (SHRUNK - 1):
            raise PriceDataError(
                f"{feed.source} has {feed.models} models, {before.source} had {before.models}; "
                f"--accept {feed.name} if that is so"
            )


def appended(log: Log, taken: Iterable[Taken]) -> bytes:
    """The log with what is new in it."""
    news = []
    for feed in taken:
        before = last_of(log, feed.name)
        if before is None or before.sha256 != feed.sha256:
            news.append(feed)
    return _encode([*log, *news])
