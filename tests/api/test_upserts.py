"""What a later report changes of a call: signed entries, so that sums by any label stay exact."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from metering.api.services import Services
from metering.core.keys import local_token
from metering.core.limits import Limit
from metering.core.record import UsageRow
from metering.store import requests, usage
from tests.api.conftest import MINE, NOW_MS
from tests.api.house import SECRET, House, built
from tests.api.test_ingest import COST_PICO, DAY_MS, GPT, TEXT, UPSERT

EVENT = GPT | {
    "units": TEXT,
    "provider_response_id": "r1",
    "limit_ids": ["team"],
    "user_id": "ann",
    "account_name": "acme",
    "use_case_name": "chat",
    "use_case_id": "u1",
    "use_case_step": "plan",
    "request_tags": ["x", "y"],
    "end_to_end_latency_ms": 10,
    "properties": {"kept": "1", "changed": "1", "gone": "1"},
    "use_case_properties": {"a": "1"},
}
KEY = {"provider_response_id": "r1", "category": "system.openai"}


@pytest.fixture
async def house(services: Services, redis_url: str, tmp_path: Path) -> AsyncIterator[House]:
    """The control plane with nothing doubled, and an `app` key that may report."""
    async with built(services, redis_url, tmp_path) as house:
        yield house


@pytest.fixture
async def team(house: House) -> Limit:
    """A limit that every call here counts against."""
    return await house.limit("team")


async def told(house: House) -> UsageRow:
    """The call as its rows tell once they have landed."""
    await house.rows()
    found = await requests.by_provider(house.services.store, MINE, "system.openai", "r1")
    assert found is not None
    return found.row


async def groups(house: House, by: usage.GroupBy) -> dict[str | None, tuple[int, int]]:
    """Calls and cost by a label, by hours and (the same) by rows."""
    await house.rows()
    filters = usage.Filters(application_id=MINE)
    page = await usage.query(house.services.store, filters, group_by=[by])
    found = {it.values[by]: (it.sums.calls, it.sums.cost_pico) for it in page.groups}
    odd = usage.Filters(application_id=MINE, from_ms=1)  # not of whole hours: rows must answer
    page = await usage.query(house.services.store, odd, group_by=[by])
    assert found == {it.values[by]: (it.sums.calls, it.sums.cost_pico) for it in page.groups}
    return {label: sums for label, sums in found.items() if sums != (0, 0)}


@pytest.mark.parametrize("landed", [False, True])
async def test_labels_move_with_the_money(house: House, team: Limit, *, landed: bool) -> None:
    """A call that is another user's, use case's and model's now is in their sums and in no others,
    calls and cost; the limit has what it costs now."""
    await house.ask(UPSERT, [EVENT])
    if landed:
        await house.rows()
    changes = {
        "user_id": "bob",
        "use_case_name": "search",
        "request_tags": ["z"],
        "resource": "gpt-4o",
        "end_to_end_latency_ms": 20,
    }
    answer = await house.ask(UPSERT, [EVENT | changes])
    assert (answer["ingest_count"], answer["corrected_count"]) == (0, 1)
    cost_pico = 1_000 * 2_500_000 + 100 * 10_000_000
    assert await house.settled(team) == (cost_pico, {"ok": 1})
    moved = (1, cost_pico)
    assert await groups(house, "user") == {"bob": moved}
    assert await groups(house, "use_case") == {"search": moved}
    assert await groups(house, "tag") == {"z": moved}
    assert await groups(house, "model") == {"gpt-4o": moved}
    assert await groups(house, "limit") == {"team": moved}
    row = await told(house)
    assert (row.user_id, row.use_case_name, row.tags) == ("bob", "search", ["z"])
    assert (row.model, row.model_requested, row.latency_ms) == ("gpt-4o", "gpt-4o", 20)
    assert (row.cost_pico, row.units) == (cost_pico, {"input_text": 1_000, "output_text": 100})
    again = await house.ask(UPSERT, [EVENT | changes])
    assert again["corrected_count"] == 0
    back = await house.ask(UPSERT, [EVENT])
    assert back["corrected_count"] == 1
    assert await groups(house, "user") == {"ann": (1, COST_PICO)}
    assert await groups(house, "tag") == {"x": (1, COST_PICO), "y": (1, COST_PICO)}
    assert await house.settled(team) == (COST_PICO, {"ok": 1})
    assert (await told(house)).user_id == "ann"


async def test_what_a_report_does_not_say_stays(house: House, team: Limit) -> None:
    """Members that are not there change nothing; properties are merged, a null takes one away."""
    await house.ask(UPSERT, [EVENT])
    before = await told(house)
    same = await house.ask(UPSERT, [KEY | {"units": TEXT}])
    assert same["corrected_count"] == 0
    properties = {"changed": "2", "new": "2", "gone": None}
    more = KEY | {
        "units": TEXT,
        "properties": properties,
        "use_case_properties": {"b": "2"},
        "time_to_first_token_ms": 5,
        "use_case_step": "act",
    }
    assert (await house.ask(UPSERT, [more]))["corrected_count"] == 1
    row = await told(house)
    assert row.properties == {"kept": "1", "changed": "2", "new": "2"}
    assert row.use_case_properties == {"a": "1", "b": "2"}
    assert (row.ttft_ms, row.latency_ms, row.use_case_step) == (5, 10, "act")
    assert (row.user_id, row.account_name, row.tags) == ("ann", "acme", ["x", "y"])
    assert (row.cost_pico, row.at_ms) == (COST_PICO, before.at_ms)
    entries = [it.entry for it in await house.rows()]
    assert len(entries) == 2  # nothing it is summed by has changed: one entry, of nothing
    url = f"/api/v1/requests/{row.request_id}/properties"
    body = {"properties": {"new": "3", "kept": None}}
    assert (await house.bench.ask("PUT", url, body, key=house.key)).status_code == 200
    assert (await told(house)).properties == {"changed": "2", "new": "3"}


async def test_time_and_limits_stay(house: House, team: Limit) -> None:
    """Windows have been charged: time and limits are those of the first report, and it is priced by
    the prices of that time, whatever a later one says."""
    other = await house.limit("other")
    past_ms = NOW_MS - 2 * DAY_MS
    first = EVENT | {"event_timestamp": str(past_ms // 1000)}
    await house.ask(UPSERT, [first])
    later = EVENT | {"limit_ids": ["other"], "units": {"text": {"input": 2_000, "output": 200}}}
    assert (await house.ask(UPSERT, [later]))["corrected_count"] == 1
    row = await told(house)
    assert row.at_ms == past_ms // 1000 * 1000
    assert row.cost_pico == 2 * COST_PICO
    assert await house.settled(team) == (2 * COST_PICO, {"ok": 1})
    assert await house.settled(other) == (0, {})


async def test_a_failure_turns_out_a_success_and_back(house: House, team: Limit) -> None:
    """It costs what it used as long as it is none; limits count it in the state it was first."""
    failed = EVENT | {"http_status_code": 500}
    await house.ask(UPSERT, [failed])
    assert await house.settled(team) == (0, {"failed": 1})
    for status, cost_pico, name in ((200, COST_PICO, "ok"), (500, 0, "failed")):
        event: dict[str, Any] = EVENT | {"http_status_code": status}
        assert (await house.ask(UPSERT, [event]))["corrected_count"] == 1
        assert await house.settled(team) == (cost_pico, {"failed": 1})
        row = await told(house)
        assert (row.status, row.http_status, row.cost_pico) == (name, status, cost_pico)
        assert await groups(house, "status") == {name: (1, cost_pico)}
        result = await house.bench.ask(
            "GET", f"/api/v1/requests/{row.request_id}/result", key=house.key
        )
        cost = result.json()["xproxy_result"].get("cost", {"total": {"base": 0}})
        assert cost["total"]["base"] == cost_pico / 10**12


async def test_of_several_in_one_request_the_last_holds(house: House, team: Limit) -> None:
    """Each correction has a name of its own, so none is taken for one that was made before."""
    events = [EVENT | {"user_id": name} for name in ("ann", "bob", "eve")]
    answer = await house.ask(UPSERT, events)
    assert (answer["ingest_count"], answer["corrected_count"]) == (1, 2)
    assert await groups(house, "user") == {"eve": (1, COST_PICO)}
    assert (await told(house)).user_id == "eve"


async def test_whose_key_reports_it_later_changes_nothing(house: House, team: Limit) -> None:
    """A key's own user stands for a report that names none; a later one by it moves no call."""
    admin = local_token(SECRET, NOW_MS // 1000)
    body = {"name": "z", "permissions": ["ingest"], "user_id": "zoe", "customer": "zoo"}
    zoe = (await house.bench.ask("POST", "/api/v1/keys", body, key=admin)).json()["key"]
    await house.ask(UPSERT, [EVENT])
    unnamed = KEY | {"units": TEXT}
    answer = await house.bench.ask("POST", UPSERT, [unnamed], key=zoe)
    assert answer.json()["corrected_count"] == 0
    new = unnamed | {"provider_response_id": "r2"}
    assert (await house.bench.ask("POST", UPSERT, [new], key=zoe)).json()["ingest_count"] == 1
    users = {(it.user_id, it.account_name) for it in await house.rows()}
    assert users == {("ann", "acme"), ("zoe", "zoo")}
