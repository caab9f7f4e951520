"""LiteLLM's pass-through routes: whose key counts, what comes back, and that budgets hold there.

What it does worse, by its own issues and by runs of it, is a test here or one of those that run
`by_each_route`.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from decimal import Decimal
from typing import Any

import anthropic
import httpx
import openai
import pytest

from metering import __version__
from tests.acceptance import clients
from tests.acceptance.conftest import STORED
from tests.acceptance.tenant import LITELLM, Tenant, new_tenant
from tests.acceptance.test_credentials import came_with
from tests.acceptance.test_litellm_seeds import budget
from tests.standin.ledger import total_pico
from tests.standin.process import Standin
from tests.standin.service import Service

CHAT, MESSAGES = "/openai/v1/chat/completions", "/anthropic/v1/messages"
HELLO = [{"role": "user", "content": "Hello."}]
ASKED: dict[str, dict[str, Any]] = {
    CHAT: {"model": clients.CHAT_MODEL, "max_tokens": 50, "messages": HELLO},
    MESSAGES: {"model": clients.MESSAGES_MODEL, "max_tokens": 50, "messages": HELLO},
}
BILLED: dict[str, dict[str, Any]] = {
    CHAT: {"prompt_tokens": 20, "completion_tokens": 50},
    MESSAGES: {"input_tokens": 20, "output_tokens": 50},
}
SLOT = {CHAT: "authorization", MESSAGES: "x-api-key"}
STORED_KEY = {CHAT: STORED["OPENAI_API_KEY"], MESSAGES: STORED["ANTHROPIC_API_KEY"]}
OWN = {CHAT: "sk-proj-" + "A1b2" * 20, MESSAGES: "sk-ant-api03-" + "A1b2" * 20}
each_path = pytest.mark.parametrize("path", [CHAT, MESSAGES], ids=["openai", "anthropic"])


@pytest.fixture
def route() -> str:
    """LiteLLM's, in all of this module."""
    return LITELLM


def call(
    tenant: Tenant, path: str, members: dict[str, Any] | None = None, /, **headers: str
) -> httpx.Response:
    """One call, with these headers alone; `_` stands for `-`."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return tenant.service.http.post(path, json=ASKED[path] | (members or {}), headers=sent)


# Whose key counts

KEYS: list[tuple[dict[str, str], int]] = [
    ({"authorization": "Bearer {good}"}, 200),
    ({"authorization": "bearer {good}"}, 200),
    ({"authorization": "BEARER {good}"}, 200),
    ({"authorization": "{good}"}, 200),
    ({"x_api_key": "{good}"}, 200),
    ({"api_key": "{good}"}, 200),
    ({"x_litellm_api_key": "{good}"}, 200),
    ({"x_litellm_api_key": "Bearer {good}"}, 200),
    ({"xProxy_Api_Key": "{good}"}, 200),
    ({"x_litellm_api_key": "{good}", "authorization": "Bearer {bad}"}, 200),
    ({"authorization": "Bearer {good}", "api_key": "{bad}", "x_api_key": "{bad}"}, 200),
    ({"api_key": "{good}", "x_api_key": "{bad}"}, 200),
    ({"x_api_key": "{bad}", "x_litellm_api_key": "{good}"}, 200),
    ({"x_litellm_api_key": "{bad}", "authorization": "Bearer {good}"}, 401),
    ({"authorization": "Bearer {bad}", "x_api_key": "{good}"}, 401),
    ({"x_litellm_api_key": "sk-anything", "authorization": "Bearer {good}"}, 401),
    ({"authorization": "Bearer sk-anything"}, 401),
    ({"x_api_key": "sk-1234"}, 401),
    ({}, 401),
]


@each_path
@pytest.mark.parametrize(("headers", "expected"), KEYS, ids=str)
def test_whose_key_counts(
    path: str, headers: dict[str, str], expected: int, *, tenant: Tenant, standin: Standin
) -> None:
    """x-litellm-api-key, then Authorization, api-key and x-api-key; a stored one goes upstream and
    none of ours does, whichever counts."""
    bad = tenant.key[:-7] + "x" * 7
    sent = {name: value.format(good=tenant.key, bad=bad) for name, value in headers.items()}
    answer = call(tenant, path, **sent)
    assert answer.status_code == expected, answer.text
    assert not any(key in answer.text for key in (tenant.key, bad))
    if expected == 200:
        [came] = standin.ledger()
        assert came_with(came, SLOT[path], STORED_KEY[path])
        assert came.leaks == []
    else:
        assert answer.json()["xproxy_error"]["code"] == "invalid_api_key"
        assert standin.ledger() == []


@each_path
def test_a_callers_own_provider_key(path: str, service: Service, standin: Standin) -> None:
    """It goes upstream if ours stands beside it, and the key may bring its own."""
    standin.wait_idle()
    standin.reset()
    own = f"Bearer {OWN[path]}" if path == CHAT else OWN[path]
    allowed, not_allowed = (
        new_tenant(service, permissions=[it], route=LITELLM)
        for it in ("own_credential", "credential:*")
    )
    for tenant, expected in ((allowed, 200), (not_allowed, 403)):
        sent = {"x_litellm_api_key": tenant.key, SLOT[path]: own}
        assert call(tenant, path, **sent).status_code == expected
    [came] = standin.ledger()
    assert came_with(came, SLOT[path], OWN[path])


# What comes back


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_the_sdks(tenant: Tenant, standin: Standin, *, stream: bool) -> None:
    """Both, pointed at the routes: the answer is the provider's, its cost the true one, wherever
    the provider is and whether or not the client asked for usage."""
    with clients.anthropic_client(tenant) as claude:
        message: Any = claude.messages.create(**ASKED[MESSAGES], stream=stream)
        said: list[dict[str, Any]] = [it.to_dict() for it in (message if stream else [message])]
    with clients.openai_client(tenant) as gpt:
        chat: Any = gpt.chat.completions.create(**ASKED[CHAT], stream=stream)
        said += [it.to_dict() for it in (chat if stream else [chat])]
    results = [it["xproxy_result"] for it in said if "xproxy_result" in it]
    assert [row["streamed"] for row in tenant.rows(2)] == [stream, stream]
    for row, came, result in zip(tenant.rows(2), standin.ledger(), results, strict=True):
        assert (row["cost_pico"], row["estimated"]) == (str(came.cost_pico), False)
        assert (came.cost_pico or 0) > 0
        assert result["request_id"] == row["request_id"]


def test_openais_base_url_with_and_without_v1(tenant: Tenant, standin: Standin) -> None:
    """LiteLLM's page has none, OpenAI's own has one; both are the same place, under both names."""
    for base in ("/openai", "/openai/v1", "/openai_passthrough", "/openai_passthrough/v1"):
        with openai.OpenAI(base_url=tenant.service.url + base, api_key=tenant.key) as gpt:
            clients.chat(gpt)
            assert "gpt-4o" in [model.id for model in gpt.models.list()]
    paths = [came.path for came in standin.ledger()]
    assert paths == ["/v1/chat/completions", "/v1/models"] * 4


def test_tokens_are_counted_for_free(tenant: Tenant) -> None:
    """A row without a cost, though the key's budget is used up: nothing is logged as an error."""
    budget(tenant, "0.000001")
    assert call(tenant, MESSAGES, x_api_key=tenant.key).status_code == 400
    with clients.anthropic_client(tenant) as claude:
        counted = claude.messages.count_tokens(model=clients.MESSAGES_MODEL, messages=HELLO)  # type: ignore[arg-type]
    assert counted.input_tokens > 0
    row = tenant.rows(2)[1]
    assert (row["pricing"], row["cost_pico"], row["status"]) == ("free", "0", "ok")


METHODS = [
    ("GET", "/anthropic/v1/messages/batches/b/results", None, "/v1/messages/batches/b/results"),
    ("GET", "/anthropic/v1/files/f?limit=5&after=a%2Fb", None, "/v1/files/f"),
    ("DELETE", "/anthropic/v1/skills/s", None, "/v1/skills/s"),
    ("HEAD", "/openai/v1/models", None, "/v1/models"),
    ("PATCH", "/openai/v1/anything", b"{}", "/v1/anything"),
    ("PUT", "/openai/anything/else", b"\x00\xff", "/v1/anything/else"),
    ("POST", "/anthropic/v1/files", b'--x\r\n"litellm_metadata"\r\n', "/v1/files"),
]


@pytest.mark.parametrize(("method", "path", "body", "expected"), METHODS)
def test_every_endpoint_and_method(
    method: str, path: str, body: bytes | None, expected: str, *, tenant: Tenant, standin: Standin
) -> None:
    """Whatever comes below the prefix is the provider's: its query and its bytes as they came."""
    headers = {"Authorization": f"Bearer {tenant.key}"}
    answer = tenant.service.http.request(method, path, content=body, headers=headers)
    assert answer.status_code == 200
    assert answer.headers["x-litellm-call-id"] == answer.headers["xproxy-request-id"]
    [came] = standin.ledger()
    assert (came.method, came.path, came.query) == (method, expected, path.partition("?")[2])
    assert came.body_sha256 == hashlib.sha256(body or b"").hexdigest()


def test_what_answers_say_in_headers(tenant: Tenant, standin: Standin) -> None:
    """The call's id and the version always; its cost where that is known before the headers go; a
    key's budget where it has one."""
    for path in (CHAT, MESSAGES):
        plain = call(tenant, path, x_api_key=tenant.key)
        assert "x-litellm-key-max-budget" not in plain.headers
    budget(tenant, "2.5")
    for path in (CHAT, MESSAGES):
        whole = call(tenant, path, x_api_key=tenant.key)
        streamed = call(tenant, path, {"stream": True}, x_api_key=tenant.key)
        cost = whole.json()["xproxy_result"]["cost"]["total"]["base"]
        assert float(whole.headers["x-litellm-response-cost"]) == cost > 0
        assert "x-litellm-response-cost" not in streamed.headers
        for answer in (whole, streamed):
            assert answer.headers["x-litellm-version"] == __version__
            assert answer.headers["x-litellm-key-max-budget"] == "2.5"
            assert answer.headers["x-litellm-call-id"] == answer.headers["xproxy-request-id"]


# What calls say of themselves


def sent_body(path: str, **members: Any) -> tuple[bytes, bytes]:
    """A body laid out by hand, with LiteLLM's member and without it."""
    said = json.dumps({"tags": ["b", "jobID:7"], "trace_id": "ignored"}).encode()
    rest = json.dumps(ASKED[path] | members).encode()
    return rest[:-1] + b' , "litellm_metadata" : ' + said + b" }", rest[:-1] + b"  }"


@each_path
def test_tags_and_the_end_user(path: str, tenant: Tenant, standin: Standin) -> None:
    """Of headers and bodies; the provider gets every byte but LiteLLM's member: its own `metadata`,
    or `user`, too."""
    told: dict[str, Any] = {"metadata": {"user_id": "ann"}} if path == MESSAGES else {"user": "ann"}
    body, expected = sent_body(path, **told)
    headers = {
        "authorization": f"Bearer {tenant.key}",
        "content-type": "application/json",
        "x-litellm-tags": "a, b",
    }
    answer = tenant.service.http.post(path, content=body, headers=headers)
    assert answer.status_code == 200, answer.text
    [came] = standin.ledger()
    assert came.leaks == []
    assert came.body_sha256 == hashlib.sha256(expected).hexdigest()
    row = tenant.row()
    assert row["tags"] == answer.json()["xproxy_result"]["request_tags"] == ["a", "b", "jobID:7"]
    assert (row["user_id"], row["account_name"]) == ("ann", "ann")
    assert tenant.manage("GET", "usage", tag="jobID:7")["items"] == [row]


@pytest.mark.parametrize("header", ["x-litellm-end-user-id", "x-litellm-customer-id"])
def test_limits_of_an_end_user(header: str, tenant: Tenant, service: Service) -> None:
    """What is attached to a customer, or a user, of that name binds the call, whoever says it."""
    for kind in ("customer", "user"):
        tenant.limit(kind, "1")
        service.manage("PUT", f"attachments/{kind}/ann/{kind}", application=tenant.application_id)
    both = {"customer", "user"}
    named = {"x_api_key": tenant.key, header: "ann"}
    by_header = call(tenant, MESSAGES, {}, **named)
    assert set(by_header.json()["xproxy_result"]["limits"]) == both
    by_body = call(tenant, MESSAGES, {"metadata": {"user_id": "ann"}}, x_api_key=tenant.key)
    assert set(by_body.json()["xproxy_result"]["limits"]) == both
    first = call(tenant, MESSAGES, {"metadata": {"user_id": "eve"}}, **named)
    assert set(first.json()["xproxy_result"]["limits"]) == both
    assert first.json()["xproxy_result"]["account_name"] == "ann"
    other = call(tenant, CHAT, {"user": "eve"}, x_api_key=tenant.key)
    assert "limits" not in other.json()["xproxy_result"]


@pytest.mark.parametrize(
    ("members", "headers", "field"),
    [
        ({"litellm_metadata": {"tags": "a,b"}}, {}, "litellm_metadata"),
        ({"litellm_metadata": {"tags": ["x" * 257]}}, {}, "litellm_metadata.tags"),
        ({"metadata": {"user_id": "x" * 257}}, {}, "metadata.user_id"),
        ({}, {"x_litellm_tags": ",".join(map(str, range(65)))}, "x-litellm-tags"),
        ({}, {"x_litellm_customer_id": "x" * 257}, "x-litellm-customer-id"),
    ],
)
def test_what_could_not_be_kept_is_refused(
    members: dict[str, Any],
    headers: dict[str, str],
    field: str,
    *,
    tenant: Tenant,
    standin: Standin,
) -> None:
    """At the door, naming where it stood."""
    answer = call(tenant, MESSAGES, members, **headers, x_api_key=tenant.key)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert field in answer.json()["error"]["message"]
    assert standin.ledger() == []


# Errors

RATE_HEADERS = [f"x-ratelimit-{it}-requests" for it in ("limit", "remaining", "reset")]
REFUSED = [
    # what          status  Anthropic's type         OpenAI's type and code                 headers
    ("no key", 401, "authentication_error", "invalid_request_error invalid_api_key", ""),
    ("read key", 403, "permission_error", "permission_error not_allowed", ""),
    ("unmetered", 403, "permission_error", "permission_error unmetered_endpoint", ""),
    ("unpriced", 403, "permission_error", "permission_error unpriced_model", ""),
    ("no json", 400, "invalid_request_error", "invalid_request_error invalid_json", ""),
    ("no model", 400, "invalid_request_error", "invalid_request_error required_field_missing", ""),
    ("no path", 404, "not_found_error", "invalid_request_error not_found", ""),
    ("large", 413, "request_too_large", "invalid_request_error request_too_large", ""),
    (
        "too soon",
        429,
        "rate_limit_error",
        "rate_limit_error rate_limit_exceeded",
        "retry-after x-should-retry " + " ".join(RATE_HEADERS),
    ),
    ("spent", 400, "budget_exceeded", "budget_exceeded limit_reached", "x-should-retry"),
    ("cut", 502, "api_error", "api_error provider_error", "x-should-retry"),
]


LARGE = 32 * 1024 * 1024 + 1
"""More bytes than a body may have."""


def odd_request(what: str, path: str) -> tuple[str, dict[str, Any]]:
    """Path and body of a call that the service refuses, or of a good one."""
    below, body = path.rpartition("/")[0], ASKED[path]
    found: dict[str, tuple[str, dict[str, Any]]] = {
        "unmetered": (below + "/batches", {"json": body}),
        "unpriced": (path, {"json": body | {"model": "a-model-without-a-price"}}),
        "no json": (path, {"content": b"{"}),
        "no model": (path, {"json": {"messages": []}}),
        "no path": (below + "/%2e%2e/admin", {"json": body}),
        "large": (path, {"content": b"x" * LARGE if what == "large" else b""}),
    }
    return found.get(what, (path, {"json": body}))


def odd_key(what: str, tenant: Tenant, standin: Standin, path: str) -> str:
    """The key that a call shows, and what makes the service refuse it, or fail."""
    admin = tenant.service.manage
    if what in ("unmetered", "unpriced", "spent"):
        budget(tenant, "0.000001")
    elif what == "read key":
        members = {"application_id": tenant.application_id, "role": "read", "name": "r"}
        return str(admin("POST", "keys", members)["key"])
    elif what == "too soon":
        once = {"rate_limits": {"requests_per_minute": 1}}
        admin("PATCH", f"keys/{tenant.key_id}", once, application=tenant.application_id)
        assert call(tenant, path, x_api_key=tenant.key).status_code == 200
    elif what == "cut":
        standin.script({"cut_at_byte": 0})
    return "sk-nobody" if what == "no key" else tenant.key


@each_path
@pytest.mark.parametrize(("what", "status", "anthropics", "openais", "extra"), REFUSED)
def test_errors(
    path: str,
    what: str,
    status: int,
    anthropics: str,
    openais: str,
    extra: str,
    *,
    tenant: Tenant,
    standin: Standin,
) -> None:
    """In the provider's own grammar with our members; no key in it, and no digest of one."""
    key = odd_key(what, tenant, standin, path)
    url, sent = odd_request(what, path)
    answer = tenant.service.http.post(url, headers={"x-api-key": key}, **sent)
    body = answer.json()
    assert answer.status_code == status, answer.text
    kind, _, code = openais.partition(" ")
    if path == MESSAGES:
        assert (body["type"], set(body["error"])) == ("error", {"type", "message"})
        assert body["error"]["type"] == anthropics
    else:
        assert set(body["error"]) == {"type", "message", "param", "code"}
        assert (body["error"]["type"], body["error"]["code"]) == (kind, code)
    assert set(body) - {"type"} == {"error", "xproxy_error", "xproxy_result"}
    assert body["error"]["message"]
    assert body["xproxy_result"]["request_id"] == answer.headers["xproxy-request-id"]
    assert set(extra.split()) <= set(answer.headers)
    for secret in (tenant.key, hashlib.sha256(tenant.key.encode()).hexdigest(), *STORED.values()):
        assert secret not in answer.text


def test_answers_say_what_the_key_has_spent(tenant: Tenant) -> None:
    """As it was up to a second before, for no call waits for it."""
    budget(tenant, "1")
    body = ASKED[MESSAGES]
    with clients.anthropic_client(tenant) as claude:
        first = claude.messages.with_raw_response.create(**body)
        spent = Decimal(first.headers["x-litellm-response-cost"])
        assert Decimal(first.headers["x-litellm-key-max-budget"]) == 1
        deadline = time.monotonic() + 10
        while True:
            time.sleep(1.1)
            said = claude.messages.with_raw_response.create(**body).headers
            if Decimal(said.get("x-litellm-key-spend", "0")) >= spent:
                break
            assert time.monotonic() < deadline
        assert Decimal(said["x-litellm-key-spend"]) % spent == 0


def test_the_sdks_raise_their_own_errors(tenant: Tenant) -> None:
    """Each by its class, with the message that says what to do; a spent budget is tried once."""
    budget(tenant, "0.000001")
    with (
        clients.anthropic_client(tenant, max_retries=3) as claude,
        pytest.raises(anthropic.BadRequestError, match="'budget' is used up") as refused,
    ):
        clients.message(claude)
    assert refused.value.response.headers["x-should-retry"] == "false"
    spent = refused.value.response.headers
    assert (spent["x-litellm-key-max-budget"], spent["x-litellm-key-spend"]) == ("0.000001", "0")
    with (
        clients.openai_client(tenant, max_retries=3) as gpt,
        pytest.raises(openai.BadRequestError, match="'budget' is used up") as also,
    ):
        clients.chat(gpt)
    assert (also.value.type, also.value.code) == ("budget_exceeded", "limit_reached")
    assert [row["status"] for row in tenant.rows(2)] == ["blocked", "blocked"]
    with (
        clients.anthropic_client(tenant, key="sk-anything") as stranger,
        pytest.raises(anthropic.AuthenticationError),
    ):
        clients.message(stranger)


@each_path
def test_a_providers_error_is_its_own(path: str, tenant: Tenant, standin: Standin) -> None:
    """Status, type and members as it said them, and the result; a page that is no JSON as it is."""
    theirs = {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}
    standin.script({"status": 529, "error": theirs})
    answer = call(tenant, path, x_api_key=tenant.key)
    assert answer.status_code == 529
    assert list(answer.json()) == [*theirs, "xproxy_result"]
    assert theirs.items() <= answer.json().items()


# Budgets hold


@each_path
async def test_a_keys_budget_holds_under_200_calls_at_once(
    path: str, tenant: Tenant, standin: Standin
) -> None:
    """A hard cap of the key's: some get in, the rest are refused, and what is charged is what the
    provider bills, and at most the cap; then the rest of it can be spent."""
    usd = "0.002" if path == MESSAGES else "0.0005"
    budget(tenant, usd)
    standin.script({"usage": BILLED[path], "delay_ms": 300})
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(
        base_url=tenant.service.url,
        headers={"x-api-key": tenant.key},
        limits=limits,
        timeout=60,
        trust_env=False,
    ) as client:
        bodies = [ASKED[path] | {"stream": bool(number % 2)} for number in range(200)]
        answers = await asyncio.gather(*(client.post(path, json=it) for it in bodies))
    served = [it for it in answers if it.status_code == 200]
    refused = [it for it in answers if it.status_code == 400]
    standin.wait_idle()
    billed_pico = total_pico(standin.ledger())
    print(f"{path}: {len(served)} let in, ${Decimal(billed_pico).scaleb(-12)} of ${usd}")
    assert len(served) + len(refused) == 200
    assert {it.json()["error"]["type"] for it in refused} == {"budget_exceeded"}
    assert 0 < len(served) == len(standin.ledger())
    spent = tenant.totals("budget")["cost"]["total"]["base"]
    assert billed_pico == int(Decimal(spent).scaleb(12)) <= Decimal(usd).scaleb(12)
    assert len(tenant.rows(200)) == 200


def until_refused(tenant: Tenant, path: str, status: int) -> float:
    """Call until calls are refused; how long that took, in seconds."""
    began_s = time.monotonic()
    while (found := call(tenant, path, x_api_key=tenant.key).status_code) == 200:
        assert time.monotonic() - began_s < 10
    assert found == status
    return time.monotonic() - began_s


@each_path
def test_a_revoked_key_stops_within_a_second(path: str, tenant: Tenant, service: Service) -> None:
    """New calls are refused, which a key that had just been used would make."""
    assert call(tenant, path, x_api_key=tenant.key).status_code == 200
    service.manage("PATCH", f"keys/{tenant.key_id}", {"blocked": True})
    assert until_refused(tenant, path, 401) < 1


@each_path
def test_an_exhausted_key_stops_at_once(path: str, tenant: Tenant, standin: Standin) -> None:
    """The next call is refused, whatever other workers remember: the counter is the budget."""
    budget(tenant, "0.01")
    standin.script({"usage": BILLED[path]})
    assert call(tenant, path, x_api_key=tenant.key).status_code == 200
    spent = str(tenant.totals("budget")["cost"]["total"]["base"])
    tenant.service.manage("PUT", "limits/budget", {"max": spent}, application=tenant.application_id)
    assert until_refused(tenant, path, 400) < 1
    assert len(standin.ledger()) == 1
