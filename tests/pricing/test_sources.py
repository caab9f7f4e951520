"""What the lists say together: tiers, gaps, places, hours and names."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from pricing.load import load
from tests.pricing.lists import (
    DAY_2,
    FLAT,
    TIERED,
    entries,
    genai,
    model,
    nowhere,
    row,
    rows,
    run,
)


def said(provider: str, name: str, data: Path) -> dict[str, Any]:
    """An entry of a provider's file."""
    return dict(entries(data, provider)[name])


BATCH: dict[str, Any] = {
    "input_cost_per_token_batches": 1e-06,
    "output_cost_per_token_batches": 5e-06,
}
FLEX: dict[str, Any] = {"input_cost_per_token_flex": 1e-06, "output_cost_per_token_flex": 5e-06}
LONG: dict[str, Any] = {"input_cost_per_token_above_128k_tokens_flex": 2e-06}


def test_tiers_come_from_lists_that_agree(tmp_path: Path) -> None:
    """A tier that genai-prices lacks is the list's, where both have the same price of tokens."""
    batch = (
        "[PriceVariant(when={'processing': 'batch'}, prices=ModelPrice(input_mtok=Decimal('1')))]"
    )
    prices = {
        "m": row("openai", "chat", (2, 10), **FLEX, **LONG, **BATCH),
        "m-x1": row("openai", "chat", (2, 10), **FLEX, **LONG),
        "n": row("openai", "chat", (3, 10), **FLEX),
        "o": row("openai", "chat", (2, 10), **FLEX),
        "o-x1": row("openai", "chat", (2, 10), input_cost_per_token_flex=1.5e-06),
        "p": row("openai", "chat", (2, 10), input_cost_per_token_flex=0),
        "q": row("openai", "image_generation", **FLEX),
    }
    models = [model("m", variants=batch), *(model(name) for name in "nop")]
    models.append(model("q", "ModelPrice(requests_kcount=Decimal('1'))"))
    run(tmp_path, genai(", ".join(models)), prices=prices)
    tiers = {
        name: {row["service_tier"] for row in found["prices"] if "service_tier" in row}
        for name, found in entries(tmp_path).items()
    }
    assert tiers == {"m": {"batch", "flex"}, "n": set(), "o": set(), "p": set(), "q": set()}
    flex = said("openai", "m", tmp_path)["prices"][-1]
    assert (flex["prices"], flex["source"]) == ({"input": "1", "output": "5"}, "litellm 8.8")
    assert flex["above"] == {"128000": {"input": "2"}}
    own = said("openai", "m", tmp_path)["prices"][1]
    assert (own["prices"], own["source"]) == ({"input": "1"}, "genai-prices 9.9")


def test_a_batch_of_claude_is_half_of_everything(tmp_path: Path) -> None:
    """Where a list halves what it lists, Anthropic halves what the list forgets; else nothing."""
    writes = (
        "ModelPrice(input_mtok=Decimal('2'), output_mtok=Decimal('10'), "
        "cache_write_1h_mtok=Decimal('4'), web_searches_kcount=Decimal('10'))"
    )
    prices = {
        "claude-a": row("anthropic", "chat", (2, 10), **BATCH),
        "claude-b": row("anthropic", "chat", (2, 10), **BATCH | FLEX | {
            "input_cost_per_token_batches": 1.5e-06}),
    }  # fmt: skip
    claude = ", ".join(model(name, writes) for name in prices)
    run(tmp_path, genai(model(), claude), prices=prices)
    half, other = (
        {row.get("service_tier"): row["prices"] for row in said("anthropic", n, tmp_path)["prices"]}
        for n in prices
    )
    assert half["batch"] == {"input": "1", "output": "5", "cache_write_1h": "2"}
    assert other["batch"] == {"input": "1.5", "output": "5"}
    assert other["flex"] == {"input": "1", "output": "5"}


AUDIO: dict[str, Any] = {
    "output_cost_per_audio_token": 1e-05,
    "output_cost_per_image_token": 4e-05,
    "cache_read_input_token_cost": 5e-07,
}


def test_a_tier_moves_what_it_does_not_list(tmp_path: Path) -> None:
    """What costs as all output does so in every tier; what is dearer moves along where all that a
    tier lists moves alike; cached tokens stay."""
    half = {"input_cost_per_token_flex": 1e-06, "output_cost_per_token_flex": 5e-06}
    uneven = {"input_cost_per_token_priority": 3e-06, "output_cost_per_token_priority": 1.8e-05}
    above = {
        "input_cost_per_token_above_128k_tokens": 4e-06,
        "output_cost_per_token_above_128k_tokens": 2e-05,
        "output_cost_per_image_token_above_128k_tokens": 8e-05,
        "output_cost_per_token_above_128k_tokens_flex": 1e-05,
    }
    prices = {
        "m": row("openai", "chat", (2, 10), **AUDIO, **half, **uneven),
        "ft:n": row("openai", "chat", (2, 10), **AUDIO, **half, **uneven, **above),
        "o": row("openai", "chat", (2, 10), **AUDIO, output_cost_per_token_flex=5e-06),
        "p": row("openai", "chat", (0, 10), **AUDIO, **half),
    }
    run(tmp_path, genai(model("m")), prices=prices)
    found = {
        (name, it.get("service_tier")): it
        for name in prices
        for it in said("openai", name, tmp_path)["prices"]
    }
    flex = {"input": "1", "output": "5", "output_audio": "5", "output_image": "20"}
    assert found["m", "flex"]["prices"] == found["ft:n", "flex"]["prices"] == flex
    assert found["m", "flex"]["source"] == (
        "litellm 8.8; output_audio, output_image in proportion to the base"
    )
    assert found["ft:n", "flex"]["above"] == {
        "128000": {"output": "10", "output_audio": "10", "output_image": "40"}
    }
    priority = {"input": "3", "output": "18", "output_audio": "18"}
    assert found["m", "priority"]["prices"] == priority
    assert found["o", "flex"]["prices"] == {"output": "5", "output_audio": "5"}
    assert found["p", "flex"]["prices"] == {"input": "1", "output": "5", "output_audio": "5"}


def test_a_list_speaks_of_today(tmp_path: Path) -> None:
    """A gap that is filled at the price of what contains it follows that, when it changes."""
    later = (
        f"[ConditionalPrice(prices={FLAT.format(2)}), ConditionalPrice(constraint="
        f"StartDateConstraint(start_date=datetime.date(2027, 3, 1)), prices={FLAT.format(3)})]"
    )
    audio = {"input_cost_per_audio_token": 2e-06, "output_cost_per_audio_token": 4e-05}
    run(tmp_path, genai(model(prices=later)), prices={"m": row("openai", "chat", (2, 10), **audio)})
    now, then = said("openai", "m", tmp_path)["prices"]
    assert now["prices"] == {"input": "2", "output": "10", "input_audio": "2", "output_audio": "40"}
    assert then["prices"] == {"input": "3", "output": "10", "output_audio": "40"}
    assert then["source"] == "genai-prices 9.9; output_audio from litellm 8.8"
    none = {"m": row("openai", "chat", (2, 10), input_cost_per_audio_token=2e-06)}
    run(tmp_path, genai(model(prices=later)), prices=none, now=DAY_2)
    sources = {it["from"]: it["source"] for it in said("openai", "m", tmp_path)["prices"]}
    assert sources["2027-03-01"] == "genai-prices 9.9"


def test_what_is_no_longer_listed_has_whole_tiers(tmp_path: Path) -> None:
    """A row that was taken without them gets a later one with them, and stays."""
    half = {"input_cost_per_token_flex": 1e-06, "output_cost_per_token_flex": 5e-06}
    prices = {"old": row("openai", "chat", (2, 10), **AUDIO, **half)}
    run(tmp_path, genai(model("m")), prices=prices)
    path = tmp_path / "openai.json"
    words = '"output_audio": "5", "output_image": "20"'
    assert path.read_text().count(words) == 1
    path.write_text(path.read_text().replace(f", {words}", ""))
    run(tmp_path, genai(model("m")), prices={}, now=DAY_2)
    flexes = [it for it in said("openai", "old", tmp_path)["prices"] if "service_tier" in it]
    assert [(it["from"], len(it["prices"])) for it in flexes] == [(None, 2), ("2026-11-21", 4)]


def test_gaps_are_filled_by_rank(tmp_path: Path) -> None:
    """A unit that genai-prices lacks is LiteLLM's, else Portkey's; a zero is a gap, not a price."""
    prices = {
        "m": row("openai", "chat", (2, 10), cache_read_input_token_cost=5e-07,
                 cache_creation_input_token_cost=2.5e-06, input_cost_per_image_token=0),
        # below plain input: no cache write costs that
        "n": row("openai", "chat", (2, 10), cache_creation_input_token_cost=1e-06),
        # of another time: only what would else be charged as text
        "o": row("openai", "chat", (3, 10), cache_creation_input_token_cost=3e-06,
                 input_cost_per_audio_token=4e-05),
    }  # fmt: skip
    third = {
        "default": {},
        "m": {"pricing_config": {"pay_as_you_go": {
            "request_token": {"price": 0.0002}, "response_token": {"price": 0.001},
            "cache_write_input_token": {"price": 0.0009},
            "additional_units": {"file_search": {"price": 0.25}, "web_search": {"price": 0}}},
            "batch_config": {"request_token": {"price": 0.0001}}}},
        "no-price": {},
    }  # fmt: skip

    def get(url: str) -> bytes:
        if "portkey" not in url:
            return nowhere(url)
        return json.dumps(third if "/openai.json" in url else {}).encode()

    models = ", ".join(model(name) for name in "mno")
    run(tmp_path, genai(models), prices=prices, get=get)
    base, batch = said("openai", "m", tmp_path)["prices"]
    assert base["prices"] == {
        "input": "2", "output": "10", "cache_read": "0.5", "cache_write": "2.5",
        "file_search": "2.5",
    }  # fmt: skip
    source = base["source"]
    assert source.startswith("genai-prices 9.9; cache_read, cache_write from litellm 8.8; file_sea")
    assert re.fullmatch("portkey-models [0-9a-f]{12}", batch["source"])
    assert (batch["service_tier"], batch["prices"]) == ("batch", {"input": "1"})
    assert said("openai", "n", tmp_path)["prices"][0]["prices"] == {"input": "2", "output": "10"}
    audio = said("openai", "o", tmp_path)["prices"][0]["prices"]
    assert audio == {"input": "2", "output": "10", "input_audio": "40"}


def test_bedrock_has_places(tmp_path: Path) -> None:
    """A profile with its own price has an entry, a region a ratio; one price everywhere, one."""
    prices = {
        "a.m-v1:0": row("bedrock", "chat", (2, 10)),
        "eu.a.m-v1:0": row("bedrock_converse", "chat", (2, 10)),
        "global.a.m-v1:0": row("bedrock", "chat", (1.8, 9)),
        "bedrock/us-gov-west-1/a.m-v1:0": row("bedrock", "chat", (2.4, 12)),
        "bedrock/eu-west-1/a.m-v1:0": row("bedrock", "chat", (2, 10)),
        "bedrock/eu-west-2/a.m-v1:0": row("bedrock", "chat", (2, 11)),
        "bedrock/eu-west-3/a.m-v1:0": row("bedrock", "chat", (9, 45)),
        "bedrock/ap-east-1/a.m-v1:0": row("bedrock", "chat", (2.0000001, 10)),
        "bedrock/guardrails": row("bedrock", "guardrail", guardrail_cost_per_unit={
            "topicPolicyUnits": 0.00015, "unheardOf": 1}),
        # beside a price of genai-prices
        "known.m": row("bedrock", "chat", (2, 10)),
        "us.known.m": row("bedrock", "chat", (2.2, 11)),
        "jp.known.m": row("bedrock", "chat", (2, 10)),
        "bedrock/us-gov-east-1/known.m": row("bedrock", "chat", (2.4, 11)),
        "bedrock/us-gov-west-1/known.m": row("bedrock", "chat", (2.008, 10.04)),
    }  # fmt: skip
    text = genai(model()).replace("id='google'", "id='aws'").replace("'x'", "'known.m'")
    run(tmp_path, text.replace("'7'", "'2'"), prices=prices)
    found = json.loads((tmp_path / "aws.json").read_bytes())
    assert found["fees"][0]["prices"] == {"guardrail_topic": "0.15"}
    assert found["fees"][0]["source"] == "guardrail_topic from litellm 8.8"
    made = {
        entry["id"]: (
            entry["prices"][0]["prices"]["input"],
            {scope["scope"]: scope["multiplier"] for scope in entry.get("scopes", [])},
        )
        for entry in found["models"]
    }
    assert made == {
        "a.m-v1:0": ("2", {"us-gov-west-1": "1.2"}),
        "global.a.m-v1:0": ("1.8", {}),
        "known.m": ("2", {"us-gov-west-1": "251/250"}),
        "us.known.m": ("2.2", {}),
    }
    book = load(tmp_path)
    for name, version in (("eu.a.m-v1:0", "a.m-v1:0"), ("jp.known.m", "known.m")):
        rates = book.find("aws", name, 0)
        assert rates is not None
        assert rates.model == version


def test_vertex_resells_claude_dearer_by_region(tmp_path: Path) -> None:
    """A model that is resold at list price has the scopes that the list has for the reseller."""
    prices = {
        "vertex_ai/claude": row("vertex_ai-anthropic_models", "chat", (2, 10),
                                regional_endpoint_uplift_multiplier=1.1),
        "gemini/gemini-x": row("gemini", "chat", (0, 0), max_output_tokens=7),
        "gemini-x": row("vertex_ai-language-models", "chat", (1, 2),
                        google_maps_grounding_cost_per_query=0.014),
        "vertex_ai/free": row("vertex_ai", "chat", (0, 0)),
    }  # fmt: skip
    resells = "id='google', fallback_model_providers=['anthropic']"
    text = genai(model(), model("claude")).replace("id='google'", resells)
    run(tmp_path, text, prices=prices)
    found = load(tmp_path).find("google", "publishers/anthropic/models/claude@20260101", 0)
    assert found is not None
    assert (found.provider, found.scopes) == ("anthropic", {"region": (11, 10)})
    gemini = said("google", "gemini-x", tmp_path)
    assert gemini["prices"][0]["prices"] == {"input": "1", "output": "2", "maps_search": "14"}
    assert gemini["max_output_tokens"] == 7
    assert "free" not in entries(tmp_path, "google")


def test_ranges_and_hours_are_prices(tmp_path: Path) -> None:
    """What a list has by ranges of input is a context; hours are genai-prices' to say."""
    ranges = [
        {"range": [0, 32_000.0], "input_cost_per_token": 1e-06, "output_cost_per_token": 2e-06},
        {"range": [32_000.0, 64_000.0], "input_cost_per_token": 3e-06, "made_up": 1},
    ]
    prices = {
        "dashscope/q": {
            "litellm_provider": "dashscope", "mode": "chat", "tiered_pricing": ranges,
        },
        "exa_ai/search": {
            "litellm_provider": "exa_ai", "mode": "search",
            "tiered_pricing": [{"input_cost_per_query": 1, "max_results_range": [0, 9]}],
        },
    }  # fmt: skip
    at = "datetime.time({}, tzinfo=datetime.UTC)"
    hours = "TimeOfDateConstraint(start_time={}, end_time={})"
    peak = hours.format(at.format("22, 30"), at.format("4, 0"))
    timed = (
        f"[ConditionalPrice(prices={FLAT.format(2)}), "
        f"ConditionalPrice(constraint={peak}, prices={FLAT.format(4)})]"
    )
    run(tmp_path, genai(model(prices=timed)), prices=prices)
    row_ = said("dashscope", "q", tmp_path)["prices"][0]
    assert row_["prices"] == {"input": "1", "output": "2"}
    assert row_["above"] == {"32000": {"input": "3"}}
    assert not (tmp_path / "exa-ai.json").exists()
    timed_row = said("openai", "m", tmp_path)["prices"][0]
    assert timed_row["hours"] == {"22:30-04:00": {"input": "4", "output": "10"}}
    tiers = timed.replace(f"prices={FLAT.format(4)}", f"prices={TIERED}")
    assert run(tmp_path, genai(model(prices=tiers)), now=DAY_2) == 1


def test_names_are_of_one_model(tmp_path: Path) -> None:
    """A list's name that is an entry's id is that entry's, though its rules do not say it."""
    text = genai(model("m")).replace("equals='m'", "equals='path/m'")
    prices = {"m": row("openai", "chat", (9, 9)), "free": row("openai", "chat", (0, 0))}
    run(tmp_path, text, prices=prices)
    assert list(entries(tmp_path)) == ["m"]
    found = load(tmp_path).find("openai", "m", 0)
    assert found is not None
    assert found.source.startswith("genai-prices")


@pytest.mark.parametrize(
    ("match", "patterns", "unless"),
    [
        ("ClauseEndsWith(ends_with='/M')", ["*/m"], []),
        ("ClauseRegex(regex='^m-\\\\d')", ["m-#*"], []),
        ("ClauseRegex(regex='^m\\\\[fast=true\\\\]$')", ["m[fast=true]"], []),
        ("ClauseRegex(regex='^(v/)?m\\\\.1(-\\\\d{2})?$')",
         ["m.1", "m.1-##", "v/m.1", "v/m.1-##"], []),
        (("ClauseAnd(and_=[ClauseStartsWith(starts_with='m'), "
         "ClauseRegex(regex='^(?!.*-[tT][tT][sS](?:$|-))')])"), ["m*"], ["*-tts", "*-tts-*"]),
    ],
)  # fmt: skip
def test_match_rules_become_patterns(
    match: str, patterns: list[str], unless: list[str], tmp_path: Path
) -> None:
    """Ends, digits, choices, optional parts and exceptions of genai-prices' rules have words."""
    text = f"ModelInfo(id='m', match={match}, prices={FLAT.format(1)})"
    run(tmp_path, genai(text), prices={})
    made = said("openai", "m", tmp_path)
    assert (made["match"], made.get("unless", [])) == (patterns, unless)


def test_what_a_price_depends_on_beside_tiers_is_named(tmp_path: Path) -> None:
    """A variant by search or by route is a tier that says so; one without prices is none."""
    variants = (
        "[PriceVariant(when={'search_type': 'fast'}, prices=ModelPrice(input_mtok=Decimal('1'))), "
        "PriceVariant(when={'search_type': 'web'}, prices=ModelPrice()), "
        "PriceVariant(when={'route': 'a/eu'}, prices=ModelPrice(input_mtok=Decimal('3')))]"
    )
    run(tmp_path, genai(model(variants=variants)), prices={})
    assert [tier for _, tier, _ in rows(tmp_path)] == ["default", "search_type:fast", "route:a/eu"]


def test_debris_of_floats_is_swept(tmp_path: Path) -> None:
    """A price that was a float once is cut where it no longer matters."""
    prices = FLAT.format("0.18000000000000002").replace("'10'", "'0.0833333333333333'")
    run(tmp_path, genai(model(prices=prices)), prices={})
    made = said("openai", "m", tmp_path)["prices"][0]["prices"]
    assert made == {"input": "0.18", "output": "0.083333333333"}
