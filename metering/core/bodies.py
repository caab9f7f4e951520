"""What was said in a call: its bodies as they were reported, and as they are kept.

Kept they are less what tells a secret, each cut to a size, and packed: compressed, to be sealed for
the one call that they are of. Texts are kept as texts, JSON or not.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import msgspec

from metering.core.headers import redacted, redacted_uri, tells_secret
from metering.core.sealing import context

BYTES_MAX = 1024 * 1024
"""So much is kept of each body, in UTF-8; a longer one is cut there, and said to be."""
COMPRESSION = 1
"""The fastest: dearer ones save little more."""

T = TypeVar("T")


class HeaderInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A header."""

    name: str
    value: str | None = None


class FunctionCall(msgspec.Struct, frozen=True, kw_only=True):
    """A function that the answer calls."""

    name: str
    arguments: str | None = None


class Bodies(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What went to a provider and what came back, as whoever reports the call has it."""

    provider_uri: str | None = None
    provider_request_headers: list[HeaderInfo] | None = None
    provider_request_json: str | None = None
    provider_request_reasoning_json: str | None = None
    provider_response_headers: list[HeaderInfo] | None = None
    provider_response_json: str | list[str] | None = None
    provider_response_function_calls: list[FunctionCall] | None = None
    truncated: list[str] = []
    """Those of the above that were cut."""


NOTHING = Bodies()
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Bodies).decode


def kept(said: Bodies) -> Bodies:
    """Bodies as they are kept: without credentials, and nothing longer than it may be."""
    values: dict[str, Any] = {}
    cut = []
    for name, take in _TAKEN.items():
        value, room = getattr(said, name), _Room()
        if value:
            values[name] = take(room, value) or None
        if room.exceeded:
            cut.append(name)
    return Bodies(**values, truncated=cut)


def pack(bodies: Bodies) -> bytes:
    """Bodies as they are sealed."""
    return zlib.compress(_encode(bodies), COMPRESSION)


def unpack(packed: bytes) -> Bodies:
    """What was packed."""
    return _decode(zlib.decompress(packed))


def bound_to(application_id: str, request_id: str) -> bytes:
    """What the bodies of a call are sealed for: they open as no other's."""
    return context("bodies", application_id, request_id)


class _Room:
    """The room that there is for one body."""

    def __init__(self) -> None:
        self._left = BYTES_MAX
        self.exceeded = False

    def text(self, text: str) -> str:
        """As much of a text as there is room for."""
        data = text.encode()
        if len(data) > self._left:
            self.exceeded = True
            data = data[: self._left]
            text = data.decode(errors="ignore")  # a character that was cut in two
        self._left -= len(data)
        return text

    def all(self, items: Iterable[T], take: Callable[[T], T]) -> list[T]:
        """As many of them as there is room for, the last one cut."""
        taken = []
        for item in items:
            if self._left <= 0:
                self.exceeded = True
                break
            taken.append(take(item))
            self._left -= 1  # an empty one takes room, too
        return taken


def _headers(room: _Room, headers: list[HeaderInfo]) -> list[HeaderInfo]:
    def take(header: HeaderInfo) -> HeaderInfo:
        name = room.text(header.name)
        return HeaderInfo(name=name, value=header.value and redacted(room.text(header.value)))

    return room.all((it for it in headers if not tells_secret(it.name)), take)


def _calls(room: _Room, calls: list[FunctionCall]) -> list[FunctionCall]:
    def take(call: FunctionCall) -> FunctionCall:
        name = room.text(call.name)
        return FunctionCall(name=name, arguments=call.arguments and room.text(call.arguments))

    return room.all(calls, take)


def _texts(room: _Room, texts: str | list[str]) -> str | list[str]:
    return room.text(texts) if isinstance(texts, str) else room.all(texts, room.text)


_TAKEN: dict[str, Callable[[_Room, Any], Any]] = {
    "provider_uri": lambda room, uri: redacted_uri(room.text(uri)),
    "provider_request_headers": _headers,
    "provider_request_json": _Room.text,
    "provider_request_reasoning_json": _Room.text,
    "provider_response_headers": _headers,
    "provider_response_json": _texts,
    "provider_response_function_calls": _calls,
}
"""How each body is taken."""
