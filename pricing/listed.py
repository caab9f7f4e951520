"""What a price list says of a model name, in the catalogue's terms: LiteLLM's and Portkey's."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import msgspec

from pricing.catalogue import BASE

Slot = tuple[str, str]
"""(service tier, more than so many input tokens or ``)."""


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """What a list says of one model name."""

    source: str
    """The list and its version, as a row's `source` names it."""
    provider: str
    name: str
    zone: str = ""
    """Azure's data zone or Bedrock's region that these prices are of; empty for the plain ones."""
    mode: str = ""
    prices: dict[Slot, dict[str, str]]
    """By slot, unit prices per `Unit.per`."""
    scopes: dict[str, str] = {}
    max_output_tokens: int | None = None
    context_window: int | None = None

    @property
    def base(self) -> Mapping[str, str]:
        """The base prices."""
        return self.prices.get((BASE, ""), {})

    @property
    def tiers(self) -> list[str]:
        """The service tiers that have prices, but for the base."""
        return [tier for tier, above in self.prices if tier != BASE and not above]

    @property
    def is_priced(self) -> bool:
        """Whether it says more than zeros: in these lists, they stand for what is not known."""
        return any(Decimal(price) for price in self.base.values())

    def above(self, tier: str) -> dict[str, dict[str, str]]:
        """A tier's prices in longer contexts, of the units that have one in the shortest."""
        known = self.prices.get((tier, ""), {})
        found = {
            start: {unit: price for unit, price in prices.items() if unit in known}
            for (other, start), prices in self.prices.items()
            if other == tier and start
        }
        return dict(sorted(((s, p) for s, p in found.items() if p), key=lambda item: int(item[0])))


def united(one: Listed, other: Listed) -> Listed:
    """Two lines about one model: sizes of its images, or its names in two of a cloud's shops."""
    prices = one.prices | {
        slot: one.prices.get(slot, {}) | more for slot, more in other.prices.items()
    }
    return msgspec.structs.replace(
        one,
        mode=one.mode or other.mode,
        prices=prices,
        scopes=one.scopes | other.scopes,
        max_output_tokens=one.max_output_tokens or other.max_output_tokens,
        context_window=one.context_window or other.context_window,
    )


def digits(price: Decimal) -> str:
    """Plain decimal digits, without trailing zeros."""
    text = f"{price:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
