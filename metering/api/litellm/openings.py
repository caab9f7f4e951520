"""What was spent elsewhere before: limits begin with it.

An opening is a row of the ledger like any other, charged by the script that charges calls: so that
audits, rebuilt counters and history have it. It costs nothing itself, and charges limits, as one
with rates of their own is charged: what was spent is one sum, and a key's, a team's and a user's
limits each have their share of it. Its id is made of whose it is and since when his limits are: it
is charged once, however often it is asked for.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal

from metering.api.litellm.import_shapes import spent_pico
from metering.api.server import ApiRequest
from metering.core.ids import uuid7_text
from metering.core.keys import digest
from metering.core.limits import Bounds, Limit
from metering.core.record import UsageRow
from metering.core.terms import Terms, part_of, window_id
from metering.ledger import Hold
from metering.store import books, limits

SURFACE = "import"
"""Of rows that are no calls of ours."""


def shares(
    holder: str,
    limit_ids: Sequence[str],
    terms: Terms,
    spend: Mapping[str, int],
    since_ms: int,
) -> dict[str, int]:
    """By limit, what it begins with, in pico-USD: `spend` has '' and windows by their duration;
    `holder` is what the ids of limits begin with."""
    by_window = {
        window_id(holder, it, since_ms): spend.get(it.budget_duration, 0)
        for it in terms.budget_limits or ()
    }
    found = {}
    for limit_id in limit_ids:
        part = part_of(limit_id, holder)
        if part is not None:
            found[limit_id] = by_window.get(limit_id, 0) if part == "window" else spend[""]
    return {limit_id: pico for limit_id, pico in found.items() if pico}


async def book(
    request: ApiRequest, holder: str, wanted: Mapping[str, int], key_id: str | None = None
) -> None:
    """Have limits begin with what was spent, once."""
    services, application_id = request.services, request.user.application_id
    found = await limits.get_many(services.store, application_id, list(wanted))
    if not found:
        return
    opened_ms = min(it.created_ms for it in found.values())
    named = digest(services.pepper, f"opening\0{application_id}\0{holder}")
    request_id = uuid7_text(opened_ms, named)
    if await services.ledger.record(application_id, request_id) is not None:
        return
    if await books.landed_among(services.store, application_id, [(request_id, 1)]):
        return
    row = UsageRow(
        application_id=application_id,
        request_id=request_id,
        at_ms=await services.ledger.now_ms(),  # by whose clock windows begin
        key_id=key_id,
        surface=SURFACE,
        pricing="free",
        limit_costs={limit_id: (wanted[limit_id], 0) for limit_id in found},
        properties={"opening": holder},
    )
    await services.ledger.settle(_hold(row, tuple(found.values())), row, 0)


def _hold(row: UsageRow, which: tuple[Limit, ...]) -> Hold:
    """Nothing was held: it counts in the windows that are now, whatever there is room for."""
    pairs = [(it.limit_id, it.epoch_at(row.at_ms) if it.window else 0) for it in which]
    return Hold(row, pairs, which, Bounds(), spooled=True)


def spent(spend: Decimal, window_spend: Mapping[str, Decimal]) -> dict[str, int]:
    """What was spent, in pico-USD, as `shares` takes it; raises InvalidRequest."""
    return {name: spent_pico(it) for name, it in {"": spend, **window_spend}.items()}
