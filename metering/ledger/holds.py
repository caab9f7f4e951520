"""Holds: what a call was let in with, and what its row says if nobody learns how it ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from metering.core.limits import Bounds, Floor, Limit
from metering.core.money import join, split
from metering.core.record import UsageRow
from metering.ledger.replies import parse_own_amounts
from metering.redis import share

FLOOR = ("fw", "fp", "ft", "fl")
"""Where a record has what is certain of its call: USD, pico, tokens, and limits with own rates."""
NO_WINDOWS: Mapping[str, str] = {}


class Hold:
    """A call that was admitted. `floor` tells what is certain of it so far, `resets_at` when the
    windows end that its limits are in."""

    __slots__ = (
        "_bounds",
        "_definitions",
        "floor",
        "limits",
        "record",
        "resets_at",
        "row",
        "spooled",
    )

    def __init__(
        self,
        row: UsageRow,
        limits: Sequence[tuple[str, int]],
        definitions: Sequence[Limit],
        bounds: Bounds,
        *,
        spooled: bool,
    ) -> None:
        """`limits`: the id and epoch of each; `spooled`: Redis does not know of it."""
        self.row = row
        self.limits = limits
        self.record = share(row.application_id).record(row.request_id, row.attempt)
        self.resets_at: Mapping[str, str] = NO_WINDOWS
        self.floor: Callable[[], Floor] = Floor
        self.spooled = spooled
        self._definitions = definitions
        self._bounds = bounds

    @property
    def shares(self) -> str:
        """What it holds of each limit, as `reserve` has written it."""
        return "".join(
            [
                f"{it.limit_id}|{epoch}|{it.unit}|{it.mode}|{self._amounts(it)};"
                for it, (_, epoch) in zip(self._definitions, self.limits, strict=True)
            ]
        )

    def _amounts(self, limit: Limit) -> str:
        bounds = self._bounds
        if limit.unit == "usd":
            usual = (bounds.likely_pico, bounds.ceiling_pico)
            likely, ceiling = bounds.limits.get(limit.limit_id, usual)
            return "|".join(map(str, (*split(likely), *split(ceiling))))
        if limit.unit == "tokens":
            return f"{bounds.likely_tokens}|0|{bounds.ceiling_tokens}|0"
        return "1|0|1|0"


def unresolved(row: UsageRow, floor: Floor) -> UsageRow:
    """The row of a call whose truth nobody knows: charged what is certain of it."""
    return msgspec.structs.replace(
        row,
        status="unresolved",
        estimated=True,
        cost_pico=floor.pico,
        input_pico=floor.pico,
        limit_costs=dict(floor.limit_costs),
    )


def unresolved_by(row: UsageRow, floor: Sequence[bytes | None]) -> tuple[UsageRow, int]:
    """The same, and its tokens, by what heartbeats left in `FLOOR`, if there were any."""
    whole, part, tokens = (int(it or 0) for it in floor[:3])
    certain = Floor(join(whole, part), tokens, parse_own_amounts(floor[3]))
    return unresolved(row, certain), tokens
