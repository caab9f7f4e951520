"""LiteLLM's virtual keys: made, changed, blocked, rotated and deleted through its routes, and what
that means for calls."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any

import httpx
import pytest

from tests.acceptance.litellm import GPT, LiteLLM
from tests.acceptance.tenant import Tenant
from tests.standin.process import Standin

SOON_S = 5.0
"""A change holds in milliseconds; a busy machine has time."""
GENERATED = {"key", "expires", "user_id", "key_name", "token", "token_id", "models", "max_budget"}
"""What LiteLLM's own documentation reads of the answer to /key/generate."""
# The documented answer of /key/info, member by member.
INFO = {"spend": Decimal, "expires": str, "models": list, "aliases": dict, "config": dict}


@pytest.fixture
def litellm(tenant: Tenant) -> LiteLLM:
    """The routes for a fresh application."""
    return LiteLLM(tenant)


def until(status: int, ask: Callable[[], httpx.Response]) -> float:
    """How long it takes until calls are answered so."""
    began_s = time.monotonic()
    while (answer := ask()).status_code != status:
        assert time.monotonic() - began_s < SOON_S, answer.text
        time.sleep(0.01)
    return time.monotonic() - began_s


def test_a_generated_key_calls_and_is_shown(litellm: LiteLLM, standin: Standin) -> None:
    """The shapes of LiteLLM's documentation; what was asked for comes back, and the secret once."""
    made = litellm.generate(
        key_alias="prod",
        duration="30d",
        models=["gpt-4o-mini", "claude-*"],
        aliases={"fast": GPT},
        metadata={"user": "ishaan@berri.ai", "ratio": 0.1},
        max_budget=10,
        soft_budget=5,
        budget_duration="30d",
        tpm_limit=10_000,
        rpm_limit=100,
        max_parallel_requests=7,
        user_id="alice",
        tags=["team-a"],
        guardrails=["pii"],
        something_new=1,
    )
    assert made.keys() >= GENERATED
    assert made["key"].startswith("sk-")
    assert made["key_name"] == f"sk-...{made['key'][-4:]}"
    assert made["xproxy_ignored"] == ["guardrails"]
    assert litellm.call(made["key"]).status_code == 200

    shown = litellm.get("/key/info", key=made["key"])
    assert shown["key"] == made["key"]
    info = shown["info"]
    for name, kind in INFO.items():
        assert isinstance(info[name], kind), name
    assert "key" not in info
    assert info["spend"] > 0
    assert info == litellm.get("/key/info", key=made["token"])["info"]
    asked = {
        "key_alias": "prod",
        "models": ["gpt-4o-mini", "claude-*"],
        "aliases": {"fast": GPT},
        "metadata": {"user": "ishaan@berri.ai", "ratio": Decimal("0.1")},
        "max_budget": 10,
        "soft_budget": 5,
        "budget_duration": "30d",
        "tpm_limit": 10_000,
        "rpm_limit": 100,
        "max_parallel_requests": 7,
        "user_id": "alice",
        "team_id": None,
        "tags": ["team-a"],
        "blocked": False,
        "status": "active",
    }
    assert {name: info[name] for name in asked} == asked
    now = datetime.fromisoformat(info["created_at"])
    resets_at = datetime.fromisoformat(info["budget_reset_at"])
    assert (resets_at.day, resets_at.hour, resets_at.minute) == (1, 0, 0)
    assert 0 < (resets_at - now).days <= 31
    assert (datetime.fromisoformat(info["expires"]) - now).days == 30
    row = litellm.tenant.rows(1)[-1]
    assert (row["user_id"], row["tags"]) == ("alice", ["team-a"])


def test_an_own_key_is_read_by_itself(litellm: LiteLLM) -> None:
    """A key reads what it is, without a name or with its own, and of no other; changes nothing."""
    made, other = litellm.generate(max_budget=1), litellm.generate()
    http, headers = litellm.tenant.service.http, {"x-litellm-api-key": f"Bearer {made['key']}"}
    for query in ({}, {"key": made["key"]}, {"key": made["token"]}):
        answer = http.get("/key/info", headers=headers, params=query)
        assert answer.status_code == 200, answer.text
        assert answer.json()["info"]["token"] == made["token"]
    for unknown in (other["key"], other["token"], "nothing"):
        answer = http.get("/key/info", headers=headers, params={"key": unknown})
        assert answer.status_code == 403
        assert answer.json()["error"]["type"] == "auth_error"
    refused = http.post("/key/update", headers=headers, json={"key": made["key"]})
    assert refused.status_code == 403


def test_a_budget_that_is_used_up_refuses_until_it_is_raised(
    litellm: LiteLLM, standin: Standin
) -> None:
    """A hard cap, exact to the last digit; /key/update lets calls in at once."""
    key = litellm.generate(max_budget=0.0000001)
    refused = litellm.call(key["key"])
    assert refused.status_code == 400
    assert refused.json()["xproxy_error"]["code"] == "limit_reached"
    assert litellm.get("/key/info", key=key["key"])["info"]["max_budget"] == Decimal("1E-7")

    raised = litellm.post("/key/update", key=key["key"], max_budget=0.01)
    assert raised["max_budget"] == Decimal("0.01")
    until(200, lambda: litellm.call(key["key"]))
    spent = litellm.get("/key/info", key=key["key"])["info"]["spend"]
    assert spent == sum(it["cost"] for it in costs(litellm))

    litellm.post("/key/update", key=key["token"], max_budget=0)
    until(400, lambda: litellm.call(key["key"]))
    gone = litellm.post("/key/update", key=key["token"], max_budget=None)
    assert gone["max_budget"] is None
    assert until(200, lambda: litellm.call(key["key"])) < SOON_S
    assert litellm.tenant.manage("GET", "limits")["items"] == []


def costs(litellm: LiteLLM) -> list[dict[str, Any]]:
    """What each call that was made cost, exactly."""
    rows = [it for it in litellm.tenant.rows(2) if it["status"] == "ok"]
    return [{"cost": Decimal(it["cost_pico"]).scaleb(-12)} for it in rows]


def test_spend_begins_again(litellm: LiteLLM, standin: Standin) -> None:
    """`spend: 0` resets the budgets; nothing else can be said to have been spent."""
    key = litellm.generate(max_budget=1)["key"]
    assert litellm.call(key).status_code == 200
    assert litellm.get("/key/info", key=key)["info"]["spend"] > 0
    litellm.post("/key/update", key=key, spend=0)
    assert litellm.get("/key/info", key=key)["info"]["spend"] == 0
    status, error = litellm.refused("/key/update", {"key": key, "spend": 1})
    assert (status, error["param"]) == (400, "spend")


def test_several_budgets_at_once(litellm: LiteLLM, standin: Standin) -> None:
    """Each in its own window; any of them refuses, and the answer says what each has counted."""
    budgets = [
        {"budget_duration": "1h", "max_budget": 1},
        {"budget_duration": "24h", "max_budget": 0.0000001},
        {"budget_duration": "12h", "max_budget": 2},
    ]
    key = litellm.generate(budget_limits=budgets)
    refused = litellm.call(key["key"])
    assert refused.status_code == 400
    blocked = refused.json()["xproxy_error"]["limits"]
    assert [it["limit_id"] for it in blocked] == [f"key:{key['token']}:window:day"]

    budgets[1]["max_budget"] = 3
    changed = litellm.post("/key/update", key=key["key"], budget_limits=budgets)
    assert [it["max_budget"] for it in changed["budget_limits"]] == [1, 3, 2]
    until(200, lambda: litellm.call(key["key"]))
    info = litellm.get("/key/info", key=key["key"])["info"]
    spent = {it["current_spend"] for it in info["budget_limits_usage"].values()}
    assert info["budget_limits_usage"].keys() == {"1h", "24h", "12h"}
    assert len(spent) == 1
    assert spent.pop() > 0
    windows = {
        it["limit_id"].rpartition(":")[2]: it["window"]
        for it in litellm.tenant.manage("GET", "limits")["items"]
    }
    assert windows == {
        "hour": {"every": "hour", "zone": "UTC"},
        "day": {"every": "day", "zone": "UTC"},
        "720m": {"rolling": "720 minutes"},
    }


def test_another_duration_is_another_limit(litellm: LiteLLM) -> None:
    """A limit keeps its window; the key lets go of the old one, and keeps what others attached."""
    litellm.tenant.limit("other")
    key = litellm.generate(max_budget=1, budget_duration="1d")
    path = f"keys/{key['token']}"
    own = f"key:{key['token']}:budget:"
    service = litellm.tenant.service
    service.manage("PATCH", path, {"limit_ids": ["other", own + "day"]})
    litellm.post("/key/update", key=key["key"], budget_duration="7d")
    assert service.manage("GET", path)["limit_ids"] == ["other", own + "week"]
    limits = {it["limit_id"] for it in litellm.tenant.manage("GET", "limits")["items"]}
    assert limits == {"other", own + "week"}
    litellm.post("/key/delete", keys=[key["key"]])
    limits = {it["limit_id"] for it in litellm.tenant.manage("GET", "limits")["items"]}
    assert limits == {"other"}


def test_a_limit_in_the_way_is_made_what_it_should_be(litellm: LiteLLM, standin: Standin) -> None:
    """An application cannot soften a budget by making a limit of its id beforehand."""
    key = litellm.generate()
    own = f"key:{key['token']}:budget"
    litellm.tenant.manage("POST", "limits", {"limit_id": own, "limit_name": own, "max": 1000})
    litellm.post("/key/update", key=key["key"], max_budget=0.0000001)
    until(400, lambda: litellm.call(key["key"]))
    limit = litellm.tenant.manage("GET", f"limits/{own}")["limit"]
    assert (limit["limit_type"], limit["hard_cap"]) == ("block", True)


@pytest.mark.parametrize(
    ("asked", "kind"), [({"rpm_limit": 1}, "requests"), ({"tpm_limit": 1}, "tokens")]
)
def test_rate_limits_answer_429(
    litellm: LiteLLM, standin: Standin, asked: dict[str, int], kind: str
) -> None:
    """With when to come back, if ever; a raised one lets calls in at once."""
    key = litellm.generate(**asked)["key"]
    answers = [litellm.call(key) for _ in range(2)]
    assert answers[-1].status_code == 429
    assert answers[-1].headers[f"x-ratelimit-limit-{kind}"] == "1"
    if kind == "requests":
        assert answers[0].status_code == 200
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 61
    litellm.post("/key/update", key=key, **dict.fromkeys(asked, 100000))
    until(200, lambda: litellm.call(key))
    litellm.post("/key/update", key=key, **dict.fromkeys(asked))
    assert litellm.get("/key/info", key=key)["info"]["rpm_limit"] is None


def test_models_that_a_key_may_call(litellm: LiteLLM, standin: Standin) -> None:
    """Others are 403 and reach no provider, as is what is not metered; models may be listed."""
    key = litellm.generate(models=["openai/gpt-4o-*"])["key"]
    assert litellm.call(key).status_code == 200
    for model in ("gpt-4o", "o3"):
        refused = litellm.call(key, model)
        assert refused.status_code == 403
        assert refused.json()["xproxy_error"]["code"] == "key_model_access_denied"
    http, headers = litellm.tenant.service.http, {"Authorization": f"Bearer {key}"}
    url = "/api/v1/proxy/openai/v1"
    assert http.post(f"{url}/batches", json={}, headers=headers).status_code == 403
    assert http.get(f"{url}/models", headers=headers).status_code != 403
    assert standin.stats()["calls"] == 2
    litellm.post("/key/update", key=key, models=[])
    until(200, lambda: litellm.call(key, "gpt-4o"))


def test_an_alias_is_another_model(litellm: LiteLLM, standin: Standin) -> None:
    """The provider is asked for it, it is priced, and the list of models is about it."""
    key = litellm.generate(aliases={"gpt-4o": GPT}, models=[GPT])["key"]
    assert litellm.call(key, "gpt-4o").status_code == 200
    assert litellm.tenant.row()["model_requested"] == GPT
    assert litellm.call(key, "o3").status_code == 403


def test_a_key_expires(litellm: LiteLLM, standin: Standin) -> None:
    """At its time, and not before; it is shown as expired, and null lets it live on."""
    key = litellm.generate(duration="2s")["key"]
    assert litellm.call(key).status_code == 200
    until(401, lambda: litellm.call(key))
    assert litellm.get("/key/info", key=key)["info"]["status"] == "expired"
    litellm.post("/key/update", key=key, duration=None)
    until(200, lambda: litellm.call(key))
    litellm.post("/key/update", key=key, duration="-1")
    assert litellm.get("/key/info", key=key)["info"]["expires"] is None


def test_a_blocked_key_stops_and_comes_back(litellm: LiteLLM, standin: Standin) -> None:
    """By its secret or its token."""
    key = litellm.generate()
    assert litellm.call(key["key"]).status_code == 200
    shown = litellm.post("/key/block", key=key["key"])
    assert (shown["blocked"], shown["status"]) == (True, "revoked")
    assert until(401, lambda: litellm.call(key["key"])) < 1
    litellm.post("/key/unblock", key=key["token"])
    assert until(200, lambda: litellm.call(key["key"])) < 1


def test_deleted_keys_stop(litellm: LiteLLM, standin: Standin) -> None:
    """By secret, token or alias; where one is not there none is deleted."""
    one, two = litellm.generate(max_budget=1), litellm.generate(key_alias="two", max_budget=1)
    status, error = litellm.refused("/key/delete", {"keys": [one["key"], "nothing"]})
    assert (status, error["type"], error["param"]) == (404, "not_found_error", "keys[1]")
    assert litellm.call(one["key"]).status_code == 200
    gone = litellm.post("/key/delete", keys=[one["key"]])
    assert gone == {"deleted_keys": [one["key"]]}
    assert until(401, lambda: litellm.call(one["key"])) < 1
    assert litellm.post("/key/delete", key_aliases=["two"]) == {"deleted_keys": ["two"]}
    assert until(401, lambda: litellm.call(two["key"])) < 1
    assert litellm.get("/key/list")["total_count"] == 1  # the tenant's own
    assert litellm.tenant.manage("GET", "limits")["items"] == []


def test_regenerate_without_grace(litellm: LiteLLM, standin: Standin) -> None:
    """The old secret ends at once; the key keeps its token, its budget and what it spent."""
    old = litellm.generate(max_budget=1, key_alias="k")
    assert litellm.call(old["key"]).status_code == 200
    new = litellm.post(f"/key/{old['key']}/regenerate")
    assert new["key"] != old["key"]
    assert new["token"] == old["token"]
    assert new["spend"] > 0
    assert (new["key_alias"], new["max_budget"]) == ("k", 1)
    assert until(401, lambda: litellm.call(old["key"])) < 1
    assert litellm.call(new["key"]).status_code == 200
    assert litellm.refused("/key/block", {"key": old["key"]})[0] == 404


def test_regenerate_with_grace(litellm: LiteLLM, standin: Standin) -> None:
    """Both secrets work until it is over, and are one key's; the body may change the key too."""
    old = litellm.generate(max_budget=1)
    new = litellm.post("/key/regenerate", key=old["key"], grace_period="2s", max_budget=2)
    assert new["max_budget"] == 2
    for key in (old["key"], new["key"]):
        assert litellm.call(key).status_code == 200
        assert litellm.get("/key/info", key=key)["info"]["token"] == old["token"]
    until(401, lambda: litellm.call(old["key"]))
    assert litellm.call(new["key"]).status_code == 200


def test_keys_are_listed_by_page(litellm: LiteLLM) -> None:
    """Newest first, tokens or the whole; by user, team and alias. Page after page, each once."""
    litellm.post("/team/new", team_id="blue")
    for number in range(5):
        litellm.generate(key_alias=f"k{number}", user_id=f"u{number % 2}", max_budget=number)
    litellm.generate(team_id="blue")
    pages = [litellm.get("/key/list", page=page, size=3) for page in (1, 2, 3)]
    assert [it["current_page"] for it in pages] == [1, 2, 3]
    assert {(it["total_count"], it["total_pages"]) for it in pages} == {(7, 3)}
    tokens = [token for it in pages for token in it["keys"]]
    assert len(tokens) == len(set(tokens)) == 7
    assert litellm.get("/key/list", page=4)["keys"] == []

    whole = litellm.get("/key/list", user_id="u0", return_full_object="true")
    assert [it["key_alias"] for it in whole["keys"]] == ["k4", "k2", "k0"]
    assert [it["max_budget"] for it in whole["keys"]] == [4, 2, 0]
    assert litellm.get("/key/list", key_alias="k3")["total_count"] == 1
    assert litellm.get("/key/list", team_id="blue")["total_count"] == 1
    assert litellm.get("/key/list", team_id="red")["keys"] == []
    for query in ({"page": 0}, {"size": 101}, {"page": "x"}):
        answer = litellm.ask("GET", "/key/list", **query)
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == next(iter(query))


WRONG: list[tuple[str, object, int, str | None]] = [
    ("/key/generate", {"max_budget": "ten"}, 400, "max_budget"),
    ("/key/generate", {"max_budget": -1}, 400, "max_budget"),
    ("/key/generate", {"max_budget": 0.0000000000001}, 400, "max_budget"),
    ("/key/generate", {"soft_budget": True}, 400, "soft_budget"),
    ("/key/generate", {"budget_duration": "soon", "max_budget": 1}, 400, "budget_duration"),
    ("/key/generate", {"budget_duration": "2mo", "max_budget": 1}, 400, "budget_duration"),
    ("/key/generate", {"budget_duration": 30, "max_budget": 1}, 400, "budget_duration"),
    ("/key/generate", {"budget_limits": [{"max_budget": 1}]}, 400, "budget_limits[0]"),
    (
        "/key/generate",
        {"budget_limits": [{"budget_duration": it, "max_budget": 1} for it in ("1d", "24h")]},
        400,
        "budget_limits",
    ),
    ("/key/generate", {"tpm_limit": 1.5}, 400, "tpm_limit"),
    ("/key/generate", {"rpm_limit": -1}, 400, "rpm_limit"),
    ("/key/generate", {"models": "gpt-4o"}, 400, "models"),
    ("/key/generate", {"models": ["a*b*c*d*e*f"]}, 400, "models"),
    ("/key/generate", {"aliases": {"a": 1}}, 400, "aliases"),
    ("/key/generate", {"metadata": []}, 400, "metadata"),
    ("/key/generate", {"duration": "1y"}, 400, "duration"),
    ("/key/generate", {"duration": "999999w"}, 400, "duration"),
    ("/key/generate", {"user_id": 7}, 400, "user_id"),
    ("/key/generate", {"team_id": "nobody"}, 404, "team_id"),
    ("/key/generate", {"budget_id": "nothing"}, 400, "budget_id"),
    ("/key/generate", {"key": "sk-1234567890123456"}, 400, "key"),
    ("/key/generate", {"blocked": "yes"}, 400, "blocked"),
    ("/key/generate", [], 400, None),
    ("/key/update", {"max_budget": 1}, 400, "key"),
    ("/key/update", {"key": "sk-nothing"}, 404, "key"),
    ("/key/update", {"key_alias": "nothing"}, 404, "key_alias"),
    ("/key/delete", {}, 400, "keys"),
    ("/key/block", {}, 400, "key"),
    ("/key/block", {"key": 1}, 400, "key"),
    ("/key/regenerate", {}, 400, "key"),
    ("/key/nothing/regenerate", {}, 404, "key"),
    ("/key/regenerate", {"key": "x", "new_key": "sk-mine"}, 400, "new_key"),
    ("/key/regenerate", {"key": "x", "grace_period": "soon"}, 400, "grace_period"),
    ("/key/nonsense", {}, 404, None),
]


@pytest.mark.parametrize(("path", "body", "status", "param"), WRONG)
def test_what_is_wrong_is_named(
    litellm: LiteLLM, path: str, body: object, status: int, param: str | None
) -> None:
    """In LiteLLM's shape, the field in `param`; nothing is made of it."""
    refused, error = litellm.refused(path, body)
    assert refused == status, error
    assert (error["param"] or "").startswith(param or "")
    assert litellm.get("/key/list")["total_count"] == 1
    assert litellm.tenant.manage("GET", "limits")["items"] == []


def test_an_alias_is_one_keys(litellm: LiteLLM) -> None:
    """Of two keys of one application none may have the other's; changing nothing is no clash."""
    litellm.generate(key_alias="a")
    other = litellm.generate(key_alias="b")
    assert litellm.refused("/key/generate", {"key_alias": "a"})[1]["param"] == "key_alias"
    assert litellm.refused("/key/update", {"key": other["key"], "key_alias": "a"})[0] == 400
    assert litellm.post("/key/update", key_alias="b", rpm_limit=5)["rpm_limit"] == 5


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer sk-1234"}])
def test_without_a_good_key(litellm: LiteLLM, headers: dict[str, str]) -> None:
    """401 in LiteLLM's shape; neither a hash nor the key is in it."""
    answer = litellm.tenant.service.http.get("/key/info", headers=headers)
    assert answer.status_code == 401
    error = answer.json()["error"]
    assert (error["type"], error["param"], error["code"]) == ("auth_error", "key", "401")
    assert error["message"].startswith("Authentication Error")
    assert "sk-1234" not in answer.text


def test_another_applications_keys_are_not_there(litellm: LiteLLM) -> None:
    """Neither by secret nor by token; the admin key acts for one application at a time."""
    mine = litellm.generate()
    service = litellm.tenant.service
    admin = {"Authorization": f"Bearer {service.admin_key}"}  # for the default application
    for named in (mine["key"], mine["token"]):
        body = {"key": named}
        assert service.http.post("/key/block", json=body, headers=admin).status_code == 404
