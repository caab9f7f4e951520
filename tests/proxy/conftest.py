"""A data plane on a real Valkey and a real PostgreSQL, in front of a provider of the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import msgspec
import pytest

from metering.ledger import Ledger
from metering.redis import Redis
from metering.spool import Spool
from metering.store import Store, applications
from tests.builders import APPLICATION, NOW_MS
from tests.proxy.rig import SETTINGS, Rig

DATABASE = "test_proxy"


@pytest.fixture(scope="session")
async def store(postgres_dsn: str, template: str) -> AsyncIterator[Store]:
    """A store on a migrated database, for all tests here: they land no rows."""
    connection = await asyncpg.connect(postgres_dsn)
    await connection.execute(f"CREATE DATABASE {DATABASE} TEMPLATE {template}")
    store = await Store.open(postgres_dsn.replace("/postgres?", f"/{DATABASE}?"))
    await applications.create(store, APPLICATION, "proxy", NOW_MS)
    yield store
    await store.close()
    await connection.execute(f"DROP DATABASE {DATABASE} WITH (FORCE)")
    await connection.close()


@pytest.fixture
async def make_rig(
    store: Store, redis_url: str, tmp_path: Path
) -> AsyncIterator[Callable[..., Rig]]:
    """Makes the data plane of a worker with these settings, on an empty Redis."""
    async with AsyncExitStack() as stack:

        def make(transport: httpx.AsyncBaseTransport | None = None, **settings: Any) -> Rig:
            redis = Redis(redis_url, timeout_ms=1_000)
            stack.push_async_callback(redis.close)
            ledger = Ledger(redis, store, Spool(tmp_path / "spool", "test"), hold_ttl_ms=30_000)
            stack.push_async_callback(ledger.close)
            settled = msgspec.structs.replace(SETTINGS, **settings)
            return Rig(ledger, store, redis, settled, transport)

        yield make


@pytest.fixture
async def rig(make_rig: Callable[..., Rig]) -> Rig:
    """The data plane of one worker."""
    return make_rig()
