"""Limits that belong to a key, a team or a credential: made, brought up to date, taken away; and
what they have counted."""

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from metering.api.limits import begin_again, publish, remove, totals_of
from metering.api.server import ApiRequest
from metering.core.limits import Limit, Totals
from metering.core.terms import Cap
from metering.errors import Conflict
from metering.store import limits

Counted = dict[str, tuple[Limit, Totals]]
"""By limit id, a limit and its live counters."""


async def put(request: ApiRequest, caps: Sequence[Cap]) -> tuple[str, ...]:
    """Have each limit be as it should; their ids. It may be done again after a fault."""
    for cap in caps:
        await publish(request, await _written(request, cap))
    return tuple(cap.limit_id for cap in caps)


async def drop(request: ApiRequest, limit_ids: Iterable[str]) -> None:
    """Delete limits; they bind nothing more."""
    for limit_id in limit_ids:
        await remove(request, limit_id)


async def _written(request: ApiRequest, cap: Cap) -> Limit:
    services, now_ms = request.services, request.services.clock()
    asked = Limit(
        application_id=request.user.application_id,
        limit_id=cap.limit_id,
        limit_name=cap.limit_id,
        mode=cap.mode,
        unit=cap.unit,
        max=cap.max,
        threshold_ppm=cap.threshold_ppm,
        epoch=now_ms,
        created_ms=now_ms,
        updated_ms=now_ms,
        window=cap.window,
    )
    stored, new = await limits.create(services.store, asked)
    if stored.limit_id != cap.limit_id:
        raise Conflict(f"limit {stored.limit_id!r} has the name {cap.limit_id!r}: rename it first")
    if new:
        return stored
    if _lasting(asked) != _lasting(stored):  # somebody made it otherwise; a limit keeps its window
        await remove(request, cap.limit_id)
        return await _written(request, cap)
    if _changing(asked) == _changing(stored):
        return stored
    changed = await limits.update(
        services.store,
        stored.application_id,
        cap.limit_id,
        max=cap.max,
        mode=cap.mode,
        threshold_ppm=cap.threshold_ppm or 0,
        updated_ms=now_ms,
    )
    return changed or await _written(request, cap)  # or it was deleted just now


def _lasting(limit: Limit) -> Limit:
    """What of a limit cannot change while it keeps what it has counted."""
    return replace(
        limit,
        mode="allow",
        max=0,
        threshold_ppm=None,
        epoch=0,
        created_ms=0,
        updated_ms=0,
        properties={},
    )


def _changing(limit: Limit) -> tuple[object, ...]:
    """What of a limit can."""
    return limit.mode, limit.max, limit.threshold_ppm


async def counted(request: ApiRequest, limit_ids: Iterable[str]) -> Counted:
    """Limits and their live counters, those that exist."""
    found = await limits.get_many(
        request.services.store, request.user.application_id, list(limit_ids)
    )
    totals = await totals_of(request, tuple(found.values())) if found else []
    return {
        limit_id: (limit, its) for (limit_id, limit), its in zip(found.items(), totals, strict=True)
    }


async def reset(request: ApiRequest, limit_ids: Iterable[str]) -> None:
    """Have limits count from zero."""
    found = await limits.get_many(
        request.services.store, request.user.application_id, list(limit_ids)
    )
    for limit in found.values():
        await begin_again(request, limit, request.services.clock())
