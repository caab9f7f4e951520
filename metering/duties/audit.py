"""The audit: rows, sums, counters, holds, journal and outbox, compared to the pico and repaired.

1. Of Postgres: limit totals and rollups are the sums of their rows; there are no dead letters.
2. Of each application, in one moment in which no row lands and no call is decided: every live
   counter is what rows charged, landed or waiting, and what is held is what records of calls say.
3. Rows land within half a minute; what workers noted in their journals is what rows say.

What differs is looked at twice: only what stays is a difference. Rows are the truth. A repair sums
up anew what is derived from them, adds to counters what they lack, whatever calls do meanwhile, and
writes a correction only where a row differs from what its worker noted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

import msgspec

from metering.core.difference import Difference, Pair
from metering.duties import Lease
from metering.duties.writer import Writer
from metering.errors import OurFault
from metering.ledger import Correction
from metering.ledger.corrections import Corrections
from metering.ledger.inspection import (
    Live,
    Moment,
    holding,
    inspect,
    lack,
    limit_differences,
    mend,
    name_holders,
    plus,
    strays,
)
from metering.redis import Redis, keys, parse_record, share
from metering.redis.outbox import Outbox
from metering.spool import Entry, Spool
from metering.store import Store, books
from metering.store import requests as stored_requests
from metering.store.rows import Landed
from metering.store.usage import Entry as Call

LATE_MS = 30_000
"""A row that waits for longer than this is one that nobody lands."""
PAUSE_S = 1.0
"""Between the two looks."""
WAITING_MAX = 20_000
"""More rows that wait are not read in one moment, in which no call is decided."""
LIMITS_AT_ONCE = 500
RECORDS_AT_ONCE = 1_000
ROUNDS_MAX = 3
"""A repair may show what was hidden by what it repaired."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What an audit found, and what it has repaired; all other differences remain."""

    differences: list[Difference]
    repaired: list[Difference] = []
    applications: int = 0
    waiting: int = 0
    """Rows in the outbox."""
    journal: int = 0
    """Entries in the journals of this machine."""


class Auditor:
    """Compares the books, of one application or (None) of all."""

    def __init__(self, redis: Redis, store: Store, spool: Spool) -> None:
        """`redis` is a connection that calls do not wait for, with a patient timeout."""
        self._redis = redis
        self._store = store
        self._spool = spool
        self._corrections = Corrections(redis, store)
        self._outbox = Outbox(redis)
        self._writer = Writer(self._outbox, store, Lease(redis, "writer", "audit"))
        self.late_ms = LATE_MS
        self.pause_s = PAUSE_S

    async def check(self, application_id: str | None = None) -> Report:
        """Look twice; what stays is a difference."""
        return await self._report(application_id, await self._stays(application_id))

    async def repair(self, application_id: str | None = None) -> Report:
        """The same, and make good what can be."""
        first = found = await self._stays(application_id)
        known = {it.mark: it for it in first}
        for _ in range(ROUNDS_MAX):
            if not any(it.repair for it in found):
                break
            mended = await self._mend(application_id, found)
            found = await self._stays(application_id)
            known = {it.mark: it for it in (*mended, *found)} | known
        remaining = {it.mark for it in found}
        repaired = [it for mark, it in known.items() if mark not in remaining]
        return await self._report(application_id, found, repaired)

    async def _report(
        self,
        application_id: str | None,
        found: list[Difference],
        repaired: Sequence[Difference] = (),
    ) -> Report:
        return Report(
            differences=found,
            repaired=list(repaired),
            applications=len(await self._applications(application_id)),
            waiting=await self._outbox.depth(),
            journal=len(self._spool.everyones()),
        )

    async def _applications(self, application_id: str | None) -> list[str]:
        return [application_id] if application_id else await books.application_ids(self._store)

    async def _stays(self, application_id: str | None) -> list[Difference]:
        first = {it.mark for it in await self._look(application_id)}
        if not first:
            return []
        await asyncio.sleep(self.pause_s)
        return [it for it in await self._look(application_id) if it.mark in first]

    async def _look(self, application_id: str | None) -> list[Difference]:
        found = await books.differences(self._store, application_id)
        letters, lost = await books.buried(self._store, application_id)
        found += letters
        found += await self._late(application_id)
        unheeded = await self._unheeded()
        for one in await self._applications(application_id):
            found += await self._application(one, unheeded, lost, repair=False)
        return found + [it for it, _, _ in await self._journal(application_id)]

    async def _mend(
        self, application_id: str | None, found: Iterable[Difference]
    ) -> list[Difference]:
        """Rows first, then what is derived from them; gives what showed on the way."""
        mended: list[Difference] = []
        kinds = {it.kind for it in found}
        if "journal" in kinds:
            for _, call, entry in await self._journal(application_id):
                await self._correct(call, entry)
        if "outbox" in kinds:
            while await self._writer.land():
                pass
        if kinds & {"limit_total", "rollup"}:
            mended += await books.differences(self._store, application_id, repair=True)
        _, lost = await books.buried(self._store, application_id)
        unheeded = await self._unheeded()
        for one in await self._applications(application_id):
            mended += await self._application(one, unheeded, lost, repair=True)
        return mended

    # Rows on their way

    async def _late(self, application_id: str | None) -> list[Difference]:
        """Streams whose oldest row should have landed long ago."""
        seconds, micros = await self._redis.call("TIME")
        now_ms = int(seconds) * 1000 + int(micros) // 1000
        names = [share(application_id).outbox] if application_id else keys.outboxes()
        found = []
        for name in names:
            oldest = await self._redis.call("XRANGE", name, "-", "+", "COUNT", 1)
            if not oldest:
                continue
            late_ms = now_ms - int(oldest[0][0].split(b"-")[0])
            if late_ms > self.late_ms:
                rows = await self._redis.call("XLEN", name)
                found.append(
                    Difference(
                        kind="outbox",
                        application_id=application_id or "",
                        about=name,
                        numbers={"rows": Pair(rows, 0)},
                        cause=f"rows wait for Postgres, the oldest for {late_ms // 1000} s: no "
                        "keeper lands them, or Postgres was away",
                        repair="landed them",
                    )
                )
        return found

    async def _journal(self, application_id: str | None) -> list[tuple[Difference, Call, Entry]]:
        """Calls whose row does not say what their worker noted."""
        found = []
        for entry in self._spool.everyones():
            row = entry.row
            if row is None or entry.kind not in ("settle", "release"):
                continue
            if application_id and row.application_id != application_id:
                continue
            call = await stored_requests.by_request(self._store, row.application_id, row.request_id)
            if call is None or call.row.attempt != row.attempt or call.row.status == "unresolved":
                continue  # it has not landed, or replaying it is how its truth comes
            if call.row.cost_pico != row.cost_pico:
                pair = Pair(call.row.cost_pico, row.cost_pico)
                difference = Difference(
                    kind="journal",
                    application_id=row.application_id,
                    about=row.request_id,
                    unit="usd",
                    numbers={"cost": pair},
                    cause="its worker noted in the journal that it cost something else",
                    repair="wrote the signed correction reconcile:journal",
                )
                found.append((difference, call, entry))
        return found

    async def _correct(self, call: Call, entry: Entry) -> Correction:
        assert entry.row is not None  # noqa: S101 - `_journal` chose it
        return await self._corrections.reconcile("journal", call, entry.row, entry.tokens)

    # Live counters and holds

    async def _unheeded(self) -> dict[str, list[str]]:
        """By application, records of calls in flight that are in no set of holds."""
        found: dict[str, list[str]] = {}
        cursor: bytes | int = 0
        while True:
            cursor, names = await self._redis.call(
                "SCAN", cursor, "MATCH", "{s*}:r:*", "COUNT", RECORDS_AT_ONCE
            )
            records = [name.decode() for name in names]
            for record in await self._without_deadline(records):
                found.setdefault(parse_record(record)[0], []).append(record)
            if int(cursor) == 0:
                return found

    async def _without_deadline(self, records: Sequence[str]) -> list[str]:
        asked = []
        for record in records:
            holds = share(parse_record(record)[0]).holds
            asked += [
                self._redis.call("HGET", record, "st"),
                self._redis.call("ZSCORE", holds, record),
            ]
        told = await asyncio.gather(*asked)
        pairs = zip(records, told[::2], told[1::2], strict=True)
        return [record for record, status, ends in pairs if status == b"held" and ends is None]

    async def _application(
        self,
        application_id: str,
        unheeded: dict[str, list[str]],
        lost: Sequence[Landed],
        *,
        repair: bool,
    ) -> list[Difference]:
        """The live books of an application, while no row lands."""
        if await self._redis.call("XLEN", share(application_id).outbox) > WAITING_MAX:
            raise OurFault(
                f"more than {WAITING_MAX} rows wait for Postgres; check when they have landed",
                retry_after_s=60,
            )
        suspects = unheeded.get(application_id, [])
        found: list[Difference] = []
        async with books.still(self._store) as connection:
            limit_ids = await books.limit_ids(connection, application_id)
            for start in range(0, max(1, len(limit_ids)), LIMITS_AT_ONCE):
                some = limit_ids[start : start + LIMITS_AT_ONCE]
                moment = await inspect(self._redis, application_id, some, suspects)
                asked = {
                    it: (live.totals.epoch, live.unit, live.first, live.last)
                    for it, live in moment.limits.items()
                }
                landed = await books.totals_in(connection, application_id, asked)
                rows = await books.not_landed(connection, application_id, moment.waiting)
                rows += [it for it in lost if it[0].application_id == application_id]
                for limit_id, live in moment.limits.items():
                    if live.closed:  # it is being rebuilt
                        continue
                    expected = plus(landed[limit_id], limit_id, live, rows)
                    expected = holding(expected, limit_id, live, moment.held)
                    its = limit_differences(application_id, limit_id, live, expected, moment)
                    if repair and its:
                        await self._mend_limit(application_id, limit_id, live, its, moment)
                    found += its
                if start == 0:
                    found += await self._strays(application_id, moment, repair=repair)
        return found

    async def _mend_limit(
        self,
        application_id: str,
        limit_id: str,
        live: Live,
        its: Sequence[Difference],
        moment: Moment,
    ) -> None:
        lacking = lack({name: pair for it in its for name, pair in it.numbers.items()})
        await mend(self._redis, application_id, limit_id, live, [lacking])
        await name_holders(self._redis, application_id, limit_id, live, moment)

    async def _strays(
        self, application_id: str, moment: Moment, *, repair: bool
    ) -> list[Difference]:
        found = strays(application_id, moment)
        if repair:
            holds = share(application_id).holds
            for it in found:
                if it.kind == "record":  # due at once: the reaper looks whether it has ended
                    await self._redis.call("ZADD", holds, "NX", moment.now_ms, it.about)
                else:
                    await self._redis.call("ZREM", holds, it.about)
        return found
