"""What a dollar of a virtual key is worth on Portkey's own route, at ten calls a second."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.acceptance.portkey import Portkey
from tests.acceptance.tenant import Tenant
from tests.standin.ledger import total_pico
from tests.standin.process import Standin

CALLS, PER_S = 40, 10
MODEL = "claude-opus-4-1"
"""$15 and $75 a million tokens: a call is 7.5 cents. No more is billed than is thought likely,
which is 1,000 tokens before anything is learned of a model."""
ASK = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "Hello."}],
    "max_completion_tokens": 1_000,
}
BILLED = {"input_tokens": 2, "output_tokens": 1_000}
USD = 10**12


@pytest.mark.parametrize("mode", ["hard", "block"])
def test_a_dollar_at_ten_calls_a_second(tenant: Tenant, standin: Standin, mode: str) -> None:
    """A hard cap lets at most $1.00 through; `block` one call more. Each refusal is a 412 in
    Portkey's words, from the very call on that does not fit."""
    slug = Portkey(tenant).make(
        provider="anthropic", usage_limits={"credit_limit": 1, "mode": mode}
    )
    standin.script({"usage": BILLED, "delay_ms": 250})
    headers = {"x-portkey-api-key": tenant.key, "x-portkey-virtual-key": slug}

    def call(number: int) -> httpx.Response:
        time.sleep(max(0.0, began_s + number / PER_S - time.monotonic()))
        return tenant.service.http.post("/v1/chat/completions", json=ASK, headers=headers)

    began_s = time.monotonic()
    with ThreadPoolExecutor(CALLS) as pool:
        answers = list(pool.map(call, range(CALLS)))
    standin.wait_idle()
    billed = total_pico(standin.ledger())
    one = max(it.cost_pico or 0 for it in standin.ledger())
    assert billed <= USD + (one if mode == "block" else 0)
    assert billed > USD - 2 * one, "what fits is let through"
    refused = [it for it in answers if it.status_code != 200]
    assert {it.status_code for it in refused} == {412}
    error = refused[-1].json()["error"]
    assert (error["type"], error["code"]) == ("virtual_key_exhaust_error", "04")
    shown = tenant.totals(f"virtual_key:{slug}:budget")
    assert str(shown["cost"]["total"]["base"]) == str(billed / USD)
