"""One connection per worker: what is asked while Redis is busy travels together.

A `call` returns a future at once. What has gathered by the end of the tick is written as one, or,
while Redis has enough to do, when it has replied: so under load it syncs its log to disk once for
many calls, and without load nothing waits. Runs of the scripts that take many calls (`each`) become
one run. Replies resolve the futures in order, without a task in between. redis-py
connects, authenticates and selects; then its socket is ours, because its own reading and writing
cost a quarter of a call. Nothing is retried here: a script would run twice. A reply that does not
come within the deadline breaks the connection, and everything waiting on it fails with `StoreAway`,
or `OutcomeUnknown` where the command may have run.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, cast

import hiredis
import redis.asyncio as aioredis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from metering.errors import OutcomeUnknown, StoreAway
from metering.redis.batch import Argument, Batch, Reply, Single, UnknownScript, pack, refusal
from metering.redis.scripts import SCRIPTS, Script

NOTHING_YET = object()
UNDER_WAY_MAX = 3
"""With so many commands and batches to do, Redis is busy: what comes next gathers. Fewer would let
it wait for us, more would make batches smaller."""


class Redis:
    """A worker's way to Redis. `client` is redis-py's own, for what is not on the hot path."""

    FAULTS = (RedisError, OSError)
    """What redis-py raises when Redis is away."""

    def __init__(self, url: str, timeout_ms: int, *, name: str = "") -> None:
        """`timeout_ms` bounds a connect and the wait for a reply. Belongs to the running loop.

        `name` is what Redis calls the connection (`CLIENT LIST`). StoreAway if the URL cannot be
        read.
        """
        self.name = name
        self.server = ""
        """The run id of the server that was connected to last; '': none yet, or it does not say."""
        self.on_other_server: Callable[[], None] = lambda: None
        """Called before anything is sent to another server, or the same one after a restart."""
        self._loop = asyncio.get_running_loop()  # kept: asking for it costs a system call
        self._timeout_s = timeout_ms / 1000
        options: dict[str, Any] = {
            "retry": Retry(NoBackoff(), 0),
            "socket_connect_timeout": self._timeout_s,
        }
        try:
            self.client: aioredis.Redis = aioredis.Redis.from_url(url, socket_timeout=30, **options)
            self._pool = aioredis.ConnectionPool.from_url(url, **options)
        except ValueError as error:
            raise StoreAway("the URL of Redis cannot be read") from error
        self._connection: AbstractConnection | None = None
        self._transport: asyncio.Transport | None = None
        self._unsent: list[Single | Batch] = []
        self._gathering: dict[tuple[str, str], Batch] = {}
        self._waiting: deque[Single | Batch] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._flushing = False
        self._answered_at = 0.0
        self._retry_at = 0.0
        self._watch: asyncio.TimerHandle | None = None

    def call(self, *arguments: Argument) -> asyncio.Future[Reply]:
        """Send a command; the future gives the reply, or raises StoreAway."""
        future: asyncio.Future[Reply] = self._loop.create_future()
        self._unsent.append(Single(pack(*arguments), future))
        if not self._flushing:
            self._flush_later()
        return future

    def each(
        self,
        script: Script,
        shared: tuple[str, ...],
        first: tuple[Argument, ...],
        keys: Iterable[str],
        arguments: Iterable[Argument],
    ) -> asyncio.Future[Reply]:
        """Have one call taken by a script that takes many, with what else gathers for it.

        `shared` and `first` are the keys and arguments that all calls of a shard have in common,
        and come first. The future gives the script's reply to this call, or raises StoreAway.
        """
        future: asyncio.Future[Reply] = self._loop.create_future()
        batch = self._gathering.get((script.name, shared[0]))
        if batch is None:
            batch = self._gathering[script.name, shared[0]] = Batch(script, shared, first)
            self._unsent.append(batch)
            if not self._flushing:
                self._flush_later()
        if batch.add(keys, arguments, future):
            del self._gathering[script.name, shared[0]]
        return future

    async def run(
        self, script: Script, keys: Sequence[str], arguments: Sequence[Argument]
    ) -> Reply:
        """Run a script; loads it and tries again if Redis does not know it (nothing ran then)."""
        try:
            return await self.call(*script.running, len(keys), *keys, *arguments)
        except UnknownScript:
            await self.call(*script.loading)
            return await self.call(*script.running, len(keys), *keys, *arguments)

    async def close(self) -> None:
        """Close every connection; what waits fails."""
        if self._watch is not None:
            self._watch.cancel()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._break(StoreAway("Redis is closed"))
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._pool.aclose()
        await self.client.aclose()

    def answer(self, reply: Reply) -> None:
        """Resolve what has waited longest; for the protocol that reads replies."""
        waiter = self._waiting.popleft()
        if isinstance(reply, UnknownScript) and isinstance(waiter, Batch) and not waiter.repeated:
            self._load_and_repeat(waiter)
        else:
            waiter.answer(reply)

    def answered(self) -> None:
        """Note that Redis lives, and send what has gathered meanwhile."""
        self._answered_at = self._loop.time()
        if self._unsent and len(self._waiting) < UNDER_WAY_MAX and self._transport is not None:
            self._write(self._transport)  # at once: Redis works on these while we do on those

    def lost(self, transport: asyncio.BaseTransport, error: BaseException | None) -> None:
        """The connection has ended."""
        if transport is self._transport:
            self._break(error or ConnectionResetError("Redis closed the connection"))

    # Sending

    def _flush_later(self) -> None:
        if len(self._waiting) < UNDER_WAY_MAX:  # else a reply that comes sends us on
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Write all that has gathered; connects first if there is no connection."""
        if self._transport is None:
            self._spawn(self._connect())
            return
        self._flushing = False
        if self._unsent:
            self._write(self._transport)

    def _write(self, transport: asyncio.Transport) -> None:
        batch, self._unsent = self._unsent, []
        self._gathering.clear()
        if not self._waiting:
            self._watch_out()
        self._waiting.extend(batch)
        transport.write(b"".join([it.command() for it in batch]))

    def _load_and_repeat(self, batch: Batch) -> None:
        """Redis has forgotten a script, so nothing ran: tell it again."""
        batch.repeated = True
        self._unsent += (batch.loading(self._loop.create_future()), batch)

    async def _connect(self) -> None:
        loop = self._loop
        connection: AbstractConnection | None = None
        try:
            self._check_breaker(loop.time())
            self._retry_at = loop.time() + self._timeout_s
            connection = self._pool.make_connection()  # type: ignore[no-untyped-call]
            async with asyncio.timeout(self._timeout_s):
                await self._handshake(connection)
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody may wait for ever
            if connection is not None:
                await connection.disconnect(nowait=True)
            self._flushing = False
            self._break(error)
            return
        self._retry_at = 0.0
        self._flush()

    def _check_breaker(self, now_s: float) -> None:
        if now_s < self._retry_at:  # away a moment ago: fail at once, do not queue up
            raise StoreAway("Redis does not answer")

    async def _handshake(self, connection: AbstractConnection) -> None:
        """Let redis-py connect, load the scripts, and take its socket over."""
        await connection.connect()  # type: ignore[no-untyped-call]
        for script in SCRIPTS.values():
            if not await self._knows(connection, script):
                await connection.send_command(*script.loading)
                await connection.read_response()
        if self.name:
            await _asked(connection, "CLIENT", "SETNAME", self.name)
        server = _run_id(await _asked(connection, "INFO", "server"))
        writer = connection._writer  # noqa: SLF001 - there is no public way to the socket
        transport = cast(asyncio.Transport, cast(asyncio.StreamWriter, writer).transport)
        transport.set_protocol(_Replies(self, transport))
        transport.resume_reading()
        self._connection, self._transport = connection, transport
        if server != self.server:
            self._other_server(server)

    @staticmethod
    async def _knows(connection: AbstractConnection, script: Script) -> bool:
        """Whether Redis has a library: loading it is written to its log, so once is enough."""
        if not script.function:
            return False
        listed = await _asked(connection, "FUNCTION", "LIST", "LIBRARYNAME", script.function)
        return bool(listed)

    def _other_server(self, server: str) -> None:
        """What is to be sent was meant for the one before, whose memory this one may not have."""
        before, self.server = self.server, server
        self.on_other_server()
        if before:
            unsent, self._unsent = self._unsent, []
            self._gathering.clear()
            for waiter in unsent:
                waiter.fail(StoreAway("Redis was restarted"), ConnectionResetError(server))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Deadlines and endings

    def _watch_out(self) -> None:
        """Start to watch for a reply that does not come."""
        loop = self._loop
        self._answered_at = loop.time()
        if self._watch is None:
            self._watch = loop.call_later(self._timeout_s / 8, self._check)

    def _check(self) -> None:
        loop = self._loop
        self._watch = None
        if not self._waiting:
            return
        if loop.time() - self._answered_at > self._timeout_s * 7 / 8:
            self._retry_at = loop.time() + self._timeout_s
            self._break(TimeoutError("no reply"))
        else:
            self._watch = loop.call_later(self._timeout_s / 8, self._check)

    def _break(self, error: BaseException) -> None:
        """Fail everything that waits and drop the connection."""
        transport, self._transport = self._transport, None
        connection, self._connection = self._connection, None
        waiting, self._waiting = self._waiting, deque()
        unsent, self._unsent = self._unsent, []
        self._gathering.clear()
        for waiter in waiting:
            waiter.fail(OutcomeUnknown("Redis did not answer in time"), error)
        for waiter in unsent:
            waiter.fail(StoreAway("Redis does not answer"), error)
        if transport is not None:
            transport.abort()
        if connection is not None:
            self._spawn(connection.disconnect(nowait=True))


async def _asked(connection: AbstractConnection, *command: str) -> Reply:
    """The reply to a command that an operator may have forbidden; None if so."""
    await connection.send_command(*command)
    try:
        return await connection.read_response()
    except ResponseError:
        return None


def _run_id(info: Reply) -> str:
    text = info.decode() if isinstance(info, bytes) else str(info or "")
    found = re.search(r"^run_id:(\w+)", text, re.MULTILINE)
    return found[1] if found else ""


class _Replies(asyncio.Protocol):
    """Reads replies straight from the socket."""

    def __init__(self, redis: Redis, transport: asyncio.Transport) -> None:
        self._redis = redis
        self._transport = transport
        self._reader = hiredis.Reader(notEnoughData=NOTHING_YET, replyError=refusal)

    def data_received(self, data: bytes) -> None:
        """Resolve what has come."""
        reader, redis = self._reader, self._redis
        reader.feed(data)
        try:
            while (reply := reader.gets()) is not NOTHING_YET:
                redis.answer(reply)
        except (hiredis.HiredisError, IndexError):  # not the protocol, or nobody asked
            self._transport.abort()
            return
        redis.answered()

    def connection_lost(self, error: Exception | None) -> None:
        """Redis, or we, ended it."""
        self._redis.lost(self._transport, error)
