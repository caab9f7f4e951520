"""Who names limits by their first header reads them in results under their first name."""

from __future__ import annotations

from typing import Any

from tests.acceptance import clients
from tests.acceptance.tenant import CHAT, Tenant, new_tenant
from tests.standin.process import Standin
from tests.standin.service import Service

OLD = {"xProxy-Budget-IDs": "team", "xProxy-Experience-Name": "chat", "xProxy-Experience-Id": "e1"}
BODY = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello."}]}


def test_results_have_both_names(tenant: Tenant, standin: Standin) -> None:
    """In an answer, in a stream and in a provider's error; others see one name."""
    tenant.limit("team")
    results: list[Any] = [tenant.post(CHAT, BODY, OLD).json()["xproxy_result"]]
    with clients.openai_client(tenant) as client:
        chunks = list(clients.chat(client, stream=True, extra_headers=OLD))
    results.append(chunks[-1].model_extra["xproxy_result"])
    for result in results:
        assert result["budgets"] == result["limits"] == {"team": {"state": "ok"}}
        assert result["experience_id"] == result["use_case_id"] == "e1"
        assert "blocked_budget_ids" not in result
    plain = tenant.post(CHAT, BODY, {"xProxy-Limit-IDs": "team"}).json()["xproxy_result"]
    assert "budgets" not in plain
    standin.script({"status": 500})
    failed = tenant.post(CHAT, BODY, OLD).json()["xproxy_result"]
    assert failed["budgets"] == failed["limits"] == {"team": {"state": "failed"}}


def test_a_refusal_has_them_too(tenant: Tenant, standin: Standin) -> None:
    """With the code and the words of its time."""
    tenant.limit("team", "0.000001")
    tenant.post(CHAT, BODY, OLD)
    refused = tenant.post(CHAT, BODY, OLD)
    body = refused.json()
    assert (refused.status_code, body["statusCode"]) == (400, 400)
    assert body["message"].startswith("Insufficient budget for the requested operation")
    assert body["xproxy_error"]["code"] == "not_enough_budget"
    result = body["xproxy_result"]
    assert result["budgets"] == result["limits"] == {"team": {"state": "blocked"}}
    assert result["blocked_budget_ids"] == result["blocked_limit_ids"] == ["team"]


def test_reports_too(service: Service) -> None:
    """The first SDKs' `ingest.units` reads `xproxy_result.budgets`."""
    tenant = new_tenant(service, permissions=["ingest"])
    tenant.limit("team", limit_type="allow")
    event = {
        "category": "system.openai",
        "resource": "gpt-4o-mini",
        "units": {"text": {"input": 1_000}},
        "provider_response_id": "r1",
    }
    for duplicate in (None, True):
        answer = tenant.post("/api/v1/ingest", event, OLD).json()
        result = answer["xproxy_result"]
        assert result["budgets"] == result["limits"] == {"team": {"state": "ok"}}
        assert result.get("duplicate_request") is duplicate
