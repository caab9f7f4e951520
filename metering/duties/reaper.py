"""The reaper: holds whose worker has fallen silent are expired, their rows `unresolved`."""

from __future__ import annotations

import structlog

from metering.duties import Lease
from metering.ledger import Ledger

log = structlog.get_logger()


class Reaper:
    """One worker's turn at the duty."""

    def __init__(self, ledger: Ledger, lease: Lease) -> None:
        self._ledger = ledger
        self._lease = lease

    async def step(self) -> None:
        """Expire what is due, if the duty is ours."""
        if await self._lease.held():
            expired = await self._ledger.reap()
            if expired:
                log.warning("holds_expired", count=expired)
