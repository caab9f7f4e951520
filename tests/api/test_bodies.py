"""What was said in reported calls: kept unless that is disabled, read by its application alone,
and never at the cost of a call's usage. Real parts."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from metering.api.services import Services
from metering.core.bodies import BYTES_MAX
from metering.core.keys import local_token
from metering.keyring import Keyring
from metering.meter import Archive
from metering.settings import Settings
from metering.store import secrets
from metering.vault import Vault
from tests.api.conftest import MASTER, NOW_MS, OTHER, Bench
from tests.api.house import SECRET, House, built

INGEST, BULK, UPSERT = "/api/v1/ingest", "/api/v1/ingest/bulk", "/api/v1/ingest/bulk-upsert"
GPT = {
    "category": "system.openai",
    "resource": "gpt-4o-mini",
    "units": {"text": {"input": 1_000, "output": 100}},
}
SAID: dict[str, Any] = {
    "provider_uri": "https://api.openai.com/v1/",
    "provider_request_headers": [
        {"name": "user-agent", "value": "x"},
        {"name": "empty", "value": None},
    ],
    "provider_request_json": '{"model":"gpt-4o-mini","messages":[]}',
    "provider_request_reasoning_json": "not JSON {",
    "provider_response_headers": [{"name": "x-request-id", "value": "req-1"}],
    "provider_response_json": ["data: 1", "data: 2"],
    "provider_response_function_calls": [
        {"name": "f", "arguments": "{}"},
        {"name": "g", "arguments": None},
    ],
}
DAY_MS = 86_400_000
ADMIN = local_token(SECRET, NOW_MS // 1000)


@pytest.fixture
async def house(services: Services, redis_url: str, tmp_path: Path) -> AsyncIterator[House]:
    """The control plane with nothing doubled, and an `app` key that may report."""
    async with built(services, redis_url, tmp_path) as house:
        yield house


async def said(house: House, request: str, key: str | None = None) -> tuple[int, Any]:
    """Status and answer for a call's bodies; of a refusal its code."""
    path = f"/api/v1/requests/{request}/bodies"
    answer = await house.bench.ask("GET", path, key=key or house.key)
    body = msgspec.json.decode(answer.content)
    return answer.status_code, body if answer.status_code == 200 else body["xproxy_error"]["code"]


async def key_of(house: House, **members: str) -> str:
    """A key of another role, or application."""
    answer = await house.bench.ask("POST", "/api/v1/keys", {"name": "k"} | members, key=ADMIN)
    key: str = answer.json()["key"]
    return key


async def elsewhere(
    services: Services, house: House, method: str, path: str, body: object = None
) -> httpx.Response:
    """A request to a process that is made of other parts."""
    bench = Bench(services)
    async with bench.http:
        return await bench.ask(method, path, body, key=house.key)


async def test_what_was_said_comes_back(house: House) -> None:
    """By our id and by the provider's, before the row has landed and after."""
    made = await house.ask(INGEST, GPT | SAID | {"provider_response_id": "chat/1 %"})
    request_id = made["request_id"]
    expected = SAID | {"request_id": request_id, "kept_until": "2026-10-21T14:13:20Z"}
    for _ in range(2):
        for path in (request_id, request_id.upper(), "provider/system.openai/chat%2F1%20%25"):
            assert await said(house, path) == (200, expected)
        await house.rows()


@pytest.mark.parametrize(
    ("value", "status"), [("True", 404), ("true", 404), ("False", 200), ("None", 200), ("", 200)]
)
async def test_logging_is_disabled_by_a_value(house: House, value: str, status: int) -> None:
    """Of one call and of many at once; what they cost is on record in any case."""
    header = {"xProxy-Logging-Disable": value}
    made = await house.ask(INGEST, GPT | SAID, **header)
    assert (await said(house, made["request_id"]))[0] == status
    many = await house.ask(BULK, [GPT | SAID | {"provider_response_id": "r1"}], **header)
    assert many["ingest_count"] == 1
    found = await said(house, "provider/system.openai/r1")
    assert found[0] == status or found == (404, "bodies_not_found")
    assert [row.cost_pico > 0 for row in await house.rows()] == [True, True]


async def test_each_of_many_has_its_own(house: House) -> None:
    """Those without have none; of one that comes twice the first is kept."""
    events = [
        GPT | {"provider_response_id": f"r{n % 6}", "provider_request_json": f"call {n}"}
        for n in range(8)
    ] + [GPT | {"provider_response_id": "bare"}]
    answer = await house.ask(BULK, events)
    assert (answer["ingest_count"], answer["duplicate_count"]) == (7, 2)
    for n in range(6):
        _, found = await said(house, f"provider/system.openai/r{n}")
        assert found["provider_request_json"] == f"call {n}"
    assert await said(house, "provider/system.openai/bare") == (404, "bodies_not_found")


async def test_who_reports_again_brings_what_is_missing(house: House) -> None:
    """A call whose reporter died before its bodies were kept has those of the next report; a
    correction too brings them, and what is there stays."""
    call = GPT | {"provider_response_id": "r1"}
    made = await house.ask(INGEST, call)
    assert await said(house, made["request_id"]) == (404, "bodies_not_found")
    again = await house.ask(INGEST, call | SAID)
    assert again["request_id"] == made["request_id"]
    _, found = await said(house, made["request_id"])
    assert found == found | SAID
    other = call | SAID | {"provider_response_json": "another"}
    await house.ask(UPSERT, [other, other | {"provider_response_id": "r2"}])
    for path, text in (("r1", ["data: 1", "data: 2"]), ("r2", "another")):
        _, found = await said(house, f"provider/system.openai/{path}")
        assert found["provider_response_json"] == text
    calls = [it for it in await house.rows() if it.entry == "call"]
    assert len(calls) == 2


async def test_secrets_are_not_kept(house: House) -> None:
    """Headers that let somebody in, theirs and ours, keys in others, user and query of the URI."""
    headers = [
        {"name": "Authorization", "value": "Bearer secret-1"},
        {"name": "x-api-key", "value": "secret-2"},
        {"name": "xProxy-Api-Key", "value": house.key},
        {"name": "Set-Cookie", "value": "secret-3"},
        {"name": "x-note", "value": "sk-secret-456789"},
    ]
    body = GPT | {
        "provider_uri": "https://me:secret-7@host/v1?key=secret-8",
        "provider_request_headers": headers,
        "provider_response_headers": headers,
    }
    made = await house.ask(INGEST, body)
    status, found = await said(house, made["request_id"])
    assert status == 200
    assert found["provider_uri"] == "https://host/v1"
    assert found["provider_request_headers"] == [{"name": "x-note", "value": "***"}]
    assert found["provider_response_headers"] == [{"name": "x-note", "value": "***"}]
    assert "secret" not in str(found)


async def test_a_body_that_is_too_long_is_cut(house: House) -> None:
    """The call is charged; more than a megabyte of one of its bodies is not kept, which is said."""
    body = GPT | {
        "provider_request_json": "ü" * (BYTES_MAX // 2 + 1),
        "provider_response_json": ["x" * BYTES_MAX, "more"],
        "provider_request_reasoning_json": "short",
    }
    made = await house.ask(INGEST, body)
    _, found = await said(house, made["request_id"])
    assert found["provider_request_json"] == "ü" * (BYTES_MAX // 2)
    assert found["provider_response_json"] == ["x" * BYTES_MAX]
    assert found["provider_request_reasoning_json"] == "short"
    assert found["truncated"] == ["provider_request_json", "provider_response_json"]
    [row] = await house.rows()
    assert row.cost_pico > 0


async def test_others_do_not_see_them(house: House) -> None:
    """Another application's key finds no such request; a key that only reads may not ask; an
    admin sees those of the application it names."""
    made = await house.ask(INGEST, GPT | SAID | {"provider_response_id": "r1"})
    paths = (made["request_id"], "provider/system.openai/r1")
    theirs, reader = await key_of(house, application_id=OTHER), await key_of(house, role="read")
    for path in paths:
        assert await said(house, path, theirs) == (404, "request_not_found")
        assert await said(house, path, reader) == (403, "not_allowed")
        assert (await said(house, path, ADMIN))[0] == 200
    other = f"/api/v1/requests/{made['request_id']}/bodies?application={OTHER}"
    assert (await house.bench.ask("GET", other, key=ADMIN)).status_code == 404


async def test_what_there_is_not_says_why(house: House, services: Services) -> None:
    """No such request, none of its bodies, not any more, or not at all here."""
    unknown = "01a1f640-bc00-7000-8000-000000000000"
    for path in (unknown, "none", "provider/system.openai/none"):
        assert await said(house, path) == (404, "request_not_found")
    at = datetime.fromtimestamp((NOW_MS - 30 * DAY_MS) / 1000, UTC)
    old = await house.ask(INGEST, GPT | SAID | {"event_timestamp": at.isoformat()})
    assert await said(house, old["request_id"]) == (404, "bodies_expired")
    made = await house.ask(INGEST, GPT | SAID)
    assert (await said(house, made["request_id"]))[0] == 200
    none = Archive(0, services.vault, services.random)
    asked = replace(house.services, settings=Settings(bodies_days=0), archive=none)
    answer = await elsewhere(asked, house, "GET", f"/api/v1/requests/{made['request_id']}/bodies")
    assert answer.status_code == 404
    assert "XPROXY_BODIES_DAYS" in answer.json()["message"]


async def test_usage_is_taken_when_bodies_cannot_be_kept(house: House) -> None:
    """Their table is gone: calls are charged once each, reported again or not, and told so."""
    team = await house.limit("team")
    async with house.services.store.connection() as connection:
        await connection.execute("DROP TABLE bodies")
    call = GPT | SAID | {"provider_response_id": "r1", "limit_ids": ["team"]}
    first = await house.ask(INGEST, call, **{"xProxy-Limit-IDs": "team"})
    again = await house.ask(INGEST, call, **{"xProxy-Limit-IDs": "team"})
    assert again["request_id"] == first["request_id"]
    many = await house.ask(BULK, [call, call | {"provider_response_id": "r2"}])
    assert (many["ingest_count"], many["duplicate_count"], many["error_count"]) == (1, 1, 0)
    assert (await house.settled(team))[1] == {"ok": 2}
    assert len(await house.rows()) == 2


async def test_nothing_is_kept_for_no_days(house: House, services: Services) -> None:
    """With XPROXY_BODIES_DAYS=0 nothing reaches the database."""
    none = replace(house.services, archive=Archive(0, services.vault, services.random))
    for path, body in ((INGEST, GPT | SAID), (BULK, [GPT | SAID])):
        assert (await elsewhere(none, house, "POST", path, body)).status_code == 200
    await house.ask(INGEST, GPT)  # nor of what has none
    assert not [it for it in await secrets.read(services.store) if it.startswith("bodies ")]
    async with house.services.store.connection() as connection:
        assert await connection.fetchval("SELECT count(*) FROM bodies") == 0


async def test_those_whose_key_is_lost_are_not_opened(house: House) -> None:
    """That is said, and no more: to ask again does not help."""
    made = await house.ask(INGEST, GPT | SAID)
    async with house.services.store.connection() as connection:
        await connection.execute("DELETE FROM secrets WHERE name LIKE 'bodies %'")
    path = f"/api/v1/requests/{made['request_id']}/bodies"
    for master in (MASTER, "another-master-secret-" + "1" * 24):
        vault = Vault(house.services.store, Keyring([master]), os.urandom)
        fresh = replace(house.services, archive=Archive(30, vault, os.urandom))
        answer = await elsewhere(fresh, house, "GET", path)
        assert answer.status_code == 503
        assert answer.json()["xproxy_error"]["code"] == "bodies_not_opened"
        assert answer.headers["x-should-retry"] == "false"
        await house.ask(INGEST, GPT | SAID)  # makes the day's key anew, under the first one
