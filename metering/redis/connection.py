"""One pipelined connection per worker: what is asked in one tick of the loop travels together.

A `call` returns a future at once; a flusher writes everything that has gathered, a reader resolves
the futures in order. redis-py's own retries are off: they would run a script twice. A reply that
does not come within the deadline breaks the connection, and everything waiting on it fails with
`StoreAway`, or `OutcomeUnknown` where the command may have run.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence
from typing import Any

import hiredis
import redis.asyncio as aioredis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    ClusterDownError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)

from metering.errors import OutcomeUnknown, StoreAway
from metering.redis.scripts import SCRIPTS, Script

Argument = str | bytes | int
Reply = Any
NOT_NOW = (ClusterDownError, OutOfMemoryError, ReadOnlyError, TryAgainError)
NOT_NOW_WORDS = ("MISCONF", "BUSY", "NOREPLICAS")
"""What Redis answers, by exception or first word, when it is there but takes no writes."""


class Redis:
    """A worker's way to Redis. `client` is redis-py's own, for what is not on the hot path."""

    FAULTS = (RedisError, OSError)
    """What redis-py raises when Redis is away."""

    def __init__(self, url: str, timeout_ms: int) -> None:
        self._timeout_s = timeout_ms / 1000
        self.client: aioredis.Redis = aioredis.Redis.from_url(
            url,
            retry=Retry(NoBackoff(), 0),
            socket_connect_timeout=self._timeout_s,
            socket_timeout=30,
        )
        self._pool = aioredis.ConnectionPool.from_url(
            url,
            retry=Retry(NoBackoff(), 0),
            socket_connect_timeout=self._timeout_s,
            socket_timeout=None,  # the deadline is ours: a timer for every read costs too much
        )
        self._connection: AbstractConnection | None = None
        self._unsent: list[tuple[bytes, asyncio.Future[Reply]]] = []
        self._waiting: deque[asyncio.Future[Reply]] = deque()
        self._loaded = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._flushing = False
        self._oldest_at = 0.0
        self._retry_at = 0.0
        self._watch: asyncio.TimerHandle | None = None

    def call(self, *arguments: Argument) -> asyncio.Future[Reply]:
        """Send a command; the future gives the reply, or raises StoreAway or ResponseError."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Reply] = loop.create_future()
        self._unsent.append((hiredis.pack_command(arguments), future))  # type: ignore[arg-type]
        if not self._flushing:
            self._flushing = True
            self._spawn(self._flush())
        return future

    async def run(
        self, script: Script, keys: Sequence[str], arguments: Sequence[Argument]
    ) -> Reply:
        """Run a script; loads it and tries again if Redis does not know it (nothing ran then)."""
        try:
            return await self.call("EVALSHA", script.sha, len(keys), *keys, *arguments)
        except NoScriptError:
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

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _flush(self) -> None:
        """Write all that has gathered, until nothing has."""
        try:
            while self._unsent:
                connection = self._connection or await self._connect()
                batch, self._unsent = self._unsent, []
                if not self._waiting:
                    self._watch_out()
                self._waiting.extend(future for _, future in batch)
                packed = b"".join([command for command, _ in batch])
                await connection.send_packed_command(packed, check_health=False)
        except (RedisError, OSError, StoreAway) as error:
            self._break(error)
        finally:
            self._flushing = False

    async def _connect(self) -> AbstractConnection:
        loop = asyncio.get_running_loop()
        if loop.time() < self._retry_at:  # it was away a moment ago: fail at once, do not queue up
            raise StoreAway("Redis does not answer")
        self._retry_at = loop.time() + self._timeout_s
        connection: AbstractConnection = self._pool.make_connection()  # type: ignore[no-untyped-call]
        try:
            async with asyncio.timeout(self._timeout_s):
                await connection.connect()  # type: ignore[no-untyped-call]
                for script in () if self._loaded else SCRIPTS.values():
                    await connection.send_command("SCRIPT", "LOAD", script.text)
                    await connection.read_response()
        except (TimeoutError, RedisError, OSError) as error:
            await connection.disconnect(nowait=True)
            raise StoreAway("Redis does not answer") from error
        self._retry_at = 0.0
        self._connection = connection
        self._spawn(self._read(connection, self._waiting))
        return connection

    async def _read(
        self, connection: AbstractConnection, waiting: deque[asyncio.Future[Reply]]
    ) -> None:
        """Resolve the futures that wait on a connection in order, for as long as it lives.

        They are the connection's own: a late reply never answers what was asked on the next one.
        """
        loop = asyncio.get_running_loop()
        try:
            while True:
                try:
                    reply = await connection.read_response(disconnect_on_error=False)
                except ResponseError as error:
                    reply = _translated(error)
                future = waiting.popleft()
                self._oldest_at = loop.time()
                if future.done():
                    continue
                if isinstance(reply, Exception):
                    future.set_exception(reply)
                else:
                    future.set_result(reply)
        except (RedisError, OSError, IndexError) as error:
            if connection is self._connection:
                self._break(error)

    def _watch_out(self) -> None:
        """Start to watch for a reply that does not come."""
        loop = asyncio.get_running_loop()
        self._oldest_at = loop.time()
        if self._watch is None:
            self._watch = loop.call_later(self._timeout_s / 8, self._check)

    def _check(self) -> None:
        loop = asyncio.get_running_loop()
        self._watch = None
        if not self._waiting:
            return
        if loop.time() - self._oldest_at > self._timeout_s * 7 / 8:
            self._retry_at = loop.time() + self._timeout_s
            self._break(TimeoutError("no reply"))
        else:
            self._watch = loop.call_later(self._timeout_s / 8, self._check)

    def _break(self, error: BaseException) -> None:
        """Fail everything that waits and drop the connection."""
        connection, self._connection = self._connection, None
        waiting, self._waiting = self._waiting, deque()
        unsent, self._unsent = self._unsent, []
        for future in waiting:
            self._fail(future, OutcomeUnknown("Redis did not answer in time"), error)
        for _, future in unsent:
            self._fail(future, StoreAway("Redis does not answer"), error)
        if connection is not None:
            with contextlib.suppress(RuntimeError):  # no loop: the process is ending
                self._spawn(connection.disconnect(nowait=True))

    @staticmethod
    def _fail(future: asyncio.Future[Reply], fault: StoreAway, cause: BaseException) -> None:
        if not future.done():
            fault.__cause__ = cause
            future.set_exception(fault)


def _translated(error: ResponseError) -> Exception:
    """The fault of an error reply: a Redis that takes no writes now is as good as away."""
    if isinstance(error, NOT_NOW) or str(error).startswith(NOT_NOW_WORDS):
        fault = StoreAway("Redis takes no writes")
        fault.__cause__ = error
        return fault
    return error
