"""`/requests`: the result of one call, by our id or by the provider's, at once.

The ledger keeps a result from the moment a call is settled; rows keep it for good.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec
from litestar import Controller, get, put, route
from litestar.params import FromPath, JSONBody

from metering.api.limit_shapes import Properties
from metering.api.server import ApiRequest
from metering.api.text import checked_properties
from metering.core.limits import Charge, refusals_reset_at, resets_at
from metering.core.result import result_json
from metering.errors import NotFound, OurFault, StoreAway
from metering.meter import unpriced_units
from metering.store import requests

LANDS_S = 2.0
"""So long a row that is on its way is waited for: some hundredths of a second as a rule."""
PAUSE_S = 0.02


class RequestController(Controller):
    """Read results, set properties."""

    path = "/requests"
    tags = ("requests",)

    @get("/{request_id:str}/result")
    async def result(self, request: ApiRequest, request_id: FromPath[str]) -> dict[str, Any]:
        """The `xproxy_result` of a call, by our request id."""
        found = await result_of(request, request_id)
        if found is None:
            raise not_found(request_id)
        return {"xproxy_result": found}

    @get("/provider/{category:str}/{provider_id:str}/result")
    async def provider_result(
        self, request: ApiRequest, category: FromPath[str], provider_id: FromPath[str]
    ) -> dict[str, Any]:
        """The `xproxy_result` of a call, by the id in the provider's answer."""
        request_id = await request_id_of(request, category, provider_id)
        found = None if request_id is None else await result_of(request, request_id)
        if found is None:
            raise not_found(f"{category}/{provider_id}")
        return {"xproxy_result": found}

    @get("/result/{category:str}/{provider_id:str}")
    async def either_result(
        self, request: ApiRequest, category: FromPath[str], provider_id: FromPath[str]
    ) -> dict[str, Any]:
        """The same for older SDKs, which call it a request id: the provider's, or else ours."""
        request_id = await request_id_of(request, category, provider_id)
        found = await result_of(request, request_id or provider_id)
        if found is None:
            raise not_found(f"{category}/{provider_id}")
        return {"xproxy_result": found}

    @route("/{request_id:str}/properties", http_method=["PUT", "POST"], status_code=200)
    async def set_properties(
        self, request: ApiRequest, request_id: FromPath[str], data: JSONBody[Properties]
    ) -> dict[str, str]:
        """Merge properties into a call's; null deletes one. The first SDKs sent a POST."""
        return await merge(request, request_id, request_id, data)

    @put("/provider/{category:str}/{provider_id:str}/properties")
    async def set_provider_properties(
        self,
        request: ApiRequest,
        category: FromPath[str],
        provider_id: FromPath[str],
        data: JSONBody[Properties],
    ) -> dict[str, str]:
        """Merge properties into a call's, found by the id in the provider's answer."""
        request_id = await request_id_of(request, category, provider_id)
        return await merge(request, request_id or "", f"{category}/{provider_id}", data)


def not_found(what: str) -> NotFound:
    """What is answered for another application's calls, too."""
    return NotFound(f"Request '{what}' not found", code="request_not_found")


def canonical(request_id: str) -> str | None:
    """The canonical text of a request id; None for what is none."""
    try:
        return str(UUID(request_id))
    except ValueError:
        return None


async def request_id_of(request: ApiRequest, category: str, provider_id: str) -> str | None:
    """Our id of a call, by the id in the provider's answer."""
    services, name = request.services, (category, provider_id)
    application_id = request.user.application_id
    found = await services.ledger.request_ids_of(services.store, application_id, [name])
    return found.get(name)


async def result_of(
    request: ApiRequest, request_id: str, *, duplicate: bool = False
) -> msgspec.Raw | None:
    """The result of a call, as JSON: from the ledger while it is live, else from its rows.
    `duplicate`: for whoever has reported it once more."""
    services, application_id = request.services, request.user.application_id
    known = canonical(request_id)
    if known is None:
        return None
    found = await services.ledger.record(application_id, known)
    if found is None:
        entry = await requests.by_request(services.store, application_id, known)
        if entry is None:
            return None
        found = entry.row, entry.charges
    row, charges = found
    return msgspec.Raw(
        result_json(
            row,
            {it.limit_id: it.state for it in charges},
            blocked_limit_ids=[it.limit_id for it in charges if it.state == "blocked"],
            unpriced=unpriced_units(row),
            duplicate=duplicate,
            resets_at=await _resets_at(request, charges) | refusals_reset_at(row.refusals),
        )
    )


async def _resets_at(request: ApiRequest, charges: Sequence[Charge]) -> dict[str, str]:
    """When the windows end, or ended, that a call was charged in, of limits that are still there.

    A result is not kept waiting for a store that is away: then it is without.
    """
    if not charges:
        return {}
    limit_ids, application_id = [it.limit_id for it in charges], request.user.application_id
    try:
        found = await request.services.directory.limits(application_id, limit_ids)
    except StoreAway:
        return {}
    return resets_at(
        (limit, charge.epoch)
        for limit, charge in zip(found, charges, strict=True)
        if limit is not None and charge.epoch >= limit.created_ms
    )


async def merge(
    request: ApiRequest, request_id: str, named: str, data: Properties
) -> dict[str, str]:
    """Merge properties; waits a moment for the row of a call that has just ended."""
    services, application_id = request.services, request.user.application_id
    known = canonical(request_id)
    if known is None:
        raise not_found(named)
    properties = checked_properties(data.properties)
    ends_s = time.monotonic() + LANDS_S
    while not await requests.set_properties(services.store, application_id, known, properties):
        if await services.ledger.record(application_id, known) is None:
            # it may have landed between the two questions
            if await requests.set_properties(services.store, application_id, known, properties):
                break
            raise not_found(named)
        if time.monotonic() < ends_s:
            await asyncio.sleep(PAUSE_S)
            continue
        raise OurFault(
            "This call is not recorded yet; try again in a second",
            code="not_recorded_yet",
            retry_after_s=1,
            should_retry=True,
        )
    return {"request_id": known}
