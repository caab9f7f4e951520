"""The price book: which rates a model has at a time. An immutable snapshot of the catalogue."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from datetime import date
from decimal import Decimal
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
from pricing.rates import Prices, Rates, compile_table, femto
from pricing.units import UNITS

History: TypeAlias = tuple[list[int], list[Rates]]
"""When each of a model's rates begins, in Unix ms, and the rates."""
NAMES_CACHED = 4_096
"""How many model names a book remembers: names come from callers, so they must not pile up."""
_DAY_MS = 86_400_000
_COMPACT_DATE = re.compile(r"[-@](20\d\d)(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])$")
_SNAPSHOT = re.compile(r"[-@]20\d\d-?(0[1-9]|1[0-2])-?(0[1-9]|[12]\d|3[01])$")


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
        self._models = {file.provider: _Models(file.models) for file in files}
        self._history = lru_cache(NAMES_CACHED)(self._resolve)
        self._compiled: dict[tuple[str, ...], History] = {}

    def find(self, provider: str, model: str, at_ms: int) -> Rates | None:
        """The rates of a model (any case; alias, dated snapshot, `ft:`) at a time in Unix ms.

        None: we know no price, which is not a price of zero. A snapshot that is not listed by
        itself has its undated name's price; a model that a provider resells and does not list, its
        vendor's.
        """
        history = self._history(provider, model)
        if history is None:
            return None
        starts, rates = history
        return rates[bisect_right(starts, max(at_ms, 0)) - 1]

    def dearest(self, provider: str, at_ms: int) -> Rates | None:
        """The rates of the provider's model whose output, or else input, costs most per token.

        What an unknown model is estimated by; None for a provider without priced tokens.
        """
        file = self._files.get(provider)
        sold = [provider, *(resold.vendor for resold in file.resells)] if file else []
        ids = [entry.id for seller in sold for entry in self._models[seller].entries]
        found = [self.find(provider, model, at_ms) for model in ids]
        priced = [rates for rates in found if rates is not None and rates.by_tokens]
        return max(
            priced, key=lambda rates: rates.likely(0, 1_000) + rates.likely(1_000, 0), default=None
        )

    def models(self) -> Iterator[tuple[str, ModelEntry]]:
        """Every (provider, entry) of the catalogue."""
        for provider, models in self._models.items():
            yield from ((provider, entry) for entry in models.entries)

    def _resolve(self, provider: str, model: str) -> History | None:
        file = self._files.get(provider)
        if file is None:
            return None
        if model == TOOLS:
            return self._history_of(file, _TOOLS, _TOOLS, None)
        own = self._models[provider].match(model)
        if own and own.prices:
            return self._history_of(file, own, own, None)
        for resold in file.resells:
            if entry := self._models[resold.vendor].match(resold.vendors_name(model)):
                own = own or self._models[provider].match(entry.id)
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


class _Models:
    """The entries of one provider: an exact name beats a pattern, a longer pattern a shorter."""

    def __init__(self, entries: Sequence[ModelEntry]) -> None:
        self.entries = entries
        self._exact: dict[str, ModelEntry] = {}
        patterns: list[tuple[str, ModelEntry]] = []
        for entry in entries:
            for pattern in entry.match:
                if "*" in pattern or "#" in pattern:
                    patterns.append((pattern, entry))
                else:
                    self._exact[pattern] = entry
        patterns.sort(key=lambda item: -len(item[0]))
        self._patterns = [(_regex(pattern), entry) for pattern, entry in patterns]

    def match(self, model: str) -> ModelEntry | None:
        """The entry a model name stands for."""
        name = model.lower()
        dashed = _COMPACT_DATE.sub(r"-\1-\2-\3", name)
        for candidate in dict.fromkeys((name, dashed, _SNAPSHOT.sub("", name))):
            if entry := self._exact.get(candidate) or self._by_pattern(candidate):
                return entry
        return None

    def _by_pattern(self, name: str) -> ModelEntry | None:
        return next((entry for regex, entry in self._patterns if regex.fullmatch(name)), None)


def _regex(pattern: str) -> re.Pattern[str]:
    parts = (r"\d" if c == "#" else ".*" if c == "*" else re.escape(c) for c in pattern)
    return re.compile("".join(parts), re.DOTALL)


def midnight_ms(day: str) -> int:
    """Unix milliseconds of an ISO date's midnight UTC; 0, the beginning of time, for ``."""
    return (date.fromisoformat(day) - date(1970, 1, 1)).days * _DAY_MS if day else 0


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
    return starts, [_rates(entry, terms, day) for day in ordered]


def _rates(entry: ModelEntry, terms: _Terms, day: str) -> Rates:
    current = {row.service_tier: row for row in in_force(entry.prices, day)}
    base: Prices = {unit: p for fees in terms.fees for unit, p in _fees(fees, day).items()}
    base = {**base, **_prices(current[BASE])}
    own = _fees(terms.own_fees, day)
    ratios = {
        row.scope: _ratio(row.multiplier) for rows in terms.scopes for row in in_force(rows, day)
    }
    return Rates(
        id=f"{terms.provider}/{entry.id}@{day or 'undated'}",
        provider=terms.owner,
        model=entry.id,
        tiers=MappingProxyType(
            {tier: compile_table({**base, **_prices(row), **own}) for tier, row in current.items()}
        ),
        scopes=MappingProxyType(ratios),
        max_output_tokens=entry.max_output_tokens,
        context_window=entry.context_window,
        source=current[BASE].source,
    )


def _fees(rows: Sequence[PriceRow], day: str) -> Prices:
    """The fees of a day: the latest row's, or, as with prices, the first one's before it began."""
    begun = in_force(rows, day) or _in_turn(rows)[:1]
    return _prices(begun[-1]) if begun else {}


def _in_turn(rows: Sequence[PriceRow]) -> list[PriceRow]:
    return in_force(rows, FOREVER)


def _ratio(multiplier: str) -> tuple[int, int]:
    return Decimal(multiplier).as_integer_ratio()


def _prices(row: PriceRow) -> Prices:
    brackets = [(0, row.prices), *sorted((int(start), p) for start, p in row.above.items())]
    return {
        unit: tuple(
            (start, femto(prices[unit], UNITS[unit].per))
            for start, prices in brackets
            if unit in prices
        )
        for unit in row.prices
    }
