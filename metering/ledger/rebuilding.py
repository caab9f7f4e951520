"""Live counters, rebuilt: from rows that have landed, rows that wait, and what calls hold.

A limit that Redis does not have is defined closed, with empty counters: it admits nothing, and what
ends meanwhile is counted. Then, while no row lands, one moment of Redis says what is there already;
what it lacks is added, and the limit opens. Whatever happens in between stays counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from metering.core.limits import STATES, Totals
from metering.errors import StoreAway
from metering.ledger.generation import Generation
from metering.ledger.inspection import (
    ENDED,
    SETTLED,
    Live,
    Moment,
    holding,
    inspect,
    mend,
    name_holders,
    plus,
    waiting_rows,
)
from metering.redis import Redis
from metering.store import Store, books
from metering.store.rows import Landed

AT_ONCE = 500
TRIES = 5
"""A window may begin, or the limit be reset, while it is looked at."""


class Rebuilder:
    """Opens the limits that were found closed."""

    def __init__(self, redis: Redis, store: Store, generation: Generation) -> None:
        self._redis = redis
        self._store = store
        self._generation = generation
        self._asked: dict[str, set[str]] = {}
        self._turn = asyncio.Lock()

    async def open(self, application_id: str, limit_ids: Iterable[str]) -> None:
        """Rebuild the counters of limits that are closed; what is asked meanwhile goes along.

        StoreAway: it cannot be done now, so they stay closed.
        """
        mine = set(limit_ids)
        asked = self._asked.setdefault(application_id, set())
        asked |= mine
        try:
            async with self._turn:
                while mine & asked:
                    some = sorted(asked)[:AT_ONCE]
                    await self._open(application_id, some)
                    asked.difference_update(some)
        finally:
            asked -= mine
            if not asked:
                self._asked.pop(application_id, None)

    async def _open(self, application_id: str, limit_ids: Sequence[str]) -> None:
        _, lost = await books.buried(self._store, application_id)
        for _ in range(TRIES):
            self._generation.check()
            generation = self._generation.known
            async with books.still(self._store) as connection:
                before, last = await waiting_rows(self._redis, application_id)
                moment = await inspect(self._redis, application_id, limit_ids, after=last)
                closed = {it: live for it, live in moment.limits.items() if live.closed}
                if not closed:
                    return
                spans = {it: (live.unit, live.first, live.last) for it, live in closed.items()}
                landed = await books.totals_by_epoch(connection, application_id, spans)
                waiting = [*before, *moment.waiting]
                rows = lost + await books.not_landed(connection, application_id, waiting)
                asked = (
                    mend(
                        self._redis,
                        application_id,
                        limit_id,
                        live,
                        lacking(limit_id, live, landed[limit_id], rows, moment),
                        generation=generation,
                        opens=True,
                    )
                    for limit_id, live in closed.items()
                )
                opened = await asyncio.gather(*asked)
            if ENDED in opened:
                self._generation.doubt()
                continue
            for limit_id, live in closed.items():
                await name_holders(self._redis, application_id, limit_id, live, moment)
            if all(opened):
                return
        raise StoreAway("a limit changes faster than its counters can be rebuilt")


def lacking(
    limit_id: str,
    live: Live,
    landed: Mapping[int, Totals],
    rows: Sequence[Landed],
    moment: Moment,
) -> list[Totals]:
    """What a limit's counters lack, by epoch, and in the first entry what they lack of holds."""
    waiting = {
        charge.epoch
        for _, charges in rows
        for charge in charges
        if (charge.limit_id, charge.unit) == (limit_id, live.unit) and live.counts(charge.epoch)
    }
    found = live.parts if live.rolling else {live.totals.epoch: live.totals}
    held = holding(live.totals, limit_id, live, moment.held)
    lacks = [
        Totals(
            epoch=0,
            held_likely=held.held_likely - live.totals.held_likely,
            held_ceiling=held.held_ceiling - live.totals.held_ceiling,
            holds=held.holds - live.totals.holds,
        )
    ]
    for epoch in sorted({*landed, *waiting, *found}):
        one = live._replace(first=epoch, last=epoch)
        expected = plus(landed.get(epoch, Totals(epoch=epoch)), limit_id, one, rows)
        lacks.append(_less(expected, found.get(epoch, Totals(epoch=epoch))))
    return lacks


def _less(expected: Totals, found: Totals) -> Totals:
    return Totals(
        epoch=expected.epoch,
        **{name: getattr(expected, name) - getattr(found, name) for name in SETTLED},
        counts={it: expected.counts.get(it, 0) - found.counts.get(it, 0) for it in STATES},
    )
