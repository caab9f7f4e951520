"""A million generated calls, of every model that has a price: none costs more than its ceiling.

A provider is played that bills as dearly as its rules let it: any service tier that was not ruled
out, any scope, every kind of token, each pass of its tools over what came before.
"""

from __future__ import annotations

from random import Random
from typing import Literal, NamedTuple

from metering.core.estimate import bounds, unbounded
from metering.core.reach import Reach
from pricing.cost import cost
from pricing.load import load
from pricing.rates import Rates
from pricing.units import leaves

AT_MS = 1_795_000_000_000
CALLS = {"ci": 20_000, "full": 1_000_000, "soak": 4_000_000}
SEED = 20_261_128
KINDS_IN = (
    *("cache_read", "cache_write_5m", "cache_write_1h", "cache_write_12h", "input_tool"),
    *("input_audio", "input_image", "input_video", "input_document"),
)
KINDS_OUT = ("reasoning", "output_audio", "output_image", "citation")
FEES = ("web_search", "file_search", "code_execution", "web_fetch", "container_1g", "container_64g")
SAID = (None, None, "auto", "default", "flex", "priority", "fast", "batch", "standard_only", "odd")
NOT_DEARER = {"default", "flex", "batch"}
SCOPES = (None, "us", "eu", "global", "datazone", "datazone.us", "region")
PROVIDERS = ("openai", "anthropic", "azure")


class Asked(NamedTuple):
    """A request, as far as its cost depends on it."""

    prompt_bytes: int
    cap: int | None
    choices: int
    tier: str | None
    reach: Reach


def catalogue() -> list[Rates]:
    """The rates of every model; those of the providers that are metered thrice."""
    book = load()
    found = []
    for provider, entry in book.models():
        rates = book.find(provider, entry.match[0].strip("*").replace("#", "1"), AT_MS)
        if rates is not None:
            found += [rates] * (3 if provider in PROVIDERS else 1)
    return found


def size_of(random: Random, most: int) -> int:
    """A number up to `most`: small ones as often as large ones, and often one of the ends."""
    if random.random() < 0.2:
        return random.choice((0, most))
    return min(most, int(2 ** random.uniform(0, max(1, most).bit_length())))


def request(random: Random) -> Asked:
    """What somebody may ask for."""
    prompt_bytes = size_of(random, 2_000_000)
    uses = {fee: size_of(random, 30) for fee in FEES if random.random() < 0.1}
    return Asked(
        prompt_bytes=prompt_bytes,
        cap=size_of(random, 200_000) if random.random() < 0.7 else None,
        choices=random.choice((1, 1, 1, 2, 8)),
        tier=random.choice(SAID),
        reach=Reach(
            not_text_bytes=size_of(random, prompt_bytes) if random.random() < 0.2 else 0,
            input_tokens=size_of(random, 50_000) if random.random() < 0.3 else 0,
            output_tokens=size_of(random, 5_000) if random.random() < 0.1 else 0,
            whole_context=random.random() < 0.2,
            passes=random.choice((1, 1, 1, 2, 11)),
            fees=uses,
        ),
    )


def split(random: Random, total: int, kinds: tuple[str, ...]) -> dict[str, int]:
    """Some of a total by kind; what is left is plain text."""
    found = {}
    for kind in random.sample(kinds, random.randint(0, 3)):
        found[kind] = size_of(random, total)
        total -= found[kind]
    return found


def billed(random: Random, asked: Asked, rates: Rates) -> dict[str, int]:
    """The usage of an answer, as large as its request allows or less."""
    reach = asked.reach
    each = asked.cap
    if each is None:
        each = rates.max_output_tokens or rates.context_window or 0
    read = written = 0
    for _ in range(random.randint(1, reach.passes)):
        most = asked.prompt_bytes - reach.not_text_bytes + reach.input_tokens + written
        if reach.whole_context:
            most = rates.context_window or 0
        read += size_of(random, most)
        written += size_of(random, each * asked.choices)
    written += size_of(random, reach.output_tokens)
    counts = {"input": read, **split(random, read, KINDS_IN)}
    counts |= {"output": written, **split(random, written, KINDS_OUT)}
    counts |= {fee: size_of(random, uses) for fee, uses in reach.fees.items()}
    return counts | {"requests": 1}


def tier_of(random: Random, asked: Asked, rates: Rates) -> str | None:
    """The tier that the answer is billed at: cheaper ones keep their word, others may not."""
    if asked.tier in NOT_DEARER:
        return random.choice((asked.tier, "default"))
    return random.choice((None, *rates.tiers))


def test_no_generated_call_costs_more_than_its_ceiling(
    size: Literal["ci", "full", "soak"],
) -> None:
    """However it is billed; what is likely stays below as well."""
    random, models = Random(SEED), catalogue()
    bounded = tightest = number = 0
    while bounded < CALLS[size]:
        number += 1
        asked, rates = request(random), random.choice(models)
        scope = random.choice(SCOPES)
        if unbounded(rates, asked.cap, {}, asked.reach) is not None:
            continue
        bounded += 1
        made = bounds(
            rates,
            input_tokens=size_of(random, asked.prompt_bytes),
            prompt_bytes=asked.prompt_bytes,
            output_cap=asked.cap,
            choices=asked.choices,
            service_tier=asked.tier,
            scope=random.choice(SCOPES),
            reach=asked.reach,
        )
        counts = billed(random, asked, rates)
        found = cost(leaves(counts), rates, tier_of(random, asked, rates), scope)
        detail = f"call {number} of seed {SEED}: {rates.id}, {asked}, {counts}, {scope}"
        assert found.total_pico <= made.ceiling_pico, detail
        assert counts["input"] + counts["output"] <= made.ceiling_tokens, detail
        assert made.likely_pico <= made.ceiling_pico, detail
        tightest += found.total_pico * 10 >= made.ceiling_pico * 9 > 0
    print(f"{bounded} calls of {number}, {tightest} of them within a tenth of their ceiling")
    assert number < 2 * bounded
    assert tightest > bounded // 1_000
