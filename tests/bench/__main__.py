"""`make bench`: the JSON chat call with two limits, beside nginx proxying the same upstream.

Everything is in one run and on the loopback interface: an nginx that always returns the same answer
(the provider), an nginx that proxies it, and the service with its embedded stores and one worker.
Rounds alternate, medians count. Every round is checked: no error, answers of the right length, one
looked at closely every tenth of a second; and at the end the rows in Postgres and the budgets
are held against what the provider has seen, to the pico-dollar.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.bench import nginx
from tests.bench.load import Figures, Target, WrongAnswerError, figures, run
from tests.bench.proof import Sampler, check_books, expected_pico
from tests.standin.service import Service

ANSWER = Path(__file__).with_name("answer.json").read_bytes().strip()
LIMITS = ("bench-team", "bench-user")
ASK = {
    "model": "gpt-4o",
    "max_tokens": 200,
    "messages": [
        {"role": "system", "content": "You are a patient teacher. Answer in three sentences. " * 8},
        {"role": "user", "content": "What is a ledger, and why should a robot keep one?"},
    ],
}
RESULT_BYTES = len('"xproxy_result":{"request_id":"","cost":{},"limits":{}}')


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="of each target")
    parser.add_argument("--seconds", type=int, default=8, help="of each round")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--workers", type=int, default=1, help="processes of the service")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--require", type=float, metavar="RATIO", help="fail below this ratio")
    return parser.parse_args()


def main() -> int:
    """Measure, check, print; 1 if something was wrong or slower than required."""
    asked = options()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends everything, as Ctrl-C does
    for program in ("nginx", "wrk"):
        nginx.program(program)  # ask for them before anything starts
    console = Console(highlight=False)
    try:
        ours, theirs, calls = measure(console, asked)
    except WrongAnswerError as error:
        console.print(f"[red]wrong:[/] {error}", markup=True)
        return 1
    ratio = ours.rps / theirs.rps
    report(console, asked, ours, theirs, ratio)
    console.print(
        f"[green]✓[/] {calls} calls reached the provider; rows, costs and both budgets agree."
    )
    if asked.json:
        asked.json.write_text(json.dumps(record(asked, ours, theirs, ratio, calls), indent=2))
    if asked.require is not None and ratio < asked.require:
        console.print(f"[red]the ratio is below {asked.require}[/]")
        return 1
    return 0


def measure(console: Console, asked: argparse.Namespace) -> tuple[Figures, Figures, int]:
    """(the service's figures, nginx's, calls that reached the provider through the service)."""
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="xproxy-bench-")))
        upstream = stack.enter_context(nginx.upstream(place / "upstream", ANSWER))
        proxy = stack.enter_context(nginx.proxy(place / "proxy", upstream))
        console.print("Starting the service ...")
        service = Service(place / "data", upstream.url, XPROXY_WORKERS=str(asked.workers))
        stack.enter_context(service)
        key = service.application_key("bench")
        for name in LIMITS:
            limit = {"limit_id": name, "limit_name": name, "max": 10**9, "limit_type": "block"}
            service.manage("POST", "limits", limit, key=key)
        theirs, ours = targets(service, proxy, key)
        rounds: dict[str, list[Any]] = {theirs.name: [], ours.name: []}
        calls = 0
        for number in range(asked.rounds + 1):  # the first one, short, only warms up
            seconds = asked.seconds if number else 1
            for target in (theirs, ours):
                before = upstream.requests()
                one = one_round(target, place, seconds, asked.connections, watched=target is ours)
                if target is ours:
                    calls += quiet(service, key, upstream) - before
                if number:
                    rounds[target.name].append(one)
                    console.print(f"  {number}/{asked.rounds} {target.name:8} {one.rps:9,.0f} rps")
        cost_pico = expected_pico(json.loads(ANSWER))
        check_books(service, key, calls=calls, cost_pico=cost_pico, limit_ids=LIMITS)
        return figures(rounds[ours.name]), figures(rounds[theirs.name]), calls


def targets(service: Service, proxy: nginx.Nginx, key: str) -> tuple[Target, Target]:
    """nginx, and the service with two limits."""
    body = json.dumps(ASK, separators=(",", ":")).encode()  # as SDKs send it
    plain = {"Content-Type": "application/json", "Authorization": "Bearer sk-bench"}
    named = plain | {"xProxy-Api-Key": key, "xProxy-Limit-IDs": ",".join(LIMITS)}
    path = "/api/v1/proxy/openai" + nginx.PATH
    return (
        Target("nginx", proxy.url + nginx.PATH, plain, body, len(ANSWER)),
        Target("xproxy", service.url + path, named, body, len(ANSWER) + RESULT_BYTES),
    )


def one_round(target: Target, place: Path, seconds: int, connections: int, *, watched: bool) -> Any:
    """One round of load, watched while it runs where there is a result to look at."""
    if not watched:
        return run(target, place, seconds=seconds, connections=connections)
    with Sampler(target, json.loads(ANSWER), LIMITS):
        return run(target, place, seconds=seconds, connections=connections)


def quiet(service: Service, key: str, upstream: nginx.Nginx) -> int:
    """Wait until the calls that wrk walked away from have ended too; what the provider has seen."""
    deadline = time.monotonic() + 60
    seen = -1
    while time.monotonic() < deadline:
        held = sum(b["holds"] for b in service.manage("GET", "budgets", key=key)["items"])
        now = upstream.requests()
        if now == seen and not held:
            return seen
        seen = now
        time.sleep(0.25)
    raise WrongAnswerError("calls still go on a minute after the load ended")


def report(
    console: Console, asked: argparse.Namespace, ours: Figures, theirs: Figures, ratio: float
) -> None:
    """The table."""
    table = Table(
        title=f"chat completion, JSON, two limits; {asked.workers} worker(s), "
        f"{asked.connections} connections; medians of {asked.rounds} x {asked.seconds} s",
        title_justify="left",
    )
    table.add_column("")
    for name in ("requests/s", "p50 ms", "p99 ms", "requests"):
        table.add_column(name, justify="right")
    for name, one in (("nginx, proxying", theirs), ("xproxy", ours)):
        times = (f"{one.p50_us / 1000:.2f}", f"{one.p99_us / 1000:.2f}")
        table.add_row(name, f"{one.rps:,.0f}", *times, f"{one.requests:,}")
    table.add_row("ratio", f"[bold]{ratio:.3f}[/]", "", "", "")
    console.print(table)


def record(
    asked: argparse.Namespace, ours: Figures, theirs: Figures, ratio: float, calls: int
) -> dict[str, Any]:
    """The figures for machines."""
    return {
        "benchmark": "chat.completions, JSON, two limits",
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version()},
        "rounds": asked.rounds,
        "seconds": asked.seconds,
        "connections": asked.connections,
        "workers": asked.workers,
        "nginx": asdict(theirs),
        "xproxy": asdict(ours),
        "ratio": round(ratio, 4),
        "calls": calls,
    }


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
