"""How the catalogue takes up what its sources say now: by appending, never by overwriting.

Laws
1. A row that is in force stays as it is. Where a source changed a price without a date, a row
   from today is appended; where it gives the date, the dated row is.
2. Only rows that have not begun before today may be replaced.
3. Models and tiers a source no longer lists are kept: they must price yesterday's calls. Nor
   does the lesser source then take them over.
4. Merging the same sources twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

import msgspec

from pricing.book import PriceBook
from pricing.catalogue import ModelEntry, PriceFile, PriceRow, Row, in_force
from pricing.rates import FEMTO_PER_USD, Rates, femto
from pricing.sources import GENAI, LITELLM, Listed, own_entry, with_bounds, with_gaps_filled
from pricing.units import UNITS


def combine(
    provider: str,
    pricing_urls: list[str],
    entries: Sequence[ModelEntry],
    listed: Sequence[Listed],
    *,
    source: str,
    today: str,
) -> PriceFile:
    """A provider's file as the sources say today: `entries`, and what LiteLLM's list adds to them.

    `source` names LiteLLM's list and its version.
    """
    listed = [item for item in listed if item.provider == provider]
    known = PriceBook([PriceFile(provider=provider, pricing_urls=[], models=[*entries])], "")
    added = [
        entry
        for item in listed
        if known.find(provider, item.name, 0) is None
        and (entry := own_entry(item, source, today)) is not None
    ]
    everything = PriceFile(provider=provider, pricing_urls=pricing_urls, models=[*entries, *added])
    names = _by_model(everything, listed)
    models = [
        with_bounds(with_gaps_filled(entry, also, source), also, source, today)
        for entry in everything.models
        for also in [names.get(entry.id, [])]
    ]
    return msgspec.structs.replace(everything, models=sorted(models, key=lambda entry: entry.id))


def _by_model(file: PriceFile, listed: Iterable[Listed]) -> dict[str, list[Listed]]:
    book = PriceBook([file], "")
    names: dict[str, list[Listed]] = {}
    for item in listed:
        if rates := book.find(file.provider, item.name, 0):
            names.setdefault(rates.model, []).append(item)
    return names


def merge(ours: PriceFile | None, theirs: PriceFile, today: str) -> tuple[PriceFile, list[str]]:
    """(the file with what is new appended, a line per change). `today` is an ISO date."""
    if ours is None:
        return theirs, [f"{theirs.provider}: new"]
    new = {entry.id: entry for entry in theirs.models}
    claimed = {pattern: entry.id for entry in theirs.models for pattern in entry.match}
    models: list[ModelEntry] = []
    changes: list[str] = []
    for entry in ours.models:
        news = new.pop(entry.id, entry)
        merged = _merge_entry(entry, entry if _outranks(entry, news) else news, claimed, today)
        if merged.match:
            models.append(merged)
        changes += _changes(entry, merged)
    for entry in new.values():
        models.append(entry)
        changes.append(f"{entry.id}: new, {_words(entry.prices[0])}")
    models.sort(key=lambda entry: entry.id)
    return msgspec.structs.replace(theirs, models=models), changes


def _merge_entry(
    ours: ModelEntry, theirs: ModelEntry, claimed: Mapping[str, str], today: str
) -> ModelEntry:
    kept = {pattern for pattern in ours.match if claimed.get(pattern, ours.id) == ours.id}
    return ModelEntry(
        id=ours.id,
        match=sorted(kept | set(theirs.match)) if theirs is not ours else sorted(kept),
        context_window=theirs.context_window or ours.context_window,
        max_output_tokens=theirs.max_output_tokens or ours.max_output_tokens,
        prices=_merge_rows(ours.prices, theirs.prices, "service_tier", today),
        scopes=_merge_rows(ours.scopes, theirs.scopes, "scope", today),
    )


def _outranks(ours: ModelEntry, theirs: ModelEntry) -> bool:
    return ours.prices[0].source.startswith(GENAI) and theirs.prices[0].source.startswith(LITELLM)


def _merge_rows(ours: Sequence[Row], theirs: Sequence[Row], key: str, today: str) -> list[Row]:
    rows = list(ours)
    for row in in_force(theirs, "9999"):
        if row.since is not None:
            rows = _take(rows, row, key, today)
    for row in {getattr(row, key): row for row in in_force(theirs, today)}.values():
        latest = _latest(rows, row, key, today)
        if latest is None or not _same(latest, row):
            rows = _take(rows, msgspec.structs.replace(row, since=today), key, today)
    return rows


def _take(rows: list[Row], row: Row, key: str, today: str) -> list[Row]:
    """The rows with one more, if it says something new about its day."""
    day = row.since or ""
    standing = _latest(rows, row, key, day)
    if standing is not None and (_same(standing, row) or (standing.since == day < today)):
        return rows
    return [r for r in rows if (getattr(r, key), r.since) != (getattr(row, key), day)] + [row]


def _latest(rows: Iterable[Row], like: Row, key: str, day: str) -> Row | None:
    same = [row for row in in_force(rows, day) if getattr(row, key) == getattr(like, key)]
    return same[-1] if same else None


def _same(one: Row, other: Row) -> bool:
    return bool(_content(one) == _content(other))


def _content(row: Row) -> Row:
    return msgspec.structs.replace(row, since=None, source="", checked="")


def _changes(before: ModelEntry, after: ModelEntry) -> Iterable[str]:
    if not after.match:
        yield f"{before.id}: dropped, its names now belong to other models"
    for pattern in sorted(set(before.match) ^ set(after.match)):
        yield f"{before.id}: {'+' if pattern in after.match else '-'} {pattern}"
    for field in ("context_window", "max_output_tokens"):
        old, new = getattr(before, field), getattr(after, field)
        if old != new:
            yield f"{before.id}: {field} {old} -> {new}"
    for row in after.prices:
        if row not in before.prices:
            yield f"{before.id}: {_words(row)}"
    for scope in after.scopes:
        if scope not in before.scopes:
            yield f"{before.id}: scope {scope.scope} x {scope.multiplier}, from {scope.since}"


def _words(row: PriceRow) -> str:
    prices = " ".join(f"{unit} {price}" for unit, price in row.prices.items())
    return f"{row.service_tier} from {row.since or 'the beginning'}: {prices}"


def disagreements(files: Iterable[PriceFile], listed: Iterable[Listed], at_ms: int) -> list[str]:
    """Where the catalogue and LiteLLM's list price the same thing differently at a time."""
    book = PriceBook([*files], "")
    lines = {
        f"{item.name}: {words}"
        for item in listed
        if (rates := book.find(item.provider, item.name, at_ms))
        for (tier, above), prices in item.prices.items()
        for words in _differences(rates, tier, above, prices)
    }
    return sorted(lines)


def _differences(rates: Rates, tier: str, above: str, prices: Mapping[str, str]) -> Iterable[str]:
    if tier not in rates.tiers:
        yield f"LiteLLM has a {tier} tier, the catalogue has none"
        return
    ours = rates.tiers[tier].at(int(above or 0) + bool(above))
    for unit, price in prices.items():
        have = ours.get(unit)
        if have != femto(price, UNITS[unit].per):
            usd = "none" if have is None else f"{Decimal(have * UNITS[unit].per) / FEMTO_PER_USD:f}"
            context = f" above {above}" if above else ""
            yield f"{tier}{context} {unit}: the catalogue {usd}, LiteLLM {price}"
