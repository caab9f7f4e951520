"""The outbox: usage rows on their way to Postgres, one stream a shard.

There is one writer at a time, by a lease, and what has landed is deleted; so the streams need no
consumer groups: what is in them is what has not landed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import msgspec

from metering.redis import keys
from metering.redis.connection import Redis
from metering.redis.scripts import SCRIPTS


class OutboxEntry(msgspec.Struct, frozen=True):
    """One entry: `kind` is `call`, `replayed`, `blocked` or `correction`; `row` and `charges` as
    written. `replayed`: the end of a call of which Redis had not known. `why`: of a refusal."""

    stream: str
    id: str
    kind: str
    row: bytes
    charges: bytes
    why: bytes | None = None


class Outbox:
    """All outbox streams."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._streams = keys.outboxes()

    async def read(self, most: int) -> list[OutboxEntry]:
        """The oldest entries, at most so many a shard."""
        starts = ["0"] * len(self._streams)
        found = await self._redis.call("XREAD", "COUNT", most, "STREAMS", *self._streams, *starts)
        if not found:
            return []
        pairs = found.items() if isinstance(found, dict) else found
        return [
            # fields as reserve, settle and correct write them: kind, row, lim, and why of a refusal
            OutboxEntry(
                stream.decode(), entry_id.decode(), fields[1].decode(), fields[3], *fields[5::2]
            )
            for stream, entries in pairs
            for entry_id, fields in entries
        ]

    async def landed(
        self,
        stream: str,
        ids: Sequence[str],
        *,
        records: Sequence[str],
        indexes: Sequence[str],
        kept: Mapping[str, int],
        corrected_ttl_ms: int,
    ) -> None:
        """Forget entries of one stream whose rows are in Postgres. All or nothing.

        `records` and `indexes` are keys of the same shard that end now, but for records that were
        corrected meanwhile; `kept` are those that live on, with for how long in ms.
        """
        names = [stream, *kept, *records, *indexes]
        counts = [len(ids), len(records), corrected_ttl_ms]
        await self._redis.run(SCRIPTS["landed"], names, [*counts, *ids, *kept.values()])

    async def depth(self) -> int:
        """How many rows have not landed."""
        return sum(await asyncio.gather(*(self._redis.call("XLEN", it) for it in self._streams)))

    async def oldest_ms(self) -> int | None:
        """When the oldest row that has not landed was written, Unix ms; None if all have."""
        oldest = (self._redis.call("XRANGE", it, "-", "+", "COUNT", 1) for it in self._streams)
        found = await asyncio.gather(*oldest)
        return min((int(some[0][0].split(b"-")[0]) for some in found if some), default=None)
