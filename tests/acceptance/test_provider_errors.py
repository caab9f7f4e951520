"""A provider's errors reach the SDKs as the provider's: status, members and headers, plus ours."""

from __future__ import annotations

from typing import Any

import anthropic
import openai
import pytest

from tests.acceptance import clients
from tests.acceptance.conftest import STORED
from tests.acceptance.tenant import CHAT, MESSAGES, Tenant
from tests.standin.process import Standin

STATUSES = [
    (400, openai.BadRequestError, anthropic.BadRequestError),
    (401, openai.AuthenticationError, anthropic.AuthenticationError),
    (403, openai.PermissionDeniedError, anthropic.PermissionDeniedError),
    (404, openai.NotFoundError, anthropic.NotFoundError),
    (413, openai.APIStatusError, anthropic.APIStatusError),
    (429, openai.RateLimitError, anthropic.RateLimitError),
    (500, openai.InternalServerError, anthropic.InternalServerError),
    (503, openai.InternalServerError, anthropic.InternalServerError),
    (529, openai.InternalServerError, anthropic.InternalServerError),
]
OPENAI_BODY = {"message": "Told so.", "type": "odd", "param": "x", "code": "odd_code"}
ANTHROPIC_BODY = {"type": "odd_error", "message": "Told so."}


def check(response: Any, status: int, tenant: Tenant, standin: Standin) -> dict[str, Any]:
    """Our members stand beside the provider's; the call is recorded as failed and cost nothing."""
    body: dict[str, Any] = response.json()
    assert response.status_code == status
    assert body["xproxy_error"]["code"] == "provider_error"
    assert body["statusCode"] == status
    assert body["xproxy_result"]["limits"] == {"team": {"state": "failed"}}
    assert "cost" not in body["xproxy_result"]
    assert "x-should-retry" not in response.headers
    assert len(standin.ledger()) == 1
    row = tenant.row()
    assert row["request_id"] == body["xproxy_result"]["request_id"]
    assert (row["status"], row["http_status"], row["error_code"]) == (
        "failed",
        status,
        "provider_error",
    )
    totals = tenant.totals("team")
    assert (totals["cost"]["total"]["base"], totals["requests"]["failed"]) == (0, 1)
    return body


@pytest.mark.parametrize(("status", "error", "_"), STATUSES)
@pytest.mark.parametrize("stream", [False, True])
def test_openai_errors_keep_status_and_members(
    status: int,
    error: type[openai.APIStatusError],
    _: Any,
    tenant: Tenant,
    standin: Standin,
    *,
    stream: bool,
) -> None:
    """The SDK raises what it would raise without us; `e.body` is the provider's error."""
    standin.script({"status": status, "error": {"error": OPENAI_BODY, "more": 1}})
    headers = {"xProxy-Limit-IDs": tenant.limit("team")}
    with (
        clients.openai_client(tenant, max_retries=0) as client,
        pytest.raises(error) as caught,
    ):
        clients.chat(client, stream=stream, extra_headers=headers)
    body = check(caught.value.response, status, tenant, standin)
    assert (body["error"], body["more"]) == (OPENAI_BODY, 1)
    assert caught.value.body == OPENAI_BODY


@pytest.mark.parametrize(("status", "_", "error"), STATUSES)
@pytest.mark.parametrize("stream", [False, True])
def test_anthropic_errors_keep_status_and_members(
    status: int,
    _: Any,
    error: type[anthropic.APIStatusError],
    tenant: Tenant,
    standin: Standin,
    *,
    stream: bool,
) -> None:
    """The SDK raises what it would raise without us; `e.body` has the provider's members."""
    standin.script({"status": status, "error": {"type": "error", "error": ANTHROPIC_BODY}})
    headers = {"xProxy-Limit-IDs": tenant.limit("team")}
    with (
        clients.anthropic_client(tenant, max_retries=0) as client,
        pytest.raises(error) as caught,
    ):
        clients.message(client, stream=stream, extra_headers=headers)
    body = check(caught.value.response, status, tenant, standin)
    assert (body["type"], body["error"]) == ("error", ANTHROPIC_BODY)
    assert caught.value.body == body


@pytest.mark.parametrize("status", [429, 500])
@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_the_sdks_retry_a_providers_error_as_ever(
    provider: str, status: int, tenant: Tenant, standin: Standin
) -> None:
    """Each attempt reaches the provider, saying its number; the answer of the last is paid for, all
    are recorded as the tries they are."""
    standin.script(then=[{"status": status, "headers": {"retry-after-ms": "50"}}] * 2)
    headers = {"xProxy-Limit-IDs": tenant.limit("team")}
    make: Any = clients.openai_client if provider == "openai" else clients.anthropic_client
    ask: Any = clients.chat if provider == "openai" else clients.message
    with make(tenant, max_retries=2) as client:
        answer = ask(client, extra_headers=headers)
    assert answer.xproxy_result["limits"] == {"team": {"state": "ok"}}
    calls = standin.ledger()
    assert [call.status for call in calls] == [status, status, 200]
    assert all("x-stainless-retry-count" in call.headers for call in calls)
    rows = tenant.rows(3)
    tries = [(row["status"], row["retry_count"], row["cost_pico"] != "0") for row in rows]
    assert tries == [("failed", 0, False), ("failed", 1, False), ("ok", 2, True)]
    totals = tenant.totals("team")
    assert (totals["requests"]["ok"], totals["requests"]["failed"]) == (1, 2)
    assert str(int(totals["cost"]["total"]["base"].scaleb(12))) == rows[2]["cost_pico"]


def test_retry_after_and_rate_limits_pass(tenant: Tenant, standin: Standin) -> None:
    """What the provider says about when to come back stays as it said it."""
    standin.script({"status": 429, "headers": {"retry-after": "7"}})
    body = {"model": "gpt-4o", "messages": []}
    answer = tenant.post(CHAT, body)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
    assert answer.headers["x-ratelimit-limit-requests"] == "10000"
    assert answer.headers["x-request-id"].startswith("req_")
    assert "set-cookie" not in answer.headers
    answer = tenant.post(MESSAGES, body | {"max_tokens": 5})
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
    assert answer.headers["anthropic-ratelimit-requests-limit"] == "4000"
    assert answer.headers["request-id"].startswith("req_")


@pytest.mark.parametrize("path", [CHAT, MESSAGES])
def test_a_stored_key_is_not_repeated(path: str, tenant: Tenant, standin: Standin) -> None:
    """Some providers repeat the key they were sent; of a stored one, no caller sees a letter."""
    secrets = " ".join(STORED.values())
    standin.script({"status": 401, "error": {"error": {"message": f"Bad key: {secrets}."}}})
    answer = tenant.post(path, {"model": "gpt-4o", "messages": [], "max_tokens": 5})
    assert answer.status_code == 401
    assert "Bad key: *** ***" in answer.json()["error"]["message"]
    for secret in STORED.values():
        assert secret not in answer.text


def test_an_error_that_is_no_json_is_passed_on(tenant: Tenant, standin: Standin) -> None:
    """A gateway's page comes as a member of a JSON object that says what it is."""
    standin.script({"status": 502, "malformed": "not_sse"})
    answer = tenant.post(CHAT, {"model": "gpt-4o", "messages": []})
    assert answer.status_code == 502
    assert answer.headers["content-type"] == "application/json"
    assert "<h1>502 Bad Gateway</h1>" in answer.json()["provider_response"]
    assert tenant.row()["status"] == "failed"
