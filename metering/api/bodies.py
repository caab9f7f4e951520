"""`/requests/.../bodies`: what was said in a call that was reported, while it is kept."""

from datetime import datetime

import msgspec
from litestar import Controller, get
from litestar.params import FromPath

from metering.api.auth import callers_only
from metering.api.requests import canonical, not_found, request_id_of
from metering.api.server import ApiRequest
from metering.api.text import moment
from metering.core.bodies import Bodies
from metering.errors import NotFound
from metering.store import requests


class BodiesObject(Bodies, kw_only=True, frozen=True, omit_defaults=True):
    """What went to a provider and what came back, as it was reported."""

    request_id: str
    kept_until: datetime


class BodyController(Controller):
    """Read what was said in calls."""

    path = "/requests"
    tags = ("requests",)
    guards = (callers_only,)

    @get("/{request_id:str}/bodies")
    async def bodies(self, request: ApiRequest, request_id: FromPath[str]) -> BodiesObject:
        """What was said in a reported call, by our request id."""
        return await _bodies(request, request_id, request_id)

    @get("/provider/{category:str}/{provider_id:str}/bodies")
    async def provider_bodies(
        self, request: ApiRequest, category: FromPath[str], provider_id: FromPath[str]
    ) -> BodiesObject:
        """What was said in a reported call, by the id in the provider's answer."""
        request_id = await request_id_of(request, category, provider_id)
        return await _bodies(request, request_id or "", f"{category}/{provider_id}")


async def _bodies(request: ApiRequest, request_id: str, named: str) -> BodiesObject:
    services, application_id = request.services, request.user.application_id
    known = canonical(request_id)
    if known is None:
        raise not_found(named)
    archive, now_ms = services.archive, services.clock()
    found = await archive.read(services.store, application_id, known, now_ms)
    until_ms = archive.until_ms(known)
    if found is not None:
        until = moment(until_ms)
        return BodiesObject(**msgspec.structs.asdict(found), request_id=known, kept_until=until)
    if not await _is_known(request, known):
        raise not_found(named)
    days = services.settings.bodies_days
    if until_ms <= now_ms:
        raise NotFound(
            f"Bodies of request '{named}' are not kept any more: they are for {days} days"
            if archive.takes
            else "Bodies are not kept by this service: XPROXY_BODIES_DAYS is 0",
            code="bodies_expired",
        )
    raise NotFound(
        f"Request '{named}' has no bodies: it was reported without any, or with "
        "xProxy-Logging-Disable, or it was proxied, and those of proxied calls are not kept",
        code="bodies_not_found",
    )


async def _is_known(request: ApiRequest, request_id: str) -> bool:
    services, application_id = request.services, request.user.application_id
    if await services.ledger.record(application_id, request_id) is not None:
        return True
    return await requests.by_request(services.store, application_id, request_id) is not None
