"""A caller's mistakes: a clear 4xx that names the header or member and the remedy, and no call."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.acceptance import clients
from tests.acceptance.tenant import CHAT, MESSAGES, Tenant
from tests.standin.process import Standin

GOOD: dict[str, Any] = {"model": "gpt-4o-mini", "messages": [], "max_tokens": 9}
OWN = "sk-callers-own-0815"


def encoded(properties: object) -> str:
    """Properties as the instrumentation sends them."""
    return base64.b64encode(json.dumps(properties).encode()).decode()


def check(answer: Any, status: int, code: str, says: str, tenant: Tenant) -> None:
    """The refusal is Pay-i's ApiError, says what it must, and shows no secret."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert (body["statusCode"], body["xproxy_error"]["code"]) == (status, code)
    assert body["message"] == body["xproxy_error"]["message"]
    assert says in body["message"]
    assert set(body) == {"message", "statusCode", "xproxy_error", "xproxy_result"}
    assert body["xproxy_result"] == {"request_id": answer.headers["xproxy-request-id"]}
    for secret in (tenant.key, OWN):
        assert secret not in answer.text


@pytest.fixture
def untouched(tenant: Tenant, standin: Standin) -> Iterator[Tenant]:
    """A tenant with one limit, of which nothing may have reached provider, limit, rows or log."""
    tenant.limit("team")
    yield tenant
    assert standin.ledger() == []
    assert tenant.totals("team")["requests"]["total"] == 0
    assert tenant.post(CHAT, GOOD).status_code == 200
    assert tenant.row()["status"] == "ok"  # the good call's, and no other
    log = tenant.service.log.read_text()
    assert tenant.key not in log
    assert OWN not in log


# body, code, what the message says
BODIES: list[tuple[bytes, str, str]] = [
    (b"", "invalid_json", "Body JSON is invalid"),
    (b"{", "invalid_json", "send one JSON object"),
    (b"[1]", "invalid_json", "send one JSON object"),
    (b'"text"', "invalid_json", "Body JSON is invalid"),
    (b"null", "invalid_json", "Body JSON is invalid"),
    (b"\xff\xfe\x00", "invalid_json", "Body JSON is invalid"),
    (b'{"model":"gpt-4o"} {}', "invalid_json", "Body JSON is invalid"),
    (b'{"model":' + b"[" * 20_000, "invalid_json", "Body JSON is invalid"),
    (b"{}", "required_field_missing", "field 'model' is missing; name the model"),
    (b'{"messages":[]}', "required_field_missing", "field 'model' is missing"),
    (b'{"model":null}', "required_field_missing", "field 'model' is missing"),
    (b'{"model":""}', "required_field_missing", "field 'model' is missing"),
    (b'{"model":5}', "invalid_request_field", "field 'model' must be a string"),
    (b'{"model":"a\\nb"}', "invalid_request_field", "field 'model' must be at most 256"),
    (b'{"model":"gpt-4o","stream":"yes"}', "invalid_request_field", "'stream' must be true or"),
    (b'{"model":"gpt-4o","max_tokens":-1}', "invalid_request_field", "'max_tokens' must be a"),
    (b'{"model":"gpt-4o","max_tokens":"9"}', "invalid_request_field", "'max_tokens' must be a"),
]


@pytest.mark.parametrize("path", [CHAT, MESSAGES])
@pytest.mark.parametrize(("body", "code", "says"), BODIES, ids=lambda value: str(value)[:30])
def test_a_bad_body_is_named(
    path: str, body: bytes, code: str, says: str, untouched: Tenant
) -> None:
    """Both providers' endpoints say what is wrong with the body and what it must be."""
    headers = {"Content-Type": "application/json", "xProxy-Limit-IDs": "team"}
    check(untouched.post(path, headers=headers, content=body), 400, code, says, untouched)


# header, value, code, what the message says
HEADERS: list[tuple[str, str, str, str]] = [
    ("xProxy-Limit-IDs", "team,team", "duplicate_limit_id", "'team' specified more than once"),
    ("xProxy-Limit-IDs", "nobody", "invalid_limit_ids", "xproxy limits create nobody --max 10"),
    ("xProxy-Limit-IDs", "team,nobody", "invalid_limit_ids", "do not exist: nobody."),
    ("xProxy-Limit-IDs", "a b", "invalid_limit_id", "commas separate them"),
    ("xProxy-Limit-IDs", "x" * 129, "invalid_limit_id", "1 to 128 visible ASCII characters"),
    ("xProxy-Budget-IDs", "team,team", "duplicate_limit_id", "name each limit once"),
    (
        "xProxy-Limit-IDs",
        ",".join(f"l{i}" for i in range(17)),
        "invalid_limit_ids",
        "names 17 limits; at most 16",
    ),
    ("xProxy-Request-Tags", "a b", "invalid_tags", "separated by commas"),
    ("xProxy-Request-Tags", ",".join(map(str, range(65))), "invalid_tags", "at most 64"),
    ("xProxy-User-ID", "ann smith", "invalid_user_id", "without spaces"),
    ("xProxy-User-ID", "x" * 257, "invalid_user_id", "at most 256 characters"),
    ("xProxy-UseCase-Name", "a/b", "invalid_use_case_name", "use 1 to 64 of the characters"),
    ("xProxy-UseCase-Version", "two", "invalid_use_case_version", "must be a whole number"),
    ("xProxy-UseCase-Version", "-1", "invalid_use_case_version", "must be a whole number"),
    ("xProxy-Account-Name", "a\tb", "invalid_header", "without control characters"),
    ("xProxy-Resource-Scope", "moon", "invalid_resource_scope", "use global, datazone or region"),
    ("xProxy-Logging-Disable", "maybe", "invalid_header", "must be False or True"),
    ("xProxy-Result", "maybe", "invalid_header", "must be on or off"),
    ("xProxy-On-Disconnect", "maybe", "invalid_header", "must be drain or cancel"),
    ("xProxy-Request-Properties", "{", "invalid_properties", 'for example {"team":"search"}'),
    ("xProxy-Request-Properties", '{"a":1}', "invalid_properties", "values are strings or null"),
    ("xProxy-Request-Properties", "%%%", "invalid_properties", "as it is or in Base64"),
    (
        "xProxy-Request-Properties",
        '{"a":"x\\ny"}',
        "invalid_properties",
        "has control characters in property 'a'; remove them",
    ),
    (
        "xProxy-Request-Properties",
        encoded({"a": "x\u0000y"}),
        "invalid_properties",
        "has control characters in property 'a'; remove them",
    ),
    (
        "xProxy-UseCase-Properties",
        encoded({"a\u001b[2J": "x"}),
        "invalid_properties",
        "has control characters in property 'a\\x1b[2J'; remove them",
    ),
    (
        "xProxy-UseCase-Properties",
        encoded({str(i): "" for i in range(65)}),
        "invalid_properties",
        "has 65 properties; at most 64",
    ),
    ("xProxy-Forward-Host", "example.com", "invalid_forward_header", "cannot be forwarded"),
    ("xProxy-Forward-xProxy-A", "b", "invalid_forward_header", "cannot be forwarded"),
]


@pytest.mark.parametrize(
    ("header", "value", "code", "says"), HEADERS, ids=lambda value: str(value)[:30]
)
def test_a_bad_header_is_named(
    header: str, value: str, code: str, says: str, untouched: Tenant
) -> None:
    """The message names the header and what to put there instead."""
    answer = untouched.post(CHAT, GOOD, {header: value, "Authorization": f"Bearer {OWN}"})
    check(answer, 400, code, says, untouched)
    assert header.lower() in answer.json()["message"].lower()


def test_a_header_sent_twice_is_named(untouched: Tenant) -> None:
    """Two different users in one call are a mistake; limits sent twice add up."""
    sent = [
        ("xProxy-Api-Key", untouched.key),
        ("xProxy-User-ID", "ann"),
        ("xProxy-User-ID", "bob"),
    ]
    answer = untouched.service.http.post(CHAT, json=GOOD, headers=sent)
    check(answer, 400, "request_processing_error", "came more than once", untouched)


@pytest.mark.parametrize("path", [CHAT, MESSAGES])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", ["nobodys-model-9", "tts-1", "tools"])
def test_a_model_without_a_price_is_refused_under_a_binding_limit(
    path: str, model: str, untouched: Tenant, *, stream: bool
) -> None:
    """403, with three ways out; no provider is called on a guess. One that is priced by what this
    endpoint does not count has no price here either."""
    body = GOOD | {"model": model, "stream": stream}
    answer = untouched.post(path, body, {"xProxy-Limit-IDs": "team"})
    check(answer, 403, "unpriced_model", f"no price is known for model '{model}'", untouched)
    for way in ("use a model that is priced", "xProxy-PriceAs-Resource", "XPROXY_UNPRICED=allow"):
        assert way in answer.json()["message"]


@pytest.mark.parametrize("limit_type", [None, "allow"])
@pytest.mark.parametrize("path", [CHAT, MESSAGES])
def test_a_model_without_a_price_passes_where_nothing_binds_and_is_flagged(
    path: str, limit_type: str | None, tenant: Tenant, standin: Standin
) -> None:
    """The row says `unpriced`: units are counted, and no cost is made up."""
    headers = {"xProxy-Limit-IDs": tenant.limit("soft", limit_type="allow")} if limit_type else {}
    answer = tenant.post(path, GOOD | {"model": "nobodys-model-9"}, headers)
    assert answer.status_code == 200
    result = answer.json()["xproxy_result"]
    assert "cost" not in result
    assert any("no price is known" in warning for warning in result["warnings"])
    [call] = standin.ledger()
    row = tenant.row()
    assert (row["pricing"], row["status"], row["cost_pico"]) == ("unpriced", "ok", "0")
    used = call.usage or {}
    assert row["input_tokens"] == used.get("prompt_tokens", used.get("input_tokens"))
    assert row["output_tokens"] == used.get("completion_tokens", used.get("output_tokens"))
    groups = tenant.manage("GET", "usage", group_by="model")["items"]
    assert [(it["calls"], it["unpriced"]) for it in groups] == [(1, 1)]


def test_the_sdk_names_the_mistake(untouched: Tenant) -> None:
    """OpenAI's SDK shows the message and tries once."""
    with (
        clients.openai_client(untouched, max_retries=3) as client,
        pytest.raises(openai.BadRequestError, match="xproxy limits create nobody") as caught,
    ):
        clients.chat(client, extra_headers={"xProxy-Limit-IDs": "nobody"})
    body: Any = caught.value.body
    assert body["xproxy_error"]["code"] == "invalid_limit_ids"
