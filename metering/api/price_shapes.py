"""A model's prices on the wire.

`usd` is a price as a list has it, text, for `per` of a unit; `usd_each` is that of a single one, an
exact JSON number.
"""

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec

from metering.core.prices import OwnRate, PriceList, model_of
from pricing.catalogue import BASE, ModelEntry, PriceRow
from pricing.rates import FEMTO_PER_USD, Rates
from pricing.units import UNITS


class UnitPrice(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What a unit costs now."""

    unit: str
    service_tier: str = BASE
    above: int = 0
    per: int
    usd: str
    usd_each: Decimal


class PriceObject(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A model and what it costs now, an application's own prices included."""

    model: str
    names: list[str]
    context_window: int | None = None
    max_output_tokens: int | None = None
    price_id: str
    since: str | None = msgspec.field(name="from", default=None)
    source: str
    checked: str
    prices: list[UnitPrice]
    own: OwnRate | None = None


class PriceDetail(PriceObject, kw_only=True, omit_defaults=True):
    """A model, what it costs now, and what it has cost and will."""

    request_id: str
    version: str
    history: list[PriceRow]
    scopes: dict[str, str] = {}
    fees: list[UnitPrice] = []


class Model(NamedTuple):
    """A model that somebody sells, as the list has it."""

    provider: str
    entry: ModelEntry
    """Whose prices they are: the vendor's, of one that is resold."""
    rates: Rates

    @property
    def name(self) -> str:
        """`provider/id`."""
        return f"{self.provider}/{self.entry.id}"


def search(
    prices: PriceList, words: str, provider: str | None, after: str | None, at_ms: int
) -> Iterator[Model]:
    """The models of which a text is part of a name, or a name, in order of `provider/id`.

    What is not found is not made ready: there may be thousands.
    """
    listing = sorted((f"{owner}/{it.id}", owner, it) for owner, it in prices.book.models())
    entries = {name: entry for name, _, entry in listing}
    owners = {owner for _, owner, _ in listing} if words else set()
    meant = (find(prices, owner, words.rpartition("/")[2], at_ms) for owner in owners)
    named = {it.name for it in meant if it is not None}
    for name, owner, entry in listing:
        if (provider or owner) != owner or (after is not None and name <= after):
            continue
        if words in name or name in named or any(words in it for it in entry.match):
            rates = prices.book.find(owner, entry.id, at_ms)
            if rates is not None:
                yield Model(owner, entries.get(f"{rates.provider}/{rates.model}", entry), rates)


def find(prices: PriceList, provider: str, name: str, at_ms: int) -> Model | None:
    """The model a name stands for: an alias, a snapshot, or what is resold and not listed."""
    rates = prices.book.find(provider, name, at_ms)
    if rates is None:
        return None
    entry = next(
        (
            it
            for owner, it in prices.book.models()
            if (owner, it.id) == (rates.provider, rates.model)
        ),
        None,
    )
    return None if entry is None else Model(provider, entry, rates)


def price_members(
    model: Model, prices: PriceList, application_id: str, at_ms: int
) -> dict[str, Any]:
    """The members of a PriceObject."""
    entry, rates = model.entry, model.rates
    negotiated = prices.own.get(application_id)
    own = None if negotiated is None else negotiated.application
    charged = rates if own is None else own.of(rates, at_ms)
    day = rates.id.rpartition("@")[2].partition("+")[0]
    since = None if day == "undated" else day
    row = max(
        (
            it
            for it in entry.prices
            if it.service_tier == BASE and (it.since or "") <= (since or "")
        ),
        key=lambda it: it.since or "",
        default=entry.prices[0],
    )
    return {
        "model": model.name,
        "names": entry.match,
        "context_window": entry.context_window,
        "max_output_tokens": entry.max_output_tokens,
        "price_id": charged.id,
        "since": since,
        "source": row.source,
        "checked": row.checked,
        "prices": unit_prices(charged, _listed(entry)),
        "own": None if own is None else own.rate_of(model_of(rates), at_ms),
    }


def unit_prices(rates: Rates, units: Iterable[str]) -> list[UnitPrice]:
    """What units cost at each service tier and context tier."""
    numerator, denominator = rates.ratio
    return [
        UnitPrice(
            unit=unit,
            service_tier=tier,
            above=start,
            per=UNITS[unit].per,
            usd=f"{(each * UNITS[unit].per).normalize():f}",
            usd_each=each.normalize(),
        )
        for tier, table in rates.tiers.items()
        for start in (0, *table.starts)
        for prices in (table.at(start + 1),)
        for unit in units
        if unit in prices
        for each in (Decimal(prices[unit]) * numerator / (denominator * FEMTO_PER_USD),)
    ]


def scope_words(scopes: Mapping[str, tuple[int, int]]) -> dict[str, str]:
    """Multipliers as decimals."""
    return {
        scope: f"{(Decimal(numerator) / denominator).normalize():f}"
        for scope, (numerator, denominator) in scopes.items()
    }


def _listed(entry: ModelEntry) -> list[str]:
    """The units that have a price of their own, in the vocabulary's order."""
    own = {unit for row in entry.prices for unit in row.prices}
    return [unit for unit in UNITS if unit in own]
