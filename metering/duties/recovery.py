"""The recovery: when Redis may have lost its memory, a new generation of it begins.

1. Everybody who is connected hands in what they know of calls (`Endings.hand_in`). A worker asks
   Redis every second, so one that lives is connected soon after a restart.
2. Holds whose call has ended, as rows tell, are forgotten: an older state may have them again.
3. All counters are forgotten. They are rebuilt, from rows, outbox and holds, as they are asked for.

Whoever hands in later, because it could not be reached, adds what it knows then.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

import structlog

from metering.duties import Lease
from metering.errors import StoreAway
from metering.ledger import Ledger
from metering.ledger.replies import fields_of
from metering.redis import Redis, keys, parse_record
from metering.store import Store, books

log = structlog.get_logger()
MEMBER = "xproxy:worker:"
"""What the connections of workers are called."""
GATHERED_S = 1.5
"""So soon after a restart all who live are connected."""
NEW_S = 10
AT_ONCE = 1_000


class Recovery:
    """One keeper's turn at the duty."""

    def __init__(
        self, redis: Redis, store: Store, ledger: Ledger, lease: Lease, *, patience_s: float
    ) -> None:
        """`patience_s`: how long somebody who is connected may take to hand in what it knows."""
        self._redis = redis
        self._store = store
        self._ledger = ledger
        self._lease = lease
        self._patience_s = patience_s
        self._name = ""
        self._since_s = 0.0

    async def step(self) -> None:
        """Begin a new generation, if one is due, everybody has handed in, and the duty is ours."""
        await self._ledger.pulse()
        if self._ledger.generation.trusted or not await self._lease.held():
            return
        name = await self._ledger.generation.recovery()
        now_s = asyncio.get_running_loop().time()
        if name != self._name:
            self._name, self._since_s = name, now_s
        if not name or not await self._all_handed_in(name, now_s - self._since_s):
            return
        ended = await self._forget_ended()
        forgotten = await self._forget_counters()
        if not await self._ledger.generation.begin(name):
            return
        log.warning("counters_recovered", ended_holds=ended, counters=forgotten)
        await self._ledger.pulse()
        await self._warn_of_evictions()

    async def _warn_of_evictions(self) -> None:
        """Say so if Redis is told to forget what it likes."""
        with contextlib.suppress(StoreAway):  # an operator may have forbidden to ask
            found = await self._redis.call("CONFIG", "GET", "maxmemory*")
            told = {name.decode(): value.decode() for name, value in fields_of(found).items()}
            policy = told.get("maxmemory-policy", "noeviction")
            if policy != "noeviction":
                log.warning(
                    "redis_evicts",
                    policy=policy,
                    remedy="CONFIG SET maxmemory-policy noeviction: what is evicted has to be "
                    "rebuilt, and limits that block refuse meanwhile",
                )

    async def _all_handed_in(self, name: str, waited_s: float) -> bool:
        if waited_s < GATHERED_S and not await self._is_new():
            return False
        handed_in = await self._redis.call("SMEMBERS", keys.handed_in(name))
        missing = await self._members() - {it.decode() for it in handed_in}
        if missing and waited_s > self._patience_s:
            log.error("not_handed_in", members=sorted(missing))
            return True
        return not missing

    async def _is_new(self) -> bool:
        """Whether nothing can have been lost: a server that has just started, and no rows."""
        info = (await self._redis.call("INFO", "server")).decode()
        told = dict(line.partition(":")[::2] for line in info.split("\r\n"))
        return int(told.get("uptime_in_seconds", NEW_S)) < NEW_S and await books.are_empty(
            self._store
        )

    async def _members(self) -> set[str]:
        """The workers that are connected."""
        clients = (await self._redis.call("CLIENT", "LIST")).decode()
        words = (word for line in clients.splitlines() for word in line.split())
        names = (word.removeprefix("name=") for word in words if word.startswith("name="))
        return {name for name in names if name.startswith(MEMBER)}

    async def _forget_ended(self) -> int:
        """Forget holds whose call has landed; gives how many."""
        forgotten = 0
        for holds in keys.holds():
            names = await self._redis.call("ZRANGE", holds, 0, -1)
            for start in range(0, len(names), AT_ONCE):
                records = [name.decode() for name in names[start : start + AT_ONCE]]
                ended = await self._landed(records)
                if ended:
                    await self._redis.call("UNLINK", *ended)
                    await self._redis.call("ZREM", holds, *ended)
                forgotten += len(ended)
        return forgotten

    async def _landed(self, records: Sequence[str]) -> list[str]:
        """Those records of calls in flight whose call has landed."""
        statuses = await asyncio.gather(*(self._redis.call("HGET", it, "st") for it in records))
        by_application: dict[str, dict[tuple[str, int], str]] = {}
        for record, status in zip(records, statuses, strict=True):
            if status == b"held":
                application_id, request_id, attempt = parse_record(record)
                by_application.setdefault(application_id, {})[request_id, attempt] = record
        found = []
        for application_id, calls in by_application.items():
            landed = await books.landed_among(self._store, application_id, [*calls])
            found += [calls[call] for call in landed]
        return found

    async def _forget_counters(self) -> int:
        """Forget the live counters of all limits; gives how many."""
        forgotten, cursor = 0, 0
        while True:
            reply = await self._redis.call("SCAN", cursor, "MATCH", "{s*}:l:*", "COUNT", AT_ONCE)
            cursor, names = int(reply[0]), reply[1]
            if names:
                forgotten += await self._redis.call("UNLINK", *names)
            if not cursor:
                return forgotten
