"""Expiry: what was said in calls is deleted when its time has come, in small batches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from metering.duties import Lease
from metering.meter.archive import DAY_MS, KEYS
from metering.store import Store, bodies, secrets
from pricing.book import day_of

log = structlog.get_logger()
BATCH = 500
"""So many go at once: some tens of milliseconds, in which nobody waits for them."""
PAUSE_S = 0.02
KEY_DAYS = 1
"""So much longer than the bodies of its day their key lives: clocks differ."""


class Expiry:
    """One keeper's turn at the duty."""

    def __init__(self, store: Store, lease: Lease, days: int, clock: Callable[[], int]) -> None:
        """`days`: how long after the call its bodies are kept."""
        self._store = store
        self._lease = lease
        self._days = days
        self._clock = clock

    async def step(self) -> None:
        """Delete what is due, if the duty is ours."""
        before_ms = max(0, self._clock() - self._days * DAY_MS)
        count = 0
        while await self._lease.held():
            gone = await bodies.expire(self._store, before_ms, BATCH)
            count += gone
            if gone < BATCH:
                await secrets.expire(self._store, KEYS, day_of(before_ms - KEY_DAYS * DAY_MS))
                break
            await asyncio.sleep(PAUSE_S)
        if count:
            log.info("bodies_expired", calls=count)
