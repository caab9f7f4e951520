"""One-line makers of price data with readable defaults."""

from __future__ import annotations

from collections.abc import Mapping

from pricing.book import PriceBook
from pricing.catalogue import ModelEntry, PriceFile, PriceRow, Resold, ScopeRow
from pricing.rates import Rates


def row(
    prices: Mapping[str, str] | None = None,
    *,
    since: str | None = None,
    tier: str = "default",
    above: Mapping[str, dict[str, str]] | None = None,
    hours: Mapping[str, dict[str, str]] | None = None,
) -> PriceRow:
    """A price row; 2 and 10 dollars a million unless told."""
    return PriceRow(
        since=since,
        service_tier=tier,
        prices=dict(prices or {"input": "2", "output": "10"}),
        above=dict(above or {}),
        hours=dict(hours or {}),
        source="the test",
        checked="2026-11-20",
    )


def scope(name: str, multiplier: str, since: str | None = None) -> ScopeRow:
    """A scope's multiplier."""
    return ScopeRow(
        since=since, scope=name, multiplier=multiplier, source="the test", checked="2026-11-20"
    )


def entry(
    *rows: PriceRow,
    name: str = "m",
    match: list[str] | None = None,
    unless: list[str] | None = None,
    scopes: list[ScopeRow] | None = None,
    at_least: dict[str, int] | None = None,
) -> ModelEntry:
    """A model."""
    return ModelEntry(
        id=name,
        match=match or [name],
        unless=unless or [],
        prices=list(rows) or [row()],
        scopes=scopes or [],
        at_least=at_least or {},
    )


def file(
    provider: str,
    *entries: ModelEntry,
    fees: list[PriceRow] | None = None,
    scopes: list[ScopeRow] | None = None,
    resells: list[Resold] | None = None,
) -> PriceFile:
    """The file of a provider."""
    return PriceFile(
        provider=provider,
        pricing_urls=[],
        resells=resells or [],
        fees=fees or [],
        scopes=scopes or [],
        models=list(entries),
    )


def book(*entries: ModelEntry) -> PriceBook:
    """A book of one provider, `p`."""
    return PriceBook([file("p", *entries)], "test")


def rates(*rows: PriceRow, scopes: list[ScopeRow] | None = None) -> Rates:
    """The rates of one model, today."""
    found = book(entry(*rows, scopes=scopes)).find("p", "m", 1_795_000_000_000)
    assert found is not None
    return found
