"""Filling an entry's gaps from lists of lesser rank: units and tiers that it has no price for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal

import msgspec

from pricing.catalogue import BASE, ModelEntry, PriceRow, in_force
from pricing.listed import Listed, digits
from pricing.units import LINEAGE, TOKENS, UNITS

# Where genai-prices has no price for these at all, a list's is taken and the row says so: audio at
# the text rate would be a sixteenth of the bill.
_GAPS = ("cache_read", "input_audio", "output_audio", "web_search")
# These only from lists that have the same price of tokens: else they are of another time.
_GAPS_IF_ALIKE = (
    "cache_write",
    "cache_write_1h",
    "cache_read_audio",
    "input_image",
    "output_image",
    "maps_search",
    "file_search",
    "code_execution",
)
_vocabulary_order = list(UNITS).index


def with_gaps_filled(entry: ModelEntry, listed: Iterable[Listed], today: str) -> ModelEntry:
    """The entry with units only the lists price, where the best is of one mind about its names."""
    if "input" not in entry.prices[0].prices:
        return entry
    has = {unit for row in entry.prices for unit in row.prices}
    filled: dict[str, tuple[str, str]] = {}
    for source, items in _by_source(listed).items():
        alike = [item.base for item in items if is_alike(entry, item, today)]
        for units, bases in ((_GAPS, [item.base for item in items]), (_GAPS_IF_ALIKE, alike)):
            for unit in units:
                offers = {base[unit] for base in bases if _is_offer(base, unit)}
                if len(offers) == 1 and unit not in has:
                    filled.setdefault(unit, (offers.pop(), source))
    if not filled:
        return entry
    now = _current(entry, today).prices
    rows = [_filled(row, now, filled) if row.service_tier == BASE else row for row in entry.prices]
    return msgspec.structs.replace(entry, prices=rows)


def _filled(
    row: PriceRow, now: Mapping[str, str], filled: Mapping[str, tuple[str, str]]
) -> PriceRow:
    """A row with what lists add. Lists speak of today: a price that is no other than that of what
    contains the unit goes along with that on other days, so it is not said there."""
    fit = {
        unit: found
        for unit, found in filled.items()
        if (whole := _whole_of(unit, now)) is None
        or Decimal(now[whole]) != Decimal(found[0])
        or Decimal(row.prices.get(whole, found[0])) == Decimal(found[0])
    }
    if not fit:
        return row
    prices = {unit: price for unit, (price, _) in fit.items()}
    return msgspec.structs.replace(
        row, prices=row.prices | prices, source=row.source + _credits(fit)
    )


def _whole_of(unit: str, prices: Mapping[str, str]) -> str | None:
    """The nearest unit with a price that contains this one."""
    return next((name for name in LINEAGE[unit][1:] if name in prices), None)


def _is_offer(base: Mapping[str, str], unit: str) -> bool:
    """Whether a list prices a unit: a zero is a gap, as is a cache write below plain input."""
    price = Decimal(base.get(unit, 0))
    if unit.startswith("cache_write"):
        return price >= Decimal(base.get("input", 0)) > 0
    return price > 0


def _credits(filled: Mapping[str, tuple[str, str]]) -> str:
    sources = dict.fromkeys(source for _, source in filled.values())
    units = {s: ", ".join(u for u, (_, of) in filled.items() if of == s) for s in sources}
    return "".join(f"; {units[source]} from {source}" for source in sources)


def with_tiers(entry: ModelEntry, listed: Iterable[Listed], today: str) -> ModelEntry:
    """The entry with service tiers only the lists have, of those that agree on its base prices."""
    rows = list(entry.prices)
    for items in _by_source(listed).values():
        alike = [item for item in items if is_alike(entry, item, today)]
        known = {row.service_tier for row in rows}
        tiers = dict.fromkeys(tier for item in alike for tier in item.tiers)
        for tier in tiers:
            offers = [_tier_row(item, tier, today) for item in alike if tier in item.tiers]
            if tier not in known and all(_same(offers[0], offer) for offer in offers):
                rows += offers[:1] if offers[0].prices else []
    return msgspec.structs.replace(entry, prices=rows)


def _tier_row(item: Listed, tier: str, today: str) -> PriceRow:
    prices = {unit: price for unit, price in item.prices[tier, ""].items() if Decimal(price)}
    above = {
        start: {unit: price for unit, price in more.items() if unit in prices}
        for start, more in item.above(tier).items()
    }
    return PriceRow(
        since=None,
        service_tier=tier,
        prices=prices,
        above={start: more for start, more in above.items() if more},
        source=item.source,
        checked=today,
    )


def _same(one: PriceRow, other: PriceRow) -> bool:
    return one.prices == other.prices and one.above == other.above


def with_whole_tiers(entry: ModelEntry, today: str) -> ModelEntry:
    """The entry with the tokens in its tiers' rows that only its base lists, and that move along.

    What costs as much as what contains it does so in every tier: reasoning, as all output. A tier
    that is the same part of all prices that it lists is that of the others as well. Cached tokens
    are left: some providers bill them alike in all tiers, but Anthropic halves them in batches.
    """
    rows = [
        row if row.service_tier == BASE else _whole_row(entry, row, today) for row in entry.prices
    ]
    return msgspec.structs.replace(entry, prices=rows)


def _whole_row(entry: ModelEntry, row: PriceRow, today: str) -> PriceRow:
    base = _current(entry, row.since or today)
    cached = "claude" in entry.id and row.service_tier == "batch"
    kinds = {unit for unit in TOKENS & base.prices.keys() if cached or "cache" not in unit}
    ratio = _ratio(base.prices, row.prices, kinds)
    missing = sorted(kinds - row.prices.keys(), key=_vocabulary_order)
    prices = _moved(base.prices, base.prices, row.prices, missing, ratio)
    if not prices:
        return row
    above = {
        start: more | _moved(base.prices, base.above.get(start, {}), more, list(prices), ratio)
        for start, more in row.above.items()
    }
    words = f"; {', '.join(prices)} in proportion to the base"
    return msgspec.structs.replace(
        row, prices=row.prices | prices, above=above, source=row.source + words
    )


def _moved(
    base: Mapping[str, str],
    dearer: Mapping[str, str],
    tier: Mapping[str, str],
    units: Iterable[str],
    ratio: Decimal,
) -> dict[str, str]:
    """What units cost in a context of a tier that lists none: `dearer` is the base's in that."""
    found = {}
    for unit in units:
        whole = _whole_of(unit, base) or ""
        if whole in tier and Decimal(base[whole]) == Decimal(base[unit]):
            found[unit] = tier[whole]
        elif ratio and unit in dearer:
            found[unit] = digits(Decimal(dearer[unit]) * ratio)
    return found


def _ratio(base: Mapping[str, str], tier: Mapping[str, str], units: Iterable[str]) -> Decimal:
    """What all prices of a tier are of those of the base; 0 if it is not one number."""
    pairs = [(Decimal(base[unit]), Decimal(tier[unit])) for unit in units if unit in tier]
    if len(pairs) < 2 or not all(price for price, _ in pairs):
        return Decimal(0)
    found = {theirs / ours for ours, theirs in pairs}
    ratio = found.pop()
    exact = not found and all(ours * ratio == theirs for ours, theirs in pairs)
    return ratio if exact else Decimal(0)


def is_alike(entry: ModelEntry, item: Listed, today: str) -> bool:
    """Whether a list has the same price for plain tokens as the entry has on a day."""
    prices = _current(entry, today).prices
    shared = [unit for unit in ("input", "output") if unit in prices and unit in item.base]
    return bool(shared) and all(Decimal(prices[u]) == Decimal(item.base[u]) for u in shared)


def _current(entry: ModelEntry, day: str) -> PriceRow:
    rows = [row for row in entry.prices if row.service_tier == BASE]
    return (in_force(rows, day) or rows)[-1]


def _by_source(listed: Iterable[Listed]) -> dict[str, list[Listed]]:
    """The lines of each list, in the order of their rank."""
    found: dict[str, list[Listed]] = {}
    for item in listed:
        found.setdefault(item.source, []).append(item)
    return found
