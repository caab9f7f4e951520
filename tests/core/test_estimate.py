from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.core.estimate import NEW_SHARE, SAMPLES, SAMPLES_MIN, Learned, bounds, unbounded
from metering.core.reach import Reach
from pricing.cost import cost
from pricing.load import load
from pricing.rates import Rates
from pricing.units import UNITS, leaves
from tests.pricing.builders import rates

BOOK = load()
NOW_MS = 1_795_000_000_000


def priced(provider: str, model: str) -> Rates:
    found = BOOK.find(provider, model, NOW_MS)
    assert found is not None
    return found


GPT_4O = priced("openai", "gpt-4o")
CLAUDE = priced("anthropic", "claude-sonnet-4-5")
MODELS = sorted(
    (provider, entry.match[0].strip("*").replace("#", "1")) for provider, entry in BOOK.models()
)


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-4o-mini", "gpt-4", "gpt-5.6-sol", "o3"])
@pytest.mark.parametrize("tier", [None, "auto", "default", "flex", "priority"])
@given(tokens=st.integers(0, 600_000), cap=st.integers(0, 1_000), choices=st.integers(1, 8))
def test_likely_is_exact_for_openai_under_a_cap(
    model: str, tier: str | None, tokens: int, cap: int, choices: int
) -> None:
    """A provider that bills the counted prompt and the whole cap bills, to the pico, the likely."""
    found = priced("openai", model)
    billed = cost(leaves({"input": tokens, "output": cap * choices}), found, tier)
    made = bounds(
        found,
        input_tokens=tokens,
        prompt_bytes=tokens * 4,
        output_cap=cap,
        choices=choices,
        service_tier=tier,
    )
    assert made.likely_pico == billed.total_pico
    assert made.likely_tokens == tokens + cap * choices


@pytest.mark.parametrize(
    ("found", "arguments", "likely_tokens"),
    [
        # nothing learned: the tokenizer's count times the first factor, and 1,000 tokens of output
        (GPT_4O, {}, 100 + 1_000),
        (CLAUDE, {}, 135 + 1_000),
        (rates(), {}, 110 + 1_000),
        # the smaller of cap and learned, times the choices
        (GPT_4O, {"output_cap": 50, "choices": 3}, 100 + 150),
        (GPT_4O, {"output_cap": 0}, 100),
        (GPT_4O, {"output_cap": 5_000}, 100 + 1_000),
        (GPT_4O, {"output_cap": 5_000, "output_tokens": 2_000}, 100 + 2_000),
        (GPT_4O, {"output_cap": 50, "output_tokens": 2_000}, 100 + 50),
        (GPT_4O, {"output_tokens": 0}, 100),
        (GPT_4O, {"output_tokens": 10**9}, 100 + 16_384),
        # a learned factor, rounded up; never more tokens than bytes
        (GPT_4O, {"input_factor_ppm": 1_234_567}, 124 + 1_000),
        (CLAUDE, {"prompt_bytes": 120}, 120 + 1_000),
        # counted without bytes (nothing to bound with): what was counted stands
        (CLAUDE, {"prompt_bytes": 0}, 100 + 1_000),
    ],
)
def test_what_is_likely(found: Rates, arguments: dict[str, Any], likely_tokens: int) -> None:
    """Likely is what was learned, or the first guess, within what the request allows."""
    made = bounds(found, **{"input_tokens": 100, "prompt_bytes": 400} | arguments)
    assert made.likely_tokens == likely_tokens


@pytest.mark.parametrize(
    ("found", "output_cap", "ceiling_tokens", "why"),
    [
        (GPT_4O, 50, 400 + 2 * 50, None),
        (GPT_4O, None, 400 + 2 * 16_384, None),  # the model's own bound
        (priced("anthropic", "claude-fable-5-2"), None, 400 + 2 * 1_000_000, None),  # its window
        (rates(), None, 400 + 2 * 1_000_000, "no output cap, and none is known of m"),
        (rates(), 50, 400 + 2 * 50, None),
        (
            priced("openai", "whisper-1"),
            50,
            400 + 2 * 50,
            "priced by durations, and the request does not say how many",
        ),
    ],
)
def test_what_is_bounded(
    found: Rates, output_cap: int | None, ceiling_tokens: int, why: str | None
) -> None:
    """The cap bounds the output, else the model's, else its window; else it says there is none."""
    made = bounds(found, input_tokens=100, prompt_bytes=400, output_cap=output_cap, choices=2)
    assert made.ceiling_tokens == ceiling_tokens
    reason = unbounded(found, output_cap)
    assert (reason is None) if why is None else (reason and why in reason)


@pytest.mark.parametrize(
    ("model", "counts", "usd", "why"),
    [
        ("dall-e-3", {"image_hd_1024x1792": 2}, "0.24", None),
        ("dall-e-3", {"images": 2}, "0", "priced by images"),
        ("tts-1", {"input_characters": 1_000}, "0.015", None),
        ("tts-1", {}, "0", "priced by characters"),
        ("whisper-1", {"audio_seconds": 60}, "0.006", None),
    ],
)
def test_what_the_request_says_bounds_its_cost(
    model: str, counts: dict[str, int], usd: str, why: str | None
) -> None:
    """Images, seconds and characters that a request states are its likely and its highest cost."""
    found = priced("openai", model)
    made = bounds(found, input_tokens=5, prompt_bytes=50, counts=counts)
    assert made.likely_pico == made.ceiling_pico == Decimal(usd) * 10**12
    reason = unbounded(found, None, counts)
    assert (reason is None) if why is None else (reason and why in reason)


SEARCHES = Reach(whole_context=True, passes=11, fees={"web_search": 3})


@pytest.mark.parametrize(
    ("found", "reach", "ceiling_tokens", "why"),
    [
        (CLAUDE, Reach(), 400 + 50, None),
        # images in place of their base64; a prediction's tokens are output that no cap counts
        (CLAUDE, Reach(not_text_bytes=300, input_tokens=5_000), 5_100 + 50, None),
        (GPT_4O, Reach(output_tokens=7), 400 + 57, None),
        # what bytes do not show is the window, or more where more than that has a price
        (GPT_4O, Reach(whole_context=True), 128_000 + 50, None),
        (CLAUDE, Reach(whole_context=True), 1_000_000 + 50, None),
        (rates(), Reach(whole_context=True), 1_000_000 + 50, "no context window is known of m"),
        # each pass reads all of it, or what there was and what it wrote
        (GPT_4O, SEARCHES, 11 * (128_000 + 50), None),
        (GPT_4O, Reach(passes=3), 3 * (400 + 3 * 50) + 3 * 50, None),
        (GPT_4O, Reach(unbounded="tools has no bound"), 400 + 50, "tools has no bound"),
    ],
)
def test_what_bytes_do_not_bound(
    found: Rates, reach: Reach, ceiling_tokens: int, why: str | None
) -> None:
    """Is bounded by what the request reaches for, and is no part of what is likely."""
    made = bounds(found, input_tokens=100, prompt_bytes=400, output_cap=50, reach=reach)
    plain = bounds(found, input_tokens=100, prompt_bytes=400, output_cap=50)
    assert made.ceiling_tokens == ceiling_tokens
    assert (made.likely_pico, made.likely_tokens) == (plain.likely_pico, plain.likely_tokens)
    reason = unbounded(found, 50, reach=reach)
    assert (reason is None) if why is None else (reason and why in reason)


def test_an_image_has_a_cap_of_its_own() -> None:
    """Its vendor's table stands in for a cap that nobody can set; a cap that is set goes before."""
    found = priced("openai", "gpt-image-1-mini")
    reach = Reach(output_cap=408)
    assert "sets no output cap" in (unbounded(found, None) or "")
    assert unbounded(found, None, reach=reach) is None
    made = bounds(found, input_tokens=5, prompt_bytes=50, choices=2, reach=reach)
    assert made.ceiling_tokens == 50 + 2 * 408
    capped = bounds(found, input_tokens=5, prompt_bytes=50, output_cap=9, reach=reach)
    assert capped.ceiling_tokens == 50 + 9


TIERS = st.sampled_from([None, "default", "flex", "priority", "fast", "batch", "nonsense"])
PARTS = ("input_audio", "input_image", "cache_read", "cache_write_5m", "cache_write_1h")


@given(data=st.data(), model=st.sampled_from(MODELS), prompt=st.integers(0, 400_000), tier=TIERS)
def test_no_call_costs_more_than_its_ceiling(
    data: st.DataObject, model: tuple[str, str], prompt: int, tier: str | None
) -> None:
    """However the tokens of a call turn out to be billed, its ceiling was at least that."""
    found = priced(*model)
    cap, choices = data.draw(st.integers(0, 50_000)), data.draw(st.integers(1, 4))
    searches = data.draw(st.integers(0, 5))
    made = bounds(
        found,
        input_tokens=data.draw(st.integers(0, prompt)),
        prompt_bytes=prompt,
        output_cap=cap,
        choices=choices,
        reach=Reach(fees={"web_search": searches}),
    )
    left = data.draw(st.integers(0, prompt))
    counts = {"input": left}
    for part in PARTS:
        counts[part] = data.draw(st.integers(0, left))
        left -= counts[part]
    counts["output"] = data.draw(st.integers(0, cap * choices))
    counts["reasoning"] = data.draw(st.integers(0, counts["output"]))
    counts["output_audio"] = counts["output"] - counts["reasoning"]
    counts |= {"web_search": searches, "requests": 1}
    where = data.draw(st.sampled_from([None, "us", "eu", "global", "datazone.eu"]))
    used = cost(leaves(counts), found, tier, where)
    assert used.total_pico <= made.ceiling_pico
    assert made.likely_pico <= made.ceiling_pico
    assert made.likely_tokens <= made.ceiling_tokens


def test_a_ceiling_takes_what_the_caller_knows() -> None:
    """A call that writes no cache and names its tier is not bounded by those premiums."""
    writes = {name for name in UNITS if name.startswith("cache_write")}
    narrow = bounds(
        CLAUDE,
        input_tokens=10,
        prompt_bytes=100,
        output_cap=10,
        service_tier="standard",
        without=writes,
    )
    wide = bounds(CLAUDE, input_tokens=10, prompt_bytes=100, output_cap=10)
    assert narrow.ceiling_pico == (100 * 3 + 10 * 15) * 10**6
    assert wide.ceiling_pico == (100 * 6 + 10 * 15) * 10**6


def learned_from(*samples: tuple[int, int, int]) -> Learned:
    """What (estimated input, actual input, output) samples teach."""
    learned = Learned()
    for estimated, actual, output in samples:
        learned.observe(
            "app", "m", estimated_input=estimated, actual_input=actual, output_tokens=output
        )
    return learned


@pytest.mark.parametrize(
    ("samples", "factor_ppm", "output_tokens"),
    [
        ([], None, None),
        ([(100, 120, 7)] * (SAMPLES_MIN - 1), None, None),
        ([(100, 120, 7)] * SAMPLES_MIN, 1_200_000, 7),
        ([(3, 4, 0)] * SAMPLES_MIN, 1_333_334, 0),
        # p95 by nearest rank: one outlier in twenty is the tail, two are not
        ([(100, 100, 5)] * 19 + [(100, 900, 500)], 1_000_000, 5),
        ([(100, 100, 5)] * 18 + [(100, 900, 500)] * 2, 9_000_000, 500),
        # the latest samples count
        ([(100, 900, 500)] * 9 + [(100, 100, 5)] * (SAMPLES + SAMPLES // NEW_SHARE), 1_000_000, 5),
        # a prompt that was not counted says nothing of the factor
        ([(0, 900, 5)] * SAMPLES_MIN, None, 5),
        ([(100, 100, 10**30)] * SAMPLES_MIN, 1_000_000, 2**63 - 1),
    ],
)
def test_what_is_learned(
    samples: list[tuple[int, int, int]], factor_ppm: int | None, output_tokens: int | None
) -> None:
    """Factor and output are the p95 of about the latest calls, once there are enough of them."""
    learned = learned_from(*samples)
    assert learned.input_factor_ppm("m") == factor_ppm
    assert learned.output_tokens("app", "m") == output_tokens


def test_what_is_learned_is_learned_apart() -> None:
    """Output belongs to an application and a model, the factor to a model alone."""
    learned = learned_from(*[(100, 120, 7)] * SAMPLES_MIN)
    assert learned.output_tokens("other", "m") is None
    assert learned.output_tokens("app", "other") is None
    assert learned.input_factor_ppm("other") is None


def test_memory_is_bounded() -> None:
    """The least recently used is forgotten first; reading counts as use."""
    learned = Learned(keys_max=2)
    for model in ("a", "b"):
        for _ in range(SAMPLES_MIN):
            learned.observe("app", model, estimated_input=1, actual_input=1, output_tokens=3)
    assert learned.output_tokens("app", "a") == 3
    learned.observe("app", "c", estimated_input=1, actual_input=1, output_tokens=3)
    assert learned.output_tokens("app", "a") == 3
    assert learned.output_tokens("app", "b") is None
