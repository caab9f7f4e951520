"""Reserve, settle, release, expire: rules, scripts and journal, put together."""

from __future__ import annotations

from metering.ledger.ledger import Hold, Ledger

__all__ = ["Hold", "Ledger"]
