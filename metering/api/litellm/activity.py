"""`/user/daily/activity` and its like: what was spent and used each day, by users, tags, teams and
customers, told apart by model, provider, endpoint and key."""

from typing import Annotated, Any

from litestar import Controller, get
from litestar.params import FromQuery, QueryParameter

from metering.api.litellm import spans
from metering.api.litellm.activity_shapes import Of, days, totals
from metering.api.litellm.spans import Span
from metering.api.server import ApiRequest, ExactResponse
from metering.api.text import moment
from metering.store.spend import ANYBODY, By, Spent, Whose

DAYS_MAX = 1_000
Page = Annotated[int, QueryParameter(ge=1, le=10**6)]
PageSize = Annotated[int, QueryParameter(ge=1, le=DAYS_MAX)]
Text = FromQuery[str | None]


class ActivityController(Controller):
    """Read what was used each day. A page has so many days, the latest first."""

    path = "/"
    tags = ("spend",)

    @get("/user/daily/activity")
    async def users(
        self,
        request: ApiRequest,
        *,
        start_date: Text = None,
        end_date: Text = None,
        model: Text = None,
        api_key: Text = None,
        user_id: Text = None,
        page: Page = 1,
        page_size: PageSize = 50,
    ) -> ExactResponse:
        """Of all, or of a user."""
        asked = _Asked(request, start_date, end_date, model, api_key)
        found = await asked.sums("user", user_id=user_id or None)
        return await asked.answer(found, lambda it: it.user_id, page, page_size)

    @get("/tag/daily/activity")
    async def tags_(
        self,
        request: ApiRequest,
        *,
        start_date: Text = None,
        end_date: Text = None,
        model: Text = None,
        api_key: Text = None,
        tags: Text = None,
        page: Page = 1,
        page_size: PageSize = 50,
    ) -> ExactResponse:
        """Of calls with tags, those of a list with commas or any; one with several is counted under
        each of them."""
        asked = _Asked(request, start_date, end_date, model, api_key)
        wanted = _listed(tags)
        found = [
            it
            for it in await asked.sums("tag")
            if it.tag is not None and (not wanted or it.tag in wanted)
        ]
        return await asked.answer(found, lambda it: it.tag, page, page_size)

    @get("/team/daily/activity")
    async def teams(
        self,
        request: ApiRequest,
        *,
        start_date: Text = None,
        end_date: Text = None,
        model: Text = None,
        api_key: Text = None,
        team_ids: Text = None,
        page: Page = 1,
        page_size: PageSize = 50,
    ) -> ExactResponse:
        """Of the keys that teams have now: those of a list with commas, or any."""
        asked = _Asked(request, start_date, end_date, model, api_key)
        wanted, whose = _listed(team_ids), ANYBODY
        if wanted:
            whose = Whose(key_ids=await spans.keys_of(request, wanted))
        found = await asked.sums(whose=whose)
        rows = await spans.keys_in(request, found)
        teams = {key_id: row.team for key_id, row in rows.items()}
        some = [it for it in found if teams.get(it.key_id or "")]
        return await asked.answer(some, lambda it: teams.get(it.key_id or ""), page, page_size)

    @get(["/customer/daily/activity", "/end_user/daily/activity"])
    async def customers(
        self,
        request: ApiRequest,
        *,
        start_date: Text = None,
        end_date: Text = None,
        model: Text = None,
        api_key: Text = None,
        end_user_ids: Text = None,
        page: Page = 1,
        page_size: PageSize = 50,
    ) -> ExactResponse:
        """Of calls for customers, those of a list with commas or any."""
        asked = _Asked(request, start_date, end_date, model, api_key)
        wanted = _listed(end_user_ids)
        found = [
            it
            for it in await asked.sums("customer")
            if it.customer is not None and (not wanted or it.customer in wanted)
        ]
        return await asked.answer(found, lambda it: it.customer, page, page_size)


class _Asked:
    """What all of them are asked by."""

    def __init__(
        self,
        request: ApiRequest,
        start: str | None,
        end: str | None,
        model: str | None,
        api_key: str | None,
    ) -> None:
        self._request = request
        self._span: Span = spans.span(start, end, needed=True)
        self._model = model or None
        self._api_key = api_key
        self._as_of = moment(0)

    async def sums(self, *by: By, whose: Whose = ANYBODY, **labels: Any) -> list[Spent]:
        """What was spent, by day, key, model, provider and endpoint, and by these."""
        self._as_of = await spans.as_of(self._request)
        key_id = await spans.key_id(self._request, self._api_key)
        which = spans.filters(self._request, self._span, key_id=key_id, model=self._model, **labels)
        parts: tuple[By, ...] = ("day", "key", "model", "provider", "endpoint", "cache")
        return await spans.sums(self._request, which, *parts, *by, whose=whose)

    async def answer(
        self, found: list[Spent], entity: Of, page: int, page_size: int
    ) -> ExactResponse:
        """A page of days."""
        rows = await spans.keys_in(self._request, found)
        told = days(found, entity, rows)
        pages = -(-len(told) // page_size)
        some = told[(page - 1) * page_size : page * page_size]
        shown = {it["date"] for it in some}
        metadata = {
            **totals([it for it in found if it.day in shown]),
            "page": page,
            "total_pages": max(1, pages),
            "has_more": page < pages,
        }
        content = {"results": some, "metadata": metadata}
        return spans.answer(self._as_of, content)


def _listed(text: str | None) -> list[str]:
    return [it.strip() for it in (text or "").split(",") if it.strip()]
