"""What changes from one state of the catalogue to the next, price by price; and what may not.

A price that moves tenfold, or to nothing, is far more often an error of a list than news: such an
update is refused, whole, until somebody accepts it by the model's name.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from decimal import Decimal
from typing import NamedTuple

from pricing.catalogue import FOREVER, PriceDataError, PriceFile, PriceRow, in_force

TENFOLD = 10


class Change(NamedTuple):
    """A price that is not what it was."""

    model: str
    """`openai/gpt-4o`."""
    what: str
    """Tier, context and unit: `batch above 200000 input`."""
    since: str | None
    old: str | None
    new: str | None

    @property
    def percent(self) -> str:
        """By how much it moved."""
        if self.old is None or self.new is None:
            return "new" if self.old is None else "gone"
        if not Decimal(self.old):
            return "from 0"
        moved = (Decimal(self.new) / Decimal(self.old) - 1) * 100
        return f"{moved:+.1f} %"

    @property
    def is_absurd(self) -> bool:
        """Whether it moved tenfold, either way, or to zero. One that is gone stays as it was."""
        return self.new is not None and drastic(Decimal(self.old or 0), Decimal(self.new))


def drastic(before: Decimal, after: Decimal) -> bool:
    """Whether a price moves tenfold, either way, or to zero. What was free may get any price."""
    return before != 0 and not before < after * TENFOLD < before * TENFOLD * TENFOLD


def changes(before: PriceFile | None, after: PriceFile) -> Iterator[Change]:
    """Every price of the later file that the earlier one had not, or otherwise."""
    known = {entry.id: entry for entry in before.models} if before else {}
    for entry in after.models:
        old = known.get(entry.id)
        yield from _of_rows(f"{after.provider}/{entry.id}", old.prices if old else [], entry.prices)
    yield from _of_rows(f"{after.provider} fees", before.fees if before else [], after.fees)


def _of_rows(model: str, before: list[PriceRow], after: list[PriceRow]) -> Iterator[Change]:
    for row in after:
        if row in before:
            continue
        same_tier = [old for old in before if old.service_tier == row.service_tier]
        standing = in_force(same_tier, row.since or FOREVER)
        old = dict(_prices(standing[-1])) if standing else {}
        new = dict(_prices(row))
        for what in dict.fromkeys([*old, *new]):
            if old.get(what) != new.get(what):
                yield Change(model, what, row.since, old.get(what), new.get(what))


def _prices(row: PriceRow) -> Iterator[tuple[str, str]]:
    """Every price of a row, by what it is of."""
    for unit, price in row.prices.items():
        yield f"{row.service_tier} {unit}", price
    for start, prices in row.above.items():
        yield from ((f"{row.service_tier} above {start} {u}", p) for u, p in prices.items())
    for hours, prices in row.hours.items():
        yield from ((f"{row.service_tier} {hours} {u}", p) for u, p in prices.items())


def refuse_absurd(
    before: PriceFile | None, after: PriceFile, accepted: Collection[str] = ()
) -> None:
    """Raise PriceDataError for a price that moved tenfold or to zero and was not accepted."""
    for change in changes(before, after):
        if change.is_absurd and change.model not in accepted:
            what = f"{change.model}: {change.what} moves from {change.old} to {change.new}"
            raise PriceDataError(f"{what}; --accept {change.model!r} if that is so")


def table(found: Iterable[Change]) -> list[str]:
    """The lines of a table of changes: old, new and percent."""
    rows = [
        (c.model, c.what, c.since or "always", c.old or "-", c.new or "-", c.percent) for c in found
    ]
    head = ("model", "price", "from", "old", "new", "change")
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in (head, *rows)
    )
    return [line.rstrip() for line in lines] if rows else []
