"""LiteLLM's spend reports of real calls: its shapes, and sums that are ours to the pico-dollar."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest

from tests.acceptance.litellm import LiteLLM
from tests.acceptance.tenant import MESSAGES, new_tenant
from tests.standin.process import Standin
from tests.standin.service import Service

HAIKU = "claude-haiku-4-5"
# What LiteLLM's documentation shows of one row of /spend/logs.
LOG = {
    "request_id": str,
    "call_type": str,
    "api_key": str,
    "spend": Decimal,
    "total_tokens": int,
    "prompt_tokens": int,
    "completion_tokens": int,
    "startTime": str,
    "endTime": str,
    "model": str,
    "user": str,
    "metadata": dict,
    "cache_hit": str,
    "cache_key": str,
    "request_tags": list,
    "end_user": str,
}


@dataclass(frozen=True)
class Spenders:
    """An application whose keys have made calls, all of which have landed."""

    litellm: LiteLLM
    alice: dict[str, Any]
    """A key of a team and a user; it made two calls with tags, one for a customer."""
    bob: dict[str, Any]
    """A key of nobody's; it called Anthropic once, and was refused once."""
    day: str

    @property
    def span(self) -> dict[str, str]:
        """The day of the calls, which is in it whole."""
        return {"start_date": self.day, "end_date": self.day}

    def get(self, path: str, **query: Any) -> Any:
        """The answer about that day."""
        return self.litellm.get(path, **(self.span | query))

    def usage(self) -> list[dict[str, Any]]:
        """What our own page says of the same day."""
        end = datetime.fromisoformat(self.day).replace(tzinfo=UTC) + timedelta(days=1)
        span = {"from": self.day, "to": end.isoformat(), "page_size": "500"}
        items: list[dict[str, Any]] = self.litellm.tenant.manage("GET", "usage", **span)["items"]
        return items

    def total(self, tag: str | None = None, **wanted: str) -> Decimal:
        """What it sums up to, of those entries that have a tag and these members."""
        found = [
            pico(it)
            for it in self.usage()
            if (tag is None or tag in it["tags"])
            and all(it.get(name) == value for name, value in wanted.items())
        ]
        return sum(found, Decimal(0))


def pico(item: dict[str, Any]) -> Decimal:
    """What an item cost in USD, digit for digit."""
    return Decimal(item["cost_pico"]).scaleb(-12)


@pytest.fixture(scope="module")
def spenders(service: Service, standin: Standin) -> Spenders:
    """Calls of two keys, made on one day."""
    standin.wait_idle()
    standin.reset()
    tenant = new_tenant(service)
    litellm = LiteLLM(tenant)
    litellm.post("/team/new", team_id="search", team_alias="Search")
    litellm.post("/user/new", user_id="alice", auto_create_key=False)
    alice = litellm.generate(key_alias="a", team_id="search", user_id="alice", max_budget=1)
    bob = litellm.generate(key_alias="b")
    day = f"{datetime.now(UTC):%Y-%m-%d}"
    tags = {"xProxy-Request-Tags": "blue,green"}
    for headers in (tags, tags | {"xProxy-Account-Name": "acme"}):
        assert litellm.call(alice["key"], **headers).status_code == 200
    body = {"model": HAIKU, "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
    sent = {"Authorization": f"Bearer {bob['key']}", "xProxy-Request-Tags": "blue"}
    assert service.http.post(MESSAGES, json=body, headers=sent).status_code == 200
    litellm.post("/key/update", key=bob["key"], max_budget=0)
    while litellm.call(bob["key"]).status_code != 400:
        pass
    tenant.rows(4)
    return Spenders(litellm, alice, bob, day)


def test_rows_have_litellms_members(spenders: Spenders) -> None:
    """One row a call, the latest first; a key is its token, as everywhere."""
    rows = spenders.get("/spend/logs", summarize="false")
    assert rows[0]["status"] == "failure"
    served = [it for it in rows if it["status"] == "success"]
    assert len(served) == 3
    for row in served:
        for name, kind in LOG.items():
            assert isinstance(row[name], kind), (name, row[name])
        assert row["total_tokens"] == row["prompt_tokens"] + row["completion_tokens"] > 0
    newest, oldest = served[0], served[-1]
    assert (newest["model_group"], newest["call_type"]) == (HAIKU, "anthropic_messages")
    assert newest["model"].startswith(HAIKU)
    assert newest["api_key"] == spenders.bob["token"]
    assert oldest["api_key"] == spenders.alice["token"]
    assert (oldest["user"], oldest["team_id"]) == ("alice", "search")
    assert set(oldest["request_tags"]) == {"blue", "green"}
    assert served[1]["end_user"] == "acme"
    text = json.dumps(rows, default=str)
    for key in (spenders.alice, spenders.bob):
        assert key["key"] not in text


def test_sums_are_those_of_usage(spenders: Spenders) -> None:
    """Rows, days, keys, models, tags, teams: the same money, digit for digit."""
    total = spenders.total()
    assert total > 0
    rows = spenders.get("/spend/logs", summarize="false")
    assert sum(it["spend"] for it in rows) == total
    [day] = spenders.get("/spend/logs")
    assert day["startTime"] == spenders.day
    assert day["spend"] == total
    assert sum(day["models"].values()) == sum(day["users"].values()) == total
    assert day[spenders.alice["token"]] == spenders.total(key_id=spenders.alice["token"])
    assert day["users"]["alice"] == spenders.total(user_id="alice")
    activity = spenders.get("/user/daily/activity")
    assert activity["metadata"]["total_spend"] == total
    assert sum(it["spend"] for it in spenders.get("/global/spend/provider")) == total
    assert spenders.litellm.get("/global/spend")["spend"] == total
    [logs] = spenders.litellm.get("/global/spend/logs")
    assert logs == {"date": spenders.day, "spend": total}
    for group_by, members in (("team", "teams"), ("customer", "customers")):
        [report] = spenders.get("/global/spend/report", group_by=group_by)
        assert sum(it["total_spend"] for it in report[members]) == total
    for group_by in ("api_key", "user"):
        report = spenders.get("/global/spend/report", group_by=group_by)
        assert sum(it["total_cost"] for it in report) == total
        for it in report:
            assert sum(part["total_cost"] for part in it["model_details"]) == it["total_cost"]


def test_rows_are_found_by_key_user_and_id(spenders: Spenders) -> None:
    """By token or secret, by user, by the provider's id or ours; what is none has none."""
    alice, bob = spenders.alice, spenders.bob
    for named in (alice["key"], alice["token"]):
        rows = spenders.get("/spend/logs", summarize="false", api_key=named)
        assert [it["api_key"] for it in rows] == [alice["token"]] * 2
    assert len(spenders.get("/spend/logs", summarize="false", user_id="alice")) == 2
    rows = spenders.litellm.get("/spend/logs", api_key=bob["token"])
    one = next(it for it in rows if it["status"] == "success")
    for request_id in (one["request_id"], one["litellm_call_id"]):
        assert spenders.litellm.get("/spend/logs", request_id=request_id) == [one]
    for query in ({"request_id": "x"}, {"api_key": "sk-nobody"}, {"user_id": "eve"}):
        assert spenders.get("/spend/logs", summarize="false", **query) == []


def test_pages_have_every_row_once(spenders: Spenders) -> None:
    """/spend/logs/v2: by team, customer and model too; times instead of days."""
    rows = spenders.get("/spend/logs", summarize="false")
    seen, page = [], 1
    while True:
        answer = spenders.get("/spend/logs/v2", page=page, page_size=1)
        assert answer["total"] == answer["total_pages"] == len(rows)
        assert (answer["page"], answer["page_size"]) == (page, 1)
        if not answer["data"]:
            break
        seen += answer["data"]
        page += 1
    assert seen == rows
    assert spenders.get("/spend/logs/v2", team_id="search")["total"] == 2
    assert spenders.get("/spend/logs/v2", end_user="acme")["total"] == 1
    [haiku] = [it["model"] for it in rows if it["model"].startswith(HAIKU)]
    assert spenders.get("/spend/logs/v2", model=haiku)["total"] == 1
    times = {"start_date": f"{spenders.day} 00:00:00", "end_date": f"{spenders.day} 00:00:01"}
    assert spenders.litellm.get("/spend/logs/v2", **times)["total"] in (0, len(rows))


def test_spend_by_tag_key_and_user(spenders: Spenders) -> None:
    """A call with two tags is counted under each; who has spent most comes first."""
    tags = {it["individual_request_tag"]: it for it in spenders.get("/spend/tags")}
    assert set(tags) == {"blue", "green"}
    assert (tags["blue"]["log_count"], tags["green"]["log_count"]) == (3, 2)
    assert tags["blue"]["total_spend"] == spenders.total(tag="blue")
    [green] = spenders.get("/global/spend/tags", tags="green")["spend_per_tag"]
    assert green == {"name": "green", "spend": spenders.total(tag="green"), "log_count": 2}
    keys = spenders.litellm.get("/spend/keys")
    assert {it["token"] for it in keys} >= {spenders.alice["token"], spenders.bob["token"]}
    assert [it["spend"] for it in keys] == sorted((it["spend"] for it in keys), reverse=True)
    [user] = spenders.litellm.get("/spend/users", user_id="alice")
    assert user["spend"] == spenders.total(user_id="alice")
    top = spenders.litellm.get("/global/spend/keys", limit=1)
    assert len(top) == 1
    assert top[0].keys() == {"api_key", "key_alias", "key_name", "total_spend"}
    models = spenders.litellm.get("/global/spend/models")
    assert sum(it["total_spend"] for it in models) == spenders.total()
    [acme, others] = sorted(
        spenders.litellm.post("/global/spend/end_users"),
        key=lambda it: str(it["end_user"]),
        reverse=True,
    )
    assert (acme["end_user"], acme["total_count"]) == ("acme", 1)
    assert acme["total_spend"] + others["total_spend"] == spenders.total()


def test_reports_and_teams(spenders: Spenders) -> None:
    """The report of the enterprise edition, member by member; teams by their alias."""
    [day] = spenders.get("/global/spend/report", group_by="team")
    assert day["group_by_day"] == f"{spenders.day}T00:00:00+00:00"
    teams = {it["team_name"]: it for it in day["teams"]}
    assert set(teams) == {"Search", "Unassigned Team"}
    part = teams["Search"]["metadata"][0]
    assert part.keys() == {"model", "api_key", "spend", "total_tokens"}
    assert part["api_key"] == spenders.alice["token"]
    of_key = spenders.get("/global/spend/report", api_key=spenders.bob["key"])
    assert of_key[0].keys() == {
        *("api_key", "total_cost", "total_input_tokens", "total_output_tokens", "model_details"),
    }
    assert spenders.get("/global/spend/report", group_by="team", team_id="none") == []
    told = spenders.litellm.get("/global/spend/teams")
    assert set(told["teams"]) == {"Search", "Unassigned"}
    assert told["daily_spend"][0]["date"] == spenders.day
    assert told["daily_spend"][0]["Search"] == spenders.total(key_id=spenders.alice["token"])


@pytest.mark.parametrize(
    ("path", "entity", "query"),
    [
        ("/user/daily/activity", "alice", {"user_id": "alice"}),
        ("/tag/daily/activity", "green", {"tags": "green"}),
        ("/team/daily/activity", "search", {"team_ids": "search"}),
        ("/customer/daily/activity", "acme", {"end_user_ids": "acme"}),
        ("/end_user/daily/activity", "acme", {}),
    ],
)
def test_daily_activity(spenders: Spenders, path: str, entity: str, query: dict[str, str]) -> None:
    """Each day with its parts, which sum up to it."""
    answer = spenders.get(path, **query)
    [day] = answer["results"]
    assert day["date"] == spenders.day
    metrics, breakdown = day["metrics"], day["breakdown"]
    assert breakdown.keys() == {
        *("mcp_servers", "models", "model_groups", "providers", "endpoints", "api_keys"),
        "entities",
    }
    assert list(breakdown["entities"]) == [entity]
    calls = 1 if entity == "acme" else 2
    assert (metrics["api_requests"], metrics["successful_requests"]) == (calls, calls)
    for part in ("models", "providers", "endpoints", "api_keys", "entities"):
        parts = breakdown[part].values()
        assert sum(it["metrics"]["spend"] for it in parts) == metrics["spend"]
    its = breakdown["api_keys"][spenders.alice["token"]]["metadata"]
    assert (its["key_alias"], its["team_id"], its["user_id"]) == ("a", "search", "alice")
    metadata = answer["metadata"]
    assert metadata["total_spend"] == metrics["spend"]
    assert metadata["total_tokens"] == metrics["total_tokens"]
    assert (metadata["page"], metadata["total_pages"], metadata["has_more"]) == (1, 1, False)


BAD = [
    ("/spend/logs", {"start_date": "yesterday"}, "start_date"),
    ("/spend/logs", {"end_date": "2026-13-01"}, "end_date"),
    ("/spend/logs", {"start_date": "2026-02-01", "end_date": "2026-01-01"}, "start_date"),
    ("/spend/logs", {"summarize": "perhaps"}, "summarize"),
    ("/spend/logs/v2", {}, "start_date"),
    ("/spend/logs/v2", {"start_date": "2026-01-01", "end_date": "2026-01-02", "page": 0}, "page"),
    ("/spend/tags", {"start_date": "1767225600"}, "start_date"),
    ("/global/spend/tags", {"start_date": "2026-01-01"}, "end_date"),
    ("/global/spend/provider", {"end_date": "2026-01-01"}, "start_date"),
    ("/global/spend/keys", {"limit": "many"}, "limit"),
    ("/global/spend/report", {}, "start_date"),
    (
        "/global/spend/report",
        {"start_date": "2026-01-01", "end_date": "2026-01-02", "group_by": "moon"},
        "group_by",
    ),
    ("/user/daily/activity", {"start_date": "2026-01-01", "end_date": "9999"}, "end_date"),
    (
        "/tag/daily/activity",
        {"start_date": "2026-01-01", "end_date": "2026-01-02", "page_size": 0},
        "page_size",
    ),
]


@pytest.mark.parametrize(("path", "query", "param"), BAD)
def test_what_is_asked_wrongly(
    spenders: Spenders, path: str, query: dict[str, Any], param: str
) -> None:
    """400 in LiteLLM's shape, naming the parameter."""
    answer = spenders.litellm.ask("GET", path, **query)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert (error["param"], error["code"], error["type"]) == (param, "400", "bad_request_error")


def test_who_sees_what(spenders: Spenders, service: Service) -> None:
    """An app key sees its own application, of keys and users its own alone; others see nothing of
    it. Nobody asks without a key."""
    others = LiteLLM(new_tenant(service)).generate()["key"]

    def ask(key: str | None, path: str, **query: str) -> httpx.Response:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        return service.http.get(path, headers=headers, params=spenders.span | query)

    own = ask(spenders.alice["key"], "/spend/keys").json()
    assert [it["token"] for it in own] == [spenders.alice["token"]]
    assert [it["user_id"] for it in ask(spenders.alice["key"], "/spend/users").json()] == ["alice"]
    assert ask(spenders.bob["key"], "/spend/users").json() == []
    rows = ask(spenders.alice["key"], "/spend/logs", summarize="false")
    assert len(rows.json()) == len(spenders.get("/spend/logs", summarize="false"))
    for path in ("/spend/logs", "/spend/tags", "/global/spend/keys", "/global/spend/report"):
        assert ask(others, path).json() == [], path
        refused = ask(None, path)
        assert refused.status_code == 401
        assert refused.json()["error"]["type"] == "auth_error"


def test_answers_say_until_when_they_are_whole(spenders: Spenders) -> None:
    """`xproxy-as-of`: what has not landed then is not in it."""
    answer = spenders.litellm.ask("GET", "/spend/tags")
    as_of = datetime.fromisoformat(answer.headers["xproxy-as-of"])
    assert timedelta(0) <= datetime.now(UTC) - as_of < timedelta(minutes=1)
