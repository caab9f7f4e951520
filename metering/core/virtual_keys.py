"""The budgets and rates of a virtual key, which is a stored credential, in Portkey's words; and the
limits that they become, all attached to it. Their ids begin with `virtual_key:<slug>:`.

| said                           | becomes a limit                   | the rest of its id         |
|--------------------------------|-----------------------------------|----------------------------|
| `usage_limits` of type `cost`  | a hard cap in USD                 | `budget:<window>`          |
| the same, of type `tokens`     | a hard cap in tokens              | `budget:tokens:<window>`   |
| with `"mode": "block"`         | one that lets a last call through | the same                   |
| `rate_limits`                  | a block in a rolling window       | `rate:<type>:<unit>`       |

| said                   | window, whose days begin at 00:00 UTC                                   |
|------------------------|-------------------------------------------------------------------------|
| no periodic reset      | none: it counts until it is reset                                       |
| `monthly`              | each month, from the first                                              |
| `weekly`               | each week, from Sunday, or the weekday of `next_usage_reset_at`         |
| `periodic_reset_days`  | every so many, from the day it was made, or from `next_usage_reset_at`  |

A rate is a block, not a hard cap: it counts what calls likely use, so that one that says nothing of
its output is not refused for the most that it might. Of requests it admits not one more either way.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Literal

import msgspec

from metering.core.credentials import RESERVED
from metering.core.limits import Unit
from metering.core.money import parse_usd
from metering.core.terms import Cap
from metering.core.windows import WEEKDAYS, Window
from metering.errors import InvalidRequest

PREFIX = "virtual_key:"
TOKENS_MIN = 100
COUNT_MAX = 10**15
"""The largest amount of what is counted; Lua counts exactly to 2^53."""
DAYS_MAX = 365
USAGE_LIMITS_MAX = 8
PPM = 1_000_000
SLUG_CHARS_MAX = 57
"""Of a name's part in a slug; a dash and six more follow."""
SPANS = {"rpm": "1 minutes", "rph": "60 minutes", "rpd": "24 hours", "rpw": "7 days"}
"""By unit of a rate, the span in which it counts."""
_EPOCH = date(1970, 1, 1).toordinal()
_DASHED = re.compile(r"[^a-z0-9]+")

Period = Literal["weekly", "monthly"]


class UsageLimit(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """So much in each window: USD, or tokens."""

    credit_limit: Decimal
    type: Literal["cost", "tokens"] = "cost"
    alert_threshold: Decimal | None = None
    periodic_reset: Period | None = None
    periodic_reset_days: int | None = None
    next_usage_reset_at: str | None = None
    mode: Literal["hard", "block"] = "hard"

    @property
    def unit(self) -> Unit:
        """The unit of the limit that it becomes."""
        return "usd" if self.type == "cost" else "tokens"


class RateLimit(msgspec.Struct, frozen=True, kw_only=True):
    """So many requests or tokens in any such span."""

    type: Literal["requests", "tokens"]
    unit: str
    value: int


class Terms(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was asked for."""

    usage_limits: tuple[UsageLimit, ...] = ()
    rate_limits: tuple[RateLimit, ...] = ()
    listed: bool = False
    """Whether usage limits came as a list, and are shown as one."""


NO_TERMS = Terms()


def prefix(slug: str) -> str:
    """What the ids of a virtual key's own limits begin with."""
    return f"{PREFIX}{slug}:"


def slug_of(name: str, random: bytes) -> str:
    """What a virtual key of a name is called: `open-ai-prod-3fb2a1`."""
    begin = _DASHED.sub("-", name.lower()).strip("-")[:SLUG_CHARS_MAX].strip("-")
    slug = f"{begin}-{random.hex()[:6]}".lstrip("-")
    while slug.startswith(RESERVED):
        slug = slug.removeprefix(RESERVED)
    return slug


def caps(slug: str, terms: Terms, since_ms: int) -> tuple[Cap, ...]:
    """All limits of a virtual key, the usage limits in the order of their terms. Raises
    InvalidRequest naming the member."""
    return (*budgets(slug, terms, since_ms), *rates(slug, terms))


def budgets(slug: str, terms: Terms, since_ms: int) -> tuple[Cap, ...]:
    """The limits that usage limits are, of a virtual key that was made on the day of `since_ms`."""
    asked = terms.usage_limits
    if len(asked) > USAGE_LIMITS_MAX:
        raise _wrong("usage_limits", f"has more than {USAGE_LIMITS_MAX}")
    names = [f"usage_limits[{at}]" if terms.listed else "usage_limits" for at in range(len(asked))]
    found = [_budget(slug, it, since_ms, name) for it, name in zip(asked, names, strict=True)]
    if len({it.limit_id for it in found}) < len(found):
        raise _wrong("usage_limits", "has two of one type for one span of time")
    return tuple(found)


def rates(slug: str, terms: Terms) -> tuple[Cap, ...]:
    """The limits that rate limits are."""
    found = []
    for at, asked in enumerate(terms.rate_limits):
        name = f"rate_limits[{at}]"
        if asked.unit not in SPANS:
            raise _wrong(f"{name}.unit", f"must be one of {', '.join(SPANS)}")
        if not 0 <= asked.value <= COUNT_MAX:
            raise _wrong(f"{name}.value", "must be an integer between 0 and 10^15")
        cap = Cap(
            part="rate",
            limit_id=f"{prefix(slug)}rate:{asked.type}:{asked.unit}",
            mode="block",
            max=asked.value,
            window=Window(rolling=SPANS[asked.unit]),
            unit=asked.type,
        )
        found.append(cap)
    if len({it.limit_id for it in found}) < len(found):
        raise _wrong("rate_limits", "has two of one type and unit")
    return tuple(found)


def _budget(slug: str, asked: UsageLimit, since_ms: int, name: str) -> Cap:
    most = _amount(asked, asked.credit_limit, f"{name}.credit_limit")
    its = _window(asked, since_ms, name)
    threshold_ppm = None
    if asked.alert_threshold is not None:
        alert = _amount(asked, asked.alert_threshold, f"{name}.alert_threshold")
        if not 0 < alert < most:
            raise _wrong(
                f"{name}.alert_threshold", "must be more than 0 and less than credit_limit"
            )
        threshold_ppm = max(1, alert * PPM // most)
    parts = ("budget", "" if asked.unit == "usd" else asked.unit, _tag(its))
    return Cap(
        part="budget",
        limit_id=prefix(slug) + ":".join(filter(None, parts)),
        mode=asked.mode,
        max=most,
        window=its,
        unit=asked.unit,
        threshold_ppm=threshold_ppm,
    )


def _amount(asked: UsageLimit, value: Decimal, field: str) -> int:
    """An amount in the unit of its limit."""
    if asked.type == "cost":
        return parse_usd(value, field)
    if not value.is_finite() or not 0 < value <= COUNT_MAX or value != int(value):
        raise _wrong(field, "must be an integer between 1 and 10^15: it counts tokens")
    if field.endswith("credit_limit") and value < TOKENS_MIN:
        raise _wrong(field, f"must be at least {TOKENS_MIN} tokens")
    return int(value)


def _window(asked: UsageLimit, since_ms: int, name: str) -> Window | None:
    period, days = asked.periodic_reset, asked.periodic_reset_days
    if period is not None and days is not None:
        raise _wrong(f"{name}.periodic_reset_days", "cannot be set with periodic_reset")
    if days is not None and not 1 <= days <= DAYS_MAX:
        raise _wrong(f"{name}.periodic_reset_days", f"must be from 1 to {DAYS_MAX}")
    field = f"{name}.next_usage_reset_at"
    first = None
    if asked.next_usage_reset_at is not None:
        first = _day(asked.next_usage_reset_at, field)
        if period is None and days is None:
            raise _wrong(field, "goes with periodic_reset or periodic_reset_days")
    if period == "monthly":
        if first is not None and first.day != 1:
            raise _wrong(field, "must be the first of a month: months begin there")
        return Window(every="month", zone="UTC")
    if period == "weekly":
        weekday = "sunday" if first is None else WEEKDAYS[first.weekday()]
        return Window(every="week", zone="UTC", first_day=weekday)
    if days is None:
        return None
    if days == 1:
        return Window(every="day", zone="UTC")
    # one spelling for days from which the same windows are counted: what is shown may be sent
    number = (first or datetime.fromtimestamp(since_ms // 1000, UTC).date()).toordinal()
    anchor = date.fromordinal(_EPOCH + (number - _EPOCH) % days)
    return Window(every=f"{days} days", zone="UTC", anchor=anchor.isoformat())


def _day(text: str, field: str) -> date:
    """The day that begins at a moment."""
    try:
        at = datetime.fromisoformat(text)
        at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        raise _wrong(field, "must be a time such as 2026-01-31T00:00:00Z") from None
    if at.time() != time() or not 1970 <= at.year <= 2100:
        raise _wrong(field, "must be at 00:00 UTC of a day of 1970 to 2100: usage is reset there")
    return at.date()


def _tag(its: Window | None) -> str:
    """A window in an id: windows that differ have others."""
    if its is None:
        return ""
    every = (its.every or "").replace(" days", "d")
    return "-".join(it for it in (every, its.first_day, its.anchor) if it)


def _wrong(field: str, rule: str) -> InvalidRequest:
    return InvalidRequest(f"{field} {rule}", field=field)
