"""Reading a catalogue file: whole or not at all, and what is wrong is named with its line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import date
from functools import lru_cache
from typing import TypeAlias

import msgspec

from pricing.catalogue import BASE, ModelEntry, PriceDataError, PriceFile, PriceRow, ScopeRow
from pricing.units import TOKENS, UNITS

Path: TypeAlias = tuple[str | int, ...]
"""Where in a file something is: `("models", 3, "prices", 0)`."""
Fault: TypeAlias = tuple[Path, str]
DAY_MINUTES = 24 * 60

_DECIMAL = re.compile(r"\d{1,9}(\.\d{1,12})?").fullmatch
_MULTIPLIER = re.compile(r"\d(\.\d{1,6})?|[1-9]\d{0,5}/[1-9]\d{0,5}").fullmatch
_MATCH = re.compile(r"\*?[^*\s]+\*?").fullmatch
_TIER = re.compile(r"[a-z_]+(:[a-z/_-]+)?").fullmatch
_HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)").fullmatch
_BYTE = re.compile(r"\(byte (\d+)\)")
_STEP = re.compile(r"\.(\w+)|\[(\d+)\]")


class _File(PriceFile, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file may say which currency its prices are in, and then only this."""

    currency: str = "USD"


_decode = msgspec.json.Decoder(_File).decode


def parse(content: bytes, name: str) -> PriceFile:
    """Read and check a file's bytes; PriceDataError says `name:line: entry: reason`."""
    try:
        read = _decode(content)
    except msgspec.DecodeError as error:
        raise PriceDataError(f"{name}:{_line_of_error(content, str(error))}: {error}") from None
    for path, fault in _faults(read):
        line = line_of(content, path)
        raise PriceDataError(f"{name}:{line}: {_words(read, path)}{fault}")
    return PriceFile(**{field: getattr(read, field) for field in PriceFile.__struct_fields__})


def line_of(content: bytes, path: Path) -> int:
    """The line on which a part of a JSON document begins."""
    start, part = 0, content
    for step in path:
        if isinstance(step, int):
            items = [bytes(raw) for raw in msgspec.json.decode(part, type=list[msgspec.Raw])]
            for item in items[: step + 1]:
                start = content.index(item, start) + len(item)
            part = items[step]
        else:
            part = bytes(msgspec.json.decode(part, type=dict[str, msgspec.Raw])[step])
            start = content.index(part, content.index(f'"{step}"'.encode(), start)) + len(part)
        start -= len(part)
    return content.count(b"\n", 0, start) + 1


def _line_of_error(content: bytes, error: str) -> int:
    """The line that a decoder's words are about; of a truncated file the last."""
    if found := _BYTE.search(error):
        return content.count(b"\n", 0, int(found[1])) + 1
    if "truncated" in error:
        return content.count(b"\n") + 1
    steps = _STEP.findall(error.partition("`$")[2])
    path = tuple(int(index) if index else name for name, index in steps)
    return line_of(content, path)


def _words(file: PriceFile, path: Path) -> str:
    """`models[3] (gpt-4o): prices[0]: ` for a path."""
    text = ""
    for name, index in zip(path[::2], path[1::2], strict=True):
        text += f"{name}[{index}]"
        if name == "models":
            text += f" ({file.models[int(index)].id})"
        text += ": "
    return text


def _faults(file: _File) -> Iterator[Fault]:
    if file.currency != "USD":
        yield (), f"prices are in USD, not in {file.currency!r}"
    yield from _fee_faults(file.fees)
    yield from _scopes_faults(file.scopes, ())
    names: dict[str, str] = {}
    ids: set[str] = set()
    for index, entry in enumerate(file.models):
        path: Path = ("models", index)
        if entry.id in ids:
            yield path, "two entries have the same id"
        ids.add(entry.id)
        yield from _entry_faults(entry, path, priced=not file.resells)
        for pattern in entry.match:
            if names.setdefault(pattern, entry.id) != entry.id:
                yield path, f"{pattern!r} already names {names[pattern]}"


def _entry_faults(entry: ModelEntry, path: Path, *, priced: bool) -> Iterator[Fault]:
    for pattern in (*entry.match, *entry.unless):
        if not _MATCH(pattern) or pattern != pattern.lower():
            yield path, f"match {pattern!r} is not a lower-case name, prefix* or *part*"
    if not entry.match:
        yield path, "it matches no name"
    if not entry.at_least.keys() <= UNITS.keys() or min(entry.at_least.values(), default=1) < 1:
        yield path, f"at_least {entry.at_least} is not of units, from one on"
    if (priced or entry.prices) and not any(row.service_tier == BASE for row in entry.prices):
        yield path, "it has no base price"
    seen = set()
    for index, row in enumerate(entry.prices):
        yield from _row_faults(row, (*path, "prices", index))
        if (row.service_tier, row.since) in seen:
            yield (*path, "prices", index), "two rows have the same date and service tier"
        seen.add((row.service_tier, row.since))
    yield from _scopes_faults(entry.scopes, path)


def _fee_faults(fees: Sequence[PriceRow]) -> Iterator[Fault]:
    seen = set()
    for index, row in enumerate(fees):
        path: Path = ("fees", index)
        yield from _row_faults(row, path)
        plain = row.service_tier == BASE and not row.above and not row.hours
        if not plain or not TOKENS.isdisjoint(row.prices):
            yield path, "a fee has no service tier, no context tier, no hours and is not of tokens"
        if row.since in seen:
            yield path, "two rows of fees have the same date"
        seen.add(row.since)


def _row_faults(row: PriceRow, path: Path) -> Iterator[Fault]:
    yield from _date_faults(path, row.since, row.checked)
    if not _TIER(row.service_tier):
        yield path, f"service tier {row.service_tier!r} is not a lower-case word"
    if not row.prices:
        yield path, "it has no prices"
    for start, prices in row.above.items():
        if not start.isdecimal() or not prices:
            yield path, f"above {start!r} is not a number of tokens with prices"
    yield from _hours_faults(row, path)
    for where, part in (("above", row.above), ("hours", row.hours)):
        for key, prices in part.items():
            if alone := prices.keys() - row.prices.keys():
                yield path, f"{where} {key!r}: {min(alone)} has no price below"
    for prices in (row.prices, *row.above.values(), *row.hours.values()):
        yield from _price_faults(prices, path)


def _price_faults(prices: dict[str, str], path: Path) -> Iterator[Fault]:
    for unit, price in prices.items():
        if unit not in UNITS:
            yield path, f"{unit!r} is not a unit"
        if not _DECIMAL(price):
            yield path, f"{unit} price {price!r} is not a plain decimal"


def _hours_faults(row: PriceRow, path: Path) -> Iterator[Fault]:
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


def _scopes_faults(rows: Sequence[ScopeRow], path: Path) -> Iterator[Fault]:
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


def _date_faults(path: Path, *days: str | None) -> Iterator[Fault]:
    for day in days:
        if not _is_date(day):
            yield path, f"{day!r} is not a date (YYYY-MM-DD)"


@lru_cache(maxsize=1024)
def _is_date(day: str | None) -> bool:
    try:
        return day is None or date.fromisoformat(day).isoformat() == day
    except ValueError:
        return False
