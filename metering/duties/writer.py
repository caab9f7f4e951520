"""The writer: usage rows from the outbox into Postgres, exactly once.

Read, insert (what is there already is left alone), then delete. A crash between the last two only
means that the same rows are offered again. Postgres away: the outbox grows and nothing is lost.
"""

from __future__ import annotations

import msgspec
import structlog

from metering.core.limits import Charge
from metering.core.record import UsageRow, decode_row
from metering.duties import Lease
from metering.ledger.replies import blocked, parse_charges
from metering.redis import share
from metering.redis.outbox import Outbox, OutboxEntry
from metering.store import Store, usage

log = structlog.get_logger()
BATCH = 500
LANDED_TTL_MS = 15 * 60_000
"""How long marks and results outlive the landing of their row."""
UNRESOLVED_TTL_MS = 60 * 60_000
"""The same for a call that was expired: its truth may still come."""

Landed = tuple[UsageRow, tuple[Charge, ...]]


def decode(entry: OutboxEntry) -> Landed:
    """The row an entry stands for."""
    row = decode_row(entry.row)
    if entry.kind == "blocked":
        row = blocked(row)
    return row, parse_charges(entry.charges)


class Writer:
    """One worker's turn at the duty."""

    def __init__(self, outbox: Outbox, store: Store, lease: Lease) -> None:
        self._outbox = outbox
        self._store = store
        self._lease = lease

    async def step(self) -> None:
        """Land one batch, if the duty is ours."""
        if await self._lease.held():
            await self.land()

    async def land(self) -> int:
        """Land what there is, at most a batch a shard; gives how many entries."""
        entries = await self._outbox.read(BATCH)
        if not entries:
            return 0
        landed, broken = [], 0
        for entry in entries:
            try:
                landed.append(decode(entry))
            except (msgspec.DecodeError, ValueError) as error:
                broken += 1
                await usage.bury(self._store, entry.row, f"{entry.kind}: {error}")
        if broken:
            log.error("outbox_entries_unreadable", count=broken)
        for start in range(0, len(landed), BATCH):
            await usage.insert(self._store, landed[start : start + BATCH])
        await self._outbox.landed(entries, [pair for row, _ in landed for pair in _kept(row)])
        return len(entries)

    async def flush(self) -> None:
        """Land everything, before a worker ends."""
        if await self._lease.held():
            while await self.land():
                pass
            await self._lease.give_up()


def _kept(row: UsageRow) -> list[tuple[str, int]]:
    """The keys of a landed row, and how long they live on."""
    place = share(row.application_id)
    ttl_ms = UNRESOLVED_TTL_MS if row.status == "unresolved" else LANDED_TTL_MS
    kept = [(place.record(row.request_id, row.attempt), ttl_ms)]
    if row.provider_id:
        kept.append((place.index(row.category, row.provider_id), ttl_ms))
    return kept
