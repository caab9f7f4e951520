"""`/spend`: what was spent, call by call, day by day, by key, user and tag.

An app or read key sees its application's, of keys and users its own alone.
"""

from typing import Annotated

from litestar import Controller, get
from litestar.di import NamedDependency
from litestar.params import FromQuery, QueryParameter

from metering.api.litellm import spans, virtual_keys
from metering.api.litellm.holder_shapes import UserView
from metering.api.litellm.key_shapes import KeyView
from metering.api.litellm.spans import Dates
from metering.api.litellm.spend_shapes import SpendLog, SpendLogPage, daily, spend_log
from metering.api.litellm.users import users_shown
from metering.api.server import ApiRequest, ExactResponse
from metering.core.money import usd
from metering.providers import DIALECTS
from metering.store import keys, profiles, requests, spend
from metering.store.keys import Wanted
from metering.store.spend import Whose
from metering.store.usage import Entry

LOGS_MAX = 10_000
"""So many calls, the latest, one answer has at most without pages: as LiteLLM."""
KEYS_MAX = 10_000


class SpendController(Controller):
    """Read what was spent."""

    path = "/spend"
    tags = ("spend",)

    @get("/logs")
    async def logs(
        self,
        request: ApiRequest,
        dates: NamedDependency[Dates],
        *,
        api_key: FromQuery[str | None] = None,
        user_id: FromQuery[str | None] = None,
        request_id: FromQuery[str | None] = None,
        summarize: FromQuery[bool] = True,
    ) -> ExactResponse:
        """With both dates what was spent each day, unless `summarize=false`; else the latest 10,000
        calls, newest first."""
        as_of = await spans.as_of(request)
        span = dates.span()
        key_id = await spans.key_id(request, api_key)
        which = spans.filters(request, span, key_id=key_id, user_id=user_id or None)
        whose = await _named(request, request_id)
        if dates.start and dates.end and summarize and request_id is None:
            found = await spans.sums(request, which, "day", "key", "user", "model")
            return spans.answer(as_of, daily(found, min(span.last_day, spans.today(request))))
        store = request.services.store
        entries = await spend.calls(store, which, whose, most=LOGS_MAX)
        return spans.answer(as_of, await _logs(request, entries))

    @get("/logs/v2")
    async def pages(
        self,
        request: ApiRequest,
        dates: NamedDependency[Dates],
        *,
        api_key: FromQuery[str | None] = None,
        user_id: FromQuery[str | None] = None,
        request_id: FromQuery[str | None] = None,
        team_id: FromQuery[str | None] = None,
        end_user: FromQuery[str | None] = None,
        model: FromQuery[str | None] = None,
        page: Annotated[int, QueryParameter(ge=1, le=10**6)] = 1,
        page_size: Annotated[int, QueryParameter(ge=1, le=1_000)] = 50,
    ) -> ExactResponse:
        """A page of calls, newest first; days or times."""
        as_of = await spans.as_of(request)
        span = dates.span(needed=request_id is None)
        key_id = await spans.key_id(request, api_key)
        which = spans.filters(
            request, span, key_id=key_id, user_id=user_id or None, model=model or None
        )
        named = await _named(request, request_id)
        of_team = await spans.keys_of(request, [team_id]) if team_id else None
        whose = Whose(customer=end_user or None, key_ids=of_team, request_ids=named.request_ids)
        store = request.services.store
        total = await spend.count(store, which, whose)
        skip = (page - 1) * page_size
        entries = await spend.calls(store, which, whose, skip=skip, most=page_size)
        content = SpendLogPage(
            data=await _logs(request, entries),
            total=total,
            page=page,
            page_size=page_size,
            total_pages=-(-total // page_size),
        )
        return spans.answer(as_of, content)

    @get("/tags")
    async def tags_(
        self,
        request: ApiRequest,
        dates: NamedDependency[Dates],
    ) -> ExactResponse:
        """What was spent by tag; a call with several is counted under each."""
        as_of = await spans.as_of(request)
        found = await spans.sums(request, spans.filters(request, dates.span()), "tag")
        content = [
            {
                "individual_request_tag": it.tag,
                "log_count": it.ok + it.failed,
                "total_spend": usd(it.cost_pico),
            }
            for it in found
            if it.tag is not None
        ]
        return spans.answer(as_of, content)

    @get("/keys")
    async def keys_(self, request: ApiRequest) -> list[KeyView]:
        """The keys, those first that have spent most; but for an admin the one that asks."""
        store, application_id = request.services.store, request.user.application_id
        if not request.user.is_admin:
            own = None
            if request.user.key_id is not None:
                own = await keys.get(store, request.user.key_id, application_id)
            return [] if own is None else [await virtual_keys.one_view(request, own)]
        rows = await keys.some(store, application_id, Wanted(), most=KEYS_MAX)
        found = await virtual_keys.views(request, rows)
        return sorted(found, key=lambda it: it.spend, reverse=True)

    @get("/users")
    async def users(
        self, request: ApiRequest, *, user_id: FromQuery[str | None] = None
    ) -> list[UserView]:
        """The users that were set up, those first that have spent most; but for an admin the one
        whose key asks."""
        store, application_id = request.services.store, request.user.application_id
        if not request.user.is_admin:
            own = await _own_user(request)
            if user_id not in (None, own):
                return []
            user_id = own or ""
        if user_id is None:
            found = await profiles.some(store, application_id, "user", most=KEYS_MAX)
        else:
            found = await profiles.get_many(store, application_id, "user", [user_id])
        shown = await users_shown(request, found)
        return sorted(shown, key=lambda it: it.spend, reverse=True)


async def _own_user(request: ApiRequest) -> str | None:
    """Whom the key that asks acts for."""
    if request.user.key_id is None:
        return None
    store, application_id = request.services.store, request.user.application_id
    row = await keys.get(store, request.user.key_id, application_id)
    return None if row is None else row.user_id


async def _named(request: ApiRequest, request_id: str | None) -> Whose:
    """The calls of an id, the provider's or ours; any if none is given."""
    if request_id is None:
        return spend.ANYBODY
    categories = {it.category for it in DIALECTS.values()}
    store, application_id = request.services.store, request.user.application_id
    found = await requests.request_ids_of(
        store, application_id, [(it, request_id) for it in categories]
    )
    return Whose(request_ids=[request_id, *found.values()])


async def _logs(request: ApiRequest, entries: list[Entry]) -> list[SpendLog]:
    store, application_id = request.services.store, request.user.application_id
    key_ids = sorted({it.row.key_id for it in entries if it.row.key_id})
    found = await keys.get_many(store, application_id, key_ids)
    return [spend_log(it.row, found.get(it.row.key_id or "")) for it in entries]
