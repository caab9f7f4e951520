"""What LiteLLM's list (MIT) says, in the catalogue's terms.

It adds what genai-prices lacks (service tiers, output bounds, scope multipliers, Azure's zones,
Bedrock's regions, images by size, models and providers the other does not know), and is what the
catalogue is checked against.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import msgspec

from pricing.catalogue import BASE, PriceDataError
from pricing.listed import Listed, Slot, digits, united
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
    "cache_creation_input_token_cost_above_12hr": "cache_write_12h",
    "cache_creation_input_audio_token_cost": "cache_write_audio",
    "input_cost_per_audio_token": "input_audio",
    "output_cost_per_audio_token": "output_audio",
    "cache_read_input_audio_token_cost": "cache_read_audio",
    "input_cost_per_image_token": "input_image",
    "output_cost_per_image_token": "output_image",
    "cache_read_input_image_token_cost": "cache_read_image",
    "input_cost_per_video_token": "input_video",
    "output_cost_per_video_token": "output_video",
    "output_cost_per_reasoning_token": "reasoning",
    "citation_cost_per_token": "citation",
    "input_cost_per_second": "audio_seconds",
    "input_cost_per_audio_per_second": "audio_seconds",
    "input_cost_per_character": "input_characters",
    "output_cost_per_image": "images",
    "output_cost_per_second": "video_seconds",
    "output_cost_per_video_per_second": "video_seconds",
    "output_cost_per_second_480p": "video_seconds_480p",
    "output_cost_per_second_720p": "video_seconds_720p",
    "output_cost_per_second_768p": "video_seconds_768p",
    "output_cost_per_second_1080p": "video_seconds_1080p",
    "output_cost_per_second_2k": "video_seconds_2k",
    "output_cost_per_second_4k": "video_seconds_4k",
    "input_cost_per_query": "rerank_searches",
    "input_cost_per_request": "requests",
    "input_cost_per_text_message": "text_messages",
    "ocr_cost_per_page": "pages",
    "annotation_cost_per_page": "pages_annotated",
    "google_maps_grounding_cost_per_query": "maps_search",
}
# What a field means depends on what a model does: a video's seconds in are no sound.
_ONLY_OF_MODE = {
    "audio_seconds": {"", "audio_transcription", "embedding", "realtime"},
    "rerank_searches": {"rerank"},
    **{unit: {"video_generation"} for unit in UNITS if unit.startswith("video_seconds")},
}
_FIELD = re.compile(
    "(?P<name>" + "|".join(sorted(_UNITS, key=len, reverse=True)) + ")"
    r"(_above_(?P<above>[0-9]+)k_tokens)?"
    r"(_(?P<tier>batches|flex|priority|ultrafast|balanced|decisions))?"
)
# The list's name of a provider, where it is not that of the catalogue. In this order: of two shops
# of a cloud that sell one model, the later one's price holds.
_PROVIDERS = {
    "text-completion-openai": "openai",
    "azure_text": "azure",
    "azure_ai": "azure",
    "gemini": "google",
    "vertex_ai": "google",
    "bedrock": "aws",
    "bedrock_converse": "aws",
    "cohere_chat": "cohere",
    "fireworks_ai": "fireworks",
    "fireworks_ai-embedding-models": "fireworks",
    "github_copilot": "github-copilot",
    "meta_llama": "meta",
    "moonshot": "moonshotai",
    "together_ai": "together",
    "voyage": "voyageai",
    "xai": "x-ai",
}
_VERTEX = re.compile(r"vertex_ai-[a-z0-9_-]+")
_PREFIX = re.compile(
    r"^(azure(_ai)?|vertex_ai|gemini|bedrock|fireworks_ai|together_ai|github_copilot|meta_llama"
    r"|moonshot|voyage|xai)/"
)
_REGION = re.compile(r"[a-z]{2}(-gov)?-[a-z]+-[0-9]")
_IMAGE = re.compile(
    r"((?P<quality>[a-z]+)/)?(?P<width>[0-9]+)-x-(?P<height>[0-9]+)/(?P<model>[^/]+)"
)
# Classes of models by size, capacity that is paid by the hour, and what others bill by.
_NO_MODEL = re.compile(r".*\*.*|.*-commitment/.*|(together|fireworks)-ai-.*|.*-steps/.*|.*\s.*")
# Beside prices by the token, the list has estimates of what a second or an image comes to.
_BY_TOKENS = TOKENS | {"web_search", "maps_search", "text_messages"}
_GUARDRAILS = {
    "topicPolicyUnits": "guardrail_topic",
    "contentPolicyUnits": "guardrail_content",
    "contentPolicyImageUnits": "guardrail_content_image",
    "wordPolicyUnits": "guardrail_word_free",
    "automatedReasoningPolicyUnits": "guardrail_automated_reasoning",
    "sensitiveInformationPolicyUnits": "guardrail_sensitive_information",
    "sensitiveInformationPolicyFreeUnits": "guardrail_sensitive_information_free",
    "contextualGroundingPolicyUnits": "guardrail_contextual_grounding",
}


def litellm_list(content: bytes, source: str) -> list[Listed]:
    """The models in `model_prices_and_context_window_backup.json`."""
    try:
        rows = json.loads(content, parse_float=Decimal)
    except ValueError as error:
        raise PriceDataError(f"{source}: {error}") from None
    found: dict[tuple[str, str, str], Listed] = {}
    for provider, name, row in _in_turn(rows):
        item = _listed(provider, name, row, source)
        if item is not None:
            key = (item.provider, item.name, item.zone)
            found[key] = united(found[key], item) if key in found else item
    return [msgspec.structs.replace(item, prices=_billed(item.prices)) for item in found.values()]


def _in_turn(rows: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """(provider, name without it, row) of every line about a model, of shops in their order."""
    shops = [*_PROVIDERS]
    found = []
    for name, row in rows.items():
        shop = _VERTEX.sub("vertex_ai", row.get("litellm_provider", ""))
        provider = _PROVIDERS.get(shop, shop).replace("_", "-")
        if provider and "://" not in provider and not _NO_MODEL.fullmatch(name):
            bare = _PREFIX.sub("", name.lower()).removeprefix(f"{shop}/")
            found.append((shops.index(shop) if shop in shops else -1, provider, bare, row))
    found.sort(key=lambda item: item[0])
    return ((provider, bare, row) for _, provider, bare, row in found)


def _listed(provider: str, path: str, row: Mapping[str, Any], source: str) -> Listed | None:
    """What one line says; None of what is no model, or of a place we have no word for."""
    zone, slash, name = path.partition("/")
    if image := _IMAGE.fullmatch(path):
        zone, name, prices = "", image["model"], _image_prices(image, row)
    elif provider == "azure" and slash:
        prices = _listed_prices(row, source)
        if zone not in ZONES or "/" in name:
            return None
    elif provider == "aws" and slash:
        prices = _listed_prices(row, source)
        if not _REGION.fullmatch(zone) or "/" in name:
            return None
    else:
        zone, name, prices = "", path, _listed_prices(row, source)
    return Listed(
        source=source,
        provider=provider,
        name=name,
        zone=zone,
        mode=row.get("mode") or "",
        prices=prices,
        scopes=_listed_scopes(provider, row),
        max_output_tokens=_whole(row.get("max_output_tokens")),
        context_window=_whole(row.get("max_input_tokens")),
    )


def _billed(prices: dict[Slot, dict[str, str]]) -> dict[Slot, dict[str, str]]:
    if TOKENS.isdisjoint(prices.get((BASE, ""), {})):
        return prices
    return {
        slot: {unit: price for unit, price in units.items() if unit in _BY_TOKENS}
        for slot, units in prices.items()
    }


def _image_prices(image: re.Match[str], row: Mapping[str, Any]) -> dict[Slot, dict[str, str]]:
    """The price of an image of a size, which the list has by the pixel; a zero is a gap of its."""
    size = f"{image['width']}x{image['height']}"
    unit = f"image_{image['quality']}_{size}" if image["quality"] else f"image_{size}"
    pixels = int(image["width"]) * int(image["height"])
    # By the pixel the vendor's price is cut to a few digits: it has whole tenths of a cent.
    price = (Decimal(row.get("input_cost_per_pixel", 0)) * pixels).quantize(Decimal("1e-3"))
    return {(BASE, ""): {unit: digits(price)}} if price and unit in UNITS else {}


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and value > 0 else None


def _listed_prices(row: Mapping[str, Any], source: str) -> dict[Slot, dict[str, str]]:
    prices: dict[Slot, dict[str, str]] = {}
    mode = row.get("mode") or ""
    for field, value in row.items():
        match = _FIELD.fullmatch(field)
        if not match or value is None:
            continue
        unit = _UNITS[match["name"]]
        if mode in _ONLY_OF_MODE.get(unit, {mode}):
            tier = {None: BASE, "batches": "batch"}.get(match["tier"], match["tier"]) or BASE
            above = f"{match['above']}000" if match["above"] else ""
            prices.setdefault((tier, above), {})[unit] = _per(value, UNITS[unit].per, source)
    for start, ranged in _ranges(row, source):
        prices.setdefault((BASE, start), {}).update(ranged)
    _add_fees(prices, row, source)
    return prices


def _ranges(row: Mapping[str, Any], source: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Prices that the list has by ranges of input tokens: from more than so many."""
    for tier in row.get("tiered_pricing") or ():
        start = int(tier.get("range", [0])[0])
        prices = {
            _UNITS[field]: _per(value, UNITS[_UNITS[field]].per, source)
            for field, value in tier.items()
            if field in _UNITS and "range" in tier
        }
        yield str(start) if start else "", prices


def _add_fees(prices: dict[Slot, dict[str, str]], row: Mapping[str, Any], source: str) -> None:
    """Tools by the use, and what Anthropic's fast mode multiplies."""
    base = prices.setdefault((BASE, ""), {})
    if fees := row.get("search_context_cost_per_query"):
        base["web_search"] = _per(max(fees.values()), 1_000, source)
    for policy, price in (row.get("guardrail_cost_per_unit") or {}).items():
        if policy in _GUARDRAILS:
            base[_GUARDRAILS[policy]] = _per(price, 1_000, source)
    fast: Decimal | None = (row.get("provider_specific_entry") or {}).get("fast")
    if fast:
        tokens = {unit: Decimal(price) for unit, price in base.items() if unit in TOKENS}
        prices["fast", ""] = {unit: digits(price * fast) for unit, price in tokens.items()}
    if not base:
        del prices[BASE, ""]


def _per(value: object, units: int, source: str) -> str:
    if not isinstance(value, Decimal | int) or not Decimal(value).is_finite() or value < 0:
        raise PriceDataError(f"{source}: {value!r} is not a price")
    # The list's floats carry debris (5.0000000000000004E-8): 10^-9 USD per million is far below it.
    # A second's price is cut to 15 places (0.000283333333333), which an hour's must not show.
    places = "1e-9" if units == 1_000_000 else "1e-6"
    return digits((Decimal(value) * units).quantize(Decimal(places)))


def _listed_scopes(provider: str, row: Mapping[str, Any]) -> dict[str, str]:
    scopes = {
        scope: row[field]
        for scope, field in (
            ("eu", "regional_processing_uplift_multiplier_eu"),
            ("us", "regional_processing_uplift_multiplier_us"),
            ("fedramp", "fedramp_uplift_multiplier"),
            ("region", "regional_endpoint_uplift_multiplier"),
        )
        if field in row
    }
    own = row.get("provider_specific_entry") or {}
    # On Bedrock the place is part of the name, with a price of its own.
    if provider != "aws":
        scopes |= {scope: own[scope] for scope in ("eu", "us") if scope in own}
    return {scope: digits(Decimal(multiplier)) for scope, multiplier in scopes.items()}
