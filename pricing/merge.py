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

import msgspec

from pricing.catalogue import FOREVER, ModelEntry, PriceFile, PriceRow, Row, ScopeRow, in_force
from pricing.gaps import with_whole_tiers
from pricing.genai import GENAI
from pricing.litellm import LITELLM
from pricing.portkey import PORTKEY


def merge(ours: PriceFile | None, theirs: PriceFile, today: str) -> tuple[PriceFile, list[str]]:
    """(the file with what is new appended, a line per change). `today` is an ISO date."""
    if ours is None:
        return theirs, [f"new, {len(theirs.models)} models"]
    new = {entry.id: entry for entry in theirs.models}
    claimed = {pattern: entry.id for entry in theirs.models for pattern in entry.match}
    models: list[ModelEntry] = []
    changes: list[str] = []
    for entry in ours.models:
        news = new.pop(entry.id, entry)
        if news is entry or _outranks(entry, news):
            news = with_whole_tiers(entry, today)
        merged = _merge_entry(entry, news, claimed, today)
        if merged.match:
            models.append(merged)
        changes += _changes(entry, merged)
    for entry in new.values():
        models.append(entry)
        changes.append(f"{entry.id}: new, {_words_of_first(entry)}")
    models.sort(key=lambda entry: entry.id)
    fees = _merge_rows(ours.fees, theirs.fees, "service_tier", today)
    scopes = _merge_rows(ours.scopes, theirs.scopes, "scope", today)
    changes += [f"fees: {_words(row)}" for row in fees if row not in ours.fees]
    changes += [_words_of_scope(row) for row in scopes if row not in ours.scopes]
    if theirs.resells != ours.resells:
        changes.append(f"resells {', '.join(resold.vendor for resold in theirs.resells)}")
    return msgspec.structs.replace(theirs, models=models, fees=fees, scopes=scopes), changes


def _merge_entry(
    ours: ModelEntry, theirs: ModelEntry, claimed: Mapping[str, str], today: str
) -> ModelEntry:
    names = {*ours.match, *theirs.match}
    return ModelEntry(
        id=ours.id,
        match=sorted(name for name in names if claimed.get(name, ours.id) == ours.id),
        unless=theirs.unless,
        at_least=theirs.at_least,
        context_window=theirs.context_window or ours.context_window,
        max_output_tokens=theirs.max_output_tokens or ours.max_output_tokens,
        prices=_merge_rows(ours.prices, theirs.prices, "service_tier", today),
        scopes=_merge_rows(ours.scopes, theirs.scopes, "scope", today),
    )


def _outranks(ours: ModelEntry, theirs: ModelEntry) -> bool:
    ranks = [_rank(_source(entry)) for entry in (ours, theirs)]
    return ranks[0] < ranks[1]


def _rank(source: str) -> int:
    """Which of the lists leads: what no list has now stands by what it was taken from."""
    order = (GENAI, LITELLM, PORTKEY)
    return next((rank for rank, name in enumerate(order) if source.startswith(name)), 0)


def _source(entry: ModelEntry) -> str:
    return entry.prices[0].source if entry.prices else ""


def _merge_rows(ours: Sequence[Row], theirs: Sequence[Row], key: str, today: str) -> list[Row]:
    rows = list(ours)
    for row in in_force(theirs, FOREVER):
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
            yield f"{before.id}: {_words_of_scope(scope)}"


def _words(row: PriceRow) -> str:
    prices = " ".join(f"{unit} {price}" for unit, price in row.prices.items())
    return f"{row.service_tier} from {row.since or 'the beginning'}: {prices}"


def _words_of_first(entry: ModelEntry) -> str:
    return _words(entry.prices[0]) if entry.prices else "at list price, with scopes of its own"


def _words_of_scope(row: ScopeRow) -> str:
    return f"scope {row.scope} x {row.multiplier}, from {row.since}"
