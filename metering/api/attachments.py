"""`/attachments`: which limits bind a user, a team, a customer or what a credential serves.

They do whatever headers say. What binds a key is with the key. Only an admin key changes them.
"""

from datetime import datetime
from typing import Any, cast

import msgspec
from litestar import Controller, delete, get, put
from litestar.params import FromPath, FromQuery

from metering.api import pages
from metering.api.auth import admin_only
from metering.api.key_shapes import LIMIT_IDS_MAX, checked_label
from metering.api.limit_shapes import DefaultResponse
from metering.api.limits import not_found
from metering.api.server import ApiRequest
from metering.api.text import moment
from metering.directory import attached_topic
from metering.errors import InvalidRequest, NotFound
from metering.store import attachments
from metering.store.attachments import Attachment, Kind

LISTING = "attachments"
KINDS = ("credential", "user", "team", "customer")
ATTACHED_MAX = 10_000
"""So many an application has at most: every worker knows all of them."""


class AttachmentObject(msgspec.Struct, kw_only=True):
    """A limit that binds the calls of what has a name."""

    request_id: str
    kind: str
    name: str
    limit_id: str
    attached_at: datetime


class AttachmentController(Controller):
    """Attach, list and detach limits."""

    path = "/attachments"
    tags = ("limits",)

    @get()
    async def page(
        self,
        request: ApiRequest,
        *,
        kind: FromQuery[str | None] = None,
        name: FromQuery[str | None] = None,
        limit_id: FromQuery[str | None] = None,
        limit: FromQuery[int | None] = None,
        cursor: FromQuery[str | None] = None,
    ) -> dict[str, Any]:
        """A page of attachments by kind, name and limit; of one of each if asked."""
        found = await attachments.page(
            request.services.store,
            request.user.application_id,
            kind=None if kind is None else _kind(kind),
            name=name,
            limit_id=limit_id,
            page_size=limit,
            cursor=pages.read_cursor(request, LISTING, cursor),
        )
        items = [_object(request, one) for one in found.items]
        return pages.page(request, LISTING, items, found.cursor)

    @put("/{kind:str}/{name:str}/{limit_id:str}", guards=[admin_only])
    async def attach(
        self,
        request: ApiRequest,
        kind: FromPath[str],
        name: FromPath[str],
        limit_id: FromPath[str],
    ) -> AttachmentObject:
        """Have a limit bind every call of a user, team or customer, or that a credential serves."""
        services, application_id = request.services, request.user.application_id
        its, label = _kind(kind), checked_label(name, "name") or ""
        await check_room(request, its, label, {limit_id})
        one = Attachment(kind=its, name=label, limit_id=limit_id, attached_ms=services.clock())
        if not await attachments.attach(services.store, application_id, one):
            raise not_found(limit_id)
        await services.directory.changed(attached_topic(application_id))
        return _object(request, one)

    @delete("/{kind:str}/{name:str}/{limit_id:str}", status_code=200, guards=[admin_only])
    async def detach(
        self,
        request: ApiRequest,
        kind: FromPath[str],
        name: FromPath[str],
        limit_id: FromPath[str],
    ) -> DefaultResponse:
        """Have a limit no longer bind them."""
        services, application_id = request.services, request.user.application_id
        store = services.store
        if not await attachments.detach(store, application_id, _kind(kind), name, limit_id):
            raise NotFound(
                f"Limit {limit_id!r} is not attached to {kind} {name!r}",
                code="attachment_not_found",
                field="limit_id",
            )
        await services.directory.changed(attached_topic(application_id))
        return DefaultResponse(
            request_id=request.request_id,
            message=f"Limit {limit_id} was detached from {kind} {name}.",
        )


def _kind(kind: str) -> Kind:
    if kind not in KINDS:
        raise InvalidRequest(
            f"kind is {kind!r}; limits are attached to one of {', '.join(KINDS)}. What binds a key "
            "is in its limit_ids: PATCH /keys/{key_id}",
            field="kind",
        )
    return cast(Kind, kind)


async def check_room(request: ApiRequest, kind: Kind, name: str, limit_ids: set[str]) -> None:
    """Raises InvalidRequest if there is no room for these attachments; some may be there."""
    store, application_id = request.services.store, request.user.application_id
    whole, its = await attachments.count(store, application_id, kind, name)
    more = len(limit_ids)
    if its + more > LIMIT_IDS_MAX or whole + more > ATTACHED_MAX:
        found = await attachments.page(
            store, application_id, kind=kind, name=name, page_size=LIMIT_IDS_MAX
        )
        more -= len(limit_ids & {it.limit_id for it in found.items})
    if more and (its + more > LIMIT_IDS_MAX or whole + more > ATTACHED_MAX):
        raise InvalidRequest(
            f"no more than {LIMIT_IDS_MAX} limits are attached to one {kind}, and {ATTACHED_MAX} "
            "in an application; detach one first",
            code="too_many_attachments",
            field="limit_id",
        )


def _object(request: ApiRequest, one: Attachment) -> AttachmentObject:
    return AttachmentObject(
        request_id=request.request_id,
        kind=one.kind,
        name=one.name,
        limit_id=one.limit_id,
        attached_at=moment(one.attached_ms),
    )
