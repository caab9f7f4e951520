"""Two services of two workers each, on stores that can be taken away: what one is told all know."""

from __future__ import annotations

import concurrent.futures
import signal
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from metering.embedded import Server, Stores
from tests.acceptance.tenant import CHAT
from tests.chaos.rig import server_pids, signal_all
from tests.standin.process import Standin
from tests.standin.service import Service

SECRET = "one-master-secret-for-all-replicas"
BODY = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 9}
CALLS = 12
"""So many connections at once reach every worker of two, all but certainly."""


class Replicas:
    """The services and their stores. A context manager."""

    def __init__(self, folder: Path, standin: Standin, **settings: str) -> None:
        self.folder = folder
        self.standin = standin
        self.settings = settings | {"XPROXY_MASTER_SECRET": SECRET, "XPROXY_WORKERS": "2"}
        self.stores = Stores(folder / "stores")
        self.services: list[Service] = []

    def __enter__(self) -> Self:
        try:
            urls = dict(zip(("DATABASE_URL", "REDIS_URL"), self.stores.start(), strict=True))
            for name in ("one", "two"):
                service = Service(self.folder / name, self.standin.url, **self.settings, **urls)
                self.services.append(service)
                service.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for server in self.stores.servers:
            signal_all(server_pids(server), signal.SIGCONT)
        for service in self.services:
            service.stop()
            service.http.close()
        self.stores.stop()

    def server(self, title: str) -> Server:
        """`PostgreSQL` or `Valkey`."""
        (server,) = (it for it in self.stores.servers if it.title == title)
        return server

    def everywhere(self, key: str) -> list[int]:
        """The statuses of calls with a key that reach every worker of every service."""
        return [status for service in self.services for status in calls(service, key)]

    def until_all(self, key: str, status: int, patience_s: float) -> float:
        """How long it takes until every worker answers this key so, in seconds."""
        began_s = time.monotonic()
        while True:
            asked_s = time.monotonic() - began_s
            if set(self.everywhere(key)) == {status}:
                return asked_s
            assert asked_s < patience_s, f"not {status} within {patience_s} s"


def calls(service: Service, key: str, **headers: str) -> list[int]:
    """The statuses of a few calls at once, each on a connection of its own."""

    def one(_: int) -> int:
        sent: dict[str, Any] = {"xProxy-Api-Key": key, **headers}
        with httpx.Client(base_url=service.url, timeout=20, trust_env=False) as http:
            return http.post(CHAT, json=BODY, headers=sent).status_code

    with concurrent.futures.ThreadPoolExecutor(CALLS) as pool:
        return list(pool.map(one, range(CALLS)))
