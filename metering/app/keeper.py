"""The keeper: a process beside the workers that lands rows and expires what the dead left behind.

It takes no calls, so that a batch of rows never holds one up. Of several replicas' keepers one has
each duty, by a lease.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal

import structlog

from metering.app.first import clock_ms, collect_rarely
from metering.app.logs import configure_logs, watch
from metering.duties import Lease, every
from metering.duties.expiry import Expiry
from metering.duties.reaper import Reaper
from metering.duties.recovery import Recovery
from metering.duties.writer import Writer
from metering.errors import StoreAway
from metering.ledger import Ledger
from metering.redis import Redis
from metering.redis.outbox import Outbox
from metering.settings import Settings
from metering.spool import Spool
from metering.store import Store, usage

log = structlog.get_logger()

PARTITIONS_S = 3600
EXPIRY_S = 60
WRITER_S = 0.1
NICENESS = 10
"""Calls come first: what the keeper does may wait, for as long as it is done at all."""
FLUSH_S = 10
REDIS_TIMEOUT_MS = 2_000
"""No call waits for the keeper: it may wait longer than a worker."""


class Keeper:
    """Everything the keeper is made of."""

    def __init__(self, settings: Settings, store: Store) -> None:
        name = f"keeper-{os.getpid()}-{secrets.token_hex(4)}"
        self._settings = settings
        self._store = store
        self._redis = Redis(settings.redis_url or "", REDIS_TIMEOUT_MS, name=f"xproxy:{name}")
        spool = Spool(settings.data_dir / "spool", name)
        self._ledger = Ledger(self._redis, store, spool, hold_ttl_ms=settings.hold_ttl_ms)
        self._writer = Writer(Outbox(self._redis), store, Lease(self._redis, "writer", name))
        self._ledger.generation.watch()
        self._recovery = Recovery(
            self._redis,
            store,
            self._ledger,
            Lease(self._redis, "recovery", name),
            patience_s=settings.hold_ttl_ms / 1000,
        )
        self._reaper = Reaper(
            self._ledger,
            Lease(self._redis, "reaper", name),
            patience_s=1.5 * settings.heartbeat_ms / 1000,
        )
        lease = Lease(self._redis, "expiry", name)
        self._expiry = Expiry(store, lease, settings.bodies_days, clock_ms)

    async def run(self, until: asyncio.Event) -> None:
        """Do the duties until told to end, then land what is left."""
        duties = (
            every(WRITER_S, "writer", self._writer.step),
            every(self._settings.reap_ms / 1000, "reaper", self._reaper.step),
            every(1, "recovery", self._recovery.step, self._ledger.generation.rest),
            every(1, "replay", self._ledger.replay),
            every(PARTITIONS_S, "partitions", self._partitions),
            every(EXPIRY_S, "expiry", self._expiry.step),
        )
        tasks = [asyncio.create_task(duty) for duty in duties]
        await until.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._flush()
        await self._ledger.close()
        await self._redis.close()
        await self._store.close()

    async def _partitions(self) -> None:
        await usage.ensure_partitions(self._store, clock_ms())
        await usage.ensure_months_of_default(self._store)

    async def _flush(self) -> None:
        try:
            async with asyncio.timeout(FLUSH_S):
                await self._ledger.replay()
                await self._writer.flush()
        except (StoreAway, TimeoutError) as fault:
            log.warning("ended_with_rows_waiting", reason=str(fault))


async def keep(settings: Settings) -> int:
    """Run the keeper until SIGTERM or SIGINT; gives the exit code."""
    configure_logs()
    os.nice(NICENESS)
    until = asyncio.Event()
    loop = asyncio.get_running_loop()
    watch(loop)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, until.set)
    store = await Store.open(settings.database_url or "", connections=3)
    keeper = Keeper(settings, store)
    collect_rarely()
    await keeper.run(until)
    return 0
