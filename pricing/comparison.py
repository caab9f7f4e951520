"""LiteLLM's list beside the catalogue: which of its models are news, which zones are dearer.

A provider that resells needs no entry for what it sells at the vendor's list price; only what
differs is news.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

from pricing.book import PriceBook
from pricing.catalogue import BASE, ModelEntry, PriceFile
from pricing.litellm import Listed
from pricing.rates import Rates, femto
from pricing.units import UNITS

_SEARCH = "web_search"
# A tool's fee is the provider's, and cache prices alone are no news: the list gives some models
# (gpt-5.4-pro on Azure) a price of cached input that neither the vendor nor Azure's meters have.
_NO_NEWS = {_SEARCH, *(unit for unit in UNITS if unit.startswith("cache_"))}


class Comparison:
    """A provider's file and its vendors', for the list to be held beside."""

    def __init__(
        self, file: PriceFile, vendors: Sequence[PriceFile], listed: Iterable[Listed], at_ms: int
    ) -> None:
        self._file = file
        self._book = PriceBook([*vendors, file], "")
        self._listed = {(item.provider, item.name): item for item in listed if not item.zone}
        self._at_ms = at_ms

    def is_new(self, item: Listed) -> bool:
        """Whether the catalogue has no price of its own for this, and no vendor's that holds."""
        rates = self._find(item.name)
        if rates is None:
            return True
        if rates.provider == self._file.provider:
            return False
        prices, vendors = _base(item), self._of_vendor(rates.provider, item.name)
        # Where the list has its own mind about the vendor's price too, it says nothing of this one.
        return any(
            _femto_at(rates, unit) != femto(price, UNITS[unit].per) and vendors.get(unit) != price
            for unit, price in prices.items()
            if unit not in _NO_NEWS
        )

    def is_copy(self, entry: ModelEntry) -> bool:
        """Whether an entry says of all its names what a vendor's list price says already."""
        found = [self._find(pattern.strip("*").replace("#", "1")) for pattern in entry.match]
        return len(entry.prices) == 1 and all(
            rates is not None
            and rates.provider != self._file.provider
            and all(
                _femto_at(rates, unit) == femto(price, UNITS[unit].per)
                for unit, price in entry.prices[0].prices.items()
            )
            for rates in found
        )

    def zones(self, listed: Iterable[Listed], name: str) -> dict[str, str]:
        """By scope, how much dearer a model is in Azure's data zones: `datazone` has the dearest.

        Zones as dear as that are not listed, nor are those where input and output are not alike.
        """
        rates = self._find(name)
        ratios = {
            item.zone: ratio
            for item in listed
            if rates and item.zone and item.name == name and (ratio := _ratio(rates, _base(item)))
        }
        dearest = max(ratios.values(), default=None, key=Decimal)
        others = {f"datazone.{zone}": r for zone, r in sorted(ratios.items()) if r != dearest}
        return {"datazone": dearest, **others} if dearest else {}

    def common_fees(self, listed: Iterable[Listed]) -> dict[str, str]:
        """What a reseller's own tools cost with the vendors' models, if that is one price."""
        vendors = {resold.vendor for resold in self._file.resells if resold.own_tools}
        prices = {
            base[_SEARCH]
            for item in listed
            if _SEARCH in (base := _base(item))
            if (rates := self._find(item.name)) and rates.provider in vendors
        }
        return {_SEARCH: prices.pop()} if len(prices) == 1 else {}

    def _find(self, name: str) -> Rates | None:
        return self._book.find(self._file.provider, name, self._at_ms)

    def _of_vendor(self, vendor: str, name: str) -> Mapping[str, str]:
        resold = next(resold for resold in self._file.resells if resold.vendor == vendor)
        item = self._listed.get((vendor, resold.vendors_name(name)))
        return _base(item) if item else {}


def _base(item: Listed) -> Mapping[str, str]:
    return item.prices.get((BASE, ""), {})


def _femto_at(rates: Rates, unit: str) -> int:
    return rates.tiers[BASE].at(0).get(unit, 0)


def _ratio(rates: Rates, prices: Mapping[str, str]) -> str | None:
    """How much dearer prices are than the rates, to the hundredth; None if not all alike."""
    ratios = {
        (Decimal(femto(prices[unit], UNITS[unit].per)) / base).quantize(Decimal("0.01"))
        for unit in ("input", "output")
        if unit in prices and (base := _femto_at(rates, unit))
    }
    return f"{ratios.pop().normalize():f}" if len(ratios) == 1 else None
