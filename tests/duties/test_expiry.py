"""Bodies are deleted when their time has come, by one keeper, and their keys with them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest

from metering.core.bodies import Bodies
from metering.duties import Lease, expiry
from metering.duties.expiry import Expiry
from metering.keyring import Keyring
from metering.meter import Archive
from metering.meter.archive import DAY_MS
from metering.redis import Redis
from metering.store import Store, applications, bodies, secrets
from metering.vault import Vault
from tests.builders import APPLICATION, NOW_MS, request_id

MIDNIGHT_MS = NOW_MS // DAY_MS * DAY_MS
MASTER = "a-master-secret-" + "0" * 24


@pytest.fixture
async def store(database: str) -> AsyncIterator[Store]:
    """A store with the bodies of a call at the noon of each of six days."""
    store = await Store.open(database, connections=3)
    await applications.create(store, APPLICATION, "a", NOW_MS)
    vault = Vault(store, Keyring([MASTER]), os.urandom)
    await vault.prepare()
    said = Bodies(provider_request_json="hello")
    calls = {request_id(MIDNIGHT_MS + DAY_MS // 2 - n * DAY_MS): said for n in range(6)}
    await Archive(30, vault, os.urandom).keep(store, APPLICATION, calls, MIDNIGHT_MS)
    yield store
    await store.close()


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """A connection."""
    redis = Redis(redis_url, 5_000)
    yield redis
    await redis.close()


def duty(store: Store, redis: Redis, days: int, at_ms: int, name: str = "one") -> Expiry:
    """A keeper's, at a time."""
    return Expiry(store, Lease(redis, "expiry", name), days, lambda: at_ms)


async def left(store: Store) -> tuple[int, int]:
    """How many bodies there are, and keys of theirs."""
    async with store.connection() as connection:
        count: int = await connection.fetchval("SELECT count(*) FROM bodies")
    return count, len([it for it in await secrets.read(store) if it.startswith("bodies ")])


@pytest.mark.parametrize(
    ("days", "after_ms", "expected"),
    [
        (30, 0, (6, 6)),
        (5, DAY_MS // 2, (6, 6)),  # the oldest is five days old, and not older
        (5, DAY_MS // 2 + 1, (5, 6)),
        (3, DAY_MS // 2 + 1, (3, 5)),  # a key lives a day longer than what it sealed
        (3, DAY_MS, (3, 4)),
        (0, DAY_MS // 2 + 1, (0, 2)),
        (0, 2 * DAY_MS, (0, 0)),
    ],
)
async def test_what_is_due_goes(
    store: Store, redis: Redis, days: int, after_ms: int, expected: tuple[int, int]
) -> None:
    """To the millisecond; our other keys stay, whatever happens."""
    await duty(store, redis, days, MIDNIGHT_MS + after_ms).step()
    assert await left(store) == expected
    assert {"key pepper", "cursors"} <= (await secrets.read(store)).keys()


async def test_many_go_in_batches(
    store: Store, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One step takes them all, a few at a time."""
    batches: list[int] = []
    delete = bodies.expire

    async def counted(store: Store, before_ms: int, most: int) -> int:
        batches.append(await delete(store, before_ms, most))
        return batches[-1]

    monkeypatch.setattr(expiry, "BATCH", 2)
    monkeypatch.setattr(bodies, "expire", counted)
    await duty(store, redis, 0, MIDNIGHT_MS + DAY_MS).step()
    assert batches == [2, 2, 2, 0]
    assert (await left(store))[0] == 0


async def test_one_keeper_does_it(store: Store, redis: Redis) -> None:
    """Of several, the one that has the lease."""
    first = duty(store, redis, 30, MIDNIGHT_MS)
    await first.step()
    await duty(store, redis, 0, MIDNIGHT_MS + DAY_MS, "two").step()
    assert (await left(store))[0] == 6


async def test_the_days_may_be_any_number(store: Store, redis: Redis) -> None:
    """Of more days than there have been, nothing is due."""
    await duty(store, redis, 36_500, MIDNIGHT_MS).step()
    assert await left(store) == (6, 6)
