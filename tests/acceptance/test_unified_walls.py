"""What holds on the unified surface whatever a call says of where it goes: keys, hosts,
permissions, lists of models, limits; and requests that make no sense."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest

from tests.acceptance.conftest import STORED
from tests.acceptance.tenant import Tenant, new_tenant
from tests.acceptance.test_unified import (
    CHAT,
    CLAUDE,
    GPT,
    HELLO,
    MESSAGES,
    OWN,
    SECRET,
    ask,
    came_with,
    store,
)
from tests.standin.ledger import fingerprint
from tests.standin.process import Standin
from tests.standin.service import Service

ELSEWHERE = "https://gateway.example.com/v1"


def config(**members: Any) -> str:
    """A config as a header."""
    return json.dumps(members)


@pytest.fixture
def free(service: Service, standin: Standin) -> Tenant:
    """A tenant who may choose hosts, with a virtual key."""
    standin.wait_idle()
    standin.reset()
    tenant = new_tenant(service, permissions=["base_uri", "own_credential", "credential:*"])
    store(tenant, "mine", "openai")
    return tenant


@pytest.mark.parametrize(
    "headers",
    [
        {"pk_virtual_key": "mine", "pk_custom_host": ELSEWHERE},
        {"pk_provider": "openai", "pk_custom_host": ELSEWHERE},
        {"authorization": "Bearer mine", "pk_custom_host": ELSEWHERE},
        {"pk_config": config(virtual_key="mine", custom_host=ELSEWHERE)},
        {"pk_config": config(provider="openai", custom_host=ELSEWHERE)},
        {
            "pk_custom_host": ELSEWHERE,
            "pk_config": config(
                strategy={"mode": "single"},
                targets=[{"provider": "openai", "custom_host": ELSEWHERE}],
            ),
        },
    ],
)
def test_a_stored_key_goes_to_its_own_host_alone(
    free: Tenant, standin: Standin, headers: dict[str, str]
) -> None:
    """Whoever names another host has to bring a key of his own for it."""
    answer = ask(free, **headers)
    assert answer.status_code in (400, 401), answer.text
    assert "host" in answer.json()["error"]["message"]
    assert standin.ledger() == []


@pytest.mark.parametrize(
    "host",
    ["https://127.0.0.1/v1", "https://localhost/v1", "https://169.254.169.254", "https://[::1]"],
)
@pytest.mark.parametrize("where", ["header", "config"])
def test_a_private_host_is_refused_before_any_connection(
    free: Tenant, standin: Standin, host: str, where: str
) -> None:
    """In words that name where it stood."""
    own = {"authorization": f"Bearer {OWN}", "pk_provider": "openai"}
    said = (
        {"pk_custom_host": host} if where == "header" else {"pk_config": config(custom_host=host)}
    )
    answer = ask(free, **own, **said)
    assert answer.status_code == 400, answer.text
    assert "custom" in answer.json()["error"]["param"]
    assert standin.ledger() == []


def test_our_key_never_goes_along(tenant: Tenant, standin: Standin) -> None:
    """Whatever slot, query or config it stands in: the stand-in looks for it everywhere."""
    key, admin = tenant.key, tenant.service.admin_key
    for headers in (
        {"pk_api_key": key, "authorization": f"Bearer {key}"},
        {"pk_api_key": key, "x_api_key": key, "api_key": key},
        {"pk_config": config(provider="openai", api_key=key)},
        {"pk_config": config(provider="openai", api_key=admin)},
        {"pk_forward_headers": "x-mine", "x_mine": key},
        {"pk_provider": "openai", "x_goog_api_key": key},
        {"pk_openai_organization": key, "pk_anthropic_beta": admin},
    ):
        standin.reset()
        answer = ask(tenant, **headers)
        for call in standin.ledger():
            assert call.leaks == []
            assert call.credential is not None
            assert call.credential.sha256 not in (fingerprint(key), fingerprint(admin))
        assert key not in answer.text
        assert admin not in answer.text
    standin.reset()
    ask(tenant, f"{CHAT}?key={key}&model=@openai/{GPT}")
    assert [it.leaks for it in standin.ledger()] in ([], [[]])


def test_a_key_of_one_provider_goes_to_no_other(tenant: Tenant, standin: Standin) -> None:
    """Where a config names several: the key in the slot is that of whom the headers name, or it
    goes to nobody. Stored keys serve the others."""
    targets = [{"provider": "anthropic"}, {"provider": "openai", "override_params": {"model": GPT}}]
    plan = config(strategy={"mode": "fallback"}, targets=targets)
    standin.script(then=[{"status": 500}])
    own = {"authorization": "Bearer sk-ant-api03-" + "x" * 40}
    answer = ask(tenant, CHAT, CLAUDE, pk_config=plan, pk_provider="anthropic", **own)
    assert answer.status_code == 200, answer.text
    first, second = standin.ledger()
    assert first.credential is not None
    assert second.credential is not None
    assert first.credential.sha256 == fingerprint("sk-ant-api03-" + "x" * 40)
    assert second.credential.sha256 == fingerprint(STORED["OPENAI_API_KEY"])
    standin.reset()
    assert ask(tenant, CHAT, CLAUDE, pk_config=plan, **own).status_code == 200
    [only] = standin.ledger()
    assert only.credential is not None
    assert only.credential.sha256 == fingerprint(STORED["ANTHROPIC_API_KEY"])


@pytest.mark.parametrize(
    ("permissions", "headers", "model", "status"),
    [
        (["credential:other"], {"pk_virtual_key": "mine"}, GPT, 403),
        (["credential:other"], {"authorization": "Bearer mine"}, GPT, 403),
        (["credential:other"], {}, f"@mine/{GPT}", 403),
        (["credential:mine"], {"pk_virtual_key": "mine"}, GPT, 200),
        (
            ["credential:mine"],
            {"pk_provider": "openai", "authorization": f"Bearer {OWN}"},
            GPT,
            403,
        ),
        (["credential:mine"], {"pk_config": config(provider="openai", api_key=OWN)}, GPT, 403),
        (["own_credential"], {"pk_config": config(provider="openai", api_key=OWN)}, GPT, 200),
        (["own_credential"], {"pk_virtual_key": "mine"}, GPT, 403),
        (["own_credential"], {"authorization": "Bearer mine"}, GPT, 403),
    ],
)
def test_permissions(
    service: Service,
    standin: Standin,
    permissions: list[str],
    headers: dict[str, str],
    model: str,
    status: int,
) -> None:
    """A key uses what it may, by whatever words."""
    standin.wait_idle()
    standin.reset()
    tenant = new_tenant(service, permissions=permissions)
    store(tenant, "mine", "openai")
    answer = ask(tenant, model=model, **headers)
    assert answer.status_code == status, answer.text
    assert len(standin.ledger()) == (1 if status == 200 else 0)


@pytest.mark.parametrize(
    ("headers", "model"),
    [
        ({}, "gpt-4o"),
        ({}, "@openai/gpt-4o"),
        ({"pk_config": config(provider="openai", override_params={"model": "gpt-4o"})}, GPT),
        ({"pk_provider": "anthropic"}, CLAUDE),
    ],
)
def test_a_list_of_models_holds(
    service: Service, standin: Standin, headers: dict[str, str], model: str
) -> None:
    """By every way to name another one."""
    standin.wait_idle()
    standin.reset()
    tenant = new_tenant(service)
    service.manage(
        "PATCH", f"keys/{tenant.key_id}", {"models": [GPT]}, application=tenant.application_id
    )
    answer = ask(tenant, model=model, **headers)
    assert answer.status_code == 403, answer.text
    assert standin.ledger() == []
    assert ask(tenant).status_code == 200


def test_no_property_splits_an_answer(tenant: Tenant) -> None:
    """What a header repeats is text, by whichever header it came."""
    for headers in (
        {"xproxy_request_properties": json.dumps({"trace_id": "x\r\nset-cookie: a=b"})},
        {"pk_metadata": json.dumps({"trace_id": "x\nset-cookie: a=b"})},
    ):
        answer = ask(tenant, pk_provider="openai", **headers)
        assert answer.status_code == 400, answer.text
        assert "set-cookie" not in answer.headers


def test_the_limits_of_each_target_bind_its_attempt(tenant: Tenant, standin: Standin) -> None:
    """And no other's: what the second serves is not counted by the first's limit."""
    for slug in ("first", "second"):
        store(tenant, slug, "openai", SECRET + slug)
        tenant.limit(f"of-{slug}", "1")
        place = f"attachments/credential/{slug}/of-{slug}"
        tenant.service.manage("PUT", place, application=tenant.application_id)
    plan = config(
        strategy={"mode": "fallback"}, targets=[{"virtual_key": "first"}, {"virtual_key": "second"}]
    )
    standin.script(then=[{"status": 500}])
    assert ask(tenant, pk_config=plan).status_code == 200
    cost = standin.ledger()[1].cost_pico
    assert tenant.totals("of-first")["cost"]["total"]["base"] == 0
    assert cost
    assert str(
        tenant.totals("of-second")["cost"]["total"]["base"]
    ) == f"{cost / 10**12:.12f}".rstrip("0")


def test_overriding_what_is_streamed(tenant: Tenant, standin: Standin) -> None:
    """What a config sets counts for what is metered, too."""
    plan = config(provider="openai", override_params={"stream": True, "max_tokens": 7})
    answer = ask(tenant, pk_config=plan)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert tenant.row()["streamed"] is True
    assert standin.ledger()[0].stream is True


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"[]", 400),
        (b'{"model":', 400),
        (b'{"model":5,"messages":[]}', 400),
        (b'{"model":null,"messages":[{"role":"user","content":"\\"model\\":\\"x\\""}]}', 400),
        (b'{"model":"gpt-4o-mini","stream":"yes","messages":[]}', 400),
        (b'{"model":"' + b"x" * 5000 + b'","messages":[]}', 400),
        (b"\xff\xfe", 400),
        (b'{"a":' * 3000 + b"1" + b"}" * 3000, 400),
    ],
)
@pytest.mark.parametrize("provider", ["openai", "anthropic", ""])
def test_bodies_that_make_no_sense(
    tenant: Tenant, standin: Standin, body: bytes, status: int, provider: str
) -> None:
    """400 in the surface's grammar, and nobody is called."""
    headers = {"xproxy-api-key": tenant.key, "content-type": "application/json"}
    if provider:
        headers["x-portkey-provider"] = provider
    answer = tenant.service.http.post(CHAT, content=body, headers=headers)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["message"]
    assert standin.ledger() == []


def test_a_model_that_is_named_twice(tenant: Tenant, standin: Standin) -> None:
    """The last one counts, and it is the only one that is sent."""
    body = b'{"model":"gpt-4o","messages":[{"role":"user","content":"x"}],"model":"gpt-4o-mini"}'
    headers = {"xproxy-api-key": tenant.key, "content-type": "application/json"}
    answer = tenant.service.http.post(CHAT, content=body, headers=headers)
    assert answer.status_code == 200, answer.text
    assert (standin.ledger()[0].model or "").startswith("gpt-4o-mini")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (CHAT + "/", {200}),
        ("//v1/chat/completions", {200}),
        ("/v1//chat/completions", {404}),
        ("/v1/chat%2Fcompletions", {404}),
        ("/v1/chat/../chat/completions", {404}),
        ("/V1/chat/completions", {404}),
        ("/v1/messages/", {200}),
        ("/v1/" + "x" * 3000, {404, 414}),
        (CHAT + "?" + "q=1&" * 2000, {200}),
    ],
)
def test_paths(tenant: Tenant, standin: Standin, path: str, status: set[int]) -> None:
    """Written strangely, a path is served as what it means, or it is nobody's."""
    body = json.dumps({"model": GPT, "max_tokens": 5, "messages": HELLO}).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nxproxy-api-key: {tenant.key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        "Connection: close\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", tenant.service.port), timeout=20) as raw:
        raw.sendall(head.encode() + body)
        answer = b""
        while data := raw.recv(65536):
            answer += data
    assert int(answer.split(b" ", 2)[1]) in status, answer[:300]


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "GET"])
def test_other_methods(tenant: Tenant, standin: Standin, method: str) -> None:
    """Go where they would go; what is not metered is on record as that."""
    headers = {"xproxy-api-key": tenant.key}
    tenant.service.http.request(method, MESSAGES, headers=headers)
    assert all(it.cost_pico in (0, None) for it in standin.ledger())
    assert tenant.row()["cost_pico"] == "0"


def test_a_compressed_body_is_the_providers_to_read(tenant: Tenant, standin: Standin) -> None:
    """Nobody here can say what it asks for: it is refused, not guessed at."""
    headers = {"xproxy-api-key": tenant.key, "content-encoding": "gzip"}
    answer = tenant.service.http.post(CHAT, content=b"\x1f\x8b\x08\x00", headers=headers)
    assert answer.status_code == 400
    assert standin.ledger() == []


def test_a_virtual_key_of_another_application(service: Service, standin: Standin) -> None:
    """Is not there."""
    standin.reset()
    one, other = new_tenant(service), new_tenant(service)
    store(one, "ours", "openai")
    for headers in ({"pk_virtual_key": "ours"}, {"pk_provider": "@ours"}):
        answer = ask(other, **headers)
        assert answer.status_code == 400
        assert "Following keys are not valid: ours" in answer.json()["error"]["message"]
    assert standin.ledger() == []
    assert ask(one, pk_virtual_key="ours").status_code == 200
    came_with(standin, CHAT, SECRET, "authorization")
