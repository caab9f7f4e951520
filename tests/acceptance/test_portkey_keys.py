"""Portkey's virtual keys: made, changed, rotated and deleted through its routes, and what that
means for calls."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest

from tests.acceptance.portkey import SECRET, Portkey
from tests.acceptance.tenant import Tenant, new_tenant
from tests.standin.ledger import fingerprint, total_pico
from tests.standin.process import Standin
from tests.standin.service import Service

SOON_S = 5.0
"""A change holds in milliseconds; a busy machine has time."""
NEXT = "sk-after-its-rotation-93ab"
CALLS = 30
SHOWN = {
    *("id", "slug", "name", "note", "status", "ai_provider_name", "masked_api_key", "object"),
    *("model_config", "usage_limits", "usage", "reset_usage", "rate_limits", "expires_at"),
    *("created_at", "last_updated_at"),
}


@pytest.fixture
def portkey(tenant: Tenant) -> Portkey:
    """The routes for a fresh application."""
    return Portkey(tenant)


def until(status: int, ask: Callable[[], httpx.Response]) -> httpx.Response:
    """The first answer with this status, which comes soon."""
    began_s = time.monotonic()
    while (answer := ask()).status_code != status:
        assert time.monotonic() - began_s < SOON_S, answer.text
        time.sleep(0.01)
    return answer


def code_of(answer: httpx.Response) -> str:
    """The code of a call's fault."""
    code: str = answer.json()["xproxy_error"]["code"]
    return code


@pytest.mark.parametrize("root", ["/v1", "/admin", "/v1/admin"])
def test_a_virtual_key_is_made_serves_and_is_shown(
    root: str, tenant: Tenant, standin: Standin
) -> None:
    """The shapes of Portkey's documentation, below each root; what was asked for comes back, the
    secret never."""
    portkey = Portkey(tenant, root)
    usage = {"credit_limit": 10, "periodic_reset": "monthly", "alert_threshold": 9}
    rates = [{"type": "requests", "unit": "rpm", "value": 100}]
    ends = datetime.now(UTC).replace(microsecond=0) + timedelta(days=30)
    asked = {
        "name": "Open AI (prod)",
        "provider": "openai",
        "key": SECRET,
        "note": "for\nall",
        "usage_limits": usage,
        "rate_limits": rates,
        "expires_at": ends.isoformat(),
        "workspace_id": "ws-1",
        "something_new": 1,
    }
    answer = portkey.ask("POST", "", asked)
    assert answer.status_code == 200, answer.text
    made = answer.json()
    slug = made["slug"]
    assert slug.startswith("open-ai-prod-")
    assert made == {
        "success": True,
        "data": {"slug": slug},
        "id": made["id"],
        "slug": slug,
        "object": "virtual-key",
    }
    standin.script(auth=[SECRET])
    assert portkey.call(slug).status_code == 200
    [call] = standin.ledger()
    assert call.credential is not None
    assert call.credential.sha256 == fingerprint(SECRET)

    shown = portkey.get(slug)
    assert shown.keys() == SHOWN
    assert shown["usage"]["current_usage"] == portkey.spent() > 0
    limit = shown["usage_limits"]
    assert {name: limit[name] for name in usage} == usage
    assert (limit["status"], limit["current_usage"]) == ("active", portkey.spent())
    assert limit["next_usage_reset_at"].endswith("-01T00:00:00Z")
    expected = {
        "id": made["id"],
        "name": "Open AI (prod)",
        "note": "for\nall",
        "status": "active",
        "ai_provider_name": "openai",
        "masked_api_key": "***7d1f",
        "model_config": {},
        "rate_limits": rates,
        "reset_usage": None,
    }
    assert {name: shown[name] for name in expected} == expected
    assert datetime.fromisoformat(shown["expires_at"]) == ends
    listed = portkey.ask("GET", "", workspace_id="ws-1").json()
    assert (listed["object"], listed["total"], len(listed["data"])) == ("list", 1, 1)
    assert listed["data"][0]["slug"] == slug
    for text in (answer.text, str(shown), str(listed)):
        assert SECRET not in text


def test_pages_are_numbered_from_zero(portkey: Portkey) -> None:
    """Newest first; what was stored by `/credentials` is a virtual key, too, and goes by both."""
    tenant = portkey.tenant
    slugs = [portkey.make(name=f"k{number}") for number in range(3)]
    body = {"slug": "ours", "provider": "openai", "secret": SECRET}
    tenant.service.manage("POST", "credentials", body, application=tenant.application_id)
    newest = ["ours", *reversed(slugs)]
    pages = [portkey.ask("GET", "", current_page=number, page_size=3).json() for number in range(3)]
    assert [[it["slug"] for it in page["data"]] for page in pages] == [newest[:3], newest[3:], []]
    assert {page["total"] for page in pages} == {4}
    assert portkey.get("ours")["usage_limits"] is None
    portkey.put("ours", usage_limits={"credit_limit": 1})
    until(200, lambda: portkey.call("ours"))
    assert portkey.get("ours")["usage"]["current_usage"] == portkey.spent()
    its = tenant.service.manage("GET", "credentials", application=tenant.application_id)["items"]
    assert [it["slug"] for it in its] == newest
    assert portkey.ask("GET", "", page_size=0).status_code == 400


def test_a_budget_that_is_used_up_refuses_until_it_is_raised(portkey: Portkey) -> None:
    """A hard cap, exact to the last digit; a change of amount keeps what was counted, another
    window is another limit, and null is none."""
    slug = portkey.make(usage_limits={"credit_limit": 0.0000001})
    refused = portkey.call(slug)
    assert (refused.status_code, code_of(refused)) == (400, "limit_reached")
    assert f"virtual_key:{slug}:budget" in refused.text

    shown = portkey.put(slug, usage_limits={"credit_limit": 0.01, "alert_threshold": 0.0075})
    assert shown["usage_limits"]["credit_limit"] == Decimal("0.01")
    until(200, lambda: portkey.call(slug))
    spent = portkey.spent(2)
    assert portkey.get(slug)["usage"]["current_usage"] == spent
    limit = portkey.tenant.manage("GET", f"limits/virtual_key:{slug}:budget")["limit"]
    assert (limit["hard_cap"], limit["threshold"]) == (True, Decimal("0.75"))

    low = {"credit_limit": float(spent), "mode": "block"}
    shown = portkey.put(slug, usage_limits=low)
    assert (shown["status"], shown["usage_limits"]["status"]) == ("exhausted", "exhausted")
    assert shown["usage"]["current_usage"] == spent
    limit = portkey.tenant.manage("GET", f"limits/virtual_key:{slug}:budget")["limit"]
    assert (limit["hard_cap"], limit["limit_type"]) == (False, "block")
    assert "threshold" not in limit
    portkey.put(slug, usage_limits={"credit_limit": float(spent)})
    until(400, lambda: portkey.call(slug))

    shown = portkey.put(slug, usage_limits={"credit_limit": 0.01, "periodic_reset": "weekly"})
    assert shown["usage"]["current_usage"] == 0
    reset = datetime.fromisoformat(shown["usage_limits"]["next_usage_reset_at"])
    assert (reset.isoweekday(), reset.hour) == (7, 0)
    until(200, lambda: portkey.call(slug))
    [left] = portkey.tenant.manage("GET", "limits")["items"]
    assert left["limit_id"] == f"virtual_key:{slug}:budget:week-sunday"

    shown = portkey.put(slug, reset_usage=True)
    assert shown["usage"]["current_usage"] == 0
    shown = portkey.put(slug, usage_limits=None)
    assert (shown["usage_limits"], shown["usage"]) == (None, {"current_usage": None})
    assert portkey.tenant.manage("GET", "limits")["items"] == []
    until(200, lambda: portkey.call(slug))


def test_what_is_not_named_stays(portkey: Portkey) -> None:
    """Each member by itself; null takes away what may be absent."""
    slug = portkey.make(
        usage_limits=[
            {"credit_limit": 1, "periodic_reset_days": 3},
            {"credit_limit": 1000, "type": "tokens"},
        ],
        rate_limits=[{"type": "tokens", "unit": "rph", "value": 5}],
        note="a note",
        expires_at=int(time.time()) + 3600,
        slug="my-key",
    )
    assert slug == "my-key"
    before = portkey.get(slug)
    assert [it["type"] for it in before["usage_limits"]] == ["cost", "tokens"]
    after = portkey.put(slug, name="Other")
    assert after == before | {"name": "Other", "last_updated_at": after["last_updated_at"]}
    after = portkey.put(slug, note=None, expires_at=None, rate_limits=None)
    assert (after["note"], after["expires_at"], after["rate_limits"]) == (None, None, None)
    assert after["usage_limits"] == before["usage_limits"]
    portkey.put(slug, usage_limits=before["usage_limits"])  # what is shown may be sent
    ids = {it["limit_id"] for it in portkey.tenant.manage("GET", "limits")["items"]}
    assert ids == {it["limit_id"] for it in before["usage_limits"]}


def test_a_rate_refuses_what_comes_too_soon(portkey: Portkey, standin: Standin) -> None:
    """Of requests not one more than it says, at once or not; its id says that it is a rate. Tokens
    let calls in until they are used."""
    slug = portkey.make(rate_limits=[{"type": "requests", "unit": "rpm", "value": 3}])
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: portkey.call(slug), range(8)))
    assert sorted(it.status_code for it in answers) == [200] * 3 + [400] * 5
    refused = next(it for it in answers if it.status_code == 400)
    assert f"virtual_key:{slug}:rate:requests:rpm" in refused.text
    portkey.put(slug, rate_limits=[{"type": "tokens", "unit": "rpd", "value": 20}])
    standin.script({"usage": {"prompt_tokens": 10, "completion_tokens": 16}})
    no_cap = {"max_tokens": None}  # a rate of tokens needs none
    until(200, lambda: portkey.call(slug, **no_cap))
    until(400, lambda: portkey.call(slug, **no_cap))
    [limit] = portkey.tenant.manage("GET", "limits")["items"]
    assert limit["limit_id"] == f"virtual_key:{slug}:rate:tokens:rpd"
    portkey.put(slug, rate_limits=[])
    until(200, lambda: portkey.call(slug))


def burst(portkey: Portkey, slug: str, asked: dict[str, Any]) -> list[httpx.Response]:
    """Many calls at once."""
    with ThreadPoolExecutor(CALLS) as pool:
        return list(pool.map(lambda _: portkey.call(slug, **asked), range(CALLS)))


@pytest.mark.parametrize(("mode", "calls_over"), [("hard", 0), ("block", 1)])
def test_a_dollar_is_a_dollar_however_many_come_at_once(
    mode: str, calls_over: int, portkey: Portkey, standin: Standin
) -> None:
    """By default not a pico-dollar beyond $1.00; with `block` no more than one call beyond it, and
    all of the dollar is used."""
    slug = portkey.make(usage_limits={"credit_limit": 1, "mode": mode})
    standin.script({"usage": {"prompt_tokens": 10, "completion_tokens": 1_000}, "delay_ms": 300})
    asked = {"model": "gpt-4", "max_tokens": 1_000}
    answers = burst(portkey, slug, asked)
    while any(it.status_code == 200 for it in answers):
        answers = burst(portkey, slug, asked)
    standin.wait_idle()
    calls = [it.cost_pico or 0 for it in standin.ledger()]
    billed = total_pico(standin.ledger())
    print(f"{mode}: {len(calls)} calls, ${Decimal(billed).scaleb(-12)} of $1")
    one, usd = max(calls), 10**12
    assert billed <= usd + calls_over * one
    assert billed > usd - 2 * one if mode == "hard" else billed > usd
    shown = portkey.get(slug)
    assert shown["usage"]["current_usage"] == Decimal(billed).scaleb(-12)


def test_one_that_has_expired_serves_no_more(portkey: Portkey) -> None:
    """401 from its moment on, with a code of its own; a later time, or none, lets calls in again.
    By `/credentials` it is the same."""
    tenant, ends_s = portkey.tenant, int(time.time()) + 2
    slug = portkey.make(expires_at=datetime.fromtimestamp(ends_s, UTC).isoformat())
    assert portkey.call(slug).status_code == 200
    time.sleep(max(0.0, ends_s - time.time()))
    refused = portkey.call(slug)
    assert (refused.status_code, code_of(refused)) == (401, "credential_expired")
    assert portkey.get(slug)["status"] == "expired"
    path, whose = f"credentials/{slug}", {"application": tenant.application_id}
    assert tenant.manage("GET", path)["state"] == "expired"
    changed = tenant.service.manage("PATCH", path, {"expires_at": int(time.time()) + 60}, **whose)
    assert changed["state"] == "ready"
    assert "expires_at" in changed
    until(200, lambda: portkey.call(slug))
    assert portkey.get(slug)["status"] == "active"
    changed = tenant.service.manage("PATCH", path, {"expires_at": None}, **whose)
    assert "expires_at" not in changed
    body = {"slug": "more", "provider": "openai", "secret": SECRET, "expires_at": ends_s + 60}
    made = tenant.service.manage("POST", "credentials", body, **whose)
    assert datetime.fromisoformat(made["expires_at"]).timestamp() == ends_s + 60


def test_rotated_blocked_and_deleted(portkey: Portkey, standin: Standin) -> None:
    """Each is known to the next calls at once; its limits go with it, however it is deleted, and a
    new one of the same slug begins at 0."""
    tenant, usage = portkey.tenant, {"credit_limit": 1}
    for delete_by in ("portkey", "credentials"):
        slug = portkey.make(slug="main", usage_limits=usage, rate_limits=RATES)
        assert portkey.get(slug)["usage"]["current_usage"] == 0
        standin.script(auth=[NEXT])
        assert portkey.call(slug).status_code == 401  # the provider's
        answer = portkey.ask("POST", f"/{slug}/rotate", {"key": NEXT})
        assert answer.status_code == 200
        until(200, lambda: portkey.call("main"))
        portkey.ask("PUT", f"/{slug}", {"key": SECRET})
        standin.script(auth=[SECRET])
        until(200, lambda: portkey.call("main"))
        whose = {"application": tenant.application_id}
        tenant.service.manage("PATCH", f"credentials/{slug}", {"blocked": True}, **whose)
        assert portkey.get(slug)["status"] == "blocked"
        until(403, lambda: portkey.call("main"))
        if delete_by == "portkey":
            assert portkey.ask("DELETE", f"/{slug}").json()["success"] is True
        else:
            tenant.service.manage("DELETE", f"credentials/{slug}", **whose)
        assert portkey.refused("GET", f"/{slug}")[0] == 404
        assert tenant.manage("GET", "limits")["items"] == []
        assert tenant.manage("GET", "attachments")["items"] == []
        until(400, lambda: portkey.call("main"))


RATES = [{"type": "requests", "unit": "rpd", "value": 1_000}]


def test_azure_says_where_it_is(portkey: Portkey) -> None:
    """A resource's name is its host; deployments are kept, and a change of host voids the secret
    unless one comes with it."""
    config = {
        "resourceName": "Eu-West",
        "deploymentConfig": [
            {"deploymentName": "blue", "apiVersion": "2024-10-21", "is_default": True},
            {"deploymentName": "green", "alias": "gpt-4o"},
        ],
    }
    slug = portkey.make(provider="azure-openai", apiVersion="2024-10-21", **config)
    shown = portkey.get(slug)
    assert shown["ai_provider_name"] == "azure-openai"
    assert shown["model_config"] == config | {"apiVersion": "2024-10-21"}
    its = portkey.tenant.manage("GET", f"credentials/{slug}")
    assert (its["provider"], its["origin"]) == ("azure.openai", "https://eu-west.openai.azure.com")
    shown = portkey.put(slug, model_config={"custom_host": "https://azure.example.com/openai"})
    assert shown["status"] == "needs_secret"
    assert shown["masked_api_key"] is None
    assert shown["model_config"]["custom_host"] == "https://azure.example.com/openai"
    shown = portkey.put(slug, custom_host=None, key=NEXT)
    assert (shown["status"], "custom_host" in shown["model_config"]) == ("active", False)
    its = portkey.tenant.manage("GET", f"credentials/{slug}")
    assert its["origin"] == "https://eu-west.openai.azure.com"
    other = portkey.make(provider="openai", custom_host="https://gateway.example.com/v1")
    assert portkey.tenant.manage("GET", f"credentials/{other}")["origin"].startswith("https://ga")


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"name": None}, "name"),
    ({"name": " "}, "name"),
    ({"provider": "nobody"}, "provider"),
    ({"key": None}, "key"),
    ({"key": "short"}, "key"),
    ({"note": "x" * 4097}, "note"),
    ({"note": 1}, "note"),
    ({"slug": "No Slug"}, "slug"),
    ({"slug": "env-openai"}, "slug"),
    ({"provider": "azure-openai"}, "resourceName"),
    ({"provider": "azure-openai", "resourceName": "evil.example/"}, "resourceName"),
    ({"custom_host": "http://127.0.0.1"}, "custom_host"),
    ({"model_config": {"custom_host": "nothing"}}, "custom_host"),
    ({"deploymentConfig": [{"deploymentName": "a", "alias": "b"}]}, "deploymentConfig"),
    ({"secret_mappings": [{"target_field": "key"}]}, "secret_mappings"),
    ({"expires_at": "soon"}, "expires_at"),
    ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
    ({"usage_limits": {"credit_limit": -1}}, "usage_limits.credit_limit"),
    ({"usage_limits": {"credit_limit": 1, "type": "calls"}}, "usage_limits.type"),
    ({"usage_limits": [{"credit_limit": 1}, {"credit_limit": 2}]}, "usage_limits"),
    ({"rate_limits": [{"type": "requests", "unit": "rps", "value": 1}]}, "rate_limits[0].unit"),
    ({"rate_limits": [{"type": "requests", "unit": "rpm", "value": 1.5}]}, "rate_limits[0].value"),
]


@pytest.mark.parametrize(("members", "field"), WRONG)
def test_bodies_that_are_wrong(members: dict[str, Any], field: str, portkey: Portkey) -> None:
    """400 `AB01`, the member at fault named; nothing was made."""
    body = {"name": "Prod", "provider": "openai", "key": SECRET} | members
    body = {name: value for name, value in body.items() if value is not None}
    status, fault = portkey.refused("POST", "", body)
    assert (status, fault["errorCode"]) == (400, "AB01"), fault
    assert fault["field"] == field, fault
    assert field.partition(".")[0] in fault["message"]
    assert portkey.ask("GET").json()["total"] == 0
    assert portkey.tenant.manage("GET", "limits")["items"] == []


def test_what_there_is_not_and_what_is_taken(portkey: Portkey) -> None:
    """404 `AB08` of what is nobody's or another application's; 409 `AB07` of a slug that is taken,
    whose virtual key stays as it was."""
    other = Portkey(new_tenant(portkey.tenant.service))
    theirs = other.make()
    for slug in ("nothing", theirs, "No Slug", "a%2Fb"):
        for method, path, body in (
            ("GET", f"/{slug}", None),
            ("PUT", f"/{slug}", {"name": "x", "usage_limits": {"credit_limit": 1}}),
            ("POST", f"/{slug}/rotate", {"key": NEXT}),
            ("DELETE", f"/{slug}", None),
        ):
            status, fault = portkey.refused(method, path, body)
            assert (status, fault["errorCode"], fault["field"]) == (404, "AB08", "slug")
    assert portkey.tenant.manage("GET", "limits")["items"] == []
    assert portkey.refused("GET", "/a/b")[0] == 404
    status, fault = portkey.refused("PATCH", f"/{theirs}")
    assert (status, fault["errorCode"]) == (405, "AB01")
    portkey.make(slug="taken", usage_limits={"credit_limit": 3})
    body = {"name": "x", "provider": "openai", "key": NEXT, "slug": "taken"}
    status, fault = portkey.refused("POST", "", body | {"usage_limits": {"credit_limit": 4}})
    assert (status, fault["errorCode"]) == (409, "AB07")
    assert portkey.get("taken")["usage_limits"]["credit_limit"] == 3
    limit = portkey.tenant.manage("GET", "limits/virtual_key:taken:budget")["limit"]
    assert limit["max"] == 3


def test_who_may(portkey: Portkey, service: Service) -> None:
    """Every key of the application reads; who may manage credentials changes, limits included; a
    key that is none is 401, in every header that it may come by."""
    tenant = portkey.tenant
    slug = portkey.make(usage_limits={"credit_limit": 1})
    plain = Portkey(tenant, key=tenant.key)
    assert plain.get(slug)["slug"] == slug
    for method, path, body in (
        ("POST", "", {"name": "x", "provider": "openai", "key": SECRET}),
        ("PUT", f"/{slug}", {"name": "x"}),
        ("POST", f"/{slug}/rotate", {"key": NEXT}),
        ("DELETE", f"/{slug}", None),
    ):
        status, fault = plain.refused(method, path, body)
        assert (status, fault["errorCode"]) == (403, "AB03")
    members = {"application_id": tenant.application_id, "role": "app", "name": "manager"}
    its = service.manage("POST", "keys", members | {"permissions": ["manage_credentials"]})
    manager = Portkey(tenant, key=its["key"])
    made = manager.make(usage_limits={"credit_limit": 1}, rate_limits=RATES)
    until(200, lambda: portkey.call(made))
    manager.put(slug, usage_limits={"credit_limit": 2, "periodic_reset": "monthly"})
    assert manager.put(slug, reset_usage=True)["usage_limits"]["credit_limit"] == 2
    assert manager.ask("DELETE", f"/{made}").status_code == 200
    [left] = tenant.manage("GET", "limits")["items"]
    assert left["limit_id"] == f"virtual_key:{slug}:budget:month"
    refused = service.http.put(
        f"/api/v1/limits/{left['limit_id']}",
        json={"max": 100},
        headers={"xProxy-Api-Key": tenant.key},
    )
    assert refused.status_code == 403  # it is attached: only who manages it raises it
    wrong = Portkey(tenant, key="sk-none")
    assert wrong.refused("GET", "")[1]["errorCode"] == "AB05"
    for headers in (
        {"Authorization": f"Bearer {tenant.key}"},
        {"x-portkey-api-key": tenant.key, "Authorization": "Bearer sk-of-a-provider"},
    ):
        answer = service.http.get(f"/v1/virtual-keys/{slug}", headers=headers)
        assert answer.status_code == 200, answer.text
