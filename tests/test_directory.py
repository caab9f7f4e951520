"""The directory: what is remembered, for how long, and what it does when Postgres is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest

from metering import directory as module
from metering.directory import Directory
from metering.errors import StoreAway
from metering.redis import Redis
from metering.store import Store

NAME = ("limit", "application", "team")


class Shelf:
    """A place that is read, and may be away; `asked` counts how often."""

    def __init__(self) -> None:
        self.value: object = "first"
        self.away = False
        self.asked = 0
        self.meanwhile: Callable[[], None] = lambda: None

    async def read(self) -> object:
        """What is there now."""
        self.asked += 1
        value = self.value
        self.meanwhile()
        if self.away:
            await asyncio.sleep(60)
        return value


@pytest.fixture
async def names(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Directory]:
    """A directory that forgets at once, but goes on without asking for a while."""
    for setting, seconds in (("FOUND_S", 0.0), ("READ_S", 0.02), ("AWAY_S", 0.2)):
        monkeypatch.setattr(module, setting, seconds)
    redis = Redis("unix:///nowhere/redis.sock", timeout_ms=50)
    yield Directory(
        cast(Store, None),
        redis,
        pepper=b"",
        master_secret=b"",
        admin_key=None,
        default_application="",
        clock_ms=lambda: 0,
    )
    await redis.close()


async def find(names: Directory, shelf: Shelf, name: tuple[str, ...] = NAME) -> Any:
    """What the directory says."""
    return await names._find(name, shelf.read)


async def test_what_is_stale_is_used_while_nobody_answers(names: Directory) -> None:
    """One call waits to learn that Postgres is away; those after it go on with what they know."""
    shelf = Shelf()
    await find(names, shelf)
    shelf.away, shelf.value = True, "second"

    assert [await find(names, shelf) for _ in range(5)] == ["first"] * 5
    assert shelf.asked == 2

    shelf.away = False
    await asyncio.sleep(0.25)
    assert await find(names, shelf) == "second"


async def test_what_was_never_known_is_asked_for_and_faults(names: Directory) -> None:
    """There is nothing to go on with, so the call is answered 503."""
    shelf = Shelf()
    shelf.away = True

    for _ in range(2):
        with pytest.raises(StoreAway):
            await find(names, shelf)
    assert shelf.asked == 2


async def test_what_changes_while_it_is_read_is_not_remembered(
    names: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that is revoked at that moment does not live on for as long as one is remembered."""
    monkeypatch.setattr(module, "FOUND_S", 60.0)
    shelf = Shelf()
    shelf.meanwhile = lambda: names._forget("limit:application:team")
    await find(names, shelf)
    shelf.value, shelf.meanwhile = "second", lambda: None

    assert await find(names, shelf) == "second"
    shelf.value = "third"
    assert await find(names, shelf) == "second"  # remembered from now on
