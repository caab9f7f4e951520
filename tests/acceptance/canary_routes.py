"""The routes of the management API, each with a request that succeeds. A new one needs a line."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, cast

from metering import api
from metering.api.portkey import ROOTS
from tests.acceptance.canary_paths import filled
from tests.acceptance.tenant import Tenant

SEALED, SLUG = "<sealed>", "<slug>"
"""The places of a credential's secret, and of the slug of a new one."""
FRESH = "sk-of-a-fresh-credential"
PROPERTIES = {"properties": {"a": "b"}}
LIMITED = {
    "usage_limits": {"credit_limit": 1},
    "rate_limits": [{"type": "requests", "unit": "rpm", "value": 100}],
}
"""What binds a virtual key of Portkey's."""
BODIES: dict[tuple[str, str], dict[str, Any] | None] = {
    ("DELETE", "/api/v1/applications/{application_id}"): None,
    ("DELETE", "/api/v1/attachments/{kind}/{name}/{limit_id}"): None,
    ("DELETE", "/api/v1/budgets/{limit_id}"): None,
    ("DELETE", "/api/v1/budgets/{limit_id}/tags"): None,
    ("DELETE", "/api/v1/categories/{category_name}"): None,
    ("DELETE", "/api/v1/categories/{category_name}/resources/{resource}"): None,
    ("DELETE", "/api/v1/categories/{category_name}/resources/{resource}/{resource_id}"): None,
    ("DELETE", "/api/v1/credentials/{slug}"): None,
    ("DELETE", "/api/v1/keys/{key_id}"): None,
    ("DELETE", "/api/v1/limits/{limit_id}"): None,
    ("DELETE", "/api/v1/limits/{limit_id}/tags"): None,
    ("DELETE", "/api/v1/prices/own"): None,
    ("GET", "/api/v1/applications"): None,
    ("GET", "/api/v1/applications/{application_id}"): None,
    ("GET", "/api/v1/attachments"): None,
    ("GET", "/api/v1/audit"): None,
    ("GET", "/api/v1/budgets"): None,
    ("GET", "/api/v1/budgets/{limit_id}"): None,
    ("GET", "/api/v1/budgets/{limit_id}/tags"): None,
    ("GET", "/api/v1/categories"): None,
    ("GET", "/api/v1/categories/{category_name}/resources"): None,
    ("GET", "/api/v1/categories/{category_name}/resources/{resource}"): None,
    ("GET", "/api/v1/categories/{category_name}/resources/{resource}/{resource_id}"): None,
    ("GET", "/api/v1/credentials"): None,
    ("GET", "/api/v1/credentials/{slug}"): None,
    ("GET", "/api/v1/keys"): None,
    ("GET", "/api/v1/keys/{key_id}"): None,
    ("GET", "/api/v1/limits"): None,
    ("GET", "/api/v1/limits/{limit_id}"): None,
    ("GET", "/api/v1/limits/{limit_id}/history"): None,
    ("GET", "/api/v1/limits/{limit_id}/tags"): None,
    ("GET", "/api/v1/limits/{limit_id}/why"): None,
    ("GET", "/api/v1/prices"): None,
    ("GET", "/api/v1/prices/own"): None,
    ("GET", "/api/v1/prices/versions"): None,
    ("GET", "/api/v1/prices/{provider}/{model}"): None,
    ("GET", "/api/v1/requests/provider/{category}/{provider_id}/bodies"): None,
    ("GET", "/api/v1/requests/provider/{category}/{provider_id}/result"): None,
    ("GET", "/api/v1/requests/result/{category}/{provider_id}"): None,
    ("GET", "/api/v1/requests/{request_id}/bodies"): None,
    ("GET", "/api/v1/requests/{request_id}/result"): None,
    ("GET", "/api/v1/secret"): None,
    ("GET", "/api/v1/usage"): None,
    ("GET", "/health/live"): None,
    ("GET", "/health/ready"): None,
    ("GET", "/schema"): None,
    ("GET", "/schema/openapi.json"): None,
    ("GET", "/schema/page"): None,
    ("GET", "/schema/{path}"): None,
    ("PATCH", "/api/v1/applications/{application_id}"): {"idempotency": True},
    ("PATCH", "/api/v1/keys/{key_id}"): {"name": "changed"},
    ("PATCH", "/api/v1/budgets/{limit_id}/tags/remove"): {"budget_tags": ["a"]},
    ("PATCH", "/api/v1/limits/{limit_id}/tags/remove"): {"limit_tags": ["a"]},
    ("POST", "/api/v1/applications"): {"name": "made"},
    ("POST", "/api/v1/budgets"): {"budget_name": "made so", "max": 1},
    ("POST", "/api/v1/budgets/{limit_id}/reset"): None,
    ("POST", "/api/v1/budgets/{limit_id}/tags"): {"budget_tags": ["a"]},
    ("PATCH", "/api/v1/credentials/{slug}"): {"name": "changed", "secret": SEALED},
    ("POST", "/api/v1/audit/check"): None,
    ("POST", "/api/v1/categories/{category_name}/resources/{resource}"): {"units": {"text": {}}},
    ("POST", "/api/v1/credentials"): {"slug": SLUG, "provider": "openai", "secret": SEALED},
    ("POST", "/api/v1/credentials/{slug}/rotate"): {"secret": SEALED},
    ("POST", "/api/v1/credentials/{slug}/test"): None,
    ("POST", "/api/v1/imports/litellm"): {
        "keys": [{"token": "ab" * 32, "last4": "wxyz"}],
        "dry_run": True,
    },
    ("POST", "/api/v1/ingest"): {"category": "made", "units": {"text": {"input": 1}}},
    ("POST", "/api/v1/ingest/bulk"): None,
    ("POST", "/api/v1/ingest/bulk-upsert"): None,
    ("POST", "/api/v1/keys"): {"name": "made"},
    ("POST", "/api/v1/keys/{key_id}/rotate"): None,
    ("POST", "/api/v1/limits"): {"limit_name": "made", "max": 1},
    ("POST", "/api/v1/limits/{limit_id}/reset"): None,
    ("POST", "/api/v1/limits/{limit_id}/tags"): {"limit_tags": ["a"]},
    ("POST", "/api/v1/prices/reprice"): {"from": "2026-01-01", "to": "2026-01-02"},
    ("POST", "/api/v1/prices/versions"): {"version": 0},
    ("POST", "/api/v1/requests/{request_id}/properties"): PROPERTIES,
    ("PUT", "/api/v1/attachments/{kind}/{name}/{limit_id}"): None,
    ("POST", "/api/v1/secret/rotate"): None,
    ("PUT", "/api/v1/budgets/{limit_id}"): {"max": 2},
    ("PUT", "/api/v1/budgets/{limit_id}/tags"): {"budget_tags": ["a"]},
    ("PUT", "/api/v1/limits/{limit_id}"): {"max": 2},
    ("PUT", "/api/v1/limits/{limit_id}/tags"): {"limit_tags": ["a"]},
    ("PUT", "/api/v1/limits/{limit_id}/properties"): PROPERTIES,
    ("PUT", "/api/v1/prices/own"): {"rates": []},
    ("PUT", "/api/v1/requests/provider/{category}/{provider_id}/properties"): PROPERTIES,
    ("PUT", "/api/v1/requests/{request_id}/properties"): PROPERTIES,
    ("GET", "/key/info"): None,
    ("GET", "/key/list"): None,
    ("POST", "/key/block"): {"key": "<key_id>"},
    ("POST", "/key/delete"): {"keys": ["<key_id>"]},
    ("POST", "/key/generate"): {"max_budget": 1},
    ("POST", "/key/regenerate"): {"key": "<key_id>"},
    ("POST", "/key/unblock"): {"key": "<key_id>"},
    ("POST", "/key/update"): {"key": "<key_id>", "max_budget": 2},
    ("POST", "/key/{key}/regenerate"): None,
    ("GET", "/team/info"): None,
    ("GET", "/team/list"): None,
    ("POST", "/team/block"): {"team_id": "<thing>"},
    ("POST", "/team/delete"): {"team_ids": ["<thing>"]},
    ("POST", "/team/new"): {"max_budget": 1},
    ("POST", "/team/unblock"): {"team_id": "<thing>"},
    ("POST", "/team/update"): {"team_id": "<thing>", "max_budget": 2},
    ("GET", "/user/info"): None,
    ("GET", "/user/list"): None,
    ("POST", "/user/delete"): {"user_ids": ["<thing>"]},
    ("POST", "/user/new"): {"max_budget": 1},
    ("POST", "/user/update"): {"user_id": "<thing>", "max_budget": 2},
    **{
        (method, path.format(noun)): body
        for noun in ("customer", "end_user")
        for method, path, body in (
            ("GET", "/{}/info", None),
            ("GET", "/{}/list", None),
            ("POST", "/{}/block", {"user_ids": ["<thing>"]}),
            ("POST", "/{}/delete", {"user_ids": ["<thing>"]}),
            ("POST", "/{}/new", {"user_id": SLUG, "max_budget": 1}),
            ("POST", "/{}/unblock", {"user_ids": ["<thing>"]}),
            ("POST", "/{}/update", {"user_id": "<thing>", "max_budget": 2}),
        )
    },
    **{
        ("GET", path): None
        for path in (
            *("/spend/keys", "/spend/logs", "/spend/logs/v2", "/spend/tags", "/spend/users"),
            *("/global/spend", "/global/spend/keys", "/global/spend/logs", "/global/spend/models"),
            *("/global/spend/provider", "/global/spend/report", "/global/spend/tags"),
            *("/global/spend/teams", "/user/daily/activity", "/tag/daily/activity"),
            *("/team/daily/activity", "/customer/daily/activity", "/end_user/daily/activity"),
        )
    },
    ("POST", "/global/spend/end_users"): None,
    ("GET", "/budget/list"): None,
    ("POST", "/budget/delete"): {"id": "<thing>"},
    ("POST", "/budget/info"): {"budgets": ["<thing>"]},
    ("POST", "/budget/new"): {"max_budget": 1},
    ("POST", "/budget/update"): {"budget_id": "<thing>", "max_budget": 2},
    ("GET", "/v1/models"): None,
    **{
        (method, root + path): body
        for root in ROOTS
        for method, path, body in (
            ("DELETE", "/virtual-keys/{slug}", None),
            ("GET", "/virtual-keys", None),
            ("GET", "/virtual-keys/{slug}", None),
            (
                "POST",
                "/virtual-keys",
                {"name": "made", "provider": "openai", "key": SEALED, **LIMITED},
            ),
            ("POST", "/virtual-keys/{slug}/rotate", {"key": SEALED}),
            ("PUT", "/virtual-keys/{slug}", {"name": "changed", "key": SEALED, **LIMITED}),
        )
    },
}
"""The body with which each route succeeds; None: it takes none."""


QUERIES = {
    "/team/info": "team_id",
    "/user/info": "user_id",
    "/customer/info": "end_user_id",
    "/end_user/info": "end_user_id",
}
"""By path, the member of a query that says of what."""
DAYS = {"start_date": "2026-01-01", "end_date": "2026-01-02"}
NOUNS = {"team": "team_id", "user": "user_id", "customer": "user_id", "budget": "budget_id"}
"""LiteLLM's, and what a body calls the name of a new one."""


def body_of(method: str, path: str, names: Mapping[str, str], sealed: str = FRESH) -> Any:
    """The body with which a route succeeds, each time; `names` are `parameters`, `sealed` is the
    secret of a credential."""
    body = BODIES[method, path]
    made = {"sealed": sealed, "slug": f"made-{time.monotonic_ns()}"}
    return filled(body, **(dict(names) | made))


def query_of(path: str, names: Mapping[str, str]) -> dict[str, str]:
    """The query with which it does."""
    if "/spend" in path or path.endswith("/daily/activity"):
        return dict(DAYS)
    return {QUERIES[path]: names["thing"]} if path in QUERIES else {}


def thing(tenant: Tenant, path: str) -> dict[str, str]:
    """The name of a fresh team, user, customer or budget, if a path is about such."""
    noun = path.split("/")[1].replace("end_user", "customer")
    name = f"t-{time.monotonic_ns()}"
    if noun in NOUNS:
        body = {NOUNS[noun]: name} | ({"auto_create_key": False} if noun == "user" else {})
        made = tenant.service.http.post(
            f"/{noun}/new",
            json=body,
            headers={"Authorization": f"Bearer {tenant.service.admin_key}"},
            params={"application": tenant.application_id},
        )
        assert made.status_code == 200, made.text
    return {"thing": name}


def routes() -> list[tuple[str, str]]:
    """(method, path) of every route there is, from the application's own table."""
    application = api.build(cast(api.Services, None))
    return sorted(
        (method, route.path_format)
        for route in application.routes
        for method in getattr(route, "methods", ())
        if method != "OPTIONS"
    )


def parameters(
    tenant: Tenant, path: str, sealed: str = FRESH, *, attached: bool = True
) -> dict[str, str]:
    """What stands in a path, and in its body: ids of things that are there, and may go. The limit
    may be attached; `sealed` is the secret of the credential."""
    service, name = tenant.service, f"fresh-{time.monotonic_ns()}"
    whose = {"application": tenant.application_id}
    limit = service.manage("POST", "limits", {"limit_name": name, "max": 1}, **whose)
    limit_id = limit["limit"]["limit_id"]
    if attached:
        service.manage("PUT", f"attachments/user/{name}/{limit_id}", **whose)
    credential = {"slug": name, "provider": "openai", "secret": sealed}
    service.manage("POST", "credentials", credential, **whose)
    units = {"units": {"text": {"input_price": 1}}}
    resource = tenant.manage("POST", f"categories/{name}/resources/{name}", units)
    call = {"category": "system.openai", "units": {}, "provider_response_id": name}
    reported = service.manage("POST", "ingest", call | {"provider_request_json": "hello"}, **whose)
    key_id = service.manage("POST", "keys", {"name": name}, **whose)["key_id"]
    return thing(tenant, path) | {
        "application_id": service.manage("POST", "applications", {"name": name})["application_id"],
        "key_id": key_id,
        "key": key_id,
        "limit_id": limit_id,
        "kind": "user",
        "name": name,
        "slug": name,
        "request_id": reported["request_id"],
        "category": "system.openai",
        "category_name": name,
        "resource": name,
        "resource_id": resource["resource_id"],
        "provider_id": name,
        "provider": "openai",
        "model": "gpt-4o",
        "path": "openapi.json",
    }


class Everywhere(dict[str, str]):
    """The same text for every parameter of a path."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def __missing__(self, name: str) -> str:
        return self._text
