"""LiteLLM's surface: its paths, what calls say of themselves, and its two grammars of errors."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering import __version__
from metering.core.annotations import NONE, TAGS_MAX, Annotations
from metering.core.limits import Limit, Mode, Refusal, Refused, Unit
from metering.core.money import PICO_PER_USD
from metering.errors import (
    BodyTooLarge,
    Conflict,
    InvalidApiKey,
    InvalidRequest,
    MethodNotAllowed,
    NotAllowed,
    NotFound,
    ProviderTimeout,
    ProviderUnreachable,
    RateLimited,
    StoreAway,
    XproxyError,
)
from metering.surfaces import ANTHROPIC, OPENAI, PAYI, UNIFIED, Surface, surface_of

PATHS: list[tuple[str, Surface | None, tuple[str, str] | None]] = [
    # raw path                             surface    provider, its path
    ("/anthropic/v1/messages", ANTHROPIC, ("anthropic", "/v1/messages")),
    ("/anthropic/v1/messages/batches/b", ANTHROPIC, ("anthropic", "/v1/messages/batches/b")),
    ("/anthropic/v1/files/a%2Fb", ANTHROPIC, ("anthropic", "/v1/files/a%2Fb")),
    ("/anthropic/anything/else", ANTHROPIC, ("anthropic", "/anything/else")),
    ("//anthropic/v1/messages", ANTHROPIC, ("anthropic", "/v1/messages")),
    ("/openai/v1/chat/completions", OPENAI, ("openai", "/v1/chat/completions")),
    ("/openai/chat/completions", OPENAI, ("openai", "/v1/chat/completions")),
    ("/openai/v1/models/ft%3Agpt", OPENAI, ("openai", "/v1/models/ft%3Agpt")),
    ("/openai_passthrough/v1/responses", OPENAI, ("openai", "/v1/responses")),
    ("/openai_passthrough/assistants", OPENAI, ("openai", "/v1/assistants")),
    ("/anthropic/", ANTHROPIC, None),
    ("/anthropic//", ANTHROPIC, None),
    ("/anthropic/../admin", ANTHROPIC, None),
    ("/anthropic/v1/%2e%2e/admin", ANTHROPIC, None),
    ("/anthropic/v1/a%2F..%2Fb", ANTHROPIC, None),
    ("/openai/", OPENAI, None),
    ("/openai/v1", OPENAI, None),
    ("/openai/v1/", OPENAI, None),
    ("/openai/v1/..\\b", OPENAI, None),
    ("/anthropic", None, None),
    ("/anthropicx/v1/messages", None, None),
    ("/anthropi/v1/messages", None, None),
    ("/Anthropic/v1/messages", None, None),
    ("/anthropic%2Fv1/messages", None, None),
    ("/openai", None, None),
    ("/openai_y/v1/chat/completions", None, None),
    ("/openaiv1/chat/completions", None, None),
    ("/v1/messages", UNIFIED[1], ("", "/v1/messages")),
    ("/v1/completions", UNIFIED[0], ("", "/v1/completions")),
    ("/v1/chat/completions/x", UNIFIED[0], ("", "/v1/chat/completions/x")),
    ("/v1/chat/completionss", UNIFIED[0], None),
    ("/v1/chat", None, None),
    ("/v1/modelsx", UNIFIED[0], None),
    ("/v1/models/..", UNIFIED[0], None),
    ("/v1/virtual-keys", None, None),
    ("/api/v1/anthropic/v1/messages", None, None),
    ("/api/v1/proxy/anthropic/v1/messages", PAYI, ("anthropic", "/v1/messages")),
    ("/api/v1/proxy/nobody/v1/messages", PAYI, None),
    ("/", None, None),
    ("", None, None),
]  # fmt: skip


@pytest.mark.parametrize(("raw_path", "surface", "expected"), PATHS)
def test_paths(raw_path: str, surface: Surface | None, expected: tuple[str, str] | None) -> None:
    """Prefixes are exact, and what begins with one is that provider's; what climbs is nowhere."""
    assert surface_of(raw_path.encode()) is surface
    if surface is not None:
        assert surface.match(raw_path.encode()) == expected
        for other in {PAYI, ANTHROPIC, OPENAI} - {surface}:
            assert other.match(raw_path) is None


@given(st.binary())
def test_any_path(raw_path: bytes) -> None:
    """Whatever the bytes, nothing but a match comes of them."""
    surface_of(raw_path)
    for prefix in (b"", b"/anthropic/", b"/openai/"):
        ANTHROPIC.match(prefix + raw_path)
        OPENAI.match(prefix + raw_path)


# Errors

FAULTS: list[tuple[XproxyError, int, str, str, dict[str, str]]] = [
    # fault                     status  Anthropic's type         OpenAI's                  headers
    (InvalidApiKey(), 401, "authentication_error", "invalid_request_error invalid_api_key", {}),
    (NotAllowed(), 403, "permission_error", "permission_error not_allowed", {}),
    (NotFound(), 404, "not_found_error", "invalid_request_error not_found", {}),
    (BodyTooLarge(), 413, "request_too_large", "invalid_request_error request_too_large", {}),
    (Conflict(), 409, "invalid_request_error", "invalid_request_error conflict", {}),
    (
        InvalidRequest("no", code="invalid_json", field="model"),
        400,
        "invalid_request_error",
        "invalid_request_error invalid_json",
        {},
    ),
    (
        MethodNotAllowed(),
        405,
        "invalid_request_error",
        "invalid_request_error method_not_allowed",
        {"allow": "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"},
    ),
    (
        RateLimited(retry_after_s=7, should_retry=True),
        429,
        "rate_limit_error",
        "rate_limit_error rate_limit_exceeded",
        {"retry-after": "7", "x-should-retry": "true"},
    ),
    (ProviderUnreachable(), 502, "api_error", "api_error provider_error", {}),
    (
        ProviderTimeout(should_retry=False),
        504,
        "api_error",
        "api_error provider_error",
        {"x-should-retry": "false"},
    ),
    (StoreAway(), 503, "api_error", "server_error unexpected_error", {"retry-after": "1"}),
    (XproxyError(), 500, "api_error", "server_error unexpected_error", {}),
]
USUAL = {
    "content-type": "application/json",
    "xproxy-request-id": "r1",
    "x-litellm-call-id": "r1",
}
VERSION = {"x-litellm-version": __version__}


def plain(headers: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """Headers by name; none comes twice."""
    assert len({name for name, _ in headers}) == len(headers)
    return {name.decode(): value.decode() for name, value in headers}


@pytest.mark.parametrize(("fault", "status", "anthropics", "openais", "extra"), FAULTS)
def test_errors(
    fault: XproxyError, status: int, anthropics: str, openais: str, extra: dict[str, str]
) -> None:
    """Each provider's own shape, types and codes, as its SDK reads them; then our two members."""
    kind, _, code = openais.partition(" ")
    shapes: list[tuple[Surface, dict[str, Any]]] = [
        (ANTHROPIC, {"type": "error", "error": {"type": anthropics, "message": fault.message}}),
        (
            OPENAI,
            {"error": {"type": kind, "message": fault.message, "param": fault.field, "code": code}},
        ),
    ]
    for surface, shape in shapes:
        got, headers, body = surface.error(fault, "r1")
        assert got == status
        assert plain(headers) == USUAL | VERSION | extra
        assert json.loads(body) == shape | {
            "xproxy_error": {"code": fault.code, "message": fault.message},
            "xproxy_result": {"request_id": "r1"},
        }


def test_what_a_rate_limit_says() -> None:
    """Its numbers are headers, in OpenAI's words."""
    fault = RateLimited("slow down", retry_after_s=3)
    fault.headers = (("x-ratelimit-limit-requests", "10"), ("x-ratelimit-remaining-requests", "0"))
    for surface in (ANTHROPIC, OPENAI):
        _, headers, _ = surface.error(fault, "r1")
        assert plain(headers) == USUAL | VERSION | dict(fault.headers) | {"retry-after": "3"}


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
RESULT = b'{"request_id":"r1","limits":{"a":{"state":"blocked"}},"blocked_limit_ids":["a"]}'


@pytest.mark.parametrize("status", [400, 402, 422, 429])
@pytest.mark.parametrize("retryable", [False, True])
def test_refusals(
    status: int,
    retryable: bool,  # noqa: FBT001
) -> None:
    """Of the type that LiteLLM has for it whatever the status; with the numbers, the result, and
    whether to try again."""
    refused = Refused(
        states={"a": "blocked"},
        blocked_limit_ids=("a",),
        retryable=retryable,
        retry_after_s=4 if retryable else 0,
        refusals=(WHY,),
    )
    for surface in (ANTHROPIC, OPENAI):
        got, headers, body = surface.refusal(refused, "r1", RESULT, status)
        document = json.loads(body)
        retry = {"x-should-retry": "true", "retry-after": "4"}
        assert got == status
        assert plain(headers) == USUAL | (retry if retryable else {"x-should-retry": "false"})
        assert document["error"]["type"] == "budget_exceeded"
        assert document["error"]["message"].startswith("Insufficient limit for the requested")
        assert document["error"].get("code", "limit_reached") == "limit_reached"
        assert document["xproxy_error"]["code"] == "limit_reached"
        assert document["xproxy_error"]["limits"][0]["settled"] == 0.999999999999
        assert document["xproxy_result"] == json.loads(RESULT)


@pytest.mark.parametrize(
    ("body", "given"),
    [
        (b'{ "error" : [ 1e2 ] }\n', b'{ "error" : [ 1e2 ] ,"xproxy_result":{}}\n'),
        (b"{}", b'{"xproxy_result":{}}'),
        (b"<html>Bad gateway</html>", b"<html>Bad gateway</html>"),
        (b"", b""),
        (b"[1]", b"[1]"),
    ],
)  # fmt: skip
def test_provider_errors(body: bytes, given: bytes) -> None:
    """A provider's error is its own, byte for byte, and the result; what is no object stays."""
    for surface in (ANTHROPIC, OPENAI):
        assert surface.provider_error(502, body, b"{}") == given


# What calls say of themselves

MANY = [str(it) for it in range(TAGS_MAX + 1)]
"""More tags than pass."""


def headers_of(**said: str) -> list[tuple[bytes, bytes]]:
    """Headers; `_` stands for `-`."""
    return [(k.replace("_", "-").encode(), v.encode()) for k, v in said.items()]


@pytest.mark.parametrize(
    ("said", "tags", "customer"),
    [
        ({}, (), None),
        ({"x_litellm_tags": "a, b,,a"}, ("a", "b"), None),
        ({"x_litellm_tags": "jobID:214590,team é"}, ("jobID:214590", "team é"), None),
        ({"xproxy_request_tags": "c", "x_litellm_tags": "a,c"}, ("c", "a"), None),
        ({"x_litellm_tags": " , "}, (), None),
        ({"x_litellm_end_user_id": "ann"}, (), "ann"),
        ({"x_litellm_customer_id": " acme "}, (), "acme"),
        ({"x_litellm_end_user_id": "ann", "x_litellm_customer_id": "acme"}, (), "acme"),
        ({"x_litellm_end_user_id": "ann", "x_litellm_customer_id": " "}, (), "ann"),
        ({"x_litellm_customer_id": "acme", "xproxy_account_name": "ours"}, (), "ours"),
    ],
)
def test_headers(said: dict[str, str], tags: tuple[str, ...], customer: str | None) -> None:
    """Tags add up, each once; of several names for the end user the first that says one counts."""
    found = ANTHROPIC.annotate(headers_of(**said))
    assert found == msgspec.structs.replace(found, tags=tags, account_name=customer)
    assert PAYI.annotate(headers_of(**said)).tags == tuple(it for it in tags if it == "c")


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"x_litellm_tags": "a\tb"}, "x-litellm-tags"),
        ({"x_litellm_tags": "x" * 257}, "x-litellm-tags"),
        ({"x_litellm_tags": ",".join(MANY)}, "x-litellm-tags"),
        ({"x_litellm_end_user_id": "x" * 257}, "x-litellm-end-user-id"),
        ({"x_litellm_customer_id": "a\x7f"}, "x-litellm-customer-id"),
        ({"xproxy_request_tags": "no spaces"}, "xProxy-Request-Tags"),
    ],
)
def test_headers_that_are_not_taken(said: dict[str, str], field: str) -> None:
    """What could not be kept is refused at the door, naming the header."""
    with pytest.raises(InvalidRequest) as caught:
        OPENAI.annotate(headers_of(**said))
    assert caught.value.field == field
    assert f"Header {field} " in caught.value.message


ACME = Annotations(tags=("h",), account_name="acme", user_id="u")


@pytest.mark.parametrize(
    ("said", "member", "end_user", "key_user", "tags", "customer", "user"),
    [
        (NONE, None, None, None, (), None, None),
        (NONE, None, "ann", None, (), "ann", "ann"),
        (NONE, None, "ann", "bob", (), "ann", None),
        (NONE, '{"tags":["a","b"]}', None, None, ("a", "b"), None, None),
        (NONE, '{"tags":["a"],"user":"eve","x":[1]}', "ann", None, ("a",), "eve", "eve"),
        (NONE, '{"tags":null,"user":null}', " ", None, (), None, None),
        (NONE, "null", None, None, (), None, None),
        (NONE, "{}", "a person", None, (), "a person", "a person"),
        (ACME, None, "ann", None, ("h",), "acme", "u"),
        (ACME, '{"tags":["h","i",""],"user":"eve"}', "ann", "bob", ("h", "i"), "acme", "u"),
    ],
)
def test_bodies(
    said: Annotations,
    member: str | None,
    end_user: str | None,
    key_user: str | None,
    tags: tuple[str, ...],
    customer: str | None,
    user: str | None,
) -> None:
    """Headers come first. An end user is the customer; the user too, if the key is nobody's own."""
    ours = {} if member is None else {"litellm_metadata": msgspec.Raw(member.encode())}
    found = ANTHROPIC.complete(said, ours, end_user=end_user, key_user=key_user)
    assert (found.tags, found.account_name, found.user_id) == (tags, customer, user)
    assert PAYI.complete(said, ours, end_user=end_user, key_user=key_user) is said


@pytest.mark.parametrize(
    ("member", "end_user", "field"),
    [
        ("[]", None, "litellm_metadata"),
        ('"x"', None, "litellm_metadata"),
        ('{"tags":"a,b"}', None, "litellm_metadata"),
        ('{"tags":[1]}', None, "litellm_metadata"),
        ('{"tags":["a\\u0000"]}', None, "litellm_metadata.tags"),
        (json.dumps({"tags": MANY}), None, "litellm_metadata.tags"),
        (json.dumps({"user": "x" * 257}), None, "litellm_metadata.user"),
        ("{}", "x" * 257, "metadata.user_id"),
        ("{}", "a\nb", "metadata.user_id"),
    ],
)  # fmt: skip
def test_bodies_that_are_not_taken(member: str, end_user: str | None, field: str) -> None:
    """What could not be kept is refused at the door, naming the member."""
    ours = {"litellm_metadata": msgspec.Raw(member.encode())}
    with pytest.raises(InvalidRequest) as caught:
        ANTHROPIC.complete(NONE, ours, end_user=end_user, key_user=None)
    assert caught.value.field == field


def a_limit(limit_id: str, mode: Mode = "hard", unit: Unit = "usd") -> Limit:
    """A limit of 2.5 USD."""
    return Limit(
        application_id="a",
        limit_id=limit_id,
        limit_name=limit_id,
        mode=mode,
        unit=unit,
        max=5 * PICO_PER_USD // 2,
        epoch=1,
        created_ms=1,
        updated_ms=1,
    )


@pytest.mark.parametrize(
    ("limits", "limit_ids", "budget"),
    [
        ([], (), None),
        ([a_limit("k")], (), None),
        ([a_limit("n"), a_limit("k")], ("k",), "2.5"),
        ([a_limit("k", "allow"), a_limit("t", unit="tokens")], ("k", "t"), None),
    ],
)
def test_what_is_said_of_a_keys_budget(
    limits: list[Limit], limit_ids: tuple[str, ...], budget: str | None
) -> None:
    """The maximum of a limit that binds the key and blocks, in USD, and what it had spent when that
    was last looked at; of others nothing."""
    told = {"x-litellm-key-max-budget": budget} if budget else {}
    said = plain(list(ANTHROPIC.about_key(limits, limit_ids, lambda _: None)))
    assert said == VERSION | told
    spent = {"x-litellm-key-spend": "0.000000000001"} if budget else {}
    said = plain(list(ANTHROPIC.about_key(limits, limit_ids, lambda _: 1)))
    assert said == VERSION | told | spent
    assert not PAYI.about_key(limits, limit_ids, lambda _: 1)


@pytest.mark.parametrize(
    ("limits", "limit_ids", "spent"),
    [
        ([a_limit("a")], ("a",), "0.999999999999"),
        ([a_limit("a")], (), None),
        ([a_limit("k"), a_limit("a")], ("k", "a"), None),
    ],
)
def test_what_a_refusal_says_that_a_key_has_spent(
    limits: list[Limit], limit_ids: tuple[str, ...], spent: str | None
) -> None:
    """As much as refused the call, if that was its budget; else nobody has looked."""
    refused = Refused(states={}, blocked_limit_ids=("a",), retryable=False, refusals=(WHY,))
    said = plain(list(ANTHROPIC.about_spend(refused, limits, limit_ids)))
    assert said == ({"x-litellm-key-spend": spent} if spent else {})
    assert not PAYI.about_spend(refused, limits, limit_ids)
