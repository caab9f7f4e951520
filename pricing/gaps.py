"""Filling an entry's gaps from lists of lesser rank: units and tiers that it has no price for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal

import msgspec

from pricing.catalogue import BASE, ModelEntry, PriceRow, in_force
from pricing.listed import Listed
from pricing.units import TOKENS

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
_HALF = Decimal("0.5")


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
    prices = {unit: price for unit, (price, _) in filled.items()}
    words = _credits(filled)
    rows = [
        msgspec.structs.replace(row, prices=row.prices | prices, source=row.source + words)
        if row.service_tier == BASE
        else row
        for row in entry.prices
    ]
    return msgspec.structs.replace(entry, prices=rows)


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
            offers = [_tier_row(entry, item, tier, today) for item in alike if tier in item.tiers]
            if tier not in known and all(_same(offers[0], offer) for offer in offers):
                rows += offers[:1] if offers[0].prices else []
    return msgspec.structs.replace(entry, prices=rows)


def _tier_row(entry: ModelEntry, item: Listed, tier: str, today: str) -> PriceRow:
    prices = item.prices[tier, ""]
    if tier == "batch" and "claude" in entry.id:
        prices = _halved(_current(entry, today).prices, prices)
    prices = {unit: price for unit, price in prices.items() if Decimal(price)}
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


def _halved(base: Mapping[str, str], batch: Mapping[str, str]) -> dict[str, str]:
    """Anthropic halves every token in a batch, also those that a list forgets: an hour's write."""
    if any(Decimal(price) != Decimal(base.get(unit, 0)) * _HALF for unit, price in batch.items()):
        return dict(batch)
    forgotten = {
        unit: f"{(Decimal(price) * _HALF).normalize():f}"
        for unit, price in base.items()
        if unit in TOKENS and unit not in batch
    }
    return {**batch, **forgotten}


def _same(one: PriceRow, other: PriceRow) -> bool:
    return one.prices == other.prices and one.above == other.above


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
