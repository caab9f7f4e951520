"""The pipelined connection on a real Valkey: order, deadlines, and what a fault leaves behind."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from metering.errors import OutcomeUnknown, StoreAway
from metering.redis import SCRIPTS, Redis

DEADLINE_MS = 100


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """A connection that is not patient."""
    redis = Redis(redis_url, timeout_ms=DEADLINE_MS)
    await redis.call("PING")
    yield redis
    await redis.close()


async def pause(redis: Redis, ms: int) -> None:
    """Let Redis answer nobody for a while; what it is asked meanwhile it does later."""
    await redis.call("CLIENT", "PAUSE", ms, "ALL")


async def outcome(work: Any) -> object:
    """What came of it, an exception too."""
    results: list[object] = await asyncio.gather(work, return_exceptions=True)
    return results[0]


async def test_replies_come_in_the_order_of_what_was_asked(redis: Redis) -> None:
    """Ten thousand calls of many ticks, each with the answer to its own question."""

    async def ask(number: int) -> bool:
        await asyncio.sleep(number % 7 / 1000)
        return bool(await redis.call("ECHO", number) == str(number).encode())

    assert all(await asyncio.gather(*(ask(number) for number in range(10_000))))


async def test_no_reply_in_time_leaves_the_outcome_unknown(redis: Redis) -> None:
    """Those who waited are told so soon; those who come next are told at once; then all is well."""
    await pause(redis, 600)
    began_s = time.monotonic()
    first = await asyncio.gather(*(outcome(redis.call("INCR", "n")) for _ in range(50)))
    waited_s = time.monotonic() - began_s
    began_s = time.monotonic()
    second = [await outcome(redis.call("INCR", "n")) for _ in range(50)]
    then_s = time.monotonic() - began_s
    await asyncio.sleep(0.7)

    assert {type(it) for it in first} == {OutcomeUnknown}
    assert waited_s < 0.2
    assert all(isinstance(it, StoreAway) for it in second)
    assert then_s < 0.2
    assert int(await redis.call("GET", "n") or 0) <= 50  # done late, perhaps, but by nobody twice
    echoes = await asyncio.gather(*(redis.call("ECHO", number) for number in range(100)))
    assert echoes == [str(number).encode() for number in range(100)]


async def test_who_gives_up_waiting_disturbs_nobody(redis: Redis) -> None:
    """A cancelled caller's reply is thrown away, not given to the next."""
    calls = [redis.call("ECHO", number) for number in range(100)]
    for call in calls[::2]:
        call.cancel()

    replies = await asyncio.gather(*calls[1::2])

    assert replies == [str(number).encode() for number in range(1, 100, 2)]
    assert await redis.call("ECHO", "next") == b"next"


async def test_a_dropped_connection_is_made_again(redis: Redis) -> None:
    """Killed by the server, it is replaced at the next call; scripts too are there again."""
    killer = redis.client
    for _ in range(3):
        await killer.client_kill_filter(_type="normal", skipme=True)
        await killer.script_flush()
        await outcome(redis.call("PING"))
        reply = await redis.run(SCRIPTS["lease"], ["lease"], ["me", 1000])
        assert reply == 1


async def test_nobody_waits_for_ever(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even when connecting fails in a way that nobody thought of."""
    await outcome(redis.call("QUIT"))
    with monkeypatch.context() as patched:
        patched.setattr(redis._pool, "make_connection", lambda: 1 / 0)
        async with asyncio.timeout(1):
            assert isinstance(await outcome(redis.call("PING")), StoreAway)

    await asyncio.sleep(1.5 * DEADLINE_MS / 1000)  # it fails at once for as long as the deadline
    assert await redis.call("PING")


async def test_a_redis_that_takes_no_writes_is_as_good_as_away(redis: Redis) -> None:
    """Full, read-only or loading: a fault that is retried, never one that is taken for a bug."""
    await redis.call("CONFIG", "SET", "maxmemory", 1)
    try:
        with pytest.raises(StoreAway, match="OOM"):
            await redis.run(SCRIPTS["lease"], ["lease"], ["me", 1000])
    finally:
        await redis.call("CONFIG", "SET", "maxmemory", 0)
