"""LiteLLM's spans of time, `30s`, `24h`, `7d`, `1mo`, `monthly`, and the windows that they mean.

| said                            | window of a budget                                           |
|---------------------------------|--------------------------------------------------------------|
| `1h`, `60m`, `hourly`           | each hour                                                    |
| `24h`, `1d`, `daily`            | each day, from midnight UTC                                  |
| `7d`, `1w`, `weekly`            | each week, from Monday                                       |
| `30d`, `1mo`, `monthly`         | each month, from the first                                   |
| `3mo`, `12mo`                   | each quarter, each year                                      |
| other days and weeks            | every so many days, from the day on which it was set         |
| other hours, minutes, seconds   | rolling: so much in any such span, rounded up to whole minutes |

LiteLLM begins its spans of some hours or minutes where a day's begin; a rolling one allows no more.
"""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import UTC, datetime

from metering.core.windows import DAYS_MAX, ROLLING_MAX_MS, Window
from metering.errors import InvalidRequest

_SAID = re.compile(r"([0-9]{1,6})(mo|[smhdw])")
_WORDS = {"hourly": "1h", "daily": "1d", "weekly": "7d", "monthly": "30d"}
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_YEAR_10000_MS = 253_402_300_800_000
_HOUR_S, _DAY_S = 3_600, 86_400
_CALENDAR_S = {_HOUR_S: "hour", _DAY_S: "day", 7 * _DAY_S: "week", 30 * _DAY_S: "month"}
_CALENDAR_MONTHS = {1: "month", 3: "quarter", 12: "year"}


def window(said: str, since_ms: int, field: str) -> Window:
    """The window of a budget that is set on the day of `since_ms`; raises InvalidRequest."""
    count, unit = _parsed(said, field)
    if unit == "mo":
        if count not in _CALENDAR_MONTHS:
            raise _invalid(said, field, "of months there are 1mo, 3mo and 12mo")
        return _calendar(_CALENDAR_MONTHS[count])
    span_s = count * _SECONDS[unit]
    if span_s in _CALENDAR_S:
        return _calendar(_CALENDAR_S[span_s])
    if unit in "dw":
        days = span_s // _DAY_S
        if days > DAYS_MAX:
            raise _invalid(said, field, f"it is at most {DAYS_MAX} days")
        anchor = datetime.fromtimestamp(since_ms // 1000, UTC).date()
        return Window(every=f"{days} days", zone="UTC", anchor=anchor.isoformat())
    minutes = -(-span_s // 60)
    if minutes * 60_000 > ROLLING_MAX_MS:
        raise _invalid(said, field, "it is at most 366 days")
    return Window(rolling=f"{minutes} minutes")


def ends_ms(said: str, now_ms: int, field: str) -> int:
    """When a span of time is over that begins now; raises InvalidRequest."""
    count, unit = _parsed(said, field)
    if unit != "mo":
        end_ms = now_ms + count * _SECONDS[unit] * 1000
        if end_ms >= _YEAR_10000_MS:
            raise _invalid(said, field, "it ends after the year 9999")
        return end_ms
    now = datetime.fromtimestamp(now_ms // 1000, UTC)
    years, month = divmod(now.month - 1 + count, 12)
    year = now.year + years
    if year > 9999:
        raise _invalid(said, field, "it ends after the year 9999")
    day = min(now.day, monthrange(year, month + 1)[1])
    return int(now.replace(year=year, month=month + 1, day=day).timestamp()) * 1000


def tag(its: Window | None) -> str:
    """A window in a few letters, for the ids of limits: windows that differ have others."""
    if its is None:
        return ""
    if its.rolling is not None:
        return its.rolling.replace(" minutes", "m")
    return (its.every or "").replace(" days", "d")


def _calendar(every: str) -> Window:
    return Window(every=every, zone="UTC", first_day="monday" if every == "week" else None)


def _parsed(said: str, field: str) -> tuple[int, str]:
    match = _SAID.fullmatch(_WORDS.get(said.strip().lower(), said))
    if match is None or not int(match[1]):
        raise _invalid(said, field, "Use a format like '1h', '24h', '7d', or '30d'.")
    return int(match[1]), match[2]


def _invalid(said: str, field: str, why: str) -> InvalidRequest:
    return InvalidRequest(f"Invalid {field} '{said[:32]}'. {why}", field=field)
