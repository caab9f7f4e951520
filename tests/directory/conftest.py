"""A store on a fresh, migrated database."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from metering.store import Store


@pytest.fixture
async def store(database: str) -> AsyncIterator[Store]:
    """A store."""
    store = await Store.open(database, connections=4)
    yield store
    await store.close()
