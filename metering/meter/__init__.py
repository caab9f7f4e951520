"""Price, settle, record, result: the right half of a call, shared by everything that is metered."""

from __future__ import annotations

from metering.meter.archive import Archive
from metering.meter.meter import Meter, Outcome
from metering.meter.pricing import Priced, price_of, unpriced_units
from metering.meter.reports import Known, Reported, Reports, Taken

__all__ = [
    "Archive",
    "Known",
    "Meter",
    "Outcome",
    "Priced",
    "Reported",
    "Reports",
    "Taken",
    "price_of",
    "unpriced_units",
]
