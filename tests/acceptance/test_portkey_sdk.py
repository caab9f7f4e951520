"""Portkey's own SDKs against the service: what users see of cost, budgets, streams and errors."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from portkey_ai import AsyncPortkey, Portkey
from portkey_ai._vendor import openai as portkeys_openai

from tests.acceptance.programs import NODE, Keys, answer_in, run
from tests.acceptance.tenant import Tenant, new_tenant
from tests.standin.ledger import Entry, fingerprint
from tests.standin.process import Standin
from tests.standin.service import Service

GPT, CLAUDE = "gpt-4o-mini", "claude-haiku-4-5"
HELLO = [{"role": "user", "content": "Hello."}]
SECRET = "sk-ant-api03-" + "s3Ct" * 20
SLUG = "claude"
TOOL = {"name": "get_weather", "input": {"place": "Zürich"}}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a place.",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}},
    },
}
Portkeys = Callable[..., Portkey]
ONE = "budget"
"""The limit of the key."""


@pytest.fixture
def team(service: Service, standin: Standin) -> Iterator[Tenant]:
    """A tenant with a budget of a dollar on its key, and a virtual key for Claude."""
    standin.wait_idle()
    standin.reset()
    tenant = new_tenant(service, ONE)
    stored = {"slug": SLUG, "provider": "anthropic", "secret": SECRET}
    service.manage("POST", "credentials", stored, application=tenant.application_id)
    limited = {"limit_ids": [ONE]}
    service.manage("PATCH", f"keys/{tenant.key_id}", limited, application=tenant.application_id)
    yield tenant
    standin.reset()


def options(tenant: Tenant, **more: Any) -> dict[str, Any]:
    """What a client is made of."""
    return {"base_url": tenant.service.url + "/v1", "api_key": tenant.key} | more


@pytest.fixture
def portkey(team: Tenant) -> Iterator[Portkeys]:
    """Makes Portkey's clients, of the team's virtual key unless told otherwise."""
    made: list[Portkey] = []

    def make(**more: Any) -> Portkey:
        made.append(Portkey(**options(team, **more or {"virtual_key": SLUG})))
        return made[-1]

    yield make
    for client in made:
        client.openai_client.close()
        client._client.close()


def chat(client: Portkey, model: str = CLAUDE, **members: Any) -> Any:
    """One chat completion."""
    sent: dict[str, Any] = {"model": model, "messages": HELLO, "max_tokens": 200} | members
    return client.chat.completions.create(**sent)


def came(standin: Standin) -> Entry:
    """The only call that came to the provider, with nothing of ours."""
    [call] = standin.ledger()
    assert (call.status, call.leaks) == (200, [])
    return call


def pico(usd: object) -> int:
    """Dollars as a header or a body has them."""
    return int(Decimal(str(usd)).scaleb(12))


def test_cost_and_what_is_left_are_in_the_headers(portkey: Portkeys, standin: Standin) -> None:
    """`get_headers()` tells what the call cost, what its budget has left, and which way it went."""
    answer = chat(portkey(virtual_key=SLUG, trace_id="trace-7"))
    told = answer.get_headers()
    call = came(standin)
    assert call.cost_pico is not None
    assert pico(told["cost"]) == call.cost_pico
    assert pico(told["budget-remaining"]) == pico(1) - call.cost_pico
    expected = {
        "trace-id": "trace-7",
        "provider": "anthropic",
        "cache-status": "DISABLED",
        "retry-attempt-count": "0",
        "last-used-option-index": "config",
    }
    assert {name: told[name] for name in expected} == expected
    assert pico(answer.xproxy_result["cost"]["total"]["base"]) == call.cost_pico
    assert call.credential is not None
    assert call.credential.sha256 == fingerprint(SECRET)


def test_a_trace_id_is_made_where_there_is_none(portkey: Portkeys) -> None:
    """One for each call."""
    first, second = (chat(portkey()).get_headers()["trace-id"] for _ in range(2))
    assert first
    assert second
    assert first != second


def test_a_stream(portkey: Portkeys, standin: Standin) -> None:
    """Text in pieces; the SDK asks for usage chunks by itself or not: each chunk can be read."""
    standin.script({"text": "Hello to you."})
    chunks = list(chat(portkey(), stream=True))
    texts = [it.choices[0].delta.content or "" for it in chunks]
    assert "".join(texts) == "Hello to you."
    assert chunks[-1].choices[0].finish_reason == "stop"
    [result] = [it.xproxy_result for it in chunks if "xproxy_result" in (it.model_extra or {})]
    assert pico(result["cost"]["total"]["base"]) == came(standin).cost_pico


def test_a_stream_with_a_tool(portkey: Portkeys, standin: Standin) -> None:
    """The arguments come in pieces, as OpenAI sends them, and the usage at the end."""
    standin.script({"tool": TOOL})
    stream = chat(portkey(), stream=True, tools=[WEATHER], stream_options={"include_usage": True})
    chunks = list(stream)
    calls = [it for c in chunks for o in c.choices for it in o.delta.tool_calls or ()]
    assert [it.index for it in calls] == [0] * len(calls)
    assert calls[0].id.startswith("toolu_")
    assert calls[0].function.name == TOOL["name"]
    arguments = "".join(it.function.arguments or "" for it in calls)
    assert json.loads(arguments) == TOOL["input"]
    [usage] = [it.usage for it in chunks if it.usage]
    billed = came(standin).usage
    assert billed is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (
        billed["input_tokens"],
        billed["output_tokens"],
    )


async def test_the_asynchronous_client(team: Tenant, standin: Standin) -> None:
    """The same, one after the other: an answer, and a stream."""
    client = AsyncPortkey(**options(team, virtual_key=SLUG))
    sent: dict[str, Any] = {"model": CLAUDE, "messages": HELLO, "max_tokens": 50}
    answer: Any = await client.chat.completions.create(**sent)
    assert pico(answer.get_headers()["cost"]) == came(standin).cost_pico
    standin.script({"text": "Hello to you."})
    stream: Any = await client.chat.completions.create(**sent, stream=True)
    texts = [it.choices[0].delta.content or "" async for it in stream]
    assert "".join(texts) == "Hello to you."
    assert len(team.rows(2)) == 2
    await client.openai_client.close()
    await client._client.aclose()


def test_other_endpoints(team: Tenant, portkey: Portkeys, standin: Standin) -> None:
    """Embeddings and responses of OpenAI's, by the default key; and the list of its models."""
    client = portkey(provider="openai")
    embedded = client.embeddings.create(model="text-embedding-3-small", input="Hello.")
    assert embedded.data[0].embedding
    answered = client.responses.create(model=GPT, input="Hello.", max_output_tokens=50)
    assert answered.output
    assert [it.path for it in standin.ledger()] == ["/v1/embeddings", "/v1/responses"]
    assert {it["provider"] for it in team.rows(2)} == {"openai"}


ERRORS: list[tuple[dict[str, Any], dict[str, Any], str, int, str]] = [
    ({"virtual_key": "none-such"}, {}, "BadRequestError", 400,
     "Following keys are not valid: none-such"),
    ({"provider": "bedrock"}, {}, "BadRequestError", 400,
     "Invalid provider passed: 'bedrock' is not served"),
    ({"config": {"strategy": {"mode": "any"}, "targets": [{"provider": "openai"}]}}, {},
     "BadRequestError", 400, "Invalid config passed"),
    ({}, {"messages": [{"role": "nobody", "content": "x"}]}, "BadRequestError", 400, "messages"),
    ({"api_key": "sk-xproxy-app-" + "x" * 48}, {}, "AuthenticationError", 401, "key"),
]  # fmt: skip


@pytest.mark.parametrize(("made", "members", "name", "status", "says"), ERRORS)
def test_errors_are_the_sdks_own(
    portkey: Portkeys,
    standin: Standin,
    made: dict[str, Any],
    members: dict[str, Any],
    name: str,
    status: int,
    says: str,
) -> None:
    """Each is raised as the type that the SDK has for its status, with what is wrong; the provider
    is not called."""
    with pytest.raises(getattr(portkeys_openai, name), match=says) as caught:
        chat(portkey(**made), **members)
    assert caught.value.status_code == status
    assert caught.value.body["message"]
    assert standin.ledger() == []


def test_a_budget_that_is_used_up(team: Tenant, portkey: Portkeys, standin: Standin) -> None:
    """412, as Portkey has it, which no SDK tries again; the message says whose budget it is."""
    change = {"max": 0.0000001}
    team.service.manage("PUT", f"limits/{ONE}", change, application=team.application_id)
    chat(portkey())
    with pytest.raises(portkeys_openai.APIStatusError, match="API Key Usage Limit") as caught:
        chat(portkey())
    assert caught.value.status_code == 412
    assert caught.value.code == "04"
    [limit] = caught.value.response.json()["xproxy_error"]["limits"]
    assert (limit["limit_id"], limit["final"]) == (ONE, True)
    assert len(standin.ledger()) == 1


STREAM = """
import Portkey from 'portkey-ai';

const portkey = new Portkey({apiKey: "$PORTKEY_API_KEY", virtualKey: "$VIRTUAL_KEY"});
const stream = await portkey.chat.completions.create({
    model: "claude-haiku-4-5",
    messages: [{role: "user", content: "Hello."}],
    max_tokens: 200,
    stream: true,
});
const response = {text: "", finish: null, cost: null};
for await (const chunk of stream) {
    response.text += chunk.choices[0].delta.content ?? "";
    response.finish = chunk.choices[0].finish_reason ?? response.finish;
    response.cost = chunk.xproxy_result?.cost.total.base ?? response.cost;
}
"""
REFUSED = """
import Portkey from 'portkey-ai';

const portkey = new Portkey({apiKey: "$PORTKEY_API_KEY", virtualKey: "none-such"});
let response = null;
try {
    await portkey.chat.completions.create({
        model: "claude-haiku-4-5", messages: [{role: "user", content: "Hello."}],
    });
} catch (error) {
    response = {status: error.status, message: error.message};
}
"""


def test_a_stream_in_node(team: Tenant, standin: Standin, tmp_path: Path) -> None:
    """Every chunk has a choice, as programs count on; the last has the cost."""
    standin.script({"text": "Hello to you."})
    printed = run(NODE, STREAM, team.service, Keys(team.key, "", SLUG), tmp_path)
    answer = answer_in(printed)
    assert answer["text"] == "Hello to you."
    assert answer["finish"] == "stop"
    assert pico(answer["cost"]) == came(standin).cost_pico


def test_an_error_in_node(team: Tenant, standin: Standin, tmp_path: Path) -> None:
    """It is thrown with its status and its message."""
    printed = run(NODE, REFUSED, team.service, Keys(team.key, "", SLUG), tmp_path)
    answer = answer_in(printed)
    assert answer["status"] == 400
    assert "Following keys are not valid: none-such" in answer["message"]
    assert standin.ledger() == []
