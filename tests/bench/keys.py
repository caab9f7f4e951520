"""`make bench-keys`: what it takes to know who calls, beside what the whole call takes.

A call's CPU is its worker's, by the system's own account, over calls of the real service with two
limits. Who calls is asked of a directory on the same stores, in a process that does nothing else;
the key is in its memory, as it is for all calls but one in half a minute.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from http.client import HTTPConnection
from pathlib import Path
from statistics import median

import uvloop

from metering.cli import runfile
from metering.core.addresses import Visitor
from metering.core.keys import digest, make_key
from metering.directory import Directory
from metering.keyring import Keyring
from metering.redis import Redis
from metering.store import Store, keys
from tests.acceptance.tenant import CHAT, new_tenant
from tests.chaos.rig import children
from tests.standin.process import Standin
from tests.standin.service import Service

PEPPER = b"of the bench"
LIMITS = ("team", "user")
BODY = json.dumps({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}]})
CLIENTS, ROUNDS, ASKED = 8, 5, 50_000
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def main() -> int:
    """Measure and print; 1 if it takes more than a share of a call that was named."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.keys", description=__doc__)
    parser.add_argument("--calls", type=int, default=6_000, help="of the service")
    parser.add_argument("--require", type=float, metavar="PERCENT", help="fail from this on")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="xproxy-bench-") as place:
        folder = Path(place)
        with Standin(folder / "ledger.jsonl") as standin:
            standin_key = {"OPENAI_API_KEY": "sk-bench"}
            with Service(folder / "data", standin.url, **standin_key) as service:
                call_us = call_cpu_us(service, asked.calls)
                admit_us, attached_us = uvloop.run(directory_us(service))
    percent = 100 * admit_us / call_us
    found = {
        "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}",
        "call_us": round(call_us),
        "who_calls_us": round(admit_us, 2),
        "what_binds_it_us": round(attached_us, 2),
        "percent_of_a_call": round(percent, 1),
    }
    sys.stdout.write(json.dumps(found, indent=2) + "\n")
    return int(asked.require is not None and percent >= asked.require)


def call_cpu_us(service: Service, count: int) -> float:
    """The worker's CPU of one call, in microseconds."""
    tenant = new_tenant(service, *LIMITS, usd="1000000")
    headers = {
        "Content-Type": "application/json",
        "xProxy-Api-Key": tenant.key,
        "xProxy-Limit-IDs": ",".join(LIMITS),
    }

    def client(calls: int) -> None:
        connection = HTTPConnection("127.0.0.1", service.port, timeout=30)
        for _ in range(calls):
            connection.request("POST", CHAT, BODY, headers)
            response = connection.getresponse()
            response.read()
            assert response.status == 200

    def together(calls: int) -> None:
        threads = [threading.Thread(target=client, args=(calls,)) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    together(20)  # warms up
    before_s = cpu_s(service)
    together(count // CLIENTS)
    return (cpu_s(service) - before_s) * 1e6 / (count // CLIENTS * CLIENTS)


def cpu_s(service: Service) -> float:
    """The CPU that the service's workers have taken so far."""
    ticks = 0
    for pid in children(service.pid):
        if b"worker" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])  # user and system
    return ticks / TICKS_PER_S


async def directory_us(service: Service) -> tuple[float, float]:
    """Microseconds to know who shows a key, and to know what binds the call."""
    running = runfile.read(service.data_dir)
    assert running is not None
    store, redis = await Store.open(running.database_url), Redis(running.redis_url, 1_000)
    directory = Directory(
        store,
        redis,
        pepper=PEPPER,
        keyring=Keyring(["of the bench"]),
        admin_key=service.admin_key,
        default_application="",
        clock_ms=lambda: time.time_ns() // 1_000_000,
    )
    key = make_key("app", os.urandom(32))
    tenant = new_tenant(service)
    row = await keys.get(store, tenant.key_id)
    assert row is not None
    await keys.rotate(store, row.key_id, digest(PEPPER, key), key[-4:], previous_ends_ms=None)
    visitor = Visitor("127.0.0.1", [(b"xproxy-api-key", key.encode())])
    caller = await directory.admit(key, visitor)
    assert caller is not None

    admit = await micros(lambda: directory.admit(key, visitor))
    attached = await micros(lambda: directory.attached(caller, user_id="alice"))
    await redis.close()
    await store.close()
    return admit, attached


async def micros(ask: Callable[[], Awaitable[object]]) -> float:
    """Microseconds of CPU a time, the median of some rounds."""
    rounds = []
    for _ in range(ROUNDS):
        start_ns = time.process_time_ns()
        for _ in range(ASKED):
            await ask()
        rounds.append((time.process_time_ns() - start_ns) / 1_000 / ASKED)
    return median(rounds)


if __name__ == "__main__":
    sys.exit(main())
