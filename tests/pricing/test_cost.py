from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.cost import cost
from pricing.units import UNITS, leaves
from tests.pricing.builders import rates, row, scope

CLAUDE = row(
    {
        "input": "3", "cache_read": "0.3", "cache_write": "3.75", "cache_write_1h": "6",
        "output": "15", "web_search": "10",
    }
)  # fmt: skip
M = 1_000_000
"""Pico-USD per token of one USD per million tokens."""


@pytest.mark.parametrize(
    ("counts", "lines"),
    [
        ({"input": 550, "output": 120},
         {"input_text": 550 * 3 * M, "output_text": 120 * 15 * M}),
        ({"input": 1100, "cache_read": 1000, "output": 5},
         {"input_text": 100 * 3 * M, "cache_read": 300 * M, "output_text": 5 * 15 * M}),
        # a five-minute write is a cache write; an hour's has its own price
        ({"input": 300, "cache_write_5m": 200, "cache_write_1h": 100, "output": 0},
         {"input_text": 0, "cache_write_5m": 750 * M, "cache_write_1h": 600 * M, "output_text": 0}),
        # reasoning is output, at output's price, until it has its own
        ({"output": 10, "reasoning": 7},
         {"output_text": 45 * M, "reasoning": 105 * M}),
        # so are audio and images, in and out
        ({"input": 30, "input_audio": 10, "input_image": 20, "output": 9, "output_audio": 9},
         {"input_text": 0, "input_audio": 30 * M, "input_image": 60 * M, "output_text": 0,
          "output_audio": 135 * M}),
        ({"input": 1, "web_search": 3},
         {"input_text": 3 * M, "web_search": 3 * 10_000 * M}),
    ],
)  # fmt: skip
def test_every_unit_has_its_line(counts: dict[str, int], lines: dict[str, int]) -> None:
    """A unit is billed at its own price, or at that of the nearest unit that contains it."""
    priced = cost(leaves(counts), rates(CLAUDE))
    assert priced.lines == lines
    assert priced.total_pico == sum(lines.values()) == priced.input_pico + priced.output_pico
    assert priced.unpriced == ()


@pytest.mark.parametrize(
    ("units", "unpriced"),
    [
        ({"web_search": 1}, ("web_search",)),
        ({"my_own": 1, "input_text": 1}, ("my_own",)),
        ({"audio_seconds": 2}, ("audio_seconds",)),
        ({"web_search": 0}, ()),
        ({"requests": 1}, ()),  # a fee per request exists only where one is listed
    ],
)
def test_a_unit_without_a_price_says_so(units: dict[str, int], unpriced: tuple[str, ...]) -> None:
    """What was used and has no price is named, and is not a line of zero."""
    priced = cost(units, rates())
    assert priced.unpriced == unpriced
    assert not set(priced.lines) & set(unpriced)


def test_a_price_of_zero_is_a_price() -> None:
    """An explicit zero is a line of zero, not an unpriced unit."""
    priced = cost({"input_text": 5}, rates(row({"input": "0", "output": "0"})))
    assert (priced.lines, priced.unpriced) == ({"input_text": 0}, ())


@pytest.mark.parametrize(
    ("counts", "dollars_per_mtok"),
    [
        ({"input": 200_000, "cache_read": 199_999}, 1),
        ({"input": 200_001, "cache_read": 200_000}, 10),
    ],
)
def test_the_whole_input_decides_the_context_tier(
    counts: dict[str, int], dollars_per_mtok: int
) -> None:
    """Cached and written tokens count towards the threshold, and the whole call changes price."""
    found = rates(row({"input": "1", "output": "1"}, above={"200000": {"input": "10"}}))
    assert cost(leaves(counts), found).total_pico == counts["input"] * dollars_per_mtok * M


@pytest.mark.parametrize(
    ("service_tier", "scope_name", "total", "billed_at"),
    [
        (None, None, 2 + 10 + 10_000, "default"),
        ("default", "global", 2 + 10 + 10_000, "default"),
        ("batch", None, 1 + 5 + 10_000, "batch"),
        ("unheard_of", None, 2 + 10 + 10_000, "default"),
        (None, "us", 2.2 + 11 + 10_000, "default"),  # fees are no tokens
        ("batch", "us", 1.1 + 5.5 + 10_000, "batch"),
    ],
)
def test_the_answers_tier_and_scope_decide(
    service_tier: str | None, scope_name: str | None, total: float, billed_at: str
) -> None:
    """A tier replaces the prices it lists; a scope multiplies token prices, and only those."""
    found = rates(
        row({"input": "2", "output": "10", "web_search": "10"}),
        row({"input": "1", "output": "5"}, tier="batch"),
        scopes=[scope("us", "1.1")],
    )
    used = cost(
        {"input_text": 1, "output_text": 1, "web_search": 1}, found, service_tier, scope_name
    )
    assert used.total_pico == round(total * M)
    assert used.service_tier == billed_at


TIERED = rates(
    row(
        {"input": "2.5", "cache_read": "0.0000125", "output": "10.01", "web_search": "10",
         "images": "0.04", "image_hd_1024x1024": "0.0800001", "audio_seconds": "0.0036001"},
        above={"272000": {"input": "5", "cache_read": "1", "output": "15" }},
    ),
    row({"input": "4.25", "cache_read": "2.125", "output": "17"}, tier="priority"),
    scopes=[scope("us", "1.1")],
)  # fmt: skip
UNITS_USED = st.dictionaries(st.sampled_from(sorted(UNITS)), st.integers(0, 400_000))


@given(UNITS_USED, st.sampled_from([None, "priority"]), st.sampled_from([None, "us"]))
def test_a_total_is_the_sum_of_its_lines(
    units: dict[str, int], tier: str | None, where: str | None
) -> None:
    """Whatever was used, lines, input and output add up to the total, and no ceiling is passed."""
    used = cost(units, TIERED, tier, where)
    assert used.total_pico == sum(used.lines.values()) == used.input_pico + used.output_pico
    tokens_in = sum(
        n for unit, n in units.items() if UNITS[unit].tokens and "input" in UNITS[unit].wire
    )
    tokens_out = sum(n for unit, n in units.items() if UNITS[unit].tokens) - tokens_in
    counts = {unit: n for unit, n in units.items() if not UNITS[unit].tokens}
    assert used.total_pico <= TIERED.ceiling(tokens_in, tokens_out, counts=counts)


@given(UNITS_USED)
def test_a_correction_is_the_mirror_image(units: dict[str, int]) -> None:
    """Half-even rounding is symmetric: taking back what was charged leaves nothing."""
    found = rates(row({"input": "0.00000015", "output": "0.00000033"}))
    charged = cost(units, found).lines
    taken_back = cost({unit: -count for unit, count in units.items()}, found).lines
    assert taken_back == {unit: -pico for unit, pico in charged.items()}
