"""Load: wrk against one address for a while, and what it measured."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tests.bench.nginx import program

SCRIPT = """
wrk.method = "POST"
wrk.body = [==[{body}]==]
{headers}
function done(summary, latency, requests)
    local e = summary.errors
    io.write(string.format(
        '\\nresult {{"requests":%d,"micros":%d,"bytes":%d,"p50_us":%d,"p99_us":%d,"errors":%d}}\\n',
        summary.requests, summary.duration, summary.bytes,
        latency:percentile(50), latency:percentile(99),
        e.connect + e.read + e.write + e.status + e.timeout))
end
"""


@dataclass(frozen=True)
class Target:
    """What is measured: a name, an address, and what a call consists of."""

    name: str
    url: str
    headers: dict[str, str]
    body: bytes
    answer_bytes: int
    """No answer may be shorter than this: checked on the average of each round."""


@dataclass(frozen=True)
class Round:
    """One run of wrk."""

    requests: int
    micros: int
    bytes: int
    p50_us: int
    p99_us: int
    errors: int
    """Answers that were no 2xx, and connections that failed."""

    @property
    def rps(self) -> float:
        """Requests per second."""
        return self.requests * 1e6 / self.micros


@dataclass(frozen=True)
class Figures:
    """Medians over the rounds of one target."""

    rps: float
    p50_us: float
    p99_us: float
    requests: int
    """In all rounds together."""


class WrongAnswerError(AssertionError):
    """The load ran, but what came back was not right."""


def run(target: Target, place: Path, *, seconds: int, connections: int) -> Round:
    """One round; raises WrongAnswerError on any error or on answers that are too short."""
    script = place / f"{target.name}.lua"
    lines = [f"wrk.headers[ [==[{k}]==] ] = [==[{v}]==]" for k, v in target.headers.items()]
    script.write_text(SCRIPT.format(body=target.body.decode(), headers="\n".join(lines)))
    command = [program("wrk"), "-t", "1", "-c", str(connections), "-d", f"{seconds}s"]
    command += ["--timeout", "10s", "-s", str(script), target.url]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=seconds + 30, check=False
    )
    found = [line for line in done.stdout.splitlines() if line.startswith("result ")]
    if done.returncode or not found:
        raise RuntimeError(f"wrk failed: {done.stderr or done.stdout}")
    measured = Round(**json.loads(found[-1].removeprefix("result ")))
    if measured.errors or not measured.requests:
        raise WrongAnswerError(f"{target.name}: {measured.errors} errors, {measured}")
    if measured.bytes / measured.requests < target.answer_bytes:
        raise WrongAnswerError(f"{target.name}: answers are too short, {measured}")
    return measured


def figures(rounds: list[Round]) -> Figures:
    """The medians of some rounds."""
    return Figures(
        rps=median(one.rps for one in rounds),
        p50_us=median(one.p50_us for one in rounds),
        p99_us=median(one.p99_us for one in rounds),
        requests=sum(one.requests for one in rounds),
    )
