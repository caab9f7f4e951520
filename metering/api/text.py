"""Checks on text that callers send, so that no store ever sees what it cannot keep."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime

from metering.core.ids import CHOSEN, CHOSEN_IS
from metering.errors import InvalidRequest

NAME_CHARS_MAX = 256
PROPERTIES_MAX = 64
PROPERTY_CHARS_MAX = 4096
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_UNIX = re.compile(r"[0-9]{1,16}(\.[0-9]{1,9})?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_SPAN = re.compile(r"([0-9]{1,10})([smhdw]?)")
_SPAN_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_SECONDS_MAX = 10**11
"""Unix times from here on are milliseconds."""


def checked_name(text: str, field: str) -> str:
    """A name: 1 to 256 characters, none of them control characters."""
    if not text.strip() or len(text) > NAME_CHARS_MAX or _CONTROL.search(text):
        raise InvalidRequest(
            f"{field} must be 1 to {NAME_CHARS_MAX} characters without control characters",
            field=field,
        )
    return text


def checked_id(text: str, field: str) -> str:
    """An id that a caller chose."""
    if not CHOSEN.fullmatch(text):
        raise InvalidRequest(f"{field} must be {CHOSEN_IS}", field=field)
    return text


def checked_properties(properties: Mapping[str, str | None]) -> dict[str, str | None]:
    """Properties: at most 64, names as names are, values of at most 4,096 characters or null."""
    if len(properties) > PROPERTIES_MAX:
        raise InvalidRequest(
            f"properties has more than {PROPERTIES_MAX} members", field="properties"
        )
    for name, value in properties.items():
        checked_name(name, "a name in properties")
        if value is not None and (len(value) > PROPERTY_CHARS_MAX or "\0" in value):
            raise InvalidRequest(
                f"the value of property {name!r} has a NUL character or more than "
                f"{PROPERTY_CHARS_MAX} characters",
                field="properties",
            )
    return dict(properties)


def has_control(text: str) -> bool:
    """Whether a text holds control characters or lone surrogates."""
    return _CONTROL.search(text) is not None


def time_ms(text: str, field: str) -> int:
    """A moment in Unix milliseconds from ISO 8601 (UTC unless it says otherwise) or Unix time.

    A Unix time of less than 10^11 is in seconds, a larger one in milliseconds.
    """
    if _UNIX.fullmatch(text):
        whole, _, fraction = text.partition(".")
        if int(whole) < _SECONDS_MAX:
            return int(whole) * 1000 + int(fraction.ljust(3, "0")[:3])
        return int(whole)
    try:
        if _DATE.match(text):  # without it, Python takes sixteen digits for a date
            return _milliseconds(datetime.fromisoformat(_with_plus(text)))
    except (ValueError, OverflowError):
        pass
    raise InvalidRequest(
        f"{field}={text!r} is no time: give ISO 8601 (2026-01-31T12:00:00Z) or Unix seconds",
        field=field,
    )


def span_s(text: str, field: str) -> int:
    """Seconds of a span of time: `90s`, `30m`, `24h`, `7d`, `2w`, or the seconds themselves."""
    match = _SPAN.fullmatch(text)
    if match is None:
        raise InvalidRequest(
            f"{field}={text!r} is no span of time: give seconds, or such as 30m, 24h or 7d",
            field=field,
        )
    return int(match[1]) * _SPAN_SECONDS[match[2]]


def _with_plus(text: str) -> str:
    """A query turns the `+` of an offset into a space; turn it back."""
    return text.replace(" ", "+", 1) if "T" in text else text


def _milliseconds(moment: datetime) -> int:
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return since.days * 86_400_000 + since.seconds * 1000 + since.microseconds // 1000


def moment(at_ms: int) -> datetime:
    """The UTC time of Unix milliseconds, for answers."""
    return datetime.fromtimestamp(at_ms // 1000, UTC).replace(microsecond=at_ms % 1000 * 1000)
