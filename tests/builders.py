"""One-line makers with readable defaults."""

from __future__ import annotations

from itertools import count
from typing import Any

from metering.core.ids import uuid7
from metering.core.limits import Limit
from metering.core.money import PICO_PER_USD
from metering.core.record import UsageRow
from metering.ledger.replies import IS, what_is

APPLICATION = "00000000-0000-7000-8000-0000000000aa"
NOW_MS = 1_790_000_000_000
_numbers = count(1)


def request_id(at_ms: int = NOW_MS) -> str:
    """A new UUIDv7 of a time."""
    return str(uuid7(at_ms, next(_numbers).to_bytes(10, "big")))


def row(**values: Any) -> UsageRow:
    """A usage row of a chat call."""
    defaults: dict[str, Any] = {
        "application_id": APPLICATION,
        "request_id": request_id(),
        "at_ms": NOW_MS,
        "provider": "openai",
        "category": "system.openai",
        "endpoint": "/v1/chat/completions",
        "status": "unresolved",
        "model_requested": "gpt-4o",
    }
    return UsageRow(**(defaults | values))


def limit(limit_id: str = "team", usd: int = 1, **values: Any) -> Limit:
    """A limit of so many dollars."""
    defaults: dict[str, Any] = {
        "application_id": APPLICATION,
        "limit_id": limit_id,
        "limit_name": limit_id,
        "max": usd * PICO_PER_USD,
        "epoch": NOW_MS,
        "created_ms": NOW_MS,
        "updated_ms": NOW_MS,
    }
    return Limit(**(defaults | values))


def but_for(packed: bytes, **values: str | int) -> bytes:
    """What a limit's hash says it is, but for its `mode` or `epoch`."""
    mode, unit, epoch = what_is(packed)
    told = {"mode": mode, "unit": unit, "epoch": epoch} | values
    return packed[: IS.size] + "".join(f"{it}\0" for it in told.values()).encode()
