"""Proxied calls and what their application priced itself: only what a call names prices it."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.acceptance.tenant import CHAT, Tenant, new_tenant
from tests.standin.process import Standin
from tests.standin.service import Service

BODY = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello."}]}
PRICES = {"units": {"text": {"input_price": 0.5, "output_price": 2}}}
NAMED = {"xProxy-PriceAs-Category": "mine", "xProxy-PriceAs-Resource": "house model"}


@pytest.fixture
def pricing(service: Service, standin: Standin) -> Tenant:
    """A tenant whose key may say what its calls are priced as."""
    standin.wait_idle()
    standin.reset()
    return new_tenant(service, permissions=["price_as"], usd="100000")


def test_a_call_that_names_a_resource_is_priced_by_it(pricing: Tenant) -> None:
    """Its tokens cost what the version says; its id is in the result and the row."""
    made = pricing.manage("POST", "categories/mine/resources/house%20model", PRICES)
    answer = pricing.post(CHAT, BODY, NAMED)
    assert answer.status_code == 200, answer.text
    usage, result = answer.json()["usage"], answer.json()["xproxy_result"]
    cached = usage.get("prompt_tokens_details", {}).get("cached_tokens", 0)
    assert result["resource_id"] == made["resource_id"]
    assert result["cost"]["output"]["base"] == usage["completion_tokens"] * 2
    assert result["cost"]["input"]["base"] == (usage["prompt_tokens"] - cached) * 0.5
    row = pricing.row()
    assert (row["price_id"], row["price_as_category"]) == (made["resource_id"], "mine")


def test_a_category_named_as_a_provider_prices_none_of_its_calls(
    pricing: Tenant, standin: Standin
) -> None:
    """Whoever may add resources does not make calls of the provider cheaper."""
    free = {"units": {"text": {"input_price": 0, "output_price": 0}}}
    pricing.manage("POST", "categories/openai/resources/gpt-4o-mini", free)
    result = pricing.post(CHAT, BODY).json()["xproxy_result"]
    billed = Decimal(standin.ledger()[0].cost_pico or 0).scaleb(-12)
    assert result["cost"]["total"]["base"] == float(billed) > 0


def test_naming_one_takes_a_permission(service: Service, pricing: Tenant) -> None:
    """As naming any other price does; a resource that is not there has no price."""
    plain = new_tenant(service)
    assert plain.post(CHAT, BODY, NAMED).status_code == 403
    pricing.limit("blocks")
    unknown = pricing.post(CHAT, BODY, NAMED | {"xProxy-Limit-IDs": "blocks"})
    assert (unknown.status_code, unknown.json()["xproxy_error"]["code"]) == (403, "unpriced_model")
