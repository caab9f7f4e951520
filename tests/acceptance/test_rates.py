"""A key's rate limits through the real clients: what comes too soon is told when to come back."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anthropic
import openai
import pytest

from tests.acceptance import clients
from tests.acceptance.tenant import MESSAGES, Tenant
from tests.standin.process import Standin


def limited(tenant: Tenant, **rates: int) -> None:
    """Give the tenant's key rate limits."""
    tenant.service.manage("PATCH", f"keys/{tenant.key_id}", {"rate_limits": rates})


def test_requests_per_minute(tenant: Tenant, standin: Standin) -> None:
    """The call after the last is 429 in the SDK's own error, with the headers that clients read; it
    reaches no provider and leaves no row. A raised rate lets calls in at once."""
    limited(tenant, requests_per_minute=2)
    client = clients.openai_client(tenant, max_retries=0)
    for _ in range(2):
        clients.chat(client)
    with pytest.raises(openai.RateLimitError) as refused:
        clients.chat(client)
    headers = refused.value.response.headers
    assert headers["x-ratelimit-limit-requests"] == "2"
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert headers["x-should-retry"] == "true"
    assert 1 <= int(headers["retry-after"]) <= 61
    assert headers["x-ratelimit-reset-requests"] == headers["retry-after"] + "s"
    assert "2 requests per minute" in refused.value.message
    assert standin.stats()["calls"] == 2

    limited(tenant, requests_per_minute=3)
    clients.chat(client)
    assert len(tenant.rows(3)) == 3


def test_tokens_per_minute(tenant: Tenant, standin: Standin) -> None:
    """What calls really used counts; one that no minute has room for is not tried again."""
    limited(tenant, tokens_per_minute=300)
    standin.script({"usage": {"input_tokens": 100, "output_tokens": 150}})
    client = clients.anthropic_client(tenant, max_retries=0)
    clients.message(client, max_tokens=200)
    with pytest.raises(anthropic.RateLimitError) as soon:
        clients.message(client, max_tokens=100)
    with pytest.raises(anthropic.RateLimitError) as never:
        clients.message(client, max_tokens=2_000)
    assert soon.value.response.headers["x-should-retry"] == "true"
    assert "retry-after" in soon.value.response.headers
    assert never.value.response.headers["x-should-retry"] == "false"
    assert "retry-after" not in never.value.response.headers
    assert "alone" in never.value.response.text
    row = tenant.row()
    used = row["input_tokens"] + row["output_tokens"]
    assert soon.value.response.headers["x-ratelimit-remaining-tokens"] == str(300 - used)
    assert standin.stats()["calls"] == 1


def test_calls_at_once(tenant: Tenant, standin: Standin) -> None:
    """So many are under way together and no more, streams too; then the next ones are served."""
    limited(tenant, parallel=3)
    client = clients.openai_client(tenant, max_retries=0)

    def one(number: int) -> Any:
        try:
            if number % 2:
                return [*clients.chat(client, stream=True)]
            return clients.chat(client)
        except openai.RateLimitError as refused:
            return refused

    standin.script({"delay_ms": 400})
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(one, range(12)))
    refused = [it for it in answers if isinstance(it, openai.RateLimitError)]
    assert standin.stats()["in_flight_max"] <= 3
    assert len(refused) == 9
    assert {it.response.headers["x-ratelimit-limit-parallel"] for it in refused} == {"3"}
    clients.chat(client)


def test_sdks_wait_by_themselves(tenant: Tenant, standin: Standin) -> None:
    """Their own retries come back when told to, and succeed once there is a place."""
    limited(tenant, parallel=1)
    client = clients.openai_client(tenant, max_retries=5)
    standin.script({"delay_ms": 300})
    began_s = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda _: clients.chat(client), range(2)))
    assert all(answer.choices for answer in answers)
    assert standin.stats()["in_flight_max"] == 1
    assert time.monotonic() - began_s < 20


def test_a_failed_call_gives_its_tokens_back(tenant: Tenant, standin: Standin) -> None:
    """A provider's error used nothing, so that it keeps nobody from trying again."""
    limited(tenant, tokens_per_minute=1_000)
    standin.script({"status": 500, "error": {"type": "api_error", "message": "no"}})
    body = {"model": "claude-haiku-4-5", "max_tokens": 900, "messages": []}
    for _ in range(3):
        assert tenant.post(MESSAGES, body).status_code == 500
    standin.script()
    clients.message(clients.anthropic_client(tenant, max_retries=0), max_tokens=900)
