"""Reading a request's members by their paths, and taking note of what is not carried.

Members stay the client's bytes: a text, a schema or a number is never decoded that goes on as it
is. What was read is taken out of its object, so that what is left over is what nobody knew.
"""

from __future__ import annotations

from typing import NoReturn

import msgspec
from msgspec import Raw

from metering.errors import InvalidRequest

Fields = dict[str, Raw]
"""The members of an object, by name; those that were read are taken out."""

QUOTE, LIST, OBJECT = b'"[{'
_NULL = Raw(b"null")
_EMPTY = (_NULL, Raw(b"[]"), Raw(b"{}"))
_object = msgspec.json.Decoder(Fields)
_objects = msgspec.json.Decoder(list[Fields])
_any = msgspec.json.Decoder()
encode = msgspec.json.Encoder().encode
"""JSON of dicts, lists and Raw."""


class Notes:
    """What could not be carried, and what was changed, by path."""

    def __init__(self) -> None:
        self._dropped: dict[str, None] = {}
        self._changed: dict[str, None] = {}

    @property
    def dropped(self) -> tuple[str, ...]:
        """See `base.Translated`."""
        return tuple(self._dropped)

    @property
    def changed(self) -> tuple[str, ...]:
        """See `base.Translated`."""
        return tuple(self._changed)

    def drop(self, path: str) -> None:
        """What the other form cannot say."""
        self._dropped[path] = None

    def change(self, path: str) -> None:
        """What comes through with another value."""
        self._changed[path] = None

    def rest(self, fields: Fields, path: str = "") -> None:
        """What nobody read of an object. Cache marks are told once, wherever they stand."""
        for name, raw in fields.items():
            if name == "cache_control":
                if said(raw):
                    self.drop(name)
            elif raw not in _EMPTY:
                self.drop(f"{path}.{name}" if path else name)


def said(raw: Raw | None) -> bool:
    """Whether a member is there and not null."""
    return bool(raw) and raw != _NULL


def opening(raw: Raw) -> int:
    """The first byte of a member: it says what kind of value this is."""
    return memoryview(raw)[0]


def wrong(path: str, expected: str) -> NoReturn:
    """Refuse a member that is not what it must be."""
    raise InvalidRequest(
        f"Request field '{path}' must be {expected}", code="invalid_request_field", field=path
    )


def missing(path: str, remedy: str) -> NoReturn:
    """Refuse a request for what it lacks."""
    raise InvalidRequest(
        f"Required request field '{path}' is missing; {remedy}",
        code="required_field_missing",
        field=path,
    )


def untranslatable(path: str, reason: str) -> NoReturn:
    """Refuse what the model called cannot be given, and could not do without."""
    raise InvalidRequest(
        f"Request field '{path}' {reason}", code="untranslatable_request_field", field=path
    )


def top(body: bytes) -> Fields:
    """The members of a request; raises InvalidRequest `invalid_json`."""
    try:
        if not body.isascii():
            body.decode()
        return _object.decode(body)
    except (ValueError, RecursionError) as error:
        plain = isinstance(error, msgspec.MsgspecError)
        reason = str(error) if plain else "too deep or not UTF-8"
        raise InvalidRequest(
            f"Body JSON is invalid: {reason}; send one JSON object", code="invalid_json"
        ) from None


def fields(raw: Raw | None, path: str) -> Fields:
    """The members of an object; raises InvalidRequest."""
    try:
        return _object.decode(raw or b"")
    except (ValueError, RecursionError):
        wrong(path, "an object")


def is_object(raw: Raw) -> bool:
    """Whether this is a JSON object, whatever is in it."""
    try:
        _object.decode(raw)
    except (ValueError, RecursionError):
        return False
    return True


def objects(raw: Raw, path: str) -> list[Fields]:
    """The objects of a list; raises InvalidRequest, naming the first that is none."""
    try:
        return _objects.decode(raw)
    except (ValueError, RecursionError):
        pass
    given = value(raw)
    if not isinstance(given, list):
        wrong(path, "a list of objects")
    for index, item in enumerate(given):
        if not isinstance(item, dict):
            wrong(f"{path}[{index}]", "an object")
    wrong(path, "a list of objects, nested less deep")


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
    return raw if raw != _NULL else None


def take_text(given: Fields, name: str, path: str) -> Raw | None:
    """A text as the JSON it is; None where it is missing or null. Raises InvalidRequest."""
    raw = given.pop(name, None)
    if raw is None or raw == _NULL:
        return None
    if memoryview(raw)[0] != QUOTE:
        wrong(f"{path}.{name}" if path else name, "a string")
    return raw


def need_text(given: Fields, name: str, path: str, remedy: str) -> Raw:
    """A text that must be there, as the JSON it is; raises InvalidRequest."""
    raw = take_text(given, name, path)
    if raw is None:
        missing(f"{path}.{name}" if path else name, remedy)
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
        wrong(f"{path}.{name}" if path else name, "true or false")
    return text == b"true"


def concat(*pieces: str | Raw) -> Raw:
    """One JSON text of several: of ours, and of the client's as the JSON they are."""
    inner = [
        memoryview(it)[1:-1] if isinstance(it, Raw) else memoryview(encode(it))[1:-1]
        for it in pieces
    ]
    return Raw(b"".join((b'"', *inner, b'"')))
