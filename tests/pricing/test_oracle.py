"""Every model of the providers, priced beside genai-prices: an oracle nobody here wrote."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any

import pytest
from genai_prices import Usage
from genai_prices.data import providers
from genai_prices.types import ModelInfo, Provider

from pricing.cost import cost
from pricing.load import load
from pricing.units import leaves

BOOK = load()
PROVIDERS = {provider.id: provider for provider in providers}
MODELS = [
    (PROVIDERS[p], model) for p in ("anthropic", "openai", "azure") for model in PROVIDERS[p].models
]
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)

# Where the oracle has no price for a unit at all and bills it as plain text (or not), we bill what
# LiteLLM's list says; the row's source says so.
BEYOND_THE_ORACLE = {
    ("openai", "ft:gpt-4o"): {"cache_read"},
    ("openai", "ft:gpt-4o-mini"): {"cache_read"},
    ("openai", "gpt-4o-audio-preview"): {"input_audio", "output_audio", "cache_read_audio"},
    ("openai", "gpt-4o-mini-audio-preview"): {"input_audio", "output_audio", "cache_read_audio"},
    ("openai", "gpt-4o-mini-tts"): {"output_audio"},
    ("openai", "gpt-4o-search-preview"): {"cache_read", "web_search"},
    ("openai", "gpt-5-search-api"): {"web_search"},
    ("openai", "gpt-5.3-codex"): {"web_search"},
    ("openai", "o3-pro"): {"web_search"},
}
LISTED = {
    (provider, entry.id): {unit for row in entry.prices for unit in row.prices}
    for provider, entry in BOOK.models()
}
# Our count -> the oracle's.
ORACLE_KEYS = {
    "input": "input_tokens",
    "cache_read": "cache_read_tokens",
    "cache_write_5m": "cache_write_5m_tokens",
    "cache_write_1h": "cache_write_1h_tokens",
    "input_audio": "input_audio_tokens",
    "cache_read_audio": "cache_audio_read_tokens",
    "input_image": "input_image_tokens",
    "cache_read_image": "cache_image_read_tokens",
    "output": "output_tokens",
    "reasoning": "output_reasoning_tokens",
    "output_audio": "output_audio_tokens",
    "output_image": "output_image_tokens",
    "web_search": "web_searches",
    "file_search": "storage_searches",
    "audio_seconds": "audio_seconds",
    "input_characters": "input_characters",
}
PARTS = {
    "input": ("cache_write_5m", "cache_write_1h", "input_image", "input_audio", "cache_read"),
    "output": ("reasoning", "output_audio", "output_image"),
}


def counts(random: Random, size: int, leave_out: set[str]) -> dict[str, int]:
    """Overlapping counts as an answer would report them: totals, and parts that fit into them."""
    found: dict[str, int] = {}
    for total, parts in PARTS.items():
        chosen = {part: random.randrange(size) for part in parts if random.random() < 0.5}
        found |= {part: count for part, count in chosen.items() if part not in leave_out}
        found[total] = sum(chosen.values()) + random.randrange(size)
    for part in ("audio", "image"):
        most = min(found.get(f"input_{part}", 0), found.get("cache_read", 0) // 2)
        if f"cache_read_{part}" not in leave_out:
            found[f"cache_read_{part}"] = most
    for fee in {"web_search", "file_search", "audio_seconds", "input_characters"} - leave_out:
        found[fee] = random.randrange(50)
    return found


def beyond(provider: Provider, model: ModelInfo) -> set[str]:
    """Units the oracle has no price for: some, and a provider's fees where it lists none."""
    key = (provider.id, model.id)
    fees = {"web_search", "file_search"} - LISTED.get(key, set())
    return BEYOND_THE_ORACLE.get(key, set()) | fees


def oracle_usage(ours: dict[str, int]) -> Usage:
    """The same usage in the oracle's words; it wants every sum spelt out."""
    usage = {ORACLE_KEYS[name]: count for name, count in ours.items()}
    writes = usage.get("cache_write_5m_tokens", 0) + usage.get("cache_write_1h_tokens", 0)
    seconds = usage.get("audio_seconds", 0)
    return Usage(**usage, cache_write_tokens=writes, input_audio_seconds=seconds)


def moments(model: ModelInfo) -> Iterator[datetime]:
    """Now, long ago, and both sides of each date at which a price begins."""
    yield from (NOW, datetime(2023, 1, 1, tzinfo=UTC))
    blocks: list[Any] = model.prices if isinstance(model.prices, list) else []
    for block in (*blocks, *(model.price_variants or ())):
        if block.constraint is not None:
            begins = datetime.combine(block.constraint.start_date, datetime.min.time(), UTC)
            yield from (begins, begins - timedelta(milliseconds=1))


def names(model: ModelInfo) -> Iterator[str]:
    """Names that the oracle's match rules of a model are about."""
    clauses: list[Any] = [model.match]
    while clauses:
        clause = clauses.pop()
        clauses += getattr(clause, "or_", ())
        yield from (
            v for k in ("equals", "starts_with", "contains") if (v := getattr(clause, k, ""))
        )
        if starts := getattr(clause, "starts_with", ""):
            yield from (starts + suffix for suffix in ("-latest", "-20250514", "-x:y"))


@pytest.mark.parametrize(("provider", "model"), MODELS, ids=lambda item: item.id)
def test_every_model_costs_what_the_oracle_says(provider: Provider, model: ModelInfo) -> None:
    """Any usage, on any day, in any tier: each line within a pico, input, output and total."""
    random = Random(model.id)
    contexts = [{}, *(variant.when for variant in model.price_variants or ())]
    name = next(iter(names(model)))
    for moment in moments(model):
        rates = BOOK.find(provider.id, name, int(moment.timestamp() * 1000))
        assert rates is not None
        if rates.provider != provider.id:
            # Azure sells it at list price: there is no entry. The oracle has today's for all time.
            rates = BOOK.find(provider.id, name, NOW_MS)
            assert rates is not None
        else:
            assert rates.model == model.id
        for context in contexts:
            for size in (40, 20_000, 400_000):
                ours = counts(random, size, beyond(provider, model))
                theirs = model.calc_price(
                    oracle_usage(ours),
                    provider,
                    genai_request_timestamp=moment,
                    price_context=context,
                )
                tier = next(iter(context.values()), None)
                agree(cost(leaves(ours), rates, tier), theirs, (moment, context, ours))


def agree(ours: Any, theirs: Any, case: object) -> None:
    """Total, input and output tokens differ by no more than the rounding of their lines."""
    fees = sum(ours.lines.get(unit, 0) for unit in ("web_search", "file_search"))
    heard = ours.lines.get("audio_seconds", 0)
    exact = {
        "total": (theirs.total_price, ours.total_pico),
        "output": (theirs.output_price, ours.output_pico - fees),
    }
    if not heard:  # the oracle files seconds under neither
        exact["input"] = (theirs.input_price, ours.input_pico)
    for what, (usd, pico) in exact.items():
        assert abs(usd * Decimal(10**12) - pico) <= max(1, len(ours.lines)), (what, case)


@pytest.mark.parametrize(("provider", "model"), MODELS, ids=lambda item: item.id)
def test_every_name_means_what_the_oracle_says(provider: Provider, model: ModelInfo) -> None:
    """Every name the oracle resolves, we resolve to the same model."""
    for name in names(model):
        expected = provider.find_model(name)
        if expected is not None:
            rates = BOOK.find(provider.id, name, 0)
            assert rates is not None, name
            assert rates.model == expected.id or rates.provider != provider.id, name


@pytest.mark.parametrize(
    ("provider_id", "model", "usage", "usd"),
    [
        ("openai", "gpt-4", {"input": 1000, "output": 500}, "0.06"),
        ("openai", "gpt-4o-mini", {"input": 9, "output": 9}, "0.00000675"),
        ("openai", "gpt-4o", {"input": 2000, "cache_read": 1024, "output": 300}, "0.00672"),
        ("anthropic", "claude-3-opus-20240229", {"input": 100, "output": 100}, "0.009"),
        ("anthropic", "claude-3-sonnet-20240229", {"input": 100, "output": 100}, "0.0018"),
        ("anthropic", "claude-3-haiku-20240307", {"input": 100, "output": 100}, "0.00015"),
    ],
)
def test_old_models_still_have_a_price(
    provider_id: str, model: str, usage: dict[str, int], usd: str
) -> None:
    """Retired models price, to the cent one would work out by hand."""
    rates = BOOK.find(provider_id, model, int(NOW.timestamp() * 1000))
    assert rates is not None
    assert cost(leaves(usage), rates).total_pico == Decimal(usd) * 10**12


def test_what_is_beyond_the_oracle_says_where_it_comes_from() -> None:
    """The exceptions above are exactly the rows that name a second source."""
    filled = {
        (provider, entry.id)
        for provider, entry in BOOK.models()
        for row in entry.prices
        if ";" in row.source
    }
    assert filled == BEYOND_THE_ORACLE.keys()
