"""The catalogue's file format: one JSON file per provider, one line per dated price row.

A row says: from this date (`null`: as far back as anyone knows), at this service tier (absent: the
base), these prices; `above` gives those of whole requests with more than so many input tokens,
`hours` those at some hours of every day (UTC). A row replaces the earlier ones of its tier. A
tier's units that its row does not list cost what the base lists. Rows are only ever appended, so
yesterday's call keeps yesterday's price.

Prices are decimal strings in USD per million tokens (`pricing.vocabulary` has the other unit
sizes): no float ever stands between the list and the bill.

`match` names the models of an entry: an exact name; `#` for a digit, `*` at the beginning or the
end for anything; but none of the names that an `unless` fits. `at_least` is how many of a unit a
call is billed for that uses it at all.

A file's `fees` are what tools cost with every model of its provider whose rows do not list them,
its `scopes` hold for every model but where an entry has its own. `resells` names the providers
whose models this one sells at their list price: of those it needs no copy, or one that has scopes
of its own and no prices.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TypeVar

import msgspec

BASE = "default"
"""The service tier that a call without one is billed at."""
FOREVER = "9999"
"""Later than any ISO date."""


class PriceDataError(ValueError):
    """Price data that cannot be used; says which file, which line, which entry, and why."""


class PriceRow(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """The prices of a model from a date on, at one service tier."""

    since: str | None = msgspec.field(name="from")
    """ISO date, effective at midnight UTC."""
    service_tier: str = BASE
    prices: dict[str, str]
    above: dict[str, dict[str, str]] = {}
    hours: dict[str, dict[str, str]] = {}
    """By `01:00-04:00`: what differs then."""
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
    unless: list[str] = []
    context_window: int | None = None
    max_output_tokens: int | None = None
    at_least: dict[str, int] = {}
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
