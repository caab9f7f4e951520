"""From units and rates to money: one rounded line per unit, and totals that are their sums."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from pricing.rates import Rates, line_pico
from pricing.units import INPUT_TOKENS, TOKENS, is_free_unless_listed, is_input


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What a call cost, in pico-USD: `total_pico` is the sum of the lines, and of its two parts."""

    lines: dict[str, int]
    input_pico: int
    output_pico: int
    total_pico: int
    unpriced: tuple[str, ...] = ()
    """Units that were used and have no price: the total lacks them, and says so here."""
    service_tier: str
    """The tier whose prices applied; `default` where the model has none for the answer's."""


def cost(
    units: Mapping[str, int],
    rates: Rates,
    service_tier: str | None = None,
    scope: str | None = None,
) -> Cost:
    """Price disjoint leaves (`pricing.units.leaves`) at a service tier and scope of the answer.

    The whole call is billed by the context tier of its total input tokens. A price of zero is a
    price. Counts may be negative in a correction; they price as the mirror image.
    """
    tier = rates.tier(service_tier)
    input_tokens = sum([count for unit, count in units.items() if unit in INPUT_TOKENS])
    prices = rates.tiers[tier].at(input_tokens)
    ratio, fee_ratio, at_least = rates.token_ratio(scope), rates.ratio, rates.at_least
    lines: dict[str, int] = {}
    unpriced = []
    input_pico = output_pico = 0
    for unit, count in units.items():
        price = prices.get(unit)
        if price is None:
            if count and not is_free_unless_listed(unit):
                unpriced.append(unit)
            continue
        if at_least:
            count = rates.billed(unit, count)  # noqa: PLW2901
        lines[unit] = pico = line_pico(count, price, ratio if unit in TOKENS else fee_ratio)
        if is_input(unit):
            input_pico += pico
        else:
            output_pico += pico
    return Cost(
        lines=lines,
        input_pico=input_pico,
        output_pico=output_pico,
        total_pico=input_pico + output_pico,
        unpriced=tuple(unpriced),
        service_tier=tier,
    )
