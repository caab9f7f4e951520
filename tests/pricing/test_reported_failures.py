"""What other systems were reported to charge wrongly, with what is right."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import NamedTuple

import pytest

from pricing.cost import cost
from pricing.load import load
from pricing.rates import Rates
from pricing.units import leaves

BOOK = load()
# A case is named by its link; what was found by running LiteLLM, by its version.
LITELLM = "https://github.com/BerriAI/litellm/"
PICO_PER_USD = 10**12


def rates_of(provider: str, model: str, day: str = "2026-12-01T12:00") -> Rates:
    """A model's rates at a time."""
    at_ms = int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() * 1000)
    found = BOOK.find(provider, model, at_ms)
    assert found is not None
    return found


class Case(NamedTuple):
    """A usage as a provider reports it, and what it costs."""

    link: str
    provider: str
    model: str
    counts: dict[str, int]
    usd: str
    tier: str | None = None
    scope: str | None = None
    day: str = "2026-12-01T12:00"


CASES = [
    # Cache writes are input, and are charged once.
    Case(f"{LITELLM}issues/9812", "anthropic", "claude-3-7-sonnet-20250219",
         {"input": 12_307, "cache_write_5m": 12_304, "output": 550}, "0.054399"),
    # Cache reads are input, and cost what reads cost: here the report's own usage, on Bedrock.
    Case(f"{LITELLM}issues/11364", "aws", "eu.anthropic.claude-opus-4-5-20251101-v1:0",
         {"input": 98_805, "cache_read": 66_360, "cache_write_5m": 32_435, "output": 5_120,
          "reasoning": 1_710}, "0.400343625"),
    Case(f"{LITELLM}issues/11789", "anthropic", "claude-sonnet-4-20250514",
         {"input": 100_000, "cache_read": 99_000, "output": 10}, "0.03285"),
    Case(f"{LITELLM}issues/6215", "anthropic", "claude-3-haiku-20240307",
         {"input": 3_000, "cache_write_5m": 1_000, "cache_read": 1_000, "output": 0}, "0.00058"),
    Case(f"{LITELLM}issues/5443", "deepseek", "deepseek-v4-pro",
         {"input": 1_000, "cache_read": 900, "output": 100}, "0.0002838"),
    Case(f"{LITELLM}issues/11935", "openai", "gpt-4o",
         {"input": 2_006, "cache_read": 1_920, "output": 300}, "0.005615"),
    # Bedrock's cache is not free.
    Case(f"{LITELLM}issues/29145", "aws", "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
         {"input": 3_000, "cache_read": 1_000, "cache_write_5m": 1_000, "cache_write_1h": 1_000,
          "output": 0}, "0.011055"),
    # The whole of the prompt decides the context, cached tokens too; nothing is charged twice.
    Case(f"{LITELLM}issues/14849", "google", "gemini-2.5-pro",
         {"input": 262_960, "cache_read": 257_955, "output": 1_744}, "0.10316125"),
    # An hour's write costs twice the input, also beside one of five minutes.
    Case("https://github.com/srtab/daiv/pull/1159", "anthropic", "claude-opus-4-6",
         {"input": 10_000, "cache_write_1h": 10_000, "output": 0}, "0.1"),
    Case("litellm 1.106.2: cache writes of both lifetimes", "anthropic", "claude-opus-4-6",
         {"input": 3_000, "cache_write_5m": 1_000, "cache_write_1h": 1_000, "output": 0},
         "0.02125"),
    # A provider that counts cached tokens within the prompt, and one that counts them beside it,
    # come to the same once both are said as counts of ours.
    Case("https://github.com/danny-avila/LibreChat/issues/13795", "openai", "gpt-5",
         {"input": 1_000, "cache_read": 800, "output": 0}, "0.00035"),
    Case("https://github.com/openlit/openlit/issues/1378", "anthropic", "claude-haiku-4-5",
         {"input": 200 + 800, "cache_read": 800, "output": 0}, "0.00028"),
    # Tools that the provider runs are charged by the use.
    Case(f"{LITELLM}pull/31355", "anthropic", "claude-haiku-4-5",
         {"input": 0, "output": 0, "web_search": 3}, "0.03"),
    Case("https://github.com/langfuse/langfuse/issues/15856", "anthropic", "claude-sonnet-4-5",
         {"input": 1_000, "output": 100, "web_search": 2}, "0.0245"),
    Case(f"{LITELLM}issues/14634", "openai", "gpt-5",
         {"input": 0, "output": 0, "web_search": 1, "file_search": 1}, "0.0125"),
    Case(f"{LITELLM}issues/15858", "google", "gemini-2.5-flash",
         {"input": 0, "output": 0, "web_search": 1}, "0.035"),
    # A snapshot has the tiers of its model; the tier served is what is billed.
    Case(f"{LITELLM}issues/37046", "openai", "gpt-4o-2024-08-06",
         {"input": 1_000, "output": 1_000}, "0.02125", tier="priority"),
    Case(f"{LITELLM}issues/13810", "openai", "gpt-5",
         {"input": 1_000, "output": 1_000}, "0.005625", tier="flex"),
    Case(f"{LITELLM}issues/31837", "openai", "gpt-5",
         {"input": 1_000, "output": 1_000}, "0.01125", tier="default"),
    Case("https://github.com/pydantic/genai-prices/issues/115", "google", "gemini-2.5-pro",
         {"input": 1_000, "output": 1_000}, "0.02025", tier="priority"),
    # All that a tier makes is at its price: what a model thought, drew or said, too. Here the
    # answers that the reports quote, or one like them.
    Case(f"{LITELLM}pull/35925", "google", "gemini-4-hydrogen",
         {"input": 1_000, "output": 161, "reasoning": 160}, "0.0048735", tier="priority"),
    Case(f"{LITELLM}pull/37724", "google", "gemini-3.5-flash",
         {"input": 7, "output": 205}, "0.00092775", tier="flex"),
    Case(f"{LITELLM}issues/37326", "openai", "gpt-6.1-sol",
         {"input": 1_000, "output": 1_000}, "0.072", tier="ultrafast"),
    Case(f"{LITELLM}pull/35923", "openai", "gpt-4.1-2025-04-14",
         {"input": 9, "output": 1}, "0.0000455", tier="priority"),
    Case(f"{LITELLM}pull/30558", "anthropic", "claude-opus-4-6",
         {"input": 1_000, "output": 1_000}, "0.03", tier="priority"),
    Case("images drawn in a tier", "google", "gemini-2.5-flash-image",
         {"input": 100, "output": 1_290, "output_image": 1_290}, "0.069714", tier="priority",
         day="2026-12-01T12:00"),
    # Batches are half, in long contexts, of cache writes for an hour and of old models, too.
    Case(f"{LITELLM}pull/39861", "openai", "gpt-5.4",
         {"input": 300_000, "output": 1_000}, "0.76125", tier="batch"),
    Case("litellm 1.106.2: an hour's cache write in a batch", "anthropic", "claude-haiku-4-5",
         {"input": 2_000, "cache_write_1h": 2_000, "output": 200}, "0.0025", tier="batch"),
    Case(f"{LITELLM}issues/27944", "anthropic", "claude-opus-4-1-20250805",
         {"input": 1_000, "output": 1_000, "cache_read": 500}, "0.041625", tier="batch"),
    Case(f"{LITELLM}issues/19925", "google", "gemini-2.5-flash",
         {"input": 1_000, "output": 1_000}, "0.0014", tier="batch"),
    Case(f"{LITELLM}issues/35363", "openai", "gpt-5",
         {"input": 1_000, "output": 1_000}, "0.005625", tier="batch"),
    # A context begins where the provider says, and all of the call is in it.
    Case("litellm 1.106.2: a long context", "anthropic", "claude-sonnet-4-5",
         {"input": 300_000, "output": 1_000}, "1.8225"),
    Case(f"{LITELLM}pull/40002", "openai", "gpt-5.4",
         {"input": 272_001, "output": 1_000}, "1.382505"),
    Case(f"{LITELLM}issues/15338", "x-ai", "grok-4.3",
         {"input": 200_000, "output": 0}, "0.5"),
    Case(f"{LITELLM}issues/19038", "x-ai", "grok-4.3",
         {"input": 199_999, "output": 0}, "0.24999875"),
    # Sound costs what sound costs, in and out.
    Case(f"{LITELLM}issues/20228", "openai", "gpt-4o-mini-transcribe",
         {"input": 110, "input_audio": 100, "output": 20}, "0.0004125"),
    Case(f"{LITELLM}issues/16570", "openai", "gpt-4o-audio-preview",
         {"input": 100, "input_audio": 90, "output": 60, "output_audio": 50}, "0.007725"),
    Case(f"{LITELLM}issues/14447", "google", "gemini-2.5-flash",
         {"input": 1_000, "input_audio": 900, "output": 0}, "0.00093"),
    Case(f"{LITELLM}issues/7601", "openai", "whisper-1", {"audio_seconds": 61}, "0.0061"),
    Case(f"{LITELLM}pull/38457", "openai", "gpt-realtime",
         {"input": 1_000, "input_audio": 1_000, "output": 100, "output_audio": 100}, "0.0384"),
    # What a model thinks is part of what it makes, and is charged once, in sound as in text.
    Case(f"{LITELLM}pull/39850", "openai", "gpt-realtime-mini",
         {"input": 346, "cache_read": 322, "input_image": 194, "cache_read_image": 194,
          "output": 29, "reasoning": 19}, "0.0001072"),
    Case(f"{LITELLM}pull/27491", "openai", "gpt-realtime",
         {"input": 210, "input_audio": 200, "output": 60, "output_audio": 50}, "0.0098"),
    # What was sent as a picture is charged, at the price of text where it has none of its own.
    Case(f"{LITELLM}issues/9522", "openai", "gpt-4o",
         {"input": 1_105, "input_image": 1_100, "output": 10}, "0.0028625"),
    # Models that had a price and were charged nothing.
    Case(f"{LITELLM}issues/12337", "together", "meta-llama/Llama-3.3-70B-Instruct-Turbo",
         {"input": 1_000, "output": 1_000}, "0.00176"),
    # Yesterday's call has yesterday's price, at whatever hour.
    Case("https://github.com/ccusage/ccusage/issues/1636", "deepseek", "deepseek-v4-pro",
         {"input": 1_000_000, "output": 0}, "0.435", day="2026-08-16T02:00"),
    Case("https://github.com/ccusage/ccusage/issues/1636#today", "deepseek", "deepseek-v4-pro",
         {"input": 1_000_000, "output": 0}, "0.66", day="2026-08-17T05:00"),
    Case("https://github.com/ccusage/ccusage/issues/1636#peak", "deepseek", "deepseek-v4-pro",
         {"input": 1_000_000, "output": 0}, "1.32", day="2026-08-17T02:00"),
    # What was right there stays right here: residency, fine-tuned models.
    Case("litellm 1.106.2: residency", "anthropic", "claude-opus-5",
         {"input": 1_000, "output": 1_000, "web_search": 1}, "0.043", scope="us"),
    Case("litellm 1.106.2: fine-tuned", "openai", "ft:gpt-4o-mini-2024-07-18:org::id",
         {"input": 1_000, "output": 1_000}, "0.0015"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[case.link for case in CASES])
def test_a_reported_failure_costs_what_is_right(case: Case) -> None:
    """A usage that another system charged wrongly costs, to the pico, what the provider bills."""
    rates = rates_of(case.provider, case.model, case.day)
    charged = cost(leaves(case.counts), rates, case.tier, case.scope)
    assert Decimal(charged.total_pico) / PICO_PER_USD == Decimal(case.usd)
    assert charged.unpriced == ()


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        pytest.param("anthropic", "claude-haiku-9-9", id="litellm 1.106.2: unknown is 0.0"),
        pytest.param("openai", "gpt-9-unknown", id=f"{LITELLM}issues/35524"),
        pytest.param("aws", "us.nobody.nothing-v1:0", id=f"{LITELLM}pull/36561"),
        pytest.param("google", "gemma-3", id="https://github.com/onyx-dot-app/onyx/pull/14947"),
    ],
)
def test_no_price_is_not_zero(provider: str, model: str) -> None:
    """A model that nobody has a price for has none: it is not free, and nothing is guessed."""
    assert BOOK.find(provider, model, 0) is None


@pytest.mark.parametrize(
    ("model", "input_tokens", "options", "usd"),
    [
        pytest.param("gpt-5.4", 272_001, {"service_tier": "default", "scope": "global"},
                     "1.360005",
                     id=f"{LITELLM}pull/40002#long-context"),
        pytest.param("gpt-5.4", 1_000, {}, "0.0055", id=f"{LITELLM}pull/40002#priority-and-place"),
        pytest.param("gpt-5.4", 1_000, {"service_tier": "flex", "scope": "global"}, "0.0025",
                     id=f"{LITELLM}pull/40002#flex"),
        pytest.param("claude-haiku-4-5", 1_000, {}, "0.002",
                     id="litellm 1.106.2: no premium of an hour's write"),
        pytest.param("claude-haiku-4-5", 1_000, {"counts": {"web_search": 3}}, "0.032",
                     id="litellm 1.106.2: no search fee"),
        pytest.param("claude-opus-5", 1_000, {}, "0.022",
                     id="litellm 1.106.2: no multiplier of speed or place"),
        pytest.param("gpt-4o-audio-preview", 1_000, {}, "0.04",
                     id="litellm 1.106.2: no rate of sound"),
    ],
)  # fmt: skip
def test_a_reservation_counts_what_can_be_dearest(
    model: str, input_tokens: int, options: dict[str, object], usd: str
) -> None:
    """A ceiling has the long context, the premium of a write, the dearest tier, sound and fees."""
    provider = "anthropic" if model.startswith("claude") else "openai"
    ceiling = rates_of(provider, model).ceiling(input_tokens, 0, **options)  # type: ignore[arg-type]
    assert Decimal(ceiling) / PICO_PER_USD == Decimal(usd)


def test_an_agreed_price_replaces_the_listed_one() -> None:
    """A price of the customer's own is charged in place of the list's, not beside it.

    https://github.com/BerriAI/litellm/issues/40006, and for long contexts .../issues/30135
    """
    agreed = rates_of("openai", "gpt-5.4").replaced({"input": "2", "output": "12"})
    used = leaves({"input": 300_000, "cache_read": 100_000, "output": 1_000})
    assert cost(used, agreed).total_pico == (200_000 * 2 + 50_000 + 12_000) * 10**6


def test_money_is_exact() -> None:
    """Thirty calls of $0.000125 are $0.00375, not 0.0037500000000000025."""
    charged = cost(leaves({"input": 25, "output": 20}), rates_of("anthropic", "claude-haiku-4-5"))
    assert Decimal(30 * charged.total_pico) / PICO_PER_USD == Decimal("0.00375")
