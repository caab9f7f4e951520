"""A resource on the wire, in Pay-i's shape: the catalogue's models, and applications' own."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal

import msgspec

from metering.api.text import checked_name, moment, time_ms
from metering.core.prices import PriceList
from metering.core.resources import TYPES_MAX, Resource, UnitPrices, checked_price
from metering.errors import InvalidRequest, NotAllowed
from metering.providers import DIALECTS, provider_of
from pricing.catalogue import BASE
from pricing.rates import Rates
from pricing.units import LARGE_CONTEXT, UNITS

UNITS_MAX = 10**15
PROXIED = frozenset(dialect.category for dialect in DIALECTS.values())
_NAMED = {
    "openai": ("system.openai",),
    "anthropic": ("system.anthropic",),
    "azure": ("system.azure", "system.azureopenai"),
    "aws": ("system.aws.bedrock",),
    "google": ("system.google.vertex",),
    "databricks": ("system.databricks.aws", "system.databricks.azure", "system.databricks.google"),
}
"""The categories of providers that have a name of Pay-i's; of others it is the provider's own."""


class CreateResource(msgspec.Struct, kw_only=True):
    """The body of a new version. The first SDKs sent the two prices of text alone."""

    units: dict[str, UnitPrices] | None = None
    max_input_units: int | None = None
    max_output_units: int | None = None
    max_total_units: int | None = None
    start_timestamp: str | None = None
    input_price: Decimal | None = None
    output_price: Decimal | None = None


class CategoryResponse(msgspec.Struct, kw_only=True):
    """A category."""

    category: str


class ResourceResponse(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One version of a resource."""

    active: bool
    category: str
    proxy_allowed: bool
    resource: str
    resource_id: str
    start_timestamp: datetime
    units: dict[str, UnitPrices]
    end_timestamp: datetime | None = None
    aliased_resource: str | None = None
    large_context_threshold: int | None = None
    max_input_units: int | None = None
    max_output_units: int | None = None
    max_total_units: int | None = None


def system_categories(prices: PriceList) -> list[str]:
    """The catalogue's categories."""
    providers = {provider for provider, _ in prices.book.models()}
    return sorted(it for name in providers for it in _NAMED.get(name, (f"system.{name}",)))


def system_names(prices: PriceList, category: str) -> list[str]:
    """The names of the models of a category of the catalogue; none of one that it does not have."""
    if category not in system_categories(prices):
        return []
    provider = provider_of(category, "")
    ids = {entry.id for owner, entry in prices.book.models() if owner == provider}
    return sorted(it for it in ids if prices.book.history(provider, it))  # some name no model


def system_versions(
    prices: PriceList, category: str, name: str, now_ms: int
) -> list[ResourceResponse]:
    """Every version of a model of the catalogue by any of its names, oldest first."""
    history = prices.book.history(provider_of(category, ""), name)
    if not history or category not in system_categories(prices):
        return []
    ends = [start_ms for start_ms, _ in history[1:]]
    return [
        _of_catalogue(rates, category, name, (start_ms, end_ms), now_ms)
        for (start_ms, rates), end_ms in zip(history, [*ends, None], strict=True)
    ]


def own_versions(found: Sequence[Resource], now_ms: int) -> list[ResourceResponse]:
    """Every version of one resource that an application priced, oldest first."""
    ends: list[int | None] = [it.starts_ms for it in found[1:]]
    return [
        ResourceResponse(
            active=_is_active(it.starts_ms, end_ms, now_ms),
            category=it.category,
            proxy_allowed=it.proxy_allowed,
            resource=it.resource,
            resource_id=it.resource_id,
            start_timestamp=moment(it.starts_ms),
            units=it.units,
            end_timestamp=None if end_ms is None else moment(end_ms),
            max_input_units=it.max_input_units,
            max_output_units=it.max_output_units,
            max_total_units=it.max_total_units,
        )
        for it, end_ms in zip(found, [*ends, None], strict=False)
    ]


def present(versions: Sequence[ResourceResponse]) -> ResourceResponse:
    """The version that holds now; of one that none has begun of, the first."""
    return next((it for it in versions if it.active), versions[0])


def parse_resource(body: CreateResource, asked: Resource, now_ms: int) -> Resource:
    """The version that a body asks for; `asked` has its names."""
    if asked.category.startswith("system."):
        raise system_is_read_only(asked.category)
    units = body.units
    if units is None and body.input_price is body.output_price is None:
        raise InvalidRequest(
            "Required request field 'units' is missing",
            code="required_field_missing",
            field="units",
        )
    if units is None:
        units = {"text": UnitPrices(input_price=body.input_price, output_price=body.output_price)}
    text = body.start_timestamp
    starts_ms = time_ms(text, "start_timestamp") if text else now_ms
    if starts_ms < 0:
        raise InvalidRequest("start_timestamp is before 1970", field="start_timestamp")
    return msgspec.structs.replace(
        asked,
        category=checked_name(asked.category, "category"),
        resource=checked_name(asked.resource, "resource"),
        units=_checked_units(units),
        max_input_units=_checked_max(body.max_input_units, "max_input_units"),
        max_output_units=_checked_max(body.max_output_units, "max_output_units"),
        max_total_units=_checked_max(body.max_total_units, "max_total_units"),
        starts_ms=starts_ms,
    )


def system_is_read_only(category: str) -> NotAllowed:
    """What is answered to who would change the catalogue."""
    return NotAllowed(
        f"Category '{category}' is the catalogue's: names that begin with system. are read only. "
        "What was negotiated with a provider is set with PUT /api/v1/prices/own",
        field="category",
    )


def _checked_units(units: Mapping[str, UnitPrices]) -> dict[str, UnitPrices]:
    if len(units) > TYPES_MAX:
        raise InvalidRequest(f"units has more than {TYPES_MAX} members", field="units")
    for kind, prices in units.items():
        checked_name(kind, "a name in units")
        for member in ("input_price", "output_price"):
            price = getattr(prices, member)
            if price is not None:
                checked_price(price, f"units.{kind}.{member}")
    return dict(units)


def _checked_max(value: int | None, field: str) -> int | None:
    if value is not None and not 0 <= value <= UNITS_MAX:
        raise InvalidRequest(f"{field} must be between 0 and 10^15", field=field)
    return value


def _is_active(start_ms: int, end_ms: int | None, now_ms: int) -> bool:
    return start_ms <= now_ms and (end_ms is None or now_ms < end_ms)


def _of_catalogue(
    rates: Rates, category: str, name: str, span: tuple[int, int | None], now_ms: int
) -> ResourceResponse:
    start_ms, end_ms = span
    table = rates.tiers[BASE]
    return ResourceResponse(
        active=_is_active(start_ms, end_ms, now_ms),
        category=category,
        proxy_allowed=category in PROXIED,
        resource=name,
        resource_id=rates.id,
        start_timestamp=moment(start_ms),
        units=_units(table.prices.items()),
        end_timestamp=None if end_ms is None else moment(end_ms),
        aliased_resource=None if rates.model == name else rates.model,
        large_context_threshold=table.starts[0] if table.starts else None,
        max_output_units=rates.max_output_tokens,
        max_total_units=rates.context_window,
    )


def _units(prices: Iterable[tuple[str, Sequence[tuple[int, int]]]]) -> dict[str, UnitPrices]:
    """Prices of units as the wire names them: of two of one name, the first's; what holds in a
    long context, under a name of its own."""
    found: dict[str, dict[str, Decimal]] = {}
    for unit, steps in prices:
        kind, _, direction = UNITS[unit].wire.rpartition(".")
        for start, femto in steps[:2]:
            name = kind + LARGE_CONTEXT if start else kind
            each = Decimal(femto).scaleb(-15).normalize()
            found.setdefault(name, {}).setdefault(f"{direction}_price", each)
    return {kind: UnitPrices(**its) for kind, its in found.items()}
