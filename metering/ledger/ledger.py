"""Reserve, settle, release, expire: the rules, the scripts and the journal, put together.

A hold lives in Redis from `reserve` until one script ends it. While its call runs, this worker
keeps it alive by heartbeats; if the worker dies, the reaper expires it. What finds no Redis goes
to the spool and is replayed through the same scripts.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Literal

import msgspec
import structlog

from metering.core.limits import Bounds, Floor, Limit, Refused, resets_at
from metering.core.money import join, split
from metering.core.rates import Rate, Throttled, rates_text
from metering.core.record import UsageRow, decode_row, encode_row
from metering.errors import OutcomeUnknown, StoreAway
from metering.ledger.corrections import Corrections
from metering.ledger.replies import own_amounts, parse_own_amounts, refused, starts_text, throttled
from metering.redis import SCRIPTS, Argument, Redis, keys, parse_record, share
from metering.spool import Entry, Kind, Spool
from metering.store import Store
from metering.store import requests as stored_requests

log = structlog.get_logger()
Verb = Literal["settle", "release", "expire"]
When = Literal["due", "held", "any"]
"""Whether an end needs its time to have come, a hold, or neither."""
REPLAYED_AT_ONCE = 50
FLOOR = ("fw", "fp", "ft", "fl")
"""Where a record has what is certain of its call: USD, pico, tokens, and limits with own rates."""
NO_WINDOWS: Mapping[str, str] = {}
RESERVE, SETTLE = SCRIPTS["reserve"], SCRIPTS["settle"]


class Hold:
    """A call that was admitted. `floor` tells what is certain of it so far, `resets_at` when the
    windows end that its limits are in."""

    __slots__ = (
        "floor",
        "limits",
        "record",
        "resets_at",
        "row",
        "spooled",
    )

    def __init__(self, row: UsageRow, limits: Sequence[tuple[str, int]], *, spooled: bool) -> None:
        self.row = row
        self.limits = limits
        self.record = share(row.application_id).record(row.request_id, row.attempt)
        self.resets_at: Mapping[str, str] = NO_WINDOWS
        self.floor: Callable[[], Floor] = Floor
        self.spooled = spooled


class Ledger(Corrections):
    """The live side of every budget."""

    def __init__(self, redis: Redis, store: Store, spool: Spool, *, hold_ttl_ms: int) -> None:
        super().__init__(redis, store)
        self._spool = spool
        self._ttl = (hold_ttl_ms,)
        self._live: dict[str, tuple[Hold, float]] = {}

    # The four verbs

    async def reserve(
        self,
        row: UsageRow,
        limits: Sequence[Limit],
        bounds: Bounds,
        *,
        expected_ms: int,
        rates: Sequence[Rate] = (),
    ) -> Hold | Refused | Throttled:
        """Decide and hold all limits of a call; raises StoreAway where a limit must refuse then.

        Rates slow nobody down while Redis is away.
        """
        place = share(row.application_id)
        limit_ids = [it.limit_id for it in limits]
        names = [place.record(row.request_id, row.attempt), *place.limits(limit_ids)]
        windows = starts_text(limits, row.at_ms)
        arguments: list[Argument] = [
            len(limits),
            expected_ms,
            encode_row(row),
            *split(bounds.likely_pico),
            *split(bounds.ceiling_pico),
            bounds.likely_tokens,
            bounds.ceiling_tokens,
            own_amounts(bounds.limits),
            rates_text(rates, place.rate_prefix, bounds.likely_tokens) if rates else "",
            windows,
            *limit_ids,
        ]
        try:
            reply = await self._redis.each(RESERVE, place.shared, self._ttl, names, arguments)
            while reply[0] == -1:  # not loaded is not the same as no limit
                await self.define(limits[reply[1] - 1])
                reply = await self._redis.each(RESERVE, place.shared, self._ttl, names, arguments)
        except StoreAway as fault:
            return await self._reserve_without_redis(row, limits, fault)
        if reply[0] == 0:
            return refused(reply, limits, row.at_ms)
        if reply[0] == -3:
            return throttled(reply, rates)
        epochs = [int(part) for part in reply[1].split(b",") if part]
        hold = Hold(row, list(zip(limit_ids, epochs, strict=False)), spooled=False)
        if windows:
            hold.resets_at = resets_at(zip(limits, epochs, strict=True))
        return self._alive(hold)

    async def _reserve_without_redis(
        self, row: UsageRow, limits: Sequence[Limit], fault: StoreAway
    ) -> Hold:
        pairs = [(it.limit_id, it.epoch_at(row.at_ms) if it.window else 0) for it in limits]
        if any(it.binding for it in limits):
            if isinstance(fault, OutcomeUnknown):  # the hold may be there: let it go later
                failed = msgspec.structs.replace(row, status="failed", http_status=503)
                await self._journal(_entry("release", failed, pairs, 0))
            fault.should_retry = True
            raise fault
        opened = _entry("open", row, pairs, 0)
        try:
            await self._spool.append(opened)
        except OSError as error:  # nobody would know of the call if this process died
            self._spool.done(opened)
            raise StoreAway from error
        return self._alive(Hold(row, pairs, spooled=True))

    # These give the charges as the script wrote them (`replies` reads them), or None: Redis did
    # not answer in time, the journal has the call.

    def settle(self, hold: Hold, row: UsageRow, tokens: int) -> Awaitable[bytes | None]:
        """Charge the truth, once."""
        return self._end("settle", hold, row, tokens)

    def release(self, hold: Hold, row: UsageRow) -> Awaitable[bytes | None]:
        """End a hold of a call that used nothing; its row stays."""
        return self._end("release", hold, row, 0)

    def expire(self, hold: Hold, row: UsageRow, tokens: int) -> Awaitable[bytes | None]:
        """End a hold whose truth nobody knows: hard caps are charged its ceiling, others what the
        row and `tokens` say, its floor."""
        return self._end("expire", hold, row, tokens)

    async def _end(self, verb: Verb, hold: Hold, row: UsageRow, tokens: int) -> bytes | None:
        when: When = "any" if hold.spooled else "held"
        try:
            # within the deadline of the connection itself: a timer of our own would cost more
            charged = await self.apply(verb, row, hold.limits, tokens, when)
        except Exception as fault:  # whatever went wrong, what was used must not be forgotten
            if not isinstance(fault, StoreAway):
                log.exception("settle_failed", record=hold.record)
            await self._journal(_entry(verb, row, hold.limits, tokens))
            return None
        finally:
            self._live.pop(hold.record, None)
        if hold.spooled:
            self._spool.done(_entry(verb, row, (), 0))
        return charged

    async def apply(
        self,
        verb: Verb,
        row: UsageRow,
        limits: Sequence[tuple[str, int]],
        tokens: int,
        when: When,
    ) -> bytes | None:
        """Run the script that ends a call; None: a hold that was to expire is not due.

        Gives the charges as the script wrote them. StoreAway where a hold that must be there is
        not: Redis was emptied, or forgot it after its row had landed.
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
            f"{row.request_id}:{row.attempt}",
            own_amounts(row.limit_costs),
        ]
        for pair in limits:
            arguments += pair
        reply = await self._redis.each(SETTLE, place.shared, (), names, arguments)
        if reply[0] == 4:
            return None
        if reply[0] == 5:
            raise StoreAway("Redis does not know this hold")
        if reply[0] == 3:
            corrected = await self._correct("late", row, tokens)
            if corrected is None:
                raise StoreAway("Redis does not know this call")
            return corrected.charged
        if reply[0] == 1 and reply[2]:
            log.error("hold_underflow", record=record, limits=reply[2])
        charged: bytes = reply[1]
        return charged

    # Life of a hold

    def _alive(self, hold: Hold) -> Hold:
        self._live[hold.record] = (hold, time.monotonic())
        return hold

    def abandon(self, hold: Hold) -> None:
        """Keep a hold alive no longer: whoever was to end it failed, so the reaper will."""
        self._live.pop(hold.record, None)

    @property
    def live(self) -> int:
        """How many holds this worker keeps alive."""
        return len(self._live)

    async def heartbeat(self, older_than_s: float) -> None:
        """Keep alive the holds that have run for a while: one script a shard."""
        now = time.monotonic()
        by_shard: dict[str, list[Hold]] = {}
        for hold, since in self._live.values():
            if now - since >= older_than_s:
                by_shard.setdefault(share(hold.row.application_id).holds, []).append(hold)
        for holds_key, alive in by_shard.items():
            arguments: list[str | int] = [*self._ttl]
            for hold in alive:
                prefix = share(hold.row.application_id).limit_prefix
                floor = hold.floor()
                arguments += [*split(floor.pico), floor.tokens, prefix]
                arguments.append(own_amounts(floor.limit_costs))
            records = [hold.record for hold in alive]
            await self._redis.run(SCRIPTS["heartbeat"], [holds_key, *records], arguments)

    async def reap(self, most: int = 200) -> int:
        """Expire the holds whose worker has fallen silent; gives how many."""
        now_ms = await self.now_ms()
        asked = [
            self._redis.call("ZRANGEBYSCORE", name, "-inf", now_ms, "LIMIT", 0, most)
            for name in keys.holds()
        ]
        expired = 0
        for records in await asyncio.gather(*asked):
            for record in records:
                expired += await self._reap_safely(record.decode())
        return expired

    async def _reap_safely(self, record: str) -> bool:
        if record in self._live:  # its heartbeats found no Redis; the next one will
            return False
        try:
            return await self._reap_one(record)
        except StoreAway:
            raise
        except Exception:  # one hold that cannot be read must not keep the others
            log.exception("hold_not_expired", record=record)
            return False

    async def _reap_one(self, record: str) -> bool:
        application_id, _, _ = parse_record(record)
        fields = await self._redis.call("HMGET", record, "st", "row", "lim", *FLOOR)
        if fields[0] != b"held":
            await self._redis.call("ZREM", share(application_id).holds, record)
            return False
        row, tokens = _unresolved(decode_row(fields[1]), fields[3:])
        parts = [part.split("|") for part in fields[2].decode().split(";")[:-1]]
        pairs = [(part[0], int(part[1])) for part in parts]
        return await self.apply("expire", row, pairs, tokens, "due") is not None

    # The journal

    async def _journal(self, entry: Entry) -> None:
        try:
            await self._spool.append(entry)
        except OSError:  # it stays in memory, and is replayed from there
            log.exception("journal_not_written", request_id=entry.request_id)

    async def replay(self) -> int:
        """Bring to Redis what it has not heard of: ours, then the journals of the dead."""
        replayed = await self._replay(self._spool.waiting())
        for entry in replayed:
            self._spool.done(entry)
        count = len(replayed)
        for orphan in self._spool.adopt():
            with orphan:
                replayed = await self._replay(orphan.entries)
                count += len(replayed)
                if len(replayed) == len(orphan.entries):
                    orphan.remove()
        return count

    async def _replay(self, entries: Sequence[Entry]) -> list[Entry]:
        """Replay entries, many at once; gives those that are done with."""
        replayed = []
        for start in range(0, len(entries), REPLAYED_AT_ONCE):
            some = entries[start : start + REPLAYED_AT_ONCE]
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
        known = status is not None
        if not known and await self._landed(entry, row):
            return
        for limit_id, _ in entry.limits:
            await self.load(row.application_id, limit_id)
        verb: Verb = "expire"
        tokens = entry.tokens
        if entry.kind in ("settle", "release", "expire"):
            verb = entry.kind
        else:  # an open call of a process that died: nobody knows
            row, tokens = _unresolved(row, floor)
        # one that is known now and gone a moment later has landed meanwhile: the rows will tell
        await self.apply(verb, row, entry.limits, tokens, "held" if known else "any")

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

    async def close(self) -> None:
        """Give the journal up."""
        with contextlib.suppress(OSError):
            self._spool.close()


def unresolved(row: UsageRow, floor: Floor) -> UsageRow:
    """The row of a call whose truth nobody knows: charged what is certain of it."""
    return msgspec.structs.replace(
        row,
        status="unresolved",
        estimated=True,
        cost_pico=floor.pico,
        input_pico=floor.pico,
        limit_costs=dict(floor.limit_costs),
    )


def _unresolved(row: UsageRow, floor: Sequence[bytes | None]) -> tuple[UsageRow, int]:
    """The row of a call whose truth nobody knows, and its tokens: what heartbeats left in `FLOOR`,
    if there were any."""
    whole, part, tokens = (int(it or 0) for it in floor[:3])
    certain = Floor(join(whole, part), tokens, parse_own_amounts(floor[3]))
    return unresolved(row, certain), tokens


def _entry(kind: Kind, row: UsageRow, limits: Iterable[tuple[str, int]], tokens: int) -> Entry:
    """What the journal keeps of a call."""
    return Entry(
        kind=kind,
        request_id=row.request_id,
        attempt=row.attempt,
        row=row,
        limits=list(limits),
        tokens=tokens,
    )
