"""`/user`: whom keys act for, with one budget for all of theirs."""

from collections.abc import Sequence
from typing import Annotated

from litestar import Controller, get, post
from litestar.params import FromQuery, JSONBody, QueryParameter
from msgspec.structs import asdict

from metering.api.auth import admin_only
from metering.api.litellm import holders, virtual_keys
from metering.api.litellm.holder_shapes import (
    ChangedUser,
    CreatedUser,
    NewUser,
    SomeUsers,
    UpdateUser,
    UserInfo,
    UserList,
    UserView,
)
from metering.api.litellm.key_shapes import AskedKey, changes
from metering.api.litellm.shapes import ignored
from metering.api.server import ApiRequest
from metering.api.text import moment
from metering.store import keys, profiles
from metering.store.keys import Wanted
from metering.store.profiles import Profile

PAGE_SIZE_MAX = 100


class UserController(Controller):
    """Set up, read, change and delete users."""

    path = "/user"
    tags = ("users",)
    guards = (admin_only,)

    @post("/new", status_code=200)
    async def new(self, request: ApiRequest, data: JSONBody[NewUser]) -> CreatedUser:
        """Set a user up, with a key unless `auto_create_key` is false."""
        asked = AskedKey(
            key_alias=data.key_alias,
            duration=data.duration,
            team_id=data.team_id,
            aliases=data.aliases,
        )
        if data.auto_create_key:  # what it would be refused for makes no user either
            changes(asked, request.services.clock())
            await virtual_keys.check_names(request, asked, None)
        user = await holders.create(request, "user", data.user_id, data, "user_id")
        view = CreatedUser(**asdict(await _view(request, user, await ignored(request))))
        if data.auto_create_key:
            asked.user_id = user.name
            row, secret = await virtual_keys.generate(request, asked)
            view.key, view.key_name, view.key_alias = secret, f"sk-...{row.last4}", row.name or None
            view.token = view.token_id = row.key_id
            view.expires = None if row.expires_ms is None else moment(row.expires_ms)
        return view

    @get("/info")
    async def info(self, request: ApiRequest, user_id: FromQuery[str]) -> UserInfo:
        """A user with his keys."""
        user = await holders.get(request, "user", user_id, "user_id")
        store, application_id = request.services.store, request.user.application_id
        rows = await keys.some(store, application_id, Wanted(user_id=user_id))
        return UserInfo(
            user_id=user_id,
            user_info=await _view(request, user),
            keys=await virtual_keys.views(request, rows),
        )

    @post("/update", status_code=200)
    async def update(self, request: ApiRequest, data: JSONBody[UpdateUser]) -> ChangedUser:
        """Change a user: what is not named stays, null takes away."""
        user = await holders.get(request, "user", data.user_id, "user_id")
        user = await holders.update(request, user, data)
        return ChangedUser(
            user_id=user.name, data=await _view(request, user, await ignored(request))
        )

    @post("/delete", status_code=200)
    async def delete(self, request: ApiRequest, data: JSONBody[SomeUsers]) -> int:
        """Delete users with their keys: all of them, or none where one is not there."""
        found = await holders.get_all(request, "user", data.user_ids, "user_ids")
        await holders.delete(request, found)
        return len(found)

    @get("/list")
    async def page(
        self,
        request: ApiRequest,
        *,
        page: Annotated[int, QueryParameter(ge=1, le=10**9)] = 1,
        page_size: Annotated[int, QueryParameter(ge=1, le=PAGE_SIZE_MAX)] = 25,
    ) -> UserList:
        """A page of users, newest first."""
        store, application_id = request.services.store, request.user.application_id
        total = await profiles.count(store, application_id, "user")
        found = await profiles.some(
            store, application_id, "user", skip=(page - 1) * page_size, most=page_size
        )
        return UserList(
            users=await users_shown(request, found),
            total=total,
            page=page,
            page_size=page_size,
            total_pages=-(-total // page_size),
        )


async def users_shown(request: ApiRequest, found: Sequence[Profile]) -> list[UserView]:
    """Users as answers show them."""
    shown = await holders.shown(request, found)
    return [_user(it, its) for it, its in zip(found, shown, strict=True)]


async def _view(request: ApiRequest, user: Profile, names: list[str] | None = None) -> UserView:
    [shown] = await holders.shown(request, [user])
    return _user(user, shown, names)


def _user(user: Profile, shown: dict[str, object], names: list[str] | None = None) -> UserView:
    return UserView(
        user_id=user.name,
        user_alias=user.details.get("user_alias"),
        user_email=user.details.get("user_email"),
        user_role=user.details.get("user_role"),
        xproxy_ignored=names or [],
        **shown,  # type: ignore[arg-type]
    )
