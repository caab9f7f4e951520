"""`/team`: keys with one budget, one list of models, one switch."""

from litestar import Controller, get, post
from litestar.params import FromQuery, JSONBody

from metering.api.auth import admin_only
from metering.api.litellm import holders, virtual_keys
from metering.api.litellm.holder_shapes import (
    AskedHolder,
    ChangedTeam,
    DeletedTeams,
    NewTeam,
    OneTeam,
    SomeTeams,
    TeamInfo,
    TeamView,
    UpdateTeam,
)
from metering.api.litellm.shapes import ignored
from metering.api.server import ApiRequest
from metering.store import keys, profiles
from metering.store.keys import Wanted
from metering.store.profiles import Profile


class TeamController(Controller):
    """Set up, read, change, block and delete teams."""

    path = "/team"
    tags = ("teams",)
    guards = (admin_only,)

    @post("/new", status_code=200)
    async def new(self, request: ApiRequest, data: JSONBody[NewTeam]) -> TeamView:
        """Set a team up."""
        team = await holders.create(request, "team", data.team_id, data, "team_id")
        return await _view(request, team, await ignored(request))

    @get("/info")
    async def info(self, request: ApiRequest, team_id: FromQuery[str]) -> TeamInfo:
        """A team with its keys."""
        team = await holders.get(request, "team", team_id, "team_id")
        store, application_id = request.services.store, request.user.application_id
        rows = await keys.some(store, application_id, Wanted(team=team_id))
        return TeamInfo(
            team_id=team_id,
            team_info=await _view(request, team),
            keys=await virtual_keys.views(request, rows),
        )

    @post("/update", status_code=200)
    async def update(self, request: ApiRequest, data: JSONBody[UpdateTeam]) -> ChangedTeam:
        """Change a team: what is not named stays, null takes away."""
        team = await holders.get(request, "team", data.team_id, "team_id")
        team = await holders.update(request, team, data)
        data_ = await _view(request, team, await ignored(request))
        return ChangedTeam(team_id=team.name, data=data_)

    @post("/delete", status_code=200)
    async def delete(self, request: ApiRequest, data: JSONBody[SomeTeams]) -> DeletedTeams:
        """Delete teams with their keys: all of them, or none where one is not there."""
        found = await holders.get_all(request, "team", data.team_ids, "team_ids")
        await holders.delete(request, found)
        return DeletedTeams(deleted_teams=[it.name for it in found])

    @get("/list")
    async def page(self, request: ApiRequest) -> list[TeamView]:
        """The teams, newest first, at most 1,000."""
        found = await profiles.some(request.services.store, request.user.application_id, "team")
        shown = await holders.shown(request, found)
        return [_team(it, its) for it, its in zip(found, shown, strict=True)]

    @post("/block", status_code=200)
    async def block(self, request: ApiRequest, data: JSONBody[OneTeam]) -> TeamView:
        """Refuse calls of a team's keys, at once on every worker."""
        return await _blocked(request, data.team_id, blocked=True)

    @post("/unblock", status_code=200)
    async def unblock(self, request: ApiRequest, data: JSONBody[OneTeam]) -> TeamView:
        """Let them in again."""
        return await _blocked(request, data.team_id, blocked=False)


async def _blocked(request: ApiRequest, team_id: str, *, blocked: bool) -> TeamView:
    team = await holders.get(request, "team", team_id, "team_id")
    return await _view(request, await holders.update(request, team, AskedHolder(blocked=blocked)))


async def _view(request: ApiRequest, team: Profile, names: list[str] | None = None) -> TeamView:
    [shown] = await holders.shown(request, [team])
    return _team(team, shown, names)


def _team(team: Profile, shown: dict[str, object], names: list[str] | None = None) -> TeamView:
    return TeamView(
        team_id=team.name,
        team_alias=team.details.get("team_alias"),
        xproxy_ignored=names or [],
        **shown,  # type: ignore[arg-type]
    )
