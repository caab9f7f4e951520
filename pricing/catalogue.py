"""The catalogue's file format: one JSON file per provider, one line per dated price row.

A row says: from this date (`null`: as far back as anyone knows), at this service tier (absent: the
base), these prices; `above` gives those of whole requests with more than so many input tokens. A
row replaces the earlier ones of its tier. A tier's units that its row does not list cost what the
base lists. Rows are only ever appended, so yesterday's call keeps yesterday's price.

Prices are decimal strings in USD per million tokens (`pricing.units` has the other unit sizes):
no float ever stands between the list and the bill.

`match` names the models of an entry: an exact name; `#` for a digit, `*` at the end or at both
ends for anything.

A file's `fees` are what tools cost with every model of its provider whose rows do not list them,
its `scopes` hold for every model but where an entry has its own. `resells` names the providers
whose models this one sells at their list price: of those it needs no copy, or one that has scopes
of its own and no prices.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from datetime import date
from typing import TypeVar

import msgspec

from pricing.units import TOKENS, UNITS

BASE = "default"
"""The service tier that a call without one is billed at."""
FOREVER = "9999"
"""Later than any ISO date."""
_DECIMAL = re.compile(r"\d{1,9}(\.\d{1,12})?")
_MULTIPLIER = re.compile(r"\d(\.\d{1,6})?")
_MATCH = re.compile(r"\*[^*#\s]+\*|[^*\s]+\*?")
_TIER = re.compile(r"[a-z_]+")


class PriceDataError(ValueError):
    """Price data that cannot be used; says which file, which entry, and why."""


class PriceRow(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """The prices of a model from a date on, at one service tier."""

    since: str | None = msgspec.field(name="from")
    """ISO date, effective at midnight UTC."""
    service_tier: str = BASE
    prices: dict[str, str]
    above: dict[str, dict[str, str]] = {}
    source: str
    checked: str
    """ISO date this row was taken from its source."""


class ScopeRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What token prices are multiplied with where the call ran in this scope."""

    since: str | None = msgspec.field(name="from")
    scope: str
    multiplier: str
    source: str
    checked: str


Row = TypeVar("Row", PriceRow, ScopeRow)


class ModelEntry(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """One model: its names, its bounds in tokens, and its dated prices."""

    id: str
    match: list[str]
    context_window: int | None = None
    max_output_tokens: int | None = None
    prices: list[PriceRow]
    """None in a reseller's entry: then it is sold at the vendor's list price."""
    scopes: list[ScopeRow] = []


TOOLS = "tools"
"""The model of a tool that is called by itself: it has its provider's fees and no prices else."""


class Resold(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """A vendor whose models another provider sells, at the vendor's list price."""

    vendor: str
    own_tools: bool = True
    """Whether tools are the reseller's, at its fees; else the vendor's, at the vendor's."""
    spelt: dict[str, str] = {}
    """How names begin that the reseller spells otherwise, and how the vendor's do."""

    def vendors_name(self, model: str) -> str:
        """What the vendor calls a model of the reseller's."""
        for ours, theirs in self.spelt.items():
            if model.lower().startswith(ours):
                return theirs + model[len(ours) :]
        return model


class PriceFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The catalogue of one provider."""

    provider: str
    pricing_urls: list[str]
    resells: list[Resold] = []
    fees: list[PriceRow] = []
    scopes: list[ScopeRow] = []
    models: list[ModelEntry]


class _RawFile(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    provider: str
    pricing_urls: list[str]
    resells: list[Resold] = []
    fees: list[PriceRow] = []
    scopes: list[ScopeRow] = []
    models: list[msgspec.Raw]


_decode_file = msgspec.json.Decoder(_RawFile).decode
_decode_entry = msgspec.json.Decoder(ModelEntry).decode


def parse(content: bytes, name: str) -> PriceFile:
    """Read and check a file's bytes; PriceDataError names the file, the entry and the reason."""
    try:
        raw = _decode_file(content)
    except msgspec.DecodeError as error:
        raise PriceDataError(f"{name}: {error}") from None
    for fault in (*_fee_faults(raw.fees), *_scopes_faults(raw.scopes)):
        raise PriceDataError(f"{name}: {fault}")
    models = [
        _entry(item, f"{name}: models[{index}]", priced=not raw.resells)
        for index, item in enumerate(raw.models)
    ]
    seen: dict[str, str] = {}
    for model in models:
        for pattern in model.match:
            if seen.setdefault(pattern, model.id) != model.id:
                other = seen[pattern]
                raise PriceDataError(f"{name}: {model.id}: {pattern!r} already names {other}")
    if len({model.id for model in models}) != len(models):
        raise PriceDataError(f"{name}: two entries have the same id")
    return PriceFile(
        provider=raw.provider,
        pricing_urls=raw.pricing_urls,
        resells=raw.resells,
        fees=raw.fees,
        scopes=raw.scopes,
        models=models,
    )


def _entry(raw: msgspec.Raw, place: str, *, priced: bool) -> ModelEntry:
    try:
        entry = _decode_entry(raw)
    except msgspec.DecodeError as error:
        raise PriceDataError(f"{place}: {error}") from None
    place = f"{place} ({entry.id})"
    for fault in _faults(entry, priced=priced):
        raise PriceDataError(f"{place}: {fault}")
    return entry


def _faults(entry: ModelEntry, *, priced: bool) -> Iterable[str]:
    for pattern in entry.match:
        if not _MATCH.fullmatch(pattern) or pattern != pattern.lower():
            yield f"match {pattern!r} is not a lower-case name, prefix* or *part*"
    if not entry.match:
        yield "it matches no name"
    priced = priced or bool(entry.prices)
    if priced and not any(row.service_tier == BASE for row in entry.prices):
        yield "it has no base price"
    keys = [(row.service_tier, row.since) for row in entry.prices]
    if len(set(keys)) != len(keys):
        yield "two rows have the same date and service tier"
    for index, row in enumerate(entry.prices):
        yield from (f"prices[{index}]: {fault}" for fault in _row_faults(row))
    yield from _scopes_faults(entry.scopes)


def _fee_faults(fees: Sequence[PriceRow]) -> Iterable[str]:
    for index, row in enumerate(fees):
        yield from (f"fees[{index}]: {fault}" for fault in _row_faults(row))
        if row.service_tier != BASE or row.above or not TOKENS.isdisjoint(row.prices):
            yield f"fees[{index}]: a fee has no service tier, no context tier and is not of tokens"
    if len({row.since for row in fees}) != len(fees):
        yield "two rows of fees have the same date"


def _row_faults(row: PriceRow) -> Iterable[str]:
    yield from _date_faults(row.since, row.checked)
    if not _TIER.fullmatch(row.service_tier):
        yield f"service tier {row.service_tier!r} is not a lower-case word"
    if not row.prices:
        yield "it has no prices"
    for start, prices in row.above.items():
        if not start.isdecimal() or not prices:
            yield f"above {start!r} is not a number of tokens with prices"
        if alone := prices.keys() - row.prices.keys():
            yield f"above {start!r}: {min(alone)} has no price below"
    for prices in (row.prices, *row.above.values()):
        for unit, price in prices.items():
            if unit not in UNITS:
                yield f"{unit!r} is not a unit"
            if not _DECIMAL.fullmatch(price):
                yield f"{unit} price {price!r} is not a plain decimal"


def _scopes_faults(rows: Sequence[ScopeRow]) -> Iterable[str]:
    for index, row in enumerate(rows):
        yield from (f"scopes[{index}]: {fault}" for fault in _scope_faults(row))


def _scope_faults(row: ScopeRow) -> Iterable[str]:
    yield from _date_faults(row.since, row.checked)
    if not _MULTIPLIER.fullmatch(row.multiplier) or not row.multiplier.strip("0."):
        yield f"multiplier {row.multiplier!r} is not a decimal above 0 and below 10"


def _date_faults(*days: str | None) -> Iterable[str]:
    for day in days:
        try:
            valid = day is None or date.fromisoformat(day).isoformat() == day
        except ValueError:
            valid = False
        if not valid:
            yield f"{day!r} is not a date (YYYY-MM-DD)"


def in_force(rows: Iterable[Row], day: str) -> list[Row]:
    """The rows that have begun on an ISO date (or `` for time immemorial), oldest first."""
    return sorted((row for row in rows if (row.since or "") <= day), key=lambda r: r.since or "")


def render(content: PriceFile) -> bytes:
    """The bytes of a file: stable, and one line per row, so that a diff reads like a price list."""
    fields = msgspec.to_builtins(content)
    lines = [f'  "{key}": {json.dumps(fields[key])}' for key in ("provider", "pricing_urls")]
    lines += [
        f'  "{key}": {_render_rows(fields[key], "    ")}'
        for key in ("resells", "fees", "scopes")
        if fields[key]
    ]
    models = ",\n".join(_render_entry(model) for model in content.models)
    lines.append(f'  "models": [\n{models}\n  ]')
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def _render_entry(model: ModelEntry) -> str:
    fields = msgspec.to_builtins(model)
    lines = []
    for key, value in fields.items():
        rows = key in {"prices", "scopes"}
        text = _render_rows(value, " " * 8) if rows else json.dumps(value)
        lines.append(f'      "{key}": {text}')
    return "    {\n" + ",\n".join(lines) + "\n    }"


def _render_rows(rows: Sequence[object], indent: str) -> str:
    if not rows:
        return "[]"
    return "[\n" + ",\n".join(f"{indent}{json.dumps(row)}" for row in rows) + f"\n{indent[2:]}]"
