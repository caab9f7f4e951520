"""Rates of limits and credentials through the running service: from live to repriced."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from decimal import ROUND_CEILING, Decimal
from typing import Any

import httpx
import pytest

from tests.acceptance.conftest import STORED
from tests.acceptance.tenant import CHAT, MESSAGES, Tenant, new_tenant
from tests.acceptance.test_background import ASKED, ENDED, ask, exact_pico, recorded
from tests.acceptance.test_live_prices import LISTED_PICO, MODEL, USAGE, xproxy
from tests.standin.process import Standin
from tests.standin.recordings import load
from tests.standin.service import Service

SECONDS = 5.0
"""How soon rates are live in every worker, as it is promised."""
PROMPT = [{"role": "user", "content": "Hi"}]
CLAUDE = "claude-haiku-4-5"
CLAUDE_USAGE = {"input_tokens": 101, "output_tokens": 7}
CLAUDE_PICO = 101 * 1_000_000 + 7 * 5_000_000
"""At $1 and $5 a million."""


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, standin: Standin) -> Iterator[Service]:
    """A service with two workers: rates must reach both."""
    data_dir = tmp_path_factory.mktemp("own-rates") / "data"
    with Service(data_dir, standin.url, XPROXY_WORKERS="2", **STORED) as service:
        yield service


@pytest.fixture
def tenant(live: Service, standin: Standin) -> Tenant:
    """A fresh application of it."""
    standin.wait_idle()
    standin.reset()
    return new_tenant(live)


def call(
    tenant: Tenant, *limits: str, path: str = CHAT, own_key: str | None = None
) -> httpx.Response:
    """One call, on a connection of its own: any worker may get it."""
    chat = path == CHAT
    told = {"usage": USAGE if chat else CLAUDE_USAGE}
    return httpx.post(
        tenant.service.url + path,
        json={
            "model": MODEL if chat else CLAUDE,
            "messages": PROMPT,
            "max_tokens": 20,
        },
        headers={
            "xProxy-Api-Key": tenant.key,
            "x-standin": json.dumps(told),
            **({"xProxy-Limit-IDs": ",".join(limits)} if limits else {}),
            **({"x-api-key": own_key} if own_key else {}),
        },
        timeout=30,
    )


def pico(response: httpx.Response) -> int:
    """What a call cost."""
    assert response.status_code == 200, response.text
    return int(Decimal(response.headers["xproxy-cost"]).scaleb(12))


def spent(tenant: Tenant, limit_id: str) -> dict[str, int]:
    """What a limit has counted: input, output, total."""
    costs = tenant.totals(limit_id)["cost"]
    return {name: int(Decimal(str(it["base"])).scaleb(12)) for name, it in costs.items() if it}


def rates(tenant: Tenant, *given: dict[str, Any], **whose: str) -> dict[str, Any]:
    """Set rates of the application's, or whose they are."""
    query: dict[str, Any] = {"application": tenant.application_id, **whose}
    return tenant.service.manage("PUT", "prices/own", {"rates": list(given)}, **query)


def until(done: Any) -> None:
    """Until something holds eight times in a row, whichever workers it asks."""
    deadline, right = time.monotonic() + SECONDS, 0
    while right < 8:
        right = right + 1 if done() else 0
        assert time.monotonic() < deadline, f"not live within {SECONDS} s"


def charged(tenant: Tenant, limit_id: str) -> int:
    """What the limit is charged for one more call, whose own cost stays as it is listed."""
    before = spent(tenant, limit_id)["total"]
    assert pico(call(tenant, limit_id)) == LISTED_PICO
    return spent(tenant, limit_id)["total"] - before


def test_a_limits_rates_are_its_own(tenant: Tenant) -> None:
    """A multiplier or prices, in every worker within seconds; the call, its row and a limit that
    is named beside it know nothing of them. The command sets them, and clears them."""
    for name in ("dear", "agreed", "plain"):
        tenant.limit(name)
    mine = ("--application", tenant.application_id)
    own = ("prices", "own", "set", "openai/*", "--multiplier", "1.5", "--limit", "dear", *mine)
    assert xproxy(tenant.service, *own).returncode == 0
    rates(tenant, {"match": f"openai/{MODEL}", "prices": {"output": "1.2"}}, limit="agreed")
    dear_pico, agreed_pico = LISTED_PICO * 3 // 2, 1_001 * 150_000 + 13 * 1_200_000
    until(lambda: charged(tenant, "dear") == dear_pico)
    until(lambda: charged(tenant, "agreed") == agreed_pico)

    before = {name: spent(tenant, name) for name in ("dear", "agreed", "plain")}
    answer = call(tenant, "dear", "agreed", "plain")
    after = {name: spent(tenant, name) for name in before}
    assert pico(answer) == LISTED_PICO
    assert Decimal(str(answer.json()["xproxy_result"]["cost"]["total"]["base"])).scaleb(12) == (
        LISTED_PICO
    )
    grown = {name: {k: after[name][k] - before[name][k] for k in after[name]} for name in after}
    into, out = 1_001 * 150_000, 13 * 600_000
    assert grown == {
        "dear": {"input": into * 3 // 2, "output": out * 3 // 2, "total": dear_pico},
        "agreed": {"input": into, "output": 2 * out, "total": agreed_pico},
        "plain": {"input": into, "output": out, "total": LISTED_PICO},
    }
    request_id = answer.headers["xproxy-request-id"]
    row = next(it for it in tenant.rows(17) if it["request_id"] == request_id)
    assert int(row["cost_pico"]) == LISTED_PICO
    amounts = {it["limit_id"]: int(Decimal(str(it["amount"])).scaleb(12)) for it in row["limits"]}
    assert amounts == {"dear": dear_pico, "agreed": agreed_pico, "plain": LISTED_PICO}

    clear = ("prices", "own", "clear", "--yes", "--limit", "dear", *mine)
    assert xproxy(tenant.service, *clear).returncode == 0
    until(lambda: charged(tenant, "dear") == LISTED_PICO)


def test_a_limit_that_is_made_again_has_no_rates(tenant: Tenant) -> None:
    """A limit's rates end with it, in every worker."""
    tenant.limit("team")
    rates(tenant, {"match": "*", "multiplier": "3"}, limit="team")
    until(lambda: charged(tenant, "team") == 3 * LISTED_PICO)
    tenant.manage("DELETE", "limits/team")
    tenant.limit("team")
    assert [charged(tenant, "team") for _ in range(8)] == [LISTED_PICO] * 8


def test_a_hard_cap_refuses_by_its_own_ceiling(tenant: Tenant) -> None:
    """What a call may cost at most at the cap's rates must fit, to the pico; the next call finds
    the cap used up, at its rates, as the stand-in has billed more than there are bytes."""
    probe = call(tenant, cap(tenant, "probe", 0))
    assert probe.status_code == 400
    most_pico = ceiling(tenant, len(probe.request.content), 20)
    less, fits = cap(tenant, "less", most_pico - 1), cap(tenant, "fits", most_pico)
    tenant.limit("live")
    rates(tenant, {"match": "*", "multiplier": "2.5"}, limit="live")
    until(lambda: charged(tenant, "live") == LISTED_PICO * 5 // 2)  # so are those set before it
    assert [call(tenant, less).status_code for _ in range(8)] == [400] * 8
    assert [call(tenant, fits).status_code for _ in range(8)] == [200, *[400] * 7]
    assert spent(tenant, fits)["total"] == LISTED_PICO * 5 // 2


def cap(tenant: Tenant, name: str, max_pico: int) -> str:
    """A hard cap of so much, which is charged two and a half times what calls cost; its id."""
    members = {"limit_id": name, "limit_name": name, "limit_type": "block", "hard_cap": True}
    usd = format(Decimal(max_pico).scaleb(-12), "f")
    answer = httpx.post(
        tenant.service.url + "/api/v1/limits",
        content=f'{json.dumps(members)[:-1]}, "max": {usd}}}',
        headers={"xProxy-Api-Key": tenant.key, "content-type": "application/json"},
    )
    assert answer.status_code == 201, answer.text
    rates(tenant, {"match": "*", "multiplier": "2.5"}, limit=name)
    return name


def ceiling(tenant: Tenant, size: int, out: int) -> int:
    """What a call of so many bytes costs at most at that: every byte a token, at the dearest price
    there is of any tier and scope, rounded up to the pico."""
    shown = tenant.manage("GET", f"prices/openai/{MODEL}")
    scopes = [Decimal(1), *map(Decimal, shown.get("scopes", {}).values())]

    def dearest(*, output: bool) -> int:
        each = max(
            Decimal(it["usd"])
            for it in shown["prices"]
            if it["per"] == 1_000_000 and it["unit"].startswith("output") is output
        )
        pico = each * 1_000_000 * max(scopes) * Decimal("2.5")
        return int(pico.to_integral_value(ROUND_CEILING))

    return size * dearest(output=False) + out * dearest(output=True)


def test_a_credentials_rates(tenant: Tenant) -> None:
    """They are of calls that the operator's stored key serves, before the application's; a call
    with a key of the caller's own costs what the application's say."""
    rates(tenant, {"match": "*", "multiplier": "0.9"})
    rates(tenant, {"match": "anthropic/*", "multiplier": "0.5"}, credential="env-anthropic")
    until(lambda: pico(call(tenant, path=MESSAGES)) == CLAUDE_PICO // 2)
    until(lambda: pico(call(tenant)) == LISTED_PICO * 9 // 10)
    own = call(tenant, path=MESSAGES, own_key="sk-ant-callers-own")
    assert pico(own) == CLAUDE_PICO * 9 // 10
    rows = tenant.rows(17)
    assert "credential" not in rows[-1]
    assert {(it["provider"], it["credential"]) for it in rows[:-1]} == {
        ("anthropic", "env-anthropic"),
        ("openai", "env-openai"),
    }


def test_a_stored_credentials_rates_and_limits(tenant: Tenant) -> None:
    """A call that a stored credential serves costs what its rates say, is on record under its slug,
    and counts against what is attached to it, whatever headers say."""
    tenant.limit("contract")
    whose = {"application": tenant.application_id}
    secret = {"slug": "main", "provider": "openai", "secret": "sk-of-the-contract-7c1e"}
    tenant.service.manage("POST", "credentials", secret | {"is_default": True}, **whose)
    tenant.service.manage("PUT", "attachments/credential/main/contract", **whose)
    rates(tenant, {"match": "openai/*", "multiplier": "0.5"}, credential="main")
    until(lambda: pico(call(tenant)) == LISTED_PICO // 2)
    rows = tenant.rows(8)
    assert {it["credential"] for it in rows[-8:]} == {"main"}
    before = spent(tenant, "contract")["total"]
    assert pico(call(tenant, path=MESSAGES)) == CLAUDE_PICO
    assert pico(call(tenant)) == LISTED_PICO // 2
    assert spent(tenant, "contract")["total"] == before + LISTED_PICO // 2


def test_repricing_charges_a_limit_its_own(tenant: Tenant) -> None:
    """Rates that come afterwards are charged by a run, to the limit alone, once."""
    for name in ("team", "plain"):
        tenant.limit(name)
    for _ in range(3):
        assert pico(call(tenant, "team", "plain")) == LISTED_PICO
    tenant.rows(3)
    rates(tenant, {"match": "*", "multiplier": "2"}, limit="team")
    time.sleep(1)  # until the second that `to` is by default
    query: dict[str, Any] = {"application": tenant.application_id}
    to = int(time.time())
    body = {"from": str(to - 600), "to": str(to), "apply": True, "run": "may"}
    first = tenant.service.manage("POST", "prices/reprice", body, **query)
    assert (first["corrected"], first["corrected_usd"]) == (3, 0)
    assert spent(tenant, "team")["total"] == 6 * LISTED_PICO
    assert spent(tenant, "plain")["total"] == 3 * LISTED_PICO
    rows = tenant.rows(6)
    assert sum(int(it["cost_pico"]) for it in rows) == 3 * LISTED_PICO
    again = tenant.service.manage("POST", "prices/reprice", body, **query)
    assert again["corrected"] == 0


@pytest.mark.skipif(not load("openai"), reason="no recordings: set XPROXY_RECORDINGS")
def test_a_correction_charges_a_limit_its_own(tenant: Tenant) -> None:
    """A response made in the background is estimated, then charged: by the limit's rates both."""
    tenant.limit("team")
    tenant.limit("plain")
    rates(tenant, {"match": "*", "multiplier": "2"}, limit="team")
    until(lambda: charged(tenant, "team") == 2 * LISTED_PICO)
    before = {name: spent(tenant, name)["total"] for name in ("team", "plain")}

    def grown() -> tuple[int, ...]:
        return tuple(spent(tenant, name)["total"] - its for name, its in before.items())

    taken_in = ask(tenant, ASKED, **{"xProxy-Limit-IDs": "team,plain"}).json()["xproxy_result"]
    expected = int(Decimal(str(taken_in["cost"]["total"]["base"])).scaleb(12))
    assert grown() == (2 * expected, expected)
    assert ask(tenant, ENDED).content == recorded(ENDED).body
    deadline = time.monotonic() + 10
    while grown() != (2 * exact_pico(), exact_pico()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert grown() == (2 * exact_pico(), exact_pico())
