"""LiteLLM's management routes of a running service, as a client of LiteLLM's would ask for them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import httpx

from tests.acceptance.tenant import CHAT, Tenant

GPT = "gpt-4o-mini"


@dataclass(frozen=True)
class LiteLLM:
    """The management routes, for one tenant's application, with the admin key."""

    tenant: Tenant

    def ask(self, method: str, path: str, body: object = None, **query: Any) -> httpx.Response:
        """One request, whatever comes of it."""
        return self.tenant.service.http.request(
            method,
            path,
            content=None if body is None else json.dumps(body).encode(),
            params=query,
            headers={
                "Authorization": f"Bearer {self.tenant.service.admin_key}",
                "xProxy-Application": self.tenant.application_id,
            },
        )

    def post(self, path: str, **body: Any) -> Any:
        """The answer to a POST that succeeds; numbers that are no integers come as Decimals."""
        return exact(self.ask("POST", path, body))

    def get(self, path: str, **query: Any) -> Any:
        """The answer to a GET that succeeds."""
        return exact(self.ask("GET", path, **query))

    def generate(self, **body: Any) -> Any:
        """A new virtual key."""
        return self.post("/key/generate", **body)

    def refused(self, path: str, body: object) -> tuple[int, dict[str, Any]]:
        """Status and error of a POST that is refused."""
        answer = self.ask("POST", path, body)
        assert answer.json().keys() == {"error"}, answer.text
        error: dict[str, Any] = answer.json()["error"]
        assert error.keys() == {"message", "type", "param", "code"}
        assert error["code"] == str(answer.status_code)
        return answer.status_code, error

    def call(self, key: str, model: str = GPT, **headers: str) -> httpx.Response:
        """One call of a chat model with a virtual key, which a stored provider key serves."""
        body = {
            "model": model,
            "max_tokens": 16,
            "messages": [{"role": "user", "content": "Say hello."}],
        }
        sent = {"Authorization": f"Bearer {key}"} | headers
        return self.tenant.service.http.post(CHAT, json=body, headers=sent)


def exact(answer: httpx.Response) -> Any:
    """The body of an answer that succeeded, digit for digit."""
    assert answer.status_code == 200, answer.text
    return json.loads(answer.text, parse_float=Decimal)
