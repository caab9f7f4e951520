from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any

import pytest

from pricing.cost import cost
from pricing.load import DATA, load
from pricing.units import leaves
from tests.pricing.decimal_oracle import BORROWS, TOKENS_IN, TOKENS_OUT, WITHIN, Catalogue, Usage

USAGES = {"ci": 30_000, "full": 1_000_000, "soak": 4_000_000}
SEED = 20_261_128
BOOK = load()
CATALOGUE = Catalogue(DATA)
COUNTED = sorted(BORROWS.keys() - TOKENS_IN - TOKENS_OUT)
LATE = "2027-06-01"


def usages(random: Random, number: int) -> Iterator[Usage]:
    """Calls of all models, days, hours, tiers, scopes and units, evenly over the catalogue."""
    entries = list(CATALOGUE.entries())
    random.shuffle(entries)
    for index in range(number):
        provider, entry = entries[index % len(entries)]
        rows = [*entry["prices"], *entry.get("scopes", [])]
        owner = CATALOGUE.files[provider]
        tiers = [row["service_tier"] for row in rows if "service_tier" in row]
        scopes = [s["scope"] for s in (*owner.get("scopes", []), *entry.get("scopes", []))]
        yield Usage(
            provider=provider,
            entry=entry,
            day=_day(random, rows),
            minute=_minute(random, rows),
            tier=random.choice([None, "standard", "unheard_of", *tiers, *tiers]),
            scope=random.choice([None, "nowhere", *scopes, *(f"{s}.eu" for s in scopes)]),
            leaves=_leaves(random, rows),
        )


def _day(random: Random, rows: list[Any]) -> str:
    """A day long ago, one far off, or one on either side of a date at which a price begins."""
    begins = [row["from"] for row in rows if row["from"]]
    day = random.choice(["2020-02-29", "2026-11-27", LATE, *begins])
    return (date.fromisoformat(day) - timedelta(days=random.randrange(2))).isoformat()


def _minute(random: Random, rows: list[Any]) -> int:
    """A minute of the day: the first or the last of some hours that have their own price."""
    times = [at for row in rows for hours in row.get("hours", {}) for at in hours.split("-")]
    edges = [int(at[:2]) * 60 + int(at[3:]) - random.randrange(2) for at in times]
    return random.choice(edges or [random.randrange(24 * 60)]) % (24 * 60)


def _leaves(random: Random, rows: list[Any]) -> dict[str, int]:
    """What was used: small and huge counts, zeros, and totals at the very edge of a context."""
    found = {"input_text": _count(random), "output_text": _count(random)}
    for unit in random.sample(sorted(TOKENS_IN | TOKENS_OUT), 4):
        found[unit] = _count(random)
    listed = sorted({unit for row in rows for unit in row.get("prices", {})} & set(COUNTED))
    for unit in (*random.sample(COUNTED, 2), *listed):
        found[unit] = random.randrange(400)
    edges = [int(start) for row in rows for start in row.get("above", {})]
    if edges and random.random() < 0.5:
        rest = sum(n for unit, n in found.items() if unit in TOKENS_IN and unit != "input_text")
        edge = random.choice(edges) + random.randrange(2)
        found["input_text"] = max(0, edge - rest)
    return {u: n for u, n in found.items() if n or u in {"input_text", "output_text"}}


def _count(random: Random) -> int:
    return random.randrange(10 ** random.randrange(1, 7))


def reported(used: dict[str, int]) -> dict[str, int]:
    """The same usage as a provider reports it: totals, and parts that overlap."""
    counts = {
        unit: n for unit, n in used.items() if unit not in {"input_text", "output_text"} and n
    }
    for unit, n in used.items():
        for whole in WITHIN.get(unit, ()):
            counts[whole] = counts.get(whole, 0) + n
    counts["input"] = sum(n for unit, n in used.items() if unit in TOKENS_IN)
    counts["output"] = sum(n for unit, n in used.items() if unit in TOKENS_OUT)
    return counts


def _at_ms(usage: Usage) -> int:
    midnight = datetime.fromisoformat(usage.day).replace(tzinfo=UTC)
    return int(midnight.timestamp() * 1000) + usage.minute * 60_000 + 59_999


@pytest.mark.timeout(3_600)
def test_the_engine_agrees_with_decimals(size: str) -> None:
    """Over the whole catalogue, no line of any usage differs from the decimal oracle's at all."""
    for number, usage in enumerate(usages(Random(SEED), USAGES[size])):
        name = usage.entry["match"][0].replace("#", "1").strip("*")
        rates = BOOK.find(usage.provider, name, _at_ms(usage))
        assert rates is not None
        assert rates.model == usage.entry["id"], name
        split = leaves(reported(usage.leaves))
        assert split == usage.leaves, number
        ours = cost(split, rates, usage.tier, usage.scope)
        lines, unpriced = CATALOGUE.lines(usage)
        assert ours.lines == {u: int(usd.scaleb(12)) for u, usd in lines.items()}, (number, usage)
        assert set(ours.unpriced) == unpriced, (number, usage)
        assert ours.total_pico == sum(lines.values(), Decimal(0)).scaleb(12), number
