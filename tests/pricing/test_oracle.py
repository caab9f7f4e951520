"""Every model that genai-prices knows, priced beside it: an oracle nobody here wrote."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any

import pytest
from genai_prices import Usage
from genai_prices.data import providers
from genai_prices.types import ModelInfo, Provider, TimeOfDateConstraint

from pricing.catalogue import BASE, ModelEntry
from pricing.cost import cost
from pricing.load import load
from pricing.units import TOKENS, UNITS, leaves

BOOK = load()
ENTRIES = {
    (provider, entry.id): entry
    for provider, entry in BOOK.models()
    if any(row.source.startswith("genai-prices") for row in entry.prices)
}
PRICED = [p for p in providers if any((p.id, model.id) in ENTRIES for model in p.models)]
NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)
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
    "input_video": "input_video_tokens",
    "output": "output_tokens",
    "reasoning": "output_reasoning_tokens",
    "citation": "output_citation_tokens",
    "output_audio": "output_audio_tokens",
    "output_image": "output_image_tokens",
    "output_video": "output_video_tokens",
    "web_search": "web_searches",
    "social_search": "social_searches",
    "file_search": "storage_searches",
    "audio_seconds": "audio_seconds",
    "input_characters": "input_characters",
    "text_messages": "input_text_messages",
    "pages": "input_document_pages",
    "pages_annotated": "input_annotated_document_pages",
}
PARTS = {
    "input": (
        "cache_write_5m",
        "cache_write_1h",
        "input_image",
        "input_audio",
        "input_video",
        "cache_read",
    ),
    "output": ("reasoning", "citation", "output_audio", "output_image", "output_video"),
}
COUNTED = sorted(unit for unit in ORACLE_KEYS if unit not in TOKENS and unit != "pages")
PLACES = 9
"""Decimal places of a price per million that are whole femto-USD per token."""
FEES = {unit for unit in COUNTED if UNITS[unit].family == "tool_calls"}


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
    for unit in COUNTED:
        if unit not in leave_out:
            found[unit] = random.randrange(50)
    if "pages_annotated" in found:
        found["pages"] = found["pages_annotated"] + random.randrange(50)
    return found


def beyond(provider: Provider, model: ModelInfo) -> set[str]:
    """Units the oracle has no price for: what a row says is from another list, and common fees."""
    entry = ENTRIES.get((provider.id, model.id))
    if entry is None:
        return set(FEES)
    listed = {unit for row in entry.prices for unit in row.prices}
    others = credited(entry)
    if "cache_write" in others:
        others |= {"cache_write_5m", "cache_write_1h"}
    return others | (FEES - listed)


def credited(entry: ModelEntry) -> set[str]:
    """The units that the rows of an entry say are from other lists."""
    words = [part for row in entry.prices for part in row.source.split("; ")[1:]]
    return {unit for part in words for unit in re.findall(r"\w+", part.partition(" from ")[0])}


def oracle_usage(ours: dict[str, int]) -> Usage:
    """The same usage in the oracle's words; it wants every sum spelt out."""
    usage = {ORACLE_KEYS[name]: count for name, count in ours.items()}
    writes = usage.get("cache_write_5m_tokens", 0) + usage.get("cache_write_1h_tokens", 0)
    seconds = usage.get("audio_seconds", 0)
    return Usage(**usage, cache_write_tokens=writes, input_audio_seconds=seconds)


def moments(model: ModelInfo) -> Iterator[datetime]:
    """Now, long ago, and both sides of each date and each hour at which a price begins."""
    yield from (NOW, datetime(2023, 1, 1, tzinfo=UTC))
    blocks: list[Any] = model.prices if isinstance(model.prices, list) else []
    for block in (*blocks, *(model.price_variants or ())):
        if isinstance(block.constraint, TimeOfDateConstraint):
            for at in (block.constraint.start_time, block.constraint.end_time):
                begins = datetime.combine(NOW.date(), at)
                yield from (begins, begins - timedelta(milliseconds=1))
        elif block.constraint is not None:
            begins = datetime.combine(block.constraint.start_date, datetime.min.time(), UTC)
            yield from (begins, begins - timedelta(milliseconds=1))


def names(model: ModelInfo) -> Iterator[str]:
    """Names that the oracle's match rules of a model are about."""
    clauses: list[Any] = [model.match]
    while clauses:
        clause = clauses.pop()
        clauses += [*getattr(clause, "or_", ()), *getattr(clause, "and_", ())]
        fields = ("equals", "starts_with", "contains", "ends_with")
        yield from (value for field in fields if (value := getattr(clause, field, "")))
        if starts := getattr(clause, "starts_with", ""):
            yield from (starts + suffix for suffix in ("-latest", "-20250514", "-x:y", "-tts"))


def tier_of(context: dict[str, str]) -> str | None:
    """What the oracle's context is called here."""
    key, value = next(iter(context.items()), ("", None))
    return value if key in {"", "service_tier", "processing", "speed"} else f"{key}:{value}"


@pytest.mark.parametrize("provider", PRICED, ids=lambda item: item.id)
def test_every_model_costs_what_the_oracle_says(provider: Provider) -> None:
    """Any usage, on any day, at any hour, in any tier: input, output and total within a pico."""
    for model in provider.models:
        if (provider.id, model.id) in ENTRIES or provider.id == "azure":
            _compare(provider, model)


def _compare(provider: Provider, model: ModelInfo) -> None:
    random = Random(model.id)
    contexts: list[dict[str, str]] = [{}, *(v.when for v in model.price_variants or ())]
    name = next((name for name in names(model) if provider.find_model(name) is model), "")
    for moment in moments(model):
        rates = BOOK.find(provider.id, name, int(moment.timestamp() * 1000))
        if rates is None:
            assert not model.get_prices(NOW).__dict__, model.id
            return
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
                # The oracle counts the request itself, and prices no other unit by it.
                ours["requests"] = 1
                charged = cost(leaves(ours), rates, tier_of(context))
                agree(charged, theirs, debris(model), (moment, context, ours))


def debris(model: ModelInfo) -> int:
    """What one token may differ by: prices of more places are the remains of floats."""
    texts = re.findall(r"Decimal\('([^']+)'\)", repr([b.__dict__ for b in _blocks(model)]))
    return 1 if any(len(text.partition(".")[2]) > PLACES for text in texts) else 0


def _blocks(model: ModelInfo) -> list[Any]:
    blocks = model.prices if isinstance(model.prices, list) else [model]
    return [block.prices for block in blocks]


def agree(ours: Any, theirs: Any, femto_per_token: int, case: Any) -> None:
    """Total, input and output tokens differ by no more than the rounding of their lines."""
    rounding = max(1, len(ours.lines)) + femto_per_token * sum(case[-1].values()) // 1_000
    others = sum(pico for unit, pico in ours.lines.items() if unit not in TOKENS)
    exact = {"total": (theirs.total_price, ours.total_pico)}
    if not others:  # the oracle files what is no token under neither
        exact["input"] = (theirs.input_price, ours.input_pico)
        exact["output"] = (theirs.output_price, ours.output_pico)
    for what, (usd, pico) in exact.items():
        assert abs(usd * Decimal(10**12) - pico) <= rounding, (what, case)


@pytest.mark.parametrize("provider", PRICED, ids=lambda item: item.id)
def test_every_name_means_what_the_oracle_says(provider: Provider) -> None:
    """Every name the oracle resolves to a priced model, we resolve to the same."""
    for model in provider.models:
        for name in names(model):
            expected = provider.find_model(name)
            if expected is None or (provider.id, expected.id) not in ENTRIES:
                continue
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
    """A row that has units from another list names them, and has a price for each of them."""
    for entry in ENTRIES.values():
        for row in entry.prices:
            for part in row.source.split("; ")[1:]:
                units, _, source = part.partition(" from ")
                if not source:
                    assert row.service_tier != BASE, entry.id
                    units = units.removesuffix(" in proportion to the base")
                else:
                    assert source.split(" ")[0] in {"litellm", "portkey-models"}, entry.id
                assert set(units.split(", ")) <= row.prices.keys(), entry.id
