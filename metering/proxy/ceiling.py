"""Before a hard cap holds a call: what bounds its cost, and what becomes of it if nothing does."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import msgspec

from metering.core.limits import Limit
from metering.core.reach import Reach
from metering.errors import NotAllowed
from metering.meter import Meter
from metering.providers.base import Endpoint
from metering.proxy.call import Call
from metering.tokens import THREAD_FROM_BYTES

PERMISSION = "unbounded"
"""What a key needs to make calls under a hard cap that nothing bounds: named on it, an admin's too,
since who caps hard and who may everything are often the same."""
DEPLOYMENT = "the answer alone says what a deployment is: name it with xProxy-PriceAs-Resource"


def capping(endpoint: Endpoint, limits: Iterable[Limit]) -> Limit | None:
    """The first limit that must know a call's ceiling: a hard cap on money or tokens."""
    if endpoint.kind != "metered":
        return None
    return next((it for it in limits if it.mode == "hard" and it.unit in ("usd", "tokens")), None)


async def bounded(call: Call, meter: Meter) -> Call:
    """The call with what it may come to beyond its bytes, if it is under a hard cap.

    One that nothing bounds is refused, or says so on its row if the key may make such calls: what
    it costs more than is held is then overrun.
    """
    cap = capping(call.endpoint, call.limits)
    if cap is None:
        return call
    ask = msgspec.structs.replace(call.ask, reach=await _reach(call))
    reason = meter.unbounded(call.row, ask, call.priced)
    if reason is None:
        return msgspec.structs.replace(call, ask=ask)
    if PERMISSION not in call.caller.permissions:
        raise NotAllowed(
            f"limit {cap.limit_id!r} is a hard cap, and nothing bounds what this call may cost: "
            f"{reason}; or call with a key that has the permission `{PERMISSION}`",
            code="unbounded_cost",
            field=ask.reach.field or None,
        )
    warning = f"nothing bounded the cost of this call under the hard cap {cap.limit_id}: {reason}"
    row = msgspec.structs.replace(call.row, warnings=[*call.row.warnings, warning])
    return msgspec.structs.replace(call, ask=ask, row=row)


async def _reach(call: Call) -> Reach:
    """What the request may come to; that of a large body is read off the event loop."""
    ask, resource = call.ask, call.row.price_as_resource
    if call.dialect.deployed and resource is not None:  # what its name says is nothing
        ask = msgspec.structs.replace(ask, model=resource)
    asked = (call.endpoint, call.body, ask)
    if len(call.body) < THREAD_FROM_BYTES:
        reach = call.dialect.reach(*asked)
    else:
        reach = await asyncio.to_thread(call.dialect.reach, *asked)
    if call.dialect.deployed and resource is None and not reach.unbounded:
        return msgspec.structs.replace(reach, unbounded=DEPLOYMENT, field="xProxy-PriceAs-Resource")
    return reach
