"""Reading a request's members by their paths: what was read is taken out of its object, so that
what is left over is what nobody knew.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw

from metering.translate import reading
from metering.translate.reading import NULL, Lost, missing, wrong

Fields = dict[str, Raw]
"""The members of an object, by name; those that were read are taken out."""

QUOTE, LIST, OBJECT = b'"[{'
_EMPTY = (NULL, Raw(b"[]"), Raw(b"{}"))
_object = msgspec.json.Decoder(Fields)
_any = msgspec.json.Decoder()


def drop_rest(lost: Lost, fields: Fields, path: str = "") -> None:
    """Drops what nobody read of an object. Cache marks are told once, wherever they stand."""
    for name, raw in fields.items():
        if name == "cache_control":
            if said(raw):
                lost.drop(name)
        elif raw not in _EMPTY:
            lost.drop(f"{path}.{name}" if path else name)


def said(raw: Raw | None) -> bool:
    """Whether a member is there and not null."""
    return bool(raw) and raw != NULL


def opening(raw: Raw) -> int:
    """The first byte of a member: it says what kind of value this is."""
    return memoryview(raw)[0]


def fields(raw: Raw | None, path: str) -> Fields:
    """The members of an object; raises InvalidRequest."""
    if raw is None:
        raise wrong(path, "an object")
    return reading.members(raw, path)


def is_object(raw: Raw) -> bool:
    """Whether this is a JSON object, whatever is in it."""
    try:
        _object.decode(raw)
    except (ValueError, RecursionError):
        return False
    return True


def value(raw: Raw | None) -> object:
    """A member's value; None where it cannot be read."""
    try:
        given: object = _any.decode(raw) if raw is not None else None
    except (ValueError, RecursionError):
        return None
    return given


def take(given: Fields, name: str) -> Raw | None:
    """A member, taken out; None where it is missing or null."""
    raw = given.pop(name, None)
    return raw if raw != NULL else None


def take_text(given: Fields, name: str, path: str) -> Raw | None:
    """A text as the JSON it is; None where it is missing or null. Raises InvalidRequest."""
    raw = given.pop(name, None)
    if raw is None or raw == NULL:
        return None
    if memoryview(raw)[0] != QUOTE:
        raise wrong(f"{path}.{name}" if path else name, "a string")
    return raw


def need_text(given: Fields, name: str, path: str, remedy: str) -> Raw:
    """A text that must be there, as the JSON it is; raises InvalidRequest."""
    raw = take_text(given, name, path)
    if raw is None:
        raise missing(f"{path}.{name}" if path else name, remedy)
    return raw


def take_word(given: Fields, name: str, path: str) -> str:
    """A text's value; empty where it is missing or null. Raises InvalidRequest."""
    raw = take_text(given, name, path)
    return str(_any.decode(raw)) if raw is not None else ""


def take_flag(given: Fields, name: str, path: str) -> bool:
    """A boolean, False by default; raises InvalidRequest."""
    raw = take(given, name)
    if raw is None:
        return False
    text = bytes(raw)
    if text not in (b"true", b"false"):
        raise wrong(f"{path}.{name}" if path else name, "true or false")
    return text == b"true"


def concat(*pieces: str | Raw) -> Raw:
    """One JSON text of several: of ours, and of the client's as the JSON they are."""
    inner = [
        memoryview(it)[1:-1] if isinstance(it, Raw) else memoryview(reading.encode(it))[1:-1]
        for it in pieces
    ]
    return Raw(b"".join((b'"', *inner, b'"')))
