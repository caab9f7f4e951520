"""Guessing keys: who does it is told to wait, learns nothing, and is in nobody's way."""

from __future__ import annotations

import os
import random
import statistics
import time
from collections.abc import Iterator
from typing import Any

import anthropic
import asyncpg
import httpx
import openai
import pytest

from metering.cli import runfile
from metering.core.keys import make_key
from tests.acceptance import clients
from tests.acceptance.conftest import STORED
from tests.acceptance.tenant import CHAT, MESSAGES, new_tenant
from tests.chaos.rig import elsewhere
from tests.standin.process import Standin
from tests.standin.service import Service

BODY = {"model": "gpt-4o-mini", "messages": []}
PROXIED = {"X-Forwarded-For": "198.51.100.9"}


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory, standin: Standin) -> Iterator[Service]:
    """A service as it is by default, behind a proxy of two workers that it trusts."""
    data_dir = tmp_path_factory.mktemp("strict") / "data"
    with Service(
        data_dir, standin.url, XPROXY_TRUSTED_PROXIES="127.0.0.1", XPROXY_WORKERS="2", **STORED
    ) as service:
        yield service


def wrong() -> str:
    """A key in our format that nobody has."""
    return make_key("app", os.urandom(32))


def test_ten_thousand_wrong_keys_and_a_good_one(strict: Service, size: str) -> None:
    """20 a minute are refused as such, the others told to wait; the good key, which no worker has
    seen before, is served from the same address, meanwhile and afterwards."""
    count = 10_000 if size != "ci" else 500
    statuses: dict[int, int] = {}
    began_s = time.monotonic()
    for number in range(count):
        if number % (count // 5) == count // 10:
            good = strict.http.post(CHAT, json=BODY, headers={"xProxy-Api-Key": fresh_key(strict)})
            assert good.status_code == 200, good.text
        answer = strict.http.post(CHAT, json=BODY, headers={"xProxy-Api-Key": wrong()})
        statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
    minutes = 1 + int((time.monotonic() - began_s) / 60)
    print(statuses, f"{time.monotonic() - began_s:.1f} s")
    assert set(statuses) == {401, 429}
    assert 20 <= statuses[401] <= 20 * minutes
    # from behind the proxy, another client has done nothing
    answer = strict.http.post(CHAT, json=BODY, headers=PROXIED | {"xProxy-Api-Key": wrong()})
    assert answer.status_code == 401


def fresh_key(service: Service) -> str:
    """A new key; made from an address of its own, as the test's is known for other things."""
    return new_tenant(service).key


def exhausted(service: Service, address: str) -> None:
    """Guess so often from an address that it is told to wait."""
    headers = {"X-Forwarded-For": address}
    for _ in range(25):
        answer = service.http.post(CHAT, json=BODY, headers=headers | {"xProxy-Api-Key": wrong()})
    assert answer.status_code == 429


def test_the_answer_is_in_the_grammar_of_the_surface(strict: Service) -> None:
    """429 with Retry-After, on both planes; SDKs raise what they raise for it and do not retry."""
    address = "198.51.100.20"
    exhausted(strict, address)
    sent = {"X-Forwarded-For": address, "xProxy-Api-Key": wrong()}
    answers = [
        strict.http.post(CHAT, json=BODY, headers=sent),
        strict.http.post(MESSAGES, json=BODY | {"max_tokens": 9}, headers=sent),
        strict.http.get("/api/v1/limits", headers=sent),
    ]
    for answer in answers:
        assert answer.status_code == 429
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert answer.headers["x-should-retry"] == "false"
        body = answer.json()
        assert body["statusCode"] == 429
        assert body["xproxy_error"]["code"] == "too_many_failed_logins"
        assert "error" not in body
    tenant, headers = new_tenant(strict), {"X-Forwarded-For": address}
    with (
        clients.openai_client(tenant, key=wrong(), default_headers=headers) as client,
        pytest.raises(openai.RateLimitError),
    ):
        clients.chat(client)
    with (
        clients.anthropic_client(tenant, key=wrong(), default_headers=headers) as claude,
        pytest.raises(anthropic.RateLimitError),
    ):
        clients.message(claude)
    with clients.openai_client(tenant, default_headers=headers) as client:
        assert clients.chat(client).choices


def test_no_key_is_no_guess(strict: Service) -> None:
    """Who shows none is refused as such, however often."""
    headers = {"X-Forwarded-For": "198.51.100.30"}
    answers = [strict.http.post(CHAT, json=BODY, headers=headers) for _ in range(30)]
    assert {it.status_code for it in answers} == {401}


def test_what_a_client_says_of_itself_is_not_its_address(strict: Service) -> None:
    """Left of what the proxy has added anybody may write anything."""
    statuses = [
        strict.http.post(
            CHAT,
            json=BODY,
            headers={
                "xProxy-Api-Key": wrong(),
                "X-Forwarded-For": f"203.0.113.{number}, 198.51.100.40",
            },
        ).status_code
        for number in range(30)
    ]
    assert (statuses.count(401), statuses.count(429)) == (20, 10)


# What time tells


@pytest.mark.timeout(1800)
def test_time_does_not_tell_keys_apart(service: Service, size: str) -> None:
    """Keys that were never seen before, of each kind in turn: the medians are one."""
    count = 10_000 if size != "ci" else 400
    name = f"timed-{time.monotonic_ns()}"
    shown = [("unknown", wrong()) for _ in range(count)]
    for kind in ("expired", "blocked"):
        body = {"name": f"{name} {kind}"}
        shown += [(kind, service.manage("POST", "keys", body)["key"]) for _ in range(count)]
    elsewhere(spoil(service, name))
    random.Random(7).shuffle(shown)
    taken_ns: dict[str, list[int]] = {"unknown": [], "expired": [], "blocked": []}
    answers = set()
    for kind, key in [("", wrong()) for _ in range(50)] + shown:
        began_ns = time.perf_counter_ns()
        answer = service.http.post(CHAT, json=BODY, headers={"xProxy-Api-Key": key})
        if kind:
            taken_ns[kind].append(time.perf_counter_ns() - began_ns)
            answers.add(told(answer))
    medians = {kind: statistics.median(taken) / 1000 for kind, taken in taken_ns.items()}
    print({kind: f"{median:.0f} us" for kind, median in medians.items()}, f"of {count} each")
    assert len(answers) == 1
    spread = max(medians.values()) / min(medians.values()) - 1
    assert spread < (0.03 if size != "ci" else 0.2)


async def spoil(service: Service, name: str) -> None:
    """Have keys be expired and blocked, unseen by any worker."""
    running = runfile.read(service.data_dir)
    assert running is not None
    connection = await asyncpg.connect(running.database_url)
    try:
        await connection.execute(
            "UPDATE keys SET expires_at = now() - interval '1 day' WHERE name = $1",
            f"{name} expired",
        )
        await connection.execute(
            "UPDATE keys SET blocked = true WHERE name = $1", f"{name} blocked"
        )
        await connection.execute("ANALYZE keys")
    finally:
        await connection.close()


def told(answer: httpx.Response) -> tuple[Any, ...]:
    """All that an answer says, but for what differs from one request to the next."""
    of_each = ("date", "xproxy-request-id", "x-litellm-call-id")
    names = [name for name in answer.headers if name not in of_each]
    text = answer.text.replace(answer.headers["xproxy-request-id"], "")
    return answer.status_code, tuple((name, answer.headers[name]) for name in names), text
