"""Reading a catalogue file: whole or not at all, and what is wrong is named with its line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import date
from functools import lru_cache
from typing import TypeAlias

import msgspec

from pricing.catalogue import BASE, ModelEntry, PriceDataError, PriceFile, PriceRow, ScopeRow
from pricing.lines import Steps, line_of, line_of_error, twice
from pricing.units import TOKENS, UNITS

Fault: TypeAlias = tuple[Steps, str]
DAY_MINUTES = 24 * 60
_FIRST_DAY = "2000-01-01"
TOKENS_MAX = 1_000_000_000
"""No bound of a model is above this."""

# Digits are 0 to 9: Python reads those of other scripts as numbers, too.
_DECIMAL = re.compile(r"[0-9]{1,9}(\.[0-9]{1,12})?").fullmatch
_MULTIPLIER = re.compile(r"[0-9](\.[0-9]{1,6})?|[1-9][0-9]{0,5}/[1-9][0-9]{0,5}").fullmatch
_MATCH = re.compile(r"\*?[^*\s]+\*?").fullmatch
_PROVIDER = re.compile(r"[a-z0-9][a-z0-9_-]*").fullmatch
_ID = re.compile(r"[^\s\x00-\x1f]+").fullmatch
_TIER = re.compile(r"[a-z_]+(:[a-z/_-]+)?").fullmatch
_TIME = "([01][0-9]|2[0-3]):[0-5][0-9]"
_HOURS = re.compile(f"{_TIME}-{_TIME}").fullmatch
_START = re.compile(r"[1-9][0-9]{0,9}").fullmatch


class _File(PriceFile, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file may say which currency its prices are in, and then only this."""

    currency: str = "USD"


_decode = msgspec.json.Decoder(_File).decode


def parse(content: bytes, name: str) -> PriceFile:
    """Read and check a file's bytes; PriceDataError says `name:line: entry: reason`."""
    try:
        content.decode()  # of a byte that is no text the decoder below does not say where
        read = _decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise PriceDataError(f"{name}:{line_of_error(content, error)}: {error}") from None
    if found := twice(content):
        raise PriceDataError(f"{name}:{found[0]}: {found[1]!r} is there twice")
    for path, fault in _faults(read):
        line = line_of(content, path)
        raise PriceDataError(f"{name}:{line}: {_words(read, path)}{fault}")
    return PriceFile(**{field: getattr(read, field) for field in PriceFile.__struct_fields__})


def _words(file: PriceFile, path: Steps) -> str:
    """`models[3] (gpt-4o): prices[0]: ` for a path."""
    text = ""
    for name, index in zip(path[::2], path[1::2], strict=False):
        text += f"{name}[{index}]"
        if name == "models":
            text += f" ({file.models[int(index)].id})"
        text += ": "
    return text


def _faults(file: _File) -> Iterator[Fault]:
    if file.currency != "USD":
        yield ("currency",), f"prices are in USD, not in {file.currency!r}"
    if not _PROVIDER(file.provider):
        yield ("provider",), f"provider {file.provider!r} is not a lower-case word"
    yield from _fee_faults(file.fees)
    yield from _scopes_faults(file.scopes, ())
    names: dict[str, str] = {}
    ids: set[str] = set()
    for index, entry in enumerate(file.models):
        path: Steps = ("models", index)
        if entry.id in ids:
            yield path, "two entries have the same id"
        ids.add(entry.id)
        yield from _entry_faults(entry, path, priced=not file.resells)
        for pattern in entry.match:
            if names.setdefault(pattern, entry.id) != entry.id:
                yield path, f"{pattern!r} already names {names[pattern]}"


def _entry_faults(entry: ModelEntry, path: Steps, *, priced: bool) -> Iterator[Fault]:
    yield from _name_faults(entry, path)
    yield from _bound_faults(entry, path)
    if (priced or entry.prices) and not any(row.service_tier == BASE for row in entry.prices):
        yield path, "it has no base price"
    seen = set()
    for index, row in enumerate(entry.prices):
        yield from _row_faults(row, (*path, "prices", index))
        if (row.service_tier, row.since) in seen:
            yield (*path, "prices", index), "two rows have the same date and service tier"
        seen.add((row.service_tier, row.since))
    yield from _scopes_faults(entry.scopes, path)


def _name_faults(entry: ModelEntry, path: Steps) -> Iterator[Fault]:
    if not _ID(entry.id):
        yield path, f"id {entry.id!r} is not a name"
    for pattern in (*entry.match, *entry.unless):
        if not _MATCH(pattern) or pattern != pattern.lower():
            yield path, f"match {pattern!r} is not a lower-case name, prefix* or *part*"
    if not entry.match:
        yield path, "it matches no name"


def _bound_faults(entry: ModelEntry, path: Steps) -> Iterator[Fault]:
    for bound in (entry.context_window, entry.max_output_tokens):
        if bound is not None and not 0 < bound <= TOKENS_MAX:
            yield path, f"{bound} is not a bound in tokens"
    if not entry.at_least.keys() <= UNITS.keys() or min(entry.at_least.values(), default=1) < 1:
        yield path, f"at_least {entry.at_least} is not of units, from one on"


def _fee_faults(fees: Sequence[PriceRow]) -> Iterator[Fault]:
    seen = set()
    for index, row in enumerate(fees):
        path: Steps = ("fees", index)
        yield from _row_faults(row, path)
        plain = row.service_tier == BASE and not row.above and not row.hours
        if not plain or not TOKENS.isdisjoint(row.prices):
            yield path, "a fee has no service tier, no context tier, no hours and is not of tokens"
        if row.since in seen:
            yield path, "two rows of fees have the same date"
        seen.add(row.since)


def _row_faults(row: PriceRow, path: Steps) -> Iterator[Fault]:
    yield from _date_faults(path, row.since, row.checked)
    if not _TIER(row.service_tier):
        yield path, f"service tier {row.service_tier!r} is not a lower-case word"
    if not row.prices:
        yield path, "it has no prices"
    for start, prices in row.above.items():
        if not _START(start) or not prices:
            yield path, f"above {start!r} is not a number of tokens with prices"
    yield from _hours_faults(row, path)
    for where, part in (("above", row.above), ("hours", row.hours)):
        for key, prices in part.items():
            if alone := prices.keys() - row.prices.keys():
                yield path, f"{where} {key!r}: {min(alone)} has no price below"
    for prices in (row.prices, *row.above.values(), *row.hours.values()):
        yield from _price_faults(prices, path)


def _price_faults(prices: dict[str, str], path: Steps) -> Iterator[Fault]:
    for unit, price in prices.items():
        if unit not in UNITS:
            yield path, f"{unit!r} is not a unit"
        if not _DECIMAL(price):
            yield path, f"{unit} price {price!r} is not a plain decimal"


def _hours_faults(row: PriceRow, path: Steps) -> Iterator[Fault]:
    taken: set[int] = set()
    for hours, prices in row.hours.items():
        if not _HOURS(hours) or not prices or row.above:
            yield path, f"hours {hours!r} are not like 22:30-04:00 with prices, beside no `above`"
        elif taken & set(minutes_of(hours)):
            yield path, f"hours {hours!r} overlap with others"
        else:
            taken |= set(minutes_of(hours))


def minutes_of(hours: str) -> Iterator[int]:
    """The minutes of the day that `22:30-04:00` covers, the end excluded."""
    begin, end = (int(at[:2]) * 60 + int(at[3:]) for at in hours.split("-"))
    length = (end - begin) % DAY_MINUTES
    return ((begin + minute) % DAY_MINUTES for minute in range(length))


def _scopes_faults(rows: Sequence[ScopeRow], path: Steps) -> Iterator[Fault]:
    seen = set()
    for index, row in enumerate(rows):
        where = (*path, "scopes", index)
        yield from _date_faults(where, row.since, row.checked)
        if not _MULTIPLIER(row.multiplier) or not row.multiplier.strip("0."):
            yield (
                where,
                f"multiplier {row.multiplier!r} is not a decimal above 0 and below 10, or 12/11",
            )
        if (row.scope, row.since) in seen:
            yield where, "two rows have the same date and scope"
        seen.add((row.scope, row.since))


def _date_faults(path: Steps, *days: str | None) -> Iterator[Fault]:
    for day in days:
        if not _is_date(day):
            yield path, f"{day!r} is not a date (YYYY-MM-DD) of this century"


@lru_cache(maxsize=1024)
def _is_date(day: str | None) -> bool:
    try:
        return day is None or (date.fromisoformat(day).isoformat() == day >= _FIRST_DAY)
    except ValueError:
        return False
