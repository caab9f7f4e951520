"""`/keys`: who may call. Only an admin key comes here; a key is shown once, when it is made."""

import re
from datetime import datetime
from typing import Any, Literal

import msgspec
from litestar import Controller, delete, get, post
from litestar.params import FromPath, FromQuery, JSONBody

from metering.api import pages
from metering.api.auth import admin_only
from metering.api.limit_shapes import DefaultResponse
from metering.api.server import ApiRequest
from metering.api.services import Services
from metering.api.text import checked_name, has_control, moment, time_ms
from metering.core.ids import uuid7
from metering.core.keys import digest, make_key
from metering.errors import InvalidRequest, NotFound
from metering.store import applications, keys, limits
from metering.store.keys import KeyRow

LISTING = "keys"
PERMISSIONS = ("own_credential", "price_as", "ingest", "unmetered", "base_uri")
"""What a key may be allowed beyond its role, and `credential:<slug>` for each credential."""
_PERMISSION = re.compile("|".join((*PERMISSIONS, r"credential:[A-Za-z0-9._-]{1,64}")))
LIMIT_IDS_MAX = 32


class CreateKey(msgspec.Struct, kw_only=True):
    """The body of a new key."""

    name: str
    role: str = "app"
    application_id: str | None = None
    expires_at: str | int | None = None
    permissions: list[str] | None = None
    limit_ids: list[str] | None = None


class KeyObject(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A key; `key` itself is in the answer that made it, and nowhere else."""

    request_id: str
    key_id: str
    key: str | None = None
    application_id: str | None = None
    role: Literal["admin", "app", "read"]
    name: str
    last4: str
    created_at: datetime
    blocked: bool
    permissions: tuple[str, ...]
    limit_ids: tuple[str, ...]
    expires_at: datetime | None = None


def key_object(request: ApiRequest, row: KeyRow, key: str | None = None) -> KeyObject:
    """A key as callers see it."""
    return KeyObject(
        request_id=request.request_id,
        key_id=row.key_id,
        key=key,
        application_id=row.application_id,
        role=row.role,
        name=row.name,
        last4=row.last4,
        created_at=moment(row.created_ms),
        blocked=row.blocked,
        permissions=row.permissions,
        limit_ids=row.limit_ids,
        expires_at=None if row.expires_ms is None else moment(row.expires_ms),
    )


class KeyController(Controller):
    """Create, list, read and revoke keys."""

    path = "/keys"
    tags = ("keys",)
    guards = (admin_only,)

    @post()
    async def create(self, request: ApiRequest, data: JSONBody[CreateKey]) -> KeyObject:
        """Create a key, for the named application or the one the request acts for."""
        services = request.services
        role = parse_role(data.role)
        application_id = await _application(request, data, role)
        key = make_key(role, services.random(32))
        now_ms = services.clock()
        row = KeyRow(
            key_id=str(uuid7(now_ms, services.random(10))),
            application_id=application_id,
            role=role,
            name=checked_name(data.name, "name"),
            last4=key[-4:],
            permissions=checked_permissions(data.permissions or []),
            limit_ids=await _limit_ids(request, application_id, data.limit_ids or []),
            created_ms=now_ms,
            expires_ms=parse_expiry(data.expires_at, now_ms),
        )
        created = await keys.create(services.store, row, digest(services.pepper, key))
        await services.directory.changed(_topic(digest(services.pepper, key)))
        return key_object(request, created, key)

    @get()
    async def page(
        self,
        request: ApiRequest,
        *,
        limit: FromQuery[int | None] = None,
        cursor: FromQuery[str | None] = None,
        sort_ascending: FromQuery[bool] = False,
    ) -> dict[str, Any]:
        """A page of keys, newest first; of one application if the request names it."""
        found = await keys.page(
            request.services.store,
            request.user.scope,
            page_size=limit,
            cursor=pages.read_cursor(request, LISTING, cursor),
            ascending=sort_ascending,
        )
        items = [key_object(request, row) for row in found.items]
        return pages.page(request, LISTING, items, found.cursor)

    @get("/{key_id:str}")
    async def read(self, request: ApiRequest, key_id: FromPath[str]) -> KeyObject:
        """One key, without its secret."""
        found = await keys.get(request.services.store, key_id, request.user.scope)
        if found is None:
            raise _not_found(key_id)
        return key_object(request, found)

    @delete("/{key_id:str}", status_code=200)
    async def revoke(self, request: ApiRequest, key_id: FromPath[str]) -> DefaultResponse:
        """Revoke a key: it is forgotten, and calls with it are refused."""
        services: Services = request.services
        revoked = await keys.delete(services.store, key_id, request.user.scope)
        if revoked is None:
            raise _not_found(key_id)
        await services.directory.changed(_topic(revoked))
        return DefaultResponse(request_id=request.request_id, message=f"Key {key_id} was revoked.")


def parse_role(role: str) -> Literal["admin", "app", "read"]:
    """A role in any case."""
    match role.lower():
        case "admin" | "app" | "read" as known:
            return known
    raise InvalidRequest("role must be admin, app or read", field="role")


def parse_expiry(text: str | int | None, now_ms: int) -> int | None:
    """When a key ends, in milliseconds; it must lie ahead."""
    if text is None:
        return None
    expires_ms = time_ms(str(text), "expires_at")
    if expires_ms <= now_ms:
        raise InvalidRequest("expires_at is in the past", field="expires_at")
    return expires_ms


def checked_permissions(permissions: list[str]) -> tuple[str, ...]:
    """Permissions that exist, each once."""
    for permission in permissions:
        if not _PERMISSION.fullmatch(permission):
            raise InvalidRequest(
                f"permission {permission!r} does not exist; there are "
                f"{', '.join(PERMISSIONS)} and credential:<slug>",
                field="permissions",
            )
    return tuple(dict.fromkeys(permissions))


async def _application(request: ApiRequest, data: CreateKey, role: str) -> str | None:
    """The application of a new key; an admin key has one only if the request names it."""
    if data.application_id is None:
        return request.user.scope if role == "admin" else request.user.application_id
    named = data.application_id
    found = None
    if not has_control(named):
        found = await applications.get(request.services.store, named)
    if found is None:
        raise NotFound(f"Application {named!r} not found", code="application_not_found")
    return found.application_id


async def _limit_ids(
    request: ApiRequest, application_id: str | None, limit_ids: list[str]
) -> tuple[str, ...]:
    """Limits of the application, each once."""
    wanted = tuple(dict.fromkeys(limit_ids))
    if not wanted:
        return ()
    if len(wanted) > LIMIT_IDS_MAX:
        raise InvalidRequest(f"limit_ids has more than {LIMIT_IDS_MAX} ids", field="limit_ids")
    owner = application_id or request.user.application_id
    known = [limit_id for limit_id in wanted if not has_control(limit_id)]
    found = await limits.get_many(request.services.store, owner, known)
    missing = [limit_id for limit_id in wanted if limit_id not in found]
    if missing:
        raise InvalidRequest(
            f"limit_ids: {', '.join(map(repr, missing))} not found in application {owner}; "
            "create the limit first",
            code="invalid_limit_ids",
            field="limit_ids",
        )
    return wanted


def _topic(hashed: bytes) -> str:
    return f"key:{hashed.hex()}"


def _not_found(key_id: str) -> NotFound:
    return NotFound(f"Key {key_id!r} not found", code="key_not_found", field="key_id")
