"""What keys' budgets had spent a moment ago, for headers that say so: no call waits for it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from metering.core.limits import Limit
from metering.errors import XproxyError
from metering.ledger import Ledger

FRESH_S = 1.0
"""A call that finds an older figure has it looked at anew, for those that come later."""
REMEMBERED_MAX = 10_000


class Spends:
    """The figures one worker has seen."""

    def __init__(self, ledger: Ledger, clock_s: Callable[[], float]) -> None:
        self._ledger = ledger
        self._clock_s = clock_s
        self._seen: dict[tuple[str, str], tuple[int | None, float]] = {}
        self._looks: set[asyncio.Task[None]] = set()

    def of(self, limit: Limit) -> int | None:
        """What a limit had settled when it was last looked at; None: that has not been yet."""
        name = (limit.application_id, limit.limit_id)
        settled, at_s = self._seen.get(name, (None, -FRESH_S))
        now_s = self._clock_s()
        if now_s - at_s >= FRESH_S:
            self._keep(name, settled, now_s)  # whoever comes meanwhile does not look, too
            look = asyncio.create_task(self._look(limit, name))
            self._looks.add(look)
            look.add_done_callback(self._looks.discard)
        return settled

    async def _look(self, limit: Limit, name: tuple[str, str]) -> None:
        with contextlib.suppress(XproxyError):
            (totals,) = await self._ledger.present((limit,))
            self._keep(name, totals.settled, self._clock_s())

    def _keep(self, name: tuple[str, str], settled: int | None, at_s: float) -> None:
        self._seen.pop(name, None)
        self._seen[name] = settled, at_s  # the latest last
        if len(self._seen) > REMEMBERED_MAX:
            del self._seen[next(iter(self._seen))]
