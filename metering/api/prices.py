"""`/prices`: what models cost now, and what they have cost; for the application that asks."""

import asyncio
from itertools import islice
from typing import Any, cast

from litestar import Controller, get
from litestar.params import FromPath, FromQuery

from metering.api import pages
from metering.api.price_shapes import (
    PriceDetail,
    PriceObject,
    find,
    price_members,
    scope_words,
    search,
    unit_prices,
)
from metering.api.server import ApiRequest
from metering.errors import NotFound
from metering.store import pages as places
from pricing.catalogue import TOOLS
from pricing.units import TOKENS, UNITS

LISTING = "prices"


class PriceController(Controller):
    """Search prices, and read one model's."""

    path = "/prices"
    tags = ("prices",)

    @get()
    async def page(
        self,
        request: ApiRequest,
        *,
        q: FromQuery[str | None] = None,
        provider: FromQuery[str | None] = None,
        limit: FromQuery[int | None] = None,
        cursor: FromQuery[str | None] = None,
    ) -> dict[str, Any]:
        """A page of models with their current prices; `q` is part of a name, or a name."""
        prices, now_ms = request.services.prices.now, request.services.clock()
        [place] = places.read_cursor(pages.read_cursor(request, LISTING, cursor), str)
        after = cast(str | None, place)
        size = places.size(limit)

        def found() -> list[PriceObject]:
            models = search(prices, (q or "").lower(), provider, after, now_ms)
            return [
                PriceObject(**price_members(it, prices, request.user.application_id, now_ms))
                for it in islice(models, size + 1)
            ]

        # In a thread: a model's prices are made ready when they are first asked for.
        page = places.cut(await asyncio.to_thread(found), size, lambda last: (last.model,))
        return pages.page(
            request,
            LISTING,
            list(page.items),
            page.cursor,
            version=prices.version,
            packaged_newer=request.services.prices.newer,
        )

    @get("/{provider:str}/{model:str}")
    async def read(
        self, request: ApiRequest, provider: FromPath[str], model: FromPath[str]
    ) -> PriceDetail:
        """One model by any of its names, with every price it has had and will have."""
        prices, now_ms = request.services.prices.now, request.services.clock()
        found = find(prices, provider, model, now_ms)
        if found is None:
            raise NotFound(
                f"No price is known for {provider} {model!r}; GET /prices?q= searches",
                code="price_not_found",
            )
        members = price_members(found, prices, request.user.application_id, now_ms)
        tools = prices.book.find(provider, TOOLS, now_ms)
        return PriceDetail(
            request_id=request.request_id,
            version=prices.version,
            history=sorted(found.entry.prices, key=lambda it: (it.service_tier, it.since or "")),
            scopes=scope_words(found.rates.scopes),
            fees=[]
            if tools is None
            else unit_prices(tools, (it for it in UNITS if it not in TOKENS)),
            **members,
        )
