"""Hard caps under bursts: 30 calls at once, as dear as a provider may bill them, never cost more.

Each case is one where LiteLLM's reservations let through up to fifteen times the budget, or would.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any, NamedTuple

import pytest

from tests.acceptance.tenant import CHAT, MESSAGES, OPENAI, Tenant, by_each_route, new_tenant
from tests.standin.ledger import total_pico
from tests.standin.process import Standin
from tests.standin.service import Service

CALLS = 30
LONG = "all work and no play " * 2_000
CLAUDE, GPT = "claude-haiku-4-5", "gpt-4o-mini"
HELLO = [{"role": "user", "content": "hello"}]
CAPPED = {"xProxy-Limit-IDs": "cap"}


class Case(NamedTuple):
    """A burst: what is asked for and how it is billed, under a cap that holds some of it."""

    path: str
    usd: str
    asked: dict[str, Any]
    billed: dict[str, Any]
    tier: str | None = None


def claude(**usage: int | dict[str, int]) -> dict[str, Any]:
    """A usage of Anthropic's."""
    return {"input_tokens": 0, "output_tokens": 10} | usage


def gpt(into: int, out: int) -> dict[str, Any]:
    """A usage of OpenAI's chats."""
    return {"prompt_tokens": into, "completion_tokens": out}


def tool(number: int) -> dict[str, Any]:
    """A function with a long description."""
    parameters = {"type": "object", "properties": {"x": {"type": "string", "description": LONG}}}
    return {"type": "function", "function": {"name": f"f{number}", "parameters": parameters}}


CACHED = [{"type": "text", "text": LONG, "cache_control": {"type": "ephemeral", "ttl": "1h"}}]
WRITTEN = {"ephemeral_1h_input_tokens": 10_000, "ephemeral_5m_input_tokens": 0}
PICTURE = {"type": "base64", "media_type": "image/png", "data": "A" * 60_000}
SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 3}
CASES = {
    "a long system prompt": Case(
        MESSAGES,
        "0.2",
        {"model": CLAUDE, "max_tokens": 10, "system": LONG, "messages": HELLO},
        claude(input_tokens=10_000),
    ),
    "writes of the 1 h cache": Case(
        MESSAGES,
        "0.2",
        {
            "model": CLAUDE,
            "max_tokens": 10,
            "messages": [{"role": "user", "content": CACHED}],
        },
        claude(cache_creation_input_tokens=10_000, cache_creation=WRITTEN),
    ),
    "auto, served as priority": Case(
        CHAT,
        "0.005",
        {"model": "gpt-4o", "max_tokens": 100, "service_tier": "auto", "messages": HELLO},
        gpt(25, 100),
        "priority",
    ),
    "the priority tier": Case(
        CHAT,
        "0.005",
        {"model": "gpt-4o", "max_tokens": 100, "service_tier": "priority", "messages": HELLO},
        gpt(25, 100),
        "priority",
    ),
    "a context beyond 272k tokens": Case(
        CHAT,
        "4",
        {
            "model": "gpt-5.4",
            "max_tokens": 10,
            "messages": [{"role": "user", "content": LONG * 7}],
        },
        gpt(280_000, 10),
    ),
    "tools": Case(
        CHAT,
        "0.1",
        {
            "model": GPT,
            "max_tokens": 100,
            "messages": HELLO,
            "tools": [tool(1), tool(2)],
        },
        gpt(21_000, 100),
    ),
    "n answers": Case(
        CHAT,
        "0.002",
        {"model": GPT, "max_tokens": 100, "n": 8, "messages": HELLO},
        gpt(25, 800),
    ),
    "no output cap": Case(CHAT, "0.04", {"model": GPT, "messages": HELLO}, gpt(25, 16_384)),
    "searches": Case(
        MESSAGES,
        "15",
        {"model": CLAUDE, "max_tokens": 100, "messages": HELLO, "tools": [SEARCH]},
        claude(input_tokens=60_000, server_tool_use={"web_search_requests": 3}),
    ),
    "a picture": Case(
        MESSAGES,
        "0.05",
        {
            "model": CLAUDE,
            "max_tokens": 10,
            "messages": [{"role": "user", "content": [{"type": "image", "source": PICTURE}]}],
        },
        claude(input_tokens=4_800),
    ),
}


def cap(tenant: Tenant, usd: str) -> None:
    """Give a tenant a hard cap."""
    members = {"limit_id": "cap", "limit_name": "cap", "limit_type": "block", "hard_cap": True}
    tenant.manage("POST", "limits", members | {"max": float(usd)})


def spent_pico(tenant: Tenant) -> int:
    """What the cap has been charged."""
    return int(Decimal(str(tenant.totals("cap")["cost"]["total"]["base"])).scaleb(12))


@by_each_route
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("name", CASES)
def test_a_burst_stays_within_a_hard_cap(
    name: str,
    streamed: bool,  # noqa: FBT001
    tenant: Tenant,
    standin: Standin,
) -> None:
    """Some calls get in, the others are refused with the reason; what is spent is what the provider
    bills, and at most the cap. When the burst is over what was held is free again."""
    case = CASES[name]
    cap(tenant, case.usd)
    told = {"usage": case.billed, "delay_ms": 300}
    standin.script(told | ({"service_tier": case.tier} if case.tier else {}))
    body = case.asked | ({"stream": True} if streamed else {})
    with ThreadPoolExecutor(CALLS) as pool:
        answers = list(pool.map(lambda _: tenant.post(case.path, body, CAPPED), range(CALLS)))
    statuses = sorted({it.status_code for it in answers})
    served = sum(it.status_code == 200 for it in answers)
    assert statuses == [200, 400], [it.text[:300] for it in answers]
    refused = next(it for it in answers if it.status_code == 400)
    assert refused.json()["xproxy_error"]["code"] == "limit_reached"
    standin.wait_idle()
    billed_pico = total_pico(standin.ledger())
    print(f"{name}: {served} let in, ${Decimal(billed_pico).scaleb(-12)} of ${case.usd}")
    assert standin.stats()["calls"] == served
    assert 0 < billed_pico == spent_pico(tenant) <= Decimal(case.usd).scaleb(12)
    budget = tenant.service.manage("GET", "budgets", key=tenant.key)["items"][0]
    assert Decimal(str(budget["held"])) == 0


UNPRICED = {"model": "a-model-without-a-price", "max_tokens": 5, "messages": HELLO}
RESPONSE = {"model": GPT, "max_output_tokens": 16, "input": "hello"}
NOT_BOUND: list[tuple[str, dict[str, Any], str, str, str]] = [
    (CHAT, UNPRICED, "unpriced_model", "model", "no price is known"),
    (
        OPENAI + "/responses",
        RESPONSE | {"previous_response_id": "resp_1"},
        "unbounded_cost",
        "previous_response_id",
        "send it as input",
    ),
    (
        OPENAI + "/responses",
        RESPONSE | {"tools": [{"type": "web_search"}]},
        "unbounded_cost",
        "tools",
        "set max_tool_calls",
    ),
    (
        MESSAGES,
        {
            "model": CLAUDE,
            "max_tokens": 10,
            "messages": HELLO,
            "tools": [{"type": "web_search_20250305", "name": "web_search"}],
        },
        "unbounded_cost",
        "tools",
        "set its max_uses",
    ),
]


@by_each_route
@pytest.mark.parametrize(("path", "body", "code", "field", "remedy"), NOT_BOUND)
def test_what_has_no_bound_is_refused(
    path: str,
    body: dict[str, Any],
    code: str,
    field: str,
    remedy: str,
    *,
    tenant: Tenant,
    standin: Standin,
) -> None:
    """Each of 30 calls at once is a 403 that names the member and the remedy, and calls nobody."""
    cap(tenant, "1000")
    with ThreadPoolExecutor(CALLS) as pool:
        answers = list(pool.map(lambda _: tenant.post(path, body, CAPPED), range(CALLS)))
    assert {it.status_code for it in answers} == {403}
    error = json.dumps(answers[0].json())
    assert code in error
    assert field in error
    assert remedy in error
    assert standin.stats()["calls"] == 0
    assert spent_pico(tenant) == 0
    assert tenant.post(path, body).status_code == 200  # no limit depends on it


def test_a_key_that_may_make_unbounded_calls(service: Service, standin: Standin) -> None:
    """What it calls is admitted on what can be known, and said on the row; what comes to more is
    booked, and the cap is overrun."""
    standin.wait_idle()
    standin.reset()
    tenant = new_tenant(service, permissions=["unbounded"])
    cap(tenant, "0.1")
    standin.script({"usage": {"input_tokens": 2_000_000, "output_tokens": 10}})
    body = RESPONSE | {"previous_response_id": "resp_1"}
    answer = tenant.post(OPENAI + "/responses", body, CAPPED)
    assert answer.status_code == 200
    result = answer.json()["xproxy_result"]
    assert result["limits"] == {"cap": {"state": "overrun"}}
    assert "nothing bounded the cost of this call under the hard cap cap" in str(result["warnings"])
    assert "previous_response_id" in str(tenant.row()["warnings"])
    assert spent_pico(tenant) == total_pico(standin.ledger()) > 10**11
