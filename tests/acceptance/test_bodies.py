"""What was said in calls that the real `payi` SDK reports: logged, unless disabled, and sealed."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from payi import AsyncPayi, Payi

from tests.acceptance.canaries import Hunt, files, keys, rows
from tests.acceptance.tenant import CHAT, Tenant, new_tenant
from tests.standin.process import Standin
from tests.standin.service import Service

CALL: dict[str, Any] = {
    "category": "system.openai",
    "resource": "gpt-4o-mini",
    "units": {"text": {"input": 1_000, "output": 100}},
}
SAID: dict[str, Any] = {
    "provider_uri": "https://api.openai.com/v1/",
    "provider_request_headers": [{"name": "user-agent", "value": "x"}],
    "provider_request_json": '{"model": "gpt-4o-mini", "messages": []}',
    "provider_request_reasoning_json": "thinking {",
    "provider_response_headers": [{"name": "x-request-id", "value": "req-1"}],
    "provider_response_json": ["data: {}", "data: [DONE]"],
    "provider_response_function_calls": [{"name": "f", "arguments": "{}"}],
}
INSTRUMENTED = """
import sys
from openai import OpenAI
from payi.lib.instrument import get_context, payi_instrument, track_context
client = OpenAI(api_key="sk-of-the-caller-123456", base_url=sys.argv[1])
asked = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": sys.argv[2]}]}
payi_instrument()
for logged, stream in ((None, False), (None, True), (False, False)):
    with track_context(log_prompt_and_response=logged):
        answer = client.chat.completions.create(**asked, stream=stream)
        if stream:
            list(answer)
        print(get_context()["last_result"].request_id)
"""
"""A program as Pay-i instruments it: it calls the provider itself, and the SDK reports that."""


@pytest.fixture
def reporting(service: Service, standin: Standin) -> Tenant:
    """A tenant whose key may report calls."""
    standin.wait_idle()
    standin.reset()
    return new_tenant(service, permissions=["ingest"])


@pytest.fixture
def client(reporting: Tenant) -> Iterator[Payi]:
    """The SDK, which takes no answer on trust."""
    with Payi(
        api_key=reporting.key,
        base_url=reporting.service.url,
        max_retries=0,
        _strict_response_validation=True,
    ) as client:
        yield client


def said(tenant: Tenant, request: str, key: str | None = None) -> tuple[int, dict[str, Any]]:
    """Status and answer for the bodies of a call."""
    path, headers = f"/api/v1/requests/{request}/bodies", {"xProxy-Api-Key": key or tenant.key}
    answer = tenant.service.http.get(path, headers=headers)
    return answer.status_code, answer.json()


def why_not(tenant: Tenant, request: str, key: str | None = None) -> str:
    """Why there are none, by its code."""
    status, answer = said(tenant, request, key)
    assert status == 404, answer
    code: str = answer["xproxy_error"]["code"]
    return code


def test_what_the_sdk_reports_is_logged(client: Payi, reporting: Tenant) -> None:
    """Every body that it has a name for, at once, by our id and by the provider's."""
    made = client.ingest.units(**CALL, **SAID, provider_response_id="chat/1")
    for request in (made.request_id, "provider/system.openai/chat%2F1"):
        status, found = said(reporting, request)
        assert status == 200
        assert found == SAID | {
            "request_id": made.request_id,
            "kept_until": found["kept_until"],
        }
    until = datetime.fromisoformat(found["kept_until"])
    assert abs(until - datetime.now(UTC) - timedelta(days=30)) < timedelta(minutes=1)


@pytest.mark.parametrize(("disabled", "logged"), [(True, False), (False, True), (None, True)])
def test_logging_is_disabled_by_what_is_said(
    client: Payi, reporting: Tenant, *, disabled: bool | None, logged: bool
) -> None:
    """`disable_logging`: its value counts, and not that it was said."""
    made = client.ingest.units(**CALL, **SAID, disable_logging=disabled)
    if logged:
        assert said(reporting, made.request_id)[0] == 200
    else:
        assert why_not(reporting, made.request_id) == "bodies_not_found"
    assert reporting.row()["cost_usd"] > 0


async def test_the_async_sdk_reports_alike(reporting: Tenant) -> None:
    """Both ways."""
    options: Any = {"api_key": reporting.key, "base_url": reporting.service.url}
    async with AsyncPayi(**options, max_retries=0) as client:
        kept = await client.ingest.units(**CALL, **SAID)
        none = await client.ingest.units(**CALL, **SAID, disable_logging=True)
    assert (
        said(reporting, kept.request_id)[1]["provider_request_json"]
        == SAID["provider_request_json"]
    )
    assert why_not(reporting, none.request_id) == "bodies_not_found"


def test_many_are_reported_with_theirs(client: Payi, reporting: Tenant) -> None:
    """Each of a bulk its own; the header disables the logging of all of them."""
    texts = {f"n{number}": f"prompt {number}" for number in range(50)}
    events: Any = [
        CALL | {"provider_response_id": name, "provider_request_json": text}
        for name, text in texts.items()
    ]
    assert client.ingest.bulk(events=events).ingest_count == len(events)
    for name, text in texts.items():
        _, found = said(reporting, f"provider/system.openai/{name}")
        assert found["provider_request_json"] == text
    hushed: Any = [it | {"provider_response_id": "hush"} for it in events[:1]]
    client.ingest.bulk(events=hushed, extra_headers={"xProxy-Logging-Disable": "True"})
    assert why_not(reporting, "provider/system.openai/hush") == "bodies_not_found"


def test_an_instrumented_program_is_logged(
    reporting: Tenant, standin: Standin, tmp_path: Path
) -> None:
    """What it asked and what it was answered, whole and streamed; not what it does not want
    logged, and never its provider key."""
    environment = {"PAYI_API_KEY": reporting.key, "PAYI_BASE_URL": reporting.service.url}
    program = tmp_path / "program.py"  # its name becomes the use case's
    program.write_text(INSTRUMENTED)
    ran = subprocess.run(
        [sys.executable, program, standin.url + "/v1", "a question of mine"],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    whole, streamed, hushed = ran.stdout.split()
    for request_id in (whole, streamed):
        status, found = said(reporting, request_id)
        assert status == 200
        asked = json.loads(found["provider_request_json"])
        assert asked["messages"][0]["content"] == "a question of mine"
        chunks = [json.loads(it) for it in found["provider_response_json"]]
        assert all(it["object"].startswith("chat.completion") for it in chunks)
        assert (len(chunks) > 1) == (request_id == streamed)
        assert "sk-of-the-caller" not in str(found)
    status, found = said(reporting, hushed)
    assert status == 404 or not {"provider_request_json", "provider_response_json"} & found.keys()


def test_nobody_else_sees_them(client: Payi, reporting: Tenant) -> None:
    """Not another application, not a key that only reads; an admin does."""
    service = reporting.service
    made = client.ingest.units(**CALL, **SAID)
    assert why_not(reporting, made.request_id, new_tenant(service).key) == "request_not_found"
    whose = {"application_id": reporting.application_id, "role": "read", "name": "reader"}
    reader = service.manage("POST", "keys", whose)["key"]
    assert said(reporting, made.request_id, reader)[0] == 403
    path = f"requests/{made.request_id}/bodies"
    found = service.manage("GET", path, application=reporting.application_id)
    assert found["provider_response_json"] == SAID["provider_response_json"]


def test_they_are_there_for_their_days(client: Payi, reporting: Tenant) -> None:
    """30 days after the call, to the second; what is reported later than that is not kept."""
    due = datetime.now(UTC) - timedelta(days=30)
    for name, at in (("late", due), ("soon", due + timedelta(seconds=2))):
        client.ingest.units(**CALL, **SAID, event_timestamp=at, provider_response_id=name)
    assert why_not(reporting, "provider/system.openai/late") == "bodies_expired"
    assert said(reporting, "provider/system.openai/soon")[0] == 200
    time.sleep(2.1)
    assert why_not(reporting, "provider/system.openai/soon") == "bodies_expired"


def test_proxied_calls_are_not_logged(reporting: Tenant) -> None:
    """Whatever their header says."""
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hello"}]}
    answer = reporting.post(CHAT, body, {"xProxy-Logging-Disable": "False"})
    assert answer.status_code == 200
    assert why_not(reporting, answer.headers["xproxy-request-id"]) == "bodies_not_found"


@pytest.mark.parametrize("size", [10_000, 1_100_000, 5_000_000])
def test_a_call_of_any_length_is_taken(client: Payi, reporting: Tenant, size: int) -> None:
    """Its usage is on record; of its bodies a megabyte each is kept, and it is said that it was
    more."""
    text = "word " * (size // 5)
    made = client.ingest.units(
        **CALL, provider_request_json=text, provider_response_json=[text, text]
    )
    assert made.xproxy_result.cost is not None
    _, found = said(reporting, made.request_id)
    cut = size > 2**20
    assert found["provider_request_json"] == text[: 2**20]
    both = "".join(found["provider_response_json"])
    assert both == (text + text)[: len(both)]
    assert found.get("truncated", []) == (
        ["provider_request_json", "provider_response_json"] if cut else []
    )


def test_they_are_sealed_at_rest(client: Payi, reporting: Tenant) -> None:
    """A canary in each body is found in no row, no file, no log and nothing of Redis; one in a
    property is, so that the search works."""
    hunt, service = Hunt(), reporting.service
    said_so, planted = hunt.add("said")("Canary"), hunt.add("planted")("Canary")
    noise = secrets.token_urlsafe(3_000)  # such that no compression hides it
    events: Any = [
        CALL
        | {
            "provider_uri": f"https://127.0.0.1/{said_so}",
            "provider_request_headers": [{"name": "x", "value": said_so}],
            "provider_request_json": noise + said_so,
            "provider_request_reasoning_json": said_so + noise,
            "provider_response_headers": [{"name": "x", "value": said_so}],
            "provider_response_json": [said_so, noise, said_so],
            "provider_response_function_calls": [{"name": said_so, "arguments": said_so}],
            "properties": {"note": planted},
        }
    ]
    client.ingest.units(**events[0])
    assert client.ingest.bulk(events=events).ingest_count == 1
    reporting.rows(2)
    running = json.loads((service.data_dir / "run.json").read_text())
    hunt.look_at_all(rows(running["database_url"]))
    hunt.look_at_all(keys(running["redis_url"]))
    hunt.look_at_all(files(service.data_dir, "file"))
    hunt.look("log", service.log.read_bytes())
    assert hunt.seen("said") == {}
    assert "table public.usage" in str(hunt.seen("planted"))
    assert "table public.bodies" in hunt.places
