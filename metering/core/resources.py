"""Resources that an application priced itself: Pay-i's custom categories, versioned by date.

A resource says what one of each type of unit costs, in and out; of several versions the one that
had begun last holds, and before the first there is no price. Types that a model's list has too
(`text`) are the list's units, so that proxied calls that name the resource are priced by it; any
other type is the application's own.

Two may set prices. Whoever may use the application's keys prices what it reports: the units are its
own word anyway. What calls through us cost is the operator's to say: they are priced by versions
that an administrator has set, and by no others.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from decimal import ROUND_HALF_EVEN, Decimal
from types import MappingProxyType

import msgspec

from metering.errors import InvalidRequest
from pricing.catalogue import BASE
from pricing.rates import FEMTO_PER_USD, Rates, Table, compile_table
from pricing.units import UNITS, unit_of

SYSTEM = "system."
"""What the names of the catalogue's categories begin with; an application's own do not."""
PRICE_MAX = 1_000_000
"""The most that one of a unit may cost, in USD."""
TYPES_MAX = 64
"""So many types of units a resource, or an event, may have."""


class UnitPrices(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one of a type of unit costs in USD, in and out; None: that is not priced."""

    input_price: Decimal | None = None
    output_price: Decimal | None = None


class Resource(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a resource."""

    application_id: str
    resource_id: str
    revision: int = 0
    """Of versions that begin at the same time, the later one holds."""
    category: str
    resource: str
    units: dict[str, UnitPrices]
    max_input_units: int | None = None
    max_output_units: int | None = None
    max_total_units: int | None = None
    starts_ms: int
    created_by: str = ""
    proxy_allowed: bool = False
    """Whether an administrator has set it."""


Versions = tuple[list[int], list[Rates], list[bool]]
"""When each version begins, in Unix ms, what it says, and whether it prices proxied calls."""
Resources = Mapping[tuple[str, str], Versions]
"""By category and name."""
NONE: Mapping[str, Resources] = MappingProxyType({})
"""Of no application."""


def is_system(category: str) -> bool:
    """Whether a category is the catalogue's, which nobody changes here."""
    return category.startswith(SYSTEM)


def unit_for(kind: str, direction: str, rates: Rates | None = None) -> str:
    """The unit that a type and a direction count: the list's, or one of the caller's own, named as
    the two together. What `rates` price by that name is not taken for another unit."""
    wire = f"{kind}.{direction}"
    if rates is not None and wire in rates.tiers[BASE].brackets[0]:
        return wire
    return unit_of(wire) or wire


def checked_price(price: Decimal, field: str) -> Decimal:
    """A price that can be one; InvalidRequest names the field."""
    if not price.is_finite() or not 0 <= price <= PRICE_MAX:
        raise InvalidRequest(
            f"{field} must be between 0 and {PRICE_MAX} US dollars for one", field=field
        )
    return price


def by_application(found: Iterable[Resource]) -> dict[str, Resources]:
    """All resources, ready to price."""
    versions: dict[str, dict[tuple[str, str], Versions]] = {}
    for it in sorted(found, key=lambda it: (it.starts_ms, it.revision)):
        its = versions.setdefault(it.application_id, {})
        starts, rates, allowed = its.setdefault((it.category, it.resource), ([], [], []))
        starts.append(it.starts_ms)
        rates.append(rates_of(it))
        allowed.append(it.proxy_allowed)
    return dict(versions)


def rates_at(versions: Versions, at_ms: int, *, reported: bool) -> Rates | None:
    """The rates of the version that holds at a time, for a call that is reported or one that is
    proxied; None: none has begun."""
    starts, rates, allowed = versions
    index = bisect_right(starts, at_ms)
    while index and not (reported or allowed[index - 1]):
        index -= 1
    return rates[index - 1] if index else None


def rates_of(resource: Resource) -> Rates:
    """What a version says, as all prices are looked up."""
    prices = {unit: ((0, femto),) for unit, femto in _femto(resource).items()}
    table = compile_table({unit: its for unit, its in prices.items() if unit in UNITS})
    own = {unit: its[0][1] for unit, its in prices.items() if unit not in UNITS}
    brackets = tuple(MappingProxyType({**it, **own}) for it in table.brackets)
    return Rates(
        id=resource.resource_id,
        provider=resource.category,
        model=resource.resource,
        tiers=MappingProxyType({BASE: Table(table.starts, brackets, MappingProxyType(prices))}),
        scopes=MappingProxyType({}),
        max_output_tokens=resource.max_output_units,
        context_window=resource.max_total_units,
        source="the application",
    )


def _femto(resource: Resource) -> dict[str, int]:
    """Femto-USD by unit. Of two types that are one unit of the list (`text`, `text_large_context`)
    the second stays a unit of its own name."""
    found: dict[str, int] = {}
    for kind, prices in resource.units.items():
        for direction, price in (("input", prices.input_price), ("output", prices.output_price)):
            if price is not None:
                wire = f"{kind}.{direction}"
                unit = unit_of(wire)
                found[unit if unit and UNITS[unit].wire == wire else wire] = _quantised(price)
    return found


def _quantised(price: Decimal) -> int:
    return int((price * FEMTO_PER_USD).to_integral_value(ROUND_HALF_EVEN))
