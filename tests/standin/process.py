"""The stand-in as a process of its own, for tests and the demo: start, script, read, stop."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.standin import ledger as books
from tests.standin.recordings import ROOT

PATIENCE_S = 10.0


class Standin:
    """A provider stand-in on a loopback port. Synchronous; ends with the process that made it."""

    def __init__(self, ledger: Path, port: int = 0, wire: Path | None = None) -> None:
        """`wire`: keep every request in this file, whole, secrets and all."""
        self.ledger_path = ledger
        self.wire_path = wire
        self.port = port
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start it and wait until it listens."""
        command = [sys.executable, "-m", "tests.standin", "--with-parent"]
        command += ["--port", str(self.port), "--ledger", str(self.ledger_path)]
        if self.wire_path is not None:
            command += ["--wire", str(self.wire_path)]
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for whoever started it, who then stops it
        )
        try:
            self.port = self._announced()
        except BaseException:  # Ctrl-C too must not leave it behind
            self.stop()
            raise
        return self

    def _announced(self) -> int:
        """The port it says it listens on."""
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the stand-in did not start; its error is above")
        return int(line)

    def stop(self) -> None:
        """End it; the ledger file stays."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Where it listens; this is `ANTHROPIC_BASE_URL`."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def openai_url(self) -> str:
        """`OPENAI_BASE_URL`."""
        return self.url + "/v1"

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    def ledger(self, tag: str | None = None) -> list[books.Entry]:
        """Its books since the last reset, in order; of one tag only, if given."""
        entries = books.read(self.ledger_path)
        return entries if tag is None else [entry for entry in entries if entry.tag == tag]

    def wire(self) -> list[books.Came]:
        """Every request that came, whole."""
        return [] if self.wire_path is None else books.read_wire(self.wire_path)

    def script(
        self,
        default: dict[str, Any] | None = None,
        then: Iterable[dict[str, Any]] = (),
        auth: Iterable[str] | None = None,
    ) -> None:
        """What calls do that say nothing themselves: `default` all, each of `then` one call.

        `auth` lists the provider keys that are accepted; None accepts all.
        """
        told = {"default": default or {}, "next": list(then)}
        self.admin("POST", "/_script", told | {"auth": None if auth is None else list(auth)})

    def replay(self, names: Iterable[str]) -> None:
        """Answer the following calls with these recordings (`openai:12`), one after the other."""
        self.admin("POST", "/_replay", {"recordings": list(names)})

    def reset(self) -> None:
        """Empty books, no script."""
        self.admin("POST", "/_reset", {})

    def stats(self) -> dict[str, Any]:
        """`calls`, `in_flight`, `in_flight_max`, `paths`."""
        stats: dict[str, Any] = self.admin("GET", "/_stats")
        return stats

    def wait_idle(self, patience_s: float = PATIENCE_S) -> None:
        """Wait until no call is being answered; raises TimeoutError."""
        deadline = time.monotonic() + patience_s
        while busy := self.stats()["in_flight"]:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{busy} calls are still being answered")
            time.sleep(0.02)

    def admin(self, method: str, path: str, body: object = None) -> Any:
        """One call of the stand-in's own endpoints; raises ValueError when it is refused."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            response = connection.getresponse()
            answer = json.loads(response.read())
        finally:
            connection.close()
        if response.status != 200:
            raise ValueError(f"{method} {path}: {answer}")
        return answer
