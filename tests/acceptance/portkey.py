"""Portkey's admin routes of a running service, as a client of Portkey's would ask for them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import httpx

from tests.acceptance.litellm import exact
from tests.acceptance.tenant import CHAT, Tenant

GPT = "gpt-4o-mini"
SECRET = "sk-of-a-virtual-key-7d1f"


@dataclass(frozen=True)
class Portkey:
    """The virtual keys of one tenant's application, with the admin key."""

    tenant: Tenant
    root: str = "/v1"
    key: str | None = None

    def ask(self, method: str, path: str = "", body: object = None, **query: Any) -> httpx.Response:
        """One request below `/virtual-keys`, whatever comes of it."""
        headers = {"x-portkey-api-key": self.key or self.tenant.service.admin_key}
        if self.key is None:
            headers["xProxy-Application"] = self.tenant.application_id
        return self.tenant.service.http.request(
            method,
            f"{self.root}/virtual-keys{path}",
            content=None if body is None else json.dumps(body).encode(),
            params=query,
            headers=headers,
        )

    def make(self, **body: Any) -> str:
        """A new virtual key; its slug."""
        asked = {"name": "Prod", "provider": "openai", "key": SECRET} | body
        slug: str = exact(self.ask("POST", "", asked))["slug"]
        return slug

    def get(self, slug: str) -> dict[str, Any]:
        """A virtual key; numbers that are no integers come as Decimals."""
        found: dict[str, Any] = exact(self.ask("GET", f"/{slug}"))
        return found

    def put(self, slug: str, **body: Any) -> dict[str, Any]:
        """A virtual key as it is after a change."""
        exact(self.ask("PUT", f"/{slug}", body))
        return self.get(slug)

    def refused(self, method: str, path: str, body: object = None) -> tuple[int, dict[str, Any]]:
        """Status and fault of a request that is refused."""
        answer = self.ask(method, path, body)
        said = answer.json()
        assert said.keys() == {"success", "data"}, answer.text
        assert said["success"] is False
        data: dict[str, Any] = said["data"]
        assert data["request_id"] == answer.headers["xproxy-request-id"]
        return answer.status_code, data

    def call(self, slug: str, **members: Any) -> httpx.Response:
        """One call that a virtual key serves."""
        body = {
            "model": GPT,
            "max_tokens": 16,
            "messages": [{"role": "user", "content": "Say hello."}],
        }
        return self.tenant.post(CHAT, body | members, {"xProxy-Credential": slug})

    def spent(self, calls: int = 1) -> Decimal:
        """What the first calls cost, those that were refused included, exactly."""
        rows = self.tenant.rows(calls)[:calls]
        return sum((Decimal(it["cost_pico"]).scaleb(-12) for it in rows), Decimal(0))
