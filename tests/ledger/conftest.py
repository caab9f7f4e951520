"""A ledger on a real Valkey and a real PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from metering.core.limits import Limit
from metering.duties import Lease
from metering.duties.writer import Writer
from metering.ledger import Ledger
from metering.redis import Redis
from metering.redis.outbox import Outbox
from metering.spool import Spool
from metering.store import Store, applications, usage
from metering.store import limits as stored_limits
from tests.builders import APPLICATION, NOW_MS, limit


@pytest.fixture
async def store(database: str) -> AsyncIterator[Store]:
    """A store on a fresh database."""
    store = await Store.open(database)
    yield store
    await store.close()


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """A worker's connection to an empty Redis."""
    redis = Redis(redis_url, timeout_ms=2_000)
    yield redis
    await redis.close()


@pytest.fixture
async def ledger(redis: Redis, store: Store, tmp_path: Path) -> AsyncIterator[Ledger]:
    """A ledger with an empty journal."""
    ledger = Ledger(redis, store, Spool(tmp_path / "spool", "test"), hold_ttl_ms=30_000)
    yield ledger
    await ledger.close()


@pytest.fixture
async def writer(redis: Redis, store: Store) -> Writer:
    """Lands what is in the outbox; this month has its partition."""
    await applications.create(store, APPLICATION, "test", NOW_MS)
    await usage.ensure_partitions(store, NOW_MS)
    return Writer(Outbox(redis), store, Lease(redis, "writer", "test"))


@pytest.fixture
async def team(ledger: Ledger, store: Store, writer: Writer) -> Limit:
    """A limit, stored and live."""
    one = limit(usd=10)
    await stored_limits.create(store, one)
    await ledger.define(one)
    return one
