"""The real service as a process of its own, pointed at a provider that is not the real one.

It is started as anyone would start it, `python -m metering serve`, with its embedded stores unless
told otherwise, and is spoken to over HTTP alone.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from tests.standin.recordings import ROOT

READY_S = 60.0
STOP_S = 75.0
"""A little more than the service takes at most to finish what it is doing."""
OURS = ("XPROXY_", "OPENAI_", "ANTHROPIC_")


class Service:
    """The service on a loopback port of its own. Synchronous; ends when stopped."""

    def __init__(self, data_dir: Path, provider_url: str, **settings: str) -> None:
        """`provider_url` has no path; `settings` are further variables of the environment."""
        self.data_dir = data_dir
        self.log = data_dir.with_name(data_dir.name + ".log")
        self.port = free_port()
        self.admin_key = secrets.token_urlsafe(32)
        self.environment = environment() | {
            "XPROXY_DATA_DIR": str(data_dir),
            "XPROXY_PORT": str(self.port),
            "XPROXY_ADMIN_KEY": self.admin_key,
            "OPENAI_BASE_URL": provider_url + "/v1",
            "ANTHROPIC_BASE_URL": provider_url,
        }
        self.environment |= settings
        self.http = httpx.Client(base_url=self.url, timeout=30, trust_env=False)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process id of the parent process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> Self:
        """Start it and wait until it is ready; raises RuntimeError with the end of its log."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "metering", "serve"],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for us; we then stop it in good order
            )
        try:
            self._wait_ready(self._process)
        except BaseException:  # Ctrl-C too must not leave it behind
            self.stop()
            raise
        return self

    def _wait_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + READY_S
        while not self.ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the service did not get ready:\n{self.log_tail()}")
            time.sleep(0.05)

    def ready(self) -> bool:
        """Whether it says that it is ready."""
        try:
            return self.http.get("/health/ready").status_code == 200
        except httpx.TransportError:
            return False

    def stop(self) -> int | None:
        """Ask it to finish, and wait for that; its exit status, None if it was not running."""
        return self._end(signal.SIGTERM)

    def kill(self) -> int | None:
        """End it at once, `kill -9`."""
        return self._end(signal.SIGKILL)

    def wait(self) -> int | None:
        """Wait until it has ended by itself; its exit status."""
        return self._end(None)

    def _end(self, how: signal.Signals | None) -> int | None:
        process, self._process = self._process, None
        if process is None:
            return None
        if how is not None:
            process.send_signal(how)
        try:
            return process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        self.http.close()

    def log_tail(self) -> str:
        """The last lines it wrote."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-25:])

    def manage(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        key: str | None = None,
        **query: str | int,
    ) -> dict[str, Any]:
        """One call of the management API below `/api/v1/`, by default as the administrator.

        Numbers that are no integers come as Decimals, digit for digit.
        """
        headers = {"xProxy-Api-Key": key or self.admin_key}
        response = self.http.request(
            method, "/api/v1/" + path, json=body, headers=headers, params=query
        )
        if response.is_error:
            raise RuntimeError(f"{method} {path}: {response.status_code} {response.text}")
        answer: dict[str, Any] = json.loads(response.text, parse_float=Decimal)
        return answer

    def application_key(self, name: str) -> str:
        """A fresh application's key."""
        application = self.manage("POST", "applications", {"name": name})
        members = {"application_id": application["application_id"], "role": "app", "name": name}
        key: str = self.manage("POST", "keys", members)["key"]
        return key


def environment() -> dict[str, str]:
    """Our own environment, less everything that would configure the service."""
    mine = {k: v for k, v in os.environ.items() if not k.startswith(OURS)}
    return {k: v for k, v in mine.items() if k not in ("DATABASE_URL", "REDIS_URL")}


def free_port() -> int:
    """A loopback port nobody listens on just now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
