"""A provider that refuses, resets, hangs or sends garbage: the right status, and right books.

A service of their own with little patience: a silent provider is given up after a second, bodies
may have 20 kB, and no provider key is stored. OpenAI is the stand-in, Anthropic a port where each
test listens, or does not.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import httpx
import openai
import pytest

from tests.acceptance import clients
from tests.acceptance.rude import Rude
from tests.acceptance.tenant import CHAT, MESSAGES, Tenant, new_tenant
from tests.standin.process import Standin
from tests.standin.service import Service, free_port

OWN = "sk-callers-own-2718"
IDLE_S = 1
BODY_BYTES_MAX = 20_000
LIMITED = {"xProxy-Limit-IDs": "team"}


@pytest.fixture(scope="module")
def rude_port() -> int:
    """Where Anthropic is, for the strict service."""
    return free_port()


@pytest.fixture(scope="module")
def strict(
    tmp_path_factory: pytest.TempPathFactory, standin: Standin, rude_port: int
) -> Iterator[Service]:
    """The service with little patience."""
    settings = {
        "XPROXY_PROVIDER_IDLE_S": str(IDLE_S),
        "XPROXY_BODY_BYTES_MAX": str(BODY_BYTES_MAX),
        "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{rude_port}",
    }
    data_dir = tmp_path_factory.mktemp("strict") / "data"
    with Service(data_dir, standin.url, **settings) as service:
        yield service
        assert OWN not in service.log.read_text()


@pytest.fixture
def caller(strict: Service, standin: Standin) -> Tenant:
    """A tenant of the strict service with one blocking limit."""
    standin.wait_idle()
    standin.reset()
    return new_tenant(strict, "team")


def ask(tenant: Tenant, path: str = CHAT, **control: Any) -> httpx.Response:
    """One call with the caller's own key, telling the stand-in how to answer."""
    text = f"[[standin {json.dumps(control)}]]"
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": text}], "max_tokens": 90}
    if path == MESSAGES:
        body |= {"model": "claude-haiku-4-5"}
    return tenant.post(path, body, LIMITED | {"Authorization": f"Bearer {OWN}"})


def check(
    answer: httpx.Response,
    status: int,
    says: str,
    tenant: Tenant,
    *,
    retry: bool,
    row: str,
    began: bool = False,
) -> None:
    """The fault is a provider error in Pay-i's grammar; one row is left, and nothing is charged,
    but the prompt of an answer that had begun."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert (body["statusCode"], body["xproxy_error"]["code"]) == (status, "provider_error")
    assert says in body["message"]
    assert answer.headers["x-should-retry"] == ("true" if retry else "false")
    assert OWN not in answer.text
    assert tenant.key not in answer.text
    left = tenant.row()
    assert left["request_id"] == body["xproxy_result"]["request_id"]
    assert (left["status"], left["http_status"]) == (row, status)
    assert (left["cost_pico"] != "0") == began
    assert left["error_code"] == "provider_error"
    totals = tenant.totals("team")
    assert totals["cost"]["total"]["base"] == Decimal(left["cost_pico"]).scaleb(-12)
    assert totals["requests"]["total"] == 1
    budget = tenant.manage("GET", "budgets")["items"][0]
    assert (budget["held"], budget["holds"]) == (0, 0)


# what goes wrong, status, message, whether a retry is safe, what the row says
FAULTS: list[tuple[dict[str, Any], int, str, str]] = [
    ({"hang": True}, 504, "did not answer in time", "unresolved"),
    ({"delay_ms": 2500}, 504, "did not answer in time", "unresolved"),
    ({"cut_at_byte": 0}, 502, "broke the connection", "unresolved"),
    ({"reset_at_byte": 0}, 502, "broke the connection", "unresolved"),
    ({"cut_at_byte": 40}, 502, "broke the connection", "unresolved"),
    ({"reset_at_byte": 40}, 502, "broke the connection", "unresolved"),
    ({"malformed": "not_sse"}, 502, "could not be understood", "unresolved"),
    ({"malformed": "truncated"}, 502, "could not be understood", "unresolved"),
    ({"malformed": "empty"}, 502, "could not be understood", "unresolved"),
    ({"body_bytes": 99}, 502, "could not be understood", "unresolved"),
    ({"content_encoding": "br"}, 502, "could not be understood", "unresolved"),
]


@pytest.mark.parametrize(("control", "status", "says", "row"), FAULTS, ids=str)
def test_a_faulty_provider_is_said_to_be_faulty(
    control: dict[str, Any], status: int, says: str, row: str, caller: Tenant
) -> None:
    """Once a byte was sent a retry might be paid twice, so none is asked for."""
    began = not control.keys() & {"hang", "delay_ms"} and 0 not in control.values()
    check(ask(caller, **control), status, says, caller, retry=False, row=row, began=began)


def test_a_provider_that_refuses_can_be_tried_again(caller: Tenant) -> None:
    """Nothing was sent, nothing can have been billed."""
    answer = ask(caller, MESSAGES)
    check(answer, 502, "could not be reached", caller, retry=True, row="failed")


@pytest.mark.parametrize(
    ("answer", "reset"),
    [
        (b"\x16\x03\x01 this is not HTTP\r\n\r\n", False),
        (b"HTTP/1.1 abc\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n{}", False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", False),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n{}", False),
        (b"", False),
        (b"", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{", True),
    ],
    ids=["not http", "no status", "no length", "no chunk", "long header", "end", "reset", "cut"],
)
def test_a_provider_that_does_not_speak_http(
    answer: bytes, rude_port: int, caller: Tenant, *, reset: bool
) -> None:
    """Bytes that are no HTTP, or stop in the middle of it, are a broken connection: one call."""
    with Rude(rude_port, answer, reset=reset) as rude:
        got = ask(caller, MESSAGES)
        began = answer.endswith(b"50\r\n\r\n{") or b"chunked" in answer
        says = "broke the connection"
        check(got, 502, says, caller, retry=False, row="unresolved", began=began)
        assert rude.calls == 1


def test_the_sdk_does_not_pay_twice(caller: Tenant, standin: Standin) -> None:
    """A timeout is a 504 that OpenAI's SDK would retry, were it not told otherwise."""
    standin.script({"hang": True})
    with (
        clients.openai_client(caller, key=OWN, max_retries=3) as client,
        pytest.raises(openai.InternalServerError) as caught,
    ):
        clients.chat(
            client, extra_headers=LIMITED | {"xProxy-Api-Key": caller.key}, timeout=IDLE_S * 10
        )
    assert caught.value.status_code == 504
    standin.wait_idle()
    assert len(standin.ledger()) == 1


# what goes wrong with a stream after it has begun
STREAM_FAULTS: list[dict[str, Any]] = [
    {"hang": 4},
    {"cut_at_byte": 900},
    {"reset_at_byte": 900},
    {"malformed": "truncated"},
    {"malformed": "error_event"},
    {"malformed": "no_usage_no_end"},
    {"malformed": "garbage_json"},
    {"malformed": "not_utf8"},
    {"malformed": "not_sse"},
    {"malformed": "empty"},
]


@pytest.mark.parametrize("control", STREAM_FAULTS, ids=str)
def test_a_stream_that_breaks_is_charged_for_what_came(
    control: dict[str, Any], caller: Tenant, standin: Standin
) -> None:
    """What came was relayed; the row says what of it is estimated, and the limit agrees with it."""
    text = f"[[standin {json.dumps(control)}]]"
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": text}], "stream": True}
    headers = LIMITED | {"xProxy-Api-Key": caller.key, "Authorization": f"Bearer {OWN}"}
    began, relayed, cut = time.monotonic(), b"", False
    http = caller.service.http
    with http.stream("POST", CHAT, json=body, headers=headers) as answer:
        assert answer.status_code == 200
        try:
            for chunk in answer.iter_bytes():
                relayed += chunk
        except httpx.RemoteProtocolError:
            cut = True
    assert time.monotonic() - began < 5 * IDLE_S
    assert cut == (control.keys() != {"malformed"})
    standin.wait_idle()
    row = caller.row()
    whole = control.get("malformed") in ("garbage_json", "not_utf8")
    assert row["estimated"] is not whole
    assert row["status"] == "ok"
    assert (b"xproxy_result" in relayed) == (b'finish_reason":"' in relayed)
    charged = caller.totals("team")["cost"]["total"]["base"]
    assert charged == Decimal(row["cost_pico"]).scaleb(-12)
    assert [it["amount"] for it in row["limits"]] == [charged]
    assert caller.result(row["request_id"])["cost"]["total"]["base"] == charged
    budget = caller.manage("GET", "budgets")["items"][0]
    assert (budget["held"], budget["holds"]) == (0, 0)


@pytest.mark.parametrize("size", [BODY_BYTES_MAX + 1, 3_000_000])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_refused(
    size: int, caller: Tenant, standin: Standin, *, chunked: bool
) -> None:
    """413 that names the bound and the setting that raises it, before anything is forwarded."""
    body = json.dumps({"model": "gpt-4o", "messages": [], "x": "x" * size}).encode()
    content = iter([body[:1000], body[1000:]]) if chunked else body
    headers = LIMITED | {"Authorization": f"Bearer {OWN}"}
    answer = caller.post(CHAT, headers=headers, content=content)
    assert answer.status_code == 413
    assert answer.json()["xproxy_error"]["code"] == "request_too_large"
    message = answer.json()["message"]
    assert f"larger than {BODY_BYTES_MAX} bytes; XPROXY_BODY_BYTES_MAX raises" in message
    assert standin.stats()["calls"] == 0
    assert caller.totals("team")["requests"]["total"] == 0


def test_a_body_at_the_limit_passes(caller: Tenant, standin: Standin) -> None:
    """The bound is the last size that is accepted."""
    head, tail = b'{"model":"gpt-4o","messages":[],"x":"', b'"}'
    body = head + b"x" * (BODY_BYTES_MAX - len(head + tail)) + tail
    answer = caller.post(CHAT, headers={"Authorization": f"Bearer {OWN}"}, content=body)
    assert answer.status_code == 200


def test_a_call_without_any_provider_key_is_told_so(caller: Tenant, standin: Standin) -> None:
    """Where no key is stored the caller must bring one: 401 that says both ways out."""
    answer = caller.post(CHAT, {"model": "gpt-4o", "messages": []})
    assert answer.status_code == 401
    assert answer.json()["xproxy_error"]["code"] == "provider_key_missing"
    for way in ("send the provider's key in its usual header", "with OPENAI_API_KEY"):
        assert way in answer.json()["message"]
    assert standin.stats()["calls"] == 0
