"""Pay-i's error codes, one by one, from the running service: the code, its status, one grammar."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import httpx
import pytest

from tests.acceptance.tenant import CHAT, Tenant, new_tenant
from tests.standin.process import Standin
from tests.standin.service import Service

LIMITS, INGEST, CATEGORIES = "/api/v1/limits", "/api/v1/ingest", "/api/v1/categories"
AZURE = "/api/v1/proxy/azure.openai/openai/deployments/d/chat/completions?api-version=2024-06-01"
SAID = 'Hello. [[standin {"status": 500}]]'
BODY = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello."}]}
FAILS = BODY | {"messages": [{"role": "user", "content": SAID}]}
EVENT = {"category": "system.openai", "resource": "gpt-4o-mini", "units": {"text": {"input": 1}}}
AHEAD = "2099-01-01T00:00:00Z"
DAILY = {"window": {"every": "day"}}
NO_KEY = {"xProxy-Api-Key": "none"}


class Case(NamedTuple):
    """A request, and what is wrong with it."""

    code: str
    status: int
    method: str
    path: str
    body: Any = None
    headers: Mapping[str, str] = MappingProxyType({})


def limits(value: str) -> dict[str, str]:
    """The header that names limits."""
    return {"xProxy-Limit-IDs": value}


CASES = [
    # code                             status  request
    Case("invalid_api_key", 401, "GET", LIMITS, None, NO_KEY),
    Case("invalid_api_key", 401, "POST", INGEST, EVENT, NO_KEY),
    Case("invalid_api_key", 401, "POST", CHAT, BODY, NO_KEY),
    Case("request_processing_error", 400, "POST", LIMITS, {"limit_name": 5, "max": 1}),
    Case("request_processing_error", 400, "POST", INGEST, EVENT | {"resource": 5}),
    Case("header_is_missing", 400, "POST", AZURE, BODY, {"api-key": "k"}),
    Case("provider_error", 500, "POST", CHAT, FAILS),
    Case(
        *("invalid_provider_host", 400, "POST", CHAT, BODY),
        {"xProxy-Provider-BaseUri": "https://localhost/v1", "Authorization": "Bearer own"},
    ),
    Case(
        *("invalid_provider_uri", 400, "POST", CHAT, BODY),
        {"xProxy-Provider-BaseUri": "gopher://x", "Authorization": "Bearer own"},
    ),
    Case("required_field_missing", 400, "POST", LIMITS, {"max": 1}),
    Case("required_field_missing", 400, "POST", INGEST, {"category": "c"}),
    Case("required_field_missing", 400, "POST", f"{INGEST}/bulk-upsert", [EVENT]),
    Case("required_field_missing", 400, "POST", f"{CATEGORIES}/c/resources/r", {}),
    Case("required_field_missing", 400, "POST", CHAT, {"messages": []}),
    Case("invalid_json", 400, "POST", INGEST, b"{"),
    Case("invalid_json", 400, "POST", CHAT, b"{"),
    Case("invalid_tags", 400, "POST", INGEST, EVENT, {"xProxy-Request-Tags": "a b"}),
    Case("invalid_tags", 400, "POST", CHAT, BODY, {"xProxy-Request-Tags": "a b"}),
    Case("invalid_user_id", 400, "POST", INGEST, EVENT, {"xProxy-User-ID": "a b"}),
    Case("invalid_user_id", 400, "POST", CHAT, BODY, {"xProxy-User-ID": "a b"}),
    Case("category_not_found", 404, "GET", f"{CATEGORIES}/none/resources"),
    Case("category_not_found", 404, "DELETE", f"{CATEGORIES}/none"),
    Case("category_resource_not_found", 404, "GET", f"{CATEGORIES}/system.openai/resources/none"),
    Case("category_resource_not_found", 404, "DELETE", f"{CATEGORIES}/none/resources/none"),
    Case("invalid_limit_id", 400, "POST", INGEST, EVENT, limits("a b")),
    Case("invalid_limit_id", 400, "POST", CHAT, BODY, limits("a b")),
    Case("invalid_limit_ids", 400, "POST", INGEST, EVENT, limits("none")),
    Case("invalid_limit_ids", 400, "POST", CHAT, BODY, limits("none")),
    Case("limit_reached", 400, "POST", CHAT, BODY, limits("spent")),
    Case("not_enough_budget", 400, "POST", CHAT, BODY, {"xProxy-Budget-IDs": "spent"}),
    Case("duplicate_limit_id", 400, "POST", INGEST, EVENT, limits("allow, allow")),
    Case("duplicate_limit_id", 400, "POST", CHAT, BODY, limits("allow, allow")),
    Case(
        *("invalid_ingest_event_timestamp", 400, "POST", INGEST),
        EVENT | {"event_timestamp": AHEAD},
    ),
    Case("blocking_limit_not_allowed", 400, "POST", INGEST, EVENT, limits("spent")),
    Case("limit_not_found", 404, "GET", f"{LIMITS}/none"),
    Case("limit_not_found", 404, "PUT", f"{LIMITS}/none", {"max": 1}),
    Case("limit_not_found", 404, "DELETE", f"{LIMITS}/none"),
    Case("limit_not_found", 404, "POST", f"{LIMITS}/none/reset"),
    Case("limit_not_found", 404, "PUT", f"{LIMITS}/none/properties", {"properties": {}}),
    Case(
        *("create_limit_validation_failed", 400, "POST", LIMITS),
        {"limit_name": "allow", "limit_id": "allow", "max": 2},
    ),
    Case("update_limit_validation_failed", 400, "PUT", f"{LIMITS}/allow", DAILY),
    Case("limit_name_already_exist", 400, "POST", LIMITS, {"limit_name": "allow", "max": 2}),
    Case("limit_name_already_exist", 400, "PUT", f"{LIMITS}/spent", {"limit_name": "allow"}),
    Case("invalid_max_limit", 400, "POST", LIMITS, {"limit_name": "n", "max": -1}),
    Case("invalid_max_limit_update", 400, "PUT", f"{LIMITS}/spent", {"max": 0}),
    Case("invalid_use_case_name", 400, "POST", CHAT, BODY, {"xProxy-UseCase-Name": "a b"}),
    Case("invalid_use_case_name", 400, "POST", INGEST, EVENT, {"xProxy-UseCase-Name": "a b"}),
    Case("request_not_found", 404, "GET", "/api/v1/requests/none/result"),
    Case("request_not_found", 404, "GET", "/api/v1/requests/provider/c/none/result"),
    Case("request_not_found", 404, "PUT", "/api/v1/requests/none/properties", {"properties": {}}),
]
DOCUMENTED = {
    *("invalid_api_key", "request_processing_error", "header_is_missing", "provider_error"),
    *("invalid_provider_host", "invalid_provider_uri", "required_field_missing", "invalid_json"),
    *("invalid_tags", "invalid_user_id", "category_not_found", "category_resource_not_found"),
    *("invalid_limit_id", "invalid_limit_ids", "limit_reached", "duplicate_limit_id"),
    *("invalid_ingest_event_timestamp", "blocking_limit_not_allowed", "limit_not_found"),
    *("create_limit_validation_failed", "update_limit_validation_failed"),
    *("limit_name_already_exist", "invalid_max_limit", "invalid_max_limit_update"),
    *("invalid_use_case_name", "not_enough_budget"),
}
"""Those that Pay-i's pages name for what is served, less two that need a fault to be made:
`unexpected_error` (tests/api/test_server.py) and `invalid_provider_ssl_certificate`
(tests/proxy/test_origins.py)."""


@pytest.fixture(scope="module")
def wrong(service: Service, standin: Standin) -> Iterator[Tenant]:
    """A tenant with a limit that only counts, and one that blocks and is used up."""
    standin.wait_idle()
    standin.reset()
    tenant = new_tenant(service, permissions=["ingest", "base_uri"])
    tenant.limit("allow", limit_type="allow")
    tenant.limit("spent", "0.000001")
    assert tenant.post(CHAT, BODY, limits("spent")).status_code == 200
    yield tenant
    standin.reset()


def ask(tenant: Tenant, case: Case) -> httpx.Response:
    """The request of a case."""
    content = case.body if isinstance(case.body, bytes) else json.dumps(case.body).encode()
    return tenant.service.http.request(
        case.method,
        case.path,
        content=None if case.body is None else content,
        headers={
            "xProxy-Api-Key": tenant.key,
            "Content-Type": "application/json",
            **case.headers,
        },
    )


@pytest.mark.parametrize("case", CASES, ids=lambda it: f"{it.code}-{it.method}{it.path}")
def test_each_code_comes_with_its_status(wrong: Tenant, case: Case) -> None:
    """A code is the contract: it is in `xproxy_error`, the status is in the body too, and no member
    hides them from the provider's SDKs but the provider's own."""
    answer = ask(wrong, case)
    body = answer.json()
    assert (answer.status_code, body["xproxy_error"]["code"]) == (case.status, case.code), body
    assert body["statusCode"] == case.status
    assert body["message"]
    assert body["xproxy_error"]["message"]
    assert ("error" in body) is (case.code == "provider_error")
    if answer.status_code != 401:
        assert answer.headers["xproxy-request-id"]


def test_every_documented_code_is_there() -> None:
    """No line of the page is left out."""
    assert {it.code for it in CASES} - {"request_not_found"} == DOCUMENTED
