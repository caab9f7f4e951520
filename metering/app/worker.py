"""A worker: takes calls. Every part made once, wired, started and ended in order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import time
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any

import structlog
import uvicorn

from metering import api, tokens
from metering.app.first import (
    DEFAULT_APPLICATION,
    clock_ms,
    collect_rarely,
)
from metering.app.front import Front
from metering.app.logs import configure_logs, watch
from metering.core.estimate import Learned
from metering.directory import Directory
from metering.duties import every
from metering.duties.audit import Auditor
from metering.duties.prices import Prices
from metering.duties.recovery import MEMBER
from metering.errors import StoreAway
from metering.keyring import Keyring
from metering.ledger import Ledger
from metering.meter import Archive, Meter, Reports
from metering.proxy.flow import Flow
from metering.proxy.plan import Planner
from metering.proxy.spends import Spends
from metering.redis import Redis
from metering.redis.outbox import Outbox
from metering.replays import Replays
from metering.settings import Settings
from metering.spool import Spool
from metering.store import Store
from metering.upstream import EngineTransport, Resolver, Upstream
from metering.vault import OwnSecrets, Vault
from pricing.load import read as read_prices

log = structlog.get_logger()

OUTBOX_DEPTH_MAX = 1_000_000
USES_S = 10
AUDIT_TIMEOUT_MS = 10_000
"""No call waits for an audit: it may wait longer for Redis than calls do."""
"""How often it is written down when keys were used."""


class Worker:
    """Everything one worker is made of."""

    def __init__(self, settings: Settings, store: Store, vault: Vault, own: OwnSecrets) -> None:
        name = f"{os.getpid()}-{secrets.token_hex(4)}"
        self.settings = settings
        self.store = store
        self.vault = vault
        self.own = own
        self.redis = Redis(
            settings.redis_url or "", settings.redis_timeout_ms, name=f"{MEMBER}{name}"
        )
        self.outbox = Outbox(self.redis)
        spool = Spool(settings.data_dir / "spool", name)
        self.ledger = Ledger(self.redis, store, spool, hold_ttl_ms=settings.hold_ttl_ms)
        self.ledger.generation.watch()
        self.directory = Directory(
            store,
            self.redis,
            pepper=own.pepper,
            keyring=vault.keyring,
            admin_key=settings.admin_key,
            default_application=DEFAULT_APPLICATION,
            clock_ms=clock_ms,
            failures_max=settings.failed_logins_max,
            trusted=settings.proxies(),
        )
        self.patient = Redis(settings.redis_url or "", AUDIT_TIMEOUT_MS)
        self.auditor = Auditor(self.patient, store, spool)
        self.prices = Prices(store, read_prices())
        self.meter = Meter(self.prices.now, self.ledger, Learned())
        self.prices.use = self.meter.use
        self.upstream = Upstream(
            EngineTransport(
                connect_s=settings.provider_connect_s,
                idle_s=settings.provider_idle_s,
                total_s=settings.provider_total_s,
            )
        )
        self.resolver = Resolver(private=settings.allow_private_origins == "on")
        self.flow = Flow(
            settings=settings,
            planner=Planner(
                settings,
                self.directory,
                self.meter,
                self.resolver,
                Spends(self.ledger, time.monotonic),
            ),
            ledger=self.ledger,
            meter=self.meter,
            upstream=self.upstream,
            replays=Replays(self.redis, own.pepper, secrets.token_bytes),
            clock_ms=clock_ms,
            clock_s=time.monotonic,
            random=_Randomness().take,
        )
        self.ready = False
        self._ends_s = 0.0
        self._tasks: list[asyncio.Task[None]] = []

    async def problems(self) -> Sequence[str]:
        """What keeps this worker from taking calls."""
        if not self.ready:
            return ["this worker is starting or ending"]
        try:
            depth = await self.outbox.depth()
        except StoreAway as fault:
            return [f"Redis: {fault.message}"]
        problems = [f"{depth} rows wait for Postgres"] if depth > OUTBOX_DEPTH_MAX else []
        if not self.ledger.generation.trusted:
            problems.append("the counters of limits are being rebuilt")
        return problems

    async def start(self) -> None:
        """Begin the work beside the calls."""
        await self.prices.refresh()
        await tokens.warm()
        beat_s = self.settings.heartbeat_ms / 1000
        self._tasks = [
            asyncio.create_task(it)
            for it in (
                every(beat_s, "heartbeat", lambda: self.ledger.heartbeat(beat_s)),
                every(1, "pulse", self.ledger.pulse, self.ledger.generation.rest),
                every(1, "replay", self.ledger.replay),
                every(0, "prices", lambda: self.prices.follow(self.directory.prices_told)),
                every(1, "directory", self.directory.retell),
                every(USES_S, "uses", self.directory.write_uses),
                self.directory.listen(),
            )
        ]
        self.ready = True

    def end(self) -> None:
        """Take no more calls; those under way have the shutdown time from now on, not twice."""
        if self.ready:
            self.ready = False
            self._ends_s = time.monotonic() + self.settings.shutdown_s

    async def stop(self) -> None:
        """Finish the calls under way and close everything; the keeper lands their rows."""
        self.end()
        await self.flow.finish(self._ends_s - time.monotonic())
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        try:
            async with asyncio.timeout(10):
                await self.ledger.replay()
        except (StoreAway, TimeoutError) as fault:
            log.warning("ended_with_a_journal", reason=str(fault))
        with contextlib.suppress(StoreAway):
            await self.directory.write_uses()
        await self.upstream.close()
        self.resolver.close()
        await self.ledger.close()
        await self.redis.close()
        await self.patient.close()
        await self.store.close()


def build(worker: Worker) -> Any:
    """The control plane, as an ASGI application."""
    archive = Archive(worker.settings.bodies_days, worker.vault, os.urandom)
    return api.build(
        api.Services(
            settings=worker.settings,
            store=worker.store,
            ledger=worker.ledger,
            directory=worker.directory,
            readiness=worker,
            prices=worker.prices,
            auditor=worker.auditor,
            vault=worker.vault,
            reports=Reports(worker.settings, worker.directory, worker.meter, archive),
            archive=archive,
            probe=api.Probe(worker.settings, worker.upstream, worker.resolver),
            pepper=worker.own.pepper,
            cursor_secret=worker.own.cursors,
            clock=clock_ms,
            random=os.urandom,
        )
    )


@contextlib.asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Worker]:
    """A worker, started and in the end stopped."""
    store = await Store.open(settings.database_url or "")
    vault = Vault(store, Keyring.of(settings), os.urandom)
    worker = Worker(settings, store, vault, await vault.load())
    await worker.start()
    try:
        yield worker
    finally:
        await worker.stop()


class _Randomness:
    """Unpredictable bytes, taken from the system a page at a time."""

    def __init__(self) -> None:
        self._page = b""
        self._at = 0

    def take(self, count: int) -> bytes:
        """So many bytes, given out once."""
        if self._at + count > len(self._page):
            self._page, self._at = os.urandom(4096), 0
        self._at += count
        return self._page[self._at - count : self._at]


class _Server(uvicorn.Server):
    """uvicorn, leaving signals to us: it would raise them again after a clean end."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        """Do nothing: `serve` handles signals."""
        yield


async def serve(settings: Settings, sockets: list[socket.socket]) -> int:
    """Run one worker on listening sockets until SIGTERM or SIGINT; gives the exit code."""
    configure_logs()
    async with running(settings) as worker:
        server = _Server(
            uvicorn.Config(
                build(worker),
                http=partial(Front, serve=worker.flow.begin),  # type: ignore[arg-type]
                loop="uvloop",
                lifespan="off",
                access_log=False,
                log_level="critical",
                server_header=False,
                date_header=True,
                proxy_headers=False,
                ws="none",
                timeout_graceful_shutdown=settings.shutdown_s,
            )
        )

        def end() -> None:
            worker.end()
            server.should_exit = True

        collect_rarely()
        loop = asyncio.get_running_loop()
        watch(loop)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, end)
        await server.serve(sockets=sockets)
    return 0
