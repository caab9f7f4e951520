"""A model's prices at one date, compiled to integers: femto-USD (10^-15) per unit.

Money is decimal in the catalogue, quantised once to femto per unit (half-even), and integer from
there on. A line (units x price) is rounded once, half-even, to pico-USD; a bound rounds up.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from decimal import ROUND_HALF_EVEN, Decimal
from math import gcd
from types import MappingProxyType
from typing import TypeAlias

from pricing.catalogue import BASE
from pricing.units import INPUT_TOKENS, LINEAGE, MEASURES, OUTPUT_TOKENS, TOKENS, UNITS

FEMTO_PER_USD = 10**15
FEMTO_PER_PICO = 1_000
Ratio: TypeAlias = tuple[int, int]
"""Numerator and denominator."""
ONE: Ratio = (1, 1)
"""The multiplier of a scope that has none."""
BASE_WORDS = frozenset({BASE, "standard", "auto", "standard_only"})
"""Words for the base tier: `auto` and `standard_only` are said by requests, others by answers."""
# Said by a request, these promise that nothing dearer than the base is billed.
_NOT_DEARER = frozenset({BASE, "standard", "flex", "batch"})

Prices = Mapping[str, tuple[tuple[int, int], ...]]
"""By unit, (more than so many input tokens, femto-USD per unit) pairs, ascending from (0, ..)."""


def femto(price: str, per: int) -> int:
    """Femto-USD per unit of a decimal price in USD per `per` units, half-even."""
    exact = Decimal(price) * FEMTO_PER_USD / per
    return int(exact.to_integral_value(ROUND_HALF_EVEN))


def line_pico(count: int, price_femto: int, multiplier: Ratio = ONE) -> int:
    """The pico-USD of so many units at a price times a ratio: rounded once, half-even."""
    numerator, denominator = multiplier
    denominator *= FEMTO_PER_PICO
    pico, rest = divmod(count * price_femto * numerator, denominator)
    if rest * 2 > denominator or (rest * 2 == denominator and pico % 2):
        pico += 1
    return pico


def product(one: Ratio, other: Ratio) -> Ratio:
    """The exact product of two ratios, in lowest terms."""
    if one == ONE:
        return other
    numerator, denominator = one[0] * other[0], one[1] * other[1]
    shared = gcd(numerator, denominator)
    return numerator // shared, denominator // shared


@dataclass(frozen=True, slots=True)
class Table:
    """The prices of one service tier: a bracket per context tier, every unit's price resolved."""

    starts: tuple[int, ...]
    """A request with more input tokens than starts[i] is billed, all of it, by brackets[i + 1]."""
    brackets: tuple[Mapping[str, int], ...]
    """By unit, femto-USD; a unit without an own price has its nearest ancestor's, if any."""
    prices: Prices
    """What the list says, from which the brackets follow."""

    def at(self, input_tokens: int) -> Mapping[str, int]:
        """The prices of a request with so many input tokens."""
        return self.brackets[bisect_left(self.starts, input_tokens)]

    def times(self, factor: int) -> Table:
        """The same prices, so many times."""
        if factor == 1:
            return self
        steps = {
            unit: tuple([(start, price * factor) for start, price in its])
            for unit, its in self.prices.items()
        }
        return compile_table(steps)

    def dearest(self, units: Iterable[str], input_tokens: int) -> int:
        """The dearest of these units, in femto-USD, in any request up to so many input tokens."""
        reachable = self.brackets[: bisect_left(self.starts, input_tokens) + 1]
        return max([prices.get(unit, 0) for unit in units for prices in reachable], default=0)


def compile_table(prices: Prices) -> Table:
    """Resolve every unit of the vocabulary in every context tier."""
    starts = sorted({start for steps in prices.values() for start, _ in steps if start})
    brackets = (MappingProxyType(_bracket(prices, start)) for start in (0, *starts))
    return Table(tuple(starts), tuple(brackets), MappingProxyType(dict(prices)))


def _bracket(prices: Prices, start: int) -> dict[str, int]:
    own = {unit: [p for s, p in steps if s <= start][-1] for unit, steps in prices.items()}
    resolved = {}
    for unit in UNITS:
        lender = next((name for name in LINEAGE[unit] if name in own), None)
        if lender is not None:
            resolved[unit] = own[lender]
    return resolved


@dataclass(frozen=True, slots=True)
class Rates:
    """What a model costs at one time: immutable, found through a PriceBook."""

    id: str
    """The dated price version: `openai/gpt-5.6-sol@2026-10-14`; `@undated` before any date."""
    provider: str
    """Whose price list this is: of a model that is resold at list price, the vendor."""
    model: str
    """The catalogue's id of the model; a snapshot or alias was resolved to it."""
    tiers: Mapping[str, Table]
    """By service tier; `default` is always there."""
    scopes: Mapping[str, Ratio]
    """By scope, the ratio its token prices are multiplied with."""
    max_output_tokens: int | None
    context_window: int | None
    source: str
    """Where the base prices come from."""
    at_least: Mapping[str, int] = field(default_factory=dict)
    """By unit, how many a call is billed for that uses it at all."""
    ratio: Ratio = ONE
    """What every price is multiplied with; part of the one rounding of a line."""
    by_tokens: bool = field(init=False)
    """Whether tokens are priced, so that a number of them bounds a cost."""
    by_call: bool = field(init=False)
    """Whether a call has a fee of its own."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_tokens", self.prices_any(INPUT_TOKENS))
        object.__setattr__(self, "by_call", self.prices_any(("requests",)))

    def scaled(self, numerator: int, denominator: int) -> Rates:
        """The same rates at a ratio of their prices: exact, and named by it."""
        if numerator < 0 or denominator < 1:
            raise ValueError(f"{numerator}/{denominator} is not a ratio of prices")
        ratio = product(self.ratio, (numerator, denominator))
        return replace(self, id=f"{self.id}*{numerator}/{denominator}", ratio=ratio)

    def replaced(self, prices: Mapping[str, str], service_tier: str = BASE) -> Rates:
        """The same rates with some prices of a tier agreed anew, whatever the context.

        Prices are those of a catalogue: decimals in USD, by unit, for `Unit.per` of them. A unit
        that is not listed for itself follows the one that lends it its price. Of rates at a ratio
        the others keep it; what is agreed is not multiplied.
        """
        numerator, denominator = self.ratio  # over one denominator, so that both stay exact
        agreed = {
            unit: ((0, femto(price, UNITS[unit].per) * denominator),)
            for unit, price in prices.items()
        }
        tiers = {tier: table.times(numerator) for tier, table in self.tiers.items()}
        tiers[service_tier] = compile_table({**tiers[self.tier(service_tier)].prices, **agreed})
        words = ",".join(f"{unit}={price}" for unit, price in sorted(prices.items()))
        return replace(
            self,
            id=f"{self.id}[{service_tier}:{words}]",
            tiers=MappingProxyType(tiers),
            ratio=(1, denominator),
        )

    def billed(self, unit: str, count: int) -> int:
        """How many of a unit are charged: a minimum, where the provider has one."""
        return max(count, self.at_least.get(unit, 0)) if count > 0 else count

    def tier(self, service_tier: str | None) -> str:
        """The tier a call is billed at; a tier without prices of its own is billed at the base."""
        if service_tier is None or service_tier in BASE_WORDS or service_tier not in self.tiers:
            return BASE
        return service_tier

    def multiplier(self, scope: str | None) -> Ratio:
        """The ratio of a scope (`us`, `datazone.eu`, or else `datazone`); 1 if it has none."""
        if not scope or not self.scopes:
            return ONE
        return self.scopes.get(scope) or self.scopes.get(scope.partition(".")[0], ONE)

    def token_ratio(self, scope: str | None) -> Ratio:
        """What the price of a token is multiplied with in a scope."""
        if not scope or not self.scopes:
            return self.ratio
        return product(self.ratio, self.multiplier(scope))

    def prices_any(self, units: Iterable[str]) -> bool:
        """Whether at least one of these units has a price."""
        return not self.tiers[BASE].brackets[0].keys().isdisjoint(units)

    def unbounded_by(self, counts: Mapping[str, int]) -> str | None:
        """What a call is billed by that these counts (as in `ceiling`) do not say; None: nothing.

        Tokens are always said, tools are bounded by their uses. What is left are the images, the
        durations and the characters of models that are billed by those: one of their units must be
        among the counts, and have a price.
        """
        prices = self.tiers[BASE].brackets[0]
        said = {UNITS[unit].family for unit in counts if unit in prices}
        billed = {UNITS[unit].family for unit in prices} & MEASURES
        return min(billed - said, default=None)

    def likely(
        self,
        input_tokens: int,
        output_tokens: int,
        service_tier: str | None = None,
        scope: str | None = None,
        counts: Mapping[str, int] = MappingProxyType({}),
    ) -> int:
        """Pico-USD of a plain call: to the pico what `cost` makes of the same units.

        `counts`, by unit, is what is known beside the tokens of text: two images of a size.
        """
        prices = self.tiers[self.tier(service_tier)].at(input_tokens)
        ratio = self.token_ratio(scope)
        if self.at_least:
            input_tokens = self.billed("input_text", input_tokens)
            output_tokens = self.billed("output_text", output_tokens)
        total = line_pico(input_tokens, prices.get("input_text", 0), ratio)
        total += line_pico(output_tokens, prices.get("output_text", 0), ratio)
        for unit, count in counts.items():
            its_ratio = ratio if unit in TOKENS else self.ratio
            total += line_pico(self.billed(unit, count), prices.get(unit, 0), its_ratio)
        return total

    def ceiling(
        self,
        input_tokens: int,
        output_tokens: int,
        *,
        service_tier: str | None = None,
        scope: str | None = None,
        without: AbstractSet[str] = frozenset(),
        counts: Mapping[str, int] = MappingProxyType({}),
    ) -> int:
        """Pico-USD that no call within these tokens and counts (by unit, at most how many) exceeds.

        Counts are of what is no token: uses of a tool, images, seconds, characters. One image is
        counted once, as the most that is known of it (`image_hd_1024x1024`).

        Every token counts at the dearest price it can have: cache-write premium, long context,
        audio, each service tier and scope; but for what a named tier or scope rules out, and the
        units in `without`, which the caller knows this call cannot use.
        """
        tables = self._possible(service_tier)
        dearest_in = max(table.dearest(INPUT_TOKENS - without, input_tokens) for table in tables)
        dearest_out = max(table.dearest(OUTPUT_TOKENS - without, input_tokens) for table in tables)
        possible = [ONE, *self.scopes.values()] if scope is None else [self.multiplier(scope)]
        ratios = [product(self.ratio, ratio) for ratio in possible]
        total = max(
            input_tokens * _up(dearest_in, ratio) + output_tokens * _up(dearest_out, ratio)
            for ratio in ratios
        )
        for unit, count in {"requests": 1, **counts}.items():
            dearest = max(table.dearest((unit,), input_tokens) for table in tables)
            total += self.billed(unit, count) * _up(dearest, self.ratio)
        return total

    def _possible(self, service_tier: str | None) -> list[Table]:
        if service_tier in _NOT_DEARER:
            return [self.tiers[BASE], self.tiers[self.tier(service_tier)]]
        return list(self.tiers.values())


def _up(price_femto: int, ratio: Ratio) -> int:
    # Whole pico per unit: then no sum of rounded lines can come out above it.
    numerator, denominator = ratio
    return -(-price_femto * numerator // (FEMTO_PER_PICO * denominator))
