"""`/global/spend`: what an application has spent, by key, team, model, provider, customer, tag."""

from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Annotated, Any, Literal

from litestar import Controller, get, post
from litestar.di import NamedDependency
from litestar.params import FromQuery, JSONBody, QueryParameter

from metering.api.litellm import spans
from metering.api.litellm.spans import Dates
from metering.api.litellm.spend_shapes import UNASSIGNED, EndUsers, by_day, by_model
from metering.api.server import ApiRequest, ExactResponse
from metering.core.money import usd
from metering.store.keys import KeyRow
from metering.store.spend import Spent, Whose
from metering.store.usage import Filters

END_USERS_MAX = 100
TEAMS_MAX = 10
UNASSIGNED_TEAM = "Unassigned Team"
GroupBy = Literal["team", "customer", "api_key", "user"]
Limit = Annotated[int | None, QueryParameter(ge=1, le=10_000)]


class GlobalSpendController(Controller):
    """Read what was spent in all."""

    path = "/global/spend"
    tags = ("spend",)

    @get()
    async def total(self, request: ApiRequest) -> ExactResponse:
        """What was spent in the last 30 days; there is no budget of all."""
        as_of = await spans.as_of(request)
        found = await spans.sums(request, _last_month(request))
        return spans.answer(as_of, {"spend": usd(_cost(found)), "max_budget": 0})

    @get("/logs")
    async def logs(
        self, request: ApiRequest, *, api_key: FromQuery[str | None] = None
    ) -> ExactResponse:
        """What was spent each of the last 30 days, in all or with a key."""
        as_of = await spans.as_of(request)
        key_id = await spans.key_id(request, api_key)
        found = await spans.sums(request, _last_month(request, key_id=key_id), "day")
        whose = {} if api_key is None else {"api_key": key_id}
        content = [{"date": it.day, "spend": usd(it.cost_pico), **whose} for it in found]
        return spans.answer(as_of, content)

    @get("/keys")
    async def keys(self, request: ApiRequest, *, limit: Limit = None) -> ExactResponse:
        """The keys that have spent most in the last 30 days."""
        as_of = await spans.as_of(request)
        found = _most(await spans.sums(request, _last_month(request), "key"), limit)
        rows = await spans.keys_in(request, found)
        content = [
            {
                "api_key": it.key_id,
                **_named(rows.get(it.key_id or "")),
                "total_spend": usd(it.cost_pico),
            }
            for it in found
            if it.key_id is not None
        ]
        return spans.answer(as_of, content)

    @get("/models")
    async def models(self, request: ApiRequest, *, limit: Limit = 10) -> ExactResponse:
        """The models on which most was spent in the last 30 days."""
        as_of = await spans.as_of(request)
        found = await spans.sums(request, _last_month(request), "model")
        named = [it for it in found if it.model is not None]
        content = [
            {"model": it.model, "total_spend": usd(it.cost_pico)} for it in _most(named, limit)
        ]
        return spans.answer(as_of, content)

    @get("/teams")
    async def teams(self, request: ApiRequest) -> ExactResponse:
        """What keys of each team have spent, day by day, in the last 30 days."""
        as_of = await spans.as_of(request)
        found = await spans.sums(request, _last_month(request), "day", "key")
        named = await _by_team(request, found, UNASSIGNED)
        days: dict[str, dict[str, int]] = {}
        totals: dict[str, int] = {}
        for team, it in named:
            day = days.setdefault(it.day or "", {})
            day[team] = day.get(team, 0) + it.cost_pico
            totals[team] = totals.get(team, 0) + it.cost_pico
        most = sorted(totals.items(), key=lambda it: (-it[1], it[0]))
        content = {
            "daily_spend": [
                {"date": day, **{team: usd(pico) for team, pico in its.items()}}
                for day, its in sorted(days.items())
            ],
            "teams": [team for team, _ in most],
            "total_spend_per_team": [
                {"team_id": team, "total_spend": usd(pico)} for team, pico in most[:TEAMS_MAX]
            ],
        }
        return spans.answer(as_of, content)

    @get("/provider")
    async def provider(
        self,
        request: ApiRequest,
        dates: NamedDependency[Dates],
    ) -> ExactResponse:
        """What was spent at each provider."""
        as_of = await spans.as_of(request)
        span = dates.span(needed=True)
        found = await spans.sums(request, spans.filters(request, span), "provider")
        content = [
            {"provider": it.provider, "spend": usd(it.cost_pico)}
            for it in _most(found, None)
            if it.provider is not None
        ]
        return spans.answer(as_of, content)

    @get("/tags")
    async def tags_(
        self,
        request: ApiRequest,
        dates: NamedDependency[Dates],
        *,
        tags: FromQuery[str | None] = None,
    ) -> ExactResponse:
        """What was spent by tag: by all, or those of a list with commas."""
        as_of = await spans.as_of(request)
        span = dates.span(needed=True)
        found = await spans.sums(request, spans.filters(request, span), "tag")
        wanted = {it.strip() for it in (tags or "all-tags").split(",")}
        some = [
            it for it in found if it.tag is not None and ("all-tags" in wanted or it.tag in wanted)
        ]
        content = [
            {"name": it.tag, "spend": usd(it.cost_pico), "log_count": it.ok + it.failed}
            for it in _most(some, None)
        ]
        return spans.answer(as_of, {"spend_per_tag": content})

    @post("/end_users", status_code=200)
    async def end_users(self, request: ApiRequest, data: JSONBody[EndUsers]) -> ExactResponse:
        """The hundred customers for whom most was spent, in the last 30 days or what is said."""
        as_of = await spans.as_of(request)
        which = _last_month(request)
        if data.startTime or data.endTime:
            which = spans.filters(request, spans.span(data.startTime, data.endTime))
        if data.api_key:
            key_ids = [await spans.key_id(request, data.api_key) or spans.NO_KEY]
            found = await spans.sums(request, which, "customer", whose=Whose(key_ids=key_ids))
        else:
            found = await spans.sums(request, which, "customer")
        content = [
            {
                "end_user": it.customer or "",
                "total_count": it.ok + it.failed,
                "total_spend": usd(it.cost_pico),
            }
            for it in _most(found, END_USERS_MAX)
        ]
        return spans.answer(as_of, content)

    @get("/report")
    async def report(
        self,
        request: ApiRequest,
        dates: NamedDependency[Dates],
        *,
        group_by: FromQuery[GroupBy] = "team",
        api_key: FromQuery[str | None] = None,
        internal_user_id: FromQuery[str | None] = None,
        team_id: FromQuery[str | None] = None,
        customer_id: FromQuery[str | None] = None,
    ) -> ExactResponse:
        """What was spent each day by teams or customers, or in all by keys or users."""
        as_of = await spans.as_of(request)
        span = dates.span(needed=True)
        key_id = await spans.key_id(request, api_key)
        which = spans.filters(request, span, key_id=key_id, user_id=internal_user_id or None)
        of_team = await spans.keys_of(request, [team_id]) if team_id else None
        whose = Whose(customer=customer_id or None, key_ids=of_team)
        if group_by in ("api_key", "user") or api_key or internal_user_id:
            content = await _by_model(request, which, whose, group_by)
        elif group_by == "customer":
            found = await spans.sums(request, which, "day", "customer", "key", "model", whose=whose)
            content = by_day([(it.customer or "", it) for it in found], "customers", "customer")
        else:
            found = await spans.sums(request, which, "day", "key", "model", whose=whose)
            named = await _by_team(request, found, UNASSIGNED_TEAM)
            content = by_day(named, "teams", "team_name")
        return spans.answer(as_of, content)


async def _by_model(
    request: ApiRequest, which: Filters, whose: Whose, group_by: GroupBy
) -> list[dict[str, Any]]:
    """What each key, or each user, has spent in all, and on which models; who most first."""
    of_users = group_by == "user"
    name = "user" if of_users else "api_key"
    found = await spans.sums(request, which, "user" if of_users else "key", "model", whose=whose)

    def value(it: Spent) -> str:
        return (it.user_id if of_users else it.key_id) or ""

    groups = groupby(sorted(found, key=value), key=value)
    content = [by_model(list(its), name, who) for who, its in groups]
    return sorted(content, key=lambda it: it["total_cost"], reverse=True)


async def _by_team(
    request: ApiRequest, found: list[Spent], unassigned: str
) -> list[tuple[str, Spent]]:
    """Sums, and the name of the team that their key has now."""
    rows = await spans.keys_in(request, found)
    teams = {key_id: row.team for key_id, row in rows.items() if row.team}
    names = await spans.team_names(request, teams.values())
    return [(names.get(teams.get(it.key_id or "", ""), unassigned), it) for it in found]


def _last_month(request: ApiRequest, **labels: Any) -> Filters:
    return spans.filters(request, spans.last_month(request), **labels)


def _cost(found: Iterable[Spent]) -> int:
    return sum(it.cost_pico for it in found)


def _most(found: Iterable[Spent], most: int | None) -> list[Spent]:
    """Those first that have spent most."""
    return sorted(found, key=lambda it: it.cost_pico, reverse=True)[:most]


def _named(row: KeyRow | None) -> Mapping[str, str | None]:
    if row is None:
        return {"key_alias": None, "key_name": None}
    return {"key_alias": row.name or None, "key_name": f"sk-...{row.last4}"}
