"""The reaper: holds whose worker has fallen silent are expired, their rows `unresolved`."""

from __future__ import annotations

import asyncio

import structlog

from metering.duties import Lease
from metering.ledger import Ledger

log = structlog.get_logger()
GAP_S = 4.0
"""A longer pause between two steps means that Redis, or this process, was away."""


class Reaper:
    """One process's turn at the duty."""

    def __init__(self, ledger: Ledger, lease: Lease, *, patience_s: float) -> None:
        """`patience_s`: how long workers get to say that they live, after Redis was away."""
        self._ledger = ledger
        self._lease = lease
        self._patience_s = patience_s
        self._last_s: float | None = None
        self._resumes_s = 0.0

    async def step(self) -> None:
        """Expire what is due, if the duty is ours."""
        if not await self._lease.held():
            return
        now_s = asyncio.get_running_loop().time()
        silent = self._last_s is not None and now_s - self._last_s > GAP_S
        if silent or not self._ledger.generation.trusted:
            self._resumes_s = now_s + self._patience_s  # the silence may have been ours
        self._last_s = now_s
        if now_s < self._resumes_s:
            return
        expired = await self._ledger.reap()
        if expired:
            log.warning("holds_expired", count=expired)
