from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.cost import cost
from pricing.rates import FEMTO_PER_USD, femto, line_pico
from pricing.units import INPUT_TOKENS, OUTPUT_TOKENS
from tests.pricing.builders import book, entry, rates, row, scope

PRICES = st.decimals("0", "1000", places=9)
COUNTS = st.integers(0, 2_000_000)


@pytest.mark.parametrize(
    ("price", "per", "femto_usd"),
    [
        ("0", 1_000_000, 0),
        ("2.5", 1_000_000, 2_500_000_000),
        ("0.0625", 1_000_000, 62_500_000),
        ("0.0011", 1_000_000, 1_100_000),
        ("10", 1_000, 10_000_000_000_000),
        ("0.36", 3_600, 100_000_000_000),
        ("0.0000000005", 1_000_000, 0),  # half a femto goes to the even side
        ("0.0000000015", 1_000_000, 2),
    ],
)
def test_prices_are_quantised_to_femto(price: str, per: int, femto_usd: int) -> None:
    """A price becomes whole femto-USD per unit, half-even, without a float on the way."""
    assert femto(price, per) == femto_usd


@given(PRICES, st.sampled_from([1_000, 3_600, 1_000_000]))
def test_femto_is_decimal_rounding(price: Decimal, per: int) -> None:
    """Quantising agrees with decimal arithmetic."""
    exact = (price * FEMTO_PER_USD / per).to_integral_value(ROUND_HALF_EVEN)
    assert femto(f"{price:f}", per) == int(exact)


@pytest.mark.parametrize(
    ("count", "price_femto", "pico"),
    [
        (0, 999, 0),
        (1, 499, 0),
        (1, 500, 0),
        (1, 501, 1),
        (3, 500, 2),
        (5, 500, 2),
        (1, 1500, 2),
        (-1, 1500, -2),
    ],
)
def test_a_line_is_rounded_half_even(count: int, price_femto: int, pico: int) -> None:
    """A line is rounded once, and ties go to the even side."""
    assert line_pico(count, price_femto) == pico


@given(
    st.integers(-(10**9), 10**9),
    st.integers(0, 10**13),
    st.sampled_from([(1, 1), (11, 10), (1, 2), (3, 7)]),
)
def test_a_line_agrees_with_decimals(count: int, price: int, ratio: tuple[int, int]) -> None:
    """Integer lines are what an exact decimal quantises to, multipliers included."""
    numerator, denominator = ratio
    scaled = Decimal(count * price * numerator)
    # The quotient is exact enough: a tie needs a finite expansion, which 60 digits hold.
    with localcontext() as context:
        context.prec = 60
        expected = (scaled / (1000 * denominator)).to_integral_value(ROUND_HALF_EVEN)
    assert line_pico(count, price, ratio) == int(expected)


TIERED = row(
    {"input": "2", "output": "10", "web_search": "10"},
    above={"200000": {"input": "4", "output": "15"}},
)


@pytest.mark.parametrize(
    ("input_tokens", "input_usd_per_mtok"),
    [(0, 2), (199_999, 2), (200_000, 2), (200_001, 4), (1_000_000, 4)],
)
def test_the_context_tier_starts_above_its_number(
    input_tokens: int, input_usd_per_mtok: int
) -> None:
    """A request at the number has the lower price; one token more, and all of it has the higher."""
    prices = rates(TIERED).tiers["default"].at(input_tokens)
    assert prices["input_text"] == input_usd_per_mtok * 10**9
    assert prices["web_search"] == 10**13


@pytest.mark.parametrize(
    ("service_tier", "billed"),
    [
        (None, "default"), ("", "default"), ("default", "default"), ("auto", "default"),
        ("standard", "default"), ("standard_only", "default"),
        ("flex", "flex"), ("priority", "priority"), ("scale", "default"),
    ],
)  # fmt: skip
def test_a_tier_without_prices_is_the_base(service_tier: str | None, billed: str) -> None:
    """The answer's tier decides; one the model has no prices for is billed at the base."""
    found = rates(row(), row(tier="flex"), row(tier="priority"))
    assert found.tier(service_tier) == billed


@pytest.mark.parametrize(
    ("arguments", "dollars_in", "dollars_out"),
    [
        ({}, "88", "110"),  # cache write for an hour, long context, priority, scope
        ({"service_tier": "default"}, "17.6", "22"),
        ({"service_tier": "flex"}, "17.6", "22"),
        ({"service_tier": "auto"}, "88", "110"),
        ({"scope": "global"}, "80", "100"),
        ({"scope": "us"}, "88", "110"),
        ({"without": {"cache_write_1h"}}, "44", "110"),
        ({"without": INPUT_TOKENS}, "0", "110"),
        ({"without": OUTPUT_TOKENS, "scope": "eu"}, "80", "0"),
    ],
)
def test_a_ceiling_takes_the_dearest_that_can_apply(
    arguments: dict[str, object], dollars_in: str, dollars_out: str
) -> None:
    """Premiums, long context, tiers and scopes all count, but for what the caller rules out."""
    long = {"input": "8", "cache_write_1h": "16", "output": "20"}
    found = rates(
        row({"input": "4", "cache_write_1h": "8", "output": "10"}, above={"200000": long}),
        row({"input": "2", "output": "5"}, tier="flex"),
        row({"input": "40", "cache_write_1h": "80", "output": "100"}, tier="priority"),
        scopes=[scope("us", "1.1")],
    )
    pico = found.ceiling(10**6, 10**6, **arguments)  # type: ignore[arg-type]
    assert pico == (Decimal(dollars_in) + Decimal(dollars_out)) * 10**12


def test_a_ceiling_sees_only_context_tiers_within_reach() -> None:
    """A request that cannot pass the threshold is not bounded by the prices beyond it."""
    found = rates(TIERED)
    assert found.ceiling(200_000, 0) == 200_000 * 2_000_000
    assert found.ceiling(200_001, 0) == 200_001 * 4_000_000


def test_a_ceiling_counts_fees() -> None:
    """Tool calls, up to their number of uses, and the request's own fee are in the bound."""
    found = rates(row({"input": "2", "output": "10", "web_search": "10", "requests": "5"}))
    assert found.ceiling(0, 0) == 5 * 10**9
    assert found.ceiling(0, 0, counts={"web_search": 3, "parrots": 1}) == 35 * 10**9


def test_a_ceiling_rounds_up() -> None:
    """A bound is never below what rounding makes of the lines."""
    assert rates(row({"input": "0.0000001", "output": "0"})).ceiling(3, 0) == 3


PER_IMAGE = {"image_1024x1024": "0.02", "image_hd_1024x1024": "0.08", "image_hd_1024x1792": "0.12"}


@pytest.mark.parametrize(
    ("prices", "counts", "usd"),
    [
        (PER_IMAGE, {"image_hd_1024x1792": 2}, "0.24"),
        (PER_IMAGE, {"image_1024x1024": 3, "image_hd_1024x1024": 1}, "0.14"),
        # a size that has no price is not charged as another
        (PER_IMAGE, {"image_256x256": 1}, "0"),
        (PER_IMAGE, {"images": 2}, "0"),
        # but as any image, where all cost the same
        ({"images": "0.04"}, {"image_256x256": 1}, "0.04"),
        # a standard one is of its size
        (PER_IMAGE, {"image_standard_1024x1024": 1}, "0.02"),
        ({"audio_seconds": "0.36"}, {"audio_seconds": 90}, "0.009"),
        ({"input_characters": "15"}, {"input_characters": 4_096}, "0.06144"),
        ({"input": "2", "output": "8", "container_4g": "0.12"}, {"container_4g": 2}, "0.24"),
    ],
)  # fmt: skip
def test_what_is_counted_bounds_exactly(
    prices: dict[str, str], counts: dict[str, int], usd: str
) -> None:
    """Images, seconds, characters and sessions that are known cost what is likely and at most."""
    found = rates(row(prices))
    pico = Decimal(usd) * 10**12
    assert found.ceiling(0, 0, counts=counts) == pico
    assert found.likely(0, 0, counts=counts) == pico
    assert cost(counts, found).total_pico == pico


@pytest.mark.parametrize(
    ("prices", "counts", "unsaid"),
    [
        ({"input": "2", "output": "8"}, {}, None),
        ({"input": "2", "web_search": "10", "container_1g": "0.03", "requests": "1"}, {}, None),
        (PER_IMAGE, {}, "images"),
        (PER_IMAGE, {"image_hd_1024x1792": 2}, None),
        (PER_IMAGE, {"images": 2}, "images"),  # of which size, is not said
        (PER_IMAGE, {"image_256x256": 2}, "images"),
        ({"images": "0.04"}, {"image_256x256": 2}, None),
        ({"audio_seconds": "0.36"}, {}, "durations"),
        ({"audio_seconds": "0.36"}, {"audio_seconds": 9}, None),
        ({"input_characters": "15"}, {"audio_seconds": 9}, "characters"),
        ({"input_characters": "15"}, {"input_characters": 9}, None),
        ({"input": "2", "images": "0.04"}, {}, "images"),
    ],
)
def test_what_bounds_a_cost_must_be_said(
    prices: dict[str, str], counts: dict[str, int], unsaid: str | None
) -> None:
    """A model billed by the image, second or character has a bound when their number is known."""
    assert rates(row(prices)).unbounded_by(counts) == unsaid


def test_tokens_bound_what_is_billed_by_tokens() -> None:
    """A model billed by the second says that a number of tokens bounds nothing."""
    assert rates().by_tokens
    assert rates(row({"input": "0", "output": "0"})).by_tokens
    assert not rates(row({"audio_seconds": "0.36"})).by_tokens


@pytest.mark.parametrize(
    ("where", "ratio"),
    [
        (None, (1, 1)), ("", (1, 1)), ("global", (1, 1)), ("datazone", (6, 5)),
        ("datazone.us", (11, 10)), ("datazone.eu", (6, 5)), ("region.westus", (1, 1)),
    ],
)  # fmt: skip
def test_a_part_of_a_scope_falls_back_to_the_whole(
    where: str | None, ratio: tuple[int, int]
) -> None:
    """A data zone without a multiplier of its own has that of data zones."""
    found = rates(row(), scopes=[scope("datazone", "1.2"), scope("datazone.us", "1.1")])
    assert found.multiplier(where) == ratio
    assert rates(row()).multiplier(where) == (1, 1)


@given(COUNTS, COUNTS, st.sampled_from([None, "flex"]), st.sampled_from([None, "us"]))
def test_likely_is_the_cost_of_plain_text(
    tokens_in: int, tokens_out: int, tier: str | None, where: str | None
) -> None:
    """What a call is likely to cost is, to the pico, what the same tokens cost once used."""
    found = rates(TIERED, row({"input": "0.0000007"}, tier="flex"), scopes=[scope("us", "1.1")])
    used = cost({"input_text": tokens_in, "output_text": tokens_out}, found, tier, where)
    assert found.likely(tokens_in, tokens_out, tier, where) == used.total_pico


LISTED = rates(
    row({"input": "3", "cache_read": "0.3", "output": "15", "web_search": "10"},
        above={"200000": {"input": "6", "output": "22.5"}}),
    row({"input": "1.5", "output": "7.5"}, tier="batch"),
    scopes=[scope("us", "1.1")],
)  # fmt: skip
USED = {"input_text": 333, "cache_read": 7, "output_text": 11, "web_search": 1}


@given(st.integers(0, 400), st.integers(1, 400), st.sampled_from([None, "us"]))
def test_scaled_rates_are_an_exact_ratio(numerator: int, denominator: int, where: str) -> None:
    """Every line, fees included, is the list's at the ratio, rounded once; so are the bounds."""
    scaled = LISTED.scaled(numerator, denominator)
    for unit, pico in cost(USED, scaled, scope=where).lines.items():
        femto_each = LISTED.tiers["default"].at(0)[unit]
        factor = Fraction(11, 10) if where and unit != "web_search" else Fraction(1)
        exact = Fraction(USED[unit] * femto_each * numerator, 1000 * denominator) * factor
        assert abs(pico - exact) <= Fraction(1, 2)
    assert scaled.ceiling(1_000, 1_000, scope=where) >= scaled.likely(1_000, 1_000, None, where)
    assert scaled.likely(333, 11, None, where) == sum(
        cost({"input_text": 333, "output_text": 11}, scaled, scope=where).lines.values()
    )


def test_a_scaled_version_says_so() -> None:
    """The id names the ratio, ratios multiply in lowest terms, and the list stays as it was."""
    twice = LISTED.scaled(9, 10).scaled(5, 9)
    assert twice.id == f"{LISTED.id}*9/10*5/9"
    assert twice.ratio == (1, 2)
    assert LISTED.ratio == (1, 1)
    assert LISTED.scaled(0, 1).likely(1_000, 1_000) == 0
    for numerator, denominator in ((-1, 2), (1, 0), (1, -2)):
        with pytest.raises(ValueError, match="is not a ratio of prices"):
            LISTED.scaled(numerator, denominator)


def test_replaced_prices_hold_in_every_context() -> None:
    """An agreed price replaces the list's at its tier; what borrows it follows, the rest stays."""
    agreed = LISTED.replaced({"input": "2", "output": "10"})
    assert agreed.id == f"{LISTED.id}[default:input=2,output=10]"
    for tokens in (0, 300_000):
        prices = agreed.tiers["default"].at(tokens)
        assert (prices["input_text"], prices["cache_write"]) == (2 * 10**9, 2 * 10**9)
        assert prices["cache_read"] == LISTED.tiers["default"].at(tokens)["cache_read"]
    assert agreed.tiers["batch"] is LISTED.tiers["batch"]
    batch = LISTED.replaced({"input": "1"}, "batch")
    assert batch.tiers["batch"].at(0)["input"] == 10**9
    assert batch.tiers["default"] is LISTED.tiers["default"]
    flex = LISTED.replaced({"input": "1"}, "flex")  # a tier that the list has not
    assert flex.tiers["flex"].at(0)["output"] == 15 * 10**9


@pytest.mark.parametrize("numerator", [1, 2, 7])
def test_what_is_agreed_of_scaled_rates_is_not_scaled(numerator: int) -> None:
    """The agreed price is what it says, the others keep their ratio; both are exact."""
    agreed = LISTED.scaled(numerator, 3).replaced({"output": "0.000001"})
    listed = cost(USED, LISTED.scaled(numerator, 3)).lines
    found = cost({**USED, "output_text": 3_000_001}, agreed).lines
    assert found == {**listed, "output_text": 3_000_001}
    assert cost(USED, agreed.scaled(3, 1)).lines["output_text"] == 33
    assert agreed.ceiling(1_000, 10**6) >= agreed.likely(1_000, 10**6)
    batch = cost(USED, agreed, "batch").lines
    assert (
        batch["input_text"] == cost(USED, LISTED.scaled(numerator, 3), "batch").lines["input_text"]
    )


@pytest.mark.parametrize(("seconds", "billed"), [(0, 0), (3, 10), (10, 10), (11, 11)])
def test_a_minimum_is_billed(seconds: int, billed: int) -> None:
    """A provider that bills at least so many seconds does, of a call that has any."""
    entry_of = entry(row({"audio_seconds": "3.6"}), at_least={"audio_seconds": 10})
    found = book(entry_of).find("p", "m", 0)
    assert found is not None
    counts = {"audio_seconds": seconds}
    assert cost(counts, found).total_pico == billed * 10**9
    assert found.likely(0, 0, counts=counts) == billed * 10**9
    assert found.ceiling(0, 0, counts=counts) == billed * 10**9
