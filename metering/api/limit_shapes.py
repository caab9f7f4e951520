"""A limit on the wire, in Pay-i's shape, and back: bodies, answers, amounts in the limit's unit.

An amount is USD (an exact JSON number) for unit `usd` and a plain integer for the others. `unit`
and `hard_cap` are this service's additions to the shape; unknown members of bodies are ignored.
"""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal, Inexact
from typing import Any, Literal, cast, get_args

import msgspec

from metering.api.text import checked_id, checked_name, checked_properties, moment
from metering.core import rules
from metering.core.limits import STATES, Limit, Mode, OnStoreDown, Totals, Unit
from metering.core.money import EXACT, parse_usd, usd
from metering.core.windows import Window, checked
from metering.errors import InvalidRequest

COUNT_MAX = 10**15
"""The largest `max` of a limit that counts something other than USD; Lua counts exactly to 2^53."""
PPM = 1_000_000
THRESHOLD_MIN, THRESHOLD_MAX = Decimal("0.75"), Decimal("0.99")
_VALIDATION = "create_limit_validation_failed"


class AskedWindow(Window, frozen=True, forbid_unknown_fields=True):
    """A window: `every` hour, day, week, month, quarter, year or "N days" in a `zone` (UTC), a week
    from its `first_day` (monday), N days from an `anchor` (2026-01-31); or `rolling` ("24 hours").
    """


class CreateLimit(msgspec.Struct, kw_only=True):
    """The body of a new limit."""

    limit_name: str
    max: Decimal
    limit_id: str | None = None
    limit_type: str | None = None
    hard_cap: bool | None = None
    unit: str | None = None
    threshold: Decimal | None = None
    window: AskedWindow | None = None
    on_store_down: str | None = None
    properties: dict[str, str | None] | None = None


class UpdateLimit(msgspec.Struct, kw_only=True):
    """The body of a change; what is absent or null stays as it is, and `window` stays anyway."""

    max: Decimal | None = None
    limit_name: str | None = None
    on_store_down: str | None = None
    window: AskedWindow | None = None


class Properties(msgspec.Struct, kw_only=True):
    """Properties to set; null deletes one."""

    properties: dict[str, str | None] = {}


class Base(msgspec.Struct, kw_only=True):
    """An amount, in the limit's unit."""

    base: Decimal


class TotalBase(Base, kw_only=True):
    """An amount and by how much it is beyond max."""

    overrun_base: Decimal


class Costs(msgspec.Struct, kw_only=True):
    """What was spent: for input, for output and in all."""

    input: Base
    output: Base
    total: TotalBase


class Requests(msgspec.Struct, kw_only=True):
    """How many calls ended in which state; each counts once."""

    ok: int
    exceeded: int
    overrun: int
    blocked: int
    blocked_external: int
    failed: int
    total: int


class LimitTotals(msgspec.Struct, kw_only=True):
    """What a limit has counted in its window that is now, and since its last reset."""

    cost: Costs
    requests: Requests


class LimitObject(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A limit."""

    limit_id: str
    limit_name: str
    limit_type: Literal["allow", "block"]
    hard_cap: bool
    unit: Unit
    max: Decimal
    limit_creation_timestamp: datetime
    limit_update_timestamp: datetime
    totals: LimitTotals
    threshold: Decimal | None = None
    window: Window | None = None
    window_starts_at: datetime | None = None
    resets_at: datetime | None = None
    on_store_down: OnStoreDown
    properties: dict[str, str | None] | None = None


class LimitResponse(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One limit as an answer."""

    request_id: str
    limit: LimitObject
    message: str | None = None


class LimitHistory(msgspec.Struct, kw_only=True):
    """A limit as it was when it was reset."""

    limit_id: str
    limit_name: str
    limit_type: Literal["allow", "block"]
    max: Decimal
    limit_reset_timestamp: datetime
    totals: LimitTotals


class LimitPeriod(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What a limit came to in a window that has ended, or between two resets."""

    starts_at: datetime
    ends_at: datetime
    max: Decimal
    totals: LimitTotals


class LimitHistoryResponse(msgspec.Struct, kw_only=True):
    """The answer of a reset."""

    request_id: str
    message: str
    limit_history: LimitHistory


class DefaultResponse(msgspec.Struct, kw_only=True):
    """An answer that only confirms."""

    request_id: str
    message: str


def amount(value: int, unit: Unit) -> Decimal:
    """An amount for the wire: pico to USD, other units as they are."""
    return usd(value) if unit == "usd" else Decimal(value)


def parse_max(value: Decimal, unit: Unit, code: str = "invalid_max_limit") -> int:
    """The amount of a `max` in the limit's unit; raises InvalidRequest with `code`."""
    if unit == "usd":
        try:
            return parse_usd(value, "max")
        except InvalidRequest as fault:
            raise InvalidRequest(fault.message, code=code, field="max") from None
    if not value.is_finite() or not 0 <= value <= COUNT_MAX or value != int(value):
        raise InvalidRequest(
            f"max of a limit on {unit} must be an integer between 0 and 10^15",
            code=code,
            field="max",
        )
    return int(value)


def parse_threshold(value: Decimal | None) -> int | None:
    """A threshold in millionths of max; None and 0 mean unset."""
    if value is None or value.is_zero():
        return None
    if not value.is_finite() or not THRESHOLD_MIN <= value <= THRESHOLD_MAX:
        raise _invalid("threshold must be between 0.75 and 0.99, or 0 for none", "threshold")
    try:
        return int(value.scaleb(6, EXACT).quantize(Decimal(1), context=EXACT))
    except Inexact:
        raise _invalid("threshold has more than 6 decimal places", "threshold") from None


def parse_mode(limit_type: str | None, *, hard_cap: bool | None) -> Mode:
    """The mode of a `limit_type` (any case, `allow` if absent) and `hard_cap`."""
    kind = (limit_type or "allow").lower()
    if kind not in ("allow", "block"):
        raise _invalid("limit_type must be allow or block", "limit_type")
    if hard_cap and kind == "allow":
        raise _invalid('hard_cap goes with limit_type "block" only: add it', "hard_cap")
    return "hard" if hard_cap else cast(Mode, kind)


def parse_unit(unit: str | None) -> Unit:
    """The unit of a limit, any case, `usd` if absent."""
    known = (unit or "usd").lower()
    if known not in get_args(Unit):
        raise _invalid(f"unit must be one of {', '.join(get_args(Unit))}", "unit")
    return cast(Unit, known)


def parse_window(asked: AskedWindow | None, unit: Unit) -> Window | None:
    """The window of a limit, in one spelling."""
    if asked is None:
        return None
    if unit == "concurrent":
        raise _invalid("window goes with what adds up, and concurrent calls do not", "window")
    return checked(asked)


def parse_on_store_down(asked: str | None, mode: Mode) -> OnStoreDown | None:
    """What becomes of calls while nobody can tell what the limit has counted; None: not said."""
    if asked is None:
        return None
    known = asked.lower()
    if known not in get_args(OnStoreDown):
        raise _invalid("on_store_down must be refuse or allow", "on_store_down")
    if known == "allow" and mode == "hard":
        raise _invalid(
            "on_store_down cannot be allow with hard_cap: calls that nobody counts would pass it",
            "on_store_down",
        )
    return cast(OnStoreDown, known)


def parse_limit(body: CreateLimit, application_id: str, limit_id: str, now_ms: int) -> Limit:
    """The limit a body asks for; `limit_id` is for when it names none."""
    unit, mode = parse_unit(body.unit), parse_mode(body.limit_type, hard_cap=body.hard_cap)
    return Limit(
        application_id=application_id,
        limit_id=checked_id(body.limit_id or limit_id, "limit_id"),
        limit_name=checked_name(body.limit_name, "limit_name"),
        mode=mode,
        unit=unit,
        max=parse_max(body.max, unit),
        threshold_ppm=parse_threshold(body.threshold),
        epoch=now_ms,
        created_ms=now_ms,
        updated_ms=now_ms,
        properties=without_nulls(checked_properties(body.properties or {})),
        window=parse_window(body.window, unit),
        on_store_down=parse_on_store_down(body.on_store_down, mode),
    )


def without_nulls(properties: Mapping[str, str | None]) -> dict[str, str | None]:
    """Properties less those that are null."""
    return {name: value for name, value in properties.items() if value is not None}


def differences(asked: Limit, existing: Limit) -> list[str]:
    """The members a re-created limit asks to be different, which makes it another limit."""
    pairs = {
        "max": (asked.max, existing.max),
        "threshold": (asked.threshold_ppm, existing.threshold_ppm),
        "limit_type or hard_cap": (asked.mode, existing.mode),
        "unit": (asked.unit, existing.unit),
        "window": (asked.window, existing.window),
        "on_store_down": (asked.refuses_without_store, existing.refuses_without_store),
    }
    return [member for member, (left, right) in pairs.items() if left != right]


def limit_type(limit: Limit) -> Literal["allow", "block"]:
    """Pay-i's type of a limit; a hard cap is a block."""
    return "allow" if limit.mode == "allow" else "block"


def totals_of(limit: Limit, totals: Totals, maximum: int | None = None) -> LimitTotals:
    """The counters of a limit, with `overrun_base` = max(0, total - max)."""
    overrun = max(0, totals.settled - (limit.max if maximum is None else maximum))
    counts = {state: totals.counts.get(state, 0) for state in STATES}
    return LimitTotals(
        cost=Costs(
            input=Base(base=amount(totals.settled_input, limit.unit)),
            output=Base(base=amount(totals.settled_output, limit.unit)),
            total=TotalBase(
                base=amount(totals.settled, limit.unit), overrun_base=amount(overrun, limit.unit)
            ),
        ),
        requests=Requests(**counts, total=totals.requests),
    )


def limit_object(limit: Limit, totals: Totals) -> LimitObject:
    """A limit and its counters, as callers see them."""
    ppm = limit.threshold_ppm
    starts_at, resets_at = bounds(limit, totals)
    return LimitObject(
        limit_id=limit.limit_id,
        limit_name=limit.limit_name,
        limit_type=limit_type(limit),
        hard_cap=limit.mode == "hard",
        unit=limit.unit,
        max=amount(limit.max, limit.unit),
        threshold=None if ppm is None else usd(ppm * PPM),
        limit_creation_timestamp=moment(limit.created_ms),
        limit_update_timestamp=moment(limit.updated_ms),
        totals=totals_of(limit, totals),
        window=limit.window,
        window_starts_at=starts_at,
        resets_at=resets_at,
        on_store_down="refuse" if limit.refuses_without_store else "allow",
        properties=limit.properties or None,
    )


def bounds(limit: Limit, totals: Totals) -> tuple[datetime | None, datetime | None]:
    """When the window of these counters began, and when it ends; a rolling one does neither."""
    resets_ms = limit.resets_ms(totals.epoch)
    if limit.window is None or resets_ms is None:
        return None, None
    return moment(limit.window.bounds(resets_ms - 1)[0]), moment(resets_ms)


def history_of(limit: Limit, totals: Totals, reset_ms: int) -> LimitHistory:
    """A limit as a reset found it."""
    return LimitHistory(
        limit_id=limit.limit_id,
        limit_name=limit.limit_name,
        limit_type=limit_type(limit),
        max=amount(limit.max, limit.unit),
        limit_reset_timestamp=moment(reset_ms),
        totals=totals_of(limit, totals),
    )


def _invalid(message: str, field: str) -> InvalidRequest:
    return InvalidRequest(message, code=_VALIDATION, field=field)


def budget(limit: Limit, totals: Totals) -> dict[str, Any]:
    """What is left of a limit: `remaining` = max - spent - held, and never below 0."""
    held = rules.held(limit, totals)
    remaining = max(0, limit.max - totals.settled - held)
    _, resets_at = bounds(limit, totals)
    return {
        "limit_id": limit.limit_id,
        "limit_name": limit.limit_name,
        "mode": limit.mode,
        "unit": limit.unit,
        "max": amount(limit.max, limit.unit),
        "spent": amount(totals.settled, limit.unit),
        "held": amount(held, limit.unit),
        "holds": totals.holds,
        "remaining": amount(remaining, limit.unit),
        "percent": _percent(totals.settled, limit.max),
        "state": rules.state_after(totals.settled, limit),
        "window": limit.window,
        "resets_at": resets_at,
    }


def _percent(settled: int, maximum: int) -> Decimal:
    """Spent as a share of max, two places; a max of 0 is always used up."""
    if maximum == 0:
        return Decimal(100)
    return Decimal(settled * 10_000 // maximum).scaleb(-2)
