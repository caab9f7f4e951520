"""LiteLLM's teams, users, customers and budgets: what they share, and what calls are held to."""

from __future__ import annotations

import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import httpx
import pytest

from tests.acceptance.litellm import LiteLLM
from tests.acceptance.tenant import Tenant
from tests.standin.process import Standin

SOON_S = 5.0
TINY = 0.0000001
"""A budget that no call fits into."""
NOUNS = ("team", "user", "customer")
FIELD = {"team": "team_id", "user": "user_id", "customer": "user_id"}
ASKED = {"team": "team_id", "user": "user_id", "customer": "end_user_id"}


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


def made(litellm: LiteLLM, noun: str, **terms: Any) -> Callable[[], httpx.Response]:
    """Set `it` up as a team, user or customer; a call that is for it."""
    litellm.post(f"/{noun}/new", **{FIELD[noun]: "it"}, **terms)
    whose = {} if noun == "customer" else {FIELD[noun]: "it"}
    key = litellm.generate(**whose)["key"]
    headers = {"xProxy-Account-Name": "it"} if noun == "customer" else {}
    return lambda: litellm.call(key, **headers)


def changed(litellm: LiteLLM, noun: str, **terms: Any) -> Any:
    """`it` as a change leaves it."""
    answer = litellm.post(f"/{noun}/update", **{FIELD[noun]: "it"}, **terms)
    return answer if noun == "customer" else answer["data"]


def shown(litellm: LiteLLM, noun: str) -> Any:
    """`it` as it is shown."""
    answer = litellm.get(f"/{noun}/info", **{ASKED[noun]: "it"})
    return answer if noun == "customer" else answer[f"{noun}_info"]


@pytest.mark.parametrize("noun", NOUNS)
def test_a_budget_is_kept(litellm: LiteLLM, standin: Standin, noun: str) -> None:
    """Used up it refuses, raised it admits, and what was spent is told; without one it is, too."""
    call = made(litellm, noun, max_budget=TINY, budget_duration="30d")
    assert call().status_code == 400
    assert changed(litellm, noun, max_budget=5)["max_budget"] == 5
    until(200, call)
    info = shown(litellm, noun)
    assert 0 < info["spend"] < 1
    assert info["budget_duration"] == "30d"
    assert info["budget_reset_at"].endswith("-01T00:00:00Z")

    changed(litellm, noun, max_budget=TINY)
    until(400, call)
    assert changed(litellm, noun, max_budget=None)["max_budget"] is None
    until(200, call)
    assert 0 < shown(litellm, noun)["spend"] < 1


@pytest.mark.parametrize("noun", NOUNS)
def test_rates_and_models_are_kept(litellm: LiteLLM, standin: Standin, noun: str) -> None:
    """429 and 403, at once after a change, and no longer when they are taken away."""
    call = made(litellm, noun, rpm_limit=1)
    assert call().status_code == 200
    refused = call()
    assert refused.status_code == 429
    assert f"this {noun}'s rate limit" in refused.text
    assert "retry-after" in refused.headers
    changed(litellm, noun, rpm_limit=None, models=["claude-*"])
    until(403, call)
    assert call().json()["xproxy_error"]["code"] == f"{noun}_model_access_denied"
    changed(litellm, noun, models=[])
    until(200, call)


@pytest.mark.parametrize("noun", NOUNS)
def test_what_is_deleted_binds_no_more(litellm: LiteLLM, standin: Standin, noun: str) -> None:
    """The keys of a team or a user go with it; no limit stays behind."""
    call = made(litellm, noun, max_budget=TINY, soft_budget=TINY)
    assert call().status_code == 400
    names = {"team": "team_ids"}.get(noun, "user_ids")
    status, error = litellm.refused(f"/{noun}/delete", {names: ["it", "another"]})
    assert (status, error["param"]) == (404, names)
    litellm.ask("POST", f"/{noun}/delete", {names: ["it"]}).raise_for_status()
    assert until(200 if noun == "customer" else 401, call) < 1
    assert litellm.tenant.manage("GET", "limits")["items"] == []
    assert litellm.tenant.manage("GET", "attachments")["items"] == []
    assert litellm.ask("GET", f"/{noun}/info", **{ASKED[noun]: "it"}).status_code == 404


@pytest.mark.parametrize("noun", ["team", "customer"])
def test_who_is_blocked_is_refused(litellm: LiteLLM, standin: Standin, noun: str) -> None:
    """Within a second everywhere; so is it let in again."""
    call = made(litellm, noun)
    assert call().status_code == 200
    body = {"team_id": "it"} if noun == "team" else {"user_ids": ["it"]}
    litellm.post(f"/{noun}/block", **body)
    assert until(403, call) < 1
    assert call().json()["xproxy_error"]["code"] == f"{noun}_blocked"
    litellm.post(f"/{noun}/unblock", **body)
    assert until(200, call) < 1


def test_two_keys_share_a_teams_budget(litellm: LiteLLM, standin: Standin) -> None:
    """What one spends the other cannot, to the pico; each is bound by its own too."""
    litellm.post("/team/new", team_id="blue", team_alias="Blue", max_budget=1)
    one, two = (litellm.generate(team_id="blue", max_budget=1) for _ in range(2))
    assert litellm.call(one["key"]).status_code == 200
    spent = litellm.get("/team/info", team_id="blue")["team_info"]["spend"]
    litellm.post("/team/update", team_id="blue", max_budget=float(spent))
    until(400, lambda: litellm.call(two["key"]))
    blocked = litellm.call(two["key"]).json()["xproxy_error"]["limits"]
    assert [it["limit_id"] for it in blocked] == ["team:blue:budget"]

    litellm.post("/team/update", team_id="blue", max_budget=1)
    until(200, lambda: litellm.call(two["key"]))
    info = litellm.get("/team/info", team_id="blue")
    assert info["team_info"]["team_alias"] == "Blue"
    assert {it["token"] for it in info["keys"]} == {one["token"], two["token"]}
    assert info["team_info"]["spend"] == sum(it["spend"] for it in info["keys"])


def test_a_budget_by_its_name(litellm: LiteLLM, standin: Standin) -> None:
    """A key and a customer have it each for himself; a change of it holds for both at once."""
    budget = {"budget_id": "gold", "max_budget": TINY, "rpm_limit": 50, "budget_duration": "1d"}
    assert litellm.post("/budget/new", **budget)["max_budget"] == Decimal("1E-7")
    key = litellm.generate(budget_id="gold")
    assert (key["max_budget"], key["rpm_limit"]) == (Decimal("1E-7"), 50)
    assert key["litellm_budget_table"]["budget_id"] == "gold"
    by_customer = made(litellm, "customer", budget_id="gold")
    assert litellm.call(key["key"]).status_code == by_customer().status_code == 400

    litellm.post("/budget/update", budget_id="gold", max_budget=3, rpm_limit=None)
    until(200, lambda: litellm.call(key["key"]))
    until(200, by_customer)
    assert shown(litellm, "customer")["max_budget"] == 3
    info = litellm.get("/key/info", key=key["key"])["info"]
    assert (info["max_budget"], info["rpm_limit"], info["budget_duration"]) == (3, None, "1d")

    own = litellm.post("/key/update", key=key["key"], max_budget=7)
    assert (own["max_budget"], own["budget_duration"]) == (7, None)
    assert [it["budget_id"] for it in litellm.get("/budget/list")] == ["gold"]
    [found] = litellm.post("/budget/info", budgets=["gold", "silver"])
    assert (found["max_budget"], found["budget_duration"]) == (3, "1d")
    status, error = litellm.refused("/budget/delete", {"id": "gold"})
    assert (status, error["param"]) == (400, "id")
    litellm.post("/key/update", key=key["key"], budget_id=None)
    changed(litellm, "customer", max_budget=2)
    litellm.post("/budget/delete", id="gold")
    assert litellm.get("/budget/list") == []
    assert shown(litellm, "customer")["max_budget"] == 2


def test_a_user_comes_with_a_key(litellm: LiteLLM, standin: Standin) -> None:
    """Whose budget is the user's, for all of his keys; unless none is wanted."""
    user = litellm.post("/user/new", user_email="a@b.c", max_budget=1, key_alias="first")
    assert user["key_alias"] == "first"
    assert litellm.call(user["key"]).status_code == 200
    other = litellm.generate(user_id=user["user_id"])["key"]
    assert litellm.call(other).status_code == 200
    info = litellm.get("/user/info", user_id=user["user_id"])
    assert info["user_info"]["user_email"] == "a@b.c"
    assert len(info["keys"]) == 2
    litellm.post("/user/update", user_id=user["user_id"], max_budget=0)
    until(400, lambda: litellm.call(user["key"]))
    until(400, lambda: litellm.call(other))
    plain = litellm.post("/user/new", user_id="plain", auto_create_key=False)
    assert plain["key"] is None
    status, error = litellm.refused("/user/new", {"user_id": "u", "key_alias": "first"})
    assert (status, error["param"]) == (400, "key_alias")
    assert litellm.ask("GET", "/user/info", user_id="u").status_code == 404


def test_they_are_listed(litellm: LiteLLM) -> None:
    """Newest first; users by page; customers by both of their names."""
    for number in range(3):
        litellm.post("/team/new", team_id=f"t{number}", max_budget=number)
        litellm.post("/user/new", user_id=f"u{number}", auto_create_key=False)
        litellm.post("/end_user/new", user_id=f"c{number}", alias=f"C{number}")
    teams = litellm.get("/team/list")
    assert [(it["team_id"], it["max_budget"]) for it in teams] == [("t2", 2), ("t1", 1), ("t0", 0)]
    pages = [litellm.get("/user/list", page=page, page_size=2) for page in (1, 2)]
    assert [it["user_id"] for page in pages for it in page["users"]] == ["u2", "u1", "u0"]
    assert {(it["total"], it["total_pages"], it["page_size"]) for it in pages} == {(3, 2, 2)}
    for noun in ("customer", "end_user"):
        assert [it["alias"] for it in litellm.get(f"/{noun}/list")] == ["C2", "C1", "C0"]


def test_names_of_any_kind(litellm: LiteLLM, standin: Standin) -> None:
    """What no limit could be called is a team all the same; two such names are two."""
    names = ["Ops & Co; a|b, c", "Ops & Co; a|b, d", "ü" * 100]
    for name in names:
        litellm.post("/team/new", team_id=name, max_budget=TINY, rpm_limit=1_000)
    keys = [litellm.generate(team_id=name)["key"] for name in names]
    assert {litellm.call(key).status_code for key in keys} == {400}
    litellm.post("/team/update", team_id=names[0], max_budget=1)
    until(200, lambda: litellm.call(keys[0]))
    assert {litellm.call(key).status_code for key in keys[1:]} == {400}


WRONG: list[tuple[str, object, int, str]] = [
    ("/team/new", {"team_id": "it"}, 400, "team_id"),
    ("/team/new", {"max_budget": "x"}, 400, "max_budget"),
    ("/team/new", {"models": {}}, 400, "models"),
    ("/team/update", {}, 400, "team_id"),
    ("/team/update", {"team_id": "no"}, 404, "team_id"),
    ("/team/block", {"team_id": "no"}, 404, "team_id"),
    ("/team/delete", {"team_ids": "it"}, 400, "team_ids"),
    ("/user/new", {"user_role": 1}, 400, "user_role"),
    ("/user/update", {"user_id": "no"}, 404, "user_id"),
    ("/user/delete", {}, 400, "user_ids"),
    ("/customer/new", {}, 400, "user_id"),
    ("/customer/new", {"user_id": "c", "budget_id": "no"}, 400, "budget_id"),
    ("/customer/new", {"user_id": "c", "budget_id": "b", "max_budget": 1}, 400, "max_budget"),
    ("/customer/unblock", {"user_ids": ["no"]}, 404, "user_ids"),
    ("/budget/new", {"max_budget": -1}, 400, "max_budget"),
    ("/budget/new", {"budget_duration": "x", "max_budget": 1}, 400, "budget_duration"),
    ("/budget/update", {"max_budget": 1}, 400, "budget_id"),
    ("/budget/update", {"budget_id": "no"}, 404, "budget_id"),
    ("/budget/info", {"budgets": []}, 400, "budgets"),
    ("/budget/delete", {"id": "no"}, 404, "id"),
]


def test_what_is_wrong_is_named(litellm: LiteLLM) -> None:
    """In LiteLLM's shape, the field in `param`; nothing is made of it."""
    litellm.post("/team/new", team_id="it")
    before = litellm.tenant.manage("GET", "limits")["items"]
    for path, body, status, param in WRONG:
        refused, error = litellm.refused(path, body)
        assert (refused, error["param"]) == (status, param), (path, body, error)
    assert litellm.tenant.manage("GET", "limits")["items"] == before
    assert litellm.get("/budget/list") == litellm.get("/customer/list") == []
