"""Pay-i's surface: which paths are its own, and what its errors look like."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.core.limits import Refusal, Refused
from metering.errors import (
    InvalidApiKey,
    InvalidRequest,
    NotAllowed,
    ProviderTimeout,
    ProviderUnreachable,
    StoreAway,
    XproxyError,
)
from metering.surfaces import PAYI
from metering.surfaces.base import upstream_url

P = "/api/v1/proxy"
PATHS = [
    # raw path                                  provider, its path
    (f"{P}/openai/v1/chat/completions", ("openai", "/v1/chat/completions")),
    (f"{P}/openai/v1/models/ft%3Agpt", ("openai", "/v1/models/ft%3Agpt")),
    (f"{P}/openai/v1/files/a%2Fb", ("openai", "/v1/files/a%2Fb")),
    (f"{P}/openai/v1/models/gpt-3.5-turbo", ("openai", "/v1/models/gpt-3.5-turbo")),
    (f"{P}/openai/v1//chat", ("openai", "/v1//chat")),
    (f"{P}/anthropic/v1/messages", ("anthropic", "/v1/messages")),
    (f"{P}/anthropic/v1/messages/count_tokens", ("anthropic", "/v1/messages/count_tokens")),
    (f"/{P}/anthropic/v1/messages", ("anthropic", "/v1/messages")),
    (f"//{P}/openai/v1/models", ("openai", "/v1/models")),
    (f"{P}/azure.openai/openai/v1/responses", ("azure.openai", "/openai/v1/responses")),
    (f"{P}/azure.openai/openai/deployments/d/x", ("azure.openai", "/openai/deployments/d/x")),
    (f"{P}/azure.anthropic/v1/messages", ("azure.anthropic", "/v1/messages")),
    (f"{P}/azure.openai", None),
    (f"{P}/azure.openai/", None),
    (f"{P}/azure.openai/../openai/v1/models", None),
    (f"{P}/azure/openai/v1/models", None),
    (f"{P}/openaix/v1/chat/completions", None),
    (f"{P}/openai", None),
    (f"{P}/openai/", None),
    (f"{P}/openai/v1", None),
    (f"{P}/openai/v1/", None),
    (f"{P}/openai/v12/models", None),
    (f"{P}/openai/models", None),
    (f"{P}/OpenAI/v1/models", None),
    (f"{P}/openai%2Fv1/models", None),
    (f"{P}//openai/v1/models", None),
    (f"{P}/anthropic", None),
    (f"{P}/anthropic/", None),
    (f"{P}/anthropics/v1/messages", None),
    (f"{P}/openai/v1/../admin", None),
    (f"{P}/openai/v1/./models", None),
    (f"{P}/openai/v1/models/..", None),
    (f"{P}/openai/v1/%2e%2e/admin", None),
    (f"{P}/openai/v1/%2E./admin", None),
    (f"{P}/openai/v1/a%2e", None),
    (f"{P}/openai/v1/a%2F..%2Fb", None),
    (f"{P}/openai/v1/a%5C..%5Cb", None),
    (f"{P}/openai/v1/..\\b", None),
    ("/api/v1/limits", None),
    ("/v1/chat/completions", None),
    ("/", None),
    ("", None),
]


@pytest.mark.parametrize(("raw_path", "expected"), PATHS)
def test_match(raw_path: str, expected: tuple[str, str] | None) -> None:
    """Prefixes are exact; slashes at the front count as one; a path that climbs is nowhere."""
    assert PAYI.match(raw_path) == expected
    assert PAYI.match(raw_path.encode()) == expected


@given(st.binary())
def test_any_path(raw_path: bytes) -> None:
    """Whatever the bytes, nothing but a match comes of them."""
    PAYI.match(raw_path)
    PAYI.match(b"/api/v1/proxy/anthropic/" + raw_path)


@pytest.mark.parametrize(
    ("provider", "base", "path", "query", "expected"),
    [
        ("openai", "https://api.openai.com/v1", "/v1/models", b"", "https://api.openai.com/v1/models"),
        ("openai", "https://gw/serving/", "/v1/chat/completions", b"", "https://gw/serving/chat/completions"),
        ("openai", "http://h:1/v1/", "/v1/models", b"a=%2F&b", "http://h:1/v1/models?a=%2F&b"),
        ("anthropic", "https://api.anthropic.com", "/v1/messages", b"beta=true", "https://api.anthropic.com/v1/messages?beta=true"),
        ("anthropic", "https://gw/x/", "/v1/messages", b"", "https://gw/x/v1/messages"),
        ("anthropic", "https://gw/v1", "/v1/messages", b"", "https://gw/v1/messages"),
        ("anthropic", "https://gw/v1", "/health", b"", "https://gw/v1/health"),
    ],
)  # fmt: skip
def test_upstream_url(provider: str, base: str, path: str, query: bytes, expected: str) -> None:
    """OpenAI's base URL stands for all up to `/v1`; Anthropic's for all before it."""
    assert upstream_url(base, path, query, versioned=provider == "openai") == expected


FAULTS: list[tuple[XproxyError, int, str, dict[str, str]]] = [
    # fault                                  status  code             headers beside the usual
    (InvalidApiKey(), 401, "invalid_api_key", {}),
    (InvalidRequest("no", code="invalid_json"), 400, "invalid_json", {}),
    (NotAllowed(), 403, "not_allowed", {}),
    (ProviderUnreachable(), 502, "provider_error", {}),
    (ProviderTimeout(should_retry=False), 504, "provider_error", {"x-should-retry": "false"}),
    (StoreAway(), 503, "unexpected_error", {"retry-after": "1"}),
    (
        StoreAway(retry_after_s=7, should_retry=True),
        503,
        "unexpected_error",
        {"x-should-retry": "true", "retry-after": "7"},
    ),
]


def plain(headers: list[tuple[bytes, bytes]]) -> dict[str, str]:
    assert len({name for name, _ in headers}) == len(headers)
    return {name.decode(): value.decode() for name, value in headers}


DECEMBER = 1_796_083_200_000
USUAL = {
    "content-type": "application/json",
    "xproxy-request-id": "r1",
    "x-litellm-call-id": "r1",
}


@pytest.mark.parametrize(("fault", "status", "code", "extra"), FAULTS)
def test_errors(fault: XproxyError, status: int, code: str, extra: dict[str, str]) -> None:
    """A fault is an ApiError with its status, and never has a member `error`."""
    got, headers, body = PAYI.error(fault, "r1")

    assert got == status
    assert plain(headers) == USUAL | extra
    assert json.loads(body) == {
        "message": fault.message,
        "statusCode": status,
        "xproxy_error": {"code": code, "message": fault.message},
        "xproxy_result": {"request_id": "r1"},
    }


def test_an_error_with_a_result() -> None:
    """A fault of a call that got a result carries it."""
    _, _, body = PAYI.error(ProviderTimeout(), "r1", b'{"request_id":"r1","limits":{}}')
    assert json.loads(body)["xproxy_result"] == {"request_id": "r1", "limits": {}}


WHY = Refusal(
    limit_id="a",
    epoch=1,
    unit="usd",
    mode="hard",
    max=10**12,
    settled=10**12 - 1,
    held=0,
    needed=25 * 10**10,
    holds=0,
)
COUNTED = Refusal(
    limit_id="b",
    epoch=1,
    unit="requests",
    mode="block",
    max=9,
    settled=7,
    held=2,
    needed=1,
    holds=2,
    resets_at_ms=1_795_132_800_000,
)
RESETTING = msgspec.structs.replace(WHY, resets_at_ms=DECEMBER)
LATER = msgspec.structs.replace(COUNTED, settled=9, resets_at_ms=DECEMBER + 3_600_000)


@pytest.mark.parametrize(
    ("refusals", "retry_after_s", "headers", "says"),
    [
        (
            (RESETTING,),
            0,
            {"x-should-retry": "false", "xproxy-resets-at": "a=2026-12-01T00:00:00Z"},
            "is used up until 2026-12-01T00:00:00Z; raise or reset it to go on before",
        ),
        (
            (RESETTING, LATER),
            7,
            {
                "x-should-retry": "true",
                "retry-after": "7",
                "xproxy-resets-at": "a=2026-12-01T00:00:00Z,b=2026-12-01T01:00:00Z",
            },
            "used up until 2026-12-01T01:00:00Z",
        ),
        (
            (WHY, LATER),
            0,
            {"x-should-retry": "false", "xproxy-resets-at": "b=2026-12-01T01:00:00Z"},
            "limit 'a', 'b' is used up; raise or reset it",
        ),
    ],
)
def test_refusals_of_limits_with_windows(
    refusals: tuple[Refusal, ...], retry_after_s: int, headers: dict[str, str], says: str
) -> None:
    """It says when they begin anew, and in its message only if that helps."""
    one = Refused(
        states={"a": "blocked"},
        blocked_limit_ids=("a", "b"),
        retryable=retry_after_s > 0,
        retry_after_s=retry_after_s,
        refusals=refusals,
    )
    _, got, body = PAYI.refusal(one, "r1", RESULT)
    assert plain(got) == USUAL | headers
    assert says in json.loads(body)["message"]


RESULT = b'{"request_id":"r1","limits":{"a":{"state":"blocked"}},"blocked_limit_ids":["a"]}'


@pytest.mark.parametrize(
    ("retryable", "retry_after_s", "status", "extra", "says"),
    [
        (False, 0, 400, {"x-should-retry": "false"}, "used up"),
        (True, 4, 400, {"x-should-retry": "true", "retry-after": "4"}, "calls in flight"),
        (True, 0, 429, {"x-should-retry": "true", "retry-after": "1"}, "retry shortly"),
    ],
)
def test_refusals(
    retryable: bool,  # noqa: FBT001
    retry_after_s: int,
    status: int,
    extra: dict[str, str],
    says: str,
) -> None:
    """A refusal is a ProxyApiError; it says whether trying again helps, and when."""
    refused = Refused(
        states={"a": "blocked"},
        blocked_limit_ids=("a",),
        retryable=retryable,
        retry_after_s=retry_after_s,
        refusals=(WHY, COUNTED),
    )
    got, headers, body = PAYI.refusal(refused, "r1", RESULT, status)
    document = json.loads(body)

    assert got == document["statusCode"] == status
    resets = {"xproxy-resets-at": "b=2026-11-20T00:00:00Z"}
    assert plain(headers) == USUAL | extra | resets
    assert list(document) == ["message", "statusCode", "xproxy_error", "xproxy_result"]
    assert document["message"].startswith("Insufficient limit for the requested operation: ")
    assert says in document["message"]
    assert "'a'" in document["message"]
    assert document["xproxy_error"] == {
        "code": "limit_reached",
        "message": "Insufficient limit for the requested operation",
        "limits": [
            {
                "limit_id": "a",
                "unit": "usd",
                "max": 1,
                "settled": 0.999999999999,
                "held": 0,
                "needed": 0.25,
                "holds": 0,
                "final": True,
            },
            {
                "limit_id": "b",
                "unit": "requests",
                "max": 9,
                "settled": 7,
                "held": 2,
                "needed": 1,
                "holds": 2,
                "final": False,
                "resets_at": "2026-11-20T00:00:00Z",
            },
        ],
    }
    assert b'"settled":0.999999999999,' in body
    assert document["xproxy_result"] == json.loads(RESULT)


MESSAGE = "The downstream provider returned an error."
OURS: dict[str, Any] = {
    "message": MESSAGE,
    "statusCode": 429,
    "xproxy_error": {"code": "provider_error", "message": MESSAGE},
    "xproxy_result": {"request_id": "r1"},
}


@pytest.mark.parametrize(
    ("body", "theirs"),
    [
        (b'{"error":{"message":"slow down"}}\n', {"error": {"message": "slow down"}}),
        (b"{}", {}),
        (b'{"message":"m","type":"error"}', {"message": "m", "type": "error"}),
        (b'{"message":1,"statusCode":2,"xproxy_error":3,"xproxy_result":4}',
         {"message": 1, "statusCode": 2, "xproxy_error": 3, "xproxy_result": 4}),
        (b"<html>Bad gateway</html>", {"provider_response": "<html>Bad gateway</html>"}),
        (b"", {"provider_response": ""}),
        (b"[1]", {"provider_response": "[1]"}),
        (b"\xff{}", {"provider_response": "\ufffd{}"}),
        (b'{"a":' + b"[" * 100_000, {"provider_response": '{"a":' + "[" * (16 * 1024 - 5)}),
    ],
)  # fmt: skip
def test_provider_errors(body: bytes, theirs: dict[str, Any]) -> None:
    """A provider's members come first, unchanged; ours are added where it has none of that name."""
    document = json.loads(PAYI.provider_error(429, body, b'{"request_id":"r1"}'))

    assert document == OURS | theirs
    assert list(document)[: len(theirs)] == list(theirs)


def test_provider_errors_keep_every_byte() -> None:
    """A JSON error is spliced, not encoded anew."""
    body = b'{ "error" : { "code" : 1e2 } }'
    assert PAYI.provider_error(400, body, b"{}").startswith(
        b'{ "error" : { "code" : 1e2 } ,"message":'
    )
