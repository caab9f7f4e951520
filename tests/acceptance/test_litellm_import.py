"""A LiteLLM database, imported by the command: its keys go on working, its budgets go on."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.acceptance.conftest import STORED
from tests.acceptance.litellm import GPT, LiteLLM
from tests.acceptance.tenant import CHAT, Tenant
from tests.acceptance.test_credentials import came_with
from tests.acceptance.test_live_prices import xproxy
from tests.litellm.database import Database, litellm_database, naive
from tests.standin.process import Standin

NOW = datetime.now(UTC)
PARTS = ("budgets", "teams", "users", "customers", "keys", "days")


@pytest.fixture
def source(postgres_dsn: str) -> Iterator[Database]:
    """A LiteLLM database without rows."""
    with litellm_database(postgres_dsn) as database:
        yield database


@pytest.fixture
def litellm(tenant: Tenant) -> LiteLLM:
    """The management routes for the application that is imported into."""
    return LiteLLM(tenant)


def ran(tenant: Tenant, source: Database, *options: str) -> subprocess.CompletedProcess[str]:
    """The command, into a tenant's application."""
    which = ("--database-url", source.url, "--application", tenant.application_id)
    return xproxy(tenant.service, "import", "litellm", *which, *options)


def imported(tenant: Tenant, source: Database, *options: str) -> Any:
    """What it says as JSON, when all goes well."""
    done = ran(tenant, source, "--json", *options)
    assert done.returncode == 0, done.stderr + done.stdout
    return json.loads(done.stdout, parse_float=Decimal)


def test_an_old_key_goes_on_with_its_budget(
    litellm: LiteLLM, tenant: Tenant, source: Database
) -> None:
    """Of 0.001 it had spent 0.0009: what is left is spent here, and not a pico-dollar more."""
    secret = "sk-" + "a1B2" * 5 + "xy"
    source.key(
        secret,
        key_alias="prod",
        max_budget=0.001,
        spend=0.0009,
        budget_duration="30d",
        budget_reset_at=naive(NOW + timedelta(days=3)),
        models=[GPT],
        aliases={"fast": GPT},
        metadata={"tags": ["team-a"], "ratio": 0.1},
        user_id="alice",
        tpm_limit=100_000,
        created_at=naive(NOW - timedelta(days=40)),
    )
    assert litellm.call(secret).status_code == 401
    told = imported(tenant, source)
    assert told["parts"]["keys"] == {"imported": 1, "skipped": 0}

    info = litellm.get("/key/info", key=secret)["info"]
    asked = {
        "key_alias": "prod",
        "key_name": f"sk-...{secret[-4:]}",
        "spend": Decimal("0.0009"),
        "max_budget": Decimal("0.001"),
        "budget_duration": "30d",
        "models": [GPT],
        "aliases": {"fast": GPT},
        "tags": ["team-a"],
        "metadata": {"tags": ["team-a"], "ratio": Decimal("0.1")},
        "user_id": "alice",
        "tpm_limit": 100_000,
    }
    assert {name: info[name] for name in asked} == asked

    spent, calls = Decimal("0.0009"), 0
    while (answer := litellm.call(secret, "fast")).status_code == 200:
        spent += answer.json(parse_float=Decimal)["xproxy_result"]["cost"]["total"]["base"]
        calls += 1
        assert calls < 100
    assert answer.status_code == 400
    assert answer.json()["xproxy_error"]["code"] == "limit_reached"
    assert calls > 0
    assert Decimal("0.00095") < spent <= Decimal("0.001")
    assert litellm.get("/key/info", key=secret)["info"]["spend"] == spent
    rows = tenant.rows(calls + 2)
    assert {row["key_id"] for row in rows} == {info["token"]}
    found = tenant.service.manage("POST", "audit/check")
    assert found["differences"] == [], found


def test_all_that_share_budgets_come_along(
    litellm: LiteLLM, tenant: Tenant, source: Database
) -> None:
    """Budgets, teams, users and customers, each with what was spent in its present window; what a
    window that is over had is not counted; a double becomes its shortest decimal, rounded up."""
    later, before = naive(NOW + timedelta(days=2)), naive(NOW - timedelta(hours=1))
    stamps = {"created_by": "admin", "updated_by": "admin", "updated_at": before}
    source.insert(
        "BudgetTable",
        budget_id="tier",
        max_budget=2.5,
        budget_duration="1d",
        budget_reset_at=later,
        rpm_limit=7,
        **stamps,
    )
    source.insert("ModelTable", id=5, aliases={"quick": GPT}, **stamps)
    source.insert(
        "TeamTable",
        team_id="search",
        team_alias="Search",
        max_budget=10.0,
        spend=0.1 + 0.2,
        models=[GPT],
        model_id=5,
        budget_limits=[
            {"budget_duration": "1h", "max_budget": 1.0, "reset_at": later.isoformat()},
            {"budget_duration": "1d", "max_budget": 5.0, "reset_at": before.isoformat()},
        ],
        updated_at=before,
    )
    for duration, spend in (("1h", 0.25), ("1d", 0.75)):
        source.insert(
            "BudgetWindowSpend",
            entity_type="team",
            entity_id="search",
            window_duration=duration,
            window_start=before,
            spend=spend,
            updated_at=before,
        )
    source.insert("UserTable", user_id="alice", user_email="a@b.io", spend=0.125, updated_at=before)
    source.insert("EndUserTable", user_id="acme", alias="Acme", spend=1.5, budget_id="tier")
    source.insert("EndUserTable", user_id="gone", blocked=True)
    source.key("sk-team", team_id="search", max_budget=3.0, spend=1.0, budget_reset_at=before)
    source.key("sk-tier", budget_id="tier", spend=0.5, soft_budget_cooldown=False)
    source.key("sk-dashboard", team_id="litellm-dashboard")

    told = imported(tenant, source)
    assert told["parts"] == {
        "budgets": {"imported": 1, "skipped": 0},
        "teams": {"imported": 1, "skipped": 0},
        "users": {"imported": 1, "skipped": 0},
        "customers": {"imported": 2, "skipped": 0},
        "keys": {"imported": 2, "skipped": 1},
        "days": {"skipped": 0},
    }
    team = litellm.get("/team/info", team_id="search")["team_info"]
    assert team["spend"] == Decimal("0.300000000001")  # 0.30000000000000004 as LiteLLM has it
    assert (team["team_alias"], team["max_budget"], team["models"]) == ("Search", 10, [GPT])
    windows = tenant.manage("GET", "limits")["items"]
    settled = {it["limit_id"]: it["totals"]["cost"]["total"]["base"] for it in windows}
    assert settled["team:search:window:hour"] == Decimal("0.25")
    assert settled["team:search:window:day"] == 0
    user = litellm.get("/user/info", user_id="alice")["user_info"]
    assert (user["spend"], user["user_email"]) == (Decimal("0.125"), "a@b.io")
    customer = litellm.get("/customer/info", end_user_id="acme")
    assert (customer["spend"], customer["max_budget"]) == (Decimal("1.5"), Decimal("2.5"))
    assert customer["budget_id"] == "tier"
    of_team = litellm.get("/key/info", key="sk-team")["info"]
    assert (of_team["spend"], of_team["aliases"], of_team["team_id"]) == (
        0,
        {"quick": GPT},
        "search",
    )
    of_tier = litellm.get("/key/info", key="sk-tier")["info"]
    assert (of_tier["spend"], of_tier["max_budget"]) == (Decimal("0.5"), Decimal("2.5"))
    assert of_tier["rpm_limit"] == 7

    assert litellm.call("sk-team", "quick").status_code == 200
    assert litellm.call("sk-tier").status_code == 200
    refused = litellm.call("sk-tier", **{"xProxy-Account-Name": "gone"})
    assert refused.status_code == 403, refused.text
    assert litellm.get("/team/info", team_id="search")["team_info"]["spend"] > team["spend"]
    usage = tenant.manage("GET", "usage", page_size=500)["items"]
    assert sum(it["cost_usd"] for it in usage if it["surface"] == "import") == 0
    assert tenant.service.manage("POST", "audit/check")["differences"] == []


def test_what_did_not_work_there_does_not_work_here(
    litellm: LiteLLM, tenant: Tenant, source: Database
) -> None:
    """Blocked and expired keys, keys that there are none of, and the hashes themselves."""
    source.key("sk-blocked", blocked=True)
    source.key("sk-expired", expires=naive(NOW - timedelta(days=1)))
    token = source.key("sk-spent", max_budget=1.0, spend=1.0)
    source.key("sk-reads", key_type="read_only")
    imported(tenant, source)
    for shown in ("sk-blocked", "sk-expired", "sk-nobody", token, f"sk-{token}"):
        assert litellm.call(shown).status_code == 401, shown
    assert litellm.call("sk-spent").status_code == 400
    assert litellm.call("sk-reads").status_code == 403
    assert litellm.get("/key/info", key="sk-blocked")["info"]["status"] == "revoked"
    for answer in (litellm.ask("GET", "/key/list", return_full_object="true"),):
        assert token not in answer.text
    litellm.post("/key/unblock", key="sk-blocked")
    assert litellm.call("sk-blocked").status_code == 200
    litellm.post("/key/delete", keys=["sk-blocked"])
    assert litellm.call("sk-blocked").status_code == 401


def test_an_old_key_may_stand_wherever_a_key_may(
    litellm: LiteLLM, tenant: Tenant, source: Database, standin: Standin
) -> None:
    """In our header, in a provider's slot, in two of them; it never goes upstream. Beside one of
    ours it is a provider's key like any other."""
    secret = "sk-" + "Zz9" * 8
    source.key(secret)
    imported(tenant, source)
    http, body = (
        tenant.service.http,
        {"model": GPT, "messages": [{"role": "user", "content": "Hi"}]},
    )
    bearer = {"Authorization": f"Bearer {secret}"}
    for headers in (
        bearer,
        {"xProxy-Api-Key": secret},
        {"x-api-key": secret},
        bearer | {"x-api-key": secret},
        bearer | {"xProxy-Api-Key": secret},
    ):
        answer = http.post(CHAT, json=body, headers=headers)
        assert answer.status_code == 200, (headers, answer.text)
    other = {"Authorization": "Bearer sk-of-a-provider", "xProxy-Api-Key": secret}
    assert http.post(CHAT, json=body, headers=other).status_code == 200
    two = http.post(CHAT, json=body, headers=bearer | {"x-api-key": "sk-of-a-provider"})
    assert two.status_code == 401
    calls = standin.ledger()
    assert len(calls) == 6
    for call in calls[:5]:
        assert came_with(call, "authorization", STORED["OPENAI_API_KEY"])
        assert "x-api-key" not in {name.lower() for name in call.headers}
    assert came_with(calls[5], "authorization", "sk-of-a-provider")


def test_a_second_run_changes_nothing(litellm: LiteLLM, tenant: Tenant, source: Database) -> None:
    """Nothing is opened twice, nothing that was changed here is set back; the source is only
    read. A dry run says the same and does nothing."""
    source.insert("TeamTable", team_id="t", max_budget=1.0, spend=0.5, updated_at=naive(NOW))
    source.key("sk-k", key_alias="k", max_budget=1.0, spend=0.25, team_id="t")
    day = {"prompt_tokens": 5, "completion_tokens": 7, "api_requests": 2, "updated_at": naive(NOW)}
    source.insert(
        "DailyUserSpend",
        id="d1",
        user_id="alice",
        date=f"{NOW - timedelta(days=40):%Y-%m-%d}",
        api_key=source_token("sk-k"),
        model=GPT,
        custom_llm_provider="openai",
        spend=0.1,
        **day,
    )
    source.insert("DailyUserSpend", id="d2", date=f"{NOW:%Y-%m-%d}", api_key="x", spend=5.0, **day)
    before = source.fingerprint()

    dry = imported(tenant, source, "--dry-run")
    assert dry["parts"]["days"] == {"imported": 1, "skipped": 1}
    assert dry["parts"]["teams"]["imported"] == 1
    assert litellm.get("/team/list") == []
    first = imported(tenant, source)
    assert first["parts"]["keys"]["imported"] == 1
    litellm.post("/team/update", team_id="t", max_budget=2)
    litellm.post("/key/update", key="sk-k", models=[GPT])
    second = imported(tenant, source)
    assert second["parts"] == {
        name: {"unchanged": first["parts"][name]["imported"], "skipped": counts["skipped"]}
        if "imported" in (counts := first["parts"][name])
        else counts
        for name in PARTS
    }
    team = litellm.get("/team/info", team_id="t")["team_info"]
    assert (team["spend"], team["max_budget"]) == (Decimal("0.5"), 2)
    key = litellm.get("/key/info", key="sk-k")["info"]
    assert (key["spend"], key["models"]) == (Decimal("0.25"), [GPT])
    [row] = [it for it in all_rows(tenant) if it["entry"] == "imported"]
    assert (row["cost_usd"], row["key_id"], row["user_id"]) == (
        Decimal("0.1"),
        key["token"],
        "alice",
    )
    assert (row["input_tokens"], row["output_tokens"], row["model"]) == (5, 7, GPT)
    old = f"{NOW - timedelta(days=40):%Y-%m-%d}"
    span = {"start_date": old, "end_date": f"{NOW:%Y-%m-%d}"}
    [log] = litellm.get("/spend/logs", summarize="false", **span)
    assert (log["spend"], log["call_type"], log["total_tokens"]) == (Decimal("0.1"), "import", 12)
    [activity] = litellm.get("/user/daily/activity", **span)["results"]
    assert (activity["date"], activity["metrics"]["spend"]) == (old, Decimal("0.1"))
    assert activity["metrics"]["api_requests"] == 0
    assert source.fingerprint() == before
    assert tenant.service.manage("POST", "audit/check")["differences"] == []


def test_what_is_refused_is_said_and_the_rest_comes_along(
    litellm: LiteLLM, tenant: Tenant, source: Database
) -> None:
    """One line each, with what to do, and exit code 1; after that the command is run again."""
    source.key("sk-odd", key_alias="odd", max_budget=1.0, budget_duration="5mo")
    source.key("sk-fine", key_alias="fine", organization_id=None, model_max_budget={GPT: 1})
    litellm.post("/team/new", team_id="mine", max_budget=1)
    source.insert("TeamTable", team_id="mine", max_budget=9.0, spend=0.5, updated_at=naive(NOW))
    done = ran(tenant, source)
    assert done.returncode == 1
    assert "key odd: refused: Invalid budget_duration '5mo'" in done.stdout
    assert "team mine: exists" in done.stdout
    assert "key: model_max_budget (1)" in done.stdout
    assert "1 were refused" in done.stderr
    assert litellm.call("sk-fine").status_code == 200
    assert litellm.get("/team/info", team_id="mine")["team_info"]["spend"] == 0
    source.execute("""UPDATE "LiteLLM_VerificationToken" SET budget_duration = '3mo'""")
    assert ran(tenant, source).returncode == 0
    assert litellm.call("sk-odd").status_code == 200


def test_a_database_that_is_none_of_litellms(tenant: Tenant, postgres_dsn: str) -> None:
    """Says so, and what to look at; a password in the URL is not repeated."""
    wrong = {
        postgres_dsn: "LiteLLM_VerificationToken",
        "postgresql://u:s3cret@127.0.0.1:9/x": "does not answer",
        "nonsense": "does not answer",
    }
    for url, said in wrong.items():
        done = ran(tenant, Database(url))
        assert done.returncode == 1
        assert said in done.stderr
        assert "Traceback" not in done.stderr
        assert "s3cret" not in done.stderr


def all_rows(tenant: Tenant) -> list[dict[str, Any]]:
    """Usage rows, however old."""
    query: dict[str, str | int] = {"from": "2020-01-01", "page_size": 500}
    page = tenant.manage("GET", "usage", **query)
    return list(page["items"])


def source_token(secret: str) -> str:
    """LiteLLM's hash of a key."""
    return hashlib.sha256(secret.encode()).hexdigest()
