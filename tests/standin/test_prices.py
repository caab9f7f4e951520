"""The stand-in's bills are right, on paper and in its books."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.standin import Standin, prices
from tests.standin.fixtures import standin, standin_process

__all__ = ["standin", "standin_process"]
USAGES: list[tuple[str, str, dict[str, Any], str | None, int]] = [
    # provider, model, usage, tier, pico-USD
    ("openai", "gpt-4", {"prompt_tokens": 10, "completion_tokens": 5}, None, 600_000_000),
    ("openai", "gpt-4o", {"prompt_tokens": 1, "completion_tokens": 0}, "priority", 4_250_000),
    (
        "openai",
        "gpt-5-2025-08-07",
        {"prompt_tokens": 8, "completion_tokens": 2},
        "flex",
        15_000_000,
    ),
    (
        "openai",
        "gpt-5",
        {
            "prompt_tokens": 100,
            "completion_tokens": 50,
            "prompt_tokens_details": {"cached_tokens": 60},
            "completion_tokens_details": {"reasoning_tokens": 30},
        },
        "default",
        40 * 1_250_000 + 60 * 125_000 + 50 * 10_000_000,
    ),
    (
        "openai",
        "gpt-4o-audio-preview",
        {
            "prompt_tokens": 30,
            "completion_tokens": 20,
            "prompt_tokens_details": {"audio_tokens": 10},
            "completion_tokens_details": {"audio_tokens": 15},
        },
        None,
        20 * 2_500_000 + 10 * 40_000_000 + 5 * 10_000_000 + 15 * 80_000_000,
    ),
    (
        "openai",
        "gpt-5.6-sol",
        {
            "prompt_tokens": 10,
            "completion_tokens": 1,
            "prompt_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 5},
        },
        None,
        3 * 4_000_000 + 2 * 400_000 + 5 * 5_000_000 + 20_000_000,
    ),
    ("openai", "gpt-5.4", {"prompt_tokens": 272_000, "completion_tokens": 1}, None, 680015 * 10**6),
    (
        "openai",
        "gpt-5.4",
        {"prompt_tokens": 272_001, "completion_tokens": 0},
        None,
        1360005 * 10**6,
    ),
    (
        "anthropic",
        "claude-sonnet-4-5-20250929",
        {
            "input_tokens": 7,
            "cache_read_input_tokens": 11,
            "cache_creation_input_tokens": 13,
            "cache_creation": {"ephemeral_5m_input_tokens": 9, "ephemeral_1h_input_tokens": 4},
            "output_tokens": 3,
            "service_tier": "standard",
        },
        None,
        7 * 3_000_000 + 11 * 300_000 + 9 * 3_750_000 + 4 * 6_000_000 + 3 * 15_000_000,
    ),
    (
        "anthropic",
        "claude-sonnet-4-5",
        {"input_tokens": 1, "cache_read_input_tokens": 200_000, "output_tokens": 2},
        None,
        6_000_000 + 200_000 * 600_000 + 2 * 22_500_000,
    ),
    (
        "anthropic",
        "claude-3-opus-20240229",
        {"input_tokens": 4, "output_tokens": 2, "service_tier": "batch"},
        None,
        2 * 15_000_000 + 75_000_000,
    ),
    (
        "anthropic",
        "claude-sonnet-5",
        {
            "input_tokens": 10,
            "output_tokens": 2,
            "iterations": [
                {"type": "message", "input_tokens": 10, "output_tokens": 2},
                {"type": "compaction", "input_tokens": 3, "output_tokens": 1},
                {
                    "type": "advisor_message",
                    "model": "claude-opus-4-8",
                    "input_tokens": 7,
                    "output_tokens": 1,
                },
            ],
        },
        None,
        13 * 2_000_000 + 3 * 10_000_000 + 7 * 5_000_000 + 25_000_000,
    ),
    (
        "anthropic",
        "claude-opus-4-8",
        {"input_tokens": 10, "output_tokens": 0, "inference_geo": "us"},
        None,
        55_000_000,
    ),
    (
        "anthropic",
        "claude-haiku-4-5-20251001",
        {"input_tokens": 1, "output_tokens": 1, "server_tool_use": {"web_search_requests": 2}},
        None,
        6_000_000 + 2 * 10_000_000_000,
    ),
]


@pytest.mark.parametrize(("provider", "model", "usage", "tier", "pico"), USAGES)
def test_a_bill_is_exact(
    provider: str, model: str, usage: dict[str, Any], tier: str | None, pico: int
) -> None:
    """Each token is charged once, at the rate of its kind, tier and context."""
    assert prices.bill(provider, model, usage, tier).cost_pico == pico


@pytest.mark.parametrize(("provider", "model", "usage", "tier", "pico"), USAGES)
def test_the_ledger_adds_up(
    standin: Standin,
    *,
    provider: str,
    model: str,
    usage: dict[str, Any],
    tier: str | None,
    pico: int,
) -> None:
    """Dictated usage is reported in JSON and at the end of a stream, and billed alike."""
    path = "/v1/chat/completions" if provider == "openai" else "/v1/messages"
    message = {"role": "user", "content": "Hello"}
    body = {"model": model, "max_tokens": 50, "messages": [message]}
    told = {"usage": usage, "model": model} | ({"service_tier": tier} if tier else {})
    headers, url = {"x-standin": json.dumps(told)}, standin.url + path
    whole = httpx.post(url, json=body, headers=headers, trust_env=False).json()
    options = {"stream_options": {"include_usage": True}} if provider == "openai" else {}
    streamed = body | options | {"stream": True}
    httpx.post(url, json=streamed, headers=headers, trust_env=False)
    assert usage.items() <= whole["usage"].items()
    assert [entry.cost_pico for entry in standin.ledger()] == [pico, pico]
    assert all(sum(e.lines_pico.values()) == e.cost_pico for e in standin.ledger())
