"""Windows: the spans of time in which a limit counts, one after the other.

| window                                        | begins                                          |
|-----------------------------------------------|-------------------------------------------------|
| `{"every": "hour"}`                           | on the hour of its zone's clocks                |
| `{"every": "day"}`, `month`, `quarter`, `year`| with the first moment of such a day in its zone |
| `{"every": "week", "first_day": "sunday"}`    | the same; on Mondays unless it says otherwise   |
| `{"every": "10 days", "anchor": "2026-01-31"}`| the same, every so many days from that one      |
| `{"rolling": "24 hours"}`                     | so long ago, always: it has no bounds           |

Laws
1. Of a zone's moments each is in one window: none has a gap, none overlaps, whatever clocks do.
2. A call belongs to the window of its admission, whenever it ends.
3. A rolling window counts by sixtieths: what was spent leaves it late by at most one of them, and
   never early.

A zone is a name of the IANA's data (`Europe/Berlin`), UTC if none is given. A limit's counters have
an epoch, its creation or last reset; those of a window begin with it, or within it at the epoch.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from importlib.resources import files
from typing import NamedTuple, Protocol
from zoneinfo import ZoneInfo

import msgspec

from metering.errors import InvalidRequest

CALENDAR = ("hour", "day", "week", "month", "quarter", "year")
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
DAYS_MAX = 1000
PARTS = 60
"""So many parts a rolling window has; the scripts keep one more, the present one, which grows."""
ROLLING_MIN_MS, ROLLING_MAX_MS = 60_000, 366 * 86_400_000
_MONTHS = {"month": 1, "quarter": 3, "year": 12}
_UNITS_MS = {"minute": 60_000, "hour": 3_600_000, "day": 86_400_000}
_DAYS = re.compile(r"([1-9][0-9]{0,3}) days")
_SPAN = re.compile(r"([1-9][0-9]{0,5}) (minute|hour|day)s?")
_HOUR_MS = 3_600_000
_DAY = timedelta(days=1)
_SECOND = timedelta(seconds=1)


class Window(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A limit's window as it is said, everywhere the same: on the wire, in Postgres and Redis."""

    every: str | None = None
    zone: str | None = None
    first_day: str | None = None
    anchor: str | None = None
    rolling: str | None = None

    @property
    def part_ms(self) -> int:
        """How long a part of a rolling window is; 0: it is no rolling one."""
        return _span_ms(self.rolling) // PARTS if self.rolling else 0

    def starts(self, at_ms: int) -> Starts:
        """Where the window before that of a moment begins, the window, and the one after it."""
        found = _SEEN.get(self)
        if found is None or not found.present <= at_ms < found.next:
            found = _starts(rule(self), at_ms)
            if len(_SEEN) >= _SEEN_MAX:
                _SEEN.clear()
            _SEEN[self] = found
        return found

    def start(self, at_ms: int) -> int:
        """Where what is admitted at a moment is counted from: the window's start, or its part's."""
        width = self.part_ms
        return at_ms // width * width if width else self.starts(at_ms).present

    def bounds(self, at_ms: int) -> tuple[int, int | None]:
        """[start, end) of the window of a moment; a rolling one ends with it and has no end."""
        width = self.part_ms
        if width:
            return (at_ms // width - PARTS) * width, None
        found = self.starts(at_ms)
        return found.present, found.next


class Starts(NamedTuple):
    """Where three windows begin, in Unix ms."""

    before: int
    present: int
    next: int

    @property
    def text(self) -> str:
        """As the scripts take them: which one is now is for their clock to say."""
        return f"{self.before}|{self.present}|{self.next}"


_SEEN: dict[Window, Starts] = {}
"""The present windows: a call asks for them, and they change once an hour at most."""
_SEEN_MAX = 4_096


class Rule(Protocol):
    """How the windows of a kind follow each other."""

    def bounds(self, at_ms: int) -> tuple[int, int]:
        """[start, end) of the window of a moment."""


def _starts(by: Rule, at_ms: int) -> Starts:
    present, following = by.bounds(at_ms)
    return Starts(by.bounds(present - 1)[0], present, following)


class Days:
    """Windows of whole days: a first day, and the first day of the next."""

    def __init__(
        self, zone: str, first: Callable[[date], date], following: Callable[[date], date]
    ) -> None:
        """`first`: of the window that a day is in; `following`: of the one after."""
        self._zone = ZoneInfo(zone)
        self._first = first
        self._following = following

    def bounds(self, at_ms: int) -> tuple[int, int]:
        """[start, end) of the window of a moment.

        A day may begin before another has ended (clocks set back over midnight), and some have
        never been (set forward over a whole one): so what counts is where the days begin.
        """
        first = self._first(_local(at_ms, self._zone).date())
        while self.begins(first) > at_ms:
            first = self._first(first - _DAY)
        following = self._following(first)
        while self.begins(following) <= at_ms:
            first, following = following, self._following(following)
        return self.begins(first), self.begins(following)

    def begins(self, day: date) -> int:
        """The first moment of a day in the zone, or of the next one if it has never been."""
        midnight = datetime.combine(day, time(), self._zone)
        found = midnight.astimezone(UTC)
        if found.astimezone(self._zone).replace(tzinfo=None) != midnight.replace(tzinfo=None):
            # clocks were set forward over it: the day begins where they were
            found = _change(midnight.replace(fold=1).astimezone(UTC), found, self._zone)
        return _unix_ms(found)


class Hours:
    """Windows of an hour of the zone's clocks. One in which clocks are set ends there."""

    def __init__(self, zone: str) -> None:
        self._zone = ZoneInfo(zone)

    def bounds(self, at_ms: int) -> tuple[int, int]:
        """[start, end) of the window of a moment."""
        offset = self._offset_ms(at_ms)
        start = at_ms - (at_ms + offset) % _HOUR_MS
        end = start + _HOUR_MS
        if self._offset_ms(start) != offset:
            start = self._change(start, at_ms)
        if self._offset_ms(end) != offset:
            end = self._change(at_ms, end)
        return start, end

    def _offset_ms(self, at_ms: int) -> int:
        offset = _local(at_ms, self._zone).utcoffset() or timedelta()
        return offset // timedelta(milliseconds=1)

    def _change(self, low_ms: int, high_ms: int) -> int:
        low, high = _local(low_ms, UTC), _local(high_ms + 999, UTC)
        return _unix_ms(
            _change(low.replace(microsecond=0), high.replace(microsecond=0), self._zone)
        )


def _change(low: datetime, high: datetime, zone: ZoneInfo) -> datetime:
    """The moment in (low, high] at which a zone's clocks are set; both are in UTC."""
    before = low.astimezone(zone).utcoffset()
    while high - low > _SECOND:
        middle = low + (high - low) // 2 // _SECOND * _SECOND
        if middle.astimezone(zone).utcoffset() == before:
            low = middle
        else:
            high = middle
    return high


@lru_cache(maxsize=4_096)
def rule(window: Window) -> Rule:
    """The rule of a calendar window."""
    every, zone = window.every or "", window.zone or "UTC"
    if every == "hour":
        return Hours(zone)
    if every in _MONTHS:
        return _months(zone, _MONTHS[every])
    if every == "day":
        return _days(zone, 1, date(2001, 1, 1))
    if every == "week":  # 2001 began on a Monday
        return _days(zone, 7, date(2001, 1, 1 + WEEKDAYS.index(window.first_day or "monday")))
    return _days(zone, int(every.split()[0]), date.fromisoformat(window.anchor or ""))


def _days(zone: str, days: int, anchor: date) -> Days:
    def first(day: date) -> date:
        return day - timedelta(days=(day - anchor).days % days)

    return Days(zone, first, lambda day: day + timedelta(days=days))


def _months(zone: str, months: int) -> Days:
    def first(day: date) -> date:
        return date(day.year, (day.month - 1) // months * months + 1, 1)

    def following(day: date) -> date:
        years, month = divmod(day.month - 1 + months, 12)
        return date(day.year + years, month + 1, 1)

    return Days(zone, first, following)


def _local(at_ms: int, zone: tzinfo) -> datetime:
    moment = datetime.fromtimestamp(at_ms // 1000, UTC).replace(microsecond=at_ms % 1000 * 1000)
    return moment.astimezone(zone)


def _unix_ms(moment: datetime) -> int:
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return since.days * 86_400_000 + since.seconds * 1000


@lru_cache(maxsize=256)
def moment_text(at_ms: int) -> str:
    """Where a window begins, for answers: `2026-12-01T00:00:00Z`."""
    return datetime.fromtimestamp(at_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@lru_cache(maxsize=256)
def _span_ms(text: str) -> int:
    match = _SPAN.fullmatch(text)
    return int(match[1]) * _UNITS_MS[match[2]] if match else 0


# What callers say


@lru_cache(maxsize=1)
def zones() -> frozenset[str]:
    """The names there are. The system's may be others: replicas must not differ."""
    return frozenset((files("tzdata") / "zones").read_text().split())


def checked(asked: Window) -> Window:
    """A window as it was asked for, in one spelling; raises InvalidRequest naming the member."""
    if (asked.every is None) == (asked.rolling is None):
        raise _invalid("", 'must have either "every" or "rolling"')
    if asked.rolling is not None:
        return _checked_rolling(asked, asked.rolling)
    every = (asked.every or "").lower()
    match = _DAYS.fullmatch(every)
    if every not in CALENDAR and (match is None or int(match[1]) > DAYS_MAX):
        raise _invalid(
            "every", f'must be {", ".join(CALENDAR)} or "N days", N from 1 to {DAYS_MAX}'
        )
    zone = asked.zone or "UTC"
    if zone not in zones():
        raise _invalid(
            "zone", f"{zone!r} is no time zone: give a name of the IANA's, such as Europe/Berlin"
        )
    return Window(
        every=every,
        zone=zone,
        first_day=_checked_first_day(asked.first_day, every),
        anchor=_checked_anchor(asked.anchor, days=match is not None),
    )


def _checked_rolling(asked: Window, rolling: str) -> Window:
    span_ms = _span_ms(rolling.lower())
    if not ROLLING_MIN_MS <= span_ms <= ROLLING_MAX_MS:
        raise _invalid(
            "rolling", 'must be such as "90 minutes", "24 hours" or "30 days", at most 366 days'
        )
    for member in ("zone", "first_day", "anchor"):
        if getattr(asked, member) is not None:
            raise _invalid(member, 'goes with "every" only: a rolling window has no bounds')
    return Window(rolling=rolling.lower())


def _checked_first_day(first_day: str | None, every: str) -> str | None:
    if every != "week":
        if first_day is not None:
            raise _invalid("first_day", 'goes with "every": "week" only')
        return None
    first_day = (first_day or "monday").lower()
    if first_day not in WEEKDAYS:
        raise _invalid("first_day", "must be the English name of a day of the week")
    return first_day


def _checked_anchor(anchor: str | None, *, days: bool) -> str | None:
    if not days:
        if anchor is not None:
            raise _invalid("anchor", 'goes with "every": "N days" only')
        return None
    try:
        day = date.fromisoformat(anchor or "")
    except ValueError:
        day = None
    if day is None or not 1970 <= day.year <= 2100:
        raise _invalid("anchor", 'must be a day from which to count, such as "2026-01-31"')
    return day.isoformat()


def _invalid(member: str, rule_: str) -> InvalidRequest:
    field = f"window.{member}" if member else "window"
    return InvalidRequest(f"{field} {rule_}", code="create_limit_validation_failed", field=field)
