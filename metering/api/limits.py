"""`/limits`: what an application may spend, in Pay-i's shapes (`limit_shapes`).

The definition is written to Postgres first, then to the live counters, then the directories are
told. A step that fails is repeated by sending the same request again: each step may run twice.
"""

from decimal import Decimal
from typing import Annotated, Any

from litestar import Controller, delete, get, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from metering.api import pages
from metering.api.limit_shapes import (
    AskedWindow,
    CreateLimit,
    DefaultResponse,
    LimitHistoryResponse,
    LimitResponse,
    Properties,
    UpdateLimit,
    amount,
    differences,
    history_of,
    limit_object,
    parse_limit,
    parse_max,
    parse_on_store_down,
    parse_window,
)
from metering.api.pages import Paging
from metering.api.server import ApiRequest
from metering.api.text import checked_name, checked_properties, time_ms
from metering.core.ids import uuid7
from metering.core.limits import Limit, OnStoreDown, Totals
from metering.directory import attached_topic, key_topic, limit_topic
from metering.errors import Conflict, InvalidRequest, NotAllowed, NotFound
from metering.store import attachments, keys, limits

LISTING = "limits"
CLOCK_SKEW_MS = 300_000
"""How far ahead of our clock a reset date may lie and still mean now."""


class LimitController(Controller):
    """Create, list, read, change, reset and delete limits."""

    path = "/limits"
    tags = ("limits",)

    @post()
    async def create(self, request: ApiRequest, data: JSONBody[CreateLimit]) -> LimitResponse:
        """Create a limit; creating the same one again returns the one there is."""
        services = request.services
        now_ms = services.clock()
        generated = str(uuid7(now_ms, services.random(10)))
        asked = parse_limit(data, request.user.application_id, generated, now_ms)
        stored, new = await limits.create(services.store, asked)
        if not new:
            check_same(asked, stored, chosen=bool(data.limit_id))
        await publish(request, stored)
        message = "Limit was created." if new else "Limit existed already."
        return await answer(request, stored, message)

    @get()
    async def page(
        self,
        request: ApiRequest,
        paging: NamedDependency[Paging],
        limit_name: FromQuery[str | None] = None,
    ) -> dict[str, Any]:
        """A page of limits, newest first; of one name if asked."""
        found = await limits.page(
            request.services.store,
            request.user.application_id,
            limit_name=limit_name or None,
            **paging.of(request, LISTING),
        )
        totals = await totals_of(request, found.items)
        items = [limit_object(one, its) for one, its in zip(found.items, totals, strict=True)]
        return pages.page(request, LISTING, items, found.cursor)

    @get("/{limit_id:str}")
    async def read(self, request: ApiRequest, limit_id: FromPath[str]) -> LimitResponse:
        """One limit with its counters."""
        return await answer(request, await existing(request, limit_id))

    @put("/{limit_id:str}")
    async def update(
        self, request: ApiRequest, limit_id: FromPath[str], data: JSONBody[UpdateLimit]
    ) -> LimitResponse:
        """Change what may be; max may not go below what is spent."""
        limit = await changeable(request, limit_id)
        check_window(limit, data.window)
        maximum = None if data.max is None else await checked_max(request, limit, data.max)
        name = None if data.limit_name is None else checked_name(data.limit_name, "limit_name")
        down = parse_on_store_down(data.on_store_down, limit.mode)
        changed = await change(request, limit, maximum, name, down)
        await publish(request, changed)
        return await answer(request, changed, "Limit was updated.")

    @delete("/{limit_id:str}", status_code=200)
    async def delete(self, request: ApiRequest, limit_id: FromPath[str]) -> DefaultResponse:
        """Delete a limit: it binds nothing more, and calls that name it are refused."""
        await changeable(request, limit_id)
        if not await remove(request, limit_id):
            raise not_found(limit_id)
        return DefaultResponse(request_id=request.request_id, message="Limit was deleted.")

    @post("/{limit_id:str}/reset", status_code=200)
    async def reset(
        self,
        request: ApiRequest,
        limit_id: FromPath[str],
        reset_date: Annotated[str | None, QueryParameter(name="resetDate")] = None,
    ) -> LimitHistoryResponse:
        """Start counting from zero; the answer holds the counters as they were before."""
        limit = await changeable(request, limit_id)
        reset_ms = parse_reset_date(reset_date, request.services.clock())
        totals = await begin_again(request, limit, reset_ms)
        return LimitHistoryResponse(
            request_id=request.request_id,
            message="Limit has been successfully reset.",
            limit_history=history_of(limit, totals, reset_ms),
        )

    @put("/{limit_id:str}/properties")
    async def set_properties(
        self, request: ApiRequest, limit_id: FromPath[str], data: JSONBody[Properties]
    ) -> list[LimitResponse]:
        """Merge properties; null deletes one."""
        services, application_id = request.services, request.user.application_id
        changed = await limits.set_properties(
            services.store,
            application_id,
            limit_id,
            checked_properties(data.properties),
            services.clock(),
        )
        if changed is None:
            raise not_found(limit_id)
        await services.directory.changed(limit_topic(application_id, limit_id))
        return [await answer(request, changed)]


def not_found(limit_id: str) -> NotFound:
    """What is answered for another application's limits, too."""
    return NotFound(f"Limit Id '{limit_id}' not found", code="limit_not_found", field="limit_id")


def check_same(asked: Limit, existing: Limit, *, chosen: bool) -> None:
    """Whether a limit that is there already is the one asked for; else say what differs.

    `chosen`: the caller chose the id, rather than leaving it to us.
    """
    differs = ", ".join(differences(asked, existing))
    if existing.limit_id == asked.limit_id:
        if differs:
            raise InvalidRequest(
                f"Limit Id '{asked.limit_id}' exists with another {differs}; "
                "use another limit_id, or PUT to change max or limit_name",
                code="create_limit_validation_failed",
                field="limit_id",
            )
    elif chosen or differs:
        what = f"another {differs}" if differs else f"limit_id '{existing.limit_id}'"
        raise InvalidRequest(
            f"A limit named '{asked.limit_name}' exists with {what}; use another limit_name",
            code="limit_name_already_exist",
            field="limit_name",
        )


def check_window(limit: Limit, asked: AskedWindow | None) -> None:
    """A limit keeps its window: what it has counted would be of neither the old nor the new one."""
    if asked is not None and parse_window(asked, limit.unit) != limit.window:
        raise InvalidRequest(
            "window of a limit stays as it was created: make another limit",
            code="update_limit_validation_failed",
            field="window",
        )


def parse_reset_date(text: str | None, now_ms: int) -> int:
    """When a reset counts from: now, or the past moment that was given, for the record."""
    if not text:
        return now_ms
    reset_ms = time_ms(text, "resetDate")
    if reset_ms > now_ms + CLOCK_SKEW_MS:
        raise InvalidRequest(
            "resetDate is in the future: a reset is done at once; leave it out",
            field="resetDate",
        )
    return reset_ms


async def existing(request: ApiRequest, limit_id: str) -> Limit:
    """A limit of the application, or NotFound."""
    found = await limits.get(request.services.store, request.user.application_id, limit_id)
    if found is None:
        raise not_found(limit_id)
    return found


async def changeable(request: ApiRequest, limit_id: str) -> Limit:
    """A limit that this key may change: what an admin has attached to anything, this or another key
    above all, binds for good."""
    if not request.user.is_admin:
        store, application_id = request.services.store, request.user.application_id
        if limit_id in request.user.limit_ids:
            raise NotAllowed(f"Limit '{limit_id}' binds this key; an admin key may change it")
        if await attachments.attached(store, application_id, limit_id):
            raise NotAllowed(
                f"Limit '{limit_id}' is attached to a key, user, team, customer or credential; "
                "an admin key may change it"
            )
    return await existing(request, limit_id)


async def totals_of(request: ApiRequest, found: tuple[Limit, ...]) -> list[Totals]:
    """The live counters of limits in the windows that are now, in their order."""
    return await request.services.ledger.present(found)


async def answer(request: ApiRequest, limit: Limit, message: str | None = None) -> LimitResponse:
    """One limit with its counters, as an answer."""
    [totals] = await totals_of(request, (limit,))
    return LimitResponse(
        request_id=request.request_id, limit=limit_object(limit, totals), message=message
    )


async def publish(request: ApiRequest, limit: Limit) -> None:
    """Make a written definition the one in force."""
    await request.services.ledger.define(limit)
    await request.services.directory.changed(limit_topic(limit.application_id, limit.limit_id))


async def begin_again(request: ApiRequest, limit: Limit, reset_ms: int) -> Totals:
    """Have a limit count from zero; the counters as they were. `reset_ms` is for the record."""
    services = request.services
    [present] = await totals_of(request, (limit,))
    latest = present.epoch
    if limit.window is not None and limit.window.part_ms:  # each part is an epoch, by that clock
        latest = await services.ledger.now_ms()
    epoch = max(services.clock(), limit.epoch + 1, latest + 1)
    totals = await services.ledger.reset(limit, epoch)
    await limits.set_epoch(
        services.store,
        limit.application_id,
        limit.limit_id,
        epoch,
        totals=totals,
        reset_ms=reset_ms,
    )
    await services.directory.changed(limit_topic(limit.application_id, limit.limit_id))
    return totals


async def remove(request: ApiRequest, limit_id: str) -> bool:
    """Delete a limit, and tell everybody; False: there is none."""
    services, application_id = request.services, request.user.application_id
    bound: tuple[bytes, ...] = ()  # what binds a key only an admin deletes
    if request.user.is_admin:
        bound = await keys.bound_by(services.store, application_id, limit_id)
    if not await limits.delete(services.store, application_id, limit_id):
        return False
    await services.prices.refresh()  # its own rates have gone with it
    await services.directory.changed(
        "prices",
        *map(key_topic, bound),
        attached_topic(application_id),
        limit_topic(application_id, limit_id),
    )
    await services.ledger.forget(application_id, limit_id)
    return True


async def checked_max(request: ApiRequest, limit: Limit, asked: Decimal) -> int:
    """The new max of a limit, not below what is spent."""
    maximum = parse_max(asked, limit.unit)
    [totals] = await totals_of(request, (limit,))
    if maximum < totals.settled:
        spent = format(amount(totals.settled, limit.unit), "f")
        raise InvalidRequest(
            f"New Limit max value cannot less than the current spent of '{spent}'",
            code="invalid_max_limit_update",
            field="max",
        )
    return maximum


async def change(
    request: ApiRequest,
    limit: Limit,
    maximum: int | None,
    name: str | None,
    on_store_down: OnStoreDown | None,
) -> Limit:
    """Write what is new of a limit; nothing is written when nothing is given."""
    if maximum is None and name is None and on_store_down is None:
        return limit
    services = request.services
    try:
        changed = await limits.update(
            services.store,
            limit.application_id,
            limit.limit_id,
            max=maximum,
            limit_name=name,
            on_store_down=on_store_down,
            updated_ms=services.clock(),
        )
    except Conflict:
        raise InvalidRequest(
            f"A limit named '{name}' exists already; use another limit_name",
            code="limit_name_already_exist",
            field="limit_name",
        ) from None
    if changed is None:
        raise not_found(limit.limit_id)
    return changed
