"""Reserve, settle, release, expire: the rules, the scripts and the journal, put together.

A hold lives in Redis from `reserve` until one script ends it. While its call runs, this worker
keeps it alive by heartbeats; if the worker dies, the reaper expires it. What finds no Redis goes
to the spool and is replayed through the same scripts.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Sequence
from typing import Any

import msgspec
import structlog

from metering.core.limits import Bounds, Floor, Limit, Refused, resets_at
from metering.core.money import split
from metering.core.rates import Rate, Throttled, rates_text
from metering.core.record import UsageRow, decode_row, encode_row
from metering.errors import OutcomeUnknown, StoreAway
from metering.ledger.endings import Endings, When, entry_of
from metering.ledger.holds import FLOOR, Hold, unresolved_by
from metering.ledger.inspection import ENDED
from metering.ledger.replies import own_amounts, refused, starts_text, throttled
from metering.ledger.unlanded import Verb
from metering.redis import SCRIPTS, Argument, Keys, keys, parse_record, share

log = structlog.get_logger()
RESERVE = SCRIPTS["reserve"]


class Ledger(Endings):
    """The live side of every budget."""

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
            if limits:
                self.generation.check()
            reply = await self._decided(place, names, arguments)
            while reply[0] == -1:  # not loaded is not the same as no limit
                await self.open(limits)
                reply = await self._decided(place, names, arguments)
            if reply[0] == ENDED:
                self.generation.doubt()
                self.generation.check()
        except StoreAway as fault:
            return await self._reserve_without_redis(row, limits, bounds, fault)
        if reply[0] == 0:
            return refused(reply, limits, row.at_ms)
        if reply[0] == -3:
            return throttled(reply, rates)
        epochs = [int(part) for part in reply[1].split(b",") if part]
        pairs = list(zip(limit_ids, epochs, strict=False))
        hold = Hold(row, pairs, limits, bounds, spooled=False)
        if windows:
            hold.resets_at = resets_at(zip(limits, epochs, strict=True))
        return self._alive(hold)

    def _decided(
        self, place: Keys, names: Sequence[str], arguments: Sequence[Argument]
    ) -> Awaitable[Any]:
        first = (self._hold_ttl_ms, self.generation.known)
        return self._redis.each(RESERVE, place.shared, first, names, arguments)

    async def _reserve_without_redis(
        self, row: UsageRow, limits: Sequence[Limit], bounds: Bounds, fault: StoreAway
    ) -> Hold:
        pairs = [(it.limit_id, it.epoch_at(row.at_ms) if it.window else 0) for it in limits]
        if any(it.refuses_without_store for it in limits):
            if isinstance(fault, OutcomeUnknown):  # the hold may be there: let it go later
                failed = msgspec.structs.replace(row, status="failed", http_status=503)
                await self._journal(entry_of("release", failed, pairs, 0))
            fault.should_retry = True
            raise fault
        opened = entry_of("open", row, pairs, 0)
        try:
            await self._spool.append(opened)
        except OSError as error:  # nobody would know of the call if this process died
            self._spool.done(opened)
            raise StoreAway from error
        return self._alive(Hold(row, pairs, limits, bounds, spooled=True))

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
            if hold.spooled:
                await self.load(row.application_id, [limit_id for limit_id, _ in hold.limits])
            # within the deadline of the connection itself: a timer of our own would cost more
            done = await self.apply(verb, row, hold.limits, tokens, when)
        except Exception as fault:  # whatever went wrong, what was used must not be forgotten
            if not isinstance(fault, StoreAway):
                log.exception("settle_failed", record=hold.record)
            await self._journal(entry_of(verb, row, hold.limits, tokens), hold)
            return None
        finally:
            self._live.pop(hold.record, None)
            hold.floor = Floor  # what it knows it by may be large, and is not needed any more
        if hold.spooled:
            self._spool.done(entry_of(verb, row, (), 0))
        if done is None:
            return None
        self._remember(hold, verb, row, tokens, done.entry)
        return done.charged

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
            if now - since >= older_than_s and not hold.spooled:  # of those Redis knows nothing
                by_shard.setdefault(share(hold.row.application_id).holds, []).append(hold)
        for holds_key, alive in by_shard.items():
            arguments: list[str | int] = [self._hold_ttl_ms]
            for hold in alive:
                prefix = share(hold.row.application_id).limit_prefix
                floor = hold.floor()
                arguments += [*split(floor.pico), floor.tokens, prefix]
                arguments.append(own_amounts(floor.limit_costs))
            records = [hold.record for hold in alive]
            names = [holds_key, *records]
            told = await self._redis.run(SCRIPTS["heartbeat"], names, arguments)
            gone = [of for of, it in zip(records, told, strict=True) if it is None]
            if lost := [record for record in gone if record in self._live]:
                await self.generation.revoke("hold_lost", lost[0])

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
        row, tokens = unresolved_by(decode_row(fields[1]), fields[3:])
        parts = [part.split("|") for part in fields[2].decode().split(";")[:-1]]
        pairs = [(part[0], int(part[1])) for part in parts]
        return await self.apply("expire", row, pairs, tokens, "due") is not None
