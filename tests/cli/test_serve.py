"""`xproxy serve`: one parent that owns the socket, the stores and the workers."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from metering.children import residents

ROOT = Path(__file__).parent.parent.parent
PROGRAMS = ("postgres", "valkey-server")
PASSWORD = "a-stores-password"
ELSEWHERE = {"XPROXY_MASTER_SECRET": "s" * 32, "REDIS_URL": "redis://127.0.0.1:1"}
READY = re.compile(r"Ready at (http://\S+) ")

Start = Callable[..., "Service"]


class Service:
    """A started `xproxy serve`, and what it has said so far."""

    def __init__(self, data_dir: Path, *options: str, **settings: str) -> None:
        self.data_dir = data_dir
        environment = {**os.environ, "XPROXY_DATA_DIR": str(data_dir), "XPROXY_PORT": "0"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "metering", "serve", *options],
            cwd=ROOT,
            env=environment | settings,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.said = ""

    def until(self, pattern: re.Pattern[str]) -> re.Match[str]:
        """Read on until a line matches."""
        assert self.process.stdout
        for line in self.process.stdout:
            self.said += line
            if match := pattern.search(line):
                return match
        raise AssertionError(f"it ended without {pattern.pattern}:\n{self.said}")

    def ready(self) -> str:
        """The URL, once it answers."""
        return self.until(READY)[1]

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal; the exit code."""
        self.process.send_signal(number)
        self.said += self.process.communicate(timeout=60)[0]
        return self.process.returncode

    def run_file(self) -> dict[str, Any]:
        """What the run file says."""
        found: dict[str, Any] = json.loads((self.data_dir / "run.json").read_text())
        return found

    def workers(self) -> list[int]:
        """The worker processes."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        found = [int(pid) for pid in children.read_text().split()]
        return [
            pid for pid in found if b"metering\0worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start services on one data directory; all are gone in the end."""
    started: list[Service] = []

    def start(*options: str, **settings: str) -> Service:
        started.append(Service(tmp_path / "data", *options, **settings))
        return started[-1]

    yield start
    for service in started:
        service.process.kill()
        service.process.wait()
        assert service.process.stdout
        service.process.stdout.close()
    _until(lambda: not _residents(tmp_path / "data"))


def _residents(data_dir: Path) -> list[int]:
    places = (data_dir / "postgres", data_dir / "valkey")
    return [pid for place in places for pid in residents(place, PROGRAMS)]


def _until(done: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 20
    while not done():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def _gone(pids: list[int]) -> bool:
    return not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_the_first_start_prints_keys_that_work_and_the_next_does_not(start: Start) -> None:
    """Keys are shown once; SIGTERM ends it with 0, leaving no process and no run file."""
    first = start()
    url = first.ready()
    (key,) = re.findall(r"application key +(sk-xproxy-app-\S+)", first.said)
    headers = {"xProxy-Api-Key": key}
    assert httpx.get(f"{url}/api/v1/budgets", headers=headers).status_code == 200
    assert first.run_file() | {"pid": first.process.pid, "url": url} == first.run_file()
    assert (first.data_dir / "run.json").stat().st_mode & 0o777 == 0o600
    assert (first.data_dir / "master.secret").stat().st_mode & 0o777 == 0o600
    assert first.end() == 0
    assert not (first.data_dir / "run.json").exists()
    assert not _residents(first.data_dir)
    second = start()
    url = second.ready()
    assert "sk-xproxy" not in second.said
    assert httpx.get(f"{url}/api/v1/budgets", headers=headers).status_code == 200
    assert second.end(signal.SIGINT) == 0


def test_a_lost_master_secret_stops_the_start(start: Start) -> None:
    """It says which one is needed, and how to go on without: keys work once they are rotated."""
    key = "k" * 40
    first = start(XPROXY_ADMIN_KEY=key)
    first.ready()
    (ours,) = re.findall(r"application key +(sk-xproxy-app-\S+)", first.said)
    assert first.end() == 0
    (first.data_dir / "master.secret").unlink()
    second = start(XPROXY_ADMIN_KEY=key)
    assert second.process.wait(20) == 1
    said = second.process.communicate()[0]
    assert "put the one it was sealed under back into" in said
    assert "if it is lost: xproxy serve --forget-secrets" in said
    third = start("--forget-secrets", XPROXY_ADMIN_KEY=key)
    url = third.ready()
    admin, shown = {"xProxy-Api-Key": key}, {"xProxy-Api-Key": ours}
    assert httpx.get(f"{url}/api/v1/budgets", headers=shown).status_code == 401
    [found] = httpx.get(f"{url}/api/v1/keys", headers=admin).json()["items"]
    path = f"{url}/api/v1/keys/{found['key_id']}/rotate"
    rotated = httpx.post(path, headers=admin, json={}).json()
    shown = {"xProxy-Api-Key": rotated["key"]}
    assert httpx.get(f"{url}/api/v1/budgets", headers=shown).status_code == 200
    assert third.end() == 0


def test_a_second_start_names_the_first(start: Start) -> None:
    """Whoever starts it twice is told where the first one is, by port and by data directory."""
    first = start()
    url = first.ready()
    port = url.rpartition(":")[2]
    for settings in ({"XPROXY_PORT": port}, {}):
        second = start(**settings)
        assert second.process.wait(20) == 1
        said = second.process.communicate()[0]
        assert f"runs already, at {url} (pid {first.process.pid})" in said
    assert first.end() == 0


def test_a_taken_port_is_named(start: Start) -> None:
    """A port that another program has is named, with the setting to change."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        service = start(XPROXY_PORT=str(other.getsockname()[1]))
        assert service.process.wait(20) == 1
        assert "is in use; choose another with XPROXY_PORT" in service.process.communicate()[0]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"XPROXY_PORT": "http"}, "XPROXY_PORT='http'"),
        ({"XPROXY_HOST": "203.0.113.1"}, "cannot listen on 203.0.113.1"),
        ({"DATABASE_URL": "postgresql://x"}, "XPROXY_MASTER_SECRET is required"),
        ({"XPROXY_PG_BIN": "nowhere"}, "XPROXY_PG_BIN=nowhere"),
        (
            ELSEWHERE | {"DATABASE_URL": f"postgresql://x:{PASSWORD}@127.0.0.1:1/x"},
            "the PostgreSQL of DATABASE_URL cannot be asked (ConnectionRefusedError)",
        ),
        (
            ELSEWHERE | {"DATABASE_URL": f"postgresql://x:{PASSWORD}/{PASSWORD}@127.0.0.1:1/x"},
            "are special characters of the password percent-encoded?",
        ),
    ],
)
def test_what_keeps_it_from_starting_is_one_clear_line(
    start: Start, settings: dict[str, str], words: str
) -> None:
    """A setting that cannot be used ends the start with 1, its name, no traceback, no password."""
    service = start(**settings)
    assert service.process.wait(20) == 1
    said = service.process.communicate()[0]
    assert words in said
    assert "Traceback" not in said
    assert PASSWORD not in said


def test_a_redis_url_that_cannot_be_read_is_said_to_be_so(start: Start) -> None:
    """By the worker that ends of it, without what may be the password."""
    service = start(REDIS_URL=f"redis://:{PASSWORD}/{PASSWORD}@127.0.0.1:1")
    assert service.process.wait(60) == 1
    said = service.process.communicate()[0]
    assert "StoreAway: the URL of Redis cannot be read" in said
    assert "a worker ended while it started; its reason is above" in said
    assert PASSWORD not in said


def test_no_process_leaves_a_core(start: Start) -> None:
    """Memory is full of keys and prompts: whatever kills a process, it is not written to disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    try:
        service = start()
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))
    service.ready()
    for pid in (service.process.pid, *service.workers(), *_residents(service.data_dir)):
        limits = Path(f"/proc/{pid}/limits").read_text()
        assert re.search(r"^Max core file size +0 +0 ", limits, re.MULTILINE)
    assert service.end() == 0


def test_dead_workers_and_stores_are_replaced(start: Start) -> None:
    """A child that is killed: another takes its place, and the service answers again."""
    service = start(XPROXY_WORKERS="2")
    url = service.ready()
    before = service.workers()
    assert len(before) == 2
    os.kill(before[0], signal.SIGKILL)
    service.until(re.compile(r"A worker was killed by SIGKILL; another starts"))
    _until(lambda: len(service.workers()) == 2)
    (valkey,) = residents(service.data_dir / "valkey", PROGRAMS)
    os.kill(valkey, signal.SIGKILL)
    service.until(re.compile(r"Valkey ready"))
    _until(lambda: httpx.get(f"{url}/health/ready").status_code == 200)
    assert service.end() == 0


def test_workers_and_stores_die_with_a_killed_parent(start: Start) -> None:
    """After kill -9 of the parent nothing is left, and the next start works at once."""
    service = start(XPROXY_WORKERS="2")
    port = service.ready().rpartition(":")[2]
    children = service.workers() + _residents(service.data_dir)
    service.process.kill()
    service.process.wait()
    again = start(XPROXY_PORT=port)
    assert again.ready().endswith(port)
    _until(lambda: _gone(children))
    assert again.end() == 0
