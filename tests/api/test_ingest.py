"""Calls that were made elsewhere: reported, charged once, found again, corrected. Real parts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import msgspec
import pytest

from metering.api.services import Services
from metering.core.estimate import Learned
from metering.core.keys import local_token
from metering.core.money import PICO_PER_USD
from metering.directory import Directory, limit_topic
from metering.ledger import Ledger
from metering.meter import Meter, Reports
from metering.redis import Redis, share
from metering.settings import Settings
from metering.spool import Spool
from metering.store import ingested, requests, usage
from tests.api.conftest import MINE, NOW_MS, Bench
from tests.api.house import SECRET, House, built

INGEST, BULK, UPSERT = "/api/v1/ingest", "/api/v1/ingest/bulk", "/api/v1/ingest/bulk-upsert"
GPT = {"category": "system.openai", "resource": "gpt-4o-mini"}
TEXT = {"text": {"input": 1_000, "output": 100}}
COST_PICO = 1_000 * 150_000 + 100 * 600_000
"""What TEXT costs of GPT: $0.15 and $0.60 for a million tokens."""
DAY_MS = 86_400_000


@pytest.fixture
async def house(services: Services, redis_url: str, tmp_path: Path) -> AsyncIterator[House]:
    """The control plane with nothing doubled, and an `app` key that may report."""
    async with built(services, redis_url, tmp_path) as house:
        yield house


@asynccontextmanager
async def redis_of(url: str) -> AsyncIterator[Redis]:
    """A connection of the test's own."""
    redis = Redis(url, 5_000)
    yield redis
    await redis.close()


async def test_a_call_is_priced_from_its_units(house: House) -> None:
    """Units that Pay-i's clients name are charged at the list's prices, and the row says whose."""
    team = await house.limit("team")
    units = {
        "text": {"input": 1_000},
        "text_cache_read": {"input": 200},
        "reasoning": {"output": 9},
    }
    body = GPT | {
        "units": units,
        "end_to_end_latency_ms": 1_500,
        "time_to_first_token_ms": 20,
        "time_to_first_completion_token_ms": 30,
        "http_status_code": 200,
        "provider_uri": "https://user:pass@eu.api.openai.com/v1/",
        "properties": {"team": "search", "gone": None},
    }
    headers = {"xProxy-Limit-IDs": "team", "xProxy-User-ID": "u", "xProxy-UseCase-Version": "0"}
    answer = await house.ask(INGEST, body, **headers)
    result = answer["xproxy_result"]
    cost_pico = 1_000 * 150_000 + 200 * 75_000 + 9 * 600_000
    assert result["cost"]["total"]["base"] == cost_pico / PICO_PER_USD
    assert result["limits"] == {"team": {"state": "ok"}}
    assert "unknown_units" not in result
    assert await house.settled(team) == (cost_pico, {"ok": 1})
    [row] = await house.rows()
    assert row.request_id == answer["request_id"] == result["request_id"]
    assert row.units == {"input_text": 1_000, "cache_read": 200, "reasoning": 9}
    assert (row.surface, row.provider, row.category) == ("ingest", "openai", "system.openai")
    assert (row.latency_ms, row.ttft_ms, row.ttfct_ms) == (1_500, 20, 30)
    assert (row.provider_host, row.user_id, row.http_status) == ("eu.api.openai.com", "u", 200)
    assert (row.properties, row.use_case_version) == ({"team": "search"}, None)


async def test_units_without_a_price_are_said_and_cost_nothing(house: House) -> None:
    """A type that the resource has no price for is unknown; so is everything of an unknown one."""
    units = {"text": {"input": 1_000, "output": 0}, "foo": {"input": 3, "output": 4}, "bar": {}}
    known = (await house.ask(INGEST, GPT | {"units": units}))["xproxy_result"]
    assert known["unknown_units"] == {"foo": {"input": 3, "output": 4}}
    assert known["cost"]["total"]["base"] == 1_000 * 150_000 / PICO_PER_USD
    body = {"category": "mine", "resource": "system.unknown_model", "units": units}
    unknown = (await house.ask(INGEST, body))["xproxy_result"]
    assert "cost" not in unknown
    assert "no price is known" in unknown["warnings"][0]
    rows = {row.category: row for row in await house.rows()}
    assert rows["mine"].pricing == "unpriced"
    assert rows["system.openai"].units == {"input_text": 1_000, "output_text": 0} | {
        "foo.input": 3,
        "foo.output": 4,
    }


async def test_a_failed_call_costs_nothing_and_is_counted(house: House) -> None:
    """A status from 400 on is a failure; 299, the SDK's mark of a failure of meaning, was paid."""
    team = await house.limit("team")
    limits = {"xProxy-Limit-IDs": "team"}
    failed = await house.ask(INGEST, GPT | {"units": TEXT, "http_status_code": 429}, **limits)
    assert failed["xproxy_result"]["limits"] == {"team": {"state": "failed"}}
    assert "cost" not in failed["xproxy_result"]
    await house.ask(INGEST, GPT | {"units": TEXT, "http_status_code": 299}, **limits)
    await house.ask(INGEST, GPT | {"units": TEXT, "http_status_code": 0}, **limits)
    assert await house.settled(team) == (2 * COST_PICO, {"failed": 1, "ok": 2})
    rows = sorted((row.status, row.http_status) for row in await house.rows() if row.http_status)
    assert rows == [("failed", 429), ("ok", 299)]


@pytest.mark.parametrize("landed", [False, True])
async def test_a_call_is_charged_once_under_each_of_its_names(
    house: House, *, landed: bool
) -> None:
    """`?id=` and the provider's id are names of one call, before its row has landed and after."""
    team = await house.limit("team")
    body, limits = GPT | {"units": TEXT}, {"xProxy-Limit-IDs": "team"}
    named = body | {"provider_response_id": "chatcmpl-1"}
    first = await house.ask(f"{INGEST}?id=mine", named, **limits)
    if landed:
        await house.rows()
    for path, again in (
        (f"{INGEST}?id=mine", body),
        (INGEST, named),
        (f"{INGEST}?id=chatcmpl-1", body),
        (f"{INGEST}?id=another", named),
        (f"{INGEST}?id=another", body),
    ):
        repeated = await house.ask(path, again, **limits)
        assert repeated["request_id"] == first["request_id"]
        assert repeated["xproxy_result"]["duplicate_request"] is True
        assert repeated["xproxy_result"]["cost"] == first["xproxy_result"]["cost"]
        assert repeated["event_timestamp"] == first["event_timestamp"]
    other = await house.ask(INGEST, named | {"category": "system.azureopenai"}, **limits)
    assert other["request_id"] != first["request_id"]
    assert (await house.settled(team))[1] == {"ok": 2}
    assert len(await house.rows()) == 2


async def test_a_call_that_was_named_and_not_charged_is_charged_by_whoever_comes_next(
    house: House,
) -> None:
    """A worker that dies between the two leaves a name; the next report of the call charges it."""
    lost = "01a1a1a1-0000-7000-8000-000000000001"
    await ingested.claim(house.services.store, MINE, {lost: [("system.openai", "r1")]})
    body = GPT | {"units": TEXT, "provider_response_id": "r1"}
    answer = await house.ask(INGEST, body)
    assert answer["request_id"] == lost
    assert answer["xproxy_result"]["cost"]["total"]["base"] == COST_PICO / PICO_PER_USD
    assert await house.ask(INGEST, body) == answer
    [row] = await house.rows()
    assert (row.request_id, row.cost_pico) == (lost, COST_PICO)


async def test_a_call_counts_in_the_window_its_time_is_in(house: House) -> None:
    """The day before yesterday's call is of that day: in its row, its hour and its limit's window,
    which has ended; a limit without one counts it now. One from before its limit counts in the
    limit's first window, one that is dated ahead in the one that is now."""
    old = await house.limit("old", window={"every": "day"})
    new = await house.limit("new", window={"every": "day"})
    ever = await house.limit("ever")
    async with house.services.store.connection() as connection:
        await connection.execute(
            "UPDATE limits SET epoch = 1, created_at = to_timestamp(0) WHERE limit_id = 'old'"
        )
    await house.services.directory.changed(limit_topic(MINE, "old"))
    past_ms, ahead_ms = (NOW_MS - 2 * DAY_MS) // 1000 * 1000, NOW_MS + 299_000
    for at_ms in (past_ms, ahead_ms):
        body = GPT | {"units": TEXT, "event_timestamp": f"{at_ms // 1000}"}
        answer = await house.ask(INGEST, body, **{"xProxy-Limit-IDs": "old,new,ever"})
        moment = datetime.fromisoformat(answer["event_timestamp"])
        assert moment.timestamp() * 1000 == at_ms // 1000 * 1000
    rows = await house.rows()
    assert sorted(row.at_ms for row in rows) == [past_ms, ahead_ms]
    found = await usage.query(house.services.store, usage.Filters())
    epochs = {
        (entry.row.at_ms, charge.limit_id): charge.epoch
        for entry in found.entries
        for charge in entry.charges
    }
    assert epochs[past_ms, "old"] == past_ms // DAY_MS * DAY_MS
    assert epochs[ahead_ms, "old"] == NOW_MS // DAY_MS * DAY_MS
    assert epochs[past_ms, "new"] == epochs[ahead_ms, "new"] == new.epoch
    # by Redis's clock, which is the real one, both of these days are over
    for limit, expected in ((old, 0), (ever, 2 * COST_PICO)):
        assert (await house.settled(limit))[0] == expected


async def test_what_has_landed_is_forgotten_soon(house: House, redis_url: str) -> None:
    """Redis keeps what stops a second charge for a minute; after that the rows know the call."""
    body = GPT | {"units": TEXT, "provider_response_id": "r1"}
    made = await house.ask(INGEST, body)
    await house.rows()
    record = share(MINE).record(made["request_id"], 1)
    async with redis_of(redis_url) as redis:
        assert 50_000 < await redis.call("PTTL", record) <= 60_000
        await redis.call("DEL", record, share(MINE).index("system.openai", "r1"))
    again = await house.ask(INGEST, body)
    assert again["request_id"] == made["request_id"]
    assert again["xproxy_result"]["duplicate_request"] is True
    assert len(await house.rows()) == 1


async def test_what_finds_no_redis_is_charged_when_it_is_back(
    house: House, redis_url: str, tmp_path: Path
) -> None:
    """It is in the journal: the report is taken, says that states are not known, and is charged
    once, whoever reports it again meanwhile; that, nobody can answer before."""
    team = await house.limit("team")
    spool = Spool(tmp_path / "away", "test")
    away = Ledger(Redis("redis://127.0.0.1:9", 200), house.services.store, spool, hold_ttl_ms=1_000)
    meter = Meter(house.services.prices.now, away, Learned())
    directory = cast(Directory, house.services.directory)
    reports = Reports(Settings(), directory, meter, house.services.archive)
    services = replace(house.services, ledger=away, reports=reports)
    body = GPT | {"units": TEXT, "provider_response_id": "r1"}
    limits = {"xProxy-Limit-IDs": "team"}
    bench = Bench(services)
    async with bench.http:
        taken = await bench.ask("POST", INGEST, body, key=house.key, headers=limits)
        again = await bench.ask("POST", INGEST, body, key=house.key, headers=limits)
    assert taken.status_code == 200
    assert "limit states are not known yet" in taken.json()["xproxy_result"]["warnings"]
    assert (again.status_code, again.headers["retry-after"]) == (503, "1")
    assert await house.settled(team) == (0, {})
    async with redis_of(redis_url) as redis:
        back = Ledger(redis, house.services.store, spool, hold_ttl_ms=1_000)
        assert await back.replay() == 1
    assert await house.settled(team) == (COST_PICO, {"ok": 1})
    known = await house.ask(INGEST, body, **limits)
    assert known["request_id"] == taken.json()["request_id"]
    assert await house.settled(team) == (COST_PICO, {"ok": 1})
    assert len(await house.rows()) == 1


async def test_what_is_attached_counts_even_if_it_blocks(house: House) -> None:
    """A limit that blocks may not be named; one that binds the user is charged what was spent."""
    blocking = await house.limit("hard", limit_type="block", hard_cap=True)
    admin = local_token(SECRET, NOW_MS // 1000)
    path = "/api/v1/attachments/user/u/hard"
    assert (await house.bench.ask("PUT", path, key=admin)).status_code in (200, 201)
    body = GPT | {"units": TEXT}
    status, code, _ = await house.refused(INGEST, body, **{"xProxy-Limit-IDs": "hard"})
    assert (status, code) == (400, "blocking_limit_not_allowed")
    await house.ask(INGEST, body, **{"xProxy-User-ID": "u"})
    assert await house.settled(blocking) == (COST_PICO, {"ok": 1})


@pytest.mark.parametrize(
    ("member", "value", "code", "word"),
    [
        ("units", None, "required_field_missing", "units"),
        ("units", {"text": {"input": -1}}, "request_processing_error", "units.text.input"),
        ("units", {"text": {"input": 2**31}}, "request_processing_error", "units.text.input"),
        ("units", {"text": {"input": "1"}}, "request_processing_error", "input"),
        ("units", {"": {"input": 1}}, "request_processing_error", "units"),
        ("units", [], "request_processing_error", "units"),
        ("units", {str(n): {} for n in range(65)}, "request_processing_error", "units"),
        ("category", "", "request_processing_error", "category"),
        ("category", 5, "request_processing_error", "category"),
        ("category", "a\0", "request_processing_error", "category"),
        ("event_timestamp", "soon", "request_processing_error", "event_timestamp"),
        ("event_timestamp", "2099-01-01", "invalid_ingest_event_timestamp", "5 minutes"),
        ("event_timestamp", "1969-12-31", "invalid_ingest_event_timestamp", "1970"),
        ("http_status_code", -1, "request_processing_error", "http_status_code"),
        ("end_to_end_latency_ms", 2**31, "request_processing_error", "end_to_end_latency_ms"),
        ("end_to_end_latency_ms", "9", "request_processing_error", "end_to_end_latency_ms"),
        ("provider_response_id", "x" * 257, "request_processing_error", "provider_response_id"),
        ("properties", {"": "x"}, "request_processing_error", "properties"),
        ("properties", {"a": 5}, "request_processing_error", "properties"),
        ("provider_request_headers", [{}], "required_field_missing", "name"),
    ],
)
async def test_bad_reports_are_refused_by_name(
    house: House, member: str, value: object, code: str, word: str
) -> None:
    """What is wrong is named, in single reports and among many, where the others are taken."""
    body = GPT | {"units": TEXT} | {member: value}
    status, found, message = await house.refused(INGEST, body)
    assert (status, found) == (400, code), message
    assert word in message
    many = await house.ask(BULK, [GPT | {"units": TEXT}, body])
    assert (many["ingest_count"], many["error_count"], many["total_count"]) == (1, 1, 2)
    [fault] = many["errors"]
    assert fault["item_index"] == 1
    assert fault["xproxy_result"]["xproxy_error"]["code"] == code
    assert word in fault["xproxy_result"]["message"]
    assert len(await house.rows()) == 1


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"xProxy-Limit-IDs": "none"}, "invalid_limit_ids"),
        ({"xProxy-Limit-IDs": "a,a"}, "duplicate_limit_id"),
        ({"xProxy-Limit-IDs": "a b"}, "invalid_limit_id"),
        ({"xProxy-User-ID": "a b"}, "invalid_user_id"),
        ({"xProxy-Request-Tags": "a b"}, "invalid_tags"),
        ({"xProxy-UseCase-Name": "a b"}, "invalid_use_case_name"),
    ],
)
async def test_annotations_follow_the_same_rules_everywhere(
    house: House, headers: dict[str, str], code: str
) -> None:
    """Headers of a report, and members of one among many, are checked as those of proxied calls."""
    status, found, _ = await house.refused(INGEST, GPT | {"units": TEXT}, **headers)
    assert (status, found) == (400, code)
    member = {
        "xProxy-Limit-IDs": "limit_ids",
        "xProxy-User-ID": "user_id",
        "xProxy-Request-Tags": "request_tags",
        "xProxy-UseCase-Name": "use_case_name",
    }
    [(header, value)] = headers.items()
    name = member[header]
    said = value.split(",") if name in ("limit_ids", "request_tags") else value
    event = GPT | {"units": TEXT, name: said}
    answer = await house.bench.ask("POST", BULK, [event], key=house.key)
    many = answer.json()
    [fault] = many["errors"]
    assert fault["xproxy_result"]["xproxy_error"]["code"] == code
    assert name in fault["xproxy_result"]["message"] or "limit-ids" in str(fault)
    assert (answer.status_code, many["ingest_count"]) == (400, 0)  # not one was taken
    assert many["xproxy_error"]["code"] == code


async def test_calls_of_past_months_land_in_partitions_of_their_own(house: House) -> None:
    """Made when the first of a month lands; if that cannot be done now, rows wait in the default
    one and nothing is lost."""
    now = datetime.fromtimestamp(NOW_MS / 1000, UTC)
    months = [now - timedelta(days=days) for days in (200, 240, 280)]
    events = [GPT | {"units": TEXT, "event_timestamp": it.isoformat()} for it in months]
    await house.ask(BULK, events[:2])
    assert len(await house.rows()) == 2
    async with house.services.store.transaction() as backup:
        await backup.execute("LOCK TABLE usage_default IN ACCESS SHARE MODE")
        await house.ask(BULK, [events[2], events[2]])
        assert len(await house.rows()) == 4
    async with house.services.store.connection() as connection:
        found = await connection.fetch(
            "SELECT tableoid::regclass::text AS place FROM usage ORDER BY request_id"
        )
    names = [it.strftime("usage_%Y_%m") for it in months]
    assert [it["place"] for it in found] == ["usage_default"] * 2 + [names[1], names[0]]
    assert await usage.ensure_months_of_default(house.services.store) == 1


async def test_a_single_report_may_say_in_its_body_what_headers_say(house: House) -> None:
    """As one among many does: limits and tags add up, of two users the header's counts. A limit
    that is named is counted, wherever it is named, and must be one that may be."""
    limits = [await house.limit(name) for name in ("a", "b", "c")]
    body = GPT | {
        "units": TEXT,
        "limit_ids": ["a", "b"],
        "request_tags": ["x"],
        "user_id": "another",
        "account_name": "acme",
        "use_case_name": "case",
        "use_case_version": 2,
    }
    headers = {"xProxy-Limit-IDs": "b,c", "xProxy-Request-Tags": "y", "xProxy-User-ID": "u"}
    answer = await house.ask(INGEST, body, **headers)
    assert answer["xproxy_result"]["limits"].keys() == {"a", "b", "c"}
    assert [await house.settled(it) for it in limits] == [(COST_PICO, {"ok": 1})] * 3
    [row] = await house.rows()
    assert (row.user_id, row.account_name, row.tags) == ("u", "acme", ["y", "x"])
    assert (row.use_case_name, row.use_case_version) == ("case", 2)
    await house.limit("hard", limit_type="block")
    for wrong, code in (("hard", "blocking_limit_not_allowed"), ("none", "invalid_limit_ids")):
        refused = await house.refused(INGEST, GPT | {"units": TEXT, "limit_ids": [wrong]})
        assert refused[:2] == (400, code)


async def test_five_minutes_ahead_is_the_most(house: House) -> None:
    """Clocks differ by so much; a call that is dated further ahead is refused."""
    for ahead_s, refused in ((300, False), (301, True)):
        event = GPT | {"units": TEXT, "event_timestamp": str(NOW_MS // 1000 + ahead_s)}
        answer = await house.bench.ask("POST", INGEST, event, key=house.key)
        assert answer.status_code == (400 if refused else 200)
    assert answer.json()["xproxy_error"]["code"] == "invalid_ingest_event_timestamp"


async def test_old_words_are_understood(house: House) -> None:
    """`input` and `output` in place of units, and members that are no more."""
    body = GPT | {"input": 1_000, "output": 100, "provider_prompt": {"a": 1}, "experience": 5}
    answer = await house.ask(INGEST, body, **{"xProxy-Experience-Name": "x"})
    assert answer["xproxy_result"]["cost"]["total"]["base"] == COST_PICO / PICO_PER_USD
    [row] = await house.rows()
    assert row.use_case_name == "x"


async def test_text_that_is_no_json_and_long_properties_are_taken(house: House) -> None:
    """Bodies are read and not kept; a stack trace that is too long is cut, and that is said."""
    body = GPT | {
        "units": {"foo": {}},
        "provider_request_json": "not json",
        "provider_response_json": ["a", "b"],
        "properties": {"system.stack_trace": "x" * 5_000},
    }
    answer = await house.ask(INGEST, body, **{"xProxy-Logging-Disable": "False"})
    assert any("cut" in it for it in answer["xproxy_result"]["warnings"])
    [row] = await house.rows()
    assert len(row.properties["system.stack_trace"] or "") == 4096


async def test_nothing_at_all_is_taken_as_nothing(house: House) -> None:
    """An empty bulk body is no error; what is no list is."""
    empty: tuple[object, ...] = (None, [], b"")
    for body in empty:
        answer = await house.ask(BULK, body)
        assert (answer["ingest_count"], answer["total_count"]) == (0, 0)
    for wrong in ({"a": 1}, {}, b"null"):
        assert (await house.refused(BULK, wrong))[0] == 400
    assert (await house.refused(BULK, b"["))[1] == "invalid_json"
    assert (await house.refused(BULK, [{}] * 10_001))[:2] == (413, "request_too_large")


async def test_many_are_charged_once_each(house: House) -> None:
    """The same id twice among many, and once more in another request, is one call."""
    team = await house.limit("team")
    events = [
        GPT | {"units": TEXT, "provider_response_id": f"r{n % 150}", "limit_ids": ["team"]}
        for n in range(200)
    ]
    first = await house.ask(BULK, events)
    assert (first["ingest_count"], first["duplicate_count"]) == (150, 50)
    again = await house.ask(BULK, events)
    assert (again["ingest_count"], again["duplicate_count"]) == (0, 200)
    assert await house.settled(team) == (150 * COST_PICO, {"ok": 150})
    assert len(await house.rows()) == 150


async def test_an_upsert_corrects_what_was_reported(house: House) -> None:
    """The first is charged, another one corrects it by a signed entry, the same one does nothing;
    and back again."""
    team = await house.limit("team")
    event = GPT | {"units": TEXT, "provider_response_id": "r1", "limit_ids": ["team"]}
    more = event | {"units": {"text": {"input": 2_000, "output": 200}}}
    made = await house.ask(UPSERT, [event])
    assert (made["ingest_count"], made["corrected_count"]) == (1, 0)
    for body, corrected in ((event, 0), (more, 1), (more, 0), (event, 1), (more, 1)):
        answer = await house.ask(UPSERT, [body])
        assert (answer["ingest_count"], answer["corrected_count"]) == (0, corrected)
        expected = COST_PICO * (2 if body is more else 1)
        assert (await house.settled(team))[0] == expected
        await house.rows()
    rows = await house.rows()
    assert sum(row.cost_pico for row in rows) == 2 * COST_PICO
    assert [row.entry for row in rows].count("call") == 1
    found = await requests.by_provider(house.services.store, MINE, "system.openai", "r1")
    assert found is not None
    assert found.row.cost_pico == 2 * COST_PICO
    status, code, message = await house.refused(UPSERT, [GPT | {"units": TEXT}])
    assert (status, code) == (400, "required_field_missing")
    assert "provider_response_id" in message


async def test_who_may_report(house: House) -> None:
    """A key needs the permission; an admin reports for the application it names."""
    admin = local_token(SECRET, NOW_MS // 1000)
    plain = (await house.bench.ask("POST", "/api/v1/keys", {"name": "p"}, key=admin)).json()["key"]
    body = GPT | {"units": TEXT}
    refused = await house.bench.ask("POST", INGEST, body, key=plain)
    assert refused.status_code == 403
    assert "ingest" in refused.json()["message"]
    other = "00000000-0000-7000-8000-000000000002"
    answer = await house.bench.ask("POST", f"{INGEST}?application={other}", body, key=admin)
    assert answer.status_code == 200
    assert [row.application_id for row in await house.rows()] == [other]


async def test_results_are_found_at_once(house: House) -> None:
    """By our id and by the provider's, before the row has landed and after."""
    units = {"foo": {"input": 3, "output": 4}, "text": {"input": 1}}
    body = GPT | {"units": units, "provider_response_id": "r/1 %"}
    answer = await house.ask(INGEST, body)
    paths = (answer["request_id"], "provider/system.openai/r%2F1%20%25")
    for _ in range(2):
        for path in paths:
            url = f"/api/v1/requests/{path}/result"
            found = await house.bench.ask("GET", url, key=house.key)
            assert msgspec.json.decode(found.content)["xproxy_result"] == answer["xproxy_result"]
        await house.rows()
