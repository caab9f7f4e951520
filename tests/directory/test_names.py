"""Names: what is remembered where, for how long, and what happens when a store is away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from metering.directory import names as module
from metering.directory.names import UNKNOWN, Names
from metering.directory.shared import Found
from metering.errors import StoreAway
from metering.redis import Redis, keys
from tests.directory.shelf import Shelf

NAME = "limit:application:team"
NOWHERE = "unix:///nowhere/redis.sock"
Make = Callable[[str], Names]


def wall_ms() -> int:
    """Unix milliseconds."""
    return time.time_ns() // 1_000_000


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    """Makes workers' names, each with a connection of its own."""
    made: list[Redis] = []

    def one(url: str, pepper: bytes = b"pepper") -> Names:
        made.append(Redis(url, timeout_ms=200))
        return Names(made[-1], pepper, wall_ms, lambda _: None)

    yield one
    for redis in made:
        await redis.close()


@pytest.fixture
async def names(make: Make, monkeypatch: pytest.MonkeyPatch) -> Names:
    """Names without a Redis, which forget at once, but go on without asking for a while."""
    for setting, seconds in (("FOUND_S", 0.0), ("READ_S", 0.02), ("AWAY_S", 0.2)):
        monkeypatch.setattr(module, setting, seconds)
    return make(NOWHERE)


async def find(names: Names, shelf: Shelf, name: str = NAME, **how: Any) -> Any:
    """What a worker finds, sharing it with others."""
    return await names.find(name, shelf.read, str, **how)


async def entry(redis_url: str, name: str = NAME) -> bytes | None:
    """What Redis has of a name."""
    redis = Redis(redis_url, 200)
    try:
        found: bytes | None = await redis.call("GET", keys.definition(name))
        return found
    finally:
        await redis.close()


async def listening(names: Names) -> asyncio.Task[None]:
    """A worker that hears of changes, from now on."""
    heard = asyncio.Event()
    names._heard = lambda _: heard.set()
    task = asyncio.create_task(names.listen())
    await heard.wait()
    return task


async def until(done: Callable[[], bool], patience_s: float = 2) -> None:
    """Wait for something to become true."""
    async with asyncio.timeout(patience_s):
        while not done():
            await asyncio.sleep(0.005)


# Postgres away


async def test_what_is_stale_is_used_while_nobody_answers(names: Names) -> None:
    """One call waits to learn that Postgres is away; those after it go on with what they know."""
    shelf = Shelf()
    await find(names, shelf)
    shelf.away, shelf.value = True, "second"

    assert [await find(names, shelf) for _ in range(5)] == ["first"] * 5
    assert shelf.asked == 2

    shelf.away = False
    await asyncio.sleep(0.25)
    assert await find(names, shelf) == "second"


async def test_what_was_never_known_is_asked_for_and_faults(names: Names) -> None:
    """There is nothing to go on with, so the call is answered 503."""
    shelf = Shelf()
    shelf.away = True

    for _ in range(2):
        with pytest.raises(StoreAway):
            await find(names, shelf)
    assert shelf.asked == 2


async def test_what_another_worker_knew_is_enough(
    make: Make, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Postgres is away, and this worker has never seen the key: it is in Redis, however old. Once
    it is known that nobody answers, no call waits, for this name or another."""
    monkeypatch.setattr(module, "READ_S", 0.05)
    shelf = Shelf()
    await find(make(redis_url), shelf)
    await find(make(redis_url), shelf, NAME + "2")
    monkeypatch.setattr(module, "FOUND_S", 0.0)
    shelf.away = True
    theirs = make(redis_url)

    assert await find(theirs, shelf) == "first"
    asked = shelf.asked
    for _ in range(3):
        assert await find(theirs, shelf) == "first"
        assert await find(theirs, shelf, NAME + "2") == "first"
    assert shelf.asked == asked


async def test_many_who_want_a_name_ask_once(make: Make) -> None:
    """A thousand calls find at the same moment that what they know is too old: one asks for all;
    if nobody answers, all are told. Who comes after a change takes nothing asked before it."""
    shelf = Shelf()
    names = make(NOWHERE)

    async def nap() -> None:
        await asyncio.sleep(0.05)

    shelf.meanwhile = nap
    found = await asyncio.gather(*(find(names, shelf) for _ in range(1_000)))
    assert (set(found), shelf.asked) == ({"first"}, 1)

    names._forget(NAME)
    before = asyncio.ensure_future(find(names, shelf))
    await asyncio.sleep(0.02)
    shelf.value = "second"
    names._forget(NAME)
    assert await find(names, shelf) == "second"
    assert await before == "first"

    shelf.away = True
    faults = await asyncio.gather(
        *(find(names, shelf, "another") for _ in range(100)), return_exceptions=True
    )
    assert {type(it) for it in faults} == {StoreAway}
    assert shelf.asked == 4
    assert names._asking == {}


# Redis between


async def test_workers_share_what_one_has_read(make: Make, redis_url: str) -> None:
    """Postgres is asked once for all of them; memory is asked first, then Redis."""
    shelf = Shelf()
    ours, theirs = make(redis_url), make(redis_url)

    assert await find(ours, shelf) == await find(theirs, shelf) == "first"
    assert ours.kept(NAME) == theirs.kept(NAME) == "first"
    assert shelf.asked == 1


async def test_what_must_stay_in_this_process_is_not_shared(make: Make, redis_url: str) -> None:
    """Without a type to share it as, nothing of it is in Redis."""
    shelf = Shelf()
    assert await make(redis_url).find(NAME, shelf.read) == "first"
    assert await entry(redis_url) is None


async def test_what_does_not_exist_is_not_shared(make: Make, redis_url: str) -> None:
    """Whoever asks for a lot that is not there fills no Redis, and drives nothing out of memory."""
    shelf = Shelf()
    names = make(redis_url)
    await find(names, shelf)
    shelf.value = None
    for number in range(module.MISSING_MAX + 50):
        names._keep(f"key:{number}", Found(1, None, None), 5, names._changes)
    assert await find(names, shelf, "key:none") is None
    assert await find(names, shelf, "key:none") is None

    assert shelf.asked == 2
    assert await entry(redis_url, "key:none") is None
    assert names.kept(NAME) == "first"
    assert len(names._missing) == module.MISSING_MAX


async def test_age_is_counted_from_postgres(
    make: Make, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was found in Redis is not young again: all tiers together keep it for one lifetime."""
    monkeypatch.setattr(module, "FOUND_S", 0.4)
    shelf = Shelf()
    ours, theirs = make(redis_url), make(redis_url)
    began_s = time.monotonic()
    await find(ours, shelf)
    await asyncio.sleep(0.25)
    assert await find(theirs, shelf) == "first"
    shelf.value = "second"
    await until(lambda: theirs.kept(NAME) is UNKNOWN)
    assert time.monotonic() - began_s < 0.6

    assert await find(theirs, shelf) == "second"


async def test_what_ends_by_itself_is_not_kept_beyond(make: Make, redis_url: str) -> None:
    """An expired key is forgotten everywhere at its end, and asked for like one that never was."""
    shelf = Shelf()
    names = make(redis_url)
    ends_ms = wall_ms() + 150
    await find(names, shelf, ends_ms=lambda _: ends_ms)
    assert await entry(redis_url) is not None
    await asyncio.sleep(0.2)

    assert names.kept(NAME) is UNKNOWN
    assert await entry(redis_url) is None


@pytest.mark.parametrize("how", ["pepper", "topic", "stamp", "shape", "garbage"])
async def test_what_others_wrote_is_not_believed(make: Make, redis_url: str, how: str) -> None:
    """Who can write to Redis makes no keys: entries are signed, with their name and their time."""
    shelf = Shelf()
    secret = b"another" if how == "pepper" else b"pepper"
    await make(redis_url, secret).find(  # type: ignore[call-arg]
        NAME + "2" if how == "topic" else NAME, shelf.read, Any
    )
    redis = Redis(redis_url, 200)
    written: bytes = await redis.call(
        "GET", keys.definition(NAME + ("2" if how == "topic" else ""))
    )
    if how == "stamp":
        written = b"9" + written
    forged = b"1:2:3" if how == "garbage" else written
    await redis.call("SET", keys.definition(NAME), forged)
    await redis.close()
    shelf.value = "truth" if how != "shape" else 7

    found = await make(redis_url).find(NAME, shelf.read, int if how == "shape" else str)

    assert found == shelf.value


# Changes


async def test_a_change_reaches_every_worker(make: Make, redis_url: str) -> None:
    """Whoever has it in memory forgets it as soon as it is told, and Redis has it no more."""
    shelf = Shelf()
    ours, theirs = make(redis_url), make(redis_url)
    task = await listening(theirs)
    await find(theirs, shelf)
    shelf.value = "second"
    began_s = time.monotonic()
    await ours.changed(NAME)
    await until(lambda: theirs.kept(NAME) is UNKNOWN)

    assert time.monotonic() - began_s < 0.5
    assert await find(theirs, shelf) == await find(ours, shelf) == "second"
    task.cancel()


async def test_everything_can_change_at_once(make: Make, redis_url: str) -> None:
    """An application that is deleted takes all of its names along, in Redis too."""
    shelf = Shelf()
    ours, theirs = make(redis_url), make(redis_url)
    await find(ours, shelf)
    await theirs.changed(keys.EVERYTHING)
    shelf.value = None

    assert await find(make(redis_url), shelf) is None
    shelf.value = "again"
    assert await find(make(redis_url), shelf) == "again"
    assert await find(make(redis_url), Shelf()) == "again"  # shared, as ever


@pytest.mark.parametrize("pause_s", [0.0, 0.05, 0.3])
async def test_a_slow_reader_does_not_bring_back_what_was_revoked(
    make: Make, redis_url: str, monkeypatch: pytest.MonkeyPatch, pause_s: float
) -> None:
    """It read before the change and writes after it, however much later: nobody finds what it
    read, in its memory or in Redis."""
    monkeypatch.setattr(module, "READ_S", 10.0)
    shelf = Shelf()
    slow, changer = make(redis_url), make(redis_url)
    task = await listening(slow)

    async def meanwhile() -> None:
        shelf.value = None
        await changer.changed(NAME)
        await asyncio.sleep(pause_s)

    shelf.meanwhile = meanwhile
    assert await find(slow, shelf) == "first"  # it began before
    shelf.meanwhile = None

    assert await find(slow, shelf) is None
    assert await find(make(redis_url), shelf) is None
    assert b":" not in (await entry(redis_url) or b"")
    task.cancel()


async def test_a_reader_that_hears_nothing_does_not_bring_it_back(
    make: Make, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own memory has what it read, until that is too old; the other workers never see it."""
    monkeypatch.setattr(module, "READ_S", 10.0)
    shelf = Shelf()
    deaf, changer = make(redis_url), make(redis_url)

    async def meanwhile() -> None:
        shelf.value = "second"
        await changer.changed(NAME)
        await find(changer, shelf_of("second"))

    shelf.meanwhile = meanwhile
    assert await find(deaf, shelf) == "first"
    shelf.meanwhile = None

    assert await find(make(redis_url), shelf_of("from Postgres")) == "second"


def shelf_of(value: object) -> Shelf:
    """A place with this in it."""
    shelf = Shelf()
    shelf.value = value
    return shelf


async def test_readers_and_changes_at_once(make: Make, redis_url: str) -> None:
    """However readers and changes interleave, the last change is what everybody finds."""
    shelf = Shelf()
    workers = [make(redis_url) for _ in range(4)]
    tasks = [await listening(it) for it in workers]

    async def nap() -> None:
        await asyncio.sleep(shelf.asked % 5 / 1_000)

    async def reads(names: Names) -> None:
        for _ in range(60):
            await find(names, shelf)
            await asyncio.sleep(0)

    async def changes(names: Names) -> None:
        for number in range(30):
            shelf.value = f"{number}"
            await names.changed(NAME)
            await asyncio.sleep(0.002)

    shelf.meanwhile = nap
    works: list[Awaitable[None]] = [reads(it) for it in workers]
    await asyncio.gather(*works, changes(workers[0]))
    await asyncio.sleep(0.05)
    shelf.meanwhile = None

    assert [await find(it, shelf) for it in workers] == ["29"] * 4
    assert await find(make(redis_url), shelf_of("Postgres")) in ("29", "Postgres")
    for task in tasks:
        task.cancel()


async def test_what_changes_while_it_is_read_is_not_remembered(make: Make) -> None:
    """A key that is revoked at that moment does not live on for as long as one is remembered."""
    names = make(NOWHERE)
    shelf = Shelf()

    async def meanwhile() -> None:
        names._forget(NAME)

    shelf.meanwhile = meanwhile
    await find(names, shelf)
    shelf.value, shelf.meanwhile = "second", None

    assert await find(names, shelf) == "second"
    shelf.value = "third"
    assert await find(names, shelf) == "second"  # remembered from now on


async def test_a_change_that_redis_did_not_take_is_told_later(
    make: Make, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis was away when a key was revoked: when it is back it learns of it, so that not even a
    worker that can ask nobody else finds the key."""
    shelf = Shelf()
    changer = make(redis_url)
    await find(changer, shelf)
    away = Redis(NOWHERE, 50)
    monkeypatch.setattr(changer._shared, "_redis", away)
    await changer.changed(NAME)
    assert b":" in (await entry(redis_url) or b"")

    back = Redis(redis_url, 200)
    monkeypatch.setattr(changer._shared, "_redis", back)
    await changer.retell()
    await changer.retell()

    assert b":" not in (await entry(redis_url) or b"")
    assert changer._untold == set()
    for redis in (away, back):
        await redis.close()


async def test_what_is_gone_is_wiped_from_redis_by_who_finds_out(
    make: Make, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody could tell Redis, and who knew is dead: the first who asks Postgres corrects it."""
    shelf = Shelf()
    await find(make(redis_url), shelf)
    monkeypatch.setattr(module, "FOUND_S", 0.0)
    shelf.value = None
    assert await find(make(redis_url), shelf) is None
    shelf.away = True

    with pytest.raises(StoreAway):
        await find(make(redis_url), shelf)
