"""What Portkey's lists (MIT) say, in the catalogue's terms: the third opinion.

They add what tools cost, batches, and cache writes that live for an hour. Prices are in US cents
per token, or per use of a tool; a zero there says that nothing is known.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from pricing.catalogue import BASE, PriceDataError
from pricing.listed import Listed, Slot, digits
from pricing.units import UNITS

PORTKEY = "portkey-models"
"""The name it has in a row's `source`, before its version."""
LISTS = {
    "anthropic": "anthropic",
    "azure-openai": "azure",
    "azure-ai": "azure",
    "bedrock": "aws",
    "cerebras": "cerebras",
    "cohere": "cohere",
    "deepseek": "deepseek",
    "fireworks-ai": "fireworks",
    "google": "google",
    "vertex-ai": "google",
    "groq": "groq",
    "mistral-ai": "mistral",
    "moonshot": "moonshotai",
    "novita-ai": "novita",
    "openai": "openai",
    "perplexity-ai": "perplexity",
    "together-ai": "together",
    "voyage": "voyageai",
    "x-ai": "x-ai",
    "z-ai": "zai",
    "zhipu": "zhipuai",
}
"""By Portkey's name of a provider, the catalogue's."""

_UNITS = {
    "request_token": "input",
    "response_token": "output",
    "cache_read_input_token": "cache_read",
    "cache_write_input_token": "cache_write",
    "request_audio_token": "input_audio",
    "response_audio_token": "output_audio",
    "cache_read_audio_input_token": "cache_read_audio",
    "cache_write_1h": "cache_write_1h",
    "thinking_token": "reasoning",
    "search": "web_search",
    "web_search": "web_search",
    "file_search": "file_search",
    "code_execution": "code_execution",
}
_CENTS = 100


def portkey_list(content: bytes, source: str) -> list[Listed]:
    """The models of Portkey's lists, which are one object by the name of each."""
    try:
        lists = json.loads(content, parse_float=Decimal)
    except ValueError as error:
        raise PriceDataError(f"{source}: {error}") from None
    found = []
    for name, models in lists.items():
        for model, row in models.items():
            if model == "default" or not row.get("pricing_config"):
                continue
            prices = _listed_prices(row["pricing_config"], f"{source}: {name}: {model}")
            found.append(
                Listed(source=source, provider=LISTS[name], name=model.lower(), prices=prices)
            )
    return found


def _listed_prices(config: Mapping[str, Any], where: str) -> dict[Slot, dict[str, str]]:
    if (currency := config.get("currency", "USD")) != "USD":
        raise PriceDataError(f"{where}: prices are in USD, not in {currency!r}")
    paid = config.get("pay_as_you_go", {})
    tools = paid.get("additional_units") or {}
    slots = {
        BASE: _units({**paid, **tools}, where),
        "batch": _units(config.get("batch_config", {}), where),
    }
    return {(tier, ""): prices for tier, prices in slots.items() if prices}


def _units(listed: Mapping[str, Any], where: str) -> dict[str, str]:
    found = {}
    for field, unit in _UNITS.items():
        cents = (listed.get(field) or {}).get("price")
        if cents is None or cents == 0:
            continue
        if not isinstance(cents, Decimal | int) or not Decimal(cents).is_finite() or cents < 0:
            raise PriceDataError(f"{where}: {field}: {cents!r} is not a price")
        price = Decimal(cents) * UNITS[unit].per / _CENTS
        found[unit] = digits(price.quantize(Decimal("1e-9")))
    return found
