"""What Pay-i's clients send that is odd is taken; what is of the wrong type is named."""

from __future__ import annotations

import itertools
import json
from typing import Any

import httpx
import pytest

from tests.acceptance.tenant import Tenant, new_tenant
from tests.standin.service import Service

LIMITS, INGEST, CATEGORIES = "/api/v1/limits", "/api/v1/ingest", "/api/v1/categories"
EVENT: dict[str, Any] = {"category": "system.openai", "units": {"text": {"input": 1}}}
RESOURCE = f"{CATEGORIES}/a%2Fb%20c/resources/d%25e"
OLD_EVENT = {"provider_prompt": {"a": 1}, "provider_response": "x", "experience_properties": {}}
CALLED = {"provider_response_function_calls": [{"name": "f", "arguments": "{}"}, {"name": "g"}]}
OLD_LIMIT = {
    "limit_tags": ["a"],
    "limit_basis": "base",
    "cost_basis": "billed",
    "billing_model_id": "x",
    "currency": "usd",
}
LISTS = [
    LIMITS,
    "/api/v1/budgets",
    CATEGORIES,
    f"{CATEGORIES}/system.openai/resources",
    f"{CATEGORIES}/system.openai/resources/gpt-4o",
    RESOURCE,
]
_numbers = itertools.count()


@pytest.fixture(scope="module")
def tenant(service: Service) -> Tenant:
    """A tenant with a limit `l` and a resource whose name has to be encoded."""
    tenant = new_tenant(service, permissions=["ingest"])
    tenant.limit("l", limit_type="allow")
    assert send(tenant, "POST", RESOURCE, {"units": {}}).status_code == 201
    return tenant


def send(
    tenant: Tenant, method: str, path: str, body: object = None, **headers: str
) -> httpx.Response:
    """One request; a body of bytes as it is."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = {"xProxy-Api-Key": tenant.key, "Content-Type": "application/json", **headers}
    return tenant.service.http.request(
        method, path, content=None if body is None else content, headers=sent
    )


def limit(**members: Any) -> dict[str, Any]:
    """A new limit's body."""
    return {"limit_name": f"n{next(_numbers)}", "max": 1, **members}


@pytest.mark.parametrize("query", ["limit=0", "cursor=cursor", "limit=0&cursor=%25%2F&Active=true"])
@pytest.mark.parametrize("path", LISTS)
def test_listings_take_a_limit_of_zero_and_any_cursor(
    tenant: Tenant, path: str, query: str
) -> None:
    """Zero is the default, and what is no cursor of ours is the first page."""
    first = send(tenant, "GET", path).json()["items"]
    answer = send(tenant, "GET", f"{path}?{query}")
    assert answer.status_code == 200, answer.text
    assert first
    if "Active" not in query:
        assert [*map(named, answer.json()["items"])] == [*map(named, first)]


def named(item: dict[str, Any]) -> tuple[Any, ...]:
    """What an item is called."""
    return tuple(item.get(name) for name in ("limit_id", "category", "resource", "resource_id"))


@pytest.mark.parametrize(
    ("method", "path", "body", "headers"),
    [
        ("POST", LIMITS, limit(max=0, threshold=0), {}),
        ("POST", LIMITS, limit(limit_type="Allow"), {}),
        ("POST", LIMITS, limit(**OLD_LIMIT), {}),
        ("PUT", f"{LIMITS}/l", {}, {}),
        ("PUT", f"{LIMITS}/l", None, {}),
        ("PUT", f"{LIMITS}/l/properties", {"properties": {"a": None}}, {}),
        ("GET", "/api//v1/limits//l/", None, {}),
        ("GET", LIMITS, None, {"xproxy-api-key": "{key}"}),
        ("POST", INGEST, EVENT | {"http_status_code": 0}, {}),
        ("POST", INGEST, EVENT | {"units": {"foo": {}}}, {}),
        ("POST", INGEST, EVENT | {"provider_request_json": "no JSON {"}, {}),
        ("POST", INGEST, EVENT | {"provider_response_json": ["no", "JSON"]}, {}),
        ("POST", INGEST, EVENT | OLD_EVENT, {}),
        ("POST", INGEST, EVENT | CALLED, {}),
        ("POST", INGEST, EVENT | {"use_case_version": 0}, {}),
        ("POST", INGEST, EVENT, {"xProxy-UseCase-Version": "0"}),
        ("POST", INGEST, EVENT, {"xProxy-Logging-Disable": "False"}),
        ("POST", INGEST, EVENT, {"xProxy-Limit-IDs": "l ,"}),
        ("POST", INGEST, EVENT, {"xProxy-Instrumented-Module": "openai/3.51.0"}),
        ("POST", INGEST, EVENT, {"xProxy-Resource-Scope": "datazone.us"}),
        ("POST", f"{INGEST}/bulk", None, {}),
        ("POST", f"{INGEST}/bulk", [], {}),
        ("GET", f"{RESOURCE}", None, {}),
        ("POST", f"{CATEGORIES}/c/resources/r", {"input_price": 1, "output_price": 2}, {}),
    ],
)
def test_what_clients_send_is_taken(
    tenant: Tenant, method: str, path: str, body: object, headers: dict[str, str]
) -> None:
    """None of it is an error."""
    sent = {name: value.format(key=tenant.key) for name, value in headers.items()}
    answer = send(tenant, method, path, body, **sent)
    assert answer.status_code in (200, 201), answer.text


@pytest.mark.parametrize(
    ("method", "path", "body", "member"),
    [
        ("POST", LIMITS, limit(limit_name=5), "limit_name"),
        ("POST", LIMITS, limit(max=[]), "max"),
        ("POST", LIMITS, limit(max=True), "max"),
        ("POST", LIMITS, limit(threshold={}), "threshold"),
        ("POST", LIMITS, limit(limit_type=1), "limit_type"),
        ("POST", LIMITS, limit(properties=[]), "properties"),
        ("POST", LIMITS, limit(properties={"a": 1}), "properties"),
        ("PUT", f"{LIMITS}/l", {"max": "x"}, "max"),
        ("PUT", f"{LIMITS}/l", {"limit_name": 5}, "limit_name"),
        ("PUT", f"{LIMITS}/l/properties", {"properties": 5}, "properties"),
        ("POST", INGEST, EVENT | {"category": 5}, "category"),
        ("POST", INGEST, EVENT | {"units": 5}, "units"),
        ("POST", INGEST, EVENT | {"units": {"text": {"input": 1.5}}}, "input"),
        ("POST", INGEST, EVENT | {"resource": []}, "resource"),
        ("POST", INGEST, EVENT | {"event_timestamp": 5}, "event_timestamp"),
        ("POST", INGEST, EVENT | {"http_status_code": "200"}, "http_status_code"),
        ("POST", INGEST, EVENT | {"provider_response_id": 5}, "provider_response_id"),
        ("POST", INGEST, EVENT | {"provider_response_json": 5}, "provider_response_json"),
        ("POST", INGEST, EVENT | {"provider_response_headers": {}}, "provider_response_headers"),
        ("POST", INGEST, EVENT | {"limit_ids": "l"}, "limit_ids"),
        ("POST", INGEST, EVENT | {"provider_response_function_calls": {}}, "function_calls"),
        ("POST", INGEST, EVENT | {"provider_response_function_calls": [{"name": 5}]}, "name"),
        ("POST", f"{CATEGORIES}/c/resources/r", {"units": 5}, "units"),
        (
            "POST",
            f"{CATEGORIES}/c/resources/r",
            {"units": {"a": {"input_price": []}}},
            "input_price",
        ),
        ("POST", f"{CATEGORIES}/c/resources/r", {"units": {}, "max_input_units": "1"}, "max_input"),
        ("PUT", "/api/v1/requests/r/properties", {"properties": []}, "properties"),
    ],
)
def test_what_is_of_the_wrong_type_is_named(
    tenant: Tenant, method: str, path: str, body: object, member: str
) -> None:
    """A 400 whose message names the member."""
    answer = send(tenant, method, path, body)
    assert answer.status_code == 400, answer.text
    assert member in answer.json()["message"]
