"""The paths beside the two metered ones: free ones pass, others pass unless a limit binds."""

from __future__ import annotations

import json
from contextlib import closing
from http.client import HTTPConnection
from typing import Any

import openai
import pytest

from tests.acceptance import clients
from tests.acceptance.tenant import ANTHROPIC, CHAT, OPENAI, Tenant, new_tenant
from tests.standin.process import Standin
from tests.standin.service import Service

SPENT = {"xProxy-Limit-IDs": "spent"}
EMBED: dict[str, Any] = {"model": "text-embedding-3-small", "input": "Hello."}
TUNE: dict[str, Any] = {"model": "gpt-4o-mini", "training_file": "file-abc"}


@pytest.fixture
def poor(tenant: Tenant) -> Tenant:
    """A tenant whose blocking limit is used up."""
    tenant.limit("spent", "0.000001")
    assert tenant.post(CHAT, {"model": "gpt-4o", "messages": []}, SPENT).status_code == 200
    return tenant


def test_models_are_listed_for_free(poor: Tenant, standin: Standin) -> None:
    """`GET /v1/models` of both providers passes even under a limit that is used up."""
    with clients.openai_client(poor, default_headers=SPENT) as client:
        assert "gpt-4o" in [model.id for model in client.models.list()]
    with clients.anthropic_client(poor, default_headers=SPENT) as claude:
        assert "claude-haiku-4-5" in [model.id for model in claude.models.list()]
    assert [call.path for call in standin.ledger()][1:] == ["/v1/models"] * 2
    for row in poor.rows(3)[1:]:
        assert (row["pricing"], row["cost_pico"], row["method"]) == ("free", "0", "GET")
        assert row["limits"] == []


def test_tokens_are_counted_for_free(poor: Tenant, standin: Standin) -> None:
    """`count_tokens` passes under a limit that is used up, and the answer is the provider's."""
    with clients.anthropic_client(poor, default_headers=SPENT) as claude:
        counted = claude.messages.count_tokens(
            model=clients.MESSAGES_MODEL, messages=[{"role": "user", "content": "Hello."}]
        )
    assert counted.input_tokens > 0
    row = poor.rows(2)[1]
    assert (row["pricing"], row["endpoint"]) == ("free", "/v1/messages/count_tokens")


def test_what_is_not_metered_passes_without_limits(tenant: Tenant, standin: Standin) -> None:
    """Fine-tuning, and a POST nobody knows: the provider's answer as it came, and a row."""
    with clients.openai_client(tenant) as client:
        client.fine_tuning.jobs.create(**TUNE)
    answer = tenant.post(OPENAI + "/unheard/of?x=1%2F2", {"a": 1})
    assert answer.json()["path"] == "/v1/unheard/of"
    assert "xproxy_result" not in answer.text
    assert answer.headers["xproxy-request-id"]
    assert [call.query for call in standin.ledger()] == ["", "x=1%2F2"]
    rows = tenant.rows(2)
    assert [row["endpoint"] for row in rows] == ["/v1/fine_tuning/jobs", "/v1/unheard/of"]
    assert {(row["pricing"], row["status"], row["cost_pico"]) for row in rows} == {
        ("unmetered", "ok", "0")
    }


@pytest.mark.parametrize("path", [OPENAI + "/fine_tuning/jobs", ANTHROPIC + "/v1/unheard"])
def test_what_is_not_metered_is_refused_under_a_binding_limit(
    path: str, tenant: Tenant, standin: Standin
) -> None:
    """Nobody knows what it costs, so no blocking limit can vouch for it: 403, and what to do."""
    tenant.limit("team")
    answer = tenant.post(path, TUNE, {"xProxy-Limit-IDs": "team"})
    assert answer.status_code == 403
    body = answer.json()
    assert body["xproxy_error"]["code"] == "unmetered_endpoint"
    assert "'team' blocks" in body["message"]
    assert "permission `unmetered`" in body["message"]
    assert standin.ledger() == []
    assert tenant.totals("team")["requests"]["total"] == 0


def test_the_sdk_names_that_refusal(tenant: Tenant) -> None:
    """OpenAI's SDK raises PermissionDeniedError."""
    headers = {"xProxy-Limit-IDs": tenant.limit("team")}
    with (
        clients.openai_client(tenant, default_headers=headers) as client,
        pytest.raises(openai.PermissionDeniedError, match="not metered"),
    ):
        client.fine_tuning.jobs.create(**TUNE)


def test_embeddings_are_metered(tenant: Tenant) -> None:
    """OpenAI's SDK shows the result as a member of the answer; tokens of the input are the cost."""
    headers = {"xProxy-Limit-IDs": tenant.limit("team")}
    with clients.openai_client(tenant, default_headers=headers) as client:
        answer = client.embeddings.create(**EMBED)
    result = answer.xproxy_result  # type: ignore[attr-defined]
    assert len(answer.data) == 1
    assert result["limits"] == {"team": {"state": "ok"}}
    row = tenant.row()
    assert int(row["cost_pico"]) == answer.usage.prompt_tokens * 20_000
    assert result["cost"]["output"]["base"] == 0


def test_an_allow_limit_or_a_permission_lets_it_pass(
    tenant: Tenant, service: Service, standin: Standin
) -> None:
    """A limit that never refuses does not refuse this; a key that may, may."""
    tenant.limit("soft", limit_type="allow")
    allowed = new_tenant(service, "team", permissions=["unmetered"])
    for caller, limit_id in ((tenant, "soft"), (allowed, "team")):
        answer = caller.post(OPENAI + "/fine_tuning/jobs", TUNE, {"xProxy-Limit-IDs": limit_id})
        assert answer.status_code == 200, answer.text
    assert len(standin.ledger()) == 2


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/proxy/openai/chat/completions",
        "/api/v1/proxy/openaiv1/chat/completions",
        "/api/v1/proxy/nobody/v1/chat/completions",
        "/api/v1/proxy/openai/v1/../../anthropic/v1/messages",
        "/api/v1/proxy/openai/v1/%2e%2e/%2e%2e/_script",
        "/api/v1/proxy/anthropic/%2E%2E/_reset",
        "/api/v1/proxy/anthropic/",
        "/v1/chat/completionss",
        "/openai_y/v1/chat/completions",
        "/openai/v1/../../anthropic/v1/messages",
        "/openai/v1/",
        "/openai",
        "/anthropicx/v1/messages",
        "/anthropic/%2E%2E/_reset",
        "/anthropic/",
    ],
)
def test_a_mistyped_path_is_our_404(path: str, tenant: Tenant, standin: Standin) -> None:
    """No provider is called for a path that is not a provider's."""
    connection = HTTPConnection("127.0.0.1", tenant.service.port, timeout=10)
    with closing(connection):  # an SDK's client would walk the dots itself
        connection.request("POST", path, b"{}", {"xProxy-Api-Key": tenant.key})
        answer = connection.getresponse()
        body = json.loads(answer.read())
    assert answer.status == 404
    assert body["xproxy_error"]["code"] == "not_found"
    assert standin.stats()["calls"] == 0


@pytest.mark.parametrize(
    "spelling", ["/%76ideos/a%2Fb?q=%2F%7e&r=a+b%20c&s", "/videos//x/?", "/videos/%E2%82%AC?u=%c3"]
)
def test_paths_and_queries_keep_their_spelling(
    spelling: str, tenant: Tenant, standin: Standin
) -> None:
    """The provider gets the very characters that the caller sent."""
    connection = HTTPConnection("127.0.0.1", tenant.service.port, timeout=10)
    with closing(connection):
        connection.request("GET", OPENAI + spelling, headers={"xProxy-Api-Key": tenant.key})
        answer = connection.getresponse()
        answer.read()  # at the end of which it stands in the books
        assert answer.status == 200
    [call] = standin.ledger()
    assert f"{call.path}?{call.query}" == "/v1" + spelling


@pytest.mark.parametrize("size", [0, 1, 300_000, 9_000_000])
def test_binary_answers_pass_untouched(size: int, tenant: Tenant, standin: Standin) -> None:
    """Bytes that are no JSON, of any size, come as they are."""
    standin.script({"body_bytes": size, "content_type": "audio/mpeg"})
    answer = tenant.post(OPENAI + "/fine_tuning/jobs", TUNE)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "audio/mpeg"
    assert answer.content == b"\xa5" * size
    assert tenant.row()["pricing"] == "unmetered"
