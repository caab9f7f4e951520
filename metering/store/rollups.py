"""Rollups: an application's sums by hour of admission, and the proof that they are its rows'."""

from __future__ import annotations

from typing import Literal

import msgspec

from metering.store import Store
from metering.store.usage import Sums, read_sums

Dimension = Literal["", "model", "provider", "key", "user", "use_case", "tag", "limit"]
Period = Literal["hour", "day", "month"]


class Rollup(msgspec.Struct, frozen=True, kw_only=True):
    """The sums of one value of a dimension, in one period if the query asked for periods."""

    period: str | None
    """`2026-11`, `2026-11-20` or `2026-11-20T11:00:00Z`."""
    value: str
    sums: Sums


async def query(
    store: Store,
    application_id: str,
    dimension: Dimension,
    *,
    from_ms: int,
    to_ms: int,
    by: Period | None = None,
) -> list[Rollup]:
    """Sums of the hours that begin in [from_ms, to_ms), by period and value; '' is everything."""
    async with store.reader(application_id) as reader:
        arguments = (application_id, dimension, from_ms, to_ms, by)
        records = await reader.rows("read_rollups", *arguments)
    return [
        Rollup(period=record["period"] or None, value=record["value"], sums=read_sums(record))
        for record in records
    ]


async def differences(store: Store) -> tuple[int, int]:
    """How many (rollups, limit totals) are not the sums of their rows: any but zero is a fault."""
    return (
        await store.value("count_rollup_differences"),
        await store.value("count_limit_total_differences"),
    )
