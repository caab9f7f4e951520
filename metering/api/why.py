"""`/limits/{id}/why`: what proved that a limit had no room, and how it stands now."""

from datetime import datetime
from typing import Any, Literal

import msgspec
from litestar import Controller, get
from litestar.params import FromPath, FromQuery

from metering.api.limit_shapes import amount, budget
from metering.api.limits import existing, totals_of
from metering.api.requests import canonical, not_found
from metering.api.server import ApiRequest
from metering.api.text import moment
from metering.core.limits import Limit, Refusal, Unit
from metering.core.record import UsageRow
from metering.store import requests

MOST = 100
USUAL = 10


class RefusalObject(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A refusal by one limit, amounts in its unit: `settled + held + needed` was `missing` more
    than `max`. `final`: what was settled alone would have refused, so waiting does not help."""

    request_id: str
    at: datetime
    final: bool
    cause: Literal["settled", "live_holds"]
    mode: str
    unit: Unit
    max: Any
    settled: Any
    held: Any
    needed: Any
    missing: Any
    holds: int
    resets_at: datetime | None = None
    model: str | None = None
    key_id: str | None = None
    user_id: str | None = None
    use_case_name: str | None = None
    tags: list[str] = []


class WhyController(Controller):
    """Explain refusals."""

    path = "/limits/{limit_id:str}/why"
    tags = ("limits",)

    @get()
    async def why(
        self,
        request: ApiRequest,
        limit_id: FromPath[str],
        *,
        request_id: FromQuery[str | None] = None,
        limit: FromQuery[int | None] = None,
    ) -> dict[str, Any]:
        """The latest refusals of a limit, newest first, or that of one call, and the limit now."""
        one = await existing(request, limit_id)
        as_of = moment(request.services.clock())
        if request_id is None:
            most = min(MOST, limit) if limit and limit > 0 else USUAL
            rows = await requests.refused(
                request.services.store, one.application_id, limit_id, most
            )
        else:
            rows = [await _refused(request, limit_id, request_id)]
        [totals] = await totals_of(request, (one,))
        return {
            "request_id": request.request_id,
            "as_of": as_of,
            "now": budget(one, totals),
            "items": [
                refusal_object(row, why, one)
                for row in rows
                for why in row.refusals
                if why.limit_id == limit_id
            ],
        }


async def _refused(request: ApiRequest, limit_id: str, request_id: str) -> UsageRow:
    """The row of a call that a limit refused: from the ledger until it has landed."""
    services, application_id = request.services, request.user.application_id
    known = canonical(request_id)
    if known is not None:
        live = await services.ledger.record(application_id, known)
        entry = None if live else await requests.by_request(services.store, application_id, known)
        row = live[0] if live else entry and entry.row
        if row and any(why.limit_id == limit_id for why in row.refusals):
            return row
    raise not_found(request_id)


def refusal_object(row: UsageRow, why: Refusal, limit: Limit) -> RefusalObject:
    """A limit's part in the refusal of a call, as callers see it."""
    resets_at_ms = why.resets_at_ms or limit.resets_ms(why.epoch)
    return RefusalObject(
        request_id=row.request_id,
        at=moment(row.at_ms),
        final=why.final,
        cause="settled" if why.final else "live_holds",
        mode=why.mode,
        unit=why.unit,
        max=amount(why.max, why.unit),
        settled=amount(why.settled, why.unit),
        held=amount(why.held, why.unit),
        needed=amount(why.needed, why.unit),
        missing=amount(why.missing, why.unit),
        holds=why.holds,
        resets_at=None if resets_at_ms is None else moment(resets_at_ms),
        model=row.model_requested,
        key_id=row.key_id,
        user_id=row.user_id,
        use_case_name=row.use_case_name,
        tags=row.tags,
    )
