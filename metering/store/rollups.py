"""Rollups: sums by hour of admission, for the questions they can answer exactly, and their proof.

They are fed by the statement that lands rows, so that they are never behind and never ahead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from metering.store import Record, Store, as_uuid

Dimension = Literal["", "model", "provider", "key", "user", "use_case", "tag", "limit"]
"""What hours are summed under; '' is everything."""
FREE = frozenset({"month", "day", "hour", "application"})
"""What any rollup can be grouped by: its hour and its owner."""
HOUR_MS = 3_600_000
DIFFERENCES = ("read_rollup_differences", "read_limit_total_differences")


class Sums(msgspec.Struct, frozen=True, kw_only=True):
    """Exact sums; calls by status, corrections counted in the amounts alone."""

    ok: int = 0
    failed: int = 0
    blocked: int = 0
    unresolved: int = 0
    estimated: int = 0
    """Calls of any status whose usage we counted ourselves."""
    unpriced: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    input_pico: int = 0
    output_pico: int = 0
    cost_pico: int = 0

    @property
    def calls(self) -> int:
        """All calls, whatever became of them."""
        return self.ok + self.failed + self.blocked + self.unresolved


def read_sums(record: Record) -> Sums:
    """The sums of a record that has a column for each."""
    return Sums(**{name: int(record[name]) for name in Sums.__struct_fields__})


def covering(
    from_ms: int, to_ms: int, group_by: Sequence[str], wanted: Mapping[str, str | None]
) -> tuple[str, str | None] | None:
    """The (dimension, value or None for all) whose hours answer a query exactly; None: rows must.

    They do if the range is of whole hours and no more than one dimension is grouped or filtered
    by: hours do not know which rows had both. `wanted` are the filters by dimension.
    """
    if from_ms % HOUR_MS or to_ms % HOUR_MS:
        return None
    grouped = [(name, None) for name in group_by if name not in FREE]
    filtered = [(name, value) for name, value in wanted.items() if value is not None]
    asked: list[tuple[str, str | None]] = [*grouped, *filtered] or [("", None)]
    name, value = asked[0]
    # '' is what rows have that have none of it, which no filter asks for.
    return asked[0] if len(asked) == 1 and name != "status" and value != "" else None


async def differences(store: Store) -> tuple[int, int]:
    """How many (rollups, limit totals) are not the sums of their rows: any but zero is a fault."""
    found = [len(await store.rows(name, None, None)) for name in DIFFERENCES]
    return found[0], found[1]


async def spend(
    store: Store, application_id: str, dimension: str, values: Sequence[str]
) -> dict[str, int]:
    """What the landed calls of some values of a dimension cost in all, in pico-USD, by value."""
    arguments = (as_uuid(application_id), dimension, values)
    records = await store.rows("sum_spend", *arguments)
    return {record["value"]: int(record["cost_pico"]) for record in records}
