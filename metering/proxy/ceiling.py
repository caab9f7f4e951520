"""Before a hard cap holds a call: what bounds its cost, and what becomes of it if nothing does."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import msgspec

from metering.core.limits import Limit
from metering.core.record import UsageRow
from metering.directory import Caller
from metering.errors import NotAllowed
from metering.meter import Meter, Priced
from metering.providers.base import Ask, Dialect, Endpoint
from metering.tokens import THREAD_FROM_BYTES

PERMISSION = "unbounded"
"""What a key needs to make calls under a hard cap that nothing bounds."""
DEPLOYMENT = "the answer alone says what a deployment is: name it with xProxy-PriceAs-Resource"


def capping(endpoint: Endpoint, limits: Iterable[Limit]) -> Limit | None:
    """The first limit that must know a call's ceiling: a hard cap on money or tokens."""
    if endpoint.kind != "metered":
        return None
    return next((it for it in limits if it.mode == "hard" and it.unit in ("usd", "tokens")), None)


async def with_reach(
    dialect: Dialect, endpoint: Endpoint, ask: Ask, body: bytes, row: UsageRow
) -> Ask:
    """What is asked for, with what it may come to beyond its bytes; a large body's is read off
    the event loop."""
    if len(body) < THREAD_FROM_BYTES:
        reach = dialect.reach(endpoint, body, ask)
    else:
        reach = await asyncio.to_thread(dialect.reach, endpoint, body, ask)
    if dialect.deployed and row.price_as_resource is None and not reach.unbounded:
        reach = msgspec.structs.replace(
            reach, unbounded=DEPLOYMENT, field="xProxy-PriceAs-Resource"
        )
    return msgspec.structs.replace(ask, reach=reach)


def admitted(
    row: UsageRow, ask: Ask, priced: Priced, *, meter: Meter, caller: Caller, cap: Limit
) -> UsageRow:
    """The row of a call under a hard cap; one that nothing bounds is refused, or says so on its
    row if the key may make such calls. What it costs more than is held is then overrun."""
    reason = meter.unbounded(row, ask, priced)
    if reason is None:
        return row
    if not caller.may(PERMISSION):
        raise NotAllowed(
            f"limit {cap.limit_id!r} is a hard cap, and nothing bounds what this call may cost: "
            f"{reason}; or call with a key that has the permission `{PERMISSION}`",
            code="unbounded_cost",
            field=ask.reach.field or None,
        )
    warning = f"nothing bounded the cost of this call under the hard cap {cap.limit_id}: {reason}"
    return msgspec.structs.replace(row, warnings=[*row.warnings, warning])
