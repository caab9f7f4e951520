"""`/key`: LiteLLM's virtual keys, which are keys of this service. An admin key manages them; any
key may read what it is itself."""

from typing import Annotated, Literal

from litestar import Controller, get, post
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from metering.api.auth import admin_only, presented_key
from metering.api.litellm import virtual_keys
from metering.api.litellm.key_shapes import (
    AskedKey,
    DeletedKeys,
    GenerateKey,
    KeyInfo,
    KeyList,
    KeyView,
    NamedKey,
    OneKey,
    RegenerateKey,
    SomeKeys,
    UpdateKey,
    grace_ends_ms,
    named,
)
from metering.api.litellm.shapes import ignored, said
from metering.api.server import ApiRequest
from metering.core.keys import digest, is_ours, make_key
from metering.directory import key_topic
from metering.errors import InvalidRequest, NotAllowed
from metering.store import keys
from metering.store.keys import KeyRow, Wanted

SIZE_MAX = 100
OPERATORS = "admin"
"""What the operator's own admin key, which no table has, is called."""


class VirtualKeyController(Controller):
    """Generate, read, change, block, rotate and delete virtual keys."""

    path = "/key"
    tags = ("virtual keys",)

    @post("/generate", status_code=200, guards=[admin_only])
    async def generate(self, request: ApiRequest, data: JSONBody[GenerateKey]) -> NamedKey:
        """Make a key; it is in this answer and in no other."""
        role: Literal["app", "read"] = "read" if data.key_type == "read_only" else "app"
        if data.key is not None and not (
            is_ours(data.key) and data.key.startswith(f"sk-xproxy-{role}-")
        ):
            raise InvalidRequest(
                f"key must be of the form sk-xproxy-{role}-..., with its checksum: leave it out, "
                "and one is made",
                field="key",
            )
        row, secret = await virtual_keys.generate(request, data, role=role, secret=data.key)
        return named(await virtual_keys.one_view(request, row), secret, await ignored(request))

    @get("/info")
    async def info(self, request: ApiRequest, key: FromQuery[str | None] = None) -> KeyInfo:
        """A key, by its secret or its token; without either, the one that asks."""
        row = await _asked_for(request, key)
        return KeyInfo(key=key, info=await virtual_keys.one_view(request, row))

    @post("/update", status_code=200, guards=[admin_only])
    async def update(self, request: ApiRequest, data: JSONBody[UpdateKey]) -> NamedKey:
        """Change a key: what is not named stays, null takes away. At once on every worker."""
        if data.key is not None:
            row = await virtual_keys.find(request, data.key)
        elif isinstance(data.key_alias, str):
            row = await virtual_keys.find_by_alias(request, data.key_alias, "key_alias")
        else:
            raise InvalidRequest("either key or key_alias must be provided", field="key")
        if data.spend:
            raise InvalidRequest("spend can be set to 0, which resets the budgets", field="spend")
        row = await virtual_keys.update(request, row, data)
        if data.spend is not None:
            await virtual_keys.reset_spend(request, row)
        its = await virtual_keys.one_view(request, row)
        return named(its, data.key or row.key_id, await ignored(request))

    @post("/delete", status_code=200, guards=[admin_only])
    async def delete(self, request: ApiRequest, data: JSONBody[SomeKeys]) -> DeletedKeys:
        """Delete keys by `keys` or `key_aliases`: all of them, or none where one is not there."""
        if data.keys:
            rows = [
                await virtual_keys.find(request, key, f"keys[{index}]")
                for index, key in enumerate(data.keys)
            ]
        elif data.key_aliases:
            rows = [
                await virtual_keys.find_by_alias(request, alias, f"key_aliases[{index}]")
                for index, alias in enumerate(data.key_aliases)
            ]
        else:
            raise InvalidRequest(
                "At least one of 'keys' or 'key_aliases' must be provided.", field="keys"
            )
        await virtual_keys.delete(request, rows)
        return DeletedKeys(deleted_keys=data.keys or data.key_aliases or [])

    @get("/list", guards=[admin_only])
    async def page(
        self,
        request: ApiRequest,
        *,
        page: Annotated[int, QueryParameter(ge=1, le=10**9)] = 1,
        size: Annotated[int, QueryParameter(ge=1, le=SIZE_MAX)] = 10,
        user_id: FromQuery[str | None] = None,
        team_id: FromQuery[str | None] = None,
        key_alias: FromQuery[str | None] = None,
        return_full_object: FromQuery[bool] = False,
    ) -> KeyList:
        """A page of keys, newest first: their tokens, or the whole of them."""
        store, application_id = request.services.store, request.user.application_id
        wanted = Wanted(user_id=user_id, team=team_id, name=key_alias)
        total = await keys.count(store, application_id, wanted)
        rows = await keys.some(store, application_id, wanted, skip=(page - 1) * size, most=size)
        shown: list[str | KeyView] = [row.key_id for row in rows]
        if return_full_object:
            shown = [*await virtual_keys.views(request, rows)]
        return KeyList(
            keys=shown,
            total_count=total,
            current_page=page,
            total_pages=-(-total // size),
        )

    @post("/block", status_code=200, guards=[admin_only])
    async def block(self, request: ApiRequest, data: JSONBody[OneKey]) -> KeyView:
        """Refuse calls of a key, at once on every worker."""
        return await _blocked(request, data.key, blocked=True)

    @post("/unblock", status_code=200, guards=[admin_only])
    async def unblock(self, request: ApiRequest, data: JSONBody[OneKey]) -> KeyView:
        """Let a key in again."""
        return await _blocked(request, data.key, blocked=False)

    @post("/regenerate", status_code=200, guards=[admin_only])
    async def regenerate(self, request: ApiRequest, data: JSONBody[RegenerateKey]) -> NamedKey:
        """Give a key another secret; with `grace_period` the one it has works for so long."""
        if data.key is None:
            raise InvalidRequest("key must be provided", field="key")
        return await _regenerated(request, data.key, data)

    @post("/{key:str}/regenerate", status_code=200, guards=[admin_only])
    async def regenerate_named(
        self, request: ApiRequest, key: FromPath[str], data: JSONBody[RegenerateKey]
    ) -> NamedKey:
        """The same for the key in the path."""
        return await _regenerated(request, key, data)


async def _asked_for(request: ApiRequest, key: str | None) -> KeyRow:
    """The key that is asked for, if who asks may know of it."""
    own = key is None or key in (request.user.key_id, presented_key(request.headers))
    if not own and not request.user.is_admin:
        raise NotAllowed("You are not allowed to access this key's info.", field="key")
    if not own:
        return await virtual_keys.find(request, key or "")
    if request.user.key_id is None:
        return KeyRow(
            key_id=OPERATORS,
            application_id=None,
            role="admin",
            name=OPERATORS,
            last4="",
            created_ms=0,
        )
    scope = None if request.user.is_admin else request.user.application_id
    found = await keys.get(request.services.store, request.user.key_id, scope)
    if found is None:
        raise virtual_keys.not_found()
    return found


async def _blocked(request: ApiRequest, key: str, *, blocked: bool) -> KeyView:
    row = await virtual_keys.find(request, key)
    row = await virtual_keys.update(request, row, AskedKey(blocked=blocked))
    return await virtual_keys.one_view(request, row)


async def _regenerated(request: ApiRequest, key: str, body: RegenerateKey) -> NamedKey:
    services = request.services
    if body.new_key is not None:
        raise InvalidRequest("new_key cannot be chosen: leave it out", field="new_key")
    ends_ms = grace_ends_ms(body.grace_period, services.clock())
    row = await virtual_keys.find(request, key)
    if said(body, *AskedKey.__struct_fields__):
        row = await virtual_keys.update(request, row, body)
    secret = make_key(row.role, services.random(32))
    rotated = await keys.rotate(
        services.store,
        row.key_id,
        digest(services.pepper, secret),
        secret[-4:],
        previous_ends_ms=ends_ms,
        application_id=request.user.application_id,
    )
    if rotated is None:
        raise virtual_keys.not_found()
    await services.directory.changed(*map(key_topic, rotated.digests))
    its = await virtual_keys.one_view(request, rotated.key)
    return named(its, secret, await ignored(request))
