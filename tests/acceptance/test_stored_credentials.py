"""Stored credentials at a running service, with the providers' SDKs: the provider accepts the
stored keys alone, so that an answer proves which one it got."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import openai
import pytest

from tests.acceptance import clients
from tests.acceptance.conftest import STORED
from tests.acceptance.tenant import CHAT, MESSAGES, Tenant, new_tenant
from tests.standin.ledger import fingerprint
from tests.standin.process import Standin
from tests.standin.recordings import ROOT
from tests.standin.service import Service

MAIN, CLAUDE, TEAM = "sk-main-of-acceptance", "sk-ant-main-of-acceptance", "sk-team-of-acceptance"
NEXT = "sk-main-after-its-rotation"
HEADER = "xProxy-Credential"
KNOWN_S = 1.0
"""How long a change may take until every worker knows it."""


@pytest.fixture
def stocked(tenant: Tenant, standin: Standin) -> Iterator[Tenant]:
    """A tenant with a default for each provider and one more; the provider takes nothing else."""
    store(tenant, "main", "openai", MAIN, is_default=True)
    store(tenant, "claude", "anthropic", CLAUDE, is_default=True)
    store(tenant, "team", "openai", TEAM)
    standin.script(auth=[MAIN, CLAUDE, TEAM])
    yield tenant
    standin.reset()


def store(tenant: Tenant, slug: str, provider: str, secret: str, **members: Any) -> None:
    """Store a credential of the tenant's."""
    body = {"slug": slug, "provider": provider, "secret": secret} | members
    manage(tenant, "POST", "credentials", body)


def manage(tenant: Tenant, method: str, path: str, body: object = None) -> dict[str, Any]:
    """An administrator's request for the tenant."""
    return tenant.service.manage(method, path, body, application=tenant.application_id)


def key_of(tenant: Tenant, *permissions: str) -> str:
    """Another key of the tenant's, with these permissions."""
    members = {"application_id": tenant.application_id, "role": "app", "name": "more"}
    made = tenant.service.manage("POST", "keys", members | {"permissions": list(permissions)})
    key: str = made["key"]
    return key


def served_with(standin: Standin) -> list[str | None]:
    """Which secrets the provider got, as fingerprints; nothing of ours leaked to it."""
    calls = standin.ledger()
    assert not [call.leaks for call in calls if call.leaks]
    return [call.credential.sha256 if call.credential else None for call in calls]


def test_the_sdks_are_served_by_default(stocked: Tenant, standin: Standin) -> None:
    """Our key where theirs would stand is all they need, streamed or not."""
    with clients.openai_client(stocked) as client:
        assert clients.chat(client).xproxy_result
        assert [chunk.id for chunk in clients.chat(client, stream=True)]
    with clients.anthropic_client(stocked) as claude:
        assert clients.message(claude).xproxy_result
    expected = [fingerprint(it) for it in (MAIN, MAIN, CLAUDE)]
    assert served_with(standin) == expected


def test_the_sdks_name_one(stocked: Tenant, standin: Standin) -> None:
    """As a default header or for one call; a key in the provider's slot is not in its way."""
    named = {HEADER: "team"}
    with clients.openai_client(stocked, default_headers=named) as client:
        clients.chat(client)
    with clients.openai_client(stocked) as client:
        clients.chat(client, extra_headers=named)
        clients.chat(client)
    ours = {"xProxy-Api-Key": stocked.key}
    with clients.openai_client(stocked, key="sk-none", default_headers=named | ours) as client:
        clients.chat(client)
    assert served_with(standin) == [fingerprint(it) for it in (TEAM, TEAM, MAIN, TEAM)]


def test_permissions_of_keys(stocked: Tenant, standin: Standin) -> None:
    """A key with a list uses what is on it; the SDKs raise PermissionDeniedError for the rest."""
    key = key_of(stocked, "credential:team")
    with clients.openai_client(stocked, key=key) as client:
        clients.chat(client, extra_headers={HEADER: "team"})
        for headers in ({}, {HEADER: "main"}, {HEADER: "nothing"}, {HEADER: "env-openai"}):
            with pytest.raises(openai.PermissionDeniedError) as refused:
                clients.chat(client, extra_headers=headers)
            assert refused.value.body["xproxy_error"]["code"] == "credential_not_permitted"  # type: ignore[index]
    with (
        clients.anthropic_client(stocked, key=key) as claude,
        pytest.raises(anthropic.PermissionDeniedError),
    ):
        clients.message(claude)
    ours = {"xProxy-Api-Key": key}
    with (
        clients.openai_client(stocked, key="sk-own", default_headers=ours) as client,
        pytest.raises(openai.PermissionDeniedError, match="own_credential"),
    ):
        clients.chat(client)
    assert served_with(standin) == [fingerprint(TEAM)]


def test_rotated_blocked_and_deleted(stocked: Tenant, standin: Standin) -> None:
    """Each is known to the next calls within a second, and to the SDKs by the status."""
    standin.script(auth=[NEXT])
    with clients.openai_client(stocked, max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError) as wrong:
            clients.chat(client)
        assert MAIN not in str(wrong.value.body)
        manage(stocked, "POST", "credentials/main/rotate", {"secret": NEXT})
        eventually(lambda: clients.chat(client))
        manage(stocked, "PATCH", "credentials/main", {"blocked": True})
        eventually(lambda: refused_by(client, "credential_blocked"))
        manage(stocked, "PATCH", "credentials/main", {"blocked": False})
        eventually(lambda: clients.chat(client))
        manage(stocked, "PATCH", "credentials/main", {"origin": "https://gateway.example.com"})
        eventually(lambda: refused_by(client, "credential_needs_secret"))
        manage(stocked, "DELETE", "credentials/main")
        standin.script(auth=[STORED["OPENAI_API_KEY"]])
        eventually(lambda: clients.chat(client))
    known = {fingerprint(it) for it in (MAIN, NEXT, STORED["OPENAI_API_KEY"])}
    assert set(served_with(standin)) == known


def eventually(done: Any) -> None:
    """Something works within the time that a change may take."""
    deadline = time.monotonic() + KNOWN_S
    while True:
        try:
            done()
        except (openai.APIStatusError, AssertionError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def refused_by(client: openai.OpenAI, code: str) -> None:
    """A call is refused so."""
    with pytest.raises(openai.PermissionDeniedError) as refused:
        clients.chat(client)
    assert refused.value.body["xproxy_error"]["code"] == code  # type: ignore[index]


def test_it_is_not_sent_where_a_caller_says(open_service: Service, standin: Standin) -> None:
    """Not even where callers may choose private origins, nor the same host by another name."""
    tenant = new_tenant(open_service, permissions=["base_uri"])
    here = f"http://127.0.0.1:{standin.port}"
    store(tenant, "main", "openai", MAIN, is_default=True)
    store(tenant, "bound", "openai", TEAM, origin=here + "/v1")
    standin.reset()
    elsewhere = {"xProxy-Provider-BaseUri": f"http://localhost:{standin.port}/v1"}
    body = {"model": "gpt-4o-mini", "messages": []}
    for slug, code in (
        ("main", "provider_key_missing"),
        ("env-openai", "provider_key_missing"),
        ("bound", "credential_of_another_origin"),
    ):
        answer = tenant.post(CHAT, body, elsewhere | {HEADER: slug})
        assert answer.status_code in (400, 401)
        assert answer.json()["xproxy_error"]["code"] == code
        assert "xProxy-Provider-BaseUri" in answer.json()["message"]
    assert standin.ledger() == []
    for headers in ({}, {"xProxy-Provider-BaseUri": here}):
        answer = tenant.post(CHAT, body, {HEADER: "bound"} | headers)
        assert answer.status_code == 200, answer.text
    assert served_with(standin) == [fingerprint(TEAM)] * 2


def test_azure_without_a_base_uri(open_service: Service, standin: Standin) -> None:
    """The stored credential says where the resource is; its key stands where Azure's do."""
    tenant = new_tenant(open_service)
    origin = f"http://127.0.0.1:{standin.port}"
    store(tenant, "eu", "azure.openai", TEAM, origin=origin, is_default=True)
    standin.reset()
    with openai.AzureOpenAI(
        base_url=f"{open_service.url}/api/v1/proxy/azure.openai/openai",
        api_key=tenant.key,
        api_version="2024-10-21",
    ) as client:
        client.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": "Hello."}]
        )
    [call] = standin.ledger()
    assert call.credential is not None
    assert (call.credential.header, call.credential.sha256) == ("api-key", fingerprint(TEAM))


def test_a_try(stocked: Tenant, standin: Standin) -> None:
    """Accepted or refused as the provider says; a call that costs nothing and leaves no row."""
    for slug, auth, outcome in (
        ("main", [MAIN], "accepted"),
        ("claude", [CLAUDE], "accepted"),
        ("main", [], "refused"),
    ):
        standin.script(auth=auth)
        answer = manage(stocked, "POST", f"credentials/{slug}/test")
        assert answer["outcome"] == outcome
    assert {(it.method, it.path) for it in standin.ledger()} == {("GET", "/v1/models")}


def test_the_commands(stocked: Tenant, standin: Standin) -> None:
    """From a shell on the service's machine: the secret goes in by standard input."""

    def xproxy(*arguments: str, said: str = "") -> str:
        command = [sys.executable, "-m", "metering", "credentials", *arguments]
        command += ["--application", stocked.application_id]
        environment = {
            "XPROXY_DATA_DIR": str(stocked.service.data_dir),
            "XPROXY_API_KEY": stocked.service.admin_key,
            "COLUMNS": "200",
        }
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            input=said,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    xproxy("create", "shell", "--provider", "openai", said=NEXT + "\n")
    standin.script(auth=[NEXT])
    assert xproxy("test", "shell") == "Credential shell: accepted (200)\n"
    listed = xproxy("list")
    assert "...tion" in listed
    assert NEXT not in listed
    with clients.openai_client(stocked) as client:
        clients.chat(client, extra_headers={HEADER: "shell"})
    xproxy("delete", "shell")
    assert "shell" not in xproxy("list")


def test_no_answer_has_a_secret(stocked: Tenant, standin: Standin) -> None:
    """Whatever the provider repeats, and whoever asks for what there is."""
    said = {"status": 400, "error": {"error": {"message": f"you sent {MAIN} and {TEAM}"}}}
    texts = []
    for slug in ("main", "team"):
        standin.script(then=[said | {"headers": {"x-note": f"{MAIN} {TEAM}"}}])
        answer = stocked.post(CHAT, {"model": "gpt-4o-mini", "messages": []}, {HEADER: slug})
        assert answer.status_code == 400
        texts.append(show(answer))
    for path in ("credentials", "credentials/main", "audit?object=credential"):
        headers = {"xProxy-Api-Key": stocked.key}
        texts.append(show(stocked.service.http.get(f"/api/v1/{path}", headers=headers)))
    for text in texts:
        assert MAIN not in text
        assert TEAM not in text
    assert stocked.post(MESSAGES, {}).status_code == 400


def show(answer: httpx.Response) -> str:
    """Everything of an answer."""
    return f"{answer.headers} {answer.text}"
