"""One pipelined connection per worker: what is asked in one tick of the loop travels together.

A `call` returns a future at once; what has gathered by the end of the tick is written as one, and
replies resolve the futures in order, without a task in between. redis-py connects, authenticates
and selects; then its socket is ours, because its own reading and writing cost a quarter of a call.
Nothing is retried here: a script would run twice. A reply that does not come within the deadline
breaks the connection, and everything waiting on it fails with `StoreAway`, or `OutcomeUnknown`
where the command may have run.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine, Sequence
from typing import Any, cast

import hiredis
import redis.asyncio as aioredis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from metering.errors import OutcomeUnknown, StoreAway
from metering.redis.scripts import SCRIPTS, Script

Argument = str | bytes | int
Reply = Any
NOTHING_YET = object()
TOGETHER_MAX = 4
"""So many commands do not wait for the end of the tick: Redis works while we do."""


class CommandRefused(StoreAway):
    """Redis refused a command; it wrote nothing."""


class UnknownScript(CommandRefused):
    """Redis does not know this script; nothing ran."""


def _refusal(text: str) -> CommandRefused:
    return UnknownScript(text) if text.startswith("NOSCRIPT") else CommandRefused(f"Redis: {text}")


class Redis:
    """A worker's way to Redis. `client` is redis-py's own, for what is not on the hot path."""

    FAULTS = (RedisError, OSError)
    """What redis-py raises when Redis is away."""

    def __init__(self, url: str, timeout_ms: int) -> None:
        """`timeout_ms` bounds a connect and the wait for a reply. Belongs to the running loop."""
        self._loop = asyncio.get_running_loop()  # kept: asking for it costs a system call
        self._timeout_s = timeout_ms / 1000
        options: dict[str, Any] = {
            "retry": Retry(NoBackoff(), 0),
            "socket_connect_timeout": self._timeout_s,
        }
        self.client: aioredis.Redis = aioredis.Redis.from_url(url, socket_timeout=30, **options)
        self._pool = aioredis.ConnectionPool.from_url(url, **options)
        self._connection: AbstractConnection | None = None
        self._transport: asyncio.Transport | None = None
        self._unsent: list[tuple[bytes, asyncio.Future[Reply]]] = []
        self._waiting: deque[asyncio.Future[Reply]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._flushing = False
        self._answered_at = 0.0
        self._retry_at = 0.0
        self._watch: asyncio.TimerHandle | None = None

    def call(self, *arguments: Argument) -> asyncio.Future[Reply]:
        """Send a command; the future gives the reply, or raises StoreAway."""
        loop = self._loop
        future: asyncio.Future[Reply] = loop.create_future()
        self._unsent.append((hiredis.pack_command(arguments), future))  # type: ignore[arg-type]
        if len(self._unsent) >= TOGETHER_MAX and self._transport is not None:
            self._write(self._transport)
        elif not self._flushing:
            self._flushing = True
            loop.call_soon(self._flush)
        return future

    async def run(
        self, script: Script, keys: Sequence[str], arguments: Sequence[Argument]
    ) -> Reply:
        """Run a script; loads it and tries again if Redis does not know it (nothing ran then)."""
        try:
            return await self.call("EVALSHA", script.sha, len(keys), *keys, *arguments)
        except UnknownScript:
            await self.call("SCRIPT", "LOAD", script.text)
            return await self.call("EVALSHA", script.sha, len(keys), *keys, *arguments)

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
        """Resolve the oldest waiting future; for the protocol that reads replies."""
        future = self._waiting.popleft()
        if future.done():
            return
        if isinstance(reply, CommandRefused):
            future.set_exception(reply)
        else:
            future.set_result(reply)

    def answered(self) -> None:
        """Note that Redis lives."""
        self._answered_at = self._loop.time()

    def lost(self, transport: asyncio.BaseTransport, error: BaseException | None) -> None:
        """The connection has ended."""
        if transport is self._transport:
            self._break(error or ConnectionResetError("Redis closed the connection"))

    # Sending

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
        if not self._waiting:
            self._watch_out()
        self._waiting.extend([future for _, future in batch])
        transport.write(b"".join([command for command, _ in batch]))

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
            await connection.send_command("SCRIPT", "LOAD", script.text)
            await connection.read_response()
        writer = connection._writer  # noqa: SLF001 - there is no public way to the socket
        transport = cast(asyncio.Transport, cast(asyncio.StreamWriter, writer).transport)
        transport.set_protocol(_Replies(self, transport))
        transport.resume_reading()
        self._connection, self._transport = connection, transport

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
        for future in waiting:
            _fail(future, OutcomeUnknown("Redis did not answer in time"), error)
        for _, future in unsent:
            _fail(future, StoreAway("Redis does not answer"), error)
        if transport is not None:
            transport.abort()
        if connection is not None:
            self._spawn(connection.disconnect(nowait=True))


def _fail(future: asyncio.Future[Reply], fault: StoreAway, cause: BaseException) -> None:
    if not future.done():
        fault.__cause__ = cause
        future.set_exception(fault)


class _Replies(asyncio.Protocol):
    """Reads replies straight from the socket."""

    def __init__(self, redis: Redis, transport: asyncio.Transport) -> None:
        self._redis = redis
        self._transport = transport
        self._reader = hiredis.Reader(notEnoughData=NOTHING_YET, replyError=_refusal)

    def data_received(self, data: bytes) -> None:
        """Resolve what has come."""
        reader, redis = self._reader, self._redis
        reader.feed(data)
        redis.answered()
        try:
            while (reply := reader.gets()) is not NOTHING_YET:
                redis.answer(reply)
        except (hiredis.HiredisError, IndexError):  # not the protocol, or nobody asked
            self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        """Redis, or we, ended it."""
        self._redis.lost(self._transport, error)
