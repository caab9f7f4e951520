"""What holds for every route: keys, errors in one grammar, raw paths, request ids, the schema."""

from __future__ import annotations

from typing import Any

import pytest
from litestar.routes import HTTPRoute
from structlog.testing import capture_logs

from metering.api.auth import PUBLIC
from tests.api.conftest import MINE, OTHER, Bench, Readiness

LIMITS = "/api/v1/limits"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"xProxy-Api-Key": "app-key"}, 200),
        ({"XPROXY-API-KEY": " app-key "}, 200),
        ({"Authorization": "app-key"}, 200),
        ({"Authorization": "Bearer app-key"}, 200),
        ({"authorization": "bearer  app-key"}, 200),
        ({"xProxy-Api-Key": "app-key", "Authorization": "Bearer provider"}, 200),
        ({"xProxy-Api-Key": "", "Authorization": "Bearer app-key"}, 200),
        ({"xProxy-Api-Key": "wrong", "Authorization": "app-key"}, 401),
        ({"Authorization": "Basic app-key"}, 401),
        ({"xProxy-Api-Key": ""}, 401),
        ({}, 401),
    ],
)
async def test_where_the_key_is(bench: Bench, headers: dict[str, str], status: int) -> None:
    """The key is `xProxy-Api-Key`, in any case, or else `Authorization`, raw or Bearer."""
    response = await bench.ask("GET", LIMITS, key=None, headers=headers)

    assert response.status_code == status
    if status == 401:
        fault = response.json()
        assert fault["statusCode"] == 401
        assert fault["xproxy_error"]["code"] == "invalid_api_key"
        assert fault["message"].startswith("Your api key is invalid, missing, or expired.")
        assert "wrong" not in response.text


async def test_every_other_route_is_closed(bench: Bench) -> None:
    """Without a key nothing but the listed routes answers."""
    closed = 0
    for route in bench.app.routes:
        if not isinstance(route, HTTPRoute) or route.path_format in PUBLIC:
            continue
        for method in sorted(route.methods - {"OPTIONS"}):
            response = await bench.ask(method, route.path_format, key=None)
            assert response.status_code == 401, (method, route.path_format)
            closed += 1

    assert closed >= 20


@pytest.mark.parametrize(
    ("key", "named", "status", "limit_id"),
    [
        ("admin-key", None, 200, "mine"),
        ("admin-key", OTHER, 200, "others"),
        ("admin-key", "other", 200, "others"),
        ("admin-key", "nope", 404, None),
        ("admin-key", "\x01", 404, None),
        ("app-key", MINE, 200, "mine"),
        ("app-key", OTHER, 404, None),
        ("read-key", OTHER, 404, None),
    ],
)
async def test_acting_for(
    bench: Bench, key: str, named: str | None, status: int, limit_id: str | None
) -> None:
    """An admin acts for the default application or the one he names; others for their own only."""
    await bench.limit(limit_id="mine")
    body = {"limit_name": "l", "limit_id": "others", "max": 1}
    await bench.ask("POST", LIMITS, body, key="other-key")

    ways: list[tuple[dict[str, str], dict[str, str]]] = [({}, {})]
    if named:
        ways = [({"application": named}, {})]
        if named.isprintable():
            ways.append(({}, {"xProxy-Application": named}))
    for query, headers in ways:
        shown = {"xProxy-Api-Key": key, **headers}
        response = await bench.http.get(LIMITS, params=query, headers=shown)
        assert response.status_code == status, response.text
        if limit_id:
            assert [item["limit_id"] for item in response.json()["items"]] == [limit_id]
        else:
            assert response.json()["xproxy_error"]["code"] == "application_not_found"


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code", "words"),
    [
        ("GET", "/api/v1/nope", None, 404, "not_found", "/api/v1/nope"),
        ("GET", "/", None, 404, "not_found", "/schema"),
        ("PATCH", LIMITS, None, 405, "method_not_allowed", "POST"),
        ("POST", LIMITS, b"{", 400, "invalid_json", "JSON"),
        ("POST", LIMITS, b"[1]", 400, "request_processing_error", "object"),
        ("POST", LIMITS, b'"\xff"', 400, "invalid_json", "JSON"),
        ("POST", LIMITS, b'{"limit_name":"\\ud800","max":1}', 400, "invalid_json", "JSON"),
        ("POST", LIMITS, b"[" * 100_000, 400, "invalid_json", "JSON"),
        ("POST", LIMITS, b"", 400, "required_field_missing", "limit_name"),
        ("POST", LIMITS, b'{"limit_name":"n"}', 400, "required_field_missing", "max"),
        ("POST", LIMITS, b" " * 1_100_000, 413, "request_too_large", ""),
        ("GET", LIMITS + "?limit=many", None, 400, "request_processing_error", "limit"),
        ("GET", LIMITS + "?limit_name=%00", None, 400, "request_processing_error", "limit_name"),
        ("GET", LIMITS + "/%00", None, 400, "request_processing_error", "limit_id"),
        ("GET", LIMITS + "/%ff", None, 400, "request_processing_error", "limit_id"),
        ("GET", LIMITS + "/none", None, 404, "limit_not_found", "'none'"),
    ],
)
async def test_errors_have_one_grammar(
    bench: Bench, *, method: str, path: str, body: Any, status: int, code: str, words: str
) -> None:
    """Whatever is wrong is an ApiError that names the field and carries the request id."""
    response = await bench.ask(method, path, body)

    fault = response.json()
    assert response.status_code == status, response.text
    assert set(fault) == {"message", "statusCode", "xproxy_error"}
    assert fault["statusCode"] == status
    assert fault["xproxy_error"]["code"] == code
    assert words in fault["message"]
    assert response.headers["content-type"] == "application/json"
    assert response.headers["xproxy-request-id"]


async def test_a_bug_says_nothing(bench: Bench) -> None:
    """What nobody expected is a 500 without details, and one event in the log."""
    body = {"limit_name": "l", "limit_id": "l", "max": 1}
    await bench.ask("POST", LIMITS, body)
    bench.ledger.counters.clear()  # the double then fails with a KeyError

    with capture_logs() as logged:
        response = await bench.ask("GET", f"{LIMITS}/l")

    assert response.status_code == 500
    assert response.json()["xproxy_error"]["code"] == "unexpected_error"
    assert "KeyError" not in response.text
    [event] = logged
    assert (event["event"], event["method"]) == ("api_failed", "GET")
    assert event["route"] == "/api/v1/limits/{limit_id}"
    assert event["request_id"] == response.headers["xproxy-request-id"]


@pytest.mark.parametrize("path", ["//api/v1//limits", "/api/v1/limits/"])
async def test_slashes(bench: Bench, path: str) -> None:
    """Doubled and trailing slashes, as string-joined base URLs make them, do not matter."""
    response = await bench.ask("GET", "http://xproxy.test" + path)

    assert response.status_code == 200


async def test_health(bench: Bench) -> None:
    """Live is live; ready says what stands in the way, to anyone."""
    assert isinstance(bench.services.readiness, Readiness)
    live = await bench.ask("GET", "/health/live", key=None)
    ready = await bench.ask("GET", "/health/ready", key=None)
    bench.services.readiness.found.append("Redis does not answer")
    unready = await bench.ask("GET", "/health/ready", key=None)

    assert (live.status_code, live.json()) == (200, {"status": "ok"})
    assert (ready.status_code, ready.json()) == (200, {"status": "ok"})
    assert unready.status_code == 503
    assert unready.json()["problems"] == ["Redis does not answer"]


async def test_the_schema_is_offline(bench: Bench) -> None:
    """`/schema` is JSON, describes money as numbers, and no page asks a stranger's server."""
    schema = await bench.ask("GET", "/schema", key=None)
    page = await bench.ask("GET", "/schema/redoc", key=None)

    described = schema.json()
    assert described["components"]["schemas"]["CreateLimit"]["properties"]["max"] == {
        "type": "number"
    }
    assert {"/api/v1/limits", "/api/v1/usage", "/api/v1/budgets"} <= set(described["paths"])
    assert page.status_code == 404
    assert "http" not in page.text


async def test_the_page_shows_every_route_and_asks_nobody(bench: Bench) -> None:
    """`/schema/page` is HTML with every route and body, no script, no stranger's address."""
    schema = (await bench.ask("GET", "/schema", key=None)).json()
    page = await bench.ask("GET", "/schema/page", key=None)
    assert page.headers["content-type"].startswith("text/html")
    for path in schema["paths"]:
        assert f"<code>{path}</code>" in page.text
    for name in schema["components"]["schemas"]:
        assert f'id="{name}"' in page.text
    for word in ("http:", "https:", "src=", "<script", "@import", "url("):
        assert word not in page.text


async def test_every_route_documents_its_faults(bench: Bench) -> None:
    """A fault is an ApiError, or has the shape of whose route it is; what needs no key says so."""
    schema = (await bench.ask("GET", "/schema", key=None)).json()
    for path, item in schema["paths"].items():
        for operation in item.values():
            fault = operation["responses"]["default"]["content"]["application/json"]["schema"]
            ours = path.startswith(("/api/v1/", "/health/"))
            of_openai, virtual = path == "/v1/models", "/virtual-keys" in path
            theirs = "OpenAIError" if of_openai else "PortkeyError" if virtual else "LiteLLMError"
            shape = "ApiError" if ours else theirs
            assert fault == {"$ref": f"#/components/schemas/{shape}"}, path
            assert operation["description"], path
            assert (operation.get("security") == []) is path.startswith("/health")
    many = schema["paths"]["/api/v1/ingest/bulk"]["post"]["requestBody"]["content"]
    assert many["application/json"]["schema"]["type"] == "array"
