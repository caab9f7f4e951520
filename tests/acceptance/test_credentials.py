"""Whose key goes where: ours says who calls and stays here, the provider's goes upstream."""

from __future__ import annotations

from typing import Any

import anthropic
import openai
import pytest

from tests.acceptance import clients
from tests.acceptance.conftest import STORED
from tests.acceptance.tenant import CHAT, MESSAGES, Tenant, new_tenant
from tests.standin.ledger import Entry, fingerprint
from tests.standin.process import Standin
from tests.standin.service import Service

OWN = "sk-callers-own-4711"
OURS, OWN_MARK = "<ours>", "<own>"
BODIES = {
    CHAT: {"model": "gpt-4o-mini", "messages": []},
    MESSAGES: {"model": "claude-haiku-4-5", "messages": [], "max_tokens": 9},
}


def only_call(standin: Standin) -> Entry:
    """The one call the stand-in saw, to which nothing of ours leaked."""
    [call] = standin.ledger()
    assert call.leaks == []
    assert not [name for name in call.headers if "xproxy" in name.lower()]
    return call


def came_with(call: Entry, header: str, secret: str) -> bool:
    """Whether a call came with this secret in this header."""
    credential = call.credential
    return credential is not None and (credential.header, credential.sha256) == (
        header,
        fingerprint(secret),
    )


# path, headers, header of the credential that reaches the provider, whose it is
PLACES: list[tuple[str, dict[str, str], str, str]] = [
    (CHAT, {"Authorization": f"Bearer {OURS}"}, "authorization", "stored"),
    (CHAT, {"Authorization": OURS}, "authorization", "stored"),
    (CHAT, {"api-key": OURS}, "authorization", "stored"),
    (CHAT, {"xProxy-Api-Key": OURS}, "authorization", "stored"),
    (CHAT, {"xproxy-api-key": f"Bearer {OURS}"}, "authorization", "stored"),
    (
        CHAT,
        {"xProxy-Api-Key": OURS, "Authorization": f"Bearer {OURS}"},
        "authorization",
        "stored",
    ),
    (
        CHAT,
        {"xProxy-Api-Key": OURS, "Authorization": f"Bearer {OWN_MARK}"},
        "authorization",
        "own",
    ),
    (
        CHAT,
        {"xProxy-Api-Key": OURS, "xProxy-Forward-Authorization": f"Bearer {OWN_MARK}"},
        "authorization",
        "own",
    ),
    (
        CHAT,
        {"xProxy-Api-Key": OURS, "X-Other": f"see {OURS}", "Cookie": f"k={OURS}"},
        "authorization",
        "stored",
    ),
    (MESSAGES, {"x-api-key": OURS}, "x-api-key", "stored"),
    (MESSAGES, {"Authorization": f"Bearer {OURS}"}, "x-api-key", "stored"),
    (MESSAGES, {"xProxy-Api-Key": OURS}, "x-api-key", "stored"),
    (MESSAGES, {"xProxy-Api-Key": OURS, "x-api-key": OWN_MARK}, "x-api-key", "own"),
    (
        MESSAGES,
        {"xProxy-Api-Key": OURS, "Authorization": f"Bearer {OWN_MARK}"},
        "authorization",
        "own",
    ),
    (MESSAGES, {"x-api-key": OURS, "Authorization": f"Bearer {OWN_MARK}"}, "authorization", "own"),
]


@pytest.mark.parametrize(("path", "headers", "header", "whose"), PLACES)
def test_keys_go_where_they_belong(
    path: str, headers: dict[str, str], header: str, whose: str, tenant: Tenant, standin: Standin
) -> None:
    """Ours is known in any slot; the caller's own goes on as it came, else the stored one does."""
    sent = {
        name: value.replace(OURS, tenant.key).replace(OWN_MARK, OWN)
        for name, value in headers.items()
    }
    answer = tenant.service.http.post(path, json=BODIES[path], headers=sent)
    assert answer.status_code == 200, answer.text
    stored = STORED["OPENAI_API_KEY" if path == CHAT else "ANTHROPIC_API_KEY"]
    assert came_with(only_call(standin), header, OWN if whose == "own" else stored)


def test_our_key_in_a_query_stays_here(tenant: Tenant, standin: Standin) -> None:
    """A query that names our key reaches the provider without it."""
    headers = {"xProxy-Api-Key": tenant.key}
    path = f"{CHAT}?api-version=2&key={tenant.key}"
    answer = tenant.service.http.post(path, json=BODIES[CHAT], headers=headers)
    assert answer.status_code == 200
    assert only_call(standin).query == "api-version=2"


def test_the_sdks_own_slots(tenant: Tenant, standin: Standin) -> None:
    """Our key as `api_key` or `auth_token`; the caller's own with ours as a default header."""
    ours = {"xProxy-Api-Key": tenant.key}
    with clients.openai_client(tenant) as client:
        clients.chat(client)
    with clients.openai_client(tenant, key=OWN, default_headers=ours) as client:
        clients.chat(client)
    with clients.anthropic_client(tenant) as claude:
        clients.message(claude)
    with clients.anthropic_client(tenant, key=OWN, default_headers=ours) as claude:
        clients.message(claude)
    with anthropic.Anthropic(base_url=tenant.anthropic_url, auth_token=tenant.key) as claude:
        clients.message(claude)
    with anthropic.Anthropic(
        base_url=tenant.anthropic_url, auth_token=OWN, default_headers=ours
    ) as claude:
        clients.message(claude)
    seen = [call.credential.sha256 for call in standin.ledger() if call.credential]
    stored, stored_claude = map(fingerprint, STORED.values())
    own = fingerprint(OWN)
    assert seen == [stored, own, stored_claude, own, stored_claude, own]
    assert not [call.leaks for call in standin.ledger() if call.leaks]


def test_the_admin_key_may_stand_in_the_slot(
    tenant: Tenant, service: Service, standin: Standin
) -> None:
    """It acts for the default application, and goes upstream no more than any other of ours."""
    headers = {"Authorization": f"Bearer {service.admin_key}", "X-Other": service.admin_key}
    answer = service.http.post(CHAT, json=BODIES[CHAT], headers=headers)
    assert answer.status_code == 200, answer.text
    call = only_call(standin)
    assert came_with(call, "authorization", STORED["OPENAI_API_KEY"])
    assert "x-other" not in call.headers


def wrong_keys(tenant: Tenant) -> list[str | None]:
    """No key, none of ours, one with a typo, a well-formed one nobody was given."""
    typo = tenant.key[:-1] + ("a" if tenant.key[-1] != "a" else "b")
    stranger = "sk-xproxy-app-" + "0" * 49
    return [None, "sk-nothing-of-ours", typo, stranger, "", tenant.key + "x", "ключ"]


@pytest.mark.parametrize("at", range(7))
def test_a_wrong_key_is_refused(at: int, tenant: Tenant, standin: Standin) -> None:
    """401 in the surface's grammar, without an echo of the key and without a provider call."""
    key = wrong_keys(tenant)[at]
    headers = {} if key is None else {b"xProxy-Api-Key": key.encode()}
    for path, body in BODIES.items():
        answer = tenant.service.http.post(path, json=body, headers=headers)
        assert answer.status_code == 401
        error = answer.json()["xproxy_error"]
        assert error["code"] == "invalid_api_key"
        assert not key or key not in answer.text
    assert standin.ledger() == []


def test_the_sdks_name_a_wrong_key(tenant: Tenant, standin: Standin) -> None:
    """Both raise their AuthenticationError, with our body."""
    caught: list[Any] = []
    with (
        clients.openai_client(tenant, key="sk-wrong") as client,
        pytest.raises(openai.AuthenticationError) as openai_error,
    ):
        clients.chat(client)
    with (
        clients.anthropic_client(tenant, key="sk-wrong") as claude,
        pytest.raises(anthropic.AuthenticationError) as anthropic_error,
    ):
        clients.message(claude)
    caught += [openai_error.value, anthropic_error.value]
    for error in caught:
        assert error.body["xproxy_error"]["code"] == "invalid_api_key"
        assert error.body["statusCode"] == 401
    assert standin.ledger() == []


def test_a_revoked_key_is_refused_at_once(
    tenant: Tenant, service: Service, standin: Standin
) -> None:
    """After DELETE no call of that key goes through; a new key of the application works."""
    assert tenant.post(CHAT, BODIES[CHAT]).status_code == 200
    service.manage("DELETE", f"keys/{tenant.key_id}")
    assert tenant.post(CHAT, BODIES[CHAT]).status_code == 401
    assert len(standin.ledger()) == 1


def test_a_reading_key_makes_no_calls(tenant: Tenant, service: Service, standin: Standin) -> None:
    """403 that says which role does."""
    members = {"application_id": tenant.application_id, "role": "read", "name": "reader"}
    key = service.manage("POST", "keys", members)["key"]
    answer = tenant.post(CHAT, BODIES[CHAT], {"xProxy-Api-Key": key})
    assert answer.status_code == 403
    assert "use an `app` key" in answer.json()["message"]
    assert standin.ledger() == []


def test_limits_of_another_application_do_not_exist(
    tenant: Tenant, service: Service, standin: Standin
) -> None:
    """A key sees its own application's limits, whatever others are called."""
    new_tenant(service, "theirs")
    answer = tenant.post(CHAT, BODIES[CHAT], {"xProxy-Limit-IDs": "theirs"})
    assert (answer.status_code, answer.json()["xproxy_error"]["code"]) == (400, "invalid_limit_ids")
    assert standin.ledger() == []
