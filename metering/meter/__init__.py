"""Price, settle, record, result: the right half of a call, shared by everything that is metered."""

from __future__ import annotations

from metering.meter.meter import Meter, Outcome
from metering.meter.pricing import Priced, price_of

__all__ = ["Meter", "Outcome", "Priced", "price_of"]
