"""What a call cost: its row with units, lines and cost, and what limits with own rates have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from metering.core.limits import Limit
from metering.core.prices import OwnRates, Pinned, PriceList, is_snapshot
from metering.core.reach import Advice, Reach
from metering.core.record import UsageRow
from metering.providers.base import Usage
from pricing.catalogue import BASE
from pricing.cost import cost
from pricing.rates import BASE_WORDS, Rates
from pricing.units import UnitError, is_free_unless_listed, leaves


class Priced(msgspec.Struct, frozen=True, gc=False):
    """Whose price applies to a call, found at admission and pinned to it."""

    provider: str
    model: str
    rates: Rates | None
    guessed: bool = False
    """The rates are another model's: this one has none."""
    prices: PriceList | None = None
    """Where they are from, and where what else the call turns out to be has its price."""
    limits: Pinned = ()
    """The limits of the call that have own rates, and these."""


class Used(NamedTuple):
    """Units that were used of a model, and where they have their price."""

    units: Mapping[str, int]
    rates: Rates
    tier: str | None = None
    scope: str | None = None
    call: bool = False
    """Whether the call's own fee is part of it."""


def price_of(
    prices: PriceList,
    application_id: str,
    provider: str,
    model: str,
    at_ms: int,
    *,
    category: str | None = None,
    reported: bool = False,
    credential: str | None = None,
    limits: Iterable[Limit] = (),
    estimate: bool = False,
) -> Priced:
    """The price of a model for an application's call at a time; `estimate`: else the dearest's.

    `category` is the one that the call itself names, whose resources may be the application's own;
    `reported`: the call was made elsewhere. `credential` is the stored one that serves it, `limits`
    are those it counts against.
    """
    custom = prices.resource(application_id, category, model, at_ms, reported=reported)
    rates = custom or prices.book.find(provider, model, at_ms)
    guessed = rates is None and estimate
    if guessed:
        rates = prices.book.dearest(provider, at_ms)
    own = prices.own.get(application_id)
    if own is None:
        return Priced(provider, model, rates, guessed, prices)
    if rates is not None and custom is None:
        rates = own.of(rates, at_ms, credential)
    return Priced(provider, model, rates, guessed, prices, own.pinned(limits))


def true_price(row: UsageRow, usage: Usage, admitted: Priced) -> Priced:
    """The model in the response decides, unless the caller was told to price as another."""
    if row.price_as_resource or usage.model is None or usage.model == admitted.model:
        return admitted
    found = _also(row, admitted, usage.model)
    return found if found.rates is not None else admitted


def _also(row: UsageRow, admitted: Priced, model: str) -> Priced:
    """The price of another model, by the list that the call was admitted with."""
    if admitted.prices is None:  # nothing was asked for that has a price
        return msgspec.structs.replace(admitted, model=model, rates=None)
    found = price_of(
        admitted.prices,
        row.application_id,
        admitted.provider,
        model,
        row.at_ms,
        credential=row.credential,
    )
    return msgspec.structs.replace(found, limits=admitted.limits) if admitted.limits else found


def advisers(row: UsageRow, admitted: Priced, reach: Reach) -> list[tuple[Rates | None, Advice]]:
    """The prices of the other models that a call's may ask; None of one that has none."""
    return [(_also(row, admitted, it.model).rates, it) for it in reach.advice]


def _doubts(row: UsageRow, usage: Usage, priced: Priced) -> list[str]:
    """A warning, where the answer is of another model than was asked for, or than the caller
    says, and we know both."""
    answered = usage.model
    said = row.price_as_resource or row.model_requested
    if priced.rates is None or not answered or not said or said == answered:
        return []
    if row.price_as_resource is None and priced.rates.model == said:
        return []  # as most answers are, and then they are not looked up once more
    first, found = (_also(row, priced, it).rates for it in (said, answered))
    if first is None or found is None or first.model == found.model:
        return []
    if row.price_as_resource is not None:
        return [f"the answer is {answered}'s; it is priced as {said}, as the call says"]
    if is_snapshot(said, answered):
        return []
    return [f"the answer is {answered}'s, and priced as that; the call asked for {said}"]


def priced_row(
    row: UsageRow, usage: Usage, priced: Priced, counts: Mapping[str, int], *, estimated: bool
) -> UsageRow:
    """The row of a call with its units and cost."""
    warnings = [*row.warnings, *_doubts(row, usage, priced)]
    if usage.pending:
        warnings.append("the answer is still being made: the units are what it may come to")
    elif estimated:
        warnings.append("the provider did not say what was used: the units are estimated")
    units = units_of(with_request(counts, priced.rates), warnings)
    tier, scope = usage.service_tier or row.service_tier, usage.scope or row.scope
    used = Used(units, priced.rates, tier, scope, call=True) if priced.rates else None
    values = charged_values(priced, used, warnings)
    values["estimated"] = estimated or priced.guessed
    parts = [used] if used else []
    for model, counted in usage.other_models.items():
        parts += _add_other(values, warnings, _also(row, priced, model), counted)
    if parts and priced.limits:
        values["limit_costs"] = limit_costs(parts, priced, row.at_ms)
    return msgspec.structs.replace(
        row,
        status="ok",
        model=priced.model if row.price_as_resource else usage.model or priced.model,
        provider_id=usage.provider_id or row.provider_id,
        service_tier=tier,
        scope=scope,
        units=units,
        warnings=warnings,
        **values,
    )


def charged_values(priced: Priced, used: Used | None, warnings: list[str]) -> dict[str, Any]:
    """The members of a row that say what units cost; without `used` no price is known."""
    if used is None:
        warnings.append(f"no price is known for {priced.provider} {priced.model}")
        return {"pricing": "unpriced"}
    rates = used.rates
    charged = cost(used.units, rates, used.tier, used.scope)
    warnings += [f"no price is known for the unit {unit}" for unit in charged.unpriced]
    if used.tier is not None and charged.service_tier == BASE and used.tier not in BASE_WORDS:
        warnings.append(f"this service tier has no price of its own: charged as {BASE}")
    if priced.guessed:
        warnings.append(f"no price is known for {priced.model}: charged as {rates.id}")
    return {
        "pricing": "unpriced" if priced.guessed else "priced",
        "lines": charged.lines,
        "input_pico": charged.input_pico,
        "output_pico": charged.output_pico,
        "cost_pico": charged.total_pico,
        "price_id": rates.id,
        "price_version": None if priced.prices is None else priced.prices.version,
    }


def limit_costs(used: Sequence[Used], priced: Priced, at_ms: int) -> dict[str, tuple[int, int]]:
    """What limits with own rates are charged for what was used, in place of what it costs."""
    return {limit_id: _limit_cost(used, own, at_ms) for limit_id, own in priced.limits}


def _add_other(
    values: dict[str, Any], warnings: list[str], other: Priced, counts: Mapping[str, int]
) -> list[Used]:
    """Add what another model cost that the answer used beside its own; gives what that was."""
    if other.rates is None:
        warnings.append(f"no price is known for {other.provider} {other.model}")
        return []
    units = units_of(counts, warnings)
    charged = cost(units, other.rates)
    lines = {f"{other.model}:{unit}": pico for unit, pico in charged.lines.items()}
    values["lines"] = values.get("lines", {}) | lines
    for name, pico in (
        ("input_pico", charged.input_pico),
        ("output_pico", charged.output_pico),
        ("cost_pico", charged.total_pico),
    ):
        values[name] = values.get(name, 0) + pico
    return [Used(units, other.rates)]


def _limit_cost(used: Iterable[Used], own: OwnRates, at_ms: int) -> tuple[int, int]:
    """Input and output that a limit is charged at its own rates for what a call used."""
    parts = [own.charged(it.rates, it.units, at_ms, it.tier, it.scope, call=it.call) for it in used]
    return sum([into for into, _ in parts]), sum([out for _, out in parts])


def with_request(counts: Mapping[str, int], rates: Rates | None) -> Mapping[str, int]:
    """The counts, and the call itself where it has a fee."""
    return {**counts, "requests": 1} if rates is not None and rates.by_call else counts


def units_of(counts: Mapping[str, int], warnings: list[str]) -> dict[str, int]:
    """The billable units of counts; of those that do not fit together, the totals."""
    try:
        return leaves(counts)
    except UnitError as error:
        warnings.append(f"usage does not add up ({error}): only totals are charged")
        return leaves({name: counts.get(name, 0) for name in ("input", "output")})


def unpriced_units(row: UsageRow) -> list[str]:
    """The units of a priced row that nobody charged for."""
    if row.price_id is None or len(row.units) == len(row.lines):
        return []
    return [
        unit
        for unit, count in row.units.items()
        if count and unit not in row.lines and not is_free_unless_listed(unit)
    ]
