"""`/applications`: the tenants. Only an admin key comes here."""

from datetime import datetime
from typing import Any

import msgspec
from litestar import Controller, delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from metering.api import pages
from metering.api.auth import admin_only
from metering.api.limit_shapes import DefaultResponse
from metering.api.pages import Paging
from metering.api.server import ApiRequest
from metering.api.services import Services
from metering.api.text import checked_name, moment
from metering.core.ids import uuid7
from metering.errors import Conflict, NotFound
from metering.store import applications, limits
from metering.store.applications import Application

LISTING = "applications"


class CreateApplication(msgspec.Struct, kw_only=True):
    """The body of a new application."""

    name: str


class UpdateApplication(msgspec.Struct, kw_only=True):
    """The body of a change: what it does not name stays."""

    name: str | None = None
    idempotency: bool | None = None


class ApplicationObject(msgspec.Struct, kw_only=True):
    """An application."""

    request_id: str
    application_id: str
    name: str
    idempotency: bool
    """Whether calls with an `Idempotency-Key` are made once."""
    created_at: datetime


def application_object(request: ApiRequest, application: Application) -> ApplicationObject:
    """An application as callers see it."""
    return ApplicationObject(
        request_id=request.request_id,
        application_id=application.application_id,
        name=application.name,
        idempotency=application.idempotency,
        created_at=moment(application.created_ms),
    )


class ApplicationController(Controller):
    """Create, list, read and delete applications."""

    path = "/applications"
    tags = ("applications",)
    guards = (admin_only,)

    @post()
    async def create(
        self, request: ApiRequest, data: JSONBody[CreateApplication]
    ) -> ApplicationObject:
        """Create an application; its name is unique."""
        services = request.services
        now_ms = services.clock()
        application_id = str(uuid7(now_ms, services.random(10)))
        name = checked_name(data.name, "name")
        created = await applications.create(services.store, application_id, name, now_ms)
        return application_object(request, created)

    @get()
    async def page(self, request: ApiRequest, paging: NamedDependency[Paging]) -> dict[str, Any]:
        """A page of applications, newest first."""
        found = await applications.page(
            request.services.store,
            **paging.of(request, LISTING),
        )
        items = [application_object(request, application) for application in found.items]
        return pages.page(request, LISTING, items, found.cursor)

    @get("/{application_id:str}")
    async def read(self, request: ApiRequest, application_id: FromPath[str]) -> ApplicationObject:
        """One application."""
        found = await applications.get(request.services.store, application_id)
        if found is None:
            raise _not_found(application_id)
        return application_object(request, found)

    @patch("/{application_id:str}")
    async def update(
        self,
        request: ApiRequest,
        application_id: FromPath[str],
        data: JSONBody[UpdateApplication],
    ) -> ApplicationObject:
        """Change an application's name, or whether repeated calls are made once."""
        services = request.services
        name = None if data.name is None else checked_name(data.name, "name")
        changed = await applications.update(
            services.store, application_id, name=name, idempotency=data.idempotency
        )
        if changed is None:
            raise _not_found(application_id)
        await services.directory.changed("*")
        return application_object(request, changed)

    @delete("/{application_id:str}", status_code=200)
    async def delete(self, request: ApiRequest, application_id: FromPath[str]) -> DefaultResponse:
        """Delete an application with its keys and limits; its usage stays on record."""
        services = request.services
        if application_id == request.auth.application_id:
            raise Conflict("This is the application your key acts for; it cannot be deleted")
        limit_ids = await _limit_ids(services, application_id)
        if not await applications.delete(services.store, application_id):
            raise _not_found(application_id)
        await services.directory.changed("*")
        for limit_id in limit_ids:
            await services.ledger.forget(application_id, limit_id)
        return DefaultResponse(
            request_id=request.request_id, message=f"Application {application_id} was deleted."
        )


async def _limit_ids(services: Services, application_id: str) -> list[str]:
    if await applications.get(services.store, application_id) is None:
        return []
    found: list[str] = []
    cursor: str | None = None
    while True:
        page = await limits.page(services.store, application_id, page_size=1000, cursor=cursor)
        found += (limit.limit_id for limit in page.items)
        cursor = page.cursor
        if cursor is None:
            return found


def _not_found(application_id: str) -> NotFound:
    return NotFound(f"Application {application_id!r} not found", code="application_not_found")
