"""Limits as terms have them: made, brought up to date, taken away; and what they have counted."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal

import msgspec
from msgspec.structs import replace

from metering.api.limit_shapes import bounds
from metering.api.limits import begin_again, publish, remove, totals_of
from metering.api.server import ApiRequest
from metering.core.limits import Limit, Totals
from metering.core.money import usd
from metering.core.terms import Cap, Part, Terms, part_of
from metering.errors import Conflict, InvalidRequest
from metering.store import limits, profiles

Counted = dict[str, tuple[Limit, Totals]]
"""By limit id, a limit and its live counters."""


class Budgets(msgspec.Struct, frozen=True, kw_only=True):
    """What a holder's limits say."""

    spend: Decimal | None = None
    """None: nothing counts it."""
    max_budget: Decimal | None = None
    soft_budget: Decimal | None = None
    budget_reset_at: datetime | None = None


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
        max=cap.max,
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
    if replace(asked, max=0) != replace(
        stored, max=0, epoch=now_ms, created_ms=now_ms, updated_ms=now_ms, properties={}
    ):  # somebody made it otherwise; a limit keeps its window
        await remove(request, cap.limit_id)
        return await _written(request, cap)
    if stored.max == cap.max:
        return stored
    changed = await limits.update(
        services.store, stored.application_id, cap.limit_id, max=cap.max, updated_ms=now_ms
    )
    return changed or await _written(request, cap)  # or it was deleted just now


async def counted(request: ApiRequest, limit_ids: Iterable[str]) -> Counted:
    """Limits and their live counters, those that exist."""
    found = await limits.get_many(
        request.services.store, request.user.application_id, list(limit_ids)
    )
    totals = await totals_of(request, tuple(found.values())) if found else []
    return {
        limit_id: (limit, its) for (limit_id, limit), its in zip(found.items(), totals, strict=True)
    }


def budgets(holder: str, limit_ids: Iterable[str], found: Counted) -> Budgets:
    """What the limits of a holder say, whose ids begin so."""
    parts: dict[Part, list[tuple[Limit, Totals]]] = {}
    for limit_id in limit_ids:
        part = part_of(limit_id, holder)
        if part is not None and limit_id in found:
            parts.setdefault(part, []).append(found[limit_id])
    main = next(iter(parts.get("budget", ())), None)
    counting = main or next(iter(parts.get("spend", ())), None)
    soft = next(iter(parts.get("soft", ())), None)
    return Budgets(
        spend=None if counting is None else usd(counting[1].settled),
        max_budget=None if main is None else usd(main[0].max),
        soft_budget=None if soft is None else usd(soft[0].max),
        budget_reset_at=None if counting is None else bounds(*counting)[1],
    )


async def effective(request: ApiRequest, terms: Terms) -> Terms:
    """Terms, and those of the budget that they name. Raises InvalidRequest if there is none."""
    if terms.budget_id is None:
        return terms
    store, application_id = request.services.store, request.user.application_id
    budget = await profiles.get(store, application_id, "budget", terms.budget_id)
    if budget is None:
        raise InvalidRequest(
            f"budget_id={terms.budget_id!r} not found; create it with POST /budget/new",
            field="budget_id",
        )
    return terms.over(budget.terms)


async def reset(request: ApiRequest, limit_ids: Iterable[str]) -> None:
    """Have limits count from zero."""
    found = await limits.get_many(
        request.services.store, request.user.application_id, list(limit_ids)
    )
    for limit in found.values():
        await begin_again(request, limit, request.services.clock())
