"""`make bench-prices`: what looking a price up and charging a call takes, beside genai-prices.

Both price the same usages in one run, in turns; medians count, and their totals are held against
each other. Loading is measured in processes of their own.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from statistics import median

from genai_prices import Usage, calc_price

from pricing.cost import cost
from pricing.load import DATA, load
from pricing.units import leaves

CALLS, ROUNDS, LOADS = 2_000, 9, 5
NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)
# (provider, model, counts as a provider reports them, the same in genai-prices' words)
USAGES: list[tuple[str, str, dict[str, int], Usage]] = [
    (
        "openai",
        "gpt-4o-2024-08-06",
        {"input": 1_200, "cache_read": 1_024, "output": 300},
        Usage(input_tokens=1_200, cache_read_tokens=1_024, output_tokens=300),
    ),
    (
        "anthropic",
        "claude-sonnet-4-5-20250929",
        {"input": 9_000, "cache_read": 6_000, "cache_write_5m": 2_000, "output": 700},
        Usage(
            input_tokens=9_000,
            cache_read_tokens=6_000,
            cache_write_tokens=2_000,
            output_tokens=700,
        ),
    ),
    (
        "google",
        "gemini-2.5-pro",
        {"input": 250_000, "output": 2_000, "web_search": 1},
        Usage(input_tokens=250_000, output_tokens=2_000, web_searches=1),
    ),
]
LOAD = """
import sys, time
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
from pricing.load import load
before, start = resident(), time.perf_counter()
book = load()
print((time.perf_counter() - start) * 1000, (resident() - before) / 1e6)
"""


def main() -> int:
    """Measure, compare, print."""
    book = load()
    entries = sum(1 for _ in book.models())

    def ours() -> list[int]:
        return [
            cost(leaves(counts), rates).total_pico
            for provider, model, counts, _ in USAGES
            if (rates := book.find(provider, model, NOW_MS))
        ]

    def theirs() -> list[Decimal]:
        return [
            calc_price(usage, model, provider_id=provider, genai_request_timestamp=NOW).total_price
            for provider, model, _, usage in USAGES
        ]

    assert [usd * 10**12 for usd in theirs()] == ours(), "they differ"
    figures: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(ROUNDS):
        figures["ours"].append(_micros(ours))
        figures["theirs"].append(_micros(theirs))
    loads = [_load() for _ in range(LOADS)]
    size = sum(path.stat().st_size for path in DATA.glob("*.json"))
    us, them = median(figures["ours"]), median(figures["theirs"])
    found = {
        "machine": f"{os.cpu_count()} cores of {_processor()}, Python {platform.python_version()}",
        "lookup_and_cost_us": round(us, 1),
        "genai_calc_price_us": round(them, 1),
        "times_faster": round(them / us, 1),
        "load_ms": round(median(ms for ms, _ in loads)),
        "load_mb": round(median(mb for _, mb in loads), 1),
        "models": entries,
        "files_mb": round(size / 1e6, 1),
    }
    sys.stdout.write(json.dumps(found, indent=2) + "\n")
    return 0


def _processor() -> str:
    """What the machine calls its processor."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _micros(price: Callable[[], object]) -> float:
    """Microseconds a call."""
    price()
    start = time.perf_counter()
    for _ in range(CALLS):
        price()
    return (time.perf_counter() - start) * 1e6 / CALLS / len(USAGES)


def _load() -> tuple[float, float]:
    """(milliseconds, megabytes) of loading the catalogue in a fresh process."""
    root = Path(__file__).parent.parent.parent
    done = subprocess.run(
        [sys.executable, "-c", LOAD], check=True, capture_output=True, text=True, cwd=root
    )
    ms, mb = done.stdout.split()
    return float(ms), float(mb)


if __name__ == "__main__":
    sys.exit(main())
