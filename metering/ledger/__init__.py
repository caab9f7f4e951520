"""Reserve, settle, release, expire: rules, scripts and journal, put together."""

from __future__ import annotations

from metering.ledger.corrections import Correction
from metering.ledger.ledger import Hold, Ledger, unresolved

__all__ = ["Correction", "Hold", "Ledger", "unresolved"]
