"""The live counters of limits: defined, read, reset; and the results of calls, at once."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence

from metering.core.limits import Charge, Limit, Totals
from metering.core.record import UsageRow, decode_row
from metering.errors import StoreAway
from metering.ledger.generation import Generation
from metering.ledger.rebuilding import Rebuilder
from metering.ledger.replies import (
    blocked,
    fields_of,
    indexed_request,
    pair,
    parse_charges,
    parse_refusals,
    starts_text,
    totals_of,
    what_is,
)
from metering.redis import SCRIPTS, Redis, share
from metering.redis.outbox import Outbox
from metering.store import Store
from metering.store import limits as stored_limits
from metering.store import requests as stored_requests
from metering.store.requests import Name


class Counters:
    """What Redis knows of limits and recent calls."""

    def __init__(self, redis: Redis, store: Store) -> None:
        self._redis = redis
        self._store = store
        self._outbox = Outbox(redis)
        self.generation = Generation(redis)
        self._rebuilder = Rebuilder(redis, store, self.generation)

    async def define(self, limit: Limit) -> None:
        """Bring a limit's live definition up to date. If Redis does not have its counters, they are
        rebuilt, at once or, where that must not be done now, when they are asked for."""
        if await self._define(limit) or not self.generation.trusted:
            return
        try:
            await self._rebuilder.open(limit.application_id, [limit.limit_id])
        except StoreAway:
            if self.generation.trusted:
                raise

    async def _define(self, limit: Limit) -> bool:
        """Whether its counters are there."""
        epoch = limit.epoch
        if limit.unit == "concurrent":  # a reset of it ends nothing: who runs still runs
            epoch = min(limit.epoch, limit.created_ms)
        elif limit.window is not None and not limit.window.part_ms:
            epoch = limit.epoch_at(await self.now_ms())
        done = await self._redis.run(
            SCRIPTS["define"],
            [share(limit.application_id).limit(limit.limit_id)],
            [
                limit.mode,
                limit.unit,
                *pair(limit.unit, limit.max),
                *pair(limit.unit, limit.threshold),
                epoch,
                limit.window.part_ms if limit.window is not None else 0,
            ],
        )
        return bool(done)

    async def open(self, limits: Sequence[Limit]) -> None:
        """Have the counters of one application's limits rebuilt that Redis does not have."""
        if not limits:
            return
        self.generation.check()
        application_id = limits[0].application_id
        found = await self._modes(application_id, [it.limit_id for it in limits])
        for limit, mode in zip(limits, found, strict=True):
            if mode is None:
                await self._define(limit)
        waiting = [it.limit_id for it, mode in zip(limits, found, strict=True) if _waits(mode)]
        if waiting:
            await self._rebuilder.open(application_id, waiting)

    async def load(self, application_id: str, limit_ids: Sequence[str]) -> None:
        """The same, by their ids; those that do not exist stay away."""
        found = await self._modes(application_id, limit_ids)
        missing = [it for it, mode in zip(limit_ids, found, strict=True) if _waits(mode)]
        if missing:
            known = await stored_limits.get_many(self._store, application_id, missing)
            await self.open([*known.values()])

    async def _modes(self, application_id: str, limit_ids: Sequence[str]) -> list[str | None]:
        place = share(application_id)
        asked = (self._redis.call("HGET", place.limit(limit_id), "is") for limit_id in limit_ids)
        return [what_is(found)[0] if found else None for found in await asyncio.gather(*asked)]

    async def now_ms(self) -> int:
        """The time by Redis's clock, which decides which window is now."""
        seconds, micros = await self._redis.call("TIME")
        return int(seconds) * 1000 + int(micros) // 1000

    async def totals(self, application_id: str, limit_ids: Sequence[str]) -> list[Totals]:
        """The live counters of limits, in order; what Redis does not have is rebuilt."""
        self.generation.check()
        await self.load(application_id, limit_ids)
        place = share(application_id)
        calls = [self._redis.call("HGETALL", place.limit(limit_id)) for limit_id in limit_ids]
        found = [fields_of(reply) for reply in await asyncio.gather(*calls)]
        return [totals_of(fields) if b"is" in fields else Totals(epoch=0) for fields in found]

    async def present(self, limits: Sequence[Limit]) -> list[Totals]:
        """The live counters of limits of one application, each in the window that is now."""
        if not limits:
            return []
        application_id = limits[0].application_id
        windowed = [it for it in limits if it.window is not None]
        if windowed:
            now_ms, place = await self.now_ms(), share(application_id)
            await asyncio.gather(
                *(
                    self._redis.run(
                        SCRIPTS["present"], [place.limit(it.limit_id)], [starts_text((it,), now_ms)]
                    )
                    for it in windowed
                )
            )
        return await self.totals(application_id, [it.limit_id for it in limits])

    async def reset(self, limit: Limit, epoch: int) -> Totals:
        """Begin a new epoch; gives the counters as they were in the window that is now."""
        await self.present((limit,))
        name = share(limit.application_id).limit(limit.limit_id)
        reply = await self._redis.run(SCRIPTS["reset"], [name], [epoch])
        while reply[0] == -1:
            await self.open((limit,))
            reply = await self._redis.run(SCRIPTS["reset"], [name], [epoch])
        return totals_of(fields_of(reply[1])) if reply[0] == 1 else Totals(epoch=limit.epoch)

    async def forget(self, application_id: str, limit_id: str) -> None:
        """Drop the live counters of a limit that was deleted."""
        name = share(application_id).limit(limit_id)
        await self._redis.call("DEL", name, f"{name};h", f"{name};w")

    async def unlanded(self) -> int:
        """How many rows are not in Postgres yet."""
        return await self._outbox.depth()

    async def unlanded_since_ms(self) -> int | None:
        """When the oldest row was written that is not in Postgres yet; None if all are."""
        return await self._outbox.oldest_ms()

    # Results, at once

    async def record(
        self, application_id: str, request_id: str
    ) -> tuple[UsageRow, tuple[Charge, ...]] | None:
        """The last attempt's row and charges while Redis has them; None: ask the rows."""
        place = share(application_id)
        found = None
        for attempt in range(1, 10):
            fields = await self._redis.call(
                "HMGET", place.record(request_id, attempt), "st", "row", "lim", "why"
            )
            if fields[0] is None:
                break
            row = decode_row(fields[1])
            if fields[0] == b"blocked":
                row = blocked(row, parse_refusals(fields[3]))
            charges = () if fields[0] == b"held" else parse_charges(fields[2])
            found = (row, charges)
        return found

    async def request_ids_of(
        self, store: Store, application_id: str, names: Collection[Name]
    ) -> dict[Name, str]:
        """Our ids of the latest calls that got these ids from their providers; less those of none.
        Redis has them at once, and what it has forgotten the rows of `store` know."""
        place = share(application_id)
        asked = (self._redis.call("GET", place.index(*name)) for name in names)
        live = zip(names, await asyncio.gather(*asked), strict=True)
        found = {name: indexed_request(told) for name, told in live if told}
        rest = [name for name in names if name not in found]
        return found | await stored_requests.request_ids_of(store, application_id, rest)


def _waits(mode: str | None) -> bool:
    """Whether a limit's counters have to be rebuilt before it can be decided."""
    return mode in (None, "closed")
