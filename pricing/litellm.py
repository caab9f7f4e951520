"""What LiteLLM's list (MIT) says, in the catalogue's terms.

It adds what genai-prices lacks (output bounds, scope multipliers, Azure's zones, images by size,
models the other does not know), and is what the catalogue is checked against.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec

from pricing.catalogue import BASE
from pricing.units import TOKENS, UNITS

LITELLM = "litellm"
"""The name it has in a row's `source`, before its version."""
ZONES = ("apac", "eu", "us")
"""Azure's data zones, as names of the list begin: `azure/eu/gpt-5`."""

_UNITS = {
    "input_cost_per_token": "input",
    "output_cost_per_token": "output",
    "cache_read_input_token_cost": "cache_read",
    "cache_creation_input_token_cost": "cache_write",
    "cache_creation_input_token_cost_above_1hr": "cache_write_1h",
    "input_cost_per_audio_token": "input_audio",
    "output_cost_per_audio_token": "output_audio",
    "cache_read_input_audio_token_cost": "cache_read_audio",
    "input_cost_per_image_token": "input_image",
    "output_cost_per_image_token": "output_image",
    "cache_read_input_image_token_cost": "cache_read_image",
    "input_cost_per_second": "audio_seconds",
    "input_cost_per_character": "input_characters",
    "output_cost_per_image": "images",
}
_FIELD = re.compile(
    "(?P<name>" + "|".join(sorted(_UNITS, key=len, reverse=True)) + ")"
    r"(_above_(?P<above>\d+)k_tokens)?(_(?P<tier>batches|flex|priority))?"
)
_PROVIDERS = {
    "anthropic": "anthropic",
    "openai": "openai",
    "text-completion-openai": "openai",
    "azure": "azure",
    "azure_text": "azure",
    "azure_ai": "azure",
}
_IMAGE = re.compile(r"((?P<quality>[a-z]+)/)?(?P<width>\d+)-x-(?P<height>\d+)/(?P<model>[^/]+)")
# Beside prices by the token, the list has estimates of what a second or an image comes to.
_BY_TOKENS = TOKENS | {"web_search"}


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """What LiteLLM's list says of one model name."""

    provider: str
    name: str
    zone: str
    """Azure's data zone that these prices are of; empty for the plain ones."""
    mode: str
    prices: dict[tuple[str, str], dict[str, str]]
    """By (service tier, more than so many input tokens or ``), unit prices per `Unit.per`."""
    scopes: dict[str, str]
    max_output_tokens: int | None
    context_window: int | None


def litellm_list(content: bytes) -> list[Listed]:
    """The models of our providers in `model_prices_and_context_window_backup.json`."""
    rows = json.loads(content, parse_float=Decimal)
    found: dict[tuple[str, str, str], Listed] = {}
    for name, row in rows.items():
        provider = _PROVIDERS.get(row.get("litellm_provider", ""))
        path = re.sub("^azure(_ai)?/", "", name.lower())
        item = _listed(provider, path, row) if provider else None
        if item is not None:
            key = (item.provider, item.name, item.zone)
            found[key] = _united(found[key], item) if key in found else item
    return [msgspec.structs.replace(item, prices=_billed(item.prices)) for item in found.values()]


def _listed(provider: str, path: str, row: Mapping[str, Any]) -> Listed | None:
    """What one line says; None of what is no model of ours."""
    zone, slash, name = path.partition("/")
    if image := _IMAGE.fullmatch(path):
        zone, name, prices = "", image["model"], _image_prices(image, row)
    elif not slash:
        zone, name, prices = "", path, _listed_prices(row)
    elif zone in ZONES and "/" not in name:
        prices = _listed_prices(row)
    else:
        return None
    return Listed(
        provider=provider,
        name=name,
        zone=zone,
        mode=row.get("mode", ""),
        prices=prices,
        scopes=_listed_scopes(row),
        max_output_tokens=_whole(row.get("max_output_tokens")),
        context_window=_whole(row.get("max_input_tokens")),
    )


def _united(one: Listed, other: Listed) -> Listed:
    """Two lines about one model: sizes of its images, or its names of before and after Foundry."""
    prices = one.prices | {
        key: one.prices.get(key, {}) | more for key, more in other.prices.items()
    }
    return msgspec.structs.replace(one, mode=one.mode or other.mode, prices=prices)


def _billed(prices: dict[tuple[str, str], dict[str, str]]) -> dict[tuple[str, str], dict[str, str]]:
    if TOKENS.isdisjoint(prices.get((BASE, ""), {})):
        return prices
    return {
        key: {unit: price for unit, price in units.items() if unit in _BY_TOKENS}
        for key, units in prices.items()
    }


def _image_prices(
    image: re.Match[str], row: Mapping[str, Any]
) -> dict[tuple[str, str], dict[str, str]]:
    """The price of an image of a size, which the list has by the pixel; a zero is a gap of its."""
    size = f"{image['width']}x{image['height']}"
    unit = f"image_{image['quality']}_{size}" if image["quality"] else f"image_{size}"
    pixels = int(image["width"]) * int(image["height"])
    # By the pixel the vendor's price is cut to a few digits: it has whole tenths of a cent.
    price = (Decimal(row.get("input_cost_per_pixel", 0)) * pixels).quantize(Decimal("1e-3"))
    return {(BASE, ""): {unit: _digits(price)}} if price and unit in UNITS else {}


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and value > 0 else None


def _listed_prices(row: Mapping[str, Any]) -> dict[tuple[str, str], dict[str, str]]:
    prices: dict[tuple[str, str], dict[str, str]] = {}
    for field, value in row.items():
        match = _FIELD.fullmatch(field)
        if match and value is not None:
            tier = {None: BASE, "batches": "batch"}.get(match["tier"], match["tier"])
            above = f"{match['above']}000" if match["above"] else ""
            unit = _UNITS[match["name"]]
            prices.setdefault((tier or BASE, above), {})[unit] = _per(value, UNITS[unit].per)
    if fees := row.get("search_context_cost_per_query"):
        searches = _per(max(fees.values()), 1_000)
        prices.setdefault((BASE, ""), {})["web_search"] = searches
    return prices


def _per(value: Decimal | int, units: int) -> str:
    # The list's floats carry debris (5.0000000000000004E-8): 10^-9 USD per million is far below it.
    # A second's price is cut to 15 places (0.000283333333333), which an hour's must not show.
    places = "1e-9" if units == 1_000_000 else "1e-6"
    return _digits((Decimal(value) * units).quantize(Decimal(places)))


def _digits(price: Decimal) -> str:
    text = f"{price:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _listed_scopes(row: Mapping[str, Any]) -> dict[str, str]:
    scopes = {
        scope: row[f"regional_processing_uplift_multiplier_{scope}"]
        for scope in ("eu", "us")
        if f"regional_processing_uplift_multiplier_{scope}" in row
    }
    scopes |= {k: v for k, v in row.get("provider_specific_entry", {}).items() if k in {"eu", "us"}}
    return {scope: _per(multiplier, 1) for scope, multiplier in scopes.items()}
