"""A limit's window through the real service: it refuses until the window ends, and says so."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import anthropic
import openai
import pytest
from redis import Redis

from metering.ledger.replies import what_is
from metering.redis import share
from tests.acceptance import clients
from tests.acceptance.tenant import Tenant
from tests.builders import but_for
from tests.standin.process import Standin

SPENT = 0.000001
"""A limit that the first call crosses."""
HOUR_MS = 3_600_000


def hourly(tenant: Tenant) -> str:
    """Create a limit that the first call of an hour crosses; gives when this hour ends: it is one
    of a zone in which it does not while a test runs."""
    zone, offset = ("UTC", 0) if 5 < datetime.now(UTC).minute < 55 else ("Asia/Kolkata", 30)
    body = {"limit_id": "hourly", "limit_name": "hourly", "max": SPENT, "limit_type": "block"}
    window = {"every": "hour", "zone": zone}
    made = tenant.manage("POST", "limits", body | {"window": window})["limit"]
    start = datetime.now(UTC) - timedelta(minutes=offset)
    end = start.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1, minutes=offset)
    assert made["window"] == window
    assert datetime.fromisoformat(made["resets_at"]) == end
    resets_at: str = made["resets_at"]
    return resets_at


def an_hour_passes(tenant: Tenant) -> None:
    """What was counted until now was counted an hour ago."""
    running = json.loads((tenant.service.data_dir / "run.json").read_text())
    name = share(tenant.application_id).limit("hourly")
    with Redis.from_url(running["redis_url"]) as redis:
        packed: Any = redis.hget(name, "is")
        redis.hset(name, "is", but_for(packed, epoch=what_is(packed)[2] - HOUR_MS))


def budget(tenant: Tenant) -> dict[str, Any]:
    """What is left."""
    found: list[dict[str, Any]] = tenant.manage("GET", "budgets")["items"]
    return found[0]


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_a_used_up_window_refuses_until_it_ends(
    provider: str, tenant: Tenant, standin: Standin
) -> None:
    """Answers and refusals say when it begins anew; a call in the next one is let in."""
    resets_at = hourly(tenant)
    headers = {"xProxy-Limit-IDs": "hourly"}
    make: Any = clients.openai_client if provider == "openai" else clients.anthropic_client
    ask: Any = clients.chat if provider == "openai" else clients.message
    with make(tenant, max_retries=3) as client:
        first = ask(client, extra_headers=headers).xproxy_result
        assert first["limits"] == {"hourly": {"state": "overrun", "resets_at": resets_at}}
        with pytest.raises((openai.BadRequestError, anthropic.BadRequestError)) as caught:
            ask(client, extra_headers=headers)
        refusal: Any = caught.value.response  # type: ignore[attr-defined]
        assert refusal.headers["x-should-retry"] == "false"
        assert "retry-after" not in refusal.headers
        assert refusal.headers["xproxy-resets-at"] == f"hourly={resets_at}"
        assert f"used up until {resets_at}; raise or reset it" in refusal.json()["message"]
        blocked = refusal.json()["xproxy_result"]["limits"]
        assert blocked == {"hourly": {"state": "blocked", "resets_at": resets_at}}
        assert tenant.result(first["request_id"])["limits"] == first["limits"]
        assert tenant.result(refusal.json()["xproxy_result"]["request_id"])["limits"] == blocked
        assert budget(tenant)["remaining"] == 0

        an_hour_passes(tenant)
        left = budget(tenant)
        assert (left["spent"], left["state"], left["resets_at"]) == (0, "ok", resets_at)
        again = ask(client, extra_headers=headers).xproxy_result
    assert again["limits"] == {"hourly": {"state": "overrun", "resets_at": resets_at}}
    assert len(standin.ledger()) == 2


def test_a_streamed_answer_says_it_too(tenant: Tenant, standin: Standin) -> None:
    """In the chunk that carries the result."""
    resets_at = hourly(tenant)
    headers = {"xProxy-Limit-IDs": "hourly"}
    with clients.openai_client(tenant) as client:
        chunks = list(clients.chat(client, stream=True, extra_headers=headers))
    [result] = [it.xproxy_result for it in chunks if hasattr(it, "xproxy_result")]
    assert result["limits"] == {"hourly": {"state": "overrun", "resets_at": resets_at}}
    assert len(standin.ledger()) == 1


def test_what_a_window_came_to_is_kept(tenant: Tenant, standin: Standin) -> None:
    """The history has it to the pico once its rows have landed; a reset ends it early."""
    hourly(tenant)
    headers = {"xProxy-Limit-IDs": "hourly"}
    with clients.openai_client(tenant) as client:
        clients.chat(client, extra_headers=headers)
        tenant.rows(1)
        tenant.manage("POST", "limits/hourly/reset")
        clients.chat(client, extra_headers=headers)
    cost, _ = (row["cost_pico"] for row in tenant.rows(2))
    [period] = tenant.manage("GET", "limits/hourly/history")["items"]
    total = period["totals"]["cost"]["total"]
    assert str(int(total["base"].scaleb(12))) == cost
    assert period["totals"]["requests"]["overrun"] == 1
    starts, ends = (datetime.fromisoformat(period[it]) for it in ("starts_at", "ends_at"))
    assert starts < ends <= datetime.fromtimestamp(time.time(), UTC)
    assert len(standin.ledger()) == 2


@pytest.mark.parametrize(
    ("window", "says"),
    [
        ({"every": "day", "zone": "Europe/Atlantis"}, "'Europe/Atlantis' is no time zone"),
        ({"every": "10 days"}, "window.anchor must be a day"),
        ({"rolling": "now"}, "window.rolling must be such as"),
        ({"every": "day", "tz": "UTC"}, "'tz'"),
    ],
)  # fmt: skip
def test_what_is_no_window_is_refused(tenant: Tenant, window: dict[str, str], says: str) -> None:
    """By the member's name, with the rule."""
    body = {"limit_name": "w", "max": 1, "window": window}
    refused = tenant.post("/api/v1/limits", body)
    assert refused.status_code == 400
    assert says in refused.json()["message"]
