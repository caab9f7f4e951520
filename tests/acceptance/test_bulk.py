"""Many calls reported at once: each is metered exactly once, however often it is sent.

`XPROXY_TEST_SIZE=full` sends the 100,000 that `docs/performance.md` gives the rate of.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from random import Random
from typing import Any, Literal

import pytest

from tests.acceptance.tenant import Tenant, new_tenant
from tests.standin.service import Service

EACH_USD = Decimal("0.00021")
"""1,000 tokens in and 100 out of gpt-4o-mini."""
TOGETHER = 2_000
PROSE = "".join(Random(1).choices("etaoinshrdlu" * 5 + "cmwfgypbvk" * 2 + " " * 12, k=4_000))


def event(number: int, *, logged: bool) -> dict[str, Any]:
    """A call as the SDK reports it; `logged` with some 4 KB of what was said in it."""
    said = {
        "provider_request_headers": [{"name": "user-agent", "value": "OpenAI/Python"}],
        "provider_request_json": text(number, 2_000),
        "provider_response_json": [text(number, 1_000), text(number + 1, 1_000)],
    }
    return (said if logged else {}) | {
        "category": "system.openai",
        "resource": "gpt-4o-mini",
        "units": {"text": {"input": 1_000, "output": 100}},
        "provider_response_id": f"chatcmpl-{number}",
        "limit_ids": ["all"],
        "end_to_end_latency_ms": 900,
        "http_status_code": 200,
        "properties": {"team": "search"},
        "user_id": f"user-{number % 50}",
    }


def text(number: int, length: int) -> str:
    """So much text, another one each time, and as hard to compress as prose."""
    start = number % 1_000
    return f"{number} {PROSE[start : start + length]}"[:length]


def report(tenant: Tenant, numbers: range, *, logged: bool) -> tuple[int, int]:
    """Report some calls; how many were new, and how many were not."""
    events = [event(number, logged=logged) for number in numbers]
    answer = tenant.manage("POST", "ingest/bulk", events)
    assert answer["error_count"] == 0, answer["errors"][:1]
    return answer["ingest_count"], answer["duplicate_count"]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("logged", [False, True], ids=["bare", "logged"])
def test_half_of_many_is_sent_twice(
    service: Service,
    size: Literal["ci", "full", "soak"],
    record_property: Any,
    *,
    logged: bool,
) -> None:
    """Rows, sums and the limit have each call once, whether its repetition came at the same moment
    or later; the books balance to the pico. So it is with all that was said in them."""
    count = 2 * TOGETHER if size == "ci" else 100_000
    tenant = new_tenant(service, permissions=["ingest"])
    tenant.manage("POST", "limits", {"limit_id": "all", "limit_name": "all", "max": 10**6})
    began, new, known = time.monotonic(), 0, 0
    with ThreadPoolExecutor(2) as pool:
        for start in range(0, count, TOGETHER):
            some = range(start, start + TOGETHER)
            asked = [pool.submit(report, tenant, some, logged=logged)]
            if start // TOGETHER % 2:  # every other request comes twice at once
                asked.append(pool.submit(report, tenant, some, logged=logged))
            for it in asked:
                new, known = new + it.result()[0], known + it.result()[1]
    took_s = time.monotonic() - began
    record_property("events_per_s", round((new + known) / took_s))
    print(f"{new + known} events in {took_s:.1f} s: {(new + known) / took_s:.0f}/s")
    assert (new, known) == (count, count // 2)
    totals = tenant.totals("all")
    assert totals["requests"]["total"] == totals["requests"]["ok"] == count
    assert totals["cost"]["total"]["base"] == count * EACH_USD
    deadline = time.monotonic() + 30 + count / 500
    while (groups := landed(tenant)) != (count, count * EACH_USD):
        assert time.monotonic() < deadline, groups
        time.sleep(0.2)
    print(f"landed {time.monotonic() - began:.1f} s after the first was sent")
    checked = service.manage("POST", "audit/check", {}, application=tenant.application_id)
    assert checked["differences"] == []
    for number in (0, count // 2, count - 1) if logged else ():
        found = tenant.manage("GET", f"requests/provider/system.openai/chatcmpl-{number}/bodies")
        assert found["provider_request_json"] == text(number, 2_000)


def landed(tenant: Tenant) -> tuple[int, Decimal]:
    """How many calls have landed, and what they cost."""
    groups = tenant.manage("GET", "usage", group_by="status")["items"]
    return sum(it["calls"] for it in groups), sum((it["cost_usd"] for it in groups), Decimal(0))
