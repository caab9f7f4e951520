"""Callers of the unified surface who mean ill, or put things where they do not belong."""

from __future__ import annotations

import json
import socket
import time
from decimal import Decimal
from typing import Any

import pytest

from tests.acceptance.litellm import LiteLLM
from tests.acceptance.tenant import Tenant, new_tenant
from tests.acceptance.test_unified import CHAT, CLAUDE, GPT, HELLO, OWN, ask, model
from tests.chaos.rig import until
from tests.standin.process import Standin
from tests.standin.service import Service

NOBODYS = {"virtual_key": "nobodys"}


def plan(mode: str, *targets: dict[str, Any]) -> str:
    """A config as a header."""
    return json.dumps({"strategy": {"mode": mode}, "targets": targets})


@pytest.mark.parametrize("ours", [True, False])
def test_a_key_in_the_wrong_place_is_not_repeated(
    tenant: Tenant,
    standin: Standin,
    ours: bool,  # noqa: FBT001
) -> None:
    """An error names what it does not know, unless that looks like a key: errors are logged."""
    key = tenant.key if ours else OWN
    for headers, named in (
        ({"pk_virtual_key": key}, GPT),
        ({"pk_provider": key}, GPT),
        ({"pk_provider": f"@{key}"}, GPT),
        ({}, key),
        ({}, f"@{key}"),
        ({}, f"@{key}/{GPT}"),
    ):
        answer = ask(tenant, model=named, **headers)
        assert answer.status_code in (400, 403), answer.text
        assert key[:20] not in answer.text
    assert standin.ledger() == []


def test_names_of_members_add_no_headers(tenant: Tenant, standin: Standin) -> None:
    """What was lost in translation is told in a header, whatever it is called."""
    body = {
        "model": CLAUDE,
        "messages": HELLO,
        "a\r\nx-evil: 1": 1,
        "metadata": {"b\r\nx-evil: 1": "c"},
    }
    headers = {"xproxy-api-key": tenant.key}
    answer = tenant.service.http.post(CHAT, json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    assert "x-evil" not in answer.headers
    assert "x-evil" in answer.headers["xproxy-dropped-params"]


def test_what_a_config_overrides_needs_a_body(tenant: Tenant) -> None:
    """A client whose config sets members may list models, too."""
    config = json.dumps({"provider": "openai", "override_params": {"model": "gpt-4o"}})
    headers = {"x-portkey-api-key": tenant.key, "x-portkey-config": config}
    answer = tenant.service.http.get("/v1/models", headers=headers)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("meant", [GPT, CLAUDE])
def test_an_alias_tells_the_provider(tenant: Tenant, standin: Standin, meant: str) -> None:
    """By the model that the key calls in its place."""
    tenant.service.manage(
        "PATCH",
        f"keys/{tenant.key_id}",
        {"aliases": {"fast": meant}},
        application=tenant.application_id,
    )
    answer = ask(tenant, model="fast")
    assert answer.status_code == 200, answer.text
    assert model(standin).startswith(meant)


def test_once_whatever_is_drawn(tenant: Tenant, standin: Standin) -> None:
    """A call with an idempotency key is the same one, though another target be drawn for it."""
    path = f"applications/{tenant.application_id}"
    tenant.service.manage("PATCH", path, {"idempotency": True})
    targets = [{"provider": "openai", "override_params": {"seed": at}} for at in range(5)]
    for _ in range(6):
        headers = {"pk_config": plan("loadbalance", *targets), "idempotency_key": "order-1"}
        assert ask(tenant, **headers).status_code == 200
    assert len(standin.ledger()) == 1


def test_targets_that_cannot_be_called_are_attempts(tenant: Tenant, standin: Standin) -> None:
    """Finding out costs time, too: after so many there are no more."""
    last = {"provider": "openai"}
    assert ask(tenant, pk_config=plan("fallback", *[NOBODYS] * 8, last)).status_code == 200
    refused = ask(tenant, pk_config=plan("fallback", *[NOBODYS] * 9, last))
    assert refused.status_code == 400
    assert len(standin.ledger()) == 1


def test_nobody_waits_for_a_second_try(service: Service, standin: Standin) -> None:
    """A client that leaves between two attempts ends the call."""
    standin.wait_idle()
    standin.reset()
    tenant = new_tenant(service)
    standin.script(default={"status": 503})
    body = json.dumps({"model": GPT, "max_tokens": 5, "messages": HELLO}).encode()
    head = (
        f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nx-portkey-api-key: {tenant.key}\r\n"
        f"x-portkey-retry-count: 3\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as raw:
        raw.sendall(head.encode() + body)
        until(lambda: bool(standin.ledger()), 20)
    time.sleep(1.5)  # a second try would begin after one
    standin.script(default={})
    assert [it.status for it in standin.ledger()] == [503]
    assert [it["status"] for it in tenant.rows(1)] == ["failed"]


@pytest.mark.parametrize(
    ("told", "code"),
    [
        ({"reset_at_byte": 0}, "provider_error"),
        ({"reset_at_byte": 40}, "provider_error"),
        ({"cut_at_byte": 40}, "provider_error"),
        ({"malformed": "garbage_json"}, "provider_error"),
        ({"delay_ms": 1500}, "request_timeout"),
    ],
)
@pytest.mark.parametrize("named", [GPT, CLAUDE])
def test_what_nobody_knows_of_one_attempt_is_on_its_row(
    tenant: Tenant, standin: Standin, told: dict[str, Any], code: str, named: str
) -> None:
    """The next one serves the call; the limit has what both rows say, and the answer what its own
    cost."""
    limit = tenant.limit("team")
    second = {"provider": "openai", "override_params": {"model": GPT}}
    config = json.loads(plan("fallback", {"request_timeout": 700}, second))
    standin.script(then=[told])
    answer = ask(tenant, model=named, pk_config=json.dumps(config), xproxy_limit_ids=limit)
    assert answer.status_code == 200, answer.text
    first, last = tenant.rows(2)
    assert (first["attempt"], first["status"], first["error_code"]) == (1, "unresolved", code)
    assert (last["attempt"], last["status"]) == (2, "ok")
    cost = int(Decimal(answer.headers["x-portkey-cost"]).scaleb(12))
    assert int(last["cost_pico"]) == cost == standin.ledger()[-1].cost_pico
    total = int(tenant.totals(limit)["cost"]["total"]["base"].scaleb(12))
    assert total == cost + int(first["cost_pico"])


@pytest.mark.parametrize("named", [GPT, CLAUDE, f"@openai/{GPT}"])
@pytest.mark.parametrize("where", ["user", "metadata", "override"])
def test_what_a_user_may_call_holds_in_any_form(
    tenant: Tenant, standin: Standin, named: str, where: str
) -> None:
    """Whoever says that a call is for him, as it comes, translated, or by what a config sets."""
    litellm = LiteLLM(tenant)
    litellm.post("/user/new", user_id="ann", auto_create_key=False, models=["o3"])
    body: dict[str, Any] = {"model": named, "max_tokens": 5, "messages": HELLO}
    headers = {"xproxy-api-key": tenant.key}
    match where:
        case "user":
            body["user"] = "ann"
        case "metadata":
            headers["x-portkey-metadata"] = json.dumps({"_user": "ann"})
        case "override":
            headers["x-portkey-config"] = json.dumps({"override_params": {"user": "ann"}})
    answer = tenant.service.http.post(CHAT, json=body, headers=headers)
    assert answer.status_code == 403, answer.text
    assert answer.json()["xproxy_error"]["code"] == "user_model_access_denied"
    assert standin.ledger() == []
