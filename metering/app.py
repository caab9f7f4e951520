"""The composition root: every part made once, wired, started and ended in order."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import hmac
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import structlog
import uvicorn

from metering import api, tokens
from metering.core.estimate import Learned
from metering.core.ids import uuid7
from metering.core.keys import digest, make_key
from metering.core.limits import Limit
from metering.core.money import PICO_PER_USD
from metering.directory import Directory
from metering.duties import Lease, every
from metering.duties.reaper import Reaper
from metering.duties.writer import Writer
from metering.errors import Conflict, StoreAway
from metering.ledger import Ledger
from metering.meter import Meter
from metering.proxy.flow import Flow
from metering.proxy.plan import Planner
from metering.redis import Redis
from metering.redis.outbox import Outbox
from metering.settings import Settings
from metering.spool import Spool
from metering.store import Store, applications, keys, limits, usage
from metering.store.migrations import migrate
from metering.upstream import EngineTransport, Upstream
from pricing.load import load

log = structlog.get_logger()

PROXY_PREFIX = b"/api/v1/proxy/"
DEFAULT_APPLICATION = "00000000-0000-7000-8000-000000000001"
"""The application an admin key acts for where a call needs one."""
DEMO_LIMIT = "demo"
DEMO_LIMIT_USD = 5
PARTITIONS_S = 6 * 3600
WRITER_S = 0.05
OUTBOX_DEPTH_MAX = 1_000_000
GC_THRESHOLD = 20_000
"""A call makes hundreds of objects and no cycles to speak of: looking less often costs nothing."""


class Welcome(msgspec.Struct, frozen=True):
    """What is said once, at the first start."""

    admin_key: str | None
    """None where the operator brought one."""
    application_key: str
    limit_id: str
    limit_usd: int


def clock_ms() -> int:
    """Unix milliseconds."""
    return time.time_ns() // 1_000_000


def _derived(settings: Settings, purpose: str) -> bytes:
    """A key of its own for each purpose, from the master secret."""
    master = (settings.master_secret or "").encode()
    return hmac.digest(master, f"xproxy {purpose} v1".encode(), hashlib.sha256)


def configure_logs() -> None:
    """One JSON line an event, to standard error. Traces name no values: those may be secrets."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


# First start


async def prepare(settings: Settings) -> Welcome | None:
    """Bring the database up to date; at the first start, make what a newcomer needs."""
    dsn = settings.database_url or ""
    await migrate(dsn)
    store = await Store.open(dsn, connections=2)
    try:
        await usage.ensure_partitions(store, clock_ms())
        return await _first_start(settings, store)
    finally:
        await store.close()


async def _first_start(settings: Settings, store: Store) -> Welcome | None:
    now_ms = clock_ms()
    if await applications.get(store, DEFAULT_APPLICATION) is not None:
        return None
    with contextlib.suppress(Conflict):  # another replica starts at the same moment
        await applications.create(store, DEFAULT_APPLICATION, "default", now_ms)
    await limits.create(
        store,
        Limit(
            application_id=DEFAULT_APPLICATION,
            limit_id=DEMO_LIMIT,
            limit_name="Demo",
            mode="block",
            max=DEMO_LIMIT_USD * PICO_PER_USD,
            epoch=now_ms,
            created_ms=now_ms,
            updated_ms=now_ms,
        ),
    )
    admin_key = None
    if settings.admin_key is None:
        admin_key = await _make_key(settings, store, "admin", "admin", ())
    application_key = await _make_key(settings, store, "app", "first", ("price_as",))
    return Welcome(admin_key, application_key, DEMO_LIMIT, DEMO_LIMIT_USD)


async def _make_key(
    settings: Settings, store: Store, role: Any, name: str, permissions: Sequence[str]
) -> str:
    key = make_key(role, secrets.token_bytes(32))
    now_ms = clock_ms()
    row = keys.KeyRow(
        key_id=str(uuid7(now_ms, secrets.token_bytes(10))),
        application_id=None if role == "admin" else DEFAULT_APPLICATION,
        role=role,
        name=name,
        last4=key[-4:],
        permissions=tuple(permissions),
        created_ms=now_ms,
    )
    await keys.create(store, row, digest(_derived(settings, "key pepper"), key))
    return key


# One worker


class Worker:
    """Everything one worker is made of."""

    def __init__(self, settings: Settings, store: Store) -> None:
        name = f"{os.getpid()}-{secrets.token_hex(4)}"
        self.settings = settings
        self.store = store
        self.redis = Redis(settings.redis_url or "", settings.redis_timeout_ms)
        self.outbox = Outbox(self.redis)
        spool = Spool(settings.data_dir / "spool", name)
        self.ledger = Ledger(self.redis, store, spool, hold_ttl_ms=settings.hold_ttl_ms)
        self.directory = Directory(
            store,
            self.redis,
            pepper=_derived(settings, "key pepper"),
            master_secret=(settings.master_secret or "").encode(),
            admin_key=settings.admin_key,
            default_application=DEFAULT_APPLICATION,
            clock_ms=clock_ms,
        )
        self.meter = Meter(load(), self.ledger, Learned())
        self.upstream = Upstream(
            EngineTransport(connect_s=settings.provider_connect_s, idle_s=settings.provider_idle_s)
        )
        self.flow = Flow(
            settings=settings,
            planner=Planner(settings, self.directory, self.meter),
            ledger=self.ledger,
            meter=self.meter,
            upstream=self.upstream,
            clock_ms=clock_ms,
            clock_s=time.monotonic,
            random=os.urandom,
        )
        self.writer = Writer(self.outbox, store, Lease(self.redis, "writer", name))
        self.reaper = Reaper(self.ledger, Lease(self.redis, "reaper", name))
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
        return [f"{depth} rows wait for Postgres"] if depth > OUTBOX_DEPTH_MAX else []

    async def start(self) -> None:
        """Begin the work beside the calls."""
        await tokens.warm()
        beat_s = self.settings.heartbeat_ms / 1000
        self._tasks = [
            asyncio.create_task(it)
            for it in (
                every(beat_s, "heartbeat", lambda: self.ledger.heartbeat(beat_s)),
                every(1, "replay", self.ledger.replay),
                every(WRITER_S, "writer", self.writer.step),
                every(self.settings.reap_ms / 1000, "reaper", self.reaper.step),
                every(PARTITIONS_S, "partitions", self._partitions),
                self.directory.listen(),
            )
        ]
        self.ready = True

    async def _partitions(self) -> None:
        await usage.ensure_partitions(self.store, clock_ms())

    def end(self) -> None:
        """Take no more calls; those under way have the shutdown time from now on, not twice."""
        if self.ready:
            self.ready = False
            self._ends_s = time.monotonic() + self.settings.shutdown_s

    async def stop(self) -> None:
        """Finish the calls under way, land their rows, close everything."""
        self.end()
        await self.flow.finish(self._ends_s - time.monotonic())
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        try:
            async with asyncio.timeout(10):
                await self.ledger.replay()
                await self.writer.flush()
        except (StoreAway, TimeoutError) as fault:
            log.warning("ended_with_rows_waiting", reason=str(fault))
        await self.upstream.close()
        await self.ledger.close()
        await self.redis.close()
        await self.store.close()


def build(worker: Worker) -> Any:
    """The ASGI application: the data plane by raw path, everything else is the control plane's."""
    control = api.build(
        api.Services(
            settings=worker.settings,
            store=worker.store,
            ledger=worker.ledger,
            directory=worker.directory,
            readiness=worker,
            pepper=_derived(worker.settings, "key pepper"),
            cursor_secret=_derived(worker.settings, "cursors"),
            clock=clock_ms,
            random=os.urandom,
        )
    )

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and _is_data_plane(scope["raw_path"]):
            await worker.flow(scope, receive, send)
        else:
            await control(scope, receive, send)

    return application


def _is_data_plane(raw_path: bytes) -> bool:
    if raw_path.startswith(PROXY_PREFIX):
        return True
    return raw_path.startswith(b"//") and raw_path.lstrip(b"/").startswith(PROXY_PREFIX[1:])


@contextlib.asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Worker]:
    """A worker, started and in the end stopped."""
    store = await Store.open(settings.database_url or "")
    worker = Worker(settings, store)
    await worker.start()
    try:
        yield worker
    finally:
        await worker.stop()


class _Server(uvicorn.Server):
    """uvicorn, leaving signals to us: it would raise them again after a clean end."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        """Do nothing: `serve` handles signals."""
        yield


async def serve(settings: Settings, sockets: list[socket.socket], *, first: bool) -> int:
    """Run one worker on listening sockets until SIGTERM or SIGINT; gives the exit code."""
    configure_logs()
    if first:
        log.info("serving", data_dir=str(settings.data_dir))
    async with running(settings) as worker:
        server = _Server(
            uvicorn.Config(
                build(worker),
                http="httptools",
                loop="uvloop",
                lifespan="off",
                access_log=False,
                log_level="critical",
                server_header=False,
                date_header=True,
                proxy_headers=False,
                ws="none",
                timeout_keep_alive=75,
                timeout_graceful_shutdown=settings.shutdown_s,
            )
        )

        def end() -> None:
            worker.end()
            server.should_exit = True

        gc.collect()
        gc.freeze()  # what is here now stays: it need not be looked at again and again
        gc.set_threshold(GC_THRESHOLD)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, end)
        await server.serve(sockets=sockets)
    return 0
