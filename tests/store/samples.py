"""Rows, keys and limits to land: defaults that are right, with what a test is about replaced."""

from __future__ import annotations

import os
from itertools import count
from typing import Any

from metering.core.ids import uuid7
from metering.core.limits import Charge, Limit, State, Unit
from metering.core.record import UsageRow
from metering.store.rows import Landed

NOW_MS = 1_795_132_800_000
"""2026-11-20T00:00:00Z"""
HOUR_MS = 3_600_000
_later = count()


def request_id(at_ms: int | None = None) -> str:
    """A new id: of a given time, or a millisecond after the one before."""
    return str(uuid7(NOW_MS + next(_later) if at_ms is None else at_ms, os.urandom(10)))


def row(application_id: str, **fields: Any) -> UsageRow:
    """A call that cost 750 micro-USD."""
    defaults: dict[str, Any] = {
        "application_id": application_id,
        "request_id": request_id(),
        "at_ms": NOW_MS,
        "key_id": "key-1",
        "provider": "openai",
        "category": "system.openai",
        "endpoint": "/v1/chat/completions",
        "model": "gpt-4o",
        "units": {"input_text": 100, "output_text": 50},
        "lines": {"input_text": 250_000_000, "output_text": 500_000_000},
        "input_pico": 250_000_000,
        "output_pico": 500_000_000,
        "cost_pico": 750_000_000,
    }
    return UsageRow(**(defaults | fields))


def charge(
    limit_id: str, amount: int, *, epoch: int = 1, unit: Unit = "usd", state: State = "ok"
) -> Charge:
    """What a limit was charged."""
    return Charge(limit_id, epoch, unit, amount, state)


def landed(application_id: str, *limit_ids: str, **fields: Any) -> Landed:
    """A row that charged its cost to limits."""
    made = row(application_id, **fields)
    return made, tuple(charge(limit_id, made.cost_pico) for limit_id in limit_ids)


def limit(application_id: str, limit_id: str, **fields: Any) -> Limit:
    """A limit of ten dollars."""
    defaults: dict[str, Any] = {
        "application_id": application_id,
        "limit_id": limit_id,
        "limit_name": limit_id,
        "max": 10 * 10**12,
        "epoch": 1,
        "created_ms": NOW_MS,
        "updated_ms": NOW_MS,
    }
    return Limit(**(defaults | fields))
