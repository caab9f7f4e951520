"""Azure's routes: where the resource is, what the deployment is, whose key goes along."""

from __future__ import annotations

import json
from typing import Any

import pytest

from metering.core.record import UsageRow
from tests.proxy.rig import ASK, USAGE, Client, Rig, answer, chunk, completion, streamed

PROXY = "/api/v1/proxy"
DEPLOYED = PROXY + "/azure.openai/openai/deployments/dep/chat/completions"
CHAT = DEPLOYED + "?api-version=2024-10-21"
CLAUDE = PROXY + "/azure.anthropic/v1/messages"
HOST = "my-resource.openai.azure.com"
BASE = {"xProxy-Provider-BaseUri": f"https://{HOST}/"}
PRICE_AS = "xProxy-PriceAs-Resource"
BODY = {"messages": ASK["messages"]}
MESSAGE = {"model": "my-claude", "max_tokens": 9, "messages": ASK["messages"]}
MESSAGE_ANSWER = {
    "id": "msg_1",
    "type": "message",
    "model": "claude-haiku-4-5-20251001",
    "content": [],
    "usage": {"input_tokens": 9, "output_tokens": 12},
}
COST = {"gpt-4o": 9 * 2_500_000 + 12 * 10_000_000, "gpt-4o-mini": 9 * 150_000 + 12 * 600_000}
"""What USAGE costs, in pico-USD, at Azure as at OpenAI."""


@pytest.fixture
async def key(rig: Rig) -> str:
    """A key that may choose origins, and no more; the resource has an address."""
    rig.names[HOST] = rig.names["my-resource.services.ai.azure.com"] = ["20.42.0.1"]
    return await rig.key("base_uri")


async def post(
    rig: Rig, key: str, headers: dict[str, str], path: str = CHAT, body: Any = BODY
) -> Client:
    """A call to Azure with the resource's own key."""
    rig.answer = answer(completion())
    sent = {"xproxy-api-key": key, "api-key": "azure-key", **headers}
    return await rig.call(Client(path, body, headers=sent.items()))


async def row(rig: Rig, client: Client) -> UsageRow:
    """The row of a call, once it was answered."""
    assert client.status == 200, client.body
    return await rig.row(client)


@pytest.mark.parametrize(
    ("path", "url"),
    [
        (CHAT, f"https://{HOST}/openai/deployments/dep/chat/completions?api-version=2024-10-21"),
        (PROXY + "/azure.openai/openai/v1/chat/completions",
         f"https://{HOST}/openai/v1/chat/completions"),
        (PROXY + "/azure.openai/openai/models?api-version=1&x=%2F",
         f"https://{HOST}/openai/models?api-version=1&x=%2F"),
    ],
)  # fmt: skip
async def test_path_and_query_follow_the_base_uri(rig: Rig, key: str, path: str, url: str) -> None:
    """As they came, with the resource's key in Azure's own header, and no key of ours."""
    client = await post(rig, key, BASE, path, ASK)

    [request] = rig.requests
    assert client.status == 200
    assert str(request.url) == url
    assert request.headers["api-key"] == "azure-key"
    assert "authorization" not in request.headers
    assert key not in str(request.headers)
    assert request.extensions["addresses"] == ("20.42.0.1",)


async def test_what_a_row_says(rig: Rig, key: str) -> None:
    """Provider, category, host; the model of the answer, and the scope the call names."""
    scope = {"xProxy-Resource-Scope": "datazone.eu"}
    found = await row(rig, await post(rig, key, BASE | scope))
    assert (found.provider, found.category, found.provider_host) == (
        "azure", "system.azureopenai", HOST,
    )  # fmt: skip
    assert (found.model_requested, found.model) == ("dep", "gpt-4o-2024-08-06")
    assert (found.endpoint, found.scope) == (
        DEPLOYED[len(PROXY + "/azure.openai") :],
        "datazone.eu",
    )


@pytest.mark.parametrize(
    ("path", "headers", "missing"),
    [
        (CHAT, {}, "xProxy-Provider-BaseUri"),
        (CHAT, {"xProxy-Provider-BaseUri": ""}, "xProxy-Provider-BaseUri"),
        (CLAUDE, {PRICE_AS: "claude-haiku-4-5"}, "xProxy-Provider-BaseUri"),
        (CLAUDE, BASE, PRICE_AS),
        (CLAUDE, BASE | {PRICE_AS: " "}, PRICE_AS),
    ],
)
async def test_headers_that_must_be_there(
    rig: Rig, key: str, path: str, headers: dict[str, str], missing: str
) -> None:
    """400 `header_is_missing` that names the header; nothing is called or recorded."""
    client = await post(rig, key, headers, path, MESSAGE)
    assert client.status == 400
    error = client.json["xproxy_error"]
    assert error["code"] == "header_is_missing"
    assert error["message"].startswith(f"Required header {missing} is missing")
    assert not rig.requests
    assert not await rig.rows()


async def test_counting_claudes_tokens_needs_no_price(rig: Rig, key: str) -> None:
    """What is free is free: the header is for what costs."""
    client = await post(rig, key, BASE, CLAUDE + "/count_tokens", MESSAGE)
    assert (await row(rig, client)).pricing == "free"


@pytest.mark.parametrize(
    ("headers", "body", "model", "cost_of"),
    [
        ({}, BODY, "gpt-4o-2024-08-06", "gpt-4o"),
        ({}, ASK | {"model": "gpt-4o-mini"}, "gpt-4o-2024-08-06", "gpt-4o"),
        ({PRICE_AS: "gpt-4o-mini"}, BODY, "gpt-4o-mini", "gpt-4o-mini"),
        ({"xProxy-RouteAs-Resource": "gpt-4o-mini"}, BODY, "gpt-4o-mini", "gpt-4o-mini"),
        ({PRICE_AS: "gpt-4o"}, BODY, "gpt-4o", "gpt-4o"),
        ({"xProxy-PriceAs-Category": "system.azureopenai"}, BODY, "gpt-4o-2024-08-06", "gpt-4o"),
    ],
)
async def test_what_is_priced(
    rig: Rig, key: str, headers: dict[str, str], body: Any, model: str, cost_of: str
) -> None:
    """What the caller says the deployment is, else what the answer says; without a permission."""
    found = await row(rig, await post(rig, key, BASE | headers, body=body))
    assert (found.model, found.cost_pico, found.pricing) == (model, COST[cost_of], "priced")
    assert (found.price_id or "").startswith("azure/")


@pytest.mark.parametrize(
    ("said", "answered", "warned"),
    [
        ("gpt-4o-mini", "gpt-4o-2024-08-06", True),
        ("gpt-4o", "gpt-4o-2024-08-06", False),
        ("gpt-4o", "our-finetune", False),
        ("gpt-4o", "", False),
    ],
)
async def test_an_answer_of_another_model_is_noted(
    rig: Rig,
    key: str,
    said: str,
    answered: str,
    warned: bool,  # noqa: FBT001 - a column of the table
) -> None:
    """Who prices a dear model as a cheap one is charged as said, and it can be seen."""
    rig.answer = answer(completion(model=answered))
    sent = {"xproxy-api-key": key, "api-key": "k", PRICE_AS: said, **BASE}
    client = await rig.call(Client(CHAT, BODY, headers=sent.items()))
    found = await row(rig, client)
    assert (f"the answer is {answered}'s; it is priced as {said}" in str(found.warnings)) is warned
    assert found.model == said


async def test_other_prices_need_the_permission(rig: Rig, key: str) -> None:
    """Another category's prices do on Azure too, and a resource does everywhere else."""
    named = await rig.key("base_uri", "price_as")
    category = BASE | {"xProxy-PriceAs-Category": "system.anthropic"}
    plain = {PRICE_AS: "gpt-4o", "authorization": "Bearer sk"}
    chat = PROXY + "/openai/v1/chat/completions"
    for headers, path in ((category, CHAT), (plain, chat)):
        assert (await post(rig, key, headers, path, ASK)).status == 403
        assert (await post(rig, named, headers, path, ASK)).status == 200


@pytest.mark.parametrize("path", [CHAT, CLAUDE])
async def test_no_key_of_the_operators_goes_to_azure(rig: Rig, key: str, path: str) -> None:
    """Without the resource's own key there is no call: 401, whatever keys are stored."""
    headers = BASE | {PRICE_AS: "claude-haiku-4-5", "api-key": key}
    client = await post(rig, key, headers, path, MESSAGE)
    assert (client.status, client.json["xproxy_error"]["code"]) == (401, "provider_key_missing")
    assert not rig.requests


async def test_claude_at_azure(rig: Rig, key: str) -> None:
    """Anthropic's messages at a resource of Foundry's, priced as the model that is named."""
    rig.answer = answer(json.dumps(MESSAGE_ANSWER).encode())
    uri = "https://my-resource.services.ai.azure.com/anthropic/"
    sent = {"xproxy-api-key": key, "x-api-key": "k", "xProxy-Provider-BaseUri": uri}
    sent[PRICE_AS] = "claude-haiku-4-5"
    found = await row(rig, await rig.call(Client(CLAUDE, MESSAGE, headers=sent.items())))

    [request] = rig.requests
    assert str(request.url) == uri + "v1/messages"
    assert request.headers["anthropic-version"] == "2023-06-01"
    assert request.headers["x-api-key"] == "k"
    assert (found.provider, found.category) == ("azure", "system.azure")
    assert (found.model, found.cost_pico) == ("claude-haiku-4-5", 9 * 1_000_000 + 12 * 5_000_000)
    assert found.warnings == []


async def test_a_deployment_nobody_knows_the_price_of(rig: Rig, key: str) -> None:
    """Without a word about it, and an answer that says nothing either: flagged, not $0."""
    rig.answer = answer(completion(model="dep"))
    sent = {"xproxy-api-key": key, "api-key": "k", **BASE}
    found = await row(rig, await rig.call(Client(CHAT, BODY, headers=sent.items())))
    assert (found.pricing, found.model, found.cost_pico) == ("unpriced", "dep", 0)


FILTER = chunk(id="", model="", choices=[], prompt_filter_results=[])
USAGE_CHUNK = chunk(choices=[], usage=USAGE)


@pytest.mark.parametrize(
    ("version", "pieces", "cost_pico", "estimated"),
    [
        ("2024-10-21", (FILTER, chunk("Hi"), chunk(), USAGE_CHUNK), COST["gpt-4o"], False),
        ("2024-06-01", (FILTER, chunk("Hi"), chunk()), None, True),
    ],
)
async def test_streams(
    rig: Rig,
    key: str,
    version: str,
    pieces: tuple[bytes, ...],
    cost_pico: int | None,
    estimated: bool,  # noqa: FBT001 - a column of the table
) -> None:
    """Usage is asked for where the version knows how; else the call is estimated, and passes."""
    rig.answer = streamed(*pieces, b"data: [DONE]\n\n")
    sent = {"xproxy-api-key": key, "api-key": "k", **BASE}
    path = f"{DEPLOYED}?api-version={version}"
    client = await rig.call(Client(path, BODY | {"stream": True}, headers=sent.items()))
    found = await row(rig, client)

    assert ("stream_options" in json.loads(rig.requests[0].content)) is not estimated
    assert client.body.startswith(FILTER)
    assert b'"xproxy_result":{' in client.body
    assert found.estimated is estimated
    assert found.cost_pico == cost_pico if cost_pico else found.cost_pico > 0
