"""What one price list changes of another, and which of it nobody means.

What is compared is what calls would be charged: name by name, from now on and from every later day
on which either list begins something. A price that moves tenfold or to zero, or is gone, is
`drastic`: a slipped decimal point looks like that. Who means it says so, by the model's name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import NamedTuple

import msgspec

from pricing.book import PriceBook, midnight_ms
from pricing.catalogue import BASE, TOOLS, ModelEntry, PriceFile
from pricing.changes import drastic
from pricing.rates import FEMTO_PER_USD, Rates
from pricing.units import UNITS
from pricing.validation import DAY_MINUTES, minutes_of

MINUTE_MS = 60_000
DAY_MS = DAY_MINUTES * MINUTE_MS


class Change(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A price that differs; `before` and `after` as in a list, absent where there is none."""

    model: str
    """`provider/id`; `provider fees` for what tools cost with all its models."""
    at_ms: int
    """From when on; the moment of the comparison for what differs at once."""
    service_tier: str = BASE
    above: int = 0
    """For requests of more input tokens than this."""
    unit: str = ""
    """Empty for a model that is gone, `scope us` for what a scope's prices are multiplied with."""
    before: str | None = None
    after: str | None = None
    drastic: bool = False


class _Model(NamedTuple):
    """A model in two lists, by everything that has a part in its price."""

    provider: str
    entries: Sequence[ModelEntry]
    files: Sequence[PriceFile]

    @property
    def names(self) -> list[str]:
        """What a call may ask for it by; patterns aside."""
        exact = [it for entry in self.entries for it in entry.match if not {"*", "#"} & set(it)]
        return list(dict.fromkeys((self.entries[0].id, *exact)))

    @property
    def units(self) -> set[str]:
        """The units that are listed; others follow these, are fees, or a vendor's whose model this
        is: those are compared where they are listed."""
        rows = (row for entry in self.entries for row in entry.prices)
        return {unit for row in rows for unit in row.prices}

    def moments(self, now_ms: int) -> list[int]:
        """Now, when anything of it begins later, and after these when its hours do."""
        days = {row.since for entry in self.entries for row in entry.prices}
        days |= {row.since for file in self.files for row in file.fees}
        days |= {row.since for entry in self.entries for row in entry.scopes}
        days |= {row.since for file in self.files for row in file.scopes}
        starts = {midnight_ms(day) for day in days if day}
        moments = {now_ms, *(start for start in starts if start > now_ms)}
        hours = {name for entry in self.entries for row in entry.prices for name in row.hours}
        for name in hours:
            begins_ms = next(iter(minutes_of(name))) * MINUTE_MS
            moments |= {at + (begins_ms - at) % DAY_MS for at in moments}
        return sorted(moments)


def changes(old: Sequence[PriceFile], new: Sequence[PriceFile], now_ms: int) -> list[Change]:
    """The prices of the old list's models that differ in the new one, each once."""
    before, after = PriceBook(old, ""), PriceBook(new, "")
    found: dict[tuple[object, ...], Change] = {}
    for model in _differing(old, new):
        for at_ms in model.moments(now_ms):
            for change in _of_model(model, before, after, at_ms):
                fields = msgspec.structs.astuple(msgspec.structs.replace(change, at_ms=0))
                found.setdefault(fields, change)
    return list(found.values())


def added(old: Sequence[PriceFile], new: Sequence[PriceFile]) -> list[str]:
    """The models, `provider/id`, that only the new list has."""
    known, names = (
        {f"{file.provider}/{entry.id}" for file in files for entry in file.models}
        for files in (old, new)
    )
    return sorted(names - known)


def _differing(old: Sequence[PriceFile], new: Sequence[PriceFile]) -> Iterator[_Model]:
    """The old list's models of which anything is otherwise in the new one."""
    present = {file.provider: file for file in new}
    for file in old:
        other = present.get(file.provider)
        around = other is None or _around(file, old) != _around(other, new)
        entries = {} if other is None else {entry.id: entry for entry in _entries(other)}
        for entry in _entries(file):
            match = entries.get(entry.id)
            if around or entry != match:
                both = (entry,) if match is None else (entry, match)
                yield _Model(file.provider, both, (file,) if other is None else (file, other))


def _entries(file: PriceFile) -> tuple[ModelEntry, ...]:
    return (*file.models, ModelEntry(id=TOOLS, match=[], prices=file.fees))


def _around(file: PriceFile, files: Sequence[PriceFile]) -> list[object]:
    """What of a list has a part in all prices of a provider."""
    sold = {resold.vendor for resold in file.resells}
    return [file.fees, file.scopes, file.resells, [it for it in files if it.provider in sold]]


def _of_model(model: _Model, before: PriceBook, after: PriceBook, at_ms: int) -> Iterator[Change]:
    seen = set()
    for it in model.names:
        one, other = (book.find(model.provider, it, at_ms) for book in (before, after))
        if one is None or (id(one), id(other)) in seen:
            continue
        seen.add((id(one), id(other)))
        tools = one.model == TOOLS
        name = f"{model.provider} fees" if tools else f"{model.provider}/{one.model}"
        if other is None:
            yield Change(model=name, at_ms=at_ms, drastic=True)
            continue
        yield from _of_tables(name, one, other, model.units, at_ms)
        yield from _of_scopes(name, one, other, at_ms)


def _of_tables(
    name: str, one: Rates, other: Rates, units: set[str], at_ms: int
) -> Iterator[Change]:
    for tier in dict.fromkeys((*one.tiers, *other.tiers)):
        tables = one.tiers[one.tier(tier)], other.tiers[other.tier(tier)]
        for start in sorted({0, *tables[0].starts, *tables[1].starts}):
            was, now = (table.at(start + 1) for table in tables)
            for unit in sorted(units):
                pair = was.get(unit), now.get(unit)
                if pair[0] is not None and pair[0] != pair[1]:
                    yield Change(
                        model=name,
                        at_ms=at_ms,
                        service_tier=tier,
                        above=start,
                        unit=unit,
                        before=listed(pair[0], unit),
                        after=None if pair[1] is None else listed(pair[1], unit),
                        drastic=drastic(Decimal(pair[0]), Decimal(pair[1] or 0)),
                    )


def _of_scopes(name: str, one: Rates, other: Rates, at_ms: int) -> Iterator[Change]:
    for scope in sorted({*one.scopes, *other.scopes}):
        was, now = (_decimal(*rates.multiplier(scope)) for rates in (one, other))
        if was != now:
            yield Change(
                model=name,
                at_ms=at_ms,
                unit=f"scope {scope}",
                before=f"{was:f}",
                after=f"{now:f}",
                drastic=drastic(was, now),
            )


def listed(price_femto: int, unit: str) -> str:
    """A price as a list has it: USD, as text, for as many of the unit as a price buys."""
    return f"{_decimal(price_femto * UNITS[unit].per, FEMTO_PER_USD):f}"


def _decimal(numerator: int, denominator: int) -> Decimal:
    return (Decimal(numerator) / denominator).normalize()
