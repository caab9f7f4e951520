"""`/budgets`: what is left of every limit; and Pay-i's first name of `/limits/{id}`."""

from typing import Any

from litestar import Controller, get
from litestar.params import FromPath, FromQuery

from metering.api import pages
from metering.api.legacy import as_budget, budget_object
from metering.api.limit_shapes import budget, limit_object
from metering.api.limits import existing, totals_of
from metering.api.server import ApiRequest
from metering.api.text import moment
from metering.store import limits

LISTING = "budgets"
PAGE_SIZE = 1000


class BudgetController(Controller):
    """Read budgets."""

    path = "/budgets"
    tags = ("budgets",)

    @get()
    async def page(
        self,
        request: ApiRequest,
        *,
        limit: FromQuery[int | None] = None,
        cursor: FromQuery[str | None] = None,
        sort_ascending: FromQuery[bool] = False,
    ) -> dict[str, Any]:
        """Every limit with max, spent, held, remaining, percent, state and resets_at; and what the
        first SDKs look for, who call limits so."""
        found = await limits.page(
            request.services.store,
            request.user.application_id,
            page_size=limit if limit and limit > 0 else PAGE_SIZE,
            cursor=pages.read_cursor(request, LISTING, cursor),
            ascending=sort_ascending,
        )
        as_of = moment(request.services.clock())
        totals = await totals_of(request, found.items)
        items = [
            budget_object(limit_object(one, its)) | budget(one, its)
            for one, its in zip(found.items, totals, strict=True)
        ]
        return pages.page(request, LISTING, items, found.cursor, as_of=as_of)

    @get("/{limit_id:str}")
    async def read(self, request: ApiRequest, limit_id: FromPath[str]) -> dict[str, Any]:
        """One limit, as `GET /limits/{limit_id}` answers it, and as a budget."""
        return await as_budget(request, await existing(request, limit_id))
