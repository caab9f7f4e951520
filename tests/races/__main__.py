"""`make races`: by how much limits are overrun, and who is refused wrongly, by calls at once.

Prints two Markdown tables: of races through the ledgers of two proxies, many of each kind, and of a
few through the whole service. Fails if a hard cap was overrun, or a mode did not keep its promise.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from statistics import median

import uvloop

from metering.embedded import Stores
from metering.store import Store
from metering.store.migrations import migrate
from tests.chaos.rig import Rig
from tests.races import ledgers, services
from tests.races.truth import WAYS, Figures, Way

WIDTHS = (1, 10, 50, 200, 1_000)
TITLES: dict[Way, str] = {
    "check": "check, then charge",
    "allow": "`allow`",
    "block": "`block`",
    "hard": "hard cap",
}
Races = dict[tuple[Way, int], list[Figures]]


def main() -> int:
    """Race, print; 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.races", description=__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="races of each kind, by ledgers")
    parser.add_argument("--service-seeds", type=int, default=2, help="the same, by the service")
    parser.add_argument("--widths", type=int, nargs="+", default=WIDTHS, help="calls at once")
    asked = parser.parse_args()
    broken: list[str] = []
    for title, race_all, seeds in (
        ("Two ledgers", through_ledgers, asked.seeds),
        ("The whole service", through_the_service, asked.service_seeds),
    ):
        if seeds:
            races = race_all(asked.widths, range(seeds))
            say("", f"{title}, {seeds} races each", "", *table(races))
            broken += wrong(races)
    say("", *(broken or ["No hard cap was overrun, and every mode has kept its promise."]))
    return int(bool(broken))


def through_ledgers(widths: Sequence[int], seeds: Iterable[int]) -> Races:
    """Figures by way and width."""

    async def race(stores: Stores, folder: Path) -> Races:
        urls = {server.title: server.url for server in stores.servers}
        await migrate(urls["PostgreSQL"])
        store, races = await Store.open(urls["PostgreSQL"]), Races()
        async with ledgers.two_ledgers(store, urls["Valkey"], folder) as two:
            for way, width, seed in progress(widths, seeds):
                calls = ledgers.some_calls(random.Random(seed), width)
                figures = await ledgers.race(two, urls["Valkey"], way, width, calls)
                races.setdefault((way, width), []).append(figures)
        await store.close()
        return races

    with (
        tempfile.TemporaryDirectory(prefix="xproxy-races-") as place,
        Stores(Path(place)) as stores,
    ):
        return uvloop.run(race(stores, Path(place)))


def through_the_service(widths: Sequence[int], seeds: Iterable[int]) -> Races:
    """The same."""
    races = Races()
    with (
        tempfile.TemporaryDirectory(prefix="xproxy-races-") as place,
        Rig(Path(place), outlive=False, **services.SETTINGS) as rig,
    ):
        for way, width, seed in progress(widths, seeds):
            calls = services.some_calls(random.Random(seed), width)
            races.setdefault((way, width), []).append(services.race(rig, way, width, calls))
    return races


def progress(widths: Sequence[int], seeds: Iterable[int]) -> Iterator[tuple[Way, int, int]]:
    """Every race to run, said on standard error as it begins."""
    for way in WAYS:
        for width in widths:
            for seed in seeds:
                sys.stderr.write(f"\r{way} {width} #{seed}      ")
                yield way, width, seed
    sys.stderr.write("\r")


def table(races: Races) -> Iterator[str]:
    """Its lines."""
    yield "| mode | at once | let in | worst overrun | of max | spent, median | refused | false |"
    yield "|---|---|---|---|---|---|---|---|"
    for (way, width), each in races.items():
        worst = max(each, key=lambda it: it.overrun_pico)
        refused, false = (sum(getattr(it, name) for it in each) for name in ("refused", "false"))
        refused += sum(it.turned_away for it in each)
        own = sum(it.false_by_own_bound for it in each)
        cells = (
            TITLES[way],
            f"{width:,}",
            f"{median(it.admitted for it in each):,.0f}",
            f"${worst.overrun_pico / 10**12:,.6f}",
            f"{worst.overrun_pico / worst.max_pico:,.1%}",
            f"{median(it.spent_pico / it.max_pico for it in each):,.1%}",
            f"{refused:,}",
            f"{false:,}" + (f" ({own:,} by their own ceiling)" if own else ""),
        )
        yield f"| {' | '.join(cells)} |"


def wrong(races: Races) -> Iterator[str]:
    """Every promise that was broken, in words."""
    for (way, width), each in races.items():
        for figures in each:
            if way == "hard" and figures.overrun_pico:
                yield f"{TITLES[way]}, {width} at once: overrun by {figures.overrun_pico} pico"
            for what in figures.broken:
                yield f"{TITLES[way]}, {width} at once: {what}"


def say(*lines: str) -> None:
    """Print them."""
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
