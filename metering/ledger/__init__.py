"""Reserve, settle, release, expire: rules, scripts and journal, put together."""

from __future__ import annotations

from metering.ledger.corrections import Correction
from metering.ledger.holds import Hold, unresolved
from metering.ledger.ledger import Ledger

__all__ = ["Correction", "Hold", "Ledger", "unresolved"]
