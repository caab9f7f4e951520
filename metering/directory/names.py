"""Things by name: in memory, then in Redis, then in Postgres; told, or by age, what has changed.

What was found is good for 30 s after Postgres was asked, wherever it was found; what is missing for
5 s, in this process alone. A change is told to every worker through Redis. Postgres is read on the
request path only for what neither has, bounded by 250 ms. While it is away, what is known goes on,
however old: a worker's own, or what any worker has shared.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, NamedTuple

import structlog

from metering.directory.shared import LIFE_MS, NOTHING, Found, Shared
from metering.errors import StoreAway
from metering.redis import Redis, keys

log = structlog.get_logger()
FOUND_S = 30.0
MISSING_S = 5.0
READ_S = 0.25
AWAY_S = 5.0
"""How long a Postgres that did not answer is not asked again for what is remembered, if stale."""
ENTRIES_MAX = 50_000
MISSING_MAX = 4_096
"""What does not exist is remembered apart: whoever asks for much of it drives nothing else out."""
UNKNOWN: Any = object()


def key_topic(digest: bytes) -> str:
    """A key's name, by its digest."""
    return "key:" + digest.hex()


def limit_topic(application_id: str, limit_id: str) -> str:
    """A limit's name."""
    return f"limit:{application_id}:{limit_id}"


def attached_topic(application_id: str) -> str:
    """The name of all that an application's limits are attached to."""
    return f"attached:{application_id}"


def profiles_topic(application_id: str) -> str:
    """The name of what an application's teams, users and customers are held to."""
    return f"profiles:{application_id}"


class _Entry(NamedTuple):
    """What was found, and until when it is good without asking."""

    found: Found
    until_s: float


class Names:
    """Things by name. A name is also the topic that says that it has changed."""

    def __init__(
        self,
        redis: Redis,
        pepper: bytes,
        clock_ms: Callable[[], int],
        heard: Callable[[str], None],
    ) -> None:
        """`heard` is called with every topic that has changed; `*` stands for all."""
        self._redis = redis
        self._shared = Shared(redis, pepper)
        self._clock_ms = clock_ms
        self._heard = heard
        self._found: dict[str, _Entry] = {}
        self._missing: dict[str, _Entry] = {}
        self._asking: dict[str, asyncio.Task[Any]] = {}
        """Who asks for a name asks for all who want it meanwhile, until it changes."""
        self._untold: set[str] = set()
        self._away_until_s = 0.0
        self._changes = 0

    def kept(self, name: str) -> Any:
        """What memory has, if it is not too old; else UNKNOWN."""
        entry = self._found.get(name)
        return UNKNOWN if entry is None or entry.until_s <= time.monotonic() else entry.found.value

    def last(self, name: str) -> Any:
        """What memory has, however old; else None."""
        entry = self._found.get(name)
        return None if entry is None else entry.found.value

    async def find(
        self,
        name: str,
        read: Callable[[], Awaitable[Any]],
        shape: Any = None,
        ends_ms: Callable[[Any], int | None] = lambda _: None,
    ) -> Any:
        """What has this name; None if nothing has. Raises StoreAway if nobody can tell.

        `shape` is its type if workers may share it in Redis; None keeps it in this process.
        `ends_ms`: when what was found ends by itself, in Unix ms.
        """
        entry = self._found.get(name) or self._missing.get(name)
        if entry is not None and time.monotonic() < max(entry.until_s, self._away_until_s):
            return entry.found.value
        asking = self._asking.get(name)
        if asking is None:  # else somebody asks already, and nothing has changed since
            asking = asyncio.create_task(self._ask(name, read, shape, ends_ms, entry))
            self._asking[name] = asking
            asking.add_done_callback(partial(self._asked, name))
        return await asyncio.shield(asking)

    def _asked(self, name: str, asking: asyncio.Task[Any]) -> None:
        if self._asking.get(name) is asking:
            del self._asking[name]
        if not asking.cancelled():
            asking.exception()  # whoever waits is told; if nobody does, nobody need be

    async def _ask(
        self,
        name: str,
        read: Callable[[], Awaitable[Any]],
        shape: Any,
        ends_ms: Callable[[Any], int | None],
        entry: _Entry | None,
    ) -> Any:
        """Look in Redis, then in Postgres; `entry` is what memory has, too old."""
        now_s, changes = time.monotonic(), self._changes
        looked = NOTHING if shape is None else await self._shared.look(name, shape)
        shared = looked.found
        if shared is not None and looked.age_s < FOUND_S:
            self._keep(name, shared, FOUND_S - looked.age_s, changes)
            return shared.value
        known = [it for it in (entry and entry.found, shared) if it is not None]
        stale = max(known, key=lambda it: it.read_us, default=None)
        if stale is not None and now_s < self._away_until_s:
            self._keep(name, stale, 0.0, changes)
            return stale.value
        try:
            async with asyncio.timeout(READ_S):
                value = await read()
        except (TimeoutError, StoreAway) as error:
            self._away_until_s = now_s + AWAY_S  # not every call is to wait for every name
            if stale is None:
                raise StoreAway from error
            # stale is better than away: Postgres down does not stop calls
            self._keep(name, stale, 0.0, changes)
            return stale.value
        read_us = looked.now_us or self._clock_ms() * 1000
        fresh = Found(read_us, value, None if value is None else ends_ms(value))
        self._keep(name, fresh, MISSING_S if value is None else FOUND_S, changes)
        if looked.now_us and (value is not None or shared is not None):
            await self._share(name, fresh)
        return value

    def _keep(self, name: str, found: Found, good_s: float, changes: int) -> None:
        """Remember what was found, unless something changed meanwhile: it may be what that was."""
        if changes != self._changes:
            return
        self._found.pop(name, None)
        self._missing.pop(name, None)
        into, most = (
            (self._missing, MISSING_MAX) if found.value is None else (self._found, ENTRIES_MAX)
        )
        while len(into) >= most:
            del into[next(iter(into))]  # the one not asked for anew for the longest
        until_s = time.monotonic() + min(good_s, self._life_ms(found) / 1000)
        into[name] = _Entry(found, until_s)

    def _life_ms(self, found: Found) -> int:
        """How long something is what was found."""
        if found.ends_ms is None:
            return LIFE_MS
        return min(LIFE_MS, max(0, found.ends_ms - self._clock_ms()))

    async def _share(self, name: str, found: Found) -> None:
        life_ms = self._life_ms(found)
        if life_ms:
            with contextlib.suppress(StoreAway):
                await self._shared.keep(name, found, life_ms)

    # Changes

    async def changed(self, *topics: str) -> None:
        """Have every worker, this one too, ask again for what has changed.

        Topics are names, `prices`, and `*` for everything. What Redis does not take now is told it
        when it answers again (`retell`); until then the others forget by age.
        """
        for topic in topics:
            self._forget(topic)
            await self._tell(topic)
            self._forget(topic)  # what was read from Redis before it was told

    async def _tell(self, topic: str) -> None:
        try:
            await self._shared.forget(topic)
        except StoreAway:
            self._untold.add(topic)
        else:
            self._untold.discard(topic)

    async def retell(self) -> None:
        """Tell Redis what it did not take when it changed."""
        for topic in list(self._untold):
            await self._tell(topic)

    def _forget(self, topic: str) -> None:
        self._changes += 1
        self._heard(topic)
        for entries in (self._found, self._missing, self._asking):
            if topic == keys.EVERYTHING:
                entries.clear()
            else:
                entries.pop(topic, None)

    def _doubt(self) -> None:
        """Ask again for everything; until somebody answers, what is known is still used."""
        self._changes += 1
        self._heard(keys.EVERYTHING)
        for entries in (self._found, self._missing):
            for name, entry in entries.items():
                entries[name] = entry._replace(until_s=0.0)

    async def listen(self) -> None:
        """Forget what other workers say has changed, for as long as the process lives."""
        while True:
            try:
                async with self._redis.client.pubsub() as channel:
                    await channel.subscribe(keys.CHANGED)
                    self._doubt()  # what was said while nobody listened is lost
                    while True:
                        message = await channel.get_message(
                            ignore_subscribe_messages=True, timeout=20
                        )
                        if message is not None:
                            self._forget(message["data"].decode())
            except (*Redis.FAULTS, StoreAway) as error:
                log.warning("directory_not_told", error=str(error))
                await asyncio.sleep(1)
