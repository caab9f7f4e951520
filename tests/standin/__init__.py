"""A stand-in for both providers, with books and prices of its own.

It imports nothing of the product: what it bills is a second opinion on what the product reckons.
`Standin` runs it as a process; `control.Control` lists what it can be told to do.
"""

from __future__ import annotations

from tests.standin.control import Control
from tests.standin.ledger import Entry, fingerprint, total_pico
from tests.standin.process import Standin

__all__ = ["Control", "Entry", "Standin", "fingerprint", "total_pico"]
