"""A tenant of its own for every test: application, key, limits, and what is kept of its calls."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.standin.service import Service

PAYI, LITELLM = "/api/v1/proxy", ""
"""What each client family's routes to the providers begin with; what follows is the same."""
OPENAI = PAYI + "/openai/v1"
ANTHROPIC = PAYI + "/anthropic"
CHAT = OPENAI + "/chat/completions"
MESSAGES = ANTHROPIC + "/v1/messages"
by_each_route = pytest.mark.parametrize("route", [PAYI, LITELLM], ids=["payi", "litellm"])
"""Marks a test whose rule holds whichever way a call comes."""
LANDED_S = 15.0
"""How long a row may take from its settlement to the database, on a busy machine."""
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Tenant:
    """One application of a running service, seen with its own key."""

    service: Service
    application_id: str
    key: str
    key_id: str
    route: str = PAYI
    """By which route its calls come."""

    @property
    def openai_url(self) -> str:
        """`OPENAI_BASE_URL` for this service."""
        return self.service.url + self.by_route(OPENAI)

    @property
    def anthropic_url(self) -> str:
        """`ANTHROPIC_BASE_URL` for this service."""
        return self.service.url + self.by_route(ANTHROPIC)

    def by_route(self, path: str) -> str:
        """A path of Pay-i's route, or what it is by this tenant's."""
        return self.route + path.removeprefix(PAYI) if path.startswith(PAYI) else path

    def limit(self, limit_id: str, usd: str = "1", limit_type: str = "block") -> str:
        """Create a limit of so many dollars; gives its id."""
        body = {"limit_id": limit_id, "limit_name": limit_id, "max": float(usd)}
        self.manage("POST", "limits", body | {"limit_type": limit_type})
        return limit_id

    def totals(self, limit_id: str) -> dict[str, Any]:
        """What a limit has counted: `cost` and `requests`."""
        totals: dict[str, Any] = self.manage("GET", f"limits/{limit_id}")["limit"]["totals"]
        return totals

    def result(self, path: str) -> dict[str, Any]:
        """The `xproxy_result` at `/api/v1/requests/<path>/result`."""
        result: dict[str, Any] = self.manage("GET", f"requests/{path}/result")["xproxy_result"]
        return result

    def rows(self, count: int, patience_s: float = LANDED_S) -> list[dict[str, Any]]:
        """The usage rows, oldest first, once there are at least so many; raises TimeoutError."""
        deadline = time.monotonic() + patience_s
        while True:
            page = self.manage("GET", "usage", sort_ascending="true", page_size=500)
            rows: list[dict[str, Any]] = page["items"]
            if len(rows) >= count:
                return rows
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(rows)} of {count} rows have landed")
            time.sleep(0.05)

    def row(self) -> dict[str, Any]:
        """The only usage row, once it has landed."""
        rows = self.rows(1)
        assert len(rows) == 1
        return rows[0]

    def manage(
        self, method: str, path: str, body: object = None, **query: str | int
    ) -> dict[str, Any]:
        """One call of the management API with this tenant's key; see `Service.manage`."""
        return self.service.manage(method, path, body, key=self.key, **query)

    def post(
        self, path: str, body: object = None, headers: dict[str, str] | None = None, **kwargs: Any
    ) -> httpx.Response:
        """A plain POST of this tenant's, for what no SDK would send."""
        sent = {"xProxy-Api-Key": self.key, **(headers or {})}
        if body is not None:
            kwargs["json"] = body
        return self.service.http.post(self.by_route(path), headers=sent, **kwargs)


def new_tenant(
    service: Service,
    *limit_ids: str,
    permissions: Iterable[str] = (),
    usd: str = "1",
    route: str = PAYI,
) -> Tenant:
    """A fresh application with one key, and a blocking limit of `usd` dollars under each id."""
    name = f"tenant-{next(_numbers)}-{time.monotonic_ns()}"
    application = service.manage("POST", "applications", {"name": name})
    members = {"application_id": application["application_id"], "role": "app", "name": name}
    made = service.manage("POST", "keys", members | {"permissions": list(permissions)})
    tenant = Tenant(service, application["application_id"], made["key"], made["key_id"], route)
    for limit_id in limit_ids:
        tenant.limit(limit_id, usd)
    return tenant
