"""A ledger on a real Valkey and a real PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from metering.ledger import Ledger
from metering.redis import Redis
from metering.spool import Spool
from metering.store import Store


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
