"""A limit's window on the wire: said once, shown with its bounds, kept; and its history."""

from __future__ import annotations

from typing import Any

import pytest

from metering.core.limits import Charge, Totals
from metering.core.money import PICO_PER_USD as USD
from metering.store import Store, limits, usage
from tests.api.conftest import MINE, NOW_MS, Bench
from tests.builders import request_id, row

LIMITS = "/api/v1/limits"
HOUR = 3_600_000
START = NOW_MS // HOUR * HOUR
"""When the hour began that is now, 2026-09-21 14:00 UTC; ten minutes before now."""
DAILY = {"every": "Day", "zone": "UTC"}
HOURLY = {"every": "hour", "zone": "UTC"}
BERLIN = {"every": "month", "zone": "Europe/Berlin"}


@pytest.mark.parametrize(
    ("window", "stored", "starts_at", "resets_at"),
    [
        # asked, what it means, and the bounds around 2026-09-21T14:13:20Z
        (BERLIN, BERLIN, "2026-08-31T22:00:00Z", "2026-09-30T22:00:00Z"),
        (HOURLY, HOURLY, "2026-09-21T14:00:00Z", "2026-09-21T15:00:00Z"),
        (DAILY, DAILY | {"every": "day"}, "2026-09-21T00:00:00Z", "2026-09-22T00:00:00Z"),
        (
            {"every": "week", "zone": "America/New_York", "first_day": "Sunday"},
            {"every": "week", "zone": "America/New_York", "first_day": "sunday"},
            "2026-09-20T04:00:00Z",
            "2026-09-27T04:00:00Z",
        ),
        (
            {"every": "10 days", "anchor": "2026-01-31"},
            {"every": "10 days", "zone": "UTC", "anchor": "2026-01-31"},
            "2026-09-18T00:00:00Z",
            "2026-09-28T00:00:00Z",
        ),
        ({"rolling": "24 hours"}, {"rolling": "24 hours"}, None, None),
        (None, None, None, None),
    ],
)  # fmt: skip
async def test_a_window_is_shown_with_its_bounds(
    bench: Bench, window: Any, stored: Any, starts_at: str | None, resets_at: str | None
) -> None:
    """When it is created, read, listed, and in budgets: nothing where there is none."""
    made = await bench.limit(window=window)
    read = (await bench.ask("GET", f"{LIMITS}/l")).json()["limit"]
    [listed] = (await bench.ask("GET", LIMITS)).json()["items"]
    [budget] = (await bench.ask("GET", "/api/v1/budgets")).json()["items"]
    for one in (made, read, listed):
        found = [one.get(name) for name in ("window", "window_starts_at", "resets_at")]
        assert found == [stored, starts_at, resets_at]
        assert ("resets_at" in one) == (resets_at is not None)
    assert (budget["window"], budget["resets_at"]) == (stored, resets_at)


async def test_a_window_that_ended_shows_zeros_and_the_new_bounds(bench: Bench) -> None:
    """Without any call in it; max may then be lowered below what the last one came to."""
    await bench.limit(window={"every": "hour"})
    bench.spend("l", settled=9 * USD)
    bench.ledger.at_ms = NOW_MS + HOUR

    [budget] = (await bench.ask("GET", "/api/v1/budgets")).json()["items"]
    changed = (await bench.ask("PUT", f"{LIMITS}/l", {"max": 2})).json()["limit"]

    assert (budget["spent"], budget["remaining"]) == (0, 10)
    assert budget["resets_at"] == changed["resets_at"] == "2026-09-21T16:00:00Z"
    assert changed["window_starts_at"] == "2026-09-21T15:00:00Z"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"window": {"every": "day"}}, 400),
        ({"window": {"every": "month"}}, 400),
        ({"window": {"rolling": "24 hours"}, "max": 20}, 400),
        ({"window": BERLIN | {"every": "Month"}, "max": 20}, 200),
        ({"window": None, "max": 20}, 200),
    ],
)
async def test_a_live_limit_keeps_its_window(bench: Bench, body: Any, status: int) -> None:
    """Another is refused by the member's name, and nothing else of that change is made either."""
    await bench.limit(window=BERLIN)
    response = await bench.ask("PUT", f"{LIMITS}/l", body)
    after = (await bench.ask("GET", f"{LIMITS}/l")).json()["limit"]
    assert response.status_code == status
    assert after["window"] == BERLIN
    assert after["max"] == (20 if status == 200 else 10)
    if status == 400:
        fault = response.json()
        assert fault["xproxy_error"]["code"] == "update_limit_validation_failed"
        assert fault["message"] == "window of a limit stays as it was created: make another limit"


async def test_a_reset_within_a_window_ends_with_it(bench: Bench, store: Store) -> None:
    """The bounds stay; the epoch is later than the window's, and than now."""
    await bench.limit(window={"every": "hour"})
    bench.spend("l", settled=3 * USD)
    reset = (await bench.ask("POST", f"{LIMITS}/l/reset")).json()["limit_history"]
    after = (await bench.ask("GET", f"{LIMITS}/l")).json()["limit"]
    assert reset["totals"]["cost"]["total"]["base"] == 3
    assert after["totals"]["cost"]["total"]["base"] == 0
    assert after["window_starts_at"] == "2026-09-21T14:00:00Z"
    assert after["resets_at"] == "2026-09-21T15:00:00Z"


async def land(store: Store, charges: dict[int, int]) -> None:
    """Rows that were charged so many dollars in these epochs."""
    await usage.insert(
        store,
        [
            (
                row(application_id=MINE, request_id=request_id(), status="ok"),
                (Charge("l", epoch, "usd", dollars * USD, "ok"),),
            )
            for epoch, dollars in charges.items()
        ],
    )


async def history(bench: Bench, query: str = "") -> Any:
    """The answer of the history."""
    response = await bench.ask("GET", f"{LIMITS}/l/history{query}", key="read-key")
    assert response.status_code == 200, response.text
    return response.json()


def period(item: Any) -> tuple[str, str, int, int, int]:
    """When, max, what it came to, and by how much it was beyond."""
    total = item["totals"]["cost"]["total"]
    return (item["starts_at"], item["ends_at"], item["max"], total["base"], total["overrun_base"])


async def test_history_has_each_window_that_ended(bench: Bench, store: Store) -> None:
    """Latest first, page by page, the present one not among them; a reset ends one early, and what
    it had as max is kept with it."""
    await bench.limit(window={"every": "hour"})
    created = bench.ledger.counters[MINE, "l"].epoch
    bench.ledger.at_ms = NOW_MS + 4 * HOUR
    reset_at = START + 3 * HOUR + 60_000
    await land(
        store,
        {
            created - HOUR: 100,  # of a limit that had this id before
            created: 12,
            START + 2 * HOUR: 7,
            START + 3 * HOUR: 1,
            reset_at: 2,
            START + 4 * HOUR: 5,
        },
    )
    ended = Totals(epoch=created)
    await limits.set_epoch(store, MINE, "l", reset_at, totals=ended, reset_ms=reset_at)
    await limits.update(store, MINE, "l", max=3 * USD, updated_ms=reset_at)

    found = await history(bench)

    assert [period(it) for it in found["items"]] == [
        ("2026-09-21T17:01:00Z", "2026-09-21T18:00:00Z", 3, 2, 0),
        ("2026-09-21T17:00:00Z", "2026-09-21T17:01:00Z", 10, 1, 0),
        ("2026-09-21T16:00:00Z", "2026-09-21T17:00:00Z", 10, 7, 0),
        (f"2026-09-21T14:13:20.{created % 1000:03}000Z", "2026-09-21T15:00:00Z", 10, 12, 2),
    ]
    first = await history(bench, "?limit=3")
    second = await history(bench, f"?limit=3&cursor={first['cursor']}")
    assert first["items"] + second["items"] == found["items"]
    assert "cursor" not in found.keys() | second.keys()
    assert found["as_of"].startswith("2026-09-21T14:13:20")
    assert (await bench.ask("GET", f"{LIMITS}/l/history", key="other-key")).status_code == 404


async def test_history_of_other_limits(bench: Bench, store: Store) -> None:
    """Without a window it is what was between resets; of a rolling one, parts that left or were
    ended by a reset."""
    await bench.limit(window={"rolling": "1 hour"})
    created = bench.ledger.counters[MINE, "l"].epoch
    minute = created // 60_000 * 60_000
    bench.ledger.at_ms = NOW_MS + 2 * HOUR
    await land(store, {created: 1, minute + 120_000: 2, minute + 2 * HOUR - 60_000: 4})
    assert [period(it)[:2] + period(it)[3:4] for it in (await history(bench))["items"]] == [
        ("2026-09-21T14:15:00Z", "2026-09-21T14:16:00Z", 2),
        (f"2026-09-21T14:13:20.{created % 1000:03}000Z", "2026-09-21T14:14:00Z", 1),
    ]
    bench.ledger.at_ms = created + 1
    assert (await history(bench))["items"] == []
    await bench.ask("POST", f"{LIMITS}/l/reset")
    [ended] = (await history(bench))["items"]
    assert period(ended)[3] == 1
    await bench.ask("DELETE", f"{LIMITS}/l")

    await bench.limit()
    created = bench.ledger.counters[MINE, "l"].epoch
    await land(store, {created: 6})
    assert (await history(bench))["items"] == []
    await bench.ask("POST", f"{LIMITS}/l/reset")
    [ended] = (await history(bench))["items"]
    assert period(ended)[2:4] == (10, 6)
