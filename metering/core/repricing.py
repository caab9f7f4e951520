"""What calls would have cost by other prices: the arithmetic of a what-if report.

A row's units are disjoint, so they are priced as they stand, at the tier, the scope and the time of
the call. What cannot be said exactly is not guessed: such calls are counted apart, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, get_args

import msgspec

from metering.core.prices import Pinned
from metering.core.record import UsageRow
from pricing.cost import cost
from pricing.rates import Rates

Apart = Literal["unresolved", "estimated", "no_units", "other_models", "unpriced"]
"""Why a call is not repriced: nobody knows what it used; we counted it ourselves; it used nothing
that is charged; part of it was another model's, whose units the row does not have; the prices do
not have its model, or a unit that it was charged for."""
REASONS: tuple[Apart, ...] = get_args(Apart)
DIMENSIONS = ("model", "user", "use_case", "limit")
VALUES_MAX = 10_000
"""So many values of a dimension are told apart in one report; the rest are summed."""
OTHERS = "(others)"
RatesOf = Callable[[UsageRow], Rates | None]
"""The rates that a call is priced by anew."""


def repriced(row: UsageRow, rates_of: RatesOf, limits: Pinned = ()) -> UsageRow | Apart:
    """The row as other prices have it, or why there is none. `limits`: those of the call that have
    rates of their own now."""
    apart = _unknown(row)
    if apart is not None:
        return apart
    rates = rates_of(row)
    if rates is None:
        return "unpriced"
    units = {unit: count for unit, count in row.units.items() if unit != "requests"}
    if rates.by_call:
        units["requests"] = 1
    charged = cost(units, rates, row.service_tier, row.scope)
    if any(unit in row.lines or not row.lines for unit in charged.unpriced):
        return "unpriced"
    return msgspec.structs.replace(
        row,
        pricing="priced",
        units=units,
        lines=charged.lines,
        input_pico=charged.input_pico,
        output_pico=charged.output_pico,
        cost_pico=charged.total_pico,
        price_id=rates.id,
        limit_costs={
            limit_id: own.charged(rates, units, row.at_ms, row.service_tier, row.scope)
            for limit_id, own in limits
        },
    )


def differs(row: UsageRow, after: UsageRow) -> bool:
    """Whether a call costs something else by other prices, or a limit is charged something else."""
    return row.cost_pico != after.cost_pico or any(
        row.cost_for(it) != after.cost_for(it) for it in {**row.limit_costs, **after.limit_costs}
    )


def _unknown(row: UsageRow) -> Apart | None:
    """Why it is not known what a call used."""
    if row.status == "unresolved":
        return "unresolved"
    if row.estimated:
        return "estimated"
    if any(":" in line for line in row.lines):
        return "other_models"
    return None if any(row.units.values()) else "no_units"


class Sums(msgspec.Struct):
    """Calls that were repriced, and what they cost before and after."""

    calls: int = 0
    changed: int = 0
    before_pico: int = 0
    after_pico: int = 0

    def add(self, before_pico: int, after_pico: int) -> None:
        """Count a call."""
        self.calls += 1
        self.changed += before_pico != after_pico
        self.before_pico += before_pico
        self.after_pico += after_pico


class Report:
    """Sums of calls that were repriced, in all and by what they have in common."""

    def __init__(self) -> None:
        self.total = Sums()
        self.apart: dict[Apart, int] = dict.fromkeys(REASONS, 0)
        self.groups: dict[str, dict[str | None, Sums]] = {name: {} for name in DIMENSIONS}

    def add(self, row: UsageRow, limit_ids: Iterable[str], after: UsageRow | Apart) -> None:
        """Count a call; one with several limits counts under each, by what that is charged."""
        if isinstance(after, str):
            self.apart[after] += 1
            return
        prices = (row.cost_pico, after.cost_pico)
        self.total.add(*prices)
        labels = (row.model, row.user_id, row.use_case_name)
        for name, label in zip(DIMENSIONS, labels, strict=False):
            self._sums(name, label).add(*prices)
        limits = dict.fromkeys(limit_ids)
        for it in limits:
            self._sums("limit", it).add(sum(row.cost_for(it)), sum(after.cost_for(it)))
        if not limits:
            self._sums("limit", None).add(*prices)

    def _sums(self, name: str, value: str | None) -> Sums:
        groups = self.groups[name]
        known = value in groups or len(groups) < VALUES_MAX
        return groups.setdefault(value if known else OTHERS, Sums())
