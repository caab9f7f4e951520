"""Reserve, settle, release, expire: rules, scripts and journal, put together."""

from __future__ import annotations

from metering.ledger.ledger import Hold, Ledger, nothing_certain

__all__ = ["Hold", "Ledger", "nothing_certain"]
