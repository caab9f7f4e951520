"""`/prices/own`: what an application negotiated. Only an admin key comes here."""

import asyncio
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal

import msgspec
from litestar import Controller, delete, get, put
from litestar.params import JSONBody

from metering.api.auth import admin_only
from metering.api.server import ApiRequest
from metering.api.text import moment
from metering.core.price_changes import listed
from metering.core.prices import OwnRate, PriceList, checked, own_name
from metering.errors import InvalidRequest
from metering.store import prices as stored
from metering.store.prices import OwnPrices
from pricing.catalogue import BASE
from pricing.changes import drastic

SHOWN = 5


class SetOwnPrices(msgspec.Struct, kw_only=True):
    """The body of own prices: all of them, in place of those there were."""

    rates: list[OwnRate]
    accept: list[str] = []


class OwnPricesObject(msgspec.Struct, kw_only=True, omit_defaults=True):
    """An application's own prices; rows priced by them have `*<name>` at the end of `price_id`."""

    request_id: str
    application_id: str
    name: str | None = None
    rates: tuple[OwnRate, ...]
    set_at: datetime | None = None
    set_by: str | None = None


class OwnPriceController(Controller):
    """Set, read and end an application's own prices."""

    path = "/prices/own"
    tags = ("prices",)
    guards = (admin_only,)

    @put()
    async def set(self, request: ApiRequest, data: JSONBody[SetOwnPrices]) -> OwnPricesObject:
        """Set an application's own prices, in place of those it has; for calls from now on."""
        rates = checked(data.rates)
        own = await _in_force(request)
        known = () if own is None else own.rates
        fresh = [it for it in rates if it not in known and it.match not in data.accept]
        prices, now_ms = request.services.prices.now, request.services.clock()
        odd = await asyncio.to_thread(lambda: list(_drastic(fresh, prices, now_ms)))
        if odd:
            raise InvalidRequest(
                f"{'; '.join(odd[:SHOWN])}. A price tenfold the list's, a tenth of it or zero is "
                "taken only if its match is named in accept",
                code="drastic_price_change",
                field="accept",
            )
        return await _set(request, rates)

    @get()
    async def read(self, request: ApiRequest) -> OwnPricesObject:
        """An application's own prices, and when they were set."""
        return _object(request, await _in_force(request))

    @delete(status_code=200)
    async def end(self, request: ApiRequest) -> OwnPricesObject:
        """End an application's own prices: its calls cost what the list says from now on."""
        return await _set(request, ())


async def _in_force(request: ApiRequest) -> OwnPrices | None:
    found = await stored.own(request.services.store, request.user.application_id)
    return next((it for it in found if it.kind == "application"), None)


async def _set(request: ApiRequest, rates: tuple[OwnRate, ...]) -> OwnPricesObject:
    services = request.services
    own = await stored.set_own(
        services.store,
        request.user.application_id,
        rates,
        set_ms=services.clock(),
        set_by=request.user.key_id or "operator",
    )
    await services.prices.refresh()
    await services.directory.changed("prices")
    return _object(request, own)


def _object(request: ApiRequest, own: OwnPrices | None) -> OwnPricesObject:
    if own is None:
        application_id = request.user.application_id
        return OwnPricesObject(
            request_id=request.request_id, application_id=application_id, rates=()
        )
    return OwnPricesObject(
        request_id=request.request_id,
        application_id=own.application_id,
        name=own_name(own.revision),
        rates=own.rates,
        set_at=moment(own.set_ms),
        set_by=own.set_by,
    )


def _drastic(rates: list[OwnRate], prices: PriceList, now_ms: int) -> Iterator[str]:
    """What rates replace by far more or less, in words."""
    for provider, entry in prices.book.models():
        fit = [it for it in rates if it.prices and it.fits(f"{provider}/{entry.id}")]
        found = prices.book.find(provider, entry.id, now_ms) if fit else None
        if found is None:
            continue
        base = found.tiers[BASE].at(1)
        for unit, price in (item for rate in fit for item in rate.prices.items()):
            if unit in base and drastic(Decimal(listed(base[unit], unit)), Decimal(price)):
                yield f"{provider}/{entry.id} {unit}: {listed(base[unit], unit)} -> {price}"
