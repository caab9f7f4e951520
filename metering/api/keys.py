"""`/keys`: who may call. Only an admin key comes here."""

from typing import Any

from litestar import Controller, delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from metering.api import pages
from metering.api.auth import admin_only
from metering.api.key_shapes import (
    CreateKey,
    KeyObject,
    RotateKey,
    UpdateKey,
    changes,
    checked_aliases,
    checked_label,
    checked_limit_ids,
    checked_models,
    checked_permissions,
    checked_rates,
    checked_tags,
    key_object,
    parse_expiry,
    parse_grace,
    parse_role,
)
from metering.api.limit_shapes import DefaultResponse
from metering.api.pages import Paging
from metering.api.server import ApiRequest
from metering.api.text import checked_name, has_control
from metering.core.ids import uuid7
from metering.core.keys import digest, make_key
from metering.directory import key_topic
from metering.errors import NotFound
from metering.store import applications, keys
from metering.store.keys import KeyRow

LISTING = "keys"


class KeyController(Controller):
    """Create, list, read, change, rotate and revoke keys."""

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
        hashed, now_ms = digest(services.pepper, key), services.clock()
        row = KeyRow(
            key_id=str(uuid7(now_ms, services.random(10))),
            application_id=application_id,
            role=role,
            name=checked_name(data.name, "name"),
            last4=key[-4:],
            permissions=checked_permissions(data.permissions or []),
            limit_ids=await checked_limit_ids(request, application_id, data.limit_ids or []),
            user_id=checked_label(data.user_id, "user_id"),
            team=checked_label(data.team, "team"),
            customer=checked_label(data.customer, "customer"),
            rate_limits=checked_rates(data.rate_limits),
            models=checked_models(data.models),
            aliases=checked_aliases(data.aliases),
            tags=checked_tags(data.tags),
            created_ms=now_ms,
            expires_ms=parse_expiry(data.expires_at, now_ms),
        )
        created = await keys.create(services.store, row, hashed)
        await services.directory.changed(key_topic(hashed))
        return key_object(request, created, key)

    @get()
    async def page(self, request: ApiRequest, paging: NamedDependency[Paging]) -> dict[str, Any]:
        """A page of keys, newest first; of one application if the request names it."""
        found = await keys.page(
            request.services.store,
            request.user.scope,
            **paging.of(request, LISTING),
        )
        items = [key_object(request, row) for row in found.items]
        return pages.page(request, LISTING, items, found.cursor)

    @get("/{key_id:str}")
    async def read(self, request: ApiRequest, key_id: FromPath[str]) -> KeyObject:
        """One key, without its secret."""
        return key_object(request, await _existing(request, key_id))

    @patch("/{key_id:str}")
    async def update(
        self, request: ApiRequest, key_id: FromPath[str], data: JSONBody[UpdateKey]
    ) -> KeyObject:
        """Change a key, or block it or let it in again; at once on every worker."""
        services = request.services
        key = await _existing(request, key_id)
        changed = await keys.update(
            services.store,
            key_id,
            await changes(request, data, key),
            request.user.scope,
        )
        return key_object(request, await _told(request, key_id, changed))

    @post("/{key_id:str}/rotate", status_code=200)
    async def rotate(
        self, request: ApiRequest, key_id: FromPath[str], data: JSONBody[RotateKey]
    ) -> KeyObject:
        """Give a key another secret; the one it has goes on working for a while."""
        services = request.services
        ends_ms = parse_grace(data.grace_period, services.clock())
        row = await _existing(request, key_id)
        key = make_key(row.role, services.random(32))
        rotated = await keys.rotate(
            services.store,
            key_id,
            digest(services.pepper, key),
            key[-4:],
            previous_ends_ms=ends_ms,
            application_id=request.user.scope,
        )
        return key_object(request, await _told(request, key_id, rotated), key)

    @delete("/{key_id:str}", status_code=200)
    async def revoke(self, request: ApiRequest, key_id: FromPath[str]) -> DefaultResponse:
        """Revoke a key: it is forgotten, and calls with it are refused."""
        revoked = await keys.delete(request.services.store, key_id, request.user.scope)
        if revoked is None:
            raise _not_found(key_id)
        await request.services.directory.changed(*map(key_topic, revoked))
        return DefaultResponse(request_id=request.request_id, message=f"Key {key_id} was revoked.")


async def _existing(request: ApiRequest, key_id: str) -> KeyRow:
    found = await keys.get(request.services.store, key_id, request.user.scope)
    if found is None:
        raise _not_found(key_id)
    return found


async def _told(request: ApiRequest, key_id: str, changed: keys.Changed | None) -> KeyRow:
    """A key that was changed, of which every worker has been told."""
    if changed is None:
        raise _not_found(key_id)
    await request.services.directory.changed(*map(key_topic, changed.digests))
    return changed.key


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


def _not_found(key_id: str) -> NotFound:
    return NotFound(f"Key {key_id!r} not found", code="key_not_found", field="key_id")
