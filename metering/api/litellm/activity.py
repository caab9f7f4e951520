"""`/user/daily/activity` and its like: what was spent and used each day, by users, tags, teams and
customers, told apart by model, provider, endpoint and key."""

from typing import Annotated, Any

from litestar import Controller, get
from litestar.di import NamedDependency
from litestar.params import FromQuery, QueryParameter

from metering.api.litellm import spans
from metering.api.litellm.activity_shapes import Of, days, totals
from metering.api.litellm.spans import Dates
from metering.api.server import ApiRequest, ExactResponse
from metering.api.text import moment
from metering.store.spend import ANYBODY, By, Spent, Whose

DAYS_MAX = 1_000
Page = Annotated[int, QueryParameter(ge=1, le=10**6)]
PageSize = Annotated[int, QueryParameter(ge=1, le=DAYS_MAX)]
Text = FromQuery[str | None]


class Activity:
    """What all of them are asked by."""

    def __init__(
        self,
        request: ApiRequest,
        dates: Dates,
        *,
        model: str | None,
        api_key: str | None,
        page: int,
        page_size: int,
    ) -> None:
        self._request = request
        self._span = dates.span(needed=True)
        self._model = model or None
        self._api_key = api_key
        self._page = page
        self._page_size = page_size
        self._as_of = moment(0)

    async def sums(self, *by: By, whose: Whose = ANYBODY, **labels: Any) -> list[Spent]:
        """What was spent, by day, key, model, provider and endpoint, and by these."""
        self._as_of = await spans.as_of(self._request)
        key_id = await spans.key_id(self._request, self._api_key)
        which = spans.filters(self._request, self._span, key_id=key_id, model=self._model, **labels)
        parts: tuple[By, ...] = ("day", "key", "model", "provider", "endpoint", "cache")
        return await spans.sums(self._request, which, *parts, *by, whose=whose)

    async def answer(self, found: list[Spent], entity: Of) -> ExactResponse:
        """A page of days."""
        page, page_size = self._page, self._page_size
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


async def activity(
    request: ApiRequest,
    dates: NamedDependency[Dates],
    *,
    model: Text = None,
    api_key: Text = None,
    page: Page = 1,
    page_size: PageSize = 50,
) -> Activity:
    """What every question about days may say."""
    return Activity(request, dates, model=model, api_key=api_key, page=page, page_size=page_size)


class ActivityController(Controller):
    """Read what was used each day. A page has so many days, the latest first."""

    path = "/"
    tags = ("spend",)

    @get("/user/daily/activity")
    async def users(
        self,
        activity: NamedDependency[Activity],
        *,
        user_id: Text = None,
    ) -> ExactResponse:
        """Of all, or of a user."""
        found = await activity.sums("user", user_id=user_id or None)
        return await activity.answer(found, lambda it: it.user_id)

    @get("/tag/daily/activity")
    async def tags_(
        self,
        activity: NamedDependency[Activity],
        *,
        tags: Text = None,
    ) -> ExactResponse:
        """Of calls with tags, those of a list with commas or any; one with several is counted under
        each of them."""
        wanted = _listed(tags)
        found = [
            it
            for it in await activity.sums("tag")
            if it.tag is not None and (not wanted or it.tag in wanted)
        ]
        return await activity.answer(found, lambda it: it.tag)

    @get("/team/daily/activity")
    async def teams(
        self,
        request: ApiRequest,
        activity: NamedDependency[Activity],
        *,
        team_ids: Text = None,
    ) -> ExactResponse:
        """Of the keys that teams have now: those of a list with commas, or any."""
        wanted, whose = _listed(team_ids), ANYBODY
        if wanted:
            whose = Whose(key_ids=await spans.keys_of(request, wanted))
        found = await activity.sums(whose=whose)
        rows = await spans.keys_in(request, found)
        teams = {key_id: row.team for key_id, row in rows.items()}
        some = [it for it in found if teams.get(it.key_id or "")]
        return await activity.answer(some, lambda it: teams.get(it.key_id or ""))

    @get(["/customer/daily/activity", "/end_user/daily/activity"])
    async def customers(
        self,
        activity: NamedDependency[Activity],
        *,
        end_user_ids: Text = None,
    ) -> ExactResponse:
        """Of calls for customers, those of a list with commas or any."""
        wanted = _listed(end_user_ids)
        found = [
            it
            for it in await activity.sums("customer")
            if it.customer is not None and (not wanted or it.customer in wanted)
        ]
        return await activity.answer(found, lambda it: it.customer)


def _listed(text: str | None) -> list[str]:
    return [it.strip() for it in (text or "").split(",") if it.strip()]
