"""Where the sources disagree, and what was chosen: never a silent pick."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal

from pricing.book import PriceBook
from pricing.catalogue import BASE, PriceFile
from pricing.feeds import Taken
from pricing.listed import Listed
from pricing.rates import FEMTO_PER_USD, Rates, femto
from pricing.units import UNITS

_HEAD = """# The catalogue and its sources

Written by `make pricing-update`. Which source leads and why is in `docs/prices.md`; what was taken
when is in `feeds.jsonl`, and a price's own line says where it is from.

| source | models | prices | taken on |
|---|---|---|---|
"""


def report(
    files: Sequence[PriceFile], listed: Sequence[Listed], taken: Iterable[Taken], at_ms: int
) -> str:
    """The page: what was read, what the catalogue has, and every disagreement."""
    text = _HEAD + "".join(
        f"| {feed.source} | {feed.models} | {feed.prices} | {feed.checked} |\n" for feed in taken
    )
    text += (
        "\n## What the catalogue has\n\n| provider | models | rows | tiers |\n|---|---|---|---|\n"
    )
    text += "".join(_words_of(file) for file in files)
    lines = disagreements(files, listed, at_ms)
    text += f"\n## {len(lines)} disagreements\n\n"
    text += "The catalogue's price is what is charged; the other list's is not. Where hours have\n"
    text += "prices of their own, it is that of midnight UTC.\n\n"
    return text + "".join(f"- {line}\n" for line in lines)


def _words_of(file: PriceFile) -> str:
    rows = [row for entry in file.models for row in entry.prices]
    tiers = Counter(row.service_tier for row in rows if row.service_tier != BASE)
    words = ", ".join(f"{tier} {count}" for tier, count in sorted(tiers.items()))
    return f"| {file.provider} | {len(file.models)} | {len(rows)} | {words} |\n"


def disagreements(files: Iterable[PriceFile], listed: Iterable[Listed], at_ms: int) -> list[str]:
    """Where the catalogue and another list price the same thing differently at a time."""
    book = PriceBook([*files], "")
    lines = {
        f"{item.provider}/{item.name}: {words}"
        for item in listed
        if not item.zone
        if (rates := book.find(item.provider, item.name, at_ms))
        for (tier, above), prices in item.prices.items()
        for words in _differences(item, rates, tier, above, prices)
    }
    return sorted(lines)


def _differences(
    item: Listed, rates: Rates, tier: str, above: str, prices: Mapping[str, str]
) -> Iterator[str]:
    name = item.source.partition(" ")[0]
    if tier not in rates.tiers:
        yield f"{name} has a {tier} tier, the catalogue has none"
        return
    ours = rates.tiers[tier].at(int(above or 0) + bool(above))
    for unit, price in prices.items():
        have, theirs = ours.get(unit), femto(price, UNITS[unit].per)
        if have != theirs and (have is not None or theirs):  # their zeros are gaps
            usd = "none" if have is None else f"{Decimal(have * UNITS[unit].per) / FEMTO_PER_USD:f}"
            context = f" above {above}" if above else ""
            yield f"{tier}{context} {unit}: the catalogue {usd}, {name} {price}"
