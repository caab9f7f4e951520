"""A service that may be killed, stores that may outlive it, and direct views into both stores."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import asyncpg
import msgspec
from redis import Redis
from redis.exceptions import RedisError

from metering.cli import runfile
from metering.core.limits import STATES
from metering.core.money import PICO_PER_USD
from metering.embedded import Server, Stores
from metering.ledger.replies import COUNTERS, what_is
from metering.redis import keys, share
from metering.spool import FRAME
from tests.chaos.load import Target
from tests.standin.process import Standin
from tests.standin.service import Service

T = TypeVar("T")
HOLD_TTL_MS = 30_000
REAPED_S = 35.0
"""How old a hold may get after the last heartbeat or readiness, whichever is later."""
SECRET = "chaos-" + "0123456789abcdef" * 2
SHORT = {"XPROXY_HOLD_TTL_MS": "3000", "XPROXY_HEARTBEAT_MS": "500", "XPROXY_REAP_MS": "300"}
"""A tenth of the time a dead worker's holds take, for runs that cannot wait."""
PATIENT = {"XPROXY_REDIS_TIMEOUT_MS": "3000"}
"""For runs that are not about Redis: on a busy machine it may be late."""
LIMITS: dict[str, dict[str, Any]] = {
    "open": {"max": 0.001, "limit_type": "allow"},
    "wide": {"max": 1000, "limit_type": "block"},
    "hard": {"max": 1000, "limit_type": "block", "hard_cap": True},
    "count": {"max": 10**9, "limit_type": "block", "unit": "requests"},
    "words": {"max": 10**12, "limit_type": "allow", "unit": "tokens"},
}
"""One of every kind; none of them refuses."""


class Rig:
    """A stand-in, a service, and stores: the service's own, or such as outlive it."""

    def __init__(self, folder: Path, *, outlive: bool, **settings: str) -> None:
        """`outlive`: the stores are not the service's own; `settings` are its environment."""
        self.folder = folder
        self.standin = Standin(folder / "ledger.jsonl")
        self.stores = Stores(folder / "stores") if outlive else None
        self.settings = settings
        self.ttl_ms = int(settings.get("XPROXY_HOLD_TTL_MS", HOLD_TTL_MS))
        self.ready_ms = 0
        """When the service got ready; 0 while it is not."""
        self.oldest_ms = 0
        """The greatest age of a hold that was seen, counted as the promise is."""
        self.service: Service
        self._keys: dict[str, str] = {}

    def __enter__(self) -> Self:
        try:
            self.standin.start()
            if self.stores is not None:
                database_url, redis_url = self.stores.start()
                self.settings |= {"DATABASE_URL": database_url, "REDIS_URL": redis_url}
                self.settings |= {"XPROXY_MASTER_SECRET": SECRET}
            self.service = Service(self.folder / "data", self.standin.url, **self.settings)
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if hasattr(self, "service"):
            self.service.stop()
            self.service.http.close()
        if self.stores is not None:
            for server in self.stores.servers:
                signal_all(server_pids(server), signal.SIGCONT)
            self.stores.stop()
        self.standin.stop()

    def start(self) -> None:
        """Start the service; it is ready when this returns."""
        self.service.start()
        self.ready_ms = now_ms()

    def tenant(self, **limits: dict[str, Any]) -> tuple[str, Target]:
        """A fresh application with limits (by default one of every kind), and calls in its name."""
        limits = limits or LIMITS
        name = f"chaos-{time.monotonic_ns()}"
        application = self.service.manage("POST", "applications", {"name": name})
        members = {"application_id": application["application_id"], "role": "app", "name": name}
        key = self.service.manage("POST", "keys", members)["key"]
        for limit_id, its in limits.items():
            body = {"limit_id": limit_id, "limit_name": limit_id} | its
            self.service.manage("POST", "limits", body, key=key)
        self._keys[application["application_id"]] = key
        target = Target(url=self.service.url, key=key, limits=tuple(limits))
        return application["application_id"], target

    # Processes

    def kill(self) -> None:
        """`kill -9` of the parent; what it has started dies with it."""
        self.ready_ms = 0
        self.service.kill()

    def kill_one(self, kind: str) -> None:
        """`kill -9` of a worker or the keeper alone; the parent starts another."""
        self.ready_ms = 0
        (pid,) = self.processes(kind)
        os.kill(pid, signal.SIGKILL)
        until(lambda: self.processes(kind) not in ([], [pid]), 30)
        until(self.service.ready, 60)
        self.ready_ms = now_ms()

    @property
    def worker(self) -> int:
        """The process id of the service's only worker."""
        (pid,) = self.processes("worker")
        return pid

    def processes(self, kind: str) -> list[int]:
        """The process ids of the service's workers, or of its keeper."""
        found = []
        for pid in children(self.service.pid):
            with contextlib.suppress(OSError):
                if kind.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                    found.append(pid)
        return found

    def server(self, title: str) -> Server:
        """`PostgreSQL` or `Valkey`, which outlive the service."""
        assert self.stores is not None
        (server,) = (it for it in self.stores.servers if it.title == title)
        return server

    # Views

    @property
    def urls(self) -> tuple[str, str]:
        """(database URL, Redis URL) of the stores that are there now."""
        if self.stores is not None:
            return self.settings["DATABASE_URL"], self.settings["REDIS_URL"]
        running = runfile.read(self.folder / "data")
        assert running is not None, "the service does not run"
        return running.database_url, running.redis_url

    @contextlib.contextmanager
    def redis(self) -> Iterator[Redis]:
        """A client of our own."""
        with Redis.from_url(self.urls[1], socket_timeout=2) as redis:
            yield redis

    def query(self, text: str, *arguments: object) -> list[asyncpg.Record]:
        """What a statement gives on a connection of our own."""

        async def ask() -> list[asyncpg.Record]:
            connection = await asyncpg.connect(self.urls[0])
            try:
                return await connection.fetch(text, *arguments)
            finally:
                await connection.close()

        return elsewhere(ask())

    def look(self) -> int:
        """How many holds there are; notes the age of the oldest. Nothing where Redis is away."""
        with contextlib.suppress(RedisError, AssertionError), self.redis() as redis:
            seconds, micros = redis.time()
            now, count = seconds * 1000 + micros // 1000, 0
            for name in keys.holds():
                scored: Any = redis.zrange(name, 0, -1, withscores=True)
                for _, deadline in scored:
                    count += 1
                    since = max(int(deadline) - self.ttl_ms, self.ready_ms or now)
                    self.oldest_ms = max(self.oldest_ms, now - since)
            return count
        return 0

    def watch(self, seconds: float) -> None:
        """Let time pass, looking at holds."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.look()
            time.sleep(min(0.25, max(0.0, deadline - time.monotonic())))

    def quiet(self, patience_s: float = 60) -> None:
        """Wait until no call is under way anywhere and every row has landed."""
        self.standin.wait_idle(patience_s)
        until(lambda: not self.look() and not self.unlanded(), patience_s)

    def unlanded(self) -> int:
        """What is in journals and outboxes; in this order, because rows go from those to these."""
        spool = self.folder / "data" / "spool"
        journals = sum(file.stat().st_size > FRAME.size for file in spool.glob("*.spool"))
        with self.redis() as redis:
            return journals + sum(redis.xlen(name) for name in keys.outboxes())

    def counters(self, application_id: str, limit_id: str) -> dict[str, int]:
        """A limit's live counters, as Redis has them; `members` are its holds by id.

        What Redis has lost is rebuilt when the service is asked for it.
        """
        name = share(application_id).limit(limit_id)
        with self.redis() as redis:
            packed: Any = redis.hget(name, "is")
            if not packed or what_is(packed)[0] == "closed":
                self.service.manage("GET", f"limits/{limit_id}", key=self._keys[application_id])
            fields: Any = redis.hgetall(name)
            members: Any = redis.zcard(f"{name};h")
        counted = [int(it) for it in COUNTERS.unpack(fields[b"cnt"])]
        names = ("sw", "sp", "iw", "ip", "ow", "op", "lw", "lp", "cw", "cp", "n", *STATES)
        numbers = dict(zip(names, counted, strict=True))
        return numbers | {"ep": what_is(fields[b"is"])[2], "members": members}

    def spent(self, application_id: str, limit_id: str) -> int:
        """What a limit on money has settled, pico."""
        its = self.counters(application_id, limit_id)
        return its["sw"] * PICO_PER_USD + its["sp"]


def now_ms() -> int:
    """Unix milliseconds."""
    return time.time_ns() // 1_000_000


def until(done: Any, patience_s: float, period_s: float = 0.1) -> None:
    """Wait until something holds; raises TimeoutError."""
    deadline = time.monotonic() + patience_s
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {patience_s} s")
        time.sleep(period_s)


def elsewhere(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on a loop of its own, beside the session's."""
    outcome: list[T] = []
    thread = threading.Thread(target=lambda: outcome.append(asyncio.run(work)))
    thread.start()
    thread.join()
    return outcome[0]


def children(pid: int) -> list[int]:
    """The processes a process has started itself."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


def server_pids(server: Server) -> list[int]:
    """A server and the processes it has started; none if it does not run."""
    if server.process is None or not server.alive():
        return []
    return [server.process.pid, *children(server.process.pid)]


def signal_all(pids: list[int], number: signal.Signals) -> None:
    """Signal processes; those that are gone are no matter."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def descriptors(pid: int) -> int:
    """How many files and sockets a process has open."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def resident_kb(pid: int) -> int:
    """How much memory a process has, in kB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


_decode_json = msgspec.json.decode


def charges_of(record: asyncpg.Record) -> list[list[Any]]:
    """[limit, epoch, unit, amount, state] of a row."""
    charges: list[list[Any]] = _decode_json(record["charges"])
    return charges
