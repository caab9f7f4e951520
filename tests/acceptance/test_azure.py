"""Azure through the proxy: OpenAI's and Anthropic's own clients for it, as their users set them."""

from __future__ import annotations

import io
import json
import wave
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import anthropic
import openai
import pytest
from payi.lib.helpers import (
    create_headers,
    payi_azure_anthropic_url,
    payi_azure_openai_url,
)

from tests.acceptance.tenant import Tenant, new_tenant
from tests.standin.ledger import Entry, fingerprint
from tests.standin.process import Standin
from tests.standin.recordings import load
from tests.standin.service import Service

AZURE_KEY = "azure-resource-key"
OLD, NEW = "2024-06-01", "2024-10-21"
ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello."}], "max_tokens": 50}
CLAUDE = "claude-haiku-4-5"


@pytest.fixture
def azure(open_service: Service, standin: Standin) -> Tenant:
    """A tenant who may choose origins and nothing else; the stand-in is the resource."""
    standin.wait_idle()
    standin.reset()
    return new_tenant(open_service, "team", permissions=["base_uri"])


@pytest.fixture
def chat(azure: Tenant, standin: Standin) -> Iterator[openai.AzureOpenAI]:
    """`openai.AzureOpenAI`, pointed at the proxy as Pay-i's users point it."""
    with azure_openai(azure, standin) as client:
        yield client


def headers(tenant: Tenant, standin: Standin, price_as: str | None = None) -> dict[str, str]:
    """What Pay-i asks of an Azure client; the resource is reached by a name."""
    named = {"xProxy-PriceAs-Resource": price_as} if price_as else {}
    return {
        "xProxy-Api-Key": tenant.key,
        "xProxy-Provider-BaseUri": f"http://localhost:{standin.port}",
        **create_headers(limit_ids=["team"]),
        **named,
    }


def azure_openai(
    tenant: Tenant, standin: Standin, version: str = NEW, price_as: str | None = "gpt-4o-mini"
) -> openai.AzureOpenAI:
    """The client for an `api-version`."""
    return openai.AzureOpenAI(
        azure_endpoint=payi_azure_openai_url(tenant.service.url),
        api_key=AZURE_KEY,
        api_version=version,
        max_retries=0,
        default_headers=headers(tenant, standin, price_as),
    )


def foundry(
    tenant: Tenant, standin: Standin, price_as: str | None = CLAUDE
) -> anthropic.AnthropicFoundry:
    """`anthropic.AnthropicFoundry`, likewise; its resource is the part below /anthropic."""
    sent = headers(tenant, standin, price_as)
    sent["xProxy-Provider-BaseUri"] += "/anthropic/"
    return anthropic.AnthropicFoundry(
        base_url=payi_azure_anthropic_url(tenant.service.url),
        api_key=AZURE_KEY,
        max_retries=0,
        default_headers=sent,
    )


def agreed(tenant: Tenant, standin: Standin, count: int = 1) -> list[Entry]:
    """The calls of the stand-in's books, each charged to the limit as it was billed."""
    calls = standin.ledger()
    assert len(calls) == count
    for call in calls:
        assert call.leaks == []
        assert call.credential is not None
        assert call.credential.sha256 == fingerprint(AZURE_KEY)
    billed_pico = sum(call.cost_pico or 0 for call in calls)
    assert billed_pico > 0
    spent = Decimal(str(tenant.totals("team")["cost"]["total"]["base"]))
    assert int(spent.scaleb(12)) == billed_pico
    return calls


def test_chat_at_a_deployment(azure: Tenant, standin: Standin, chat: openai.AzureOpenAI) -> None:
    """The deployment in the path, the version in the query, the resource's key in `api-key`."""
    answer = chat.chat.completions.create(model="prod-chat", **ASK)

    [call] = agreed(azure, standin)
    assert call.path == "/openai/deployments/prod-chat/chat/completions"
    assert call.query == f"api-version={NEW}"
    assert call.credential is not None
    assert call.credential.header == "api-key"
    assert (answer.model_extra or {})["xproxy_result"]["limits"]["team"]["state"] == "ok"
    row = azure.row()
    assert (row["provider"], row["category"]) == ("azure", "system.azureopenai")
    assert row["provider_host"] == f"localhost:{standin.port}"
    assert (row["model_requested"], row["model"]) == ("prod-chat", "gpt-4o-mini")
    result = azure.result(f"provider/system.azureopenai/{answer.id}")
    assert result["request_id"] == row["request_id"]


def test_what_a_deployment_is_the_answer_says(azure: Tenant, standin: Standin) -> None:
    """Under a limit that blocks, its name has no price: the call says what it is, or is refused."""
    with azure_openai(azure, standin, price_as=None) as client:
        with pytest.raises(openai.PermissionDeniedError, match="xProxy-PriceAs-Resource"):
            client.chat.completions.create(model="prod-chat", **ASK)
        assert standin.ledger() == []
        free = client.with_options(default_headers={"xProxy-Limit-IDs": ""})
        free.chat.completions.create(model="prod-chat", **ASK)
        client.chat.completions.create(model="gpt-4o-mini", **ASK)
    rows = azure.rows(2)
    assert [row["model"][:11] for row in rows] == ["gpt-4o-mini"] * 2
    assert [int(row["cost_pico"]) for row in rows] == [it.cost_pico for it in standin.ledger()]


@pytest.mark.parametrize("usage", [False, True])
def test_a_stream_at_a_deployment(
    azure: Tenant,
    standin: Standin,
    chat: openai.AzureOpenAI,
    usage: bool,  # noqa: FBT001 - a column of the table
) -> None:
    """The filters' chunk comes first, unharmed; the usage chunk only if it was asked for."""
    options: dict[str, Any] = {"stream_options": {"include_usage": True}} if usage else {}
    stream = chat.chat.completions.create(model="prod-chat", stream=True, **ASK, **options)
    chunks = list(stream)

    agreed(azure, standin)
    assert (chunks[0].model_extra or {})["prompt_filter_results"]
    assert chunks[0].choices == []
    assert [bool(it.usage) for it in chunks if not it.choices] == [False] + [True] * usage
    results = [it for it in chunks if "xproxy_result" in (it.model_extra or {})]
    assert len(results) == 1
    assert not azure.row()["estimated"]


def test_a_stream_of_a_version_without_usage(azure: Tenant, standin: Standin) -> None:
    """It does not fail because of us: what was delivered is counted, and called an estimate."""
    with azure_openai(azure, standin, OLD) as client:
        chunks = list(client.chat.completions.create(model="prod-chat", stream=True, **ASK))
        with pytest.raises(openai.BadRequestError, match="stream_options"):
            client.chat.completions.create(
                model="prod-chat", stream=True, stream_options={"include_usage": True}, **ASK
            )
    assert [it for it in chunks if it.choices and it.choices[0].finish_reason]
    row = azure.rows(2)[0]
    assert (row["status"], row["estimated"]) == ("ok", True)
    assert int(row["cost_pico"]) > 0


def test_a_stream_over_own_data(azure: Tenant, standin: Standin, chat: openai.AzureOpenAI) -> None:
    """Azure states no usage for it, and refuses to be asked."""
    data = {"data_sources": [{"type": "azure_search", "parameters": {}}]}
    list(chat.chat.completions.create(model="prod-chat", stream=True, extra_body=data, **ASK))
    assert azure.row()["estimated"]


def test_embeddings_at_a_deployment(azure: Tenant, standin: Standin) -> None:
    """Tokens in, as with OpenAI."""
    with azure_openai(azure, standin, price_as=None) as client:
        client.embeddings.create(model="text-embedding-3-small", input="Hello.")
    [call] = agreed(azure, standin)
    assert call.path == "/openai/deployments/text-embedding-3-small/embeddings"


def test_a_transcript_without_a_model(azure: Tenant, standin: Standin) -> None:
    """A form that leaves the model to the deployment in the path is metered as that."""
    sound = io.BytesIO()
    with wave.open(sound, "wb") as file:
        file.setparams((1, 2, 8_000, 0, "NONE", ""))
        file.writeframes(bytes(32_000))
    path = "/api/v1/proxy/azure.openai/openai/deployments/whisper-1/audio/transcriptions"
    answer = azure.service.http.post(
        f"{path}?api-version={NEW}",
        headers=headers(azure, standin) | {"api-key": AZURE_KEY, "xProxy-PriceAs-Resource": ""},
        files={"file": ("a.wav", sound.getvalue(), "audio/wav")},
    )
    assert answer.status_code == 200, answer.text
    agreed(azure, standin)
    assert azure.row()["model_requested"] == "whisper-1"


@pytest.mark.skipif(not load("openai"), reason="no recordings: set XPROXY_RECORDINGS")
@pytest.mark.parametrize("path", ["responses", "v1/responses"])
def test_responses(azure: Tenant, standin: Standin, path: str) -> None:
    """The dated way and the versionless one, with the client for each."""
    recording = next(
        it
        for it in load("openai")
        if (it.method, it.path, it.status, it.streamed) == ("POST", "/v1/responses", 200, False)
    )
    told = {"x-standin": json.dumps({"recording": recording.name})}
    client: openai.OpenAI
    if path == "responses":
        client = azure_openai(azure, standin, price_as=None)
    else:
        client = openai.OpenAI(
            base_url=payi_azure_openai_url(azure.service.url) + "/openai/v1",
            api_key=AZURE_KEY,
            default_headers=headers(azure, standin),
        )
    with client:
        answer = client.responses.create(model="gpt-4o", input="Hello.", extra_headers=told)
    assert (answer.model_extra or {})["xproxy_result"]["cost"]
    [call] = standin.ledger()
    assert call.path == f"/openai/{path}"
    assert azure.row()["units"]


def test_entra_tokens(azure: Tenant, standin: Standin) -> None:
    """A token of Entra's goes along as it comes."""
    with openai.AzureOpenAI(
        azure_endpoint=payi_azure_openai_url(azure.service.url),
        azure_ad_token=AZURE_KEY,
        api_version=NEW,
        default_headers=headers(azure, standin, "gpt-4o-mini"),
    ) as client:
        client.chat.completions.create(model="prod-chat", **ASK)
    [call] = agreed(azure, standin)
    assert call.credential is not None
    assert call.credential.header == "authorization"


def test_a_request_without_a_model(azure: Tenant, standin: Standin) -> None:
    """The deployment in the path is enough."""
    path = "/api/v1/proxy/azure.openai/openai/deployments/gpt-4o-mini/chat/completions"
    sent = headers(azure, standin) | {"api-key": AZURE_KEY}
    answer = azure.service.http.post(f"{path}?api-version={NEW}", json=ASK, headers=sent)
    assert answer.status_code == 200, answer.text
    agreed(azure, standin)
    assert azure.row()["model_requested"] == "gpt-4o-mini"


def test_what_must_be_said(azure: Tenant, standin: Standin) -> None:
    """Pay-i's codes for what is missing, as the clients raise them; nothing is called."""
    with azure_openai(azure, standin) as client:
        unplaced = client.with_options(default_headers={"xProxy-Provider-BaseUri": ""})
        with pytest.raises(openai.BadRequestError) as placed:
            unplaced.chat.completions.create(model="prod-chat", **ASK)
    with foundry(azure, standin, None) as claude, pytest.raises(anthropic.BadRequestError) as named:
        claude.messages.create(model="prod-claude", **ASK)
    for error, header in ((placed, "xProxy-Provider-BaseUri"), (named, "xProxy-PriceAs-Resource")):
        body: Any = error.value.body
        assert body["xproxy_error"]["code"] == "header_is_missing"
        assert header in body["message"]
    assert standin.ledger() == []


def test_claude_in_foundry(azure: Tenant, standin: Standin) -> None:
    """Anthropic's own client, whole and streamed, priced as what the call says it is."""
    with foundry(azure, standin) as claude:
        answer = claude.messages.create(model="prod-claude", **ASK)
        with claude.messages.stream(model="prod-claude", **ASK) as stream:
            events = list(stream)
    calls = agreed(azure, standin, 2)
    assert {call.path for call in calls} == {"/anthropic/v1/messages"}
    assert (answer.model_extra or {})["xproxy_result"]["cost"]
    [ending] = [event for event in events if event.type == "message_delta"]
    assert (ending.model_extra or {})["xproxy_result"]["cost"]
    row = azure.rows(2)[0]
    assert (row["provider"], row["category"], row["model"]) == ("azure", "system.azure", CLAUDE)


def test_a_dear_model_priced_as_a_cheap_one_can_be_seen(azure: Tenant, standin: Standin) -> None:
    """It is charged as the call says, and the result warns of it."""
    with azure_openai(azure, standin, price_as="gpt-4.1-nano") as client:
        answer = client.chat.completions.create(model="gpt-4o", **ASK)
    [warning] = (answer.model_extra or {})["xproxy_result"]["warnings"]
    assert "it is priced as gpt-4.1-nano" in warning
    assert azure.row()["warnings"] == [warning]


def test_where_private_hosts_are_not_allowed(service: Service, standin: Standin) -> None:
    """The same client at a service of the usual settings: 400, no call."""
    tenant = new_tenant(service, "team", permissions=["base_uri"])
    standin.reset()
    with (
        azure_openai(tenant, standin) as client,
        pytest.raises(openai.BadRequestError, match="https://"),
    ):
        client.chat.completions.create(model="prod-chat", **ASK)
    assert standin.ledger() == []
