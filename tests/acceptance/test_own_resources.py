"""Proxied calls and what their application priced itself: only what a call names prices it."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.acceptance.tenant import CHAT, Tenant, new_tenant
from tests.standin.process import Standin
from tests.standin.service import Service

BODY = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello."}]}
PRICES = {"units": {"text": {"input_price": 0.5, "output_price": 2}}}
FREE = {"units": {"text": {"input_price": 0, "output_price": 0}}}
NAMED = {"xProxy-PriceAs-Category": "mine", "xProxy-PriceAs-Resource": "house model"}


@pytest.fixture
def pricing(service: Service, standin: Standin) -> Tenant:
    """A tenant whose key may say what its calls are priced as."""
    standin.wait_idle()
    standin.reset()
    return new_tenant(service, permissions=["price_as"], usd="100000")


def priced(tenant: Tenant, body: object, path: str = "mine/resources/house%20model") -> str:
    """Have an administrator price a resource of a tenant's; gives the version's id."""
    made = tenant.service.manage(
        "POST", f"categories/{path}", body, application=tenant.application_id
    )
    resource_id: str = made["resource_id"]
    return resource_id


def test_a_call_that_names_a_resource_is_priced_by_it(pricing: Tenant) -> None:
    """Its tokens cost what the version says; its id is in the result and the row."""
    resource_id = priced(pricing, PRICES)
    answer = pricing.post(CHAT, BODY, NAMED)
    assert answer.status_code == 200, answer.text
    usage, result = answer.json()["usage"], answer.json()["xproxy_result"]
    cached = usage.get("prompt_tokens_details", {}).get("cached_tokens", 0)
    assert result["resource_id"] == resource_id
    assert result["cost"]["output"]["base"] == usage["completion_tokens"] * 2
    assert result["cost"]["input"]["base"] == (usage["prompt_tokens"] - cached) * 0.5
    row = pricing.row()
    assert (row["price_id"], row["price_as_category"]) == (resource_id, "mine")


def test_a_category_named_as_a_provider_prices_none_of_its_calls(
    pricing: Tenant, standin: Standin
) -> None:
    """Whoever may add resources does not make calls of the provider cheaper, not even those that
    name the category."""
    pricing.manage("POST", "categories/openai/resources/gpt-4o-mini", FREE)
    for said in ({}, {"xProxy-PriceAs-Category": "openai"}):
        result = pricing.post(CHAT, BODY, said).json()["xproxy_result"]
        billed = Decimal(standin.ledger()[-1].cost_pico or 0).scaleb(-12)
        assert result["cost"]["total"]["base"] == float(billed) > 0


def test_a_key_does_not_price_its_own_calls(pricing: Tenant, standin: Standin) -> None:
    """What a key of the application has priced prices what is reported, and no proxied call, even
    if the key may say what its calls are priced as: that is 403, and the provider is not called.
    Once an administrator has priced it, the key can neither undercut that nor take it away."""
    path = "categories/mine/resources/house%20model"
    pricing.manage("POST", path, FREE)
    refused = pricing.post(CHAT, BODY, NAMED)
    assert refused.status_code == 403
    assert refused.json()["xproxy_error"]["code"] == "price_not_permitted"
    assert standin.ledger() == []
    resource_id = priced(pricing, PRICES)
    for method, body in (("POST", FREE), ("DELETE", None)):
        answer = pricing.service.http.request(
            method, f"/api/v1/{path}", headers={"xProxy-Api-Key": pricing.key}, json=body
        )
        assert answer.status_code == 403
    result = pricing.post(CHAT, BODY, NAMED).json()["xproxy_result"]
    assert result["resource_id"] == resource_id
    assert result["cost"]["total"]["base"] > 0


def test_reports_are_priced_by_the_keys_own(service: Service) -> None:
    """The units are its own word anyway."""
    tenant = new_tenant(service, permissions=["ingest"])
    tenant.manage("POST", "categories/mine/resources/r", PRICES)
    event = {"category": "mine", "resource": "r", "units": {"text": {"input": 3}}}
    assert tenant.manage("POST", "ingest", event)["xproxy_result"]["cost"]["total"]["base"] == 1.5


def test_prices_and_permissions_are_an_administrators_to_give(pricing: Tenant) -> None:
    """A key changes neither what was negotiated nor what it may."""
    own = {"rates": [{"match": "*", "multiplier": "0.000001"}]}
    key = {"name": "k", "permissions": ["price_as"]}
    asked = (
        ("PUT", "prices/own", own),
        ("POST", "keys", key),
        ("PATCH", f"keys/{pricing.key_id}", key),
    )
    for method, path, body in asked:
        answer = pricing.service.http.request(
            method, f"/api/v1/{path}", headers={"xProxy-Api-Key": pricing.key}, json=body
        )
        assert answer.status_code == 403, path


def test_naming_one_takes_a_permission(service: Service, pricing: Tenant) -> None:
    """As naming any other price does; a resource that is not there has no price."""
    plain = new_tenant(service)
    assert plain.post(CHAT, BODY, NAMED).status_code == 403
    pricing.limit("blocks")
    unknown = pricing.post(CHAT, BODY, NAMED | {"xProxy-Limit-IDs": "blocks"})
    assert (unknown.status_code, unknown.json()["xproxy_error"]["code"]) == (403, "unpriced_model")
