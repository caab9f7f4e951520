"""`/prices/own`: what an application negotiated, of its calls, a credential's, or for a limit.

Only an admin key comes here.
"""

import asyncio
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

import msgspec
from litestar import Controller, delete, get, put
from litestar.params import FromQuery, JSONBody

from metering.api.auth import admin_only
from metering.api.limits import existing
from metering.api.server import ApiRequest
from metering.api.services import Services
from metering.api.text import moment
from metering.core.credentials import checked_slug
from metering.core.price_changes import listed
from metering.core.prices import OwnRate, PriceList, checked, own_name
from metering.errors import InvalidRequest
from metering.store import prices as stored
from metering.store.prices import Kind, OwnPrices
from pricing.catalogue import BASE
from pricing.changes import drastic

SHOWN = 5


class SetOwnPrices(msgspec.Struct, kw_only=True):
    """The body of own prices: all of them, in place of those there were."""

    rates: list[OwnRate]
    accept: list[str] = []


class OwnPricesObject(msgspec.Struct, kw_only=True, omit_defaults=True):
    """An application's own prices, or those of a credential or limit of it. Rows that they priced
    have `*<name>` at the end of `price_id`; a limit's price no row."""

    request_id: str
    application_id: str
    credential: str | None = None
    limit: str | None = None
    name: str | None = None
    rates: tuple[OwnRate, ...]
    set_at: datetime | None = None
    set_by: str | None = None


class OwnPriceController(Controller):
    """Set, read and end an application's own prices, or those of a credential or a limit of it."""

    path = "/prices/own"
    tags = ("prices",)
    guards = (admin_only,)

    @put()
    async def set(
        self,
        request: ApiRequest,
        data: JSONBody[SetOwnPrices],
        *,
        credential: FromQuery[str | None] = None,
        limit: FromQuery[str | None] = None,
    ) -> OwnPricesObject:
        """Set an application's own prices, in place of those it has; for calls from now on.

        With `credential` (a slug) or `limit` (an id): those of calls that this stored credential
        serves, or what this limit is charged.
        """
        whose = await _whose(request, credential, limit)
        rates = checked(data.rates)
        own = await _in_force(request, whose)
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
        return await _set(request, whose, rates)

    @get()
    async def read(
        self,
        request: ApiRequest,
        *,
        credential: FromQuery[str | None] = None,
        limit: FromQuery[str | None] = None,
    ) -> OwnPricesObject:
        """An application's own prices (or a credential's, a limit's), and when they were set."""
        whose = await _whose(request, credential, limit)
        return _object(request, whose, await _in_force(request, whose))

    @delete(status_code=200)
    async def end(
        self,
        request: ApiRequest,
        *,
        credential: FromQuery[str | None] = None,
        limit: FromQuery[str | None] = None,
    ) -> OwnPricesObject:
        """End an application's own prices (or a credential's, a limit's), from now on."""
        return await _set(request, await _whose(request, credential, limit), ())


class Whose(NamedTuple):
    """Whose own prices are meant, beside the application's."""

    kind: Kind
    name: str


async def _whose(request: ApiRequest, credential: str | None, limit: str | None) -> Whose:
    """Whose prices a request is about; NotFound names a limit that there is not."""
    if credential is not None and limit is not None:
        raise InvalidRequest("give credential or limit, not both", field="limit")
    if credential is not None:
        return Whose("credential", checked_slug(credential, "credential"))
    if limit is None:
        return Whose("application", "")
    found = await existing(request, limit)
    if found.unit != "usd":
        raise InvalidRequest(
            f"Limit '{limit}' counts {found.unit}: only a limit in usd has prices", field="limit"
        )
    return Whose("limit", limit)


async def _in_force(request: ApiRequest, whose: Whose) -> OwnPrices | None:
    found = await stored.own(request.services.store, request.user.application_id)
    return next((it for it in found if (it.kind, it.name) == whose), None)


async def _set(request: ApiRequest, whose: Whose, rates: tuple[OwnRate, ...]) -> OwnPricesObject:
    services = request.services
    own = await stored.set_own(
        services.store,
        request.user.application_id,
        rates,
        kind=whose.kind,
        name=whose.name,
        set_ms=services.clock(),
        set_by=request.user.key_id or "operator",
    )
    await prices_changed(services)
    return _object(request, whose, own)


async def prices_changed(services: Services) -> None:
    """Put in force what was negotiated, here and in the other workers."""
    await services.prices.refresh()
    await services.directory.changed("prices")


def _object(request: ApiRequest, whose: Whose, own: OwnPrices | None) -> OwnPricesObject:
    answer = OwnPricesObject(
        request_id=request.request_id,
        application_id=request.user.application_id,
        credential=whose.name if whose.kind == "credential" else None,
        limit=whose.name if whose.kind == "limit" else None,
        rates=(),
    )
    if own is None:
        return answer
    return msgspec.structs.replace(
        answer,
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
