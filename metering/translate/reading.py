"""Reading JSON: members of a request as what they must be, and a provider's JSON as far as it goes.

Values stay the bytes they came as wherever they go on as they are; one that is not what it must be
raises InvalidRequest with its path.
"""

from __future__ import annotations

import json
import re
from typing import Any, TypeVar

import msgspec
from msgspec import Raw

from metering.errors import InvalidRequest

What = TypeVar("What")
NULL = Raw(b"null")

encode = msgspec.json.Encoder().encode
_objects = msgspec.json.Decoder(list[dict[str, Raw]])
_object = msgspec.json.Decoder(dict[str, Raw])
_list = msgspec.json.Decoder(list[Raw])
_text = msgspec.json.Decoder(str)
_number: msgspec.json.Decoder[int | float] = msgspec.json.Decoder(int | float)
_count = msgspec.json.Decoder(int)
_flag = msgspec.json.Decoder(bool)
_any = msgspec.json.Decoder()

_PLACE = re.compile(r" - at `\$([^`]*)`")
_KINDS = re.compile(r"Expected `([^`]*)`, got `([^`]*)`")
_WORDS = {
    "str": "a string",
    "int": "a whole number",
    "int | float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
}


class Lost:
    """What a request could not say in the other form, by the paths of its members."""

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

    def drop(self, *paths: str) -> None:
        """What the other form has no words for."""
        self._dropped.update(dict.fromkeys(paths))

    def change(self, *paths: str) -> None:
        """What comes through with another value, or in another place."""
        self._changed.update(dict.fromkeys(paths))

    def unknown(self, members: dict[str, Raw], known: frozenset[str], path: str) -> None:
        """Drops the members that are not known."""
        if not members.keys() <= known:
            self.drop(*(f"{path}.{name}" for name in members if name not in known))


def wrong(path: str, expected: str) -> InvalidRequest:
    """The fault of a member that is not what it must be."""
    return InvalidRequest(
        f"Request field '{path}' must be {expected}", code="invalid_request_field", field=path
    )


def missing(path: str, remedy: str) -> InvalidRequest:
    """The fault of a member that is not there."""
    return InvalidRequest(
        f"Required request field '{path}' is missing; {remedy}",
        code="required_field_missing",
        field=path,
    )


def untranslatable(path: str, reason: str) -> InvalidRequest:
    """The fault of what the model called cannot be given, and could not do without."""
    return InvalidRequest(
        f"Request field '{path}' {reason}", code="untranslatable_request_field", field=path
    )


def top(body: bytes, *, utf8: bool = False) -> dict[str, Raw]:
    """The members of a request that are not null. `utf8`: all of it has to be; else what is
    not read here goes on as it is."""
    try:
        if utf8 and not body.isascii():
            body.decode()
        return _said(_object.decode(body))
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, msgspec.MsgspecError) else "too deep or not UTF-8"
        raise InvalidRequest(
            f"Body JSON is invalid: {reason}; send one JSON object", code="invalid_json"
        ) from None


def objects(raw: Raw, path: str) -> list[dict[str, Raw]]:
    """A list of objects, each the members of it that are not null."""
    return [_said(it) for it in _read(_objects, raw, path)]


def members(raw: Raw, path: str) -> dict[str, Raw]:
    """The members of an object that are not null."""
    return _said(_read(_object, raw, path))


def items(raw: Raw, path: str) -> list[Raw]:
    """The items of a list."""
    return _read(_list, raw, path)


def text(raw: Raw, path: str) -> str:
    """A string."""
    return _read(_text, raw, path)


def number(raw: Raw, path: str) -> int | float:
    """A number."""
    return _read(_number, raw, path)


def count(raw: Raw, path: str) -> int:
    """A whole number that is not negative."""
    value = _read(_count, raw, path)
    if value < 0:
        raise wrong(path, "a whole number, 0 or more")
    return value


def flag(raw: Raw, path: str) -> bool:
    """A boolean."""
    return _read(_flag, raw, path)


def value(raw: Raw, path: str) -> Any:
    """Any value."""
    return _read(_any, raw, path)


def is_text(raw: Raw) -> bool:
    """Whether a value is a string."""
    return bytes(memoryview(raw)[:1]) == b'"'


def is_list(raw: Raw) -> bool:
    """Whether a value is a list."""
    return bytes(memoryview(raw)[:1]) == b"["


def is_object(raw: Raw) -> bool:
    """Whether a value is an object."""
    return bytes(memoryview(raw)[:1]) == b"{"


def drop(
    fields: dict[str, Raw], known: frozenset[str], defaults: dict[str, Any], lost: Lost
) -> None:
    """Drops the members of a request that are not known; what says nothing is not named."""
    for name, raw in fields.items():
        if name in known or (name in defaults and value(raw, name) == defaults[name]):
            continue
        lost.drop(name)


def found(decoder: msgspec.json.Decoder[What], data: bytes | Raw) -> What | None:
    """A provider's JSON; None where it is none, or not what it must be.

    Lone surrogates and NaN are mended: others' encoders let them through.
    """
    try:
        return decoder.decode(data)
    except (ValueError, RecursionError):
        pass
    try:
        loose = json.loads(bytes(data), parse_constant=lambda _: None)
        plain = json.dumps(loose, ensure_ascii=False).encode(errors="replace")
        return decoder.decode(plain)
    except (ValueError, RecursionError):
        return None


def _said(given: dict[str, Raw]) -> dict[str, Raw]:
    if NULL in given.values():
        return {name: raw for name, raw in given.items() if raw != NULL}
    return given


def _read(decoder: msgspec.json.Decoder[What], raw: Raw, path: str) -> What:
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as error:
        reason = str(error)
    except (ValueError, RecursionError):
        raise wrong(path, "JSON in UTF-8, and not nested deeper than can be read") from None
    place, kinds = _PLACE.search(reason), _KINDS.search(reason)
    at = path + (place[1] if place else "")
    expected = kinds[1] if kinds else "another value"
    raise wrong(at, _WORDS.get(expected, expected))
