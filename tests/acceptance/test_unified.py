"""The unified surface, `/v1/...`: whose API a call is for, whose key goes there, what comes back.

Calls are plain requests, as any client family sends them; the SDKs have tests of their own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import httpx
import pytest

from tests.acceptance.conftest import PATIENT, STORED
from tests.acceptance.tenant import Tenant, new_tenant
from tests.standin.ledger import Entry, fingerprint
from tests.standin.process import Standin
from tests.standin.service import Service

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
GPT, CLAUDE = "gpt-4o-mini", "claude-haiku-4-5"
HELLO = [{"role": "user", "content": "Hello."}]
OWN = "sk-proj-" + "A1b2" * 20
OWN_CLAUDE = "sk-ant-api03-" + "A1b2" * 20
SECRET = "sk-of-the-virtual-key-" + "c3d4" * 5


def ask(tenant: Tenant, path: str = CHAT, /, model: str = GPT, **headers: str) -> httpx.Response:
    """One call with these headers and the tenant's key; `_` stands for `-`, and `x-portkey-` for
    `pk_`."""
    sent = {name.replace("pk_", "x-portkey-").replace("_", "-"): it for name, it in headers.items()}
    sent.setdefault("xproxy-api-key", tenant.key)
    body = {"model": model, "max_tokens": 50, "messages": HELLO}
    return tenant.service.http.post(path, json=body, headers=sent)


def came(standin: Standin) -> Entry:
    """The only call that came to the provider, with nothing of ours."""
    [call] = standin.ledger()
    assert call.leaks == []
    return call


def came_with(standin: Standin, path: str, secret: str, header: str) -> None:
    """It came to a path, with a secret in a header."""
    call = came(standin)
    assert (call.path, call.status) == (path, 200)
    assert call.credential is not None
    assert (call.credential.header, call.credential.sha256) == (header, fingerprint(secret))


def model(standin: Standin) -> str:
    """The model that the only call was answered by: a dated snapshot of it."""
    return came(standin).model or ""


def store(tenant: Tenant, slug: str, provider: str, secret: str = SECRET, **more: Any) -> None:
    """Store a credential of the tenant's."""
    body = {"slug": slug, "provider": provider, "secret": secret, **more}
    tenant.service.manage("POST", "credentials", body, application=tenant.application_id)


# Whose API, and whose key


@pytest.mark.parametrize("named", [GPT, f"@openai/{GPT}"])
def test_the_model_tells_the_provider(tenant: Tenant, standin: Standin, named: str) -> None:
    """By its name, or by what stands before it; the provider gets its own name of it."""
    answer = ask(tenant, model=named)
    assert answer.status_code == 200, answer.text
    came_with(standin, CHAT, STORED["OPENAI_API_KEY"], "authorization")
    assert model(standin).startswith(GPT)
    assert tenant.row()["surface"] == "portkey"


def test_anthropics_own_api(tenant: Tenant, standin: Standin) -> None:
    """`/v1/messages` of a Claude model is Anthropic's, untranslated."""
    answer = ask(tenant, MESSAGES, model=CLAUDE)
    assert answer.json()["type"] == "message"
    came_with(standin, MESSAGES, STORED["ANTHROPIC_API_KEY"], "x-api-key")


def test_our_key_in_each_place(tenant: Tenant, standin: Standin) -> None:
    """Portkey's header, ours, or the provider's slot."""
    for headers in (
        {"pk_api_key": tenant.key, "xproxy_api_key": ""},
        {"xproxy_api_key": tenant.key},
        {"authorization": f"Bearer {tenant.key}", "xproxy_api_key": ""},
        {"x_api_key": tenant.key, "xproxy_api_key": ""},
    ):
        standin.reset()
        assert ask(tenant, **headers).status_code == 200
        came_with(standin, CHAT, STORED["OPENAI_API_KEY"], "authorization")


@pytest.mark.parametrize(
    ("provider", "path", "model", "own", "header"),
    [
        ("openai", CHAT, GPT, OWN, "authorization"),
        ("anthropic", MESSAGES, CLAUDE, OWN_CLAUDE, "x-api-key"),
        ("anthropic", MESSAGES, CLAUDE, "sk-ant-oat01-" + "x" * 40, "authorization"),
    ],
)
def test_a_key_of_ones_own(
    tenant: Tenant, standin: Standin, provider: str, path: str, model: str, own: str, header: str
) -> None:
    """As `Bearer`, as OpenAI's SDK sends it; the provider gets it where it looks for it."""
    answer = ask(tenant, path, model, pk_provider=provider, authorization=f"Bearer {own}")
    assert answer.status_code == 200, answer.text
    came_with(standin, path, own, header)
    assert tenant.row().get("credential") is None


@pytest.mark.parametrize("how", ["header", "provider", "model", "slot", "query", "config", "ours"])
def test_a_virtual_key(tenant: Tenant, standin: Standin, how: str) -> None:
    """A slug in any of its places: the stored secret serves the call, and its provider is known."""
    store(tenant, "team-claude", "anthropic")
    path, named, headers = MESSAGES, CLAUDE, {}
    match how:
        case "header":
            headers = {"pk_virtual_key": "team-claude"}
        case "provider":
            headers = {"pk_provider": "@team-claude"}
        case "model":
            named = f"@team-claude/{CLAUDE}"
        case "slot":
            headers = {"authorization": "Bearer team-claude"}
        case "query":
            path = f"{MESSAGES}?model=@team-claude/{CLAUDE}"
        case "ours":
            headers = {"xproxy_credential": "team-claude"}
        case "config":
            headers = {"pk_config": json.dumps({"virtual_key": "team-claude"})}
    answer = ask(tenant, path, named, **headers)
    assert answer.status_code == 200, answer.text
    came_with(standin, MESSAGES, SECRET, "x-api-key")
    assert model(standin).startswith(CLAUDE)
    assert came(standin).query == ""
    assert tenant.row()["credential"] == "team-claude"


@pytest.mark.parametrize(
    ("headers", "model", "status", "says"),
    [
        ({"pk_provider": "opnai"}, GPT, 400, "There are anthropic, "),
        ({"pk_virtual_key": "nobody"}, GPT, 400, "Following keys are not valid: nobody"),
        ({"pk_provider": "@nobody"}, GPT, 400, "Following keys are not valid: nobody"),
        ({}, "@nobody/gpt-4o", 400, "Following keys are not valid: nobody"),
        ({}, "@openai", 400, "names a virtual key or a provider, and no model"),
        ({}, "my-own-model", 400, "x-portkey-config or x-portkey-provider header is required"),
        ({"authorization": f"Bearer {OWN}"}, "my-own-model", 400, "header is required"),
        ({"pk_metadata": "{"}, GPT, 400, "x-portkey-metadata must be a JSON object"),
        ({"pk_metadata": '{"a":1}'}, GPT, 400, "x-portkey-metadata.a must be a string"),
        ({"pk_retry_count": "6"}, GPT, 400, "x-portkey-retry-count must be a whole number from"),
        ({"pk_request_timeout": "1s"}, GPT, 400, "x-portkey-request-timeout must be a whole"),
        ({"pk_forward_headers": "x-portkey-forward-headers"}, GPT, 400, "may not name itself"),
        ({"pk_config": "pc-abc"}, GPT, 400, "Invalid config id passed"),
        ({"pk_config": "{"}, GPT, 400, "You need to pass a valid json"),
        ({"pk_config": '{"targets":[]}'}, GPT, 400, "path: config.targets, message: must be a"),
        ({"pk_config": '{"retry":{"attempts":9}}'}, GPT, 400, "path: config.retry.attempts"),
        ({"pk_config": '{"input_guardrails":["g"]}'}, GPT, 400, "config.input_guardrails"),
        ({"pk_custom_host": "https://10.0.0.1/v1"}, GPT, 400, "x-portkey-custom-host: the host"),
        ({"pk_custom_host": "http://example.com"}, GPT, 400, "must begin with https://"),
        ({"pk_custom_host": "ftp"}, GPT, 400, "x-portkey-custom-host"),
    ],
)
def test_what_makes_no_sense(
    service: Service,
    standin: Standin,
    headers: dict[str, str],
    model: str,
    status: int,
    says: str,
) -> None:
    """Is refused before anybody is called, in words that name the header and the remedy."""
    standin.wait_idle()
    standin.reset()
    tenant = new_tenant(service, permissions=["base_uri"])
    answer = ask(tenant, model=model, **headers)
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert says in error["message"]
    assert error["type"] == "invalid_request_error"
    assert standin.ledger() == []


def test_a_host_of_ones_own_takes_a_permission(tenant: Tenant, standin: Standin) -> None:
    """As by our own header."""
    answer = ask(tenant, pk_custom_host="https://example.com/v1", authorization=f"Bearer {OWN}")
    assert answer.status_code == 403
    assert "permission `base_uri`" in answer.json()["error"]["message"]
    assert standin.ledger() == []


def test_a_host_of_ones_own(open_service: Service, standin: Standin) -> None:
    """An OpenAI-compatible host by its URL with the version in it; its own key goes there."""
    standin.wait_idle()
    standin.reset()
    tenant = new_tenant(open_service, permissions=["base_uri", "own_credential"])
    for host in (standin.url + "/v1", standin.url + "/v1/"):
        standin.reset()
        answer = ask(
            tenant, pk_provider="openai", pk_custom_host=host, authorization=f"Bearer {OWN}"
        )
        assert answer.status_code == 200, answer.text
        came_with(standin, CHAT, OWN, "authorization")


def test_a_deployment_of_azures(open_service: Service, standin: Standin) -> None:
    """By Portkey's headers, or by what the virtual key knows of it."""
    standin.wait_idle()
    standin.reset()
    tenant = new_tenant(open_service, permissions=["base_uri", "own_credential", "credential:*"])
    said = {"pk_azure_deployment_id": "mine", "pk_azure_api_version": "2024-10-21"}
    answer = ask(
        tenant,
        pk_provider="azure-openai",
        pk_custom_host=standin.url,
        authorization="Bearer azure-own-key-0123456789",
        **said,
    )
    assert answer.status_code == 200, answer.text
    path = "/openai/deployments/mine/chat/completions"
    came_with(standin, path, "azure-own-key-0123456789", "api-key")
    assert came(standin).query == "api-version=2024-10-21"
    key = {
        "name": "azure",
        "slug": "azure-team",
        "provider": "azure-openai",
        "key": SECRET,
        "custom_host": standin.url,
        "apiVersion": "2024-10-21",
        "deploymentName": "mine",
    }
    made = tenant.service.http.post(
        "/v1/virtual-keys",
        json=key,
        headers={"x-portkey-api-key": tenant.service.admin_key},
        params={"application": tenant.application_id},
    )
    assert made.status_code == 200, made.text
    standin.reset()
    answer = ask(tenant, pk_virtual_key="azure-team")
    assert answer.status_code == 200, answer.text
    came_with(standin, path, SECRET, "api-key")
    standin.reset()
    claude = ask(tenant, MESSAGES, GPT, pk_virtual_key="azure-team")
    assert claude.json()["type"] == "message", claude.text
    came_with(standin, path, SECRET, "api-key")


def test_a_token_of_entras(open_service: Service, standin: Standin) -> None:
    """In place of a resource's key; what the deployment is prices it."""
    standin.wait_idle()
    standin.reset()
    tenant = new_tenant(open_service, permissions=["base_uri", "own_credential"])
    said = {"pk_provider": "azure-openai", "pk_azure_deployment_id": "mine"}
    token = "ey-entras-token-0123456789"
    answer = ask(
        tenant,
        model="mine",
        pk_custom_host=standin.url,
        pk_azure_ad_token=token,
        pk_azure_model_name="gpt-4o-2024-08-06",
        **said,
    )
    assert answer.status_code == 200, answer.text
    came_with(standin, "/openai/deployments/mine/chat/completions", token, "authorization")
    assert tenant.row()["price_as_resource"] == "gpt-4o-2024-08-06"


def test_a_form_names_whom_it_is_for_in_headers(tenant: Tenant, standin: Standin) -> None:
    """It is sent as it comes: what stands before its model could not be taken off."""
    body = {"model": "@openai/whisper-1"}
    headers = {"xproxy-api-key": tenant.key}
    files = {"file": ("a.wav", b"RIFF")}
    answer = tenant.service.http.post(
        "/v1/audio/transcriptions", data=body, files=files, headers=headers
    )
    assert answer.status_code == 400, answer.text
    assert "x-portkey-virtual-key" in answer.json()["error"]["message"]
    plan = json.dumps({"provider": "openai", "override_params": {"model": "whisper-1"}})
    answer = tenant.service.http.post(
        "/v1/audio/transcriptions",
        data=body,
        files=files,
        headers=headers | {"x-portkey-config": plan},
    )
    assert answer.status_code == 400, answer.text
    assert "a form is sent as it comes" in answer.json()["error"]["message"]
    assert standin.ledger() == []


# What comes back


def test_what_the_answer_says(tenant: Tenant, standin: Standin) -> None:
    """Portkey's headers, with what the call cost and what is left."""
    limit = tenant.limit("team")
    answer = ask(tenant, pk_provider="openai", pk_trace_id="trace-7", xproxy_limit_ids=limit)
    headers = answer.headers
    cost = standin.ledger()[0].cost_pico
    assert cost is not None
    assert headers["x-portkey-trace-id"] == "trace-7"
    assert headers["x-portkey-provider"] == "openai"
    assert headers["x-portkey-last-used-option-index"] == "config"
    assert headers["x-portkey-retry-attempt-count"] == "0"
    assert headers["x-portkey-cache-status"] == "DISABLED"
    assert int(Decimal(headers["x-portkey-cost"]) * 10**12) == cost
    left = Decimal(headers["x-portkey-budget-remaining"])
    assert int(left * 10**12) == 10**12 - cost
    row = tenant.row()
    assert row["properties"]["trace_id"] == "trace-7"


def test_what_a_call_says_of_itself(tenant: Tenant) -> None:
    """Metadata are properties; `_user` is whom it is for; the SDKs' members stay here."""
    metadata = json.dumps({"_user": "ann", "team": "blue", "_environment": "prod"})
    body = {
        "model": GPT,
        "max_tokens": 5,
        "messages": HELLO,
        "prompt_id": "pp-1",
        "cache_status": True,
        "cacheForceRefresh": False,
    }
    sent = {"x-portkey-api-key": tenant.key, "x-portkey-metadata": metadata}
    answer = tenant.service.http.post(CHAT, json=body, headers=sent)
    assert answer.status_code == 200, answer.text
    row = tenant.row()
    assert row["user_id"] == "ann"
    assert row["properties"] == {"team": "blue", "_environment": "prod", "prompt_id": "pp-1"}


def test_a_budget_that_is_used_up(tenant: Tenant, standin: Standin) -> None:
    """412 and Portkey's words with its headers; without them OpenAI's SDK reads a 400."""
    limit = tenant.limit("team", "0.0000001")
    told = {"xproxy_limit_ids": limit}
    first = ask(tenant, **told)
    assert first.status_code == 200, first.text
    refused = ask(tenant, pk_provider="openai", **told)
    assert refused.status_code == 412, refused.text
    body = refused.json()
    assert (body["status"], body["error"]["code"]) == ("failure", "04")
    assert refused.headers["x-portkey-budget-remaining"] == "0"
    assert body["xproxy_error"]["limits"][0]["limit_id"] == "team"
    plain = ask(tenant, **told)
    assert (plain.status_code, plain.json()["error"]["type"]) == (400, "budget_exceeded")
    anthropic = ask(tenant, MESSAGES, CLAUDE, pk_provider="anthropic", **told)
    assert (anthropic.status_code, anthropic.json()["type"]) == (412, "error")
    assert len(standin.ledger()) == 1


@pytest.mark.parametrize("portkey", [True, False])
def test_a_wrong_key(tenant: Tenant, portkey: bool) -> None:  # noqa: FBT001
    """401, with Portkey's code if its header had it."""
    key = "sk-xproxy-" + "x" * 40
    headers = {"pk_api_key": key, "xproxy_api_key": ""} if portkey else {"xproxy_api_key": key}
    answer = ask(tenant, **headers)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == ("03" if portkey else "invalid_api_key")
    named = answer.headers.get("x-portkey-trace-id")
    assert named == (answer.headers["xproxy-request-id"] if portkey else None)


# Attempts


def test_a_target_is_tried_again(tenant: Tenant, standin: Standin) -> None:
    """As often as the header says, for what helps; each try has a row, and one is charged."""
    standin.script(then=[{"status": 503}])
    answer = ask(tenant, pk_retry_count="2")
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-portkey-retry-attempt-count"] == "1"
    assert [it.status for it in standin.ledger()] == [503, 200]
    rows = tenant.rows(2)
    assert [(it["attempt"], it["status"]) for it in rows] == [(1, "failed"), (2, "ok")]
    assert rows[0]["request_id"] == rows[1]["request_id"]


def test_all_tries_fail(tenant: Tenant, standin: Standin) -> None:
    """The last one's answer is the client's, and says so."""
    standin.script(then=[{"status": 503}, {"status": 500}])
    answer = ask(tenant, pk_retry_count="1")
    assert answer.status_code == 500
    assert answer.headers["x-portkey-retry-attempt-count"] == "-1"
    assert len(standin.ledger()) == 2


def test_what_does_not_help_is_not_tried_again(tenant: Tenant, standin: Standin) -> None:
    """A 400 is the caller's."""
    standin.script(then=[{"status": 400}])
    assert ask(tenant, pk_retry_count="3").status_code == 400
    assert len(standin.ledger()) == 1


def test_a_fallback(tenant: Tenant, standin: Standin) -> None:
    """The next target, which may be another virtual key's, once one has failed."""
    store(tenant, "second", "openai")
    plan = {
        "strategy": {"mode": "fallback"},
        "targets": [{"provider": "openai"}, {"virtual_key": "second"}],
    }
    standin.script(then=[{"status": 401}])
    answer = ask(tenant, pk_config=json.dumps(plan))
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-portkey-last-used-option-index"] == "config.targets[1]"
    first, second = standin.ledger()
    assert first.credential is not None
    assert second.credential is not None
    assert second.credential.sha256 == fingerprint(SECRET)
    assert [it.get("credential") for it in tenant.rows(2)] == ["env-openai", "second"]


def test_a_budget_that_is_used_up_is_a_reason_to_fall_back(
    tenant: Tenant, standin: Standin
) -> None:
    """The limit is the first virtual key's: the second serves the call."""
    for slug in ("first", "second"):
        store(tenant, slug, "openai", SECRET + slug)
    tenant.limit("of-first", "0")
    place = "attachments/credential/first/of-first"
    tenant.service.manage("PUT", place, application=tenant.application_id)
    targets = [{"virtual_key": "first"}, {"virtual_key": "second"}]
    plan = {"strategy": {"mode": "fallback", "on_status_codes": [412]}, "targets": targets}
    for _ in range(2):
        answer = ask(tenant, pk_config=json.dumps(plan))
        assert answer.status_code == 200, answer.text
    rows = tenant.rows(3)
    assert {it["credential"] for it in rows if it["status"] == "ok"} >= {"second"}


def test_a_fallback_that_nothing_asks_for(tenant: Tenant, standin: Standin) -> None:
    """A status that is not listed is the answer."""
    plan = {
        "strategy": {"mode": "fallback", "on_status_codes": [429]},
        "targets": [{"provider": "openai"}, {"provider": "openai"}],
    }
    standin.script(then=[{"status": 500}])
    assert ask(tenant, pk_config=json.dumps(plan)).status_code == 500
    assert len(standin.ledger()) == 1


def test_a_load_balance(tenant: Tenant, standin: Standin) -> None:
    """By weight: none goes where there is none."""
    targets = [
        {"provider": "openai", "weight": 0, "override_params": {"model": "gpt-4o"}},
        {"provider": "openai", "weight": 0.3, "override_params": {"model": "gpt-4.1-mini"}},
        {"provider": "openai", "weight": 0.7},
    ]
    plan = json.dumps({"strategy": {"mode": "loadbalance"}, "targets": targets})
    for _ in range(30):
        assert ask(tenant, pk_config=plan).status_code == 200
    models = ["gpt-4o-mini" in (it.model or "") for it in standin.ledger()]
    assert not any(it.model == "gpt-4o-2024-08-06" for it in standin.ledger())
    assert 10 <= sum(models) < 30


@pytest.mark.parametrize(("plan", "answers"), [("paid", "gpt-4o-2024"), ("free", "gpt-4o-mini-")])
def test_conditions(tenant: Tenant, standin: Standin, plan: str, answers: str) -> None:
    """On metadata, and on what is asked for."""
    config = {
        "strategy": {
            "mode": "conditional",
            "conditions": [
                {
                    "query": {"metadata.plan": {"$eq": "paid"}, "params.max_tokens": {"$lte": 50}},
                    "then": "large",
                }
            ],
            "default": "small",
        },
        "targets": [
            {"name": "large", "provider": "openai", "override_params": {"model": "gpt-4o"}},
            {"name": "small", "provider": "openai"},
        ],
    }
    answer = ask(tenant, pk_config=json.dumps(config), pk_metadata=json.dumps({"plan": plan}))
    assert answer.status_code == 200, answer.text
    assert model(standin).startswith(answers)


def test_a_call_that_takes_too_long(tenant: Tenant, standin: Standin) -> None:
    """408 after the time that the call allows; what it cost nobody knows."""
    standin.script(then=[{"delay_ms": 3000}])
    answer = ask(tenant, pk_provider="openai", pk_request_timeout="200")
    assert answer.status_code == 408, answer.text
    assert "200 ms" in answer.json()["error"]["message"]
    assert answer.headers["x-should-retry"] == "false"  # SDKs would pay again, unasked
    assert answer.json()["error"]["type"] == "api_error"
    assert tenant.row()["status"] == "unresolved"
    standin.wait_idle()


@pytest.fixture(scope="module")
def anonymous(tmp_path_factory: pytest.TempPathFactory, standin: Standin) -> Iterator[Service]:
    """A service that lets anybody on this machine in."""
    data_dir = tmp_path_factory.mktemp("unified") / "data"
    with Service(
        data_dir, standin.url, XPROXY_ANONYMOUS="loopback", **STORED, **PATIENT
    ) as service:
        yield service


def test_anybody_on_this_machine(anonymous: Service, standin: Standin) -> None:
    """Before there are keys, any stands in for ours."""
    standin.wait_idle()
    standin.reset()
    body = {"model": GPT, "max_tokens": 5, "messages": HELLO}
    for headers in ({"x-portkey-api-key": "anything"}, {"authorization": "Bearer sk-anything"}):
        answer = anonymous.http.post(CHAT, json=body, headers=headers)
        assert answer.status_code == 200, answer.text


# Models


def test_the_models_that_there_are(tenant: Tenant, standin: Standin) -> None:
    """Of who names no provider: as calls name them, for each key that is stored."""
    store(tenant, "team-claude", "anthropic")
    headers = {"x-portkey-api-key": tenant.key}
    listed = tenant.service.http.get("/v1/models", headers=headers).json()
    ids = {it["id"]: it["owned_by"] for it in listed["data"]}
    assert ids[f"@team-claude/{CLAUDE}"] == "anthropic"
    assert ids[f"@env-openai/{GPT}"] == "openai"
    assert standin.ledger() == []
    query = {"provider": "team-claude", "limit": "2", "offset": "1"}
    some = tenant.service.http.get("/v1/models", headers=headers, params=query).json()
    assert some["total"] > len(some["data"]) == 2
    refused = tenant.service.http.get("/v1/models", headers=headers, params={"limit": "many"})
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "limit"
    nobody = tenant.service.http.get("/v1/models", headers={"Authorization": "Bearer nobody"})
    assert nobody.status_code == 401
    assert nobody.json()["error"]["code"] == nobody.json()["xproxy_error"]["code"]
    assert nobody.json()["xproxy_result"]["request_id"] == nobody.headers["xproxy-request-id"]
    for named in (f"@team-claude/{CLAUDE}", f"@env-openai/{GPT}"):
        standin.reset()
        path = MESSAGES if "claude" in named else CHAT
        assert ask(tenant, path, named).status_code == 200
