"""The books as Postgres has them: rows and their sums, and sums made good from rows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from metering.core.difference import Difference, Kind, Pair
from metering.core.limits import STATES, Charge, Totals, Unit
from metering.core.record import UsageRow
from metering.store import Record, Store, as_uuid
from metering.store.limits import read_totals
from metering.store.rollups import Sums
from metering.store.rows import Landed
from sql import queries

if TYPE_CHECKING:
    from metering.store import Connection

SCAN_S = 600
"""All rows are read to sum them up, however many there are."""
SHOWN = 1_000
"""So many differences of a kind are told; all are repaired."""
_TOTALS = ("settled", "settled_input", "settled_output", *STATES)
_decode_landed = msgspec.msgpack.Decoder(tuple[UsageRow, tuple[Charge, ...]]).decode


@asynccontextmanager
async def still(store: Store) -> AsyncIterator[Connection]:
    """A transaction in which no row lands: what was to land waits. One at a time."""
    async with store.transaction() as connection:
        await connection.execute(queries["lock_books"])
        yield connection


async def application_ids(store: Store) -> list[str]:
    """All tenants."""
    return [str(record[0]) for record in await store.rows("read_application_ids")]


async def limit_ids(connection: Connection, application_id: str) -> list[str]:
    """All limits of an application."""
    records = await connection.fetch(queries["read_limit_ids"], as_uuid(application_id))
    return [record[0] for record in records]


async def totals_in(
    connection: Connection, application_id: str, asked: Mapping[str, tuple[int, Unit, int, int]]
) -> dict[str, Totals]:
    """What landed rows charged limits, each in the life that is asked for; zeros if nothing.

    Asked are, by limit: epoch of the answer, unit, first and last epoch that count.
    """
    columns = ([*asked], *([it[at] for it in asked.values()] for at in range(4)))
    records = await connection.fetch(queries["read_totals_of"], as_uuid(application_id), *columns)
    found = {limit_id: Totals(epoch=epoch) for limit_id, (epoch, *_) in asked.items()}
    return found | {record["limit_id"]: read_totals(record) for record in records}


async def totals_by_epoch(
    connection: Connection, application_id: str, asked: Mapping[str, tuple[Unit, int, int]]
) -> dict[str, dict[int, Totals]]:
    """What landed rows charged limits in each of their epochs, by limit.

    Asked are, by limit: unit, first and last epoch that count.
    """
    columns = ([*asked], *([it[at] for it in asked.values()] for at in range(3)))
    records = await connection.fetch(
        queries["read_totals_by_epoch"], as_uuid(application_id), *columns
    )
    found: dict[str, dict[int, Totals]] = {limit_id: {} for limit_id in asked}
    for record in records:
        found[record["limit_id"]][record["epoch"]] = read_totals(record)
    return found


async def landed_among(
    store: Store, application_id: str, calls: Sequence[tuple[str, int]]
) -> set[tuple[str, int]]:
    """Those of an application's calls that have landed; each is a request id and an attempt."""
    columns = ([it[0] for it in calls], [it[1] for it in calls], ["call"] * len(calls))
    records = await store.rows("read_landed_among", as_uuid(application_id), *columns)
    return {(str(request_id), attempt) for request_id, attempt, _ in records}


async def are_empty(store: Store) -> bool:
    """Whether no row has ever landed."""
    return not await store.value("read_any_usage")


async def not_landed(
    connection: Connection, application_id: str, rows: Sequence[Landed]
) -> list[Landed]:
    """Those rows that have not landed, each once."""
    by_key = {(row.request_id, row.attempt, row.entry): (row, its) for row, its in rows}
    columns = [list(column) for column in zip(*by_key, strict=True)] or [[], [], []]
    records = await connection.fetch(
        queries["read_landed_among"], as_uuid(application_id), *columns
    )
    for request_id, attempt, entry in records:
        by_key.pop((str(request_id), attempt, entry), None)
    return list(by_key.values())


async def buried(store: Store, application_id: str | None) -> tuple[list[Difference], list[Landed]]:
    """Rows that no table takes, as differences; and what can be read of them."""
    found, rows = [], []
    for record in await store.rows("read_buried", application_id):
        found.append(
            Difference(
                kind="dead_letter",
                application_id=record["application_id"],
                about=record["request_id"] or record["digest"][:16],
                cause=f"no table takes this row: {record['reason']}",
            )
        )
        try:
            rows.append(_decode_landed(record["payload"]))
        except msgspec.MsgspecError:
            continue
    return found, rows


async def differences(
    store: Store, application_id: str | None, *, repair: bool = False
) -> list[Difference]:
    """Limit totals and rollups that are not the sums of their rows; `repair` makes them so."""
    found = []
    async with still(store) if repair else store.connection() as connection:
        for kind in ("limit_total", "rollup"):
            records = await connection.fetch(
                queries[f"read_{kind}_differences"],
                as_uuid(application_id),
                None if repair else SHOWN,
                timeout=SCAN_S,
            )
            if repair:
                for record in records:
                    await _put(connection, kind, record)
            found += [_difference(kind, record) for record in records[:SHOWN]]
    return found


async def _put(connection: Connection, kind: str, record: Record) -> None:
    named, expected = [*record.values()][:4], record["expected"]
    if expected[0] is None:
        await connection.execute(queries[f"delete_{kind}"], *named)
    else:
        await connection.execute(queries[f"put_{kind}"], *named, *expected)


def _difference(kind: Kind, record: Record) -> Difference:
    rollup = kind == "rollup"
    names = Sums.__struct_fields__ if rollup else _TOTALS
    pairs = {
        name: Pair(int(found or 0), int(expected or 0))
        for name, found, expected in zip(names, record["found"], record["expected"], strict=True)
    }
    members: dict[str, Any] = {
        "kind": kind,
        "application_id": str(record["application_id"]),
        "numbers": {name: pair for name, pair in pairs.items() if pair.found != pair.expected},
        "repair": "summed it up anew from its rows",
    }
    unit: Unit | None
    if rollup:
        name = f"{record['dimension'] or 'all'}={record['value']}"
        about, unit, whose = (
            f"{name} {_hour(record['hour_ms'])}",
            None,
            f"the hour's rows of {name}",
        )
    else:
        about, unit = f"{record['limit_id']} epoch {record['epoch']}", record["unit"]
        whose = "the rows that charged this limit"
    gone = all(value is None for value in record["expected"])
    more = any(it.found > it.expected for it in members["numbers"].values())
    cause = f"there are no such rows as {whose}" if gone else f"it is not the sum of {whose}"
    cause += ": rows were taken away or changed" if more else ": it was changed, or missed rows"
    return Difference(about=about, unit=unit, cause=cause, **members)


def _hour(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms // 1000, UTC):%Y-%m-%dT%H:00Z}"
