"""Postgres, where facts live: one `Store` over a pool, and a module of functions for each noun.

Every wait here is bounded. A store that does not answer raises StoreAway; the connection that did
not answer is dropped, never waited for, because asyncpg's own cancellation waits for the server.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from uuid import UUID

import asyncpg

from metering.errors import Conflict, InvalidRequest, StoreAway
from sql import queries

Record = asyncpg.Record
"""A row that came back: values by column name."""
if TYPE_CHECKING:
    Connection = asyncpg.pool.PoolConnectionProxy[asyncpg.Record]
    Pool = asyncpg.Pool[asyncpg.Record]

REFUSED_VALUES = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
)
"""What Postgres says of values it will never take, however often they are sent."""
AWAY = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # what asyncpg says while it takes in that the server hung up
    OSError,
    TimeoutError,
)
"""What it means that Postgres cannot be asked now."""
LOST = (TimeoutError, asyncio.CancelledError, asyncpg.InternalClientError)
"""After these nobody knows what a connection is doing: it is dropped."""
SETTINGS = {"application_name": "xproxy", "timezone": "UTC", "jit": "off"}
"""Of every connection; compiling costs more than our largest report saves."""


class ValueRefused(InvalidRequest):
    """The database does not accept this value."""


@contextmanager
def _translated() -> Iterator[None]:
    """Turn asyncpg's errors into ours, the cause kept."""
    try:
        yield
    except asyncpg.UniqueViolationError as error:
        raise Conflict from error
    except REFUSED_VALUES as error:
        raise ValueRefused from error
    except AWAY as error:
        raise StoreAway from error


async def _keep_session(_: object) -> None:
    """Nothing to undo when a connection goes back: all we ever set is local to a transaction."""


class Reader(NamedTuple):
    """A read-only transaction that sees whatever was committed before `as_of_ms`."""

    connection: Connection
    as_of_ms: int

    async def rows(self, name: str, *arguments: object) -> list[Record]:
        """All rows of a named query."""
        return await self.connection.fetch(queries[name], *arguments)


class Store:
    """A bounded pool of connections, and the ways to ask through it. Make one with `open`."""

    def __init__(
        self, pool: Pool, timeout_s: float, acting: tuple[str, str | None] | None = None
    ) -> None:
        self._pool = pool
        self._timeout_s = timeout_s
        self._acting = acting

    @classmethod
    async def open(cls, dsn: str, *, connections: int = 8, timeout_ms: int = 5_000) -> Self:
        """Connect to a DSN (`?host=/socket/folder` too); StoreAway if nobody answers.

        No statement, connect or wait for a free connection lasts longer than `timeout_ms`.
        """
        timeout_s = timeout_ms / 1000
        try:
            with _translated():
                pool = await asyncpg.create_pool(
                    dsn,
                    min_size=1,
                    max_size=connections,
                    timeout=timeout_s,
                    command_timeout=timeout_s,
                    max_inactive_connection_lifetime=60,
                    server_settings=SETTINGS,
                    reset=_keep_session,
                )
        except ValueError as error:  # of a DSN that cannot be read
            raise StoreAway from error
        return cls(pool, timeout_s)

    def acting(self, actor: str, tenant: str | None = None) -> Store:
        """The same store, for what somebody does: `actor` is a JSON object that says who.

        The audit log has it from there, see `sql/schema.sql`. With `tenant`, an application's id,
        row-level security confines everything to it, whatever is asked.
        """
        return Store(self._pool, self._timeout_s, (actor, tenant))

    async def close(self) -> None:
        """Close all connections; those in use for longer than the timeout are dropped."""
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """One connection, for statements that are transactions of their own."""
        with _translated():
            connection = await self._pool.acquire(timeout=self._timeout_s)
            try:
                yield connection
            except LOST:
                connection.terminate()
                raise
            finally:
                await self._pool.release(connection)

    @asynccontextmanager
    async def transaction(self, *, readonly: bool = False) -> AsyncIterator[Connection]:
        """One connection in a transaction; a read-only one sees a single moment."""
        async with self.connection() as connection:
            transaction = connection.transaction(
                isolation="repeatable_read" if readonly else "read_committed", readonly=readonly
            )
            await transaction.start()
            try:
                if self._acting is not None:
                    await connection.execute(queries["begin_acting"], *self._acting)
                yield connection
            except LOST:
                raise  # the connection is dropped, which rolls back without asking the server
            except BaseException:  # cancelled or not: nothing of it may stay
                await transaction.rollback()
                raise
            await transaction.commit()

    @asynccontextmanager
    async def reader(self, application_id: str | None) -> AsyncIterator[Reader]:
        """A read-only transaction that row-level security keeps to one application (None: all)."""
        async with self.transaction(readonly=True) as connection:
            if application_id is None:
                as_of_ms = await connection.fetchval(queries["begin_read"])
            else:
                as_of_ms = await connection.fetchval(queries["begin_tenant_read"], application_id)
            yield Reader(connection, as_of_ms)

    async def rows(self, name: str, *arguments: object) -> list[Record]:
        """All rows of a named query."""
        async with self._statement() as connection:
            return await connection.fetch(queries[name], *arguments)

    async def row(self, name: str, *arguments: object) -> Record | None:
        """The first row of a named query, if there is one."""
        async with self._statement() as connection:
            return await connection.fetchrow(queries[name], *arguments)

    async def value(self, name: str, *arguments: object) -> Any:
        """The first column of the first row of a named query; None if there is no row."""
        async with self._statement() as connection:
            return await connection.fetchval(queries[name], *arguments)

    def _statement(self) -> AbstractAsyncContextManager[Connection]:
        """A connection for one statement, which may change something."""
        return self.connection() if self._acting is None else self.transaction()


def as_uuid(text: str | None) -> UUID | None:
    """The UUID a caller wrote, or None: what is no UUID is the id of nothing."""
    try:
        return UUID(text or "")
    except ValueError:
        return None
