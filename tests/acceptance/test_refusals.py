"""Budgets as the SDKs meet them: a refusal is a 400, and tried again only where that helps."""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast

import anthropic
import openai
import pytest

from tests.acceptance import clients
from tests.acceptance.tenant import Tenant
from tests.standin.process import Standin

SPENT = "0.000001"
"""A limit that the first call crosses."""
CHEAP = {
    "openai": {"prompt_tokens": 10, "completion_tokens": 5},
    "anthropic": {"input_tokens": 10, "output_tokens": 5},
}
NARROW = {"openai": "0.00005", "anthropic": "0.0005"}
"""Limits that a call of likely 100 tokens fills while it is in flight, but not when it is paid."""


def told(**control: Any) -> str:
    """A prompt that tells the stand-in what to do."""
    return f"[[standin {json.dumps(control)}]]"


def spend(tenant: Tenant, standin: Standin) -> dict[str, str]:
    """Use up a fresh limit; gives the headers of the next call, which it refuses."""
    tenant.limit("spent", SPENT)
    tenant.limit("roomy", "10")
    headers = {"xProxy-Limit-IDs": "spent,roomy", "xProxy-Request-Tags": "a,b"}
    with clients.openai_client(tenant) as client:
        result = clients.chat(client, extra_headers=headers).xproxy_result
    assert result["limits"] == {"spent": {"state": "overrun"}, "roomy": {"state": "ok"}}
    assert len(standin.ledger()) == 1
    return headers


def check(body: Any, tenant: Tenant, standin: Standin) -> None:
    """The body is Pay-i's; there was one attempt, which the provider never saw; nothing charged."""
    assert set(body) == {"message", "statusCode", "xproxy_error", "xproxy_result"}
    assert body["statusCode"] == 400
    assert "limit 'spent' is used up; raise or reset it" in body["message"]
    [why] = body["xproxy_error"].pop("limits")
    assert body["xproxy_error"] == {
        "code": "limit_reached",
        "message": "Insufficient limit for the requested operation",
    }
    result = body["xproxy_result"]
    assert result["blocked_limit_ids"] == ["spent"]
    assert result["limits"] == {
        "spent": {"state": "blocked"},
        "roomy": {"state": "blocked_external"},
    }
    assert result["request_tags"] == ["a", "b"]
    assert "cost" not in result
    paid, blocked = tenant.rows(2)
    assert [call.id for call in standin.ledger()] == [paid["provider_id"]]
    assert blocked["request_id"] == result["request_id"]
    assert (blocked["status"], blocked["cost_pico"]) == ("blocked", "0")
    spent = tenant.totals("spent")
    assert (spent["requests"]["blocked"], spent["requests"]["total"]) == (1, 2)
    assert str(int(spent["cost"]["total"]["base"].scaleb(12))) == paid["cost_pico"]
    assert why == {
        "limit_id": "spent",
        "unit": "usd",
        "max": float(SPENT),
        "settled": float(spent["cost"]["total"]["base"]),
        "held": 0,
        "needed": 0,
        "holds": 0,
        "final": True,
    }
    [recorded] = tenant.manage("GET", "limits/spent/why")["items"]
    assert recorded["request_id"] == blocked["request_id"]
    assert recorded["settled"] == spent["cost"]["total"]["base"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_blocked_chat_is_a_final_bad_request(
    tenant: Tenant, standin: Standin, *, stream: bool
) -> None:
    """OpenAI's SDK raises BadRequestError with the whole body, and does not try again."""
    headers = spend(tenant, standin)
    with (
        clients.openai_client(tenant, max_retries=3) as client,
        pytest.raises(openai.BadRequestError) as caught,
    ):
        clients.chat(client, stream=stream, extra_headers=headers)
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert caught.value.body == caught.value.response.json()
    check(caught.value.body, tenant, standin)


@pytest.mark.parametrize("stream", [False, True])
def test_a_blocked_message_is_a_final_bad_request(
    tenant: Tenant, standin: Standin, *, stream: bool
) -> None:
    """Anthropic's SDK does the same."""
    headers = spend(tenant, standin)
    with (
        clients.anthropic_client(tenant, max_retries=3) as client,
        pytest.raises(anthropic.BadRequestError) as caught,
    ):
        clients.message(client, stream=stream, extra_headers=headers)
    assert caught.value.response.headers["x-should-retry"] == "false"
    check(caught.value.body, tenant, standin)


async def test_the_asynchronous_sdks_are_refused_alike(tenant: Tenant, standin: Standin) -> None:
    """AsyncOpenAI raises the same error with the same body."""
    headers = spend(tenant, standin)
    async with clients.async_openai_client(tenant, max_retries=3) as client:
        with pytest.raises(openai.BadRequestError) as caught:
            await clients.async_chat(client, extra_headers=headers)
    check(caught.value.body, tenant, standin)


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
async def test_what_calls_in_flight_block_is_tried_again_by_itself(
    provider: str, tenant: Tenant, standin: Standin
) -> None:
    """A refusal that only holds cause says so: the SDKs wait as told, and the call goes through."""
    headers = {"xProxy-Limit-IDs": tenant.limit("narrow", NARROW[provider])}
    slow = told(delay_ms=1500, usage=CHEAP[provider])
    quick = told(usage=CHEAP[provider])
    make: Any = clients.async_openai_client if provider == "openai" else None
    make = make or clients.async_anthropic_client
    ask: Any = clients.async_chat if provider == "openai" else clients.async_message
    async with make(tenant, max_retries=0) as impatient, make(tenant, max_retries=2) as patient:
        first = asyncio.create_task(ask(impatient, slow, extra_headers=headers))
        while not standin.stats()["in_flight"]:
            await asyncio.sleep(0.02)
        with pytest.raises((openai.BadRequestError, anthropic.BadRequestError)) as caught:
            await ask(impatient, quick, extra_headers=headers)
        second = await ask(patient, quick, extra_headers=headers)
        await first
    refusal = cast(Any, caught.value).response
    assert refusal.headers["x-should-retry"] == "true"
    assert 1 <= int(refusal.headers["retry-after"]) <= 20
    assert "held by calls in flight; retry shortly" in refusal.json()["message"]
    assert second.xproxy_result["limits"] == {"narrow": {"state": "ok"}}
    assert len(standin.ledger()) == 2
    assert [row["status"] for row in tenant.rows(4)].count("ok") == 2
    assert tenant.totals("narrow")["requests"]["ok"] == 2


def test_an_allow_limit_reports_and_never_refuses(tenant: Tenant, standin: Standin) -> None:
    """Without `limit_type: block` a limit only says that it is overrun."""
    tenant.limit("soft", SPENT, "allow")
    headers = {"xProxy-Limit-IDs": "soft"}
    with clients.openai_client(tenant) as client:
        states = [
            clients.chat(client, extra_headers=headers).xproxy_result["limits"]["soft"]["state"]
            for _ in range(3)
        ]
    assert states == ["overrun"] * 3
    assert len(standin.ledger()) == 3


def test_raising_or_resetting_a_limit_lets_calls_through(tenant: Tenant, standin: Standin) -> None:
    """The remedies that the refusal names work."""
    headers = spend(tenant, standin)
    for remedy in (("PUT", "limits/spent", {"max": 0.0001}), ("POST", "limits/spent/reset", None)):
        tenant.manage(*remedy)
        with clients.openai_client(tenant, max_retries=0) as client:
            states = [clients.chat(client, extra_headers=headers).xproxy_result["limits"]["spent"]]
            while states[-1] != {"state": "overrun"}:
                result = clients.chat(client, extra_headers=headers).xproxy_result
                states.append(result["limits"]["spent"])
            with pytest.raises(openai.BadRequestError):
                clients.chat(client, extra_headers=headers)
