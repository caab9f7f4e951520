"""What a usage costs by the catalogue's files, worked out with decimals and nothing of ours.

It reads the files as JSON and knows the rules as `docs/prices.md` states them: which row is in
force, what a tier, a context, an hour and a scope change, whose price a unit borrows, which fees
apply, and that a price is rounded to 10^-15 and a line to 10^-12 USD, half-even.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

FEMTO, PICO = Decimal("1e-15"), Decimal("1e-12")
M = 1_000_000
# What each unit borrows its price from, nearest first, and how many of it a price buys.
INPUT = ("input",)
OUTPUT = ("output",)
BORROWS: dict[str, tuple[tuple[str, ...], int]] = {
    "input_text": (INPUT, M),
    "input_audio": (INPUT, M),
    "input_image": (INPUT, M),
    "input_video": (INPUT, M),
    "input_document": (INPUT, M),
    "input_tool": (INPUT, M),
    "cache_read": (INPUT, M),
    "cache_read_audio": (("input_audio", "cache_read", "input"), M),
    "cache_read_image": (("input_image", "cache_read", "input"), M),
    "cache_write": (INPUT, M),
    "cache_write_5m": (("cache_write", "input"), M),
    "cache_write_1h": (("cache_write", "input"), M),
    "cache_write_12h": (("cache_write", "input"), M),
    "output_text": (OUTPUT, M),
    "output_audio": (OUTPUT, M),
    "output_image": (OUTPUT, M),
    "output_video": (OUTPUT, M),
    "reasoning": (OUTPUT, M),
    "citation": (OUTPUT, M),
    "web_search": ((), 1_000),
    "file_search": ((), 1_000),
    "maps_search": ((), 1_000),
    "social_search": ((), 1_000),
    "code_execution": ((), 1_000),
    "container_4g": ((), 1),
    "guardrail_topic": ((), 1_000),
    "images": ((), 1),
    "image_1024x1024": (("images",), 1),
    "image_hd_1024x1792": (("images",), 1),
    "video_seconds": ((), 1),
    "video_seconds_1080p": (("video_seconds",), 1),
    "audio_seconds": ((), 3_600),
    "input_characters": ((), M),
    "pages": ((), 1_000),
    "pages_annotated": (("pages",), 1_000),
    "text_messages": ((), 1_000),
    "rerank_searches": ((), 1_000),
    "requests": ((), 1_000),
}
# A part that is counted within another unit, beside the totals of all tokens in and out.
WITHIN = {
    "cache_read_audio": ("input_audio", "cache_read"),
    "cache_read_image": ("input_image", "cache_read"),
    "cache_write_1h": ("cache_write",),
    "cache_write_5m": ("cache_write",),
    "cache_write_12h": ("cache_write",),
    "image_1024x1024": ("images",),
    "image_hd_1024x1792": ("images",),
    "video_seconds_1080p": ("video_seconds",),
    "pages_annotated": ("pages",),
}
TOKENS_IN = {unit for unit in BORROWS if "input" in (*BORROWS[unit][0], unit)}
TOKENS_OUT = {unit for unit in BORROWS if "output" in BORROWS[unit][0]}
FREE_IF_UNLISTED = {"code_execution", "requests", "guardrail_topic"}
BASE_WORDS = {None, "", "default", "standard", "auto", "standard_only"}


class Usage(NamedTuple):
    """A call to price: of which model, when, where and how, and what it used."""

    provider: str
    entry: Mapping[str, Any]
    day: str
    minute: int
    tier: str | None
    scope: str | None
    leaves: dict[str, int]


class Catalogue:
    """The files of a directory."""

    def __init__(self, directory: Path) -> None:
        read = [json.loads(path.read_text()) for path in sorted(directory.glob("*.json"))]
        self.files = {file["provider"]: file for file in read}
        self._entries = {
            (name, entry["id"]): entry
            for name, file in self.files.items()
            for entry in file["models"]
        }

    def entries(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Every (provider, entry), resold ones without own prices included."""
        for name, file in self.files.items():
            yield from ((name, entry) for entry in file["models"])

    def lines(self, usage: Usage) -> tuple[dict[str, Decimal], set[str]]:
        """By unit, its line in USD; and the units that have no price."""
        priced, ratio = self._prices(usage), self._ratio(usage)
        least = usage.entry.get("at_least", {})
        lines: dict[str, Decimal] = {}
        unpriced = set()
        for unit, used in usage.leaves.items():
            price = next((priced[u] for u in (unit, *BORROWS[unit][0]) if u in priced), None)
            if price is None:
                if used and unit not in FREE_IF_UNLISTED:
                    unpriced.add(unit)
                continue
            count = max(used, least.get(unit, 0)) if used else 0
            tokens = unit in TOKENS_IN | TOKENS_OUT
            lines[unit] = line(count, price, ratio if tokens else Fraction(1))
        return lines, unpriced

    def _prices(self, usage: Usage) -> dict[str, Decimal]:
        file = self.files[usage.provider]
        entry, vendor, resold = usage.entry, None, None
        if not entry["prices"]:
            found = ((r, (r["vendor"], entry["id"])) for r in file["resells"])
            resold, key = next((r, key) for r, key in found if key in self._entries)
            vendor, entry = key[0], self._entries[key]
        base = self._fees(file, vendor, usage.day)
        base |= prices_of(row_of(entry["prices"], "default", usage.day), usage)
        tier = None if usage.tier in BASE_WORDS else usage.tier
        row = row_of(entry["prices"], tier, usage.day, strict=True) if tier else None
        base |= prices_of(row, usage) if row else {}
        if resold and resold.get("own_tools", True):
            base |= fees_of(file, usage.day)
        return base

    def _fees(self, file: Mapping[str, Any], vendor: str | None, day: str) -> dict[str, Decimal]:
        if vendor:
            return fees_of(self.files[vendor], day)
        fees: dict[str, Decimal] = {}
        for resold in reversed(file.get("resells", [])):
            if resold.get("own_tools", True):
                fees |= fees_of(self.files[resold["vendor"]], day)
        return fees | fees_of(file, day)

    def _ratio(self, usage: Usage) -> Fraction:
        ratios: dict[str, str] = {}
        for owner in (self.files[usage.provider], usage.entry):
            rows = [row for row in owner.get("scopes", []) if (row["from"] or "") <= usage.day]
            ratios |= {row["scope"]: row["multiplier"] for row in sorted(rows, key=begin)}
        scope = usage.scope or ""
        return Fraction(ratios.get(scope) or ratios.get(scope.partition(".")[0], "1"))


def line(count: int, price: Decimal, ratio: Fraction) -> Decimal:
    """So many units at a price times a ratio, rounded once."""
    with localcontext() as context:
        context.prec = 60
        return (count * price * ratio.numerator / ratio.denominator).quantize(PICO, ROUND_HALF_EVEN)


def begin(row: Mapping[str, Any]) -> str:
    """When a row begins; the empty string is before every date."""
    return row["from"] or ""


def row_of(
    rows: Sequence[Mapping[str, Any]], tier: str, day: str, *, strict: bool = False
) -> Mapping[str, Any] | None:
    """The row in force; before all rows the first one, but for a tier that is not there yet.

    The day before the model's first price counts as that day.
    """
    first = min(begin(r) for r in rows if r.get("service_tier", "default") == "default")
    same = [row for row in rows if row.get("service_tier", "default") == tier]
    begun = sorted((row for row in same if begin(row) <= max(day, first)), key=begin)
    if not begun and not strict:
        return min(same, key=begin)
    return begun[-1] if begun else None


def prices_of(row: Mapping[str, Any] | None, usage: Usage) -> dict[str, Decimal]:
    """The prices of a row in this call's context, at its hour, in USD for one unit."""
    assert row is not None
    prices = dict(row["prices"])
    total = sum(count for unit, count in usage.leaves.items() if unit in TOKENS_IN)
    for start in sorted(row.get("above", {}), key=int):
        if total > int(start):
            prices |= row["above"][start]
    for hours, differing in row.get("hours", {}).items():
        opens, closes = (int(at[:2]) * 60 + int(at[3:]) for at in hours.split("-"))
        wraps = closes < opens
        if (opens <= usage.minute < closes) != wraps and not (
            wraps and closes <= usage.minute < opens
        ):
            prices |= differing
    return {unit: each(unit, price) for unit, price in prices.items()}


def each(unit: str, price: str) -> Decimal:
    """The price of one, to the femto-dollar."""
    per = BORROWS[unit][1] if unit in BORROWS else M
    return (Decimal(price) / per).quantize(FEMTO, ROUND_HALF_EVEN)


def fees_of(file: Mapping[str, Any], day: str) -> dict[str, Decimal]:
    """What tools cost with a provider on a day; before all rows, what they cost first."""
    rows = sorted(file.get("fees", []), key=begin)
    begun = [row for row in rows if begin(row) <= day] or rows[:1]
    return {unit: each(unit, p) for unit, p in begun[-1]["prices"].items()} if begun else {}
