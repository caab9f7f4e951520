"""Generations of Redis's memory: whether what it knows is all that was ever decided.

Redis may be emptied, restarted, restored to an older state, or evict what it should keep. Who
notices begins a recovery; everybody hands in what they know of calls (`Endings.hand_in`); then a
new generation begins (`duties.recovery`), and counters are rebuilt as they are asked for. Until
then no call is held against a limit: `reserve` compares the generation in the same script.

The generation's key names the server it was made whole in (its run id), so that a restart ends it.
A restart that kept everything cannot be told from one that did not.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import structlog

from metering.errors import StoreAway
from metering.redis import SCRIPTS, Redis, keys

log = structlog.get_logger()
ANY = ""
"""Where nobody watches: scripts do not compare."""
UNKNOWN = "?"
"""No generation has this name."""
HANDED_IN_TTL_S = 3600
DOUBTING_S = 0.1


class Generation:
    """The generation that a process has handed in to, and may decide by."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._wake = asyncio.Event()
        self.known = ANY
        self._told = UNKNOWN

    @property
    def trusted(self) -> bool:
        """Whether limits may be decided by what Redis knows."""
        return self.known != UNKNOWN

    def check(self) -> None:
        """Raise StoreAway if what Redis knows of limits may not be all of it."""
        if not self.trusted:
            raise StoreAway("the counters of limits are being rebuilt")

    def watch(self) -> None:
        """Trust nothing until `pulse` has found out."""
        self.known = UNKNOWN
        self._redis.on_other_server = self.doubt

    def doubt(self) -> None:
        """Trust nothing any more; whoever waits in `rest` looks at once."""
        if self.known != ANY:
            self.known = UNKNOWN
            self._wake.set()

    async def rest(self, period_s: float) -> None:
        """Wait until it is time to look again: sooner if there is doubt."""
        self._wake.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(period_s if self.trusted else DOUBTING_S):
                await self._wake.wait()

    async def pulse(self, hand_in: Callable[[], Awaitable[None]]) -> None:
        """Find out which generation it is; `hand_in` what is known before it is trusted."""
        current = await self._whole()
        if current and current == self.known:
            return
        self.known = UNKNOWN
        server = self._redis.server
        wanted = current or await self.recovery()
        if not wanted:  # one may have begun between the two
            wanted = current = await self._whole()
        wanted = wanted or await self._begin_recovery()
        if wanted != self._told:
            await hand_in()
            await self._redis.call("SADD", keys.handed_in(wanted), self._redis.name)
            await self._redis.call("EXPIRE", keys.handed_in(wanted), HANDED_IN_TTL_S)
            self._told = wanted
        if current and server == self._redis.server:
            self.known = current

    async def _whole(self) -> str:
        """The generation, if it is of this server, and every shard's; else ''."""
        found, *of_shards = await self._redis.call("MGET", keys.GENERATION, *keys.generations())
        name = (found or b"").decode()
        return name if self._of_this_server(name) and {*of_shards} == {found} else ""

    async def recovery(self) -> str:
        """The recovery that is under way in this server; '': none."""
        found = ((await self._redis.call("GET", keys.RECOVERY)) or b"").decode()
        return found if self._of_this_server(found) else ""

    async def _begin_recovery(self) -> str:
        """Begin one; gives its name, or that of who did so at the same time, a little later."""
        seconds, micros = await self._redis.call("TIME")
        name = f"{int(seconds)}{int(micros):06d}.{self._redis.name}:{self._redis.server}"
        await self._each_shard("")
        await self._redis.call("SET", keys.RECOVERY, name)
        log.warning("counters_lost", server=self._redis.server)
        return await self.recovery()

    def _of_this_server(self, name: str) -> bool:
        return bool(name) and name.rpartition(":")[2] == self._redis.server

    async def begin(self, name: str) -> bool:
        """Everybody has handed in: what Redis knows is whole from now on. False: it has lost
        something again, and everybody has to once more."""
        is_whole = await self._each_shard(name)
        if is_whole:
            await self._redis.call("SET", keys.GENERATION, name)
        await self._redis.call("DEL", keys.RECOVERY, keys.handed_in(name))
        return is_whole

    async def _each_shard(self, name: str) -> bool:
        """Begin a generation of all shards, or (no name) make them ready for one."""
        shards = zip(keys.outboxes(), keys.generations(), strict=True)
        asked = (self._redis.run(SCRIPTS["begin"], [*names], [name]) for names in shards)
        return all(await asyncio.gather(*asked))

    async def revoke(self, what: str, name: str) -> None:
        """Something is gone that must be there: nobody may decide by the rest."""
        if self.known in {ANY, UNKNOWN}:
            return
        log.error(what, key=name)
        self.doubt()
        await self._redis.call("DEL", keys.GENERATION, *keys.generations())
