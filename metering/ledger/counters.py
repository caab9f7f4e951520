"""The live counters of limits: defined, read, reset; and the results of calls, at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from metering.core.limits import Charge, Limit, Totals
from metering.core.record import UsageRow, decode_row
from metering.ledger.replies import (
    blocked,
    fields_of,
    pair,
    parse_charges,
    parse_refusals,
    starts_text,
    totals_of,
    totals_parts,
)
from metering.redis import SCRIPTS, Redis, share
from metering.redis.outbox import Outbox
from metering.store import Store
from metering.store import limits as stored_limits


class Counters:
    """What Redis knows of limits and recent calls."""

    def __init__(self, redis: Redis, store: Store) -> None:
        self._redis = redis
        self._store = store
        self._outbox = Outbox(redis)

    async def define(self, limit: Limit) -> None:
        """Create a limit's live counters from its rows, or bring their definition up to date."""
        name = share(limit.application_id).limit(limit.limit_id)
        epoch = limit.epoch
        if limit.window is not None and not limit.window.part_ms:
            epoch = limit.epoch_at(await self.now_ms())
        counted: Sequence[Totals] = ()
        if not await self._redis.call("EXISTS", name):
            counted = await self._landed_totals(limit, epoch)
        await self._redis.run(
            SCRIPTS["define"],
            [name],
            [
                limit.mode,
                limit.unit,
                *pair(limit.unit, limit.max),
                *pair(limit.unit, limit.threshold),
                epoch,
                limit.window.part_ms if limit.window is not None else 0,
                *(part for its in counted for part in totals_parts(limit.unit, its)),
            ],
        )

    async def _landed_totals(self, limit: Limit, epoch: int) -> Sequence[Totals]:
        """What rows charged a limit in its epoch, or in each part of its rolling window."""
        since, before = epoch, epoch + 1
        if limit.window is not None and limit.window.part_ms:
            since = max(epoch, limit.window.bounds(await self.now_ms())[0])
            before = stored_limits.LAST_EPOCH
        return await stored_limits.totals(
            self._store, limit.application_id, limit.limit_id, since, before
        )

    async def now_ms(self) -> int:
        """The time by Redis's clock, which decides which window is now."""
        seconds, micros = await self._redis.call("TIME")
        return int(seconds) * 1000 + int(micros) // 1000

    async def load(self, application_id: str, limit_id: str) -> None:
        """Rebuild a limit's counters from its rows if Redis does not have them."""
        if not await self._redis.call("EXISTS", share(application_id).limit(limit_id)):
            limit = await stored_limits.get(self._store, application_id, limit_id)
            if limit is not None:
                await self.define(limit)

    async def totals(self, application_id: str, limit_ids: Sequence[str]) -> list[Totals]:
        """The live counters of limits, in order; what is not loaded is rebuilt from its rows."""
        place = share(application_id)
        calls = [self._redis.call("HGETALL", place.limit(limit_id)) for limit_id in limit_ids]
        totals = []
        for limit_id, reply in zip(limit_ids, await asyncio.gather(*calls), strict=True):
            found = reply or await self._loaded(application_id, limit_id)
            totals.append(totals_of(fields_of(found)) if found else Totals(epoch=0))
        return totals

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

    async def _loaded(self, application_id: str, limit_id: str) -> Any:
        await self.load(application_id, limit_id)
        return await self._redis.call("HGETALL", share(application_id).limit(limit_id))

    async def reset(self, limit: Limit, epoch: int) -> Totals:
        """Begin a new epoch; gives the counters as they were in the window that is now."""
        await self.present((limit,))
        name = share(limit.application_id).limit(limit.limit_id)
        reply = await self._redis.run(SCRIPTS["reset"], [name], [epoch])
        if reply[0] == -1:
            await self.define(limit)
            reply = await self._redis.run(SCRIPTS["reset"], [name], [epoch])
        return totals_of(fields_of(reply[1])) if reply[0] == 1 else Totals(epoch=limit.epoch)

    async def forget(self, application_id: str, limit_id: str) -> None:
        """Drop the live counters of a limit that was deleted."""
        name = share(application_id).limit(limit_id)
        await self._redis.call("DEL", name, f"{name}:h", f"{name}:w")

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

    async def request_id_of(
        self, application_id: str, category: str, provider_id: str
    ) -> str | None:
        """Our request id for the id in a provider's answer, while Redis has it."""
        place = share(application_id)
        found = await self._redis.call("GET", place.index(category, provider_id))
        return found.decode().rpartition(":")[0] if found else None
