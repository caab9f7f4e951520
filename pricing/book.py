"""The price book: which rates a model has at a time. An immutable snapshot of the catalogue."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from datetime import date
from decimal import Decimal
from functools import lru_cache
from types import MappingProxyType

from pricing.catalogue import BASE, ModelEntry, PriceFile, PriceRow, in_force
from pricing.rates import Prices, Rates, compile_table, femto
from pricing.units import UNITS

NAMES_CACHED = 4_096
"""How many model names a book remembers: names come from callers, so they must not pile up."""
_DAY_MS = 86_400_000
_COMPACT_DATE = re.compile(r"[-@](20\d\d)(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])$")
_SNAPSHOT = re.compile(r"[-@]20\d\d-?(0[1-9]|1[0-2])-?(0[1-9]|[12]\d|3[01])$")


class PriceBook:
    """Every model's dated rates, looked up by name and time."""

    def __init__(self, files: Sequence[PriceFile], version: str) -> None:
        """`version` names the snapshot; two books of one version price alike."""
        self.version = version
        self._models = {file.provider: _Models(file.models) for file in files}
        self._history = lru_cache(NAMES_CACHED)(self._resolve)
        self._compiled: dict[tuple[str, str], tuple[list[int], list[Rates]]] = {}

    def find(self, provider: str, model: str, at_ms: int) -> Rates | None:
        """The rates of a model (any case; alias, dated snapshot, `ft:`) at a time in Unix ms.

        None: we know no price, which is not a price of zero. A snapshot that is not listed by
        itself has its undated name's price.
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
        models = self._models.get(provider)
        found = [self.find(provider, entry.id, at_ms) for entry in models.entries] if models else []
        priced = [rates for rates in found if rates is not None and rates.by_tokens]
        return max(
            priced, key=lambda rates: rates.likely(0, 1_000) + rates.likely(1_000, 0), default=None
        )

    def models(self) -> Iterator[tuple[str, ModelEntry]]:
        """Every (provider, entry) of the catalogue."""
        for provider, models in self._models.items():
            yield from ((provider, entry) for entry in models.entries)

    def _resolve(self, provider: str, model: str) -> tuple[list[int], list[Rates]] | None:
        models = self._models.get(provider)
        entry = models.match(model) if models else None
        if entry is None:
            return None
        key = (provider, entry.id)
        if key not in self._compiled:
            self._compiled[key] = _compile(provider, entry)
        return self._compiled[key]


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


def _midnight_ms(day: str) -> int:
    """Unix milliseconds of an ISO date's midnight UTC; 0, the beginning of time, for ``."""
    return (date.fromisoformat(day) - date(1970, 1, 1)).days * _DAY_MS if day else 0


def _compile(provider: str, entry: ModelEntry) -> tuple[list[int], list[Rates]]:
    """One Rates per day on which any row begins; the first holds for all the time before, too."""
    first = min(row.since or "" for row in entry.prices if row.service_tier == BASE)
    days = {row.since or "" for row in entry.prices} | {row.since or "" for row in entry.scopes}
    ordered = sorted({max(day, first) for day in days})
    starts = [0, *map(_midnight_ms, ordered[1:])]
    return starts, [_rates(provider, entry, day) for day in ordered]


def _rates(provider: str, entry: ModelEntry, day: str) -> Rates:
    current = {row.service_tier: row for row in in_force(entry.prices, day)}
    scopes = {row.scope: row for row in in_force(entry.scopes, day)}
    base = _prices(current[BASE])
    return Rates(
        id=f"{provider}/{entry.id}@{day or 'undated'}",
        provider=provider,
        model=entry.id,
        tiers=MappingProxyType(
            {tier: compile_table({**base, **_prices(row)}) for tier, row in current.items()}
        ),
        scopes=MappingProxyType({scope: _ratio(row.multiplier) for scope, row in scopes.items()}),
        max_output_tokens=entry.max_output_tokens,
        context_window=entry.context_window,
        source=current[BASE].source,
    )


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
