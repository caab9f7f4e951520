"""The writer: usage rows from the outbox into Postgres, exactly once.

Read, insert (what is there already is left alone), then delete. A crash between the last two only
means that the same rows are offered again. Postgres away: the outbox grows and nothing is lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec
import structlog

from metering.core.ids import uuid7_text_ms
from metering.core.limits import Charge
from metering.core.record import INGEST, UsageRow, decode_row
from metering.duties import Lease
from metering.errors import StoreAway
from metering.ledger.replies import blocked, parse_charges, parse_refusals
from metering.redis import share
from metering.redis.outbox import Outbox, OutboxEntry
from metering.store import Store, usage

log = structlog.get_logger()
BATCH = 512
DAY_MS = 86_400_000
TOGETHER = 256
"""So many rows go to Postgres at once, and so many are made ready without a pause."""
PAUSE_S = 0.001
"""Long work holds up whoever shares the processor, and calls come first: it is done in parts."""
REPLAYED_TTL_MS = 15 * 60_000
"""How long the mark of a replayed or corrected call outlives the landing of its row: the same end
or correction may be on its way a second time, and nothing but the mark stops it. Others end with
the landing."""
REPORTED_TTL_MS = 60_000
"""The same of a call that was reported: by then whoever had just found its row missing has tried to
charge it. There may be thousands in a second, so it is not longer."""
UNRESOLVED_TTL_MS = 60 * 60_000
"""The same for a call that was expired: its truth may still come."""

Landed = tuple[UsageRow, tuple[Charge, ...]]


def decode(entry: OutboxEntry) -> Landed:
    """The row an entry stands for."""
    row = decode_row(entry.row)
    if entry.kind == "blocked":
        row = blocked(row, parse_refusals(entry.why))
    return row, parse_charges(entry.charges)


class Writer:
    """One worker's turn at the duty."""

    def __init__(self, outbox: Outbox, store: Store, lease: Lease) -> None:
        self._outbox = outbox
        self._store = store
        self._lease = lease
        self._days: set[int] = set()
        """Those whose month has a partition, or is left to the default one."""

    async def step(self) -> None:
        """Land what there is, if the duty is ours."""
        while await self._lease.held() and await self.land() >= BATCH:
            pass

    async def land(self) -> int:
        """Land what there is, at most a batch a shard; gives how many entries."""
        entries = await self._outbox.read(BATCH)
        by_stream: dict[str, list[OutboxEntry]] = {}
        for entry in entries:
            by_stream.setdefault(entry.stream, []).append(entry)
        for stream, all_of_it in by_stream.items():
            for start in range(0, len(all_of_it), TOGETHER):
                await self._land(stream, all_of_it[start : start + TOGETHER])
                await asyncio.sleep(PAUSE_S)
        return len(entries)

    async def _land(self, stream: str, entries: Sequence[OutboxEntry]) -> None:
        read = [(entry, await self._decoded(entry)) for entry in entries]
        await asyncio.sleep(PAUSE_S)
        await self._make_partitions(it[0] for _, it in read if it is not None)
        await usage.insert(self._store, [it for _, it in read if it is not None])
        fate = _fate((it[0], entry.kind) for entry, it in read if it is not None)
        await self._outbox.landed(
            stream,
            [entry.id for entry in entries],
            records=fate.records,
            indexes=fate.indexes,
            kept=fate.kept,
            corrected_ttl_ms=REPLAYED_TTL_MS,
        )

    async def _make_partitions(self, rows: Iterable[UsageRow]) -> None:
        """Of months that calls are reported of, before their rows land; if that cannot be done now
        they land in the default one, and are moved later."""
        for day in sorted({_day(row) for row in rows} - self._days):
            self._days.add(day)
            try:
                await usage.ensure_month(self._store, day * DAY_MS)
            except StoreAway as fault:
                log.warning("partition_not_made", day=day, reason=fault.message)

    async def _decoded(self, entry: OutboxEntry) -> Landed | None:
        """The row of an entry; one that cannot be read is kept with the reason."""
        try:
            return decode(entry)
        except (msgspec.DecodeError, ValueError) as error:
            log.exception("outbox_entry_unreadable", stream=entry.stream, id=entry.id)
            await usage.bury(self._store, entry.row, f"{entry.kind}: {error}")
            return None

    async def flush(self) -> None:
        """Land everything, before a worker ends."""
        if await self._lease.held():
            while await self.land():
                pass
            await self._lease.give_up()


def _day(row: UsageRow) -> int:
    """The day of a call since 1970; of one whose id is none, which no table takes, the first."""
    try:
        return uuid7_text_ms(row.request_id) // DAY_MS
    except ValueError:
        return 0


class _Fate(NamedTuple):
    """What is forgotten of calls whose rows have landed, and what lives on for how long, in ms."""

    records: list[str]
    indexes: list[str]
    kept: dict[str, int]


def _fate(landed: Iterable[tuple[UsageRow, str]]) -> _Fate:
    """The fate of what Redis knows of some calls; each row comes with the kind of its entry."""
    fate = _Fate([], [], {})
    for row, kind in landed:
        place = share(row.application_id)
        record = place.record(row.request_id, row.attempt)
        indexes = [place.index(row.category, row.provider_id)] if row.provider_id else []
        if row.status == "unresolved":
            fate.kept.update(dict.fromkeys([record, *indexes], UNRESOLVED_TTL_MS))
        elif kind in ("replayed", "correction"):
            reported = kind == "replayed" and row.surface == INGEST
            ttl_ms = REPORTED_TTL_MS if reported else REPLAYED_TTL_MS
            fate.kept.update(dict.fromkeys([record, *indexes], ttl_ms))
        else:
            fate.records.append(record)
            fate.indexes.extend(indexes)
    return fate
