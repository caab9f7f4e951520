"""A database that is slow, frozen or gone costs a bounded wait, and says StoreAway."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from metering.errors import Conflict, StoreAway
from metering.store import Store, applications, usage
from metering.store.migrations import migrate
from tests.store.samples import NOW_MS, landed, request_id

TIMEOUT_MS = 300
BOUND_S = 1.0


@pytest.fixture
async def impatient(database: str) -> AsyncIterator[Store]:
    """A store of two connections that waits 300 ms."""
    store = await Store.open(database, connections=2, timeout_ms=TIMEOUT_MS)
    yield store
    await store.close()


async def processes(store: Store) -> list[int]:
    """The server's processes: its parent first."""
    async with store.connection() as connection:
        data = await connection.fetchval("SHOW data_directory")
    postmaster = psutil.Process(int((Path(data) / "postmaster.pid").read_text().split()[0]))
    return [postmaster.pid, *(child.pid for child in postmaster.children(recursive=True))]


def send(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):  # one that vacuums may have just ended
            os.kill(pid, number)


@asynccontextmanager
async def frozen(store: Store) -> AsyncIterator[None]:
    """Stop every process of the server, as a hung disk or a paused machine does."""
    pids = await processes(store)
    send(pids, signal.SIGSTOP)
    try:
        yield
    finally:
        send(pids, signal.SIGCONT)


async def test_a_frozen_server_costs_the_timeout(impatient: Store) -> None:
    """Each kind of statement gives up in time on a server that holds the line but says nothing."""
    application_id = request_id()
    asks: dict[str, Callable[[], Awaitable[object]]] = {
        "row": lambda: applications.get(impatient, application_id),
        "insert": lambda: usage.insert(impatient, [landed(application_id)]),
        "reader": lambda: usage.query(impatient, usage.Filters(application_id=application_id)),
    }
    for name, ask in asks.items():
        await ask()
        async with frozen(impatient):
            began = time.monotonic()
            with pytest.raises(StoreAway) as caught:
                await ask()
            assert time.monotonic() - began < BOUND_S, name
            assert isinstance(caught.value.__cause__, TimeoutError)
    assert await usage.insert(impatient, [landed(application_id)]) == 1, "it thaws, and all is well"


async def test_a_frozen_transaction_costs_one_timeout(impatient: Store) -> None:
    """Neither rolling back nor giving the connection back waits for the server again."""
    pids = await processes(impatient)

    async def freeze_halfway() -> None:
        async with impatient.transaction() as connection:
            await connection.execute("SELECT 1")
            send(pids, signal.SIGSTOP)
            await connection.execute("SELECT 2")

    began = time.monotonic()
    try:
        with pytest.raises(StoreAway):
            await freeze_halfway()
        assert time.monotonic() - began < BOUND_S
    finally:
        send(pids, signal.SIGCONT)


async def test_a_caller_who_gives_up_is_let_go(impatient: Store) -> None:
    """Cancelling a statement on a frozen server returns at once: nobody waits for the server."""
    await applications.by_name(impatient, "x")
    async with frozen(impatient):
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await applications.by_name(impatient, "x")
        assert time.monotonic() - began < TIMEOUT_MS / 1000


async def test_connecting_to_a_frozen_server_costs_the_timeout(
    impatient: Store, database: str
) -> None:
    """Opening a store is bounded too."""
    async with frozen(impatient):
        began = time.monotonic()
        with pytest.raises(StoreAway):
            await Store.open(database, timeout_ms=TIMEOUT_MS)
        assert time.monotonic() - began < BOUND_S


async def test_waiting_for_a_connection_is_bounded(impatient: Store) -> None:
    """More callers than connections wait in line, for as long as a statement may last."""
    async with impatient.connection(), impatient.connection():
        began = time.monotonic()
        with pytest.raises(StoreAway):
            await applications.by_name(impatient, "x")
        assert time.monotonic() - began < BOUND_S
    assert await applications.by_name(impatient, "x") is None


async def test_many_callers_share_few_connections(impatient: Store) -> None:
    """A burst is served in turn."""
    found = await asyncio.gather(*(applications.by_name(impatient, "x") for _ in range(50)))
    assert found == [None] * 50


@pytest.mark.parametrize(
    "dsn",
    ["postgresql://postgres@127.0.0.1:1/postgres", "postgresql://postgres@/postgres?host=/nowhere"],
    ids=["port", "socket"],
)
async def test_nobody_there(dsn: str) -> None:
    """A server that is not there is StoreAway, with the reason as its cause."""
    with pytest.raises(StoreAway) as caught:
        await Store.open(dsn, timeout_ms=TIMEOUT_MS)
    assert isinstance(caught.value.__cause__, OSError)
    with pytest.raises(StoreAway):
        await migrate(dsn)


async def test_a_lost_connection_is_replaced(impatient: Store) -> None:
    """The statement on a connection that dies fails once; the next one gets a new connection."""
    async with impatient.connection() as connection:
        pid = await connection.fetchval("SELECT pg_backend_pid()")
    async with impatient.connection() as one, impatient.connection() as other:
        pids = {await one.fetchval("SELECT pg_backend_pid()"): one}
        pids[await other.fetchval("SELECT pg_backend_pid()")] = other
        killer = next(connection for number, connection in pids.items() if number != pid)
        await killer.execute("SELECT pg_terminate_backend($1)", pid)
    failures = 0
    for n in range(4):
        try:
            await applications.create(impatient, request_id(), f"app-{n}", NOW_MS)
        except StoreAway:
            failures += 1
    assert failures <= 1


async def test_a_closed_store_is_away(database: str) -> None:
    """Asking a closed store fails as any other absence does."""
    store = await Store.open(database)
    await store.close()
    with pytest.raises(StoreAway):
        await applications.by_name(store, "x")


async def test_closing_does_not_wait_for_the_stuck(database: str) -> None:
    """A statement that hangs is dropped when the store closes."""
    store = await Store.open(database, timeout_ms=TIMEOUT_MS)

    async def sleep() -> None:
        async with store.connection() as connection:
            await connection.execute("SELECT pg_sleep(30)", timeout=30)

    stuck = asyncio.create_task(sleep())
    await asyncio.sleep(0.05)
    began = time.monotonic()
    await store.close()
    with pytest.raises(StoreAway):
        await stuck
    assert time.monotonic() - began < BOUND_S


async def test_what_callers_do_wrong_is_no_absence(store: Store, application_id: str) -> None:
    """Faults of a value keep their own names: a retry would not help."""
    with pytest.raises(Conflict) as caught:
        async with store.connection() as connection:
            await connection.execute(
                "INSERT INTO applications SELECT * FROM applications WHERE application_id = $1",
                application_id,
            )
    assert not isinstance(caught.value, StoreAway)
