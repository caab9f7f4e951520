"""The terms of a key, a team, a user or a customer: what may be spent, and how fast; and the limits
that they become.

| term            | becomes a limit                                   | its id                     |
|-----------------|---------------------------------------------------|----------------------------|
| `max_budget`    | a hard cap in the window of `budget_duration`     | `key:<id>:budget:<window>` |
| `budget_limits` | a hard cap each, in its own window                | `key:<id>:window:<window>` |
| `soft_budget`   | one that only says that it is exceeded            | `key:<id>:soft:<window>`   |
| no `max_budget` | but of a key: one that counts and refuses nothing | `team:<name>:spend`        |

`tpm_limit`, `rpm_limit` and `max_parallel_requests` become rates. Terms that are not said are those
of the budget that `budget_id` names.
"""

from __future__ import annotations

import hashlib
import re
from decimal import Decimal
from typing import Literal

import msgspec

from metering.core.durations import tag, window
from metering.core.limits import Mode, Unit
from metering.core.money import PICO_PER_USD, USD_MAX, parse_usd
from metering.core.rates import Kind
from metering.core.windows import Window
from metering.errors import InvalidRequest

Holder = Literal["key", "team", "user", "customer"]
Part = Literal["budget", "window", "soft", "spend", "rate"]
WINDOWS_MAX = 16
_PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,39}")
_RATES: dict[str, Kind] = {
    "rpm_limit": "requests",
    "tpm_limit": "tokens",
    "max_parallel_requests": "parallel",
}


class BudgetWindow(msgspec.Struct, frozen=True, kw_only=True):
    """One of several budgets at once: so many USD in each such span of time."""

    budget_duration: str
    max_budget: Decimal


class Terms(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was asked for, in LiteLLM's words; money is USD."""

    max_budget: Decimal | None = None
    soft_budget: Decimal | None = None
    budget_duration: str | None = None
    budget_limits: tuple[BudgetWindow, ...] | None = None
    tpm_limit: int | None = None
    rpm_limit: int | None = None
    max_parallel_requests: int | None = None
    budget_id: str | None = None

    def over(self, budget: Terms | None) -> Terms:
        """These terms, and those of a budget where they say nothing."""
        if budget is None:
            return self
        own = {it: getattr(self, it) for it in self.__struct_fields__}
        if self.max_budget is not None or self.budget_limits:  # its own money has its own windows
            budget = msgspec.structs.replace(budget, budget_duration=None)
        values = {it: getattr(budget, it) if value is None else value for it, value in own.items()}
        return Terms(**values)

    @property
    def rates(self) -> dict[Kind, int]:
        """The rates that they set."""
        said = {kind: getattr(self, name) for name, kind in _RATES.items()}
        return {kind: most for kind, most in said.items() if most is not None}


NO_TERMS = Terms()


class Cap(msgspec.Struct, frozen=True, kw_only=True):
    """A limit as terms have it."""

    part: Part
    limit_id: str
    mode: Mode
    max: int
    window: Window | None
    unit: Unit = "usd"
    threshold_ppm: int | None = None


def label(holder: str, name: str) -> str:
    """A holder in the alphabet of ids: a name that is no plain one is hashed."""
    if not _PLAIN.fullmatch(name):
        name = "." + hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:32]
    return f"{holder}:{name}"


def prefix(holder: Holder, name: str) -> str:
    """What the ids of a holder's limits begin with."""
    return label(holder, name) + ":"


def part_of(limit_id: str, holder: str) -> Part | None:
    """Which of a holder's limits an id is of (`holder` is their prefix); None: it is none of it."""
    part = limit_id.removeprefix(holder).partition(":")[0]
    known = limit_id.startswith(holder) and part in ("budget", "window", "soft", "spend")
    return part if known else None  # type: ignore[return-value]


def caps(holder: Holder, name: str, terms: Terms, since_ms: int) -> tuple[Cap, ...]:
    """The limits of a holder by his terms, whole. Raises InvalidRequest naming the term."""
    begin = prefix(holder, name)
    said = terms.budget_duration
    main = None if said is None else window(said, since_ms, "budget_duration")
    found: list[Cap] = []
    if terms.max_budget is not None:
        found.append(_cap(begin, "budget", "max_budget", terms.max_budget, main))
    elif holder != "key":
        spend = begin + "spend"
        most = USD_MAX * PICO_PER_USD
        found.append(Cap(part="spend", limit_id=spend, mode="allow", max=most, window=main))
    if terms.soft_budget is not None:
        found.append(_cap(begin, "soft", "soft_budget", terms.soft_budget, main))
    windows = terms.budget_limits or ()
    if len(windows) > WINDOWS_MAX:
        raise InvalidRequest(
            f"budget_limits has more than {WINDOWS_MAX} windows", field="budget_limits"
        )
    for it in windows:
        its = window(it.budget_duration, since_ms, "budget_limits")
        found.append(_cap(begin, "window", "budget_limits", it.max_budget, its))
    if len({it.limit_id for it in found}) < len(found):
        raise InvalidRequest(
            "budget_limits has two budgets for one span of time", field="budget_limits"
        )
    return tuple(found)


def window_id(begin: str, asked: BudgetWindow, since_ms: int) -> str:
    """The id of the limit that one of `budget_limits` is; `begin` as the ids of its holder do."""
    return _id(begin, "window", window(asked.budget_duration, since_ms, "budget_limits"))


def _id(begin: str, part: Part, its: Window | None) -> str:
    return ":".join((begin + part, tag(its))).rstrip(":")


def _cap(begin: str, part: Part, field: str, amount: Decimal, its: Window | None) -> Cap:
    return Cap(
        part=part,
        limit_id=_id(begin, part, its),
        mode="allow" if part == "soft" else "hard",
        max=parse_usd(amount, field),
        window=its,
    )
