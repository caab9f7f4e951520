"""Who may do what: every route of both planes, asked by everybody.

The routes come from the application's own table, and the endpoints from what the dialects know; one
that has no entry here fails.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import httpx
import pytest

from metering.api.portkey import ROOTS
from metering.core.keys import make_key
from tests.acceptance.canary_paths import PATHS, PROVIDERS_OWN, Endpoint, filled, written
from tests.acceptance.canary_routes import body_of, parameters, query_of, routes
from tests.acceptance.tenant import Tenant, new_tenant
from tests.standin.process import Standin
from tests.standin.service import Service

Access = Literal["anyone", "own", "said", "manage", "report", "admin"]
"""Who may: anyone; every key for its own application, `read` ones by GET alone; the same but for
`read` ones; every key by GET, and those that may manage credentials; those that may report calls;
admin keys."""
ACCESS: dict[str, Access] = {
    "/api/v1/applications": "admin",
    "/api/v1/applications/{application_id}": "admin",
    "/api/v1/attachments": "own",
    "/api/v1/attachments/{kind}/{name}/{limit_id}": "admin",
    "/api/v1/audit": "own",
    "/api/v1/audit/check": "admin",
    "/api/v1/budgets": "own",
    "/api/v1/budgets/{limit_id}": "own",
    "/api/v1/budgets/{limit_id}/reset": "own",
    "/api/v1/budgets/{limit_id}/tags": "own",
    "/api/v1/budgets/{limit_id}/tags/remove": "own",
    "/api/v1/categories": "own",
    "/api/v1/categories/{category_name}": "own",
    "/api/v1/categories/{category_name}/resources": "own",
    "/api/v1/categories/{category_name}/resources/{resource}": "own",
    "/api/v1/categories/{category_name}/resources/{resource}/{resource_id}": "own",
    "/api/v1/credentials": "manage",
    "/api/v1/credentials/{slug}": "manage",
    "/api/v1/credentials/{slug}/rotate": "manage",
    "/api/v1/credentials/{slug}/test": "manage",
    "/api/v1/imports/litellm": "admin",
    "/api/v1/ingest": "report",
    "/api/v1/ingest/bulk": "report",
    "/api/v1/ingest/bulk-upsert": "report",
    "/api/v1/keys": "admin",
    "/api/v1/keys/{key_id}": "admin",
    "/api/v1/keys/{key_id}/rotate": "admin",
    "/api/v1/limits": "own",
    "/api/v1/limits/{limit_id}": "own",
    "/api/v1/limits/{limit_id}/history": "own",
    "/api/v1/limits/{limit_id}/properties": "own",
    "/api/v1/limits/{limit_id}/reset": "own",
    "/api/v1/limits/{limit_id}/tags": "own",
    "/api/v1/limits/{limit_id}/tags/remove": "own",
    "/api/v1/limits/{limit_id}/why": "own",
    "/api/v1/prices": "own",
    "/api/v1/prices/own": "admin",
    "/api/v1/prices/reprice": "admin",
    "/api/v1/prices/versions": "admin",
    "/api/v1/prices/{provider}/{model}": "own",
    "/api/v1/requests/provider/{category}/{provider_id}/bodies": "said",
    "/api/v1/requests/provider/{category}/{provider_id}/properties": "own",
    "/api/v1/requests/provider/{category}/{provider_id}/result": "own",
    "/api/v1/requests/result/{category}/{provider_id}": "own",
    "/api/v1/requests/{request_id}/bodies": "said",
    "/api/v1/requests/{request_id}/properties": "own",
    "/api/v1/requests/{request_id}/result": "own",
    "/api/v1/secret": "admin",
    "/api/v1/secret/rotate": "admin",
    "/api/v1/usage": "own",
    "/budget/delete": "admin",
    "/budget/info": "admin",
    "/budget/list": "admin",
    "/budget/new": "admin",
    "/budget/update": "admin",
    **{
        f"/{noun}/{verb}": "admin"
        for noun in ("team", "customer", "end_user", "user")
        for verb in ("block", "delete", "info", "list", "new", "unblock", "update")
        if noun != "user" or verb not in ("block", "unblock")
    },
    **dict.fromkeys(
        (
            *("/spend/keys", "/spend/logs", "/spend/logs/v2", "/spend/tags", "/spend/users"),
            *("/global/spend", "/global/spend/keys", "/global/spend/logs", "/global/spend/models"),
            *("/global/spend/provider", "/global/spend/report", "/global/spend/tags"),
            *("/global/spend/teams", "/global/spend/end_users", "/user/daily/activity"),
            *("/tag/daily/activity", "/team/daily/activity", "/customer/daily/activity"),
            "/end_user/daily/activity",
        ),
        "own",
    ),
    "/key/block": "admin",
    "/key/delete": "admin",
    "/key/generate": "admin",
    "/key/info": "own",
    "/key/list": "admin",
    "/key/regenerate": "admin",
    "/key/unblock": "admin",
    "/key/update": "admin",
    "/key/{key}/regenerate": "admin",
    **{
        root + path: "manage"
        for root in ROOTS
        for path in ("/virtual-keys", "/virtual-keys/{slug}", "/virtual-keys/{slug}/rotate")
    },
    "/v1/models": "own",
    "/health/live": "anyone",
    "/health/ready": "anyone",
    "/schema": "anyone",
    "/schema/openapi.json": "anyone",
    "/schema/page": "anyone",
    "/schema/{path}": "anyone",
}
NOBODY = ("none", "empty", "foreign", "unknown", "garbled", "expired", "blocked", "revoked")
"""Callers without a key that is good: all are answered alike."""
OF_EACH = ("date", "xproxy-request-id", "x-litellm-call-id")
"""Headers that differ from answer to answer."""
BY_LITELLM = [it.by_litellm() for it in PROVIDERS_OWN]
OWNED = ("limit_id", "request_id", "provider_id", "slug", "category_name")
"""What of a path belongs to an application."""
NEW = {("POST", "/api/v1/categories/{category_name}/resources/{resource}")}
"""Routes whose path names what they make."""


@dataclass(frozen=True)
class World:
    """Two applications of a running service, and keys of every kind."""

    mine: Tenant
    theirs: Tenant
    keys: dict[str, str | None]
    standin: Standin

    def ask(self, caller: str, method: str, path: str, **request: Any) -> httpx.Response:
        """One request of a caller's; `other` is a key of the other application."""
        headers = request.pop("headers", {})
        key = self.keys[caller]
        if key is not None:
            headers = headers | {"xProxy-Api-Key": key}
        return self.mine.service.http.request(method, path, headers=headers, **request)


@pytest.fixture(scope="module")
def world(service: Service, standin: Standin) -> Iterator[World]:
    """The callers. The first application has made a call and has a limit, so has the second."""
    standin.wait_idle()
    standin.reset()
    mine, theirs = new_tenant(service, "mine"), new_tenant(service, "theirs")
    standin.script({"body": PROVIDERS_OWN[0].answer})
    assert call(service.http, PROVIDERS_OWN[0], mine.key).status_code == 200
    mine.rows(1)
    standin.reset()
    ends_s = int(time.time()) + 2
    expired = key_of(mine, name="expired", expires_at=ends_s)
    blocked = key_of(mine, name="blocked")
    service.manage("PATCH", f"keys/{blocked['key_id']}", {"blocked": True})
    revoked = key_of(mine, name="revoked")
    service.manage("DELETE", f"keys/{revoked['key_id']}")
    keys = {
        "none": None,
        "empty": "",
        "foreign": "sk-proj-of-a-provider",
        "unknown": make_key("app", b"\1" * 32),
        "garbled": mine.key[:-1] + ("a" if mine.key[-1] != "a" else "b"),
        "expired": expired["key"],
        "blocked": blocked["key"],
        "revoked": revoked["key"],
        "read": key_of(mine, name="read", role="read")["key"],
        "app": mine.key,
        "manager": key_of(mine, name="manager", permissions=["manage_credentials"])["key"],
        "reporter": key_of(mine, name="reporter", permissions=["ingest"])["key"],
        "other": theirs.key,
        "admin": service.admin_key,
    }
    time.sleep(max(0.0, ends_s - time.time()) + 0.01)
    yield World(mine, theirs, keys, standin)
    standin.reset()


def key_of(tenant: Tenant, **members: Any) -> dict[str, Any]:
    """A key of an application."""
    body = {"application_id": tenant.application_id, "role": "app"} | members
    return tenant.service.manage("POST", "keys", body)


def call(http: httpx.Client, endpoint: Endpoint, key: str | None, **headers: str) -> httpx.Response:
    """One call of a provider's endpoint, with a provider key of the caller's own."""
    content, kind = b"", "application/json"
    if endpoint.body is not None:
        content, kind = written(filled(endpoint.body, PROMPT="hello"))
    sent = {"Content-Type": kind, "Authorization": "Bearer sk-own", **headers}
    if key is not None:
        sent["xProxy-Api-Key"] = key
    return http.request(endpoint.method, endpoint.url, content=content, headers=sent)


def test_every_route_has_an_entry() -> None:
    """A new route says who may ask for it."""
    assert {path for _, path in routes()} == ACCESS.keys()


@pytest.mark.parametrize(("method", "path"), routes())
def test_without_a_good_key_nobody_learns_anything(world: World, method: str, path: str) -> None:
    """No key, and every kind of key that is no good: one and the same answer, and no change."""
    names = named(world.mine, path)
    url, query = path.format(**names), query_of(path, names)
    before = changes(world)
    body = body_of(method, path, names)
    answers = [world.ask(it, method, url, json=body, params=query) for it in NOBODY]
    if ACCESS[path] == "anyone":
        assert {it.status_code for it in answers} == {200}
    else:
        assert {it.status_code for it in answers} == {401}
        assert len({plain(it) for it in answers}) == 1
    assert changes(world) == before


@pytest.mark.parametrize(("method", "path"), routes())
def test_keys_do_what_their_role_may(world: World, method: str, path: str) -> None:
    """`read` reads, `app` works on its own application, with the permission on credentials too,
    `admin` does everything."""
    for role in ("read", "app", "manager", "reporter", "admin"):
        names = named(world.mine, path)
        url, query, before = path.format(**names), query_of(path, names), changes(world)
        if role == "admin":
            query["application"] = world.mine.application_id
        answer = world.ask(role, method, url, json=body_of(method, path, names), params=query)
        if may(role, ACCESS[path], reads=method == "GET"):
            assert answer.status_code in (200, 201), (role, answer.text)
        else:
            assert answer.status_code == 403, (role, answer.text)
            assert changes(world) == before


def may(role: str, access: Access, *, reads: bool) -> bool:
    """Whether a role may ask for a route, to read or to change."""
    if access == "anyone" or role == "admin":
        return True
    if access in ("admin", "report"):
        return access == "report" and role == "reporter"
    if access == "said":
        return role != "read"
    return reads or role == "manager" or (access == "own" and role in ("app", "reporter"))


@pytest.mark.parametrize(
    ("method", "path"), [it for it in routes() if ACCESS.get(it[1]) != "anyone"]
)
def test_an_application_sees_nothing_of_another(world: World, method: str, path: str) -> None:
    """Its key finds no id of the other's, acts for no other, and lists nothing of it."""
    ids = named(world.mine, path)
    url, body, its = path.format(**ids), body_of(method, path, ids), query_of(path, ids)
    answer = world.ask("other", method, url, json=body, params=its)
    if not may("app", ACCESS[path], reads=method == "GET"):
        assert answer.status_code == 403
    elif (method, path) not in NEW and any(f"{{{name}}}" in path for name in OWNED):
        assert answer.status_code == 404, answer.text
    else:
        assert answer.status_code in (200, 201), answer.text
        for mark in (world.mine.application_id, world.mine.key_id, "mine", ids["request_id"]):
            assert mark not in answer.text
    for query in ({"application": world.mine.application_id}, {"application": "default"}):
        refused = world.ask("other", method, url, json=body, params=query | its)
        assert refused.status_code in (403, 404), refused.text


@pytest.mark.parametrize("endpoint", [*PATHS, *BY_LITELLM], ids=lambda it: f"{it.method} {it.url}")
def test_calls_without_a_good_key_reach_no_provider(world: World, endpoint: Endpoint) -> None:
    """On the data plane too: one answer for all of them, and the provider sees nothing."""
    before = world.standin.stats()["calls"]
    answers = [call(world.mine.service.http, endpoint, world.keys[it]) for it in NOBODY]
    assert {it.status_code for it in answers} == {401}
    assert len({plain(it) for it in answers}) == 1
    assert call(world.mine.service.http, endpoint, world.keys["read"]).status_code == 403
    assert world.standin.stats()["calls"] == before


@pytest.mark.parametrize(
    "endpoint", [*PROVIDERS_OWN, *BY_LITELLM], ids=lambda it: f"{it.method} {it.url}"
)
def test_calls_are_made_by_those_who_may(world: World, endpoint: Endpoint) -> None:
    """Keys of role `app` and `admin` call; nobody names a limit of another application."""
    http, standin = world.mine.service.http, world.standin
    for caller in ("app", "admin"):
        before = standin.stats()["calls"]
        assert call(http, endpoint, world.keys[caller]).status_code not in (401, 403)
        assert standin.stats()["calls"] == before + 1
    theirs = call(http, endpoint, world.keys["other"], **{"xProxy-Limit-IDs": "mine"})
    if endpoint.meaning.kind != "free":
        assert theirs.status_code == 400
        assert "mine" in theirs.text


def named(tenant: Tenant, path: str) -> dict[str, str]:
    """What stands in a path. A limit that is attached to somebody is an admin's to change."""
    return parameters(tenant, path, attached="attachments" in path)


def changes(world: World) -> int:
    """The latest entry of the audit log."""
    page = world.mine.service.manage("GET", "audit", limit=1)
    number: int = page["items"][0]["audit_id"]
    return number


def plain(answer: httpx.Response) -> str:
    """An answer less what is each one's own: its request id, and when."""
    request_id = answer.headers["xproxy-request-id"]
    shown = {name: value for name, value in answer.headers.items() if name not in OF_EACH}
    return f"{shown} {answer.text.replace(request_id, '')}"
