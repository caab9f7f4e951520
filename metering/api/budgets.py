"""`/budgets`: what is left of every limit; and Pay-i's first name of `/limits/{id}`."""

from datetime import datetime
from typing import Annotated, Any

from litestar import Controller, get
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, QueryParameter

from metering.api import pages
from metering.api.legacy import TAGS, as_budget, budget_object
from metering.api.limit_shapes import budget, limit_object
from metering.api.limits import existing, totals_of
from metering.api.pages import Paging
from metering.api.server import ApiRequest
from metering.api.text import moment
from metering.core.limits import Limit
from metering.store import limits
from metering.store import pages as store_pages

LISTING = "budgets"
PAGE_SIZE = 1000
NUMBER_MAX = 10**6
"""The last page that can be asked for by its number."""


class BudgetController(Controller):
    """Read budgets."""

    path = "/budgets"
    tags = ("budgets",)

    @get()
    async def page(
        self,
        request: ApiRequest,
        paging: NamedDependency[Paging],
        *,
        page_number: FromQuery[int | None] = None,
        page_size: FromQuery[int | None] = None,
        budget_name: FromQuery[str | None] = None,
        budget_tags: Annotated[str | None, QueryParameter(name="tags")] = None,
    ) -> dict[str, Any]:
        """Every limit with max, spent, held, remaining, percent, state and resets_at; and what the
        first SDKs look for, who call limits so. They ask for pages by number, of a name or with
        one of some tags."""
        if any(it is not None for it in (page_number, page_size, budget_name, budget_tags)):
            return await _numbered(
                request,
                min(max(page_number or 1, 1), NUMBER_MAX),
                store_pages.size(page_size),
                limit_name=budget_name or None,
                tagged=limits.Tagged(TAGS, budget_tags.split(",")) if budget_tags else None,
                ascending=bool(paging.ascending),
            )
        found = await limits.page(
            request.services.store,
            request.user.application_id,
            **paging.of(request, LISTING, page_size=PAGE_SIZE),
        )
        items, as_of = await _items(request, found.items)
        return pages.page(request, LISTING, items, found.cursor, as_of=as_of)

    @get("/{limit_id:str}")
    async def read(self, request: ApiRequest, limit_id: FromPath[str]) -> dict[str, Any]:
        """One limit, as `GET /limits/{limit_id}` answers it, and as a budget."""
        return await as_budget(request, await existing(request, limit_id))


async def _items(
    request: ApiRequest, found: tuple[Limit, ...]
) -> tuple[list[dict[str, Any]], datetime]:
    as_of = moment(request.services.clock())
    totals = await totals_of(request, found)
    items = [
        budget_object(limit_object(one, its)) | budget(one, its)
        for one, its in zip(found, totals, strict=True)
    ]
    return items, as_of


async def _numbered(request: ApiRequest, number: int, size: int, **which: Any) -> dict[str, Any]:
    """A page by its number, with what SDKs up to 0.1.0a33 read of it."""
    found, total = await limits.numbered(
        request.services.store, request.user.application_id, number, size, **which
    )
    items, as_of = await _items(request, tuple(found))
    last = -(-total // size)
    return {
        "request_id": request.request_id,
        "as_of": as_of,
        "items": items,
        "currentPage": number,
        "pageSize": size,
        "totalCount": total,
        "totalPages": last,
        "hasNextPage": number < last,
        "hasPreviousPage": number > 1,
    }
