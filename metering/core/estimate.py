"""What a call may cost before it is made: likely, and at most. And what past calls taught.

The likely cost admits calls on `block` limits; the ceiling is a true bound and admits calls on
hard caps. Factors are whole parts per million: no float comes near money.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Mapping
from collections.abc import Set as AbstractSet
from types import MappingProxyType
from typing import Generic, TypeVar

from metering.core.limits import Bounds
from metering.core.reach import PLAIN, Advice, Reach
from pricing.rates import Rates

What = TypeVar("What")
NOTHING: Mapping[str, int] = MappingProxyType({})
PPM = 1_000_000
DEFAULT_OUTPUT_TOKENS = 1_000
"""Likely output of a call before anything was learned of its application and model."""
DEFAULT_LATENCY_MS = 5_000
"""How long a call is expected to take before anything was learned: when to try again."""
UNBOUNDED_TOKENS = 1_000_000
"""Stands in for what nothing bounds, which `unbounded` says; and the longest context there is of
models with a price for more than their window."""
SAMPLES = 64
"""How many of the latest calls a learned figure looks back on."""
SAMPLES_MIN = 8
"""How many it takes before a figure counts as learned."""
KEYS_MAX = 4_096
"""How many models, and (application, model) pairs, are remembered."""
NEW_SHARE = 8
"""A learned figure is looked for anew when one in so many samples is new."""
AUDIO_TOKENS_PER_S = {"input": 10, "output": 20}
"""OpenAI's tokens of a second of sound: one for 100 ms of a user's, one for 50 ms of a model's."""
PERCENTILE = 95
VALUE_MAX = 2**63 - 1

# Tokenizers of OpenAI are public. Claude's is not: its counts run a third above o200k's.
_FIRST_FACTOR_PPM = {"openai": 1_000_000, "anthropic": 1_350_000}
_OTHER_FACTOR_PPM = 1_100_000


def first_factor_ppm(provider: str) -> int:
    """How many tokens a provider bills for a million that our tokenizer counts, to begin with."""
    return _FIRST_FACTOR_PPM.get(provider, _OTHER_FACTOR_PPM)


def unbounded(
    rates: Rates,
    output_cap: int | None,
    counts: Mapping[str, int] = NOTHING,
    reach: Reach = PLAIN,
) -> str | None:
    """Why the ceiling is not a bound, in words for the caller; None if it is one.

    `counts`, by unit, is what the request says beside its text: so many images of a size.
    """
    if reach.unbounded:
        return reach.unbounded
    if unsaid := rates.unbounded_by(counts):
        return f"{rates.model} is priced by {unsaid}, and the request does not say how many"
    if not rates.by_tokens:
        return None
    if reach.whole_context and rates.context_window is None:
        return (
            "the request holds what only the provider can measure (files, images, earlier or "
            f"encrypted content), and no context window is known of {rates.model}"
        )
    if _each(rates, output_cap, reach) is None:
        return (
            f"the request sets no output cap, and none is known of {rates.model}: set the "
            "endpoint's max_tokens, max_completion_tokens or max_output_tokens"
        )
    return None


def unbounded_advice(rates: Rates | None, advice: Advice) -> str | None:
    """Why nothing bounds what another model's advice may cost; None: something does."""
    if rates is None or not rates.by_tokens:
        return f"no price is known for the adviser {advice.model}"
    if rates.context_window is None:
        return f"no context window is known of the adviser {advice.model}"
    if _each(rates, advice.output_cap, PLAIN) is None:
        return f"no output cap is known of the adviser {advice.model}: set its max_tokens"
    return None


def most_for_advice(rates: Rates, advice: Advice) -> int:
    """Pico-USD that another model's advice costs at most: its window is read with each use."""
    each = _each_at_most(rates, advice.output_cap, PLAIN)
    return rates.ceiling(_window(rates) * advice.uses, each * advice.uses)


def bounds(
    rates: Rates,
    *,
    input_tokens: int,
    prompt_bytes: int,
    output_cap: int | None = None,
    choices: int = 1,
    service_tier: str | None = None,
    scope: str | None = None,
    input_factor_ppm: int | None = None,
    output_tokens: int | None = None,
    reach: Reach = PLAIN,
    without: AbstractSet[str] = frozenset(),
    counts: Mapping[str, int] = NOTHING,
    ceiling: bool = True,
) -> Bounds:
    """The likely and the highest cost and tokens of a call (without `ceiling`, only likely cost).

    `input_tokens` is our tokenizer's count of the prompt; `input_factor_ppm` and `output_tokens`
    are what was learned, if anything. `prompt_bytes` is at least the UTF-8 length of the prompt
    (the body's will do): a byte-level tokenizer makes no more tokens than bytes. `reach` bounds
    what bytes do not. `counts` (by unit) is what is known beside the tokens of text; `without` is
    as in `Rates.ceiling`. The ceiling holds in every scope: the answer says where it was made.
    """
    factor = first_factor_ppm(rates.provider) if input_factor_ppm is None else input_factor_ppm
    likely_in = min(_scaled(input_tokens, factor), max(prompt_bytes, input_tokens))
    each = _each_at_most(rates, output_cap, reach)
    most_in = max(_most_input(rates, prompt_bytes, each * choices, reach), likely_in)
    most_out = most_output(rates, output_cap, choices, reach)
    likely_out = likely_output(each, output_tokens) * choices
    return Bounds(
        likely_pico=rates.likely(likely_in, likely_out, service_tier, scope, counts),
        ceiling_pico=rates.ceiling(
            most_in,
            most_out,
            service_tier=service_tier,
            without=without,
            counts={**counts, **reach.fees},
        )
        if ceiling
        else 0,
        likely_tokens=likely_in + likely_out,
        ceiling_tokens=most_in + most_out,
    )


def _each(rates: Rates, output_cap: int | None, reach: Reach) -> int | None:
    """At most so many tokens of one answer; None where nothing bounds them."""
    if output_cap is not None:
        return output_cap
    return reach.output_cap or rates.max_output_tokens or rates.context_window


def _each_at_most(rates: Rates, output_cap: int | None, reach: Reach) -> int:
    each = _each(rates, output_cap, reach)
    return UNBOUNDED_TOKENS if each is None else each


def most_output(
    rates: Rates, output_cap: int | None, choices: int = 1, reach: Reach = PLAIN
) -> int:
    """At most so many tokens of output, all answers of a call and all its passes together."""
    each = _each_at_most(rates, output_cap, reach)
    return each * choices * reach.passes + reach.output_tokens


def _most_input(rates: Rates, prompt_bytes: int, most_out: int, reach: Reach) -> int:
    """At most so many tokens that the model is given, all its passes together."""
    if reach.whole_context:
        return _window(rates) * reach.passes
    once = prompt_bytes - reach.not_text_bytes + reach.input_tokens
    if reach.passes == 1:
        return once
    return (once + most_out * reach.passes) * reach.passes  # it reads what it wrote before


def _window(rates: Rates) -> int:
    """How many tokens a model can be given; of one that has a price beyond its window, more."""
    known = rates.context_window or UNBOUNDED_TOKENS
    if any(start >= known for table in rates.tiers.values() for start in table.starts):
        return max(known, UNBOUNDED_TOKENS)
    return known


def likely_output(cap: int | None, learned: int | None) -> int:
    """Likely output tokens of one choice, within its cap."""
    expected = DEFAULT_OUTPUT_TOKENS if learned is None else learned
    return expected if cap is None else min(cap, expected)


def _scaled(tokens: int, factor_ppm: int) -> int:
    return -(-tokens * factor_ppm // PPM)


class Learned:
    """What past calls taught: bounded in memory, the least recently used is forgotten first."""

    def __init__(self, keys_max: int = KEYS_MAX) -> None:
        self._factors = _Remembered(keys_max, _Latest)
        self._calls = _Remembered(keys_max, _Calls)

    def observe(
        self,
        application_id: str,
        model: str,
        *,
        estimated_input: int,
        actual_input: int,
        output_tokens: int,
        latency_ms: int = 0,
    ) -> None:
        """Take in a settled call whose usage the provider reported.

        `estimated_input` is the tokenizer's count, before any factor; `output_tokens` is of one
        choice. A call whose prompt was not counted (0) teaches nothing about the factor.
        """
        if estimated_input > 0:
            self._factors.of(model).add(-(-actual_input * PPM // estimated_input))
        calls = self._calls.of((application_id, model))
        calls.outputs.add(output_tokens)
        if latency_ms:
            calls.latencies.add(latency_ms)

    def input_factor_ppm(self, model: str) -> int | None:
        """The p95 of actual / estimated input tokens of a model; None before enough calls."""
        latest = self._factors.get(model)
        return latest.p95 if latest else None

    def output_tokens(self, application_id: str, model: str) -> int | None:
        """The p95 of output tokens of an application's calls of a model; None before enough."""
        calls = self._calls.get((application_id, model))
        return calls.outputs.p95 if calls else None

    def latency_ms(self, application_id: str, model: str) -> int:
        """The p95 of how long an application's calls of a model take; a guess before enough."""
        calls = self._calls.get((application_id, model))
        return (calls.latencies.p95 if calls else None) or DEFAULT_LATENCY_MS


class _Latest:
    """The latest values of one key, and their p95 (nearest rank) as of a moment ago."""

    __slots__ = ("_missing", "_values", "p95")

    def __init__(self) -> None:
        self._values: deque[int] = deque(maxlen=SAMPLES)
        self._missing = SAMPLES_MIN
        self.p95: int | None = None

    def add(self, value: int) -> None:
        """Take in a value; the p95 is looked for anew once an eighth of the values is new."""
        self._values.append(value)
        self._missing -= 1
        if not self._missing:
            self._look()

    def _look(self) -> None:
        count = len(self._values)
        self._missing = -(-count // NEW_SHARE)
        found = sorted(self._values)[-(-count * PERCENTILE // 100) - 1]
        self.p95 = min(max(found, 0), VALUE_MAX)


class _Calls:
    """What is learned of one application's calls of one model."""

    __slots__ = ("latencies", "outputs")

    def __init__(self) -> None:
        self.outputs = _Latest()
        self.latencies = _Latest()


class _Remembered(Generic[What]):
    """Something for each key, as long as it is among the most recently used."""

    def __init__(self, keys_max: int, make: Callable[[], What]) -> None:
        self._keys_max = keys_max
        self._make = make
        self._found: OrderedDict[Hashable, What] = OrderedDict()

    def get(self, key: Hashable) -> What | None:
        """What is remembered of a key."""
        found = self._found.get(key)
        if found is not None:
            self._found.move_to_end(key)
        return found

    def of(self, key: Hashable) -> What:
        """The same, made now if there is nothing."""
        found = self._found.get(key)
        if found is None:
            found = self._found[key] = self._make()
            if len(self._found) > self._keys_max:
                self._found.popitem(last=False)
        return found
