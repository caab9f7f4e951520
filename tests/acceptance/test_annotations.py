"""What a call says about itself ends in its usage row, and comes back in its result."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from payi.lib.helpers import create_headers

from tests.acceptance import clients
from tests.acceptance.tenant import CHAT, MESSAGES, Tenant, new_tenant
from tests.standin.process import Standin
from tests.standin.service import Service

PROPERTIES = {"team": "search", "city": "Zürich", "empty": None}
RAW = json.dumps(PROPERTIES)
UTF8 = json.dumps(PROPERTIES, ensure_ascii=False)
BASE64 = base64.b64encode(RAW.encode()).decode()
URL_BASE64 = base64.urlsafe_b64encode(UTF8.encode()).decode()

# header, value, member of the row, its value, member of xproxy_result (its value is the same)
HEADERS: list[tuple[str, str, str, Any, str | None]] = [
    ("xProxy-Request-Tags", "a, b,a", "tags", ["a", "b"], "request_tags"),
    ("xProxy-User-ID", "ann@example.com", "user_id", "ann@example.com", "user_id"),
    ("xProxy-Account-Name", "ACME & Söhne", "account_name", "ACME & Söhne", "account_name"),
    ("xProxy-UseCase-Name", "summary.v-2", "use_case_name", "summary.v-2", "use_case_name"),
    ("xProxy-Experience-Name", "summary", "use_case_name", "summary", "use_case_name"),
    ("xProxy-UseCase-ID", "run 7", "use_case_id", "run 7", "use_case_id"),
    ("xProxy-UseCase-ID", "run-7", "use_case_id", "run-7", "experience_id"),
    ("xProxy-Experience-ID", "run-8", "use_case_id", "run-8", "use_case_id"),
    ("xProxy-Experience-InstanceId", "run-9", "use_case_id", "run-9", "use_case_id"),
    ("xProxy-UseCase-Version", "3", "use_case_version", 3, None),
    ("xProxy-UseCase-Step", "draft", "use_case_step", "draft", "use_case_step"),
    ("xProxy-Request-Properties", RAW, "properties", PROPERTIES, None),
    ("xProxy-Request-Properties", UTF8, "properties", PROPERTIES, None),
    ("xProxy-Request-Properties", BASE64, "properties", PROPERTIES, None),
    ("xProxy-Request-Properties", URL_BASE64.rstrip("="), "properties", PROPERTIES, None),
    ("xProxy-UseCase-Properties", RAW, "use_case_properties", PROPERTIES, None),
    ("xProxy-UseCase-Properties", BASE64, "use_case_properties", PROPERTIES, None),
    ("xProxy-PriceAs-Category", "system.openai", "price_as_category", "system.openai", None),
    ("xProxy-PriceAs-Resource", "gpt-4o", "price_as_resource", "gpt-4o", None),
    ("xProxy-RouteAs-Resource", "gpt-4o", "price_as_resource", "gpt-4o", None),
    ("xProxy-Resource-Scope", "datazone.eu", "scope", "datazone.eu", None),
    ("XPROXY-USER-ID", "loud", "user_id", "loud", "user_id"),
]


@pytest.fixture
def tenant(tenant: Tenant, service: Service) -> Tenant:
    """A tenant whose key may price one model as another."""
    return new_tenant(service, permissions=["price_as"])


@pytest.mark.parametrize(
    ("header", "value", "member", "expected", "echo"), HEADERS, ids=lambda value: str(value)[:30]
)
def test_each_header_ends_in_the_row_and_the_result(
    header: str, value: str, member: str, expected: Any, echo: str | None, tenant: Tenant
) -> None:
    """Current and legacy names, any case, both encodings of properties."""
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello."}]}
    sent = {b"xProxy-Api-Key": tenant.key.encode(), header.encode(): value.encode()}
    answer = tenant.service.http.post(CHAT, json=body, headers=sent)
    assert answer.status_code == 200, answer.text
    row = tenant.row()
    assert row[member] == expected
    if echo is not None:
        assert answer.json()["xproxy_result"][echo] == expected
        assert tenant.result(row["request_id"])[echo] == expected


@pytest.mark.parametrize("name", ["xProxy-Limit-IDs", "xProxy-Budget-IDs"])
@pytest.mark.parametrize("path", [CHAT, MESSAGES])
def test_limits_are_named_in_either_way(name: str, path: str, tenant: Tenant) -> None:
    """Both names of the header charge every limit they list, and the row says what each got."""
    for limit_id in ("one", "two"):
        tenant.limit(limit_id)
    body = {"model": "gpt-4o-mini" if path == CHAT else "claude-haiku-4-5", "max_tokens": 50}
    answer = tenant.post(path, body | {"messages": []}, {name: "one, two"})
    assert answer.json()["xproxy_result"]["limits"] == {
        "one": {"state": "ok"},
        "two": {"state": "ok"},
    }
    row = tenant.row()
    assert [charge["limit_id"] for charge in row["limits"]] == ["one", "two"]
    assert {charge["amount"] for charge in row["limits"]} == {row["cost_usd"]}


def test_everything_at_once_with_the_helper(tenant: Tenant, standin: Standin) -> None:
    """`create_headers` of the payi package, every argument; none of it goes to the provider."""
    tenant.limit("team")
    headers = create_headers(
        limit_ids=["team"],
        user_id="ann",
        account_name="acme",
        use_case_id="run-1",
        use_case_name="chat",
        use_case_version=2,
        use_case_step="draft",
        use_case_properties={"a": "1"},
        request_properties={"b": "2"},
        price_as_category="system.openai",
        price_as_resource="gpt-4o",
        resource_scope="global",
        log_prompt_and_response=False,
    )
    with clients.openai_client(tenant) as client:
        result = clients.chat(client, extra_headers=headers).xproxy_result
    expected = {
        "user_id": "ann",
        "account_name": "acme",
        "use_case_id": "run-1",
        "use_case_name": "chat",
        "use_case_step": "draft",
    }
    row = tenant.row()
    assert result.items() >= (expected | {"limits": {"team": {"state": "ok"}}}).items()
    assert row.items() >= expected.items()
    assert row["use_case_version"] == 2
    assert (row["properties"], row["use_case_properties"]) == ({"b": "2"}, {"a": "1"})
    assert (row["model"], row["model_requested"]) == ("gpt-4o", clients.CHAT_MODEL)
    assert row["price_id"].startswith("openai/gpt-4o@")
    assert result["resource_id"] == row["price_id"]
    [call] = standin.ledger()
    assert call.leaks == []
    assert call.model == "gpt-4o-mini-2024-07-18"


@pytest.mark.parametrize("value", ["True", "true", "False"])
def test_logging_can_be_disabled(value: str, tenant: Tenant) -> None:
    """The header is understood; the call is metered either way, and no body is kept in any case."""
    secret = "a very particular prompt"
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": secret}]}
    answer = tenant.post(CHAT, body, {"xProxy-Logging-Disable": value})
    assert answer.status_code == 200
    row = tenant.row()
    assert int(row["cost_pico"]) > 0
    assert secret not in str(row)
    assert secret not in tenant.service.log.read_text()


def test_pricing_as_another_model_takes_a_permission(service: Service, standin: Standin) -> None:
    """Without `price_as` nobody makes his calls cheaper than they are."""
    tenant = new_tenant(service)
    standin.reset()
    body = {"model": "gpt-4o", "messages": []}
    answer = tenant.post(CHAT, body, {"xProxy-PriceAs-Resource": "gpt-4o-mini"})
    assert answer.status_code == 403
    assert "permission `price_as`" in answer.json()["message"]
    assert standin.ledger() == []


def test_usage_is_found_by_what_calls_said(tenant: Tenant) -> None:
    """User, use case, tag, model, provider, limit, key and status select rows; groups add up."""
    tenant.limit("team")
    body = {"model": "gpt-4o-mini", "messages": []}
    mine = {
        "xProxy-User-ID": "ann",
        "xProxy-UseCase-Name": "chat",
        "xProxy-Request-Tags": "blue",
        "xProxy-Limit-IDs": "team",
    }
    found = tenant.post(CHAT, body, mine).json()["xproxy_result"]["request_id"]
    tenant.post(MESSAGES, {"model": "claude-haiku-4-5", "messages": [], "max_tokens": 9})
    assert len(tenant.rows(2)) == 2
    queries: list[dict[str, str | int]] = [
        {"user": "ann"},
        {"use_case": "chat"},
        {"tag": "blue"},
        {"limit": "team"},
        {"provider": "openai"},
        {"model": "gpt-4o-mini-2024-07-18"},
        {"key": tenant.key_id, "provider": "openai"},
        {"status": "ok", "user": "ann"},
    ]
    for query in queries:
        headers = {"xProxy-Api-Key": tenant.key}
        page = tenant.service.http.get("/api/v1/usage", params=query, headers=headers).json()
        assert [it["request_id"] for it in page["items"]] == [found], query
    groups = tenant.manage("GET", "usage", group_by="provider")["items"]
    assert {it["provider"]: it["calls"] for it in groups} == {"openai": 1, "anthropic": 1}
