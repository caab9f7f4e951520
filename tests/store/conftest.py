"""A store on a fresh, migrated database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from metering.store import Store, applications, usage
from tests.store.samples import NOW_MS, request_id


@pytest.fixture
async def store(database: str) -> AsyncIterator[Store]:
    """A store whose usage has the partitions of NOW_MS."""
    store = await Store.open(database)
    await usage.ensure_partitions(store, NOW_MS)
    yield store
    await store.close()


@pytest.fixture
async def application_id(store: Store) -> str:
    """An application of its own."""
    made = await applications.create(store, request_id(), "acme", NOW_MS)
    return made.application_id


@pytest.fixture
async def empty_database(postgres_dsn: str) -> AsyncIterator[str]:
    """The URL of a database without any tables."""
    connection = await asyncpg.connect(postgres_dsn)
    await connection.execute("CREATE DATABASE empty_one TEMPLATE template0")
    yield urlunsplit(urlsplit(postgres_dsn)._replace(path="/empty_one"))
    await connection.execute("DROP DATABASE empty_one WITH (FORCE)")
    await connection.close()
