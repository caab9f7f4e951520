"""What the terms of a holder come to: those of his budget in them, and what his limits say."""

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal

import msgspec

from metering.api.caps import Counted
from metering.api.limit_shapes import bounds
from metering.api.server import ApiRequest
from metering.core.limits import Limit, Totals
from metering.core.money import usd
from metering.core.terms import Part, Terms, part_of
from metering.errors import InvalidRequest
from metering.store import profiles


class Budgets(msgspec.Struct, frozen=True, kw_only=True):
    """What a holder's limits say."""

    spend: Decimal | None = None
    """None: nothing counts it."""
    max_budget: Decimal | None = None
    soft_budget: Decimal | None = None
    budget_reset_at: datetime | None = None


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
