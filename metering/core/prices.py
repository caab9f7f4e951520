"""Which prices are in force: a list, and what applications negotiated. An immutable snapshot.

A rate of an application's own says which models it is of (`openai/gpt-4o`, `anthropic/claude-*`,
`openai/*`, `*`), from when on, and either a multiplier of the list's prices or prices in their
place. Of those that have begun and fit a model the most specific one holds, alone: an exact name
before a pattern, a longer pattern before a shorter, a later date before an earlier. Models are
named as the list names them, so an alias or a snapshot has its model's rate.

Rates are of an application, of a credential, or of a limit.

- A call has one price. If a stored credential serves it that has a rate for the model, that is the
  price; else the application's own rate is; else what the list says.
- What a call names as a resource that the application priced itself costs that (`core.resources`).
- A limit in usd with own rates is charged what these say, in place of what the call costs: their
  multiplier, or their prices, on the price that the call has. The call's cost stays what it is, and
  so does what other limits are charged: callers name limits by headers, and headers only add.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date
from decimal import Decimal
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from metering.core.limits import Charge, Limit
from metering.core.resources import NONE, Resources, rates_at
from metering.errors import InvalidRequest
from pricing.book import PriceBook, midnight_ms
from pricing.cost import cost
from pricing.rates import Rates
from pricing.units import UNITS

Schedule = tuple[Rates, list[int], list[Rates]]
"""A model's rates by the list, when its own ones begin in Unix ms, and these."""
NOBODYS: Mapping[str, Negotiated] = MappingProxyType({})
RATES_MAX = 500
"""So many rates one application may have."""
_MATCH = re.compile(r"\*|[a-z0-9_.-]+/(\*|[^*\s]+\*?)")
_MULTIPLIER = re.compile(r"\d(\.\d{1,6})?", re.ASCII)
_DATED = re.compile(r"[-@](\d{4}|\d{8}|\d{4}-\d{2}-\d{2})|")
_PRICE = re.compile(r"\d{1,9}(\.\d{1,12})?", re.ASCII)


class OwnRate(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """A rate that was negotiated: for which models, from when, and what they cost."""

    match: str
    since: str | None = msgspec.field(name="from", default=None)
    """ISO date, effective at midnight UTC; None: always."""
    multiplier: str | None = None
    prices: dict[str, str] = {}
    """By unit, as in a price list: decimals in USD for `Unit.per` of them. They hold at the base
    service tier, whatever the context; what is not named here costs what the list says."""

    @property
    def rank(self) -> tuple[bool, int, str]:
        """What decides between two that fit."""
        return not self.match.endswith("*"), len(self.match), self.since or ""

    def fits(self, model: str) -> bool:
        """Whether this is of a model, `provider/id`."""
        if self.match.endswith("*"):
            return model.startswith(self.match[:-1])
        return model == self.match

    def applied(self, rates: Rates, name: str) -> Rates:
        """What a model costs at this rate; `name` is whose rate it is."""
        if self.multiplier is not None:
            own = rates.scaled(*Decimal(self.multiplier).as_integer_ratio())
        else:
            own = rates.replaced(self.prices)
        return replace(own, id=f"{rates.id}*{name}")


def checked(rates: Sequence[OwnRate]) -> tuple[OwnRate, ...]:
    """Rates that can be in force together; raises InvalidRequest naming the member at fault."""
    if len(rates) > RATES_MAX:
        raise InvalidRequest(f"rates has more than {RATES_MAX} members", field="rates")
    seen: set[tuple[str, str | None]] = set()
    for index, rate in enumerate(rates):
        key = (rate.match, rate.since)
        faults = [*_faults(rate), *(["from: another rate has this match and date"] * (key in seen))]
        if faults:
            field, _, fault = faults[0].partition(": ")
            place = f"rates[{index}].{field}"
            raise InvalidRequest(f"{place}: {fault}", code="invalid_own_prices", field=place)
        seen.add(key)
    return tuple(rates)


def _faults(rate: OwnRate) -> Iterator[str]:
    if not _MATCH.fullmatch(rate.match) or rate.match != rate.match.lower():
        yield "match: give provider/model, provider/prefix*, provider/* or *, in lower case"
    if rate.since is not None and not _is_date(rate.since):
        yield f"from: {rate.since!r} is not a date (YYYY-MM-DD)"
    if (rate.multiplier is None) == (not rate.prices):
        yield "multiplier: give either a multiplier or prices"
    if rate.multiplier is not None and not _is_multiplier(rate.multiplier):
        yield f"multiplier: {rate.multiplier!r} is not a decimal above 0 and below 10, as text"
    for unit, price in rate.prices.items():
        if unit not in UNITS:
            yield f"prices.{unit}: there is no such unit"
        elif not _PRICE.fullmatch(price):
            yield f"prices.{unit}: {price!r} is not a plain decimal of USD, as text"


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _is_multiplier(text: str) -> bool:
    return bool(_MULTIPLIER.fullmatch(text) and text.strip("0."))


def own_name(revision: int) -> str:
    """What the ids of own prices end in: `openai/gpt-4o@2026-12-01*own-7`."""
    return f"own-{revision}"


class OwnRates:
    """Somebody's own rates, by what the list says of a model."""

    def __init__(self, rates: Sequence[OwnRate], name: str) -> None:
        """`name` is `own_name`'s."""
        self._rates = rates
        self._name = name
        self._schedules: dict[int, Schedule] = {}

    def of(self, rates: Rates, at_ms: int) -> Rates:
        """What a model costs at a time: `rates` themselves where no own one is of it."""
        schedule = self._schedules.get(id(rates))
        if schedule is None:  # it holds the rates, so that no others ever have their address
            schedule = self._schedules[id(rates)] = self._schedule(rates)
        _, starts, own = schedule
        return own[bisect_right(starts, max(at_ms, 0)) - 1]

    def charged(
        self,
        rates: Rates,
        units: Mapping[str, int],
        at_ms: int,
        tier: str | None,
        scope: str | None,
        *,
        call: bool = True,
    ) -> tuple[int, int]:
        """Input and output, in pico-USD, of units that cost `rates` without these; with `call`, a
        call's own fee too, where there is one."""
        own = self.of(rates, at_ms)
        found = cost({**units, "requests": 1} if call and own.by_call else units, own, tier, scope)
        return found.input_pico, found.output_pico

    def rate_of(self, model: str, at_ms: int) -> OwnRate | None:
        """The rate that holds for a model, `provider/id`, at a time; None: the list's prices."""
        fit = [it for it in self._rates if it.fits(model) and midnight_ms(it.since or "") <= at_ms]
        return max(fit, key=lambda it: it.rank, default=None)

    def _schedule(self, rates: Rates) -> Schedule:
        model = model_of(rates)
        starts = sorted({0, *(midnight_ms(it.since or "") for it in self._rates)})
        holding = [self.rate_of(model, start) for start in starts]
        own = [rates if it is None else it.applied(rates, self._name) for it in holding]
        return rates, starts, own


class LimitRates(NamedTuple):
    """A limit's own rates, and which limit's: another one of its id is made at another time."""

    created_ms: int
    rates: OwnRates


Pinned = tuple[tuple[str, OwnRates], ...]
"""The limits of a call that have rates of their own, by id: none, nearly always."""


class Negotiated(NamedTuple):
    """All that is negotiated of one application: its rates, its credentials' and its limits'."""

    application: OwnRates | None = None
    credentials: Mapping[str, OwnRates] = MappingProxyType({})
    """By slug."""
    limits: Mapping[str, LimitRates] = MappingProxyType({})
    """By limit id."""

    def of(self, rates: Rates, at_ms: int, credential: str | None) -> Rates:
        """What a model costs a call at a time, that this stored credential serves, if one does."""
        theirs = self.credentials.get(credential or "")
        own = rates if theirs is None else theirs.of(rates, at_ms)
        if own is not rates:
            return own
        return rates if self.application is None else self.application.of(rates, at_ms)

    def pinned(self, limits: Iterable[Limit]) -> Pinned:
        """Those of a call's limits that are charged at rates of their own."""
        if not self.limits:
            return ()
        its = ((limit, self.limits.get(limit.limit_id)) for limit in limits if limit.unit == "usd")
        return tuple(
            [(it.limit_id, own.rates) for it, own in its if own and own.created_ms == it.created_ms]
        )

    def of_charges(self, charges: Iterable[Charge]) -> Pinned:
        """Those of the limits that a call was charged to; not what an earlier one of the id was."""
        if not self.limits:
            return ()
        its = ((it, self.limits.get(it.limit_id)) for it in charges if it.unit == "usd")
        return tuple(
            [(it.limit_id, own.rates) for it, own in its if own and own.created_ms <= it.epoch]
        )

    def of_limits(self, limit_ids: Iterable[str]) -> Pinned:
        """Those of limits that were charged at own rates before, as the rates are now."""
        return tuple([(it, self.limits[it].rates) for it in limit_ids if it in self.limits])


class PriceList:
    """The prices of one moment: looked up by every call, replaced as a whole."""

    __slots__ = ("book", "own", "resources", "version")

    def __init__(
        self,
        book: PriceBook,
        own: Mapping[str, Negotiated] = NOBODYS,
        resources: Mapping[str, Resources] = NONE,
    ) -> None:
        """`own`: by application, of those of which anything is negotiated; `resources`: likewise,
        of those that priced any themselves."""
        self.book = book
        self.own = dict(own)
        self.resources = dict(resources)
        self.version = book.version

    def resource(
        self,
        application_id: str,
        category: str | None,
        name: str,
        at_ms: int,
        *,
        reported: bool = False,
    ) -> Rates | None:
        """What a resource of an application's own costs a call of its at a time."""
        versions = self.resources.get(application_id, {}).get((category or "", name))
        return None if versions is None else rates_at(versions, at_ms, reported=reported)


def model_of(rates: Rates) -> str:
    """Who sells which model: `azure/gpt-4o`."""
    return rates.id.rpartition("@")[0]


def is_snapshot(one: str, other: str) -> bool:
    """Whether two names are of one model, of which one name says the date: `gpt-4-0613`."""
    short, long = sorted((it.lower().removesuffix("-latest") for it in (one, other)), key=len)
    return long.startswith(short) and bool(_DATED.fullmatch(long, len(short)))
