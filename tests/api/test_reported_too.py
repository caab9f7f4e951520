"""Calls that were made through us and are reported as well: charged once, as they were measured."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import msgspec
import pytest

from metering.api.services import Services
from metering.core.estimate import Learned
from metering.core.ids import uuid7_text
from metering.core.limits import Bounds, Limit
from metering.core.record import UsageRow
from metering.directory import Directory
from metering.ledger import Hold, Ledger
from metering.meter import Meter, Reports
from metering.redis import Redis
from metering.settings import Settings
from metering.spool import Spool
from tests.api.conftest import MINE, NOW_MS, Bench
from tests.api.house import House, built
from tests.api.test_ingest import BULK, COST_PICO, GPT, INGEST, TEXT, UPSERT

MEASURED_PICO = 7 * 10**9
NAME = "chatcmpl-1"
BODY = GPT | {"units": TEXT, "provider_response_id": NAME}


@pytest.fixture
async def house(services: Services, redis_url: str, tmp_path: Path) -> AsyncIterator[House]:
    """The control plane with nothing doubled, and an `app` key that may report."""
    async with built(services, redis_url, tmp_path) as house:
        yield house


@pytest.fixture
async def team(house: House) -> Limit:
    """A limit that every call here counts against."""
    return await house.limit("team")


async def proxied(house: House, team: Limit, name: str = NAME) -> UsageRow:
    """A call as the proxy makes it, charged what it was measured to cost."""
    row = UsageRow(
        application_id=MINE,
        request_id=uuid7_text(NOW_MS, house.services.random(10)),
        at_ms=NOW_MS,
        provider="openai",
        category="system.openai",
        status="unresolved",
        model="gpt-4o-mini",
    )
    hold = await house.ledger.reserve(row, [team], Bounds(), expected_ms=1)
    assert isinstance(hold, Hold)
    ended = msgspec.structs.replace(
        row, status="ok", provider_id=name, cost_pico=MEASURED_PICO, input_pico=MEASURED_PICO
    )
    assert await house.ledger.settle(hold, ended, 7) is not None
    return ended


@pytest.mark.parametrize("landed", [False, True])
async def test_a_report_of_a_call_that_was_made_here_is_a_duplicate(
    house: House, team: Limit, *, landed: bool
) -> None:
    """Answered with the call's request id and result, in whichever form it is reported, whether
    its row has landed or not; the names that come along are the call's from then on."""
    call = await proxied(house, team)
    if landed:
        await house.rows()
    again = [
        (INGEST, BODY),
        (f"{INGEST}?id={NAME}", GPT | {"units": TEXT}),
        (f"{INGEST}?id=another", BODY),
        (f"{INGEST}?id=another", GPT | {"units": TEXT}),
    ]
    for path, body in again:
        answer = await house.ask(path, body, **{"xProxy-Limit-IDs": "team"})
        assert answer["request_id"] == call.request_id
        result = answer["xproxy_result"]
        assert result["duplicate_request"] is True
        assert result["cost"]["total"]["base"] == 0.007
        assert result["limits"] == {"team": {"state": "ok"}}
    new = BODY | {"provider_response_id": "new"}
    many = await house.ask(BULK, [BODY, BODY, new])
    assert (many["ingest_count"], many["duplicate_count"]) == (1, 2)
    assert (await house.settled(team))[0] == MEASURED_PICO
    rows = await house.rows()
    assert sorted(row.cost_pico for row in rows) == [COST_PICO, MEASURED_PICO]


async def test_what_is_reported_of_it_is_kept_with_it(house: House, team: Limit) -> None:
    """Bodies of a report are the call's, found by the call's own request id."""
    call = await proxied(house, team)
    await house.ask(INGEST, BODY | {"provider_request_json": "said"})
    url = f"/api/v1/requests/{call.request_id}/bodies"
    found = (await house.bench.ask("GET", url, key=house.key)).json()
    assert found["provider_request_json"] == "said"


@pytest.mark.parametrize("landed", [False, True])
async def test_what_was_measured_is_not_changed_by_what_is_said(
    house: House, team: Limit, *, landed: bool
) -> None:
    """An upsert of a call that was made here corrects nothing: it could make it cheaper."""
    await proxied(house, team)
    if landed:
        await house.rows()
    nothing = BODY | {"units": {"text": {"input": 0}}}
    answer = await house.ask(UPSERT, [nothing])
    assert (answer["duplicate_count"], answer["corrected_count"]) == (1, 0)
    assert (await house.settled(team))[0] == MEASURED_PICO
    assert sum(row.cost_pico for row in await house.rows()) == MEASURED_PICO


async def test_another_category_or_application_is_another_call(house: House, team: Limit) -> None:
    """Providers' ids are theirs alone, whatever characters they and their categories have."""
    calls = {(await proxied(house, team)).request_id}
    for category, name in (
        ("system.azureopenai", NAME),
        ("a:b", "c"),
        ("a", "b:c"),
        ("a:b:c", "d"),
    ):
        event = BODY | {"category": category, "provider_response_id": name}
        other = await house.ask(INGEST, event)
        calls.add(other["request_id"])
        assert "duplicate_request" not in other["xproxy_result"]
    assert len(calls) == 5


async def test_a_report_that_comes_before_the_call_has_ended_is_taken_back(
    house: House, team: Limit
) -> None:
    """It cannot be known then, so it is charged; when the call ends, what was measured stands and
    the report costs nothing any more, by a signed entry."""
    early = await house.ask(INGEST, BODY, **{"xProxy-Limit-IDs": "team"})
    assert (await house.settled(team))[0] == COST_PICO
    call = await proxied(house, team)
    assert (await house.settled(team))[0] == MEASURED_PICO
    late = await house.ask(INGEST, BODY)
    assert late["request_id"] == call.request_id
    rows = await house.rows()
    assert {row.entry for row in rows if row.request_id == early["request_id"]} == {
        "call",
        "proxied",
    }
    assert sum(row.cost_pico for row in rows) == MEASURED_PICO
    url = f"/api/v1/requests/{early['request_id']}/result"
    found = (await house.bench.ask("GET", url, key=house.key)).json()["xproxy_result"]
    assert found["cost"]["total"]["base"] == 0


async def test_a_report_that_found_no_redis_is_asked_about_when_it_is_back(
    house: House, team: Limit, redis_url: str, tmp_path: Path
) -> None:
    """It is taken into the journal, since nobody can tell; of its calls those are charged at the
    replay that were not made here."""
    spool = Spool(tmp_path / "away", "test")
    away = Ledger(Redis("redis://127.0.0.1:9", 200), house.services.store, spool, hold_ttl_ms=1_000)
    meter = Meter(house.services.prices.now, away, Learned())
    directory = cast(Directory, house.services.directory)
    reports = Reports(Settings(), directory, meter, house.services.archive)
    services = replace(house.services, ledger=away, reports=reports)
    await proxied(house, team)
    bench = Bench(services)
    async with bench.http:
        events = [BODY, BODY | {"provider_response_id": "new"}]
        answer = await bench.ask("POST", BULK, events, key=house.key)
    assert answer.json()["ingest_count"] == 2
    redis = Redis(redis_url, 5_000)
    back = Ledger(redis, house.services.store, spool, hold_ttl_ms=1_000)
    assert await back.replay() == 2
    await redis.close()
    rows = await house.rows()
    assert sorted(row.cost_pico for row in rows) == [COST_PICO, MEASURED_PICO]
