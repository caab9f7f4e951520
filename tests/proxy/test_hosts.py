"""Hosts that speak OpenAI's form: where their calls go, with whose key, and what they cost."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from metering.proxy.exchange import Exchange
from metering.surfaces.portkey import UNIFIED
from tests.proxy.rig import ASK, DONE, USAGE, Client, Rig, answer, chunk, completion, streamed

PATH = "/v1/chat/completions"
LLAMA, GROK = "llama-3.3-70b-versatile", "grok-4"
OWN = "gsk-callers-own-key-0123456789"
GROQ_PICO = 9 * 590_000 + 12 * 790_000
"""What USAGE costs at Groq, at $0.59 and $0.79 a million."""


class Unified(Client):
    """A client of the unified surface."""

    def head(self) -> Exchange:
        """Send the head of the request."""
        exchange = super().head()
        exchange.surface = UNIFIED[0].of(self._sent)
        return exchange


async def call(
    rig: Rig, provider: str, model: str, key: str | None = OWN, **members: Any
) -> Client:
    """A call of a host by its name, with the caller's own key of it."""
    headers = {"x-portkey-provider": provider}
    if key is not None:
        headers["authorization"] = f"Bearer {key}"
    return await rig.call(Unified(PATH, ASK | {"model": model} | members, headers=headers.items()))


async def test_a_host_by_its_name(rig: Rig) -> None:
    """Its public URL is called with its own key; the price is its own, and so is the row's name."""
    rig.answer = answer(completion(model=LLAMA))
    client = await call(rig, "groq", LLAMA)
    [request] = rig.requests
    assert str(request.url) == "https://api.groq.com/openai/v1/chat/completions"
    assert request.headers["authorization"] == f"Bearer {OWN}"
    assert client.headers["x-portkey-provider"] == "groq"
    row = await rig.row(client)
    assert (row.provider, row.pricing, row.cost_pico) == ("groq", "priced", GROQ_PICO)


async def test_reasoning_beside_the_completion_is_charged(rig: Rig) -> None:
    """The total of xAI has it, its completion tokens have not: it is output at $15 a million."""
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 2,
        "total_tokens": 16,
        "completion_tokens_details": {"reasoning_tokens": 5},
    }
    rig.answer = answer(completion(model=GROK, usage=usage))
    row = await rig.row(await call(rig, "x-ai", GROK))
    assert row.cost_pico == 9 * 3_000_000 + (2 + 5) * 15_000_000


async def test_a_stream_that_must_not_be_asked(rig: Rig) -> None:
    """Mistral gets the request as it came, and states its usage on the last chunk with choices."""
    rig.answer = streamed(chunk("Hi"), chunk(usage=USAGE), DONE)
    client = await call(rig, "mistral-ai", "mistral-large-latest", stream=True)
    assert "stream_options" not in json.loads(rig.requests[0].content)
    row = await rig.row(client)
    assert (row.provider, row.estimated, row.units) == (
        "mistral",
        False,
        {"input_text": 9, "output_text": 12},
    )
    assert client.body.count(b"xproxy_result") == 1


async def test_no_other_providers_key_goes_there(rig: Rig) -> None:
    """Who has no key of a host is refused: the operator's are OpenAI's and Anthropic's."""
    client = await call(rig, "groq", LLAMA, key=None)
    assert client.status == 401, client.body
    assert rig.requests == []


@pytest.mark.parametrize(("listed", "status"), [("other.com", 400), ("*.groq.com", 200)])
async def test_the_operators_list_holds(
    make_rig: Callable[..., Rig], listed: str, status: int
) -> None:
    """Public hosts are callers' choice too: where the operator lists some, no others are called."""
    rig = make_rig(provider_origins=listed)
    rig.answer = answer(completion(model=LLAMA))
    client = await call(rig, "groq", LLAMA)
    assert client.status == status, client.body
    assert len(rig.requests) == (status == 200)
    if status == 400:
        assert "XPROXY_PROVIDER_ORIGINS" in client.json["error"]["message"]


async def test_a_host_that_everybody_runs_himself(rig: Rig) -> None:
    """Ollama has no public URL: the call says where, or is refused with what to send."""
    refused = await call(rig, "ollama", "llama3")
    assert refused.status == 400, refused.body
    assert "is missing" in refused.json["error"]["message"]
    rig.names["ollama.example.com"] = ["93.184.215.14"]
    rig.answer = answer(completion(model="llama3"))
    headers = {
        "x-portkey-provider": "ollama",
        "x-portkey-custom-host": "https://ollama.example.com",
        "authorization": f"Bearer {OWN}",
    }
    client = await rig.call(Unified(PATH, ASK | {"model": "llama3"}, headers=headers.items()))
    assert client.status == 200, client.body
    assert str(rig.requests[-1].url) == "https://ollama.example.com/v1/chat/completions"
    assert (await rig.row(client)).pricing == "unpriced"
