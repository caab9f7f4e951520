"""`/categories`: what has a price. The catalogue's are read only, an application has its own.

An application's own are categories of resources, versioned: making one again adds a version.
"""

import asyncio
from collections.abc import Sequence
from itertools import groupby
from typing import Annotated, Any

import msgspec
from litestar import Controller, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody, QueryParameter

from metering.api import pages
from metering.api.pages import Paging
from metering.api.resource_shapes import (
    CategoryResponse,
    CreateResource,
    ResourceResponse,
    own_versions,
    parse_resource,
    present,
    system_categories,
    system_is_read_only,
    system_names,
    system_versions,
)
from metering.api.server import ApiRequest
from metering.core.ids import uuid7
from metering.core.resources import Resource, is_system
from metering.errors import InvalidRequest, NotAllowed, NotFound
from metering.store import pages as places
from metering.store import resources

RESOURCES_MAX = 10_000
"""So many versions an application may have: every worker holds them ready."""
Active = Annotated[bool | None, QueryParameter(name="Active")]


class CategoryController(Controller):
    """List categories and resources, add and delete an application's own."""

    path = "/categories"
    tags = ("categories",)

    @get()
    async def page(
        self,
        request: ApiRequest,
        paging: NamedDependency[Paging],
        active: Active = None,
    ) -> dict[str, Any]:
        """A page of categories by name; of those alone that have, or lack, a resource that is
        active."""
        found = dict.fromkeys(system_categories(request.services.prices.now), True)
        for versions in await _own(request):
            name, is_active = versions[0].category, any(it.active for it in versions)
            found[name] = found.get(name, False) or is_active
        names = [name for name, is_active in found.items() if active in (None, is_active)]
        items = [CategoryResponse(category=it) for it in sorted(names)]
        return _page(request, "categories", paging, items, [it.category for it in items])

    @delete("/{category_name:str}", status_code=200)
    async def delete_category(
        self, request: ApiRequest, category_name: FromPath[str]
    ) -> list[ResourceResponse]:
        """Delete a category of the application's own with all its resources, which it gives."""
        return await _delete(request, category_name)

    @get("/{category_name:str}/resources")
    async def resources(
        self,
        request: ApiRequest,
        category_name: FromPath[str],
        paging: NamedDependency[Paging],
        active: Active = None,
    ) -> dict[str, Any]:
        """A page of a category's resources by name, each as it is now."""
        listing = f"resources of {category_name}"
        if is_system(category_name):
            prices, now_ms = request.services.prices.now, request.services.clock()
            # in a thread: a model's prices are made ready when they are first asked for
            names = await asyncio.to_thread(system_names, prices, category_name)
            if not names:
                raise no_category(category_name)
            if active is False:
                names = []
            page = _page(request, listing, paging, names, names)
            page["items"] = [
                present(system_versions(prices, category_name, it, now_ms)) for it in page["items"]
            ]
            return page
        found = [present(it) for it in await _own(request, category_name)]
        if not found:
            raise no_category(category_name)
        found = [it for it in found if active in (None, it.active)]
        return _page(request, listing, paging, found, [it.resource for it in found])

    @get("/{category_name:str}/resources/{resource:str}")
    async def versions(
        self,
        request: ApiRequest,
        category_name: FromPath[str],
        resource: FromPath[str],
        paging: NamedDependency[Paging],
        active: Active = None,
    ) -> dict[str, Any]:
        """A page of a resource's versions, the latest first."""
        found = await _versions(request, category_name, resource)
        found = [it for it in found if active in (None, it.active)]
        listing = f"versions of {category_name} {resource}"
        order = [f"{it.start_timestamp.isoformat()} {at:08}" for at, it in enumerate(found)]
        return _page(request, listing, paging, found, order, ascending=False)

    @post("/{category_name:str}/resources/{resource:str}")
    async def create(
        self,
        request: ApiRequest,
        category_name: FromPath[str],
        resource: FromPath[str],
        data: JSONBody[CreateResource],
    ) -> ResourceResponse:
        """Add a version of a resource of the application's own: what one of each type of unit
        costs, from now on or from `start_timestamp`."""
        services, now_ms = request.services, request.services.clock()
        asked = Resource(
            application_id=request.user.application_id,
            resource_id=str(uuid7(now_ms, services.random(10))),
            category=category_name,
            resource=resource,
            units={},
            starts_ms=now_ms,
            created_by=request.user.key_id or "operator",
            proxy_allowed=request.user.is_admin,
        )
        asked = parse_resource(data, asked, now_ms)
        _changeable(request, await _own(request, category_name, resource))
        if await resources.count(services.store, asked.application_id) >= RESOURCES_MAX:
            raise InvalidRequest(
                f"an application has at most {RESOURCES_MAX} versions of resources; delete some",
                code="too_many_resources",
                field="resource",
            )
        made = await resources.create(services.store, asked)
        await _told(request)
        found = await _versions(request, category_name, resource)
        return next(it for it in found if it.resource_id == made.resource_id)

    @delete("/{category_name:str}/resources/{resource:str}", status_code=200)
    async def delete_resource(
        self, request: ApiRequest, category_name: FromPath[str], resource: FromPath[str]
    ) -> list[ResourceResponse]:
        """Delete all versions of a resource, which it gives."""
        return await _delete(request, category_name, resource)

    @get("/{category_name:str}/resources/{resource:str}/{resource_id:str}")
    async def read(
        self,
        request: ApiRequest,
        category_name: FromPath[str],
        resource: FromPath[str],
        resource_id: FromPath[str],
    ) -> ResourceResponse:
        """One version: what a result's `resource_id` says."""
        plain = resource_id.partition("+")[0] if is_system(category_name) else resource_id
        for it in await _versions(request, category_name, resource):
            if it.resource_id == plain:
                return it
        raise no_resource(category_name, resource, resource_id)

    @delete("/{category_name:str}/resources/{resource:str}/{resource_id:str}", status_code=200)
    async def delete_version(
        self,
        request: ApiRequest,
        category_name: FromPath[str],
        resource: FromPath[str],
        resource_id: FromPath[str],
    ) -> ResourceResponse:
        """Delete one version: the one before it holds on."""
        [gone] = await _delete(request, category_name, resource, resource_id)
        return gone


def no_category(category: str) -> NotFound:
    """What is answered for another application's, too."""
    return NotFound(f"Category '{category}' not found", code="category_not_found", field="category")


def no_resource(category: str, resource: str, resource_id: str | None = None) -> NotFound:
    """The same of a resource, or of one version of it."""
    version = "" if resource_id is None else f" in the version '{resource_id}'"
    return NotFound(
        f"Category '{category}' and resource '{resource}'{version} not found",
        code="category_resource_not_found",
        field="resource",
    )


async def _own(
    request: ApiRequest, category: str | None = None, resource: str | None = None
) -> list[list[ResourceResponse]]:
    """The application's own resources, by name, each in all its versions, oldest first."""
    services, now_ms = request.services, request.services.clock()
    application_id = request.user.application_id
    found = await resources.versions(services.store, application_id, category, resource)
    by_name = groupby(found, key=lambda it: (it.category, it.resource))
    return [own_versions([*its], now_ms) for _, its in by_name]


async def _versions(request: ApiRequest, category: str, resource: str) -> list[ResourceResponse]:
    if is_system(category):
        prices, now_ms = request.services.prices.now, request.services.clock()
        found = system_versions(prices, category, resource, now_ms)
    else:
        found = [it for its in await _own(request, category, resource) for it in its]
    if not found:
        raise no_resource(category, resource)
    return found


async def _delete(
    request: ApiRequest,
    category: str,
    resource: str | None = None,
    resource_id: str | None = None,
) -> list[ResourceResponse]:
    if is_system(category):
        raise system_is_read_only(category)
    before = await _own(request, category, resource)
    _changeable(request, before)
    gone = await resources.delete(
        request.services.store, request.user.application_id, category, resource, resource_id
    )
    if not gone:
        if resource is None:
            raise no_category(category)
        raise no_resource(category, resource, resource_id)
    await _told(request)
    ids = {it.resource_id for it in gone}
    return [
        msgspec.structs.replace(it, active=False)
        for its in before
        for it in its
        if it.resource_id in ids
    ]


def _changeable(request: ApiRequest, found: Sequence[Sequence[ResourceResponse]]) -> None:
    """What an administrator has priced for an application, it does not change itself."""
    theirs = next((it for its in found for it in its if it.proxy_allowed), None)
    if theirs is not None and not request.user.is_admin:
        raise NotAllowed(
            f"The price of resource '{theirs.resource}' in category '{theirs.category}' was set by "
            "an administrator: only one changes it",
            field="resource",
        )


async def _told(request: ApiRequest) -> None:
    """Have every worker price by what is there now, this one at once."""
    await request.services.prices.refresh()
    await request.services.directory.changed("prices")


def _page(
    request: ApiRequest,
    listing: str,
    paging: Paging,
    items: Sequence[Any],
    order: Sequence[str],
    *,
    ascending: bool = True,
) -> dict[str, Any]:
    """A page of a whole listing; `order` has the text that each is sorted by, ascending, and
    `ascending` says which way it goes unless asked."""
    upwards = ascending if paging.ascending is None else paging.ascending
    [place] = places.read_cursor(pages.read_cursor(request, listing, paging.cursor), str)
    pairs = list(zip(order, items, strict=True))
    if not upwards:
        pairs.reverse()
    if place is not None:
        after = str(place)
        pairs = [it for it in pairs if (it[0] > after if upwards else it[0] < after)]
    size = places.size(paging.limit)
    page = places.cut(pairs[: size + 1], size, lambda last: (last[0],))
    return pages.page(request, listing, [it for _, it in page.items], page.cursor)
