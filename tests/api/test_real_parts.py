"""The control plane on the real ledger and the real directory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from metering.api.services import Services
from metering.core.keys import local_token
from metering.core.limits import Bounds
from metering.directory import Directory
from metering.keyring import Keyring
from metering.ledger import Hold, Ledger
from metering.redis import Redis
from metering.spool import Spool
from metering.store import limits as stored_limits
from tests.api.conftest import MINE, NOW_MS, Bench
from tests.builders import row

SECRET = b"0123456789abcdef0123456789abcdef"
LIMITS = "/api/v1/limits"


@pytest.fixture
async def real(services: Services, redis_url: str, tmp_path: Path) -> AsyncIterator[Bench]:
    """The control plane with nothing doubled; the admin shows a local token."""
    redis = Redis(redis_url, 5_000)
    spool = Spool(tmp_path, "test")
    directory = Directory(
        services.store,
        redis,
        pepper=services.pepper,
        keyring=Keyring([SECRET.decode()]),
        admin_key=None,
        default_application=MINE,
        clock_ms=lambda: NOW_MS,
    )
    ledger = Ledger(redis, services.store, spool, hold_ttl_ms=30_000)
    bench = Bench(replace(services, ledger=ledger, directory=directory))
    async with bench.http:
        yield bench
    await ledger.close()
    await redis.close()


async def test_from_key_to_reset(real: Bench) -> None:
    """A made key works at once, its limit is counted, changed and reset, and revoking ends it."""
    admin = local_token(SECRET, NOW_MS // 1000)
    made = (await real.ask("POST", "/api/v1/keys", {"name": "k"}, key=admin)).json()
    key, body = made["key"], {"limit_name": "l", "limit_id": "l", "max": 0.000000000001}

    created = await real.ask("POST", LIMITS, body, key=key)
    again = await real.ask("POST", LIMITS, body, key=key)
    changed = await real.ask("PUT", f"{LIMITS}/l", {"max": 3}, key=key)
    budgets = await real.ask("GET", "/api/v1/budgets", key=key)
    reset = await real.ask("POST", f"{LIMITS}/l/reset", key=key)
    after = await real.ask("GET", f"{LIMITS}/l", key=key)
    deleted = await real.ask("DELETE", f"{LIMITS}/l", key=key)
    await real.ask("DELETE", f"/api/v1/keys/{made['key_id']}", key=admin)
    refused = await real.ask("GET", LIMITS, key=key)

    assert b'"max":1E-12' in created.content
    assert again.json()["message"] == "Limit existed already."
    assert changed.json()["limit"]["max"] == 3
    assert [item["remaining"] for item in budgets.json()["items"]] == [3]
    assert reset.json()["limit_history"]["totals"]["requests"]["total"] == 0
    assert after.json()["limit"]["totals"]["cost"]["total"]["base"] == 0
    assert deleted.status_code == 200
    assert refused.status_code == 401


async def test_a_reset_is_later_than_every_call_before_it(real: Bench) -> None:
    """By the clock that admitted them, and counted them in parts of a rolling window: what is in
    flight then is charged to none after it, however slow this machine's clock is."""
    admin = local_token(SECRET, NOW_MS // 1000)
    body = {"limit_name": "l", "limit_id": "l", "max": 9, "window": {"rolling": "1 hour"}}
    await real.ask("POST", LIMITS, body, key=admin)
    ledger, store = real.services.ledger, real.services.store
    assert isinstance(ledger, Ledger)
    of = await stored_limits.get(store, MINE, "l")
    assert of is not None
    assert await ledger.now_ms() > NOW_MS + 3_600_000
    hold = await ledger.reserve(row(application_id=MINE), (of,), Bounds(), expected_ms=5_000)
    assert isinstance(hold, Hold)

    await real.ask("POST", f"{LIMITS}/l/reset", key=admin)
    await ledger.settle(hold, msgspec.structs.replace(hold.row, cost_pico=7, input_pico=7), 1)

    [totals] = await ledger.present((of,))
    assert (totals.settled, totals.holds, totals.requests) == (0, 0, 0)
