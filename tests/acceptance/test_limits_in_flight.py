"""A limit that is changed while a call runs: what was spent stays where the call was let in."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest

from tests.acceptance import clients
from tests.acceptance.tenant import Tenant
from tests.standin.process import Standin

KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "hard": {"hard_cap": True},
    "yearly": {"window": {"every": "year", "zone": "Asia/Tokyo"}},
    "rolling": {"hard_cap": True, "window": {"rolling": "24 hours"}},
}
ALL = ",".join(KINDS)
SLOW_MS = 2_500
"""How long the provider takes: the limits are changed meanwhile."""


def pico(usd: Decimal | int) -> int:
    """An amount of the API's, exact."""
    return int(Decimal(usd).scaleb(12))


def create(tenant: Tenant) -> None:
    """A limit of each kind."""
    for name, members in KINDS.items():
        body = {"limit_id": name, "limit_name": name, "max": 1, "limit_type": "block"}
        tenant.manage("POST", "limits", body | members)


def admin(tenant: Tenant, method: str, path: str, body: object = None) -> dict[str, Any]:
    """What only an admin may do for the tenant's application."""
    return tenant.service.manage(method, path, body, application=tenant.application_id)


def calls(tenant: Tenant, standin: Standin, change: Callable[[], None], named: str = ALL) -> Any:
    """A call before the change and one that runs meanwhile: what each cost, in pico, and the
    result of the second."""
    headers = {"xProxy-Limit-IDs": named} if named else {}
    with ThreadPoolExecutor(1) as pool, clients.openai_client(tenant, max_retries=0) as client:
        clients.chat(client, extra_headers=headers)
        standin.script({"delay_ms": SLOW_MS})
        running = pool.submit(clients.chat, client, "Tell me more.", extra_headers=headers)
        while not standin.stats()["in_flight"]:
            time.sleep(0.01)
        change()
        assert not running.done(), "the change took longer than the call"
        result = running.result().xproxy_result
    standin.script()
    before, after = [entry.cost_pico for entry in standin.ledger()]
    rows = tenant.rows(2)
    assert [int(row["cost_pico"]) for row in rows] == [before, after]
    for row in rows:
        assert {it["limit_id"]: pico(it["amount"]) for it in row["limits"]} == dict.fromkeys(
            KINDS, int(row["cost_pico"])
        )
    return before, after, result


def spent(tenant: Tenant, limit_id: str) -> int:
    """What a limit has counted; nothing is held any more."""
    budgets = {it["limit_id"]: it for it in tenant.manage("GET", "budgets")["items"]}
    assert (budgets[limit_id]["held"], budgets[limit_id]["holds"]) == (0, 0)
    return pico(budgets[limit_id]["spent"])


@pytest.fixture(autouse=True)
def the_books_agree(tenant: Tenant) -> Any:
    """Rows, sums and counters do, to the pico, whatever was changed."""
    create(tenant)
    yield
    assert admin(tenant, "POST", "audit/check", {})["differences"] == []


def test_deleted(tenant: Tenant, standin: Standin) -> None:
    """The row keeps what each was charged; one made again under the same id has none of it."""

    def delete_and_make_again() -> None:
        for name in KINDS:
            tenant.manage("DELETE", f"limits/{name}")
        create(tenant)

    calls(tenant, standin, delete_and_make_again)
    for name in KINDS:
        assert spent(tenant, name) == 0
        assert tenant.totals(name)["requests"]["total"] == 0
    with clients.openai_client(tenant) as client:
        again = clients.chat(client, extra_headers={"xProxy-Limit-IDs": ALL}).xproxy_result
    assert set(again["limits"]) == set(KINDS)
    assert {spent(tenant, name) for name in KINDS} == {standin.ledger()[-1].cost_pico}


def test_deleted_and_gone(tenant: Tenant, standin: Standin) -> None:
    """So it does of those that are not there any more."""

    def delete() -> None:
        for name in KINDS:
            tenant.manage("DELETE", f"limits/{name}")

    calls(tenant, standin, delete)
    assert tenant.manage("GET", "limits")["items"] == []


def test_reset(tenant: Tenant, standin: Standin) -> None:
    """It is of what the reset ended, as the history shows; nothing of it counts after."""
    resets: dict[str, int] = {}

    def reset() -> None:
        for name in KINDS:
            ended = tenant.manage("POST", f"limits/{name}/reset")["limit_history"]
            resets[name] = pico(ended["totals"]["cost"]["total"]["base"])

    before, after, _ = calls(tenant, standin, reset)
    for name in KINDS:
        assert resets[name] == before
        assert spent(tenant, name) == 0
        periods = tenant.manage("GET", f"limits/{name}/history")["items"]
        totals = [pico(it["totals"]["cost"]["total"]["base"]) for it in periods]
        assert sum(totals) == before + after, name


def test_lowered(tenant: Tenant, standin: Standin) -> None:
    """Not below what is spent; below what is held it goes, and the call in flight is charged in
    full and overruns it. Who comes then is refused."""

    def lower() -> None:
        for name in KINDS:
            limit = tenant.manage("GET", f"limits/{name}")["limit"]
            already = limit["totals"]["cost"]["total"]["base"]
            with pytest.raises(RuntimeError, match="invalid_max_limit_update"):
                tenant.manage("PUT", f"limits/{name}", {"max": float(already) / 2})
            tenant.manage("PUT", f"limits/{name}", {"max": str(already)})

    before, after, result = calls(tenant, standin, lower)
    assert {it["state"] for it in result["limits"].values()} == {"overrun"}
    for name in KINDS:
        total = tenant.totals(name)["cost"]["total"]
        assert (pico(total["base"]), pico(total["overrun_base"])) == (before + after, after)
        refused = tenant.post(
            "/api/v1/proxy/openai/v1/chat/completions",
            {"model": "gpt-4o-mini", "messages": [], "max_tokens": 1},
            {"xProxy-Limit-IDs": name},
        )
        assert (refused.status_code, refused.headers["x-should-retry"]) == (400, "false")


def test_bound_anew(tenant: Tenant, standin: Standin) -> None:
    """What a call was let in under is what it is charged to, whatever its key and user are bound by
    when it ends; the next call is charged to that alone."""
    tenant.limit("other")
    key = f"keys/{tenant.key_id}"
    admin(tenant, "PATCH", key, {"limit_ids": ["plain", "hard"], "user_id": "ann"})
    admin(tenant, "PUT", "attachments/user/ann/yearly")
    admin(tenant, "PUT", "attachments/user/ann/rolling")

    def bind_anew() -> None:
        admin(tenant, "PATCH", key, {"limit_ids": []})
        admin(tenant, "DELETE", "attachments/user/ann/yearly")
        admin(tenant, "DELETE", "attachments/user/ann/rolling")
        admin(tenant, "PUT", "attachments/user/ann/other")

    before, after, result = calls(tenant, standin, bind_anew, named="")
    assert set(result["limits"]) == set(KINDS)
    assert {spent(tenant, name) for name in KINDS} == {before + after}
    assert spent(tenant, "other") == 0
    with clients.openai_client(tenant) as client:
        following = clients.chat(client).xproxy_result
    assert set(following["limits"]) == {"other"}
    assert {spent(tenant, name) for name in KINDS} == {before + after}
    assert spent(tenant, "other") == standin.ledger()[-1].cost_pico
