"""What becomes of a key's change: on every worker, at once, whatever store is away."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest

from tests.acceptance import clients
from tests.acceptance.conftest import STORED
from tests.acceptance.litellm import LiteLLM
from tests.acceptance.replicas import Replicas
from tests.acceptance.tenant import CHAT, Tenant, new_tenant
from tests.chaos.rig import server_pids, signal_all
from tests.standin.process import Standin
from tests.standin.service import Service

SOON_S = 5.0
"""How soon a change holds on every worker while Redis answers: it takes milliseconds (they are
printed), and a busy machine has time. Who was not told would take 30 s."""
AT_LAST_S = 32.0
"""And while it does not; a busy machine has two seconds to find out."""
BODY = {"model": "gpt-4o-mini", "messages": []}


@pytest.fixture(scope="module")
def replicas(tmp_path_factory: pytest.TempPathFactory, standin: Standin) -> Iterator[Replicas]:
    """Two services of two workers on one pair of stores."""
    settings = STORED | {"XPROXY_FAILED_LOGINS_MAX": "0"}
    with Replicas(tmp_path_factory.mktemp("replicas"), standin, **settings) as replicas:
        yield replicas


def rotate_away(service: Service, key_id: str) -> None:
    """Another secret, and no grace for the one there is."""
    service.manage("POST", f"keys/{key_id}/rotate", {"grace_period": 0})


WAYS: dict[str, Callable[[Service, str], object]] = {
    "delete": lambda service, key_id: service.manage("DELETE", f"keys/{key_id}"),
    "block": lambda service, key_id: service.manage("PATCH", f"keys/{key_id}", {"blocked": True}),
    "expire": lambda service, key_id: service.manage(
        "PATCH", f"keys/{key_id}", {"expires_at": int(time.time() * 1000) + 50}
    ),
    "rotate": rotate_away,
}


@pytest.mark.parametrize("how", WAYS)
def test_a_key_that_ends_stops_everywhere_within_a_second(replicas: Replicas, how: str) -> None:
    """One service is told; every worker of both refuses the key, which all had just served."""
    one, _ = replicas.services
    tenant = new_tenant(one)
    assert set(replicas.everywhere(tenant.key)) == {200}

    WAYS[how](one, tenant.key_id)
    took_s = replicas.until_all(tenant.key, 401, SOON_S)

    print(f"{how}: {took_s:.2f} s")
    if how == "block":
        one.manage("PATCH", f"keys/{tenant.key_id}", {"blocked": False})
        replicas.until_all(tenant.key, 200, SOON_S)


def test_what_litellms_routes_change_holds_everywhere_within_a_second(replicas: Replicas) -> None:
    """Blocked and let in, a budget that is set and raised, a team's switch, and the end."""
    one, _ = replicas.services
    litellm = LiteLLM(new_tenant(one))
    litellm.post("/team/new", team_id="blue")
    key = litellm.generate(team_id="blue", max_budget=1)["key"]
    assert set(replicas.everywhere(key)) == {200}
    steps: list[tuple[str, dict[str, object], int]] = [
        ("/key/block", {"key": key}, 401),
        ("/key/unblock", {"key": key}, 200),
        ("/key/update", {"key": key, "max_budget": 0}, 400),
        ("/key/update", {"key": key, "max_budget": 1}, 200),
        ("/team/update", {"team_id": "blue", "max_budget": 0}, 400),
        ("/team/update", {"team_id": "blue", "max_budget": None}, 200),
        ("/team/block", {"team_id": "blue"}, 403),
        ("/team/unblock", {"team_id": "blue"}, 200),
        ("/key/update", {"key": key, "duration": "1s"}, 401),
        ("/key/update", {"key": key, "duration": None}, 200),
        ("/key/delete", {"keys": [key]}, 401),
    ]
    for path, body, status in steps:
        litellm.post(path, **body)
        print(f"{path} {status}: {replicas.until_all(key, status, SOON_S):.2f} s")


def test_an_old_secret_ends_with_its_grace(replicas: Replicas) -> None:
    """Until then both serve the same key; another rotation ends the oldest at once."""
    one, two = replicas.services
    tenant = new_tenant(one)
    assert set(replicas.everywhere(tenant.key)) == {200}
    path = f"keys/{tenant.key_id}/rotate"
    second = one.manage("POST", path, {"grace_period": "1h"})
    assert set(replicas.everywhere(tenant.key)) == {200}
    assert set(replicas.everywhere(second["key"])) == {200}

    third = two.manage("POST", path, {"grace_period": 2})
    replicas.until_all(tenant.key, 401, SOON_S)
    assert set(replicas.everywhere(third["key"])) == {200}
    replicas.until_all(second["key"], 401, 3)
    assert second["key_id"] == third["key_id"] == tenant.key_id


def test_limits_that_are_attached_bind_everywhere_within_a_second(replicas: Replicas) -> None:
    """So does what is detached let go."""
    one, _ = replicas.services
    tenant = new_tenant(one)
    tenant.limit("nothing", "0")
    whose = {"application": tenant.application_id}
    one.manage("PATCH", f"keys/{tenant.key_id}", {"team": "search"})
    assert set(replicas.everywhere(tenant.key)) == {200}
    one.manage("PUT", "attachments/team/search/nothing", **whose)
    # a limit of $0 lets the first call of all through, as Pay-i's does
    replicas.until_all(tenant.key, 400, 3)
    one.manage("DELETE", "attachments/team/search/nothing", **whose)
    replicas.until_all(tenant.key, 200, SOON_S)


def test_without_redis_a_revoked_key_stops_within_30_s(replicas: Replicas) -> None:
    """Nobody can be told: every worker finds out by itself."""
    one, _ = replicas.services
    tenant = new_tenant(one)
    assert set(replicas.everywhere(tenant.key)) == {200}
    signal_all(server_pids(replicas.server("Valkey")), signal.SIGKILL)
    try:
        one.manage("DELETE", f"keys/{tenant.key_id}")
        took_s = replicas.until_all(tenant.key, 401, AT_LAST_S)
        print(f"without Redis: {took_s:.1f} s")
    finally:
        replicas.stores.revive()
    deadline = time.monotonic() + 15
    while not all(service.ready() for service in replicas.services):
        assert time.monotonic() < deadline
    assert set(replicas.everywhere(tenant.key)) == {401}


def test_without_postgres_known_keys_go_on(replicas: Replicas, size: str) -> None:
    """A key, its limit and what is attached to it, that one worker knew, serve at every other."""
    one, two = replicas.services
    tenant = new_tenant(one, "team")
    whose = {"application": tenant.application_id}
    one.manage("PUT", "attachments/user/alice/team", **whose)
    headers = {"xProxy-Api-Key": tenant.key, "xProxy-User-ID": "alice"}
    body = BODY | {"messages": [{"role": "user", "content": "Hi"}]}
    assert one.http.post(CHAT, json=body, headers=headers).status_code == 200
    pids = server_pids(replicas.server("PostgreSQL"))
    signal_all(pids, signal.SIGSTOP)
    try:
        if size != "ci":
            time.sleep(31)  # by now it is old
        answers = [two.http.post(CHAT, json=body, headers=headers) for _ in range(20)]
        unknown = two.http.post(CHAT, json=body, headers={"xProxy-Api-Key": STRANGER})
    finally:
        signal_all(pids, signal.SIGCONT)

    assert [it.status_code for it in answers] == [200] * 20
    assert all("team" in it.json()["xproxy_result"]["limits"] for it in answers)
    assert unknown.status_code == 503


STRANGER = "sk-xproxy-app-" + "0" * 43 + "2jU5Zp"
"""Well-formed, and nobody's."""


# With the real SDKs


def test_a_rotation_with_the_sdks(tenant: Tenant, service: Service, standin: Standin) -> None:
    """Clients with either secret go on, and their usage is one key's."""
    rotated = service.manage("POST", f"keys/{tenant.key_id}/rotate")["key"]
    for key in (tenant.key, rotated):
        with clients.openai_client(tenant, key=key) as client:
            clients.chat(client)
        with clients.anthropic_client(tenant, key=key) as claude:
            clients.message(claude)
    assert {row["key_id"] for row in tenant.rows(4)} == {tenant.key_id}


def test_what_is_attached_binds_whatever_headers_say(
    tenant: Tenant, service: Service, standin: Standin
) -> None:
    """The key's user, the headers' user and account, and what they name: each limit is charged."""
    whose = {"application": tenant.application_id}
    for limit_id in ("mine", "theirs", "account", "named"):
        tenant.limit(limit_id)
    service.manage("PUT", "attachments/user/alice/mine", **whose)
    service.manage("PUT", "attachments/user/bob/theirs", **whose)
    service.manage("PUT", "attachments/customer/acme/account", **whose)
    service.manage("PATCH", f"keys/{tenant.key_id}", {"user_id": "alice", "team": "t"})
    headers = {"xProxy-User-ID": "bob", "xProxy-Account-Name": "acme", "xProxy-Limit-IDs": "named"}
    with clients.openai_client(tenant) as client:
        plain = clients.chat(client).xproxy_result
        whole = clients.chat(client, extra_headers=headers).xproxy_result

    assert set(plain["limits"]) == {"mine"}
    assert set(whole["limits"]) == {"mine", "theirs", "account", "named"}
    assert [row["user_id"] for row in tenant.rows(2)] == ["alice", "bob"]


def test_an_attached_limit_refuses(tenant: Tenant, service: Service, standin: Standin) -> None:
    """No header frees a call from it, and its key cannot loosen it."""
    tenant.limit("nothing", "0", "block")
    service.manage("PUT", "attachments/team/search/nothing", application=tenant.application_id)
    service.manage("PATCH", f"keys/{tenant.key_id}", {"team": "search"})
    with clients.openai_client(tenant, max_retries=0) as client:
        clients.chat(client)  # a limit of $0 is reached by the first call that costs anything
        with pytest.raises(openai.BadRequestError) as refused:
            clients.chat(client, extra_headers={"xProxy-User-ID": "bob"})
    assert body_of(refused.value)["xproxy_error"]["code"] == "limit_reached"
    with pytest.raises(RuntimeError, match="403"):
        tenant.manage("DELETE", "limits/nothing")
    service.manage("DELETE", "limits/nothing", application=tenant.application_id)
    with clients.openai_client(tenant) as client:
        clients.chat(client)


def body_of(error: openai.APIStatusError) -> Any:
    """What an SDK's exception has of the answer."""
    return error.body


def test_last_use_is_shown(tenant: Tenant, service: Service, standin: Standin) -> None:
    """When and from where, soon afterwards; calls did not wait for it."""
    before = int(time.time())
    assert tenant.post(CHAT, BODY).status_code == 200
    deadline = time.monotonic() + 25
    while "last_used_at" not in (key := service.manage("GET", f"keys/{tenant.key_id}")):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert key["last_used_from"] == "127.0.0.1"
    assert key["last_used_at"] >= time.strftime("%Y-%m-%dT%H:%M", time.gmtime(before))
