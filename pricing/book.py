"""The price book: which rates a model has at a time. An immutable snapshot of the catalogue."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from pricing.catalogue import (
    BASE,
    FOREVER,
    TOOLS,
    ModelEntry,
    PriceFile,
    PriceRow,
    Resold,
    ScopeRow,
    in_force,
)
from pricing.names import Names, spellings
from pricing.rates import Prices, Rates, Ratio, compile_table, femto
from pricing.units import INPUT_TOKENS, UNITS
from pricing.validation import DAY_MINUTES, minutes_of

Hours: TypeAlias = tuple[tuple[frozenset[int], Rates], ...]
"""Rates that differ at some minutes of the day."""
History: TypeAlias = tuple[list[int], list[Rates], list[Hours]]
"""When each of a model's rates begins, in Unix ms, the rates, and those of some hours."""
NAMES_CACHED = 4_096
"""How many model names a book remembers: names come from callers, so they must not pile up."""
DAYS_CACHED = 256
"""Of how many providers and days a book remembers the dearest model."""
_DAY_MS = 86_400_000
_MINUTE_MS = 60_000
_NOTHING = Decimal(-1)
"""Less than any price."""


_TOOLS = ModelEntry(
    id=TOOLS,
    match=[TOOLS],
    prices=[PriceRow(since=None, prices={}, source="the provider's fees", checked="")],
)


class PriceBook:
    """Every model's dated rates, looked up by name and time."""

    def __init__(self, files: Sequence[PriceFile], version: str) -> None:
        """`version` names the snapshot; two books of one version price alike.

        A file's `resells` names other files of the book.
        """
        self.version = version
        self._files = {file.provider: file for file in files}
        self._names = {file.provider: Names(file.provider, file.models) for file in files}
        self._history = lru_cache(NAMES_CACHED)(self._resolve)
        self._dearest = lru_cache(DAYS_CACHED)(self._dearest_of)
        self._compiled: dict[tuple[str, ...], History] = {}

    def find(self, provider: str, model: str, at_ms: int) -> Rates | None:
        """The rates of a model (any case; alias, dated snapshot, `ft:`) at a time in Unix ms.

        None: we know no price, which is not a price of zero. A snapshot that is not listed by
        itself has its undated name's price; a model that a provider resells and does not list, its
        vendor's.
        """
        history = self._history(provider, model)
        return None if history is None else _at(history, at_ms)

    def history(self, provider: str, model: str) -> list[tuple[int, Rates]]:
        """When each of a model's rates begins, in Unix ms, and these; nothing if there are none."""
        found = self._history(provider, model)
        return [] if found is None else list(zip(found[0], found[1], strict=True))

    def dearest(self, provider: str, at_ms: int) -> Rates | None:
        """The rates of the provider's model whose tokens, in and out, cost most.

        What an unknown model is estimated by; None for a provider without priced tokens.
        """
        history = self._dearest(provider, day_of(at_ms)) if provider in self._files else None
        return None if history is None else _at(history, at_ms)

    def _dearest_of(self, provider: str, day: str) -> History | None:
        """Compared are prices as listed; only the winner is compiled: there may be a thousand."""
        file = self._files[provider]
        sellers: list[Resold | None] = [None, *file.resells]
        sold = [
            (_of_tokens(entry, day), entry, resold)
            for resold in sellers
            for entry in self._names[resold.vendor if resold else provider].entries
        ]
        most, entry, resold = max(sold, key=lambda item: item[0], default=(_NOTHING, None, None))
        if entry is None or most == _NOTHING:
            return None
        own = self._names[provider].called(entry.id) if resold else entry
        return self._history_of(file, entry, own, resold)

    def models(self) -> Iterator[tuple[str, ModelEntry]]:
        """Every (provider, entry) of the catalogue."""
        for provider, names in self._names.items():
            yield from ((provider, entry) for entry in names.entries)

    def _resolve(self, provider: str, model: str) -> History | None:
        file = self._files.get(provider)
        if file is None:
            return None
        if model == TOOLS:
            return self._history_of(file, _TOOLS, _TOOLS, None)
        own = self._names[provider].match(model)
        if own and own.prices:
            return self._history_of(file, own, own, None)
        for name in dict.fromkeys(spellings(provider, model)):
            for resold in file.resells:
                if entry := self._names[resold.vendor].match(resold.vendors_name(name)):
                    own = own or self._names[provider].called(entry.id)
                    return self._history_of(file, entry, own, resold)
        return None

    def _history_of(
        self, file: PriceFile, entry: ModelEntry, own: ModelEntry | None, resold: Resold | None
    ) -> History:
        terms = self._terms_of(file, resold, own.scopes if own else [])
        key = (terms.provider, terms.owner, entry.id, own.id if own else "")
        if key not in self._compiled:
            self._compiled[key] = _compile(entry, terms)
        return self._compiled[key]

    def _terms_of(
        self, file: PriceFile, resold: Resold | None, scopes: Sequence[ScopeRow]
    ) -> _Terms:
        """What a provider's file says of an entry: one of its own, or of one it resells."""
        if resold is None:
            vendors = [self._files[r.vendor].fees for r in reversed(file.resells) if r.own_tools]
            fees = [*vendors, file.fees]
            return _Terms(file.provider, file.provider, fees, [], (file.scopes, scopes))
        fees = [self._files[resold.vendor].fees]
        tools = file.fees if resold.own_tools else []
        return _Terms(file.provider, resold.vendor, fees, tools, (file.scopes, scopes))


def _at(history: History, at_ms: int) -> Rates:
    """The rates of a moment."""
    starts, rates, hours = history
    index = bisect_right(starts, max(0, at_ms)) - 1
    if hours[index]:
        minute = at_ms // _MINUTE_MS % DAY_MINUTES
        return next((r for minutes, r in hours[index] if minute in minutes), rates[index])
    return rates[index]


def midnight_ms(day: str) -> int:
    """Unix milliseconds of an ISO date's midnight UTC; 0, the beginning of time, for ``."""
    return (date.fromisoformat(day) - date(1970, 1, 1)).days * _DAY_MS if day else 0


def day_of(at_ms: int) -> str:
    """The ISO date in UTC of a time in Unix milliseconds."""
    return (date(1970, 1, 1) + timedelta(days=max(at_ms, 0) // _DAY_MS)).isoformat()


def _of_tokens(entry: ModelEntry, day: str) -> Decimal:
    """What a million tokens in and out cost, at the base of a day; -1 if tokens are not priced."""
    rows = _in_turn(row for row in entry.prices if row.service_tier == BASE)
    begun = in_force(rows, day) or rows[:1]
    prices = begun[-1].prices if begun else {}
    if INPUT_TOKENS.isdisjoint(prices):
        return _NOTHING
    return Decimal(prices.get("input", "0")) + Decimal(prices.get("output", "0"))


class _Terms(NamedTuple):
    """Whose model an entry is, who sells it, and the rows of theirs that stand around its own."""

    provider: str
    owner: str
    fees: Sequence[Sequence[PriceRow]]
    """These give way to the entry's prices, and the first ones to the last."""
    own_fees: Sequence[PriceRow]
    """These do not."""
    scopes: Sequence[Sequence[ScopeRow]]


def _compile(entry: ModelEntry, terms: _Terms) -> History:
    """One Rates per day on which any row begins; the first holds for all the time before, too."""
    first = min(row.since or "" for row in entry.prices if row.service_tier == BASE)
    fees = [_in_turn(rows)[1:] for rows in (*terms.fees, terms.own_fees)]
    days = {row.since or "" for rows in (entry.prices, *fees) for row in rows}
    days |= {row.since or "" for rows in terms.scopes for row in rows}
    ordered = sorted({max(day, first) for day in days})
    starts = [0, *map(midnight_ms, ordered[1:])]
    rates = [_rates(entry, terms, day) for day in ordered]
    return starts, rates, [_hours(entry, terms, day) for day in ordered]


def _hours(entry: ModelEntry, terms: _Terms, day: str) -> Hours:
    """The rates of the hours that have their own, on a day."""
    current = {row.service_tier: row for row in in_force(entry.prices, day)}
    names = dict.fromkeys(name for row in current.values() for name in row.hours)
    return tuple(
        (frozenset(minutes_of(name)), _rates(entry, terms, day, hours=name)) for name in names
    )


def _rates(entry: ModelEntry, terms: _Terms, day: str, hours: str = "") -> Rates:
    current = {row.service_tier: row for row in in_force(entry.prices, day)}
    base: Prices = {unit: p for fees in terms.fees for unit, p in _fees(fees, day).items()}
    base = {**base, **_prices(current[BASE], hours)}
    own = _fees(terms.own_fees, day)
    ratios = {
        row.scope: _ratio(row.multiplier) for rows in terms.scopes for row in in_force(rows, day)
    }
    version = f"{terms.provider}/{entry.id}@{day or 'undated'}"
    return Rates(
        id=f"{version}+{hours}" if hours else version,
        provider=terms.owner,
        model=entry.id,
        tiers=MappingProxyType(
            {
                tier: compile_table({**base, **_prices(row, hours), **own})
                for tier, row in current.items()
            }
        ),
        scopes=MappingProxyType(ratios),
        max_output_tokens=entry.max_output_tokens,
        context_window=entry.context_window,
        source=current[BASE].source,
        at_least=MappingProxyType(entry.at_least),
    )


def _fees(rows: Sequence[PriceRow], day: str) -> Prices:
    """The fees of a day: the latest row's, or, as with prices, the first one's before it began."""
    begun = in_force(rows, day) or _in_turn(rows)[:1]
    return _prices(begun[-1]) if begun else {}


def _in_turn(rows: Iterable[PriceRow]) -> list[PriceRow]:
    return in_force(rows, FOREVER)


def _ratio(multiplier: str) -> Ratio:
    return Fraction(multiplier).as_integer_ratio()


def _prices(row: PriceRow, hours: str = "") -> Prices:
    base = row.prices | row.hours.get(hours, {})
    brackets = [(0, base), *sorted((int(start), p) for start, p in row.above.items())]
    return {
        unit: tuple(
            (start, femto(prices[unit], UNITS[unit].per))
            for start, prices in brackets
            if unit in prices
        )
        for unit in base
    }
