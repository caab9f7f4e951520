"""Fixtures for all tests: real stores on sockets, fresh databases, recordings, a clean shell."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any, Literal, cast

import asyncpg
import msgspec
import pytest
import uvloop
from redis import Redis

from metering.embedded import Stores
from metering.settings import Settings, variable
from metering.store.migrations import migrate

ROOT = Path(__file__).parent.parent
RECORDINGS = Path(os.environ.get("XPROXY_RECORDINGS") or ROOT / "../shared/recordings")
TEMPLATE = "xproxy_template"
SIZES = ("ci", "full", "soak")

for field in msgspec.structs.fields(Settings):  # no test may depend on the shell it runs in
    os.environ.pop(variable(field.name), None)


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], Any]]:
    """Tests run on the loop the service runs on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """(database URL, Redis URL) of one PostgreSQL and one Valkey for the whole session."""
    options = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")
    stores = Stores(tmp_path_factory.mktemp("stores"), postgres_options=options)
    yield stores.start()
    stores.stop()


@pytest.fixture(scope="session")
def postgres_dsn(stores: tuple[str, str]) -> str:
    """The server's maintenance database: for `CREATE DATABASE` and the like."""
    return stores[0]


@pytest.fixture(scope="session")
async def template(postgres_dsn: str) -> str:
    """The name of a migrated database that every test's own is cloned from."""
    await _execute(postgres_dsn, f"CREATE DATABASE {TEMPLATE}")
    await migrate(_dsn(postgres_dsn, TEMPLATE))
    return TEMPLATE


_numbers = count(1)


@pytest.fixture
async def database(postgres_dsn: str, template: str) -> AsyncIterator[str]:
    """The URL of a fresh, migrated database of this test's own."""
    name = f"test_{next(_numbers)}"
    await _execute(postgres_dsn, f"CREATE DATABASE {name} TEMPLATE {template}")
    yield _dsn(postgres_dsn, name)
    await _execute(postgres_dsn, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def redis_url(stores: tuple[str, str]) -> str:
    """The URL of an empty Redis."""
    with Redis.from_url(stores[1]) as redis:
        redis.flushall()
        redis.script_flush()
        redis.function_flush()
    return stores[1]


@pytest.fixture(scope="session")
def recordings() -> Path:
    """The folder of recorded provider traffic; skips, saying so, where there is none."""
    if not RECORDINGS.is_dir():
        pytest.skip(f"no recordings in {RECORDINGS}; set XPROXY_RECORDINGS to their folder")
    return RECORDINGS


@pytest.fixture(scope="session")
def size() -> Literal["ci", "full", "soak"]:
    """How much a long test should do: `XPROXY_TEST_SIZE`, by default what fits in CI."""
    size = os.environ.get("XPROXY_TEST_SIZE", "ci")
    assert size in SIZES, f"XPROXY_TEST_SIZE is one of {SIZES}"
    return cast(Literal["ci", "full", "soak"], size)


def _dsn(postgres_dsn: str, name: str) -> str:
    return postgres_dsn.replace("/postgres?", f"/{name}?")


async def _execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
