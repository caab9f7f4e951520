"""The composition root: workers take calls, the keeper does the duties, `prepare` comes first."""

from __future__ import annotations

from metering.app.first import Welcome, prepare
from metering.app.keeper import keep
from metering.app.price_list import Upload, load_prices
from metering.app.worker import serve

__all__ = ["Upload", "Welcome", "keep", "load_prices", "prepare", "serve"]
