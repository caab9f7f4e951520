"""LiteLLM's list beside the catalogue: which of its models are news, which zones are dearer.

A provider that resells needs no entry for what it sells at the vendor's list price; only what
differs is news.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction

from pricing.book import PriceBook
from pricing.catalogue import BASE, ModelEntry, PriceFile
from pricing.listed import Listed, digits
from pricing.names import place_of
from pricing.rates import Rates, femto
from pricing.units import UNITS

_SEARCH = "web_search"
# A tool's fee is the provider's, and cache prices alone are no news: the list gives some models
# (gpt-5.4-pro on Azure) a price of cached input that neither the vendor nor Azure's meters have.
_NO_NEWS = {_SEARCH, *(unit for unit in UNITS if unit.startswith("cache_"))}


# A place that is dearer than this has another model's price in the list.
_DEAREST_ZONE = 2


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
            return self._is_elsewhere(item, rates)
        prices, vendors = item.base, self._of_vendor(rates.provider, item.name)
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

    def _is_elsewhere(self, item: Listed, rates: Rates) -> bool:
        """Whether this is a model of ours in a place where it has another price."""
        here = place_of(self._file.provider, item.name)
        return bool(
            here
            and here not in {place_of(self._file.provider, name) for name in self._named(rates)}
            and any(
                unit in item.base and _femto_at(rates, unit) != femto(item.base[unit], 1_000_000)
                for unit in ("input", "output")
            )
        )

    def _named(self, rates: Rates) -> list[str]:
        return next(entry.match for entry in self._file.models if entry.id == rates.model)

    def entry_of(self, name: str) -> str:
        """The id of an entry of this provider's for a name; the name, if it is a vendor's."""
        rates = self._find(name)
        return rates.model if rates and rates.provider == self._file.provider else name

    def scopes_of_resold(self, listed: Iterable[Listed]) -> dict[str, dict[str, str]]:
        """By the id of a vendor's entry, the scopes that a model has where it is resold."""
        found = [(self._find(item.name), item.scopes) for item in listed if item.scopes]
        return {
            rates.model: scopes
            for rates, scopes in found
            if rates and rates.provider != self._file.provider
        }

    def zones(self, listed: Iterable[Listed], name: str) -> dict[str, str]:
        """By scope, how much dearer a model is in Azure's data zones or Bedrock's regions.

        Of Azure's, `datazone` has the dearest; zones as dear as that are not listed. Nor are those
        where input and output are not alike, or regions at the usual price.
        """
        rates = self._find(name)
        rounded = self._file.provider == "azure"
        ratios = {
            item.zone: ratio
            for item in listed
            if rates
            and item.zone
            and item.name == name
            and (ratio := _ratio(rates, item.base, rounded=rounded))
        }
        if not rounded:
            return {zone: ratio for zone, ratio in sorted(ratios.items()) if ratio != "1"}
        dearest = max(ratios.values(), default=None, key=Decimal)
        others = {f"datazone.{zone}": r for zone, r in sorted(ratios.items()) if r != dearest}
        return {"datazone": dearest, **others} if dearest else {}

    def common_fees(self, listed: Iterable[Listed]) -> dict[str, str]:
        """What a reseller's own tools cost with the vendors' models, if that is one price."""
        vendors = {resold.vendor for resold in self._file.resells if resold.own_tools}
        prices = {
            base[_SEARCH]
            for item in listed
            if _SEARCH in (base := item.base)
            if (rates := self._find(item.name)) and rates.provider in vendors
        }
        return {_SEARCH: prices.pop()} if len(prices) == 1 else {}

    def _find(self, name: str) -> Rates | None:
        return self._book.find(self._file.provider, name, self._at_ms)

    def _of_vendor(self, vendor: str, name: str) -> Mapping[str, str]:
        resold = next(resold for resold in self._file.resells if resold.vendor == vendor)
        item = self._listed.get((vendor, resold.vendors_name(name)))
        return item.base if item else {}


def _femto_at(rates: Rates, unit: str) -> int:
    return rates.tiers[BASE].at(0).get(unit, 0)


def _ratio(rates: Rates, prices: Mapping[str, str], *, rounded: bool) -> str | None:
    """How much dearer prices are than the rates; None if not all alike.

    To the hundredth where the list has rounded its prices, else exactly: `12/11`.
    """
    exact = {
        Fraction(femto(prices[unit], UNITS[unit].per), base)
        for unit in ("input", "output")
        if unit in prices and (base := _femto_at(rates, unit))
    }
    ratios = {Fraction(round(ratio * 100), 100) for ratio in exact}
    if len(ratios) != 1 or (not rounded and len(exact) != 1) or max(ratios) > _DEAREST_ZONE:
        return None
    if rounded or ratios == exact:
        return digits(Decimal(round(ratios.pop() * 100)) / 100)
    ratio = exact.pop()
    return str(ratio) if ratio.denominator < 1_000 else None
