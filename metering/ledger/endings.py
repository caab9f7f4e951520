"""How calls end in Redis: by the script, from the journal, and again where Redis has lost them.

What found no Redis is in the journal and is replayed. What Redis was told is remembered until its
row has landed (`unlanded`). If Redis loses its memory, a process hands in all it knows: the holds
of calls that run, put back as they were, and the ends that nobody else knows.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import structlog

from metering.core.money import split
from metering.core.record import INGEST, UsageRow, encode_row
from metering.errors import StoreAway
from metering.ledger.corrections import Corrections
from metering.ledger.holds import FLOOR, Hold, unresolved_by
from metering.ledger.replies import (
    index_entry,
    indexed_request,
    is_of_report,
    own_amounts,
    uncharged,
)
from metering.ledger.unlanded import Ended, Unlanded, Verb
from metering.redis import SCRIPTS, Argument, Redis, keys, share
from metering.spool import Entry, Kind, Spool
from metering.store import Store, books
from metering.store import requests as stored_requests

log = structlog.get_logger()
When = Literal["due", "held", "any"]
"""Whether an end needs its time to have come, a hold, or neither."""
AT_ONCE = 50
SETTLE = SCRIPTS["settle"]


class Applied(NamedTuple):
    """What an end charged, as the script wrote it, and its entry of the outbox (b"": it was known
    before)."""

    charged: bytes
    entry: bytes


class Endings(Corrections):
    """What becomes of holds."""

    def __init__(self, redis: Redis, store: Store, spool: Spool, *, hold_ttl_ms: int) -> None:
        super().__init__(redis, store)
        self._spool = spool
        self._hold_ttl_ms = hold_ttl_ms
        self._live: dict[str, tuple[Hold, float]] = {}
        self._unlanded = Unlanded()
        self._unheard: dict[str, Hold] = {}
        """Of ends that are in the journal: the hold, by its record."""

    async def apply(
        self,
        verb: Verb,
        row: UsageRow,
        limits: Sequence[tuple[str, int]],
        tokens: int,
        when: When,
    ) -> Applied | None:
        """Run the script that ends a call; None: a hold that was to expire is not due.

        StoreAway where a hold that must be there is not: Redis was emptied, or forgot it after its
        row had landed.
        """
        place = share(row.application_id)
        record = place.record(row.request_id, row.attempt)
        index = place.index(row.category, row.provider_id) if row.provider_id else record
        names = [record, index, *place.limits([limit_id for limit_id, _ in limits])]
        arguments: list[Argument] = [
            len(limits),
            verb,
            encode_row(row),
            *split(row.cost_pico),
            *split(row.input_pico),
            *split(row.output_pico),
            tokens,
            when,
            index_entry(row),
            own_amounts(row.limit_costs),
        ]
        for pair in limits:
            arguments += pair
        reply = await self._redis.each(SETTLE, place.shared, (), names, arguments)
        if isinstance(reply, bytes):
            entry, underflows, former, charged = reply.split(b"|", 3)
            if underflows != b"0":
                log.error("hold_underflow", record=record, limits=int(underflows))
            if row.surface != INGEST and is_of_report(former):
                await self._take_back(row, former)
            return Applied(charged, entry)
        if reply[0] == 4:
            return None
        if reply[0] == 5:
            raise StoreAway("Redis does not know this hold")
        if reply[0] == 3:
            corrected = await self._correct("late", row, tokens)
            if corrected is None:
                raise StoreAway("Redis does not know this call")
            return Applied(corrected.charged, corrected.entry)
        return Applied(reply[1], b"")

    async def _take_back(self, row: UsageRow, former: bytes) -> None:
        """Charge nothing for the report of a call that was made through us, and that ended only
        after it was reported: what was measured stands."""
        found = await self.record(row.application_id, indexed_request(former))
        if found is not None:
            await self._correct("proxied", uncharged(found[0]), 0)

    def _remember(self, hold: Hold, verb: Verb, row: UsageRow, tokens: int, entry: bytes) -> None:
        """Keep an end until its row has landed."""
        if entry:
            outbox = share(row.application_id).outbox
            self._unlanded.keep(outbox, Ended(hold, verb, row, tokens, entry))

    # The journal

    async def _journal(self, entry: Entry, hold: Hold | None = None) -> None:
        """Write down an end that Redis has not heard of, of a hold if it had one."""
        if hold is not None:
            self._unheard[hold.record] = hold
        try:
            await self._spool.append(entry)
        except OSError:  # it stays in memory, and is replayed from there
            log.exception("journal_not_written", request_id=entry.request_id)

    async def replay(self) -> int:
        """Bring to Redis what it has not heard of: ours, then the journals of the dead."""
        count = await self._replay_own(self._spool.waiting())
        for orphan in self._spool.adopt():
            with orphan:
                replayed = await self._replay(orphan.entries)
                count += len(replayed)
                if len(replayed) == len(orphan.entries):
                    orphan.remove()
        return count

    async def _replay_own(self, entries: Sequence[Entry]) -> int:
        replayed = await self._replay(entries)
        for entry in replayed:
            self._spool.done(entry)
        return len(replayed)

    async def _replay(self, entries: Sequence[Entry]) -> list[Entry]:
        """Replay entries, many at once; gives those that are done with."""
        replayed = []
        for start in range(0, len(entries), AT_ONCE):
            some = entries[start : start + AT_ONCE]
            outcomes = await asyncio.gather(
                *(self._replay_one(entry) for entry in some), return_exceptions=True
            )
            for entry, outcome in zip(some, outcomes, strict=True):
                if outcome is None:
                    replayed.append(entry)
                elif not isinstance(outcome, StoreAway):  # one of them must not keep the others
                    log.error("entry_not_replayed", request_id=entry.request_id, exc_info=outcome)
            if any(isinstance(outcome, StoreAway) for outcome in outcomes):
                break
        return replayed

    async def _replay_one(self, entry: Entry) -> None:
        row = entry.row
        if row is None:
            return
        record = share(row.application_id).record(row.request_id, row.attempt)
        status, *floor = await self._redis.call("HMGET", record, "st", *FLOOR)
        known, hold = status is not None, self._unheard.get(record)
        if not known and (await self._landed(entry, row) or await self._is_anothers(row)):
            self._unheard.pop(record, None)
            return
        if hold is not None and not known:
            if self.generation.trusted and not hold.spooled:
                # evicted, and who knows what else: what its limits hold of it is there, or not
                await self.generation.revoke("hold_lost", record)
                self.generation.check()
            await self._adopt(hold)
        elif not known:
            await self.load(row.application_id, [limit_id for limit_id, _ in entry.limits])
        verb: Verb = "expire"
        tokens = entry.tokens
        if entry.kind in ("settle", "release", "expire"):
            verb = entry.kind
        else:  # an open call of a process that died: nobody knows
            row, tokens = unresolved_by(row, floor)
        # one that is known now and gone a moment later has landed meanwhile: the rows will tell
        done = await self.apply(verb, row, entry.limits, tokens, "held" if known else "any")
        if done is not None and hold is not None:
            self._remember(hold, verb, row, tokens, done.entry)
        self._unheard.pop(record, None)

    async def _is_anothers(self, row: UsageRow) -> bool:
        """Whether a reported call was charged as another request, when it was made through us: a
        report that finds no Redis cannot tell."""
        if row.surface != INGEST or row.provider_id is None:
            return False
        name = (row.category, row.provider_id)
        found = await self.request_ids_of(self._store, row.application_id, [name])
        return found.get(name, row.request_id) != row.request_id

    async def _landed(self, entry: Entry, row: UsageRow) -> bool:
        """Whether a call that Redis does not know has ended, as its rows tell.

        One that was given up, whose truth comes now, is put back for the correction to find.
        """
        found = await stored_requests.by_request(self._store, row.application_id, row.request_id)
        if found is None or found.row.attempt < row.attempt:
            return False
        if found.row.status != "unresolved" or entry.kind not in ("settle", "release"):
            return True
        await self._put_back("expired", found)
        return False

    # When Redis has lost its memory

    async def pulse(self) -> None:
        """Find out whether Redis still knows what it knew; if not, hand in what we know."""
        await self.generation.pulse(self.hand_in)
        if self.generation.trusted:
            await self._forget_landed()

    async def _forget_landed(self) -> None:
        for outbox in self._unlanded.outboxes():
            latest = self._unlanded.latest(outbox)
            names = [outbox, keys.generation_beside(outbox)]
            generation, is_there, oldest = await self._redis.run(SCRIPTS["oldest"], names, [])
            if self.generation.known not in ("", generation.decode()):
                await self.generation.revoke("generation_ended", outbox)
                return
            if not is_there:  # evicted, or deleted: with rows that have not landed
                await self.generation.revoke("outbox_lost", outbox)
                return
            self._unlanded.landed(outbox, oldest, latest)

    async def hand_in(self) -> None:
        """Tell Redis again what it may have lost: holds of calls that run, and ends of calls whose
        rows have not landed. What it knows, or rows do, is left as it is."""
        await self._put_back_holds([hold for hold, _ in self._live.values() if not hold.spooled])
        waiting = list(self._unlanded.take())
        try:
            while waiting:
                await self._tell_again([ended for _, ended in waiting[:AT_ONCE]])
                del waiting[:AT_ONCE]
        finally:  # what could not be told is remembered
            for outbox, ended in waiting:
                self._unlanded.keep(outbox, ended)
        heard = {it for it, hold in self._unheard.items() if not hold.spooled}
        await self._replay_own([it for it in self._spool.waiting() if _record(it) in heard])

    async def _put_back_holds(self, holds: Sequence[Hold]) -> None:
        for start in range(0, len(holds), AT_ONCE):
            some = holds[start : start + AT_ONCE]
            known = await asyncio.gather(*(self._redis.call("EXISTS", it.record) for it in some))
            lost = [hold for hold, is_known in zip(some, known, strict=True) if not is_known]
            landed = await self._landed_among(hold.row for hold in lost)
            for hold in lost:
                if _call(hold.row) in landed:  # it was given up: its end will be a correction
                    self._live.pop(hold.record, None)
                elif hold.record in self._live:  # it has not ended meanwhile
                    await self._adopt(hold)

    async def _tell_again(self, ends: Sequence[Ended]) -> None:
        asked = (self._redis.call("HGET", it.hold.record, "st") for it in ends)
        statuses = await asyncio.gather(*asked)
        landed = await self._landed_among(it.row for it in ends)
        for ended, status in zip(ends, statuses, strict=True):
            if _call(ended.row) not in landed:
                entry = await self._told_again(ended, status)
                self._remember(ended.hold, ended.verb, ended.row, ended.tokens, entry)

    async def _told_again(self, ended: Ended, status: bytes | None) -> bytes:
        """Gives the entry of the outbox that says now how a call ended."""
        hold = ended.hold
        if status is None and hold.spooled:  # its limits must be there, and are not before the end
            await self._journal(entry_of(ended.verb, ended.row, hold.limits, ended.tokens))
            return b""
        if status in (None, b"held"):
            if status is None:
                await self._adopt(hold)
            done = await self.apply(ended.verb, ended.row, hold.limits, ended.tokens, "any")
            return done.entry if done is not None else b""
        place = share(ended.row.application_id)
        names = [hold.record, place.outbox, place.generation]
        found = await self._redis.run(SCRIPTS["retell"], names, [ended.entry])
        return found or b""

    async def _adopt(self, hold: Hold) -> None:
        place = share(hold.row.application_id)
        if hold.spooled:  # it held nothing
            await self.load(place.application_id, [limit_id for limit_id, _ in hold.limits])
            return
        await self._redis.run(
            SCRIPTS["adopt"],
            [place.holds, hold.record, *place.limits([limit_id for limit_id, _ in hold.limits])],
            [self._hold_ttl_ms, encode_row(hold.row), hold.shares],
        )

    async def _landed_among(self, rows: Iterable[UsageRow]) -> set[tuple[str, str, int]]:
        by_application: dict[str, list[tuple[str, int]]] = {}
        for row in rows:
            by_application.setdefault(row.application_id, []).append((row.request_id, row.attempt))
        found = set()
        for application_id, calls in by_application.items():
            landed = await books.landed_among(self._store, application_id, calls)
            found |= {(application_id, *call) for call in landed}
        return found

    async def close(self) -> None:
        """Give the journal up."""
        with contextlib.suppress(OSError):
            self._spool.close()


def _call(row: UsageRow) -> tuple[str, str, int]:
    return row.application_id, row.request_id, row.attempt


def _record(entry: Entry) -> str:
    row = entry.row
    return share(row.application_id).record(row.request_id, row.attempt) if row else ""


def entry_of(kind: Kind, row: UsageRow, limits: Iterable[tuple[str, int]], tokens: int) -> Entry:
    """What the journal keeps of a call."""
    return Entry(
        kind=kind,
        request_id=row.request_id,
        attempt=row.attempt,
        row=row,
        limits=list(limits),
        tokens=tokens,
    )
