"""Own rates: which one holds for a model, when, and what it costs then."""

from __future__ import annotations

from typing import Any

import pytest

from metering.core.prices import OwnRate, OwnRates, checked, is_snapshot
from metering.errors import InvalidRequest
from pricing.book import PriceBook, midnight_ms
from pricing.cost import cost
from pricing.rates import Rates
from tests.pricing.builders import entry, file, row

CACHED = {"input": "2.5", "cache_read": "1.25", "output": "10"}
BOOK = PriceBook(
    [
        file(
            "openai",
            entry(
                row(CACHED, above={"1000": {"input": "5"}}),
                row({"input": "1", "output": "4"}, tier="flex"),
                row({"input": "4", "cache_read": "2", "output": "16"}, since="2027-01-01"),
                name="gpt-4o",
                match=["gpt-4o", "gpt-4o-2024-08-06"],
            ),
            entry(row({"input": "0.15", "output": "0.6"}), name="gpt-4o-mini"),
        )
    ],
    "test",
)
BEFORE, AFTER = midnight_ms("2026-12-31"), midnight_ms("2027-01-01")


def rate(match: str = "openai/gpt-4o", **members: Any) -> OwnRate:
    """A rate; half the list's price unless told."""
    if "prices" not in members:
        members.setdefault("multiplier", "0.5")
    return OwnRate(match=match, **members)


def charged(*rates: OwnRate, model: str = "gpt-4o", at_ms: int = BEFORE) -> Rates:
    """What a model costs with these rates."""
    listed = BOOK.find("openai", model, at_ms)
    assert listed is not None
    return OwnRates(rates, "own-7").of(listed, at_ms)


def usd(rates: Rates, unit: str, tier: str = "default", tokens: int = 1) -> str:
    """The price of a million."""
    numerator, denominator = rates.ratio
    return f"{rates.tiers[tier].at(tokens)[unit] * numerator / denominator / 10**9:g}"


@pytest.mark.parametrize(
    ("multiplier", "units", "pico"),
    [
        ("0.5", {"input_text": 3}, 3 * 1_250_000),
        ("0.85", {"input_text": 1, "output_text": 1}, 2_125_000 + 8_500_000),
        ("1.2", {"cache_read": 7}, 7 * 1_500_000),
        ("0.333333", {"input_text": 1_000}, 833_332_500),
        ("0.000001", {"input_text": 1}, 2),  # 2.5 pico: half to even
        ("0.000001", {"input_text": 3}, 8),  # 7.5 pico: rounded once, for the line
    ],
)
def test_a_multiplier_is_exact(multiplier: str, units: dict[str, int], pico: int) -> None:
    """A line is units x list price x multiplier, rounded once, half to even, to the pico."""
    assert cost(units, charged(rate(multiplier=multiplier))).total_pico == pico


def test_a_multiplier_is_of_every_tier() -> None:
    """Service tiers and context tiers are multiplied as the base is."""
    found = charged(rate())
    assert (usd(found, "input"), usd(found, "input", tokens=1_001)) == ("1.25", "2.5")
    assert usd(found, "output", "flex") == "2"
    assert found.id == "openai/gpt-4o@undated*own-7"


def test_replaced_prices_hold_in_every_context() -> None:
    """They replace what the base tier lists; units without a price of their own follow them, those
    with one and the other tiers stay as they are listed."""
    found = charged(rate(prices={"input": "2", "web_search": "8"}))
    assert (usd(found, "input"), usd(found, "input", tokens=1_001)) == ("2", "2")
    assert usd(found, "input_text") == usd(found, "input_image") == "2"
    assert (usd(found, "cache_read"), usd(found, "output")) == ("1.25", "10")
    assert usd(found, "input", "flex") == "1"
    assert cost({"web_search": 3}, found).total_pico == 24 * 10**9
    assert found.id == "openai/gpt-4o@undated*own-7"


@pytest.mark.parametrize(
    ("rates", "usd_in"),
    [
        ([rate("openai/gpt-4o-mini")], "2.5"),
        ([rate("anthropic/*")], "2.5"),
        ([rate("*")], "1.25"),
        ([rate("*"), rate("openai/*", multiplier="0.8")], "2"),
        ([rate("openai/gpt-4*", multiplier="0.4"), rate("openai/*", multiplier="0.8")], "1"),
        ([rate("openai/gpt-4o*", multiplier="0.8"), rate(prices={"input": "3"})], "3"),
        ([rate(), rate(multiplier="0.4", since="2026-12-31")], "1"),
        ([rate(), rate(multiplier="0.4", since="2027-01-01")], "1.25"),
        ([rate("*"), rate(multiplier="0.4", since="2027-01-01")], "1.25"),
        ([rate(since="2027-01-01")], "2.5"),
        ([], "2.5"),
    ],
)
def test_the_most_specific_rate_holds_alone(rates: list[OwnRate], usd_in: str) -> None:
    """An exact name before a pattern, a longer pattern before a shorter, later before earlier."""
    assert usd(charged(*rates), "input") == usd_in


def test_a_rate_begins_at_midnight() -> None:
    """The list's date and the rate's are both kept to the millisecond, and the id has both."""
    rates = OwnRates([rate(multiplier="0.5", since="2027-01-01")], "own-7")
    for at_ms, price_id, price in (
        (AFTER - 1, "openai/gpt-4o@undated", "2.5"),
        (AFTER, "openai/gpt-4o@2027-01-01*own-7", "2"),
    ):
        listed = BOOK.find("openai", "gpt-4o-2024-08-06", at_ms)
        assert listed is not None
        found = rates.of(listed, at_ms)
        assert (found.id, usd(found, "input")) == (price_id, price)


def test_what_is_not_negotiated_is_the_lists_own() -> None:
    """The very rates of the list come back, and what was made once is kept."""
    rates = OwnRates([rate()], "own-7")
    mini = BOOK.find("openai", "gpt-4o-mini", BEFORE)
    listed = BOOK.find("openai", "gpt-4o", BEFORE)
    assert mini is not None
    assert listed is not None
    assert rates.of(mini, BEFORE) is mini
    assert rates.of(listed, BEFORE) is rates.of(listed, BEFORE)


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"match": "GPT-4o"}, "rates[0].match: give provider/model"),
        ({"match": "openai"}, "rates[0].match"),
        ({"match": "openai/*mini"}, "rates[0].match"),
        ({"match": ""}, "rates[0].match"),
        ({"since": "2027-1-1"}, "rates[0].from: '2027-1-1' is not a date"),
        ({"since": "2027-02-30"}, "rates[0].from"),
        ({"since": "20270101"}, "rates[0].from"),
        ({"multiplier": "-0.5"}, "rates[0].multiplier: '-0.5' is not a decimal above 0"),
        ({"multiplier": "0"}, "rates[0].multiplier"),
        ({"multiplier": "0.000"}, "rates[0].multiplier"),
        ({"multiplier": "10"}, "rates[0].multiplier"),
        ({"multiplier": "NaN"}, "rates[0].multiplier"),
        ({"multiplier": "1e-1"}, "rates[0].multiplier"),
        ({"multiplier": "1\n"}, "rates[0].multiplier"),
        ({"multiplier": None}, "rates[0].multiplier: give either"),
        ({"multiplier": "0.5", "prices": {"input": "1"}}, "rates[0].multiplier: give either"),
        ({"prices": {"inputs": "1"}}, "rates[0].prices.inputs: there is no such unit"),
        ({"prices": {"input": "-1"}}, "rates[0].prices.input: '-1' is not a plain decimal"),
        ({"prices": {"input": "NaN"}}, "rates[0].prices.input"),
        ({"prices": {"input": "Infinity"}}, "rates[0].prices.input"),
        ({"prices": {"input": "1,5"}}, "rates[0].prices.input"),
        ({"prices": {"input": "1e3"}}, "rates[0].prices.input"),
        ({"prices": {"input": "\N{ARABIC-INDIC DIGIT ONE}"}}, "rates[0].prices.input"),
    ],
)
def test_bad_rates_are_refused(members: dict[str, Any], words: str) -> None:
    """The message names the member at fault."""
    with pytest.raises(InvalidRequest) as refused:
        checked([rate(**members)])
    assert refused.value.message.startswith(words)
    assert refused.value.code == "invalid_own_prices"


def test_two_rates_of_one_match_and_date_are_refused() -> None:
    """Nobody could say which of them holds; and there is a limit to how many there are."""
    with pytest.raises(InvalidRequest, match=r"rates\[1\]\.from: another rate"):
        checked([rate(), rate(multiplier="0.7")])
    with pytest.raises(InvalidRequest, match="more than 500"):
        checked([rate(f"openai/m{number}") for number in range(501)])
    assert len(checked([rate(), rate(since="2027-01-01")])) == 2


@pytest.mark.parametrize(
    ("asked", "answered", "same"),
    [
        ("gpt-4o", "gpt-4o-2024-05-13", True),
        ("gpt-4o-2024-05-13", "gpt-4o", True),
        ("gpt-4", "gpt-4-0613", True),
        ("claude-3-5-haiku-latest", "claude-3-5-haiku-20241022", True),
        ("claude-opus-4", "claude-opus-4@20250514", True),
        ("GPT-4o", "gpt-4o", True),
        ("gpt-4o", "gpt-4o-mini", False),
        ("claude-opus-4", "claude-opus-4-1-20250805", False),
        ("gpt-4o-2024-05-13", "gpt-4o-2024-08-06", False),
        ("gpt-4", "gpt-4-32k", False),
    ],
)
def test_what_a_snapshot_is(asked: str, answered: str, *, same: bool) -> None:
    """The same name and a date: nothing else is the same model."""
    assert is_snapshot(asked, answered) is same
