"""`/limits/{id}/history`: what a limit came to in windows that have ended, and between resets."""

from typing import Any

from litestar import Controller, get
from litestar.params import FromPath, FromQuery

from metering.api import pages
from metering.api.limit_shapes import LimitPeriod, amount, totals_of
from metering.api.limits import existing
from metering.api.server import ApiRequest
from metering.api.text import moment
from metering.core.limits import Limit, Totals
from metering.store import limits
from metering.store.pages import Page, cut, read_cursor, size

LISTING = "limit_history"


class LimitHistoryController(Controller):
    """Read what limits came to."""

    path = "/limits"
    tags = ("limits",)

    @get("/{limit_id:str}/history")
    async def page(
        self,
        request: ApiRequest,
        limit_id: FromPath[str],
        *,
        limit: FromQuery[int | None] = None,
        cursor: FromQuery[str | None] = None,
    ) -> dict[str, Any]:
        """What has ended, latest first, from the usage that has landed; a time without calls is
        left out. A rolling window's are its sixtieths."""
        one = await existing(request, limit_id)
        services, listing = request.services, f"{LISTING}:{limit_id}"
        found = await _ended(request, one, size(limit), pages.read_cursor(request, listing, cursor))
        resets = await limits.history(services.store, one.application_id, limit_id)
        lives = [(it.epoch, it.max) for it in reversed(resets)] + [(one.epoch, one.max)]
        items = [_period(one, its, lives) for its in found.items]
        as_of = moment(services.clock())
        return pages.page(request, listing, items, found.cursor, as_of=as_of)


async def _ended(
    request: ApiRequest, one: Limit, page_size: int, cursor: str | None
) -> Page[Totals]:
    """A page of the epochs of a limit that are over."""
    ledger, store = request.services.ledger, request.services.store
    [after] = read_cursor(cursor, int)
    if one.window is not None and one.window.part_ms:
        before = max(one.window.bounds(await ledger.now_ms())[0], one.epoch)
    else:
        [present] = await ledger.present((one,))
        before = present.epoch
    if isinstance(after, int):
        before = min(before, after)
    found = await limits.totals(
        store, one.application_id, one.limit_id, one.created_ms, before, most=page_size + 1
    )
    return cut(found, page_size, lambda last: (last.epoch,))


def _period(one: Limit, its: Totals, lives: list[tuple[int, int]]) -> LimitPeriod:
    """An epoch as an item; `lives`: from when to when there was no reset, and the max in force."""
    ends = [epoch for epoch, _ in lives if epoch > its.epoch]
    if one.window is not None:
        width = one.window.part_ms
        ends.append(
            (its.epoch // width + 1) * width if width else one.window.starts(its.epoch).next
        )
    maximum = next((most for epoch, most in reversed(lives) if epoch <= its.epoch), one.max)
    return LimitPeriod(
        starts_at=moment(its.epoch),
        ends_at=moment(min(ends)),
        max=amount(maximum, one.unit),
        totals=totals_of(one, its, maximum),
    )
