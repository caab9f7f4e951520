"""The newest `payi` reports what was also made through the proxy: nothing is charged twice."""

from __future__ import annotations

from typing import Any

import pytest
from payi import Payi

from tests.acceptance import clients
from tests.acceptance.tenant import Tenant, new_tenant
from tests.standin.process import Standin
from tests.standin.service import Service


@pytest.fixture
def reporting(service: Service, standin: Standin) -> Tenant:
    """A tenant whose key may report calls, under a limit."""
    standin.wait_idle()
    standin.reset()
    tenant = new_tenant(service, permissions=["ingest"])
    tenant.limit("team", limit_type="allow")
    return tenant


@pytest.mark.parametrize("stream", [False, True])
def test_each_call_is_charged_as_it_was_measured(
    reporting: Tenant, standin: Standin, *, stream: bool
) -> None:
    """Reported the moment its answer is there, and again once its row has landed."""
    headers = {"xProxy-Limit-IDs": "team"}
    with clients.openai_client(reporting) as client:
        answer: Any = clients.chat(client, stream=stream, extra_headers=headers)
        made = [*answer][-1] if stream else answer
    result = made.model_extra["xproxy_result"]
    event: Any = {
        "category": "system.openai",
        "resource": "gpt-4o-mini",
        "units": {"text": {"input": 10**6, "output": 10**6}},
        "provider_response_id": made.id,
    }
    with Payi(api_key=reporting.key, base_url=reporting.service.url, max_retries=0) as payi:
        for _ in range(2):
            reported = payi.ingest.units(**event, limit_ids=["team"])
            assert reported.request_id == result["request_id"]
            assert reported.xproxy_result.duplicate_request
            cost: Any = reported.xproxy_result.cost
            assert cost.total.base == result["cost"]["total"]["base"]
            assert payi.ingest.bulk(events=[event]).ingest_count == 0
            reporting.row()
    [billed] = standin.ledger()
    assert reporting.row()["cost_pico"] == str(billed.cost_pico)
    totals = reporting.totals("team")
    assert totals["requests"]["total"] == 1
