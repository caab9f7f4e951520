"""What the stand-in charges: a hand-written price table and the arithmetic of a bill.

Written from the vendors' price pages as of November 2026, in USD per million tokens, and kept apart
from the product on purpose: it is the second opinion that the product's figures are held against.

- A prompt longer than `long_from` tokens (cached ones included) moves the whole call to `long`.
- A token without a price of its own is charged at the text price of its direction.
- An advisor's turn is charged beside the totals, at the advisor's own price; what compacting the
  context used belongs to the call but is not in its totals either.
- Every line is rounded once, half to even, to a whole pico-USD; the bill is the sum of its lines.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

PICO_PER_USD_PER_MILLION = 10**6
"""A price of $1 per million tokens is this many pico-USD per token."""
SNAPSHOT = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{8}|latest)$")
STANDARD_TIERS = frozenset({"", "auto", "default", "standard", "scale"})


@dataclass(frozen=True, kw_only=True)
class Price:
    """USD per million tokens of each kind; None is charged as text of the same direction."""

    input: Decimal
    output: Decimal
    cache_read: Decimal | None = None
    cache_write_5m: Decimal | None = None
    cache_write_1h: Decimal | None = None
    audio_input: Decimal | None = None
    audio_output: Decimal | None = None
    web_search: Decimal = Decimal(0)
    """USD per million searches."""
    us: Decimal = Decimal(1)
    """Factor on every token when the call was served in the United States only."""
    long_from: int | None = None
    long: Price | None = None
    tiers: Mapping[str, Price] = field(default_factory=dict)


@dataclass(frozen=True)
class Bill:
    """What one call costs: units and pico-USD by line, and which price was used."""

    price: str
    units: dict[str, int]
    lines_pico: dict[str, int]

    @property
    def cost_pico(self) -> int:
        """The sum of the lines."""
        return sum(self.lines_pico.values())


class Unpriced(LookupError):
    """The table has no price for this model, or not for this service tier."""


def _gpt(
    prompt: str,
    output: str,
    cached: str | None = None,
    *,
    write: str | None = None,
    audio: tuple[str, str] | None = None,
    priority: tuple[str, str, str] | None = None,
    half: bool = False,
    half_cached: str | None = None,
    long: tuple[str, str, str] | None = None,
    long_write: str | None = None,
) -> Price:
    """An OpenAI price; `half`: flex processing exists, at half the price (`half_cached` where the
    page rounds it); `long` from 272k on."""
    tiers = {"priority": _gpt(*priority)} if priority else {}
    if half:
        flex = [str(Decimal(p) / 2) for p in (prompt, output, cached or prompt)]
        tiers["flex"] = _gpt(flex[0], flex[1], half_cached or flex[2])
    return Price(
        input=Decimal(prompt),
        output=Decimal(output),
        cache_read=Decimal(cached) if cached else None,
        cache_write_5m=Decimal(write) if write else None,
        audio_input=Decimal(audio[0]) if audio else None,
        audio_output=Decimal(audio[1]) if audio else None,
        long_from=272_000 if long else None,
        long=_gpt(*long, write=long_write) if long else None,
        tiers=tiers,
    )


def _claude(
    prompt: str,
    output: str,
    *,
    us: str = "1",
    long: tuple[str, str] | None = None,
    batch: bool = True,
) -> Price:
    """An Anthropic price: cache reads a tenth of input, writes 1.25 (5 m) and 2 (1 h) times; `long`
    from 200k on; batches half; a search one cent."""
    base, half = Decimal(prompt), (str(Decimal(p) / 2) for p in (prompt, output))
    return Price(
        input=base,
        output=Decimal(output),
        cache_read=base / 10,
        cache_write_5m=base * 5 / 4,
        cache_write_1h=base * 2,
        web_search=Decimal(10_000),
        us=Decimal(us),
        long_from=200_000 if long else None,
        long=_claude(*long, batch=False) if long else None,
        tiers={"batch": _claude(*half, us=us, batch=False)} if batch else {},
    )


OPENAI = {
    "gpt-3.5-turbo": _gpt("0.5", "1.5"),
    "gpt-4": _gpt("30", "60"),
    "gpt-4-0613": _gpt("30", "60"),
    "gpt-4-turbo": _gpt("10", "30"),
    "gpt-4o": _gpt("2.5", "10", "1.25", priority=("4.25", "17", "2.125")),
    "gpt-4o-2024-05-13": _gpt("5", "15"),
    "gpt-4o-mini": _gpt("0.15", "0.6", "0.075", priority=("0.25", "1", "0.125")),
    "gpt-4o-audio-preview": _gpt("2.5", "10", audio=("40", "80")),
    "gpt-audio": _gpt("2.5", "10", audio=("32", "64")),
    "gpt-audio-mini": _gpt("0.6", "2.4", audio=("10", "20")),
    "gpt-4.1": _gpt("2", "8", "0.5", priority=("3.5", "14", "0.875")),
    "gpt-4.1-mini": _gpt("0.4", "1.6", "0.1", priority=("0.7", "2.8", "0.175")),
    "gpt-4.1-nano": _gpt("0.1", "0.4", "0.025", priority=("0.2", "0.8", "0.05")),
    "gpt-5": _gpt("1.25", "10", "0.125", priority=("2.5", "20", "0.25"), half=True),
    "gpt-5-mini": _gpt("0.25", "2", "0.025", priority=("0.45", "3.6", "0.045"), half=True),
    "gpt-5-nano": _gpt("0.05", "0.4", "0.005", half=True),
    "gpt-5-pro": _gpt("15", "120"),
    "gpt-5.1": _gpt("1.25", "10", "0.125", priority=("2.5", "20", "0.25"), half=True),
    "gpt-5.2": _gpt("1.75", "14", "0.175", priority=("3.5", "28", "0.35"), half=True),
    "gpt-5.4": _gpt("2.5", "15", "0.25", long=("5", "22.5", "0.5")),
    "gpt-5.4-mini": _gpt("0.75", "4.5", "0.075"),
    "gpt-5.5": _gpt("5", "30", "0.5", long=("10", "45", "1")),
    "gpt-5.6-sol": _gpt("4", "20", "0.4", write="5", long=("8", "30", "0.8"), long_write="10"),
    "o1": _gpt("15", "60", "7.5"),
    "o1-mini": _gpt("1.1", "4.4", "0.55"),
    "o3": _gpt("2", "8", "0.5", priority=("3.5", "14", "0.875"), half=True),
    "o3-mini": _gpt("1.1", "4.4", "0.55"),
    "o4-mini": _gpt(
        "1.1", "4.4", "0.275", priority=("2", "8", "0.5"), half=True, half_cached="0.138"
    ),
    "text-embedding-3-small": _gpt("0.02", "0"),
    "text-embedding-3-large": _gpt("0.13", "0"),
}
ANTHROPIC = {
    "claude-3-opus": _claude("15", "75"),
    "claude-3-sonnet": _claude("3", "15"),
    "claude-3-haiku": Price(
        input=Decimal("0.25"),
        output=Decimal("1.25"),
        cache_read=Decimal("0.03"),
        cache_write_5m=Decimal("0.3"),
        cache_write_1h=Decimal("0.5"),
    ),
    "claude-3-5-sonnet": _claude("3", "15"),
    "claude-3-5-haiku": _claude("0.8", "4"),
    "claude-3-7-sonnet": _claude("3", "15"),
    "claude-opus-4": _claude("15", "75"),
    "claude-opus-4-1": _claude("15", "75"),
    "claude-opus-4-5": _claude("5", "25"),
    "claude-opus-4-6": _claude("5", "25", us="1.1"),
    "claude-opus-4-7": _claude("5", "25", us="1.1"),
    "claude-opus-4-8": _claude("5", "25", us="1.1"),
    "claude-opus-5": _claude("5", "25", us="1.1"),
    "claude-sonnet-4": _claude("3", "15"),
    "claude-sonnet-4-5": _claude("3", "15", long=("6", "22.5")),
    "claude-sonnet-4-6": _claude("3", "15", us="1.1"),
    "claude-sonnet-5": _claude("2", "10", us="1.1"),
    "claude-haiku-4-5": _claude("1", "5"),
    "claude-fable-5": _claude("10", "50", us="1.1"),
}
TABLES: dict[str, dict[str, Price]] = {"openai": OPENAI, "anthropic": ANTHROPIC}


def find(provider: str, model: str) -> tuple[str, Price]:
    """The row of a model or of its dated snapshot; raises Unpriced."""
    table = TABLES[provider]
    for name in (model, SNAPSHOT.sub("", model)):
        if name in table:
            return name, table[name]
    raise Unpriced(f"{provider} has no price for {model!r}")


def bill(provider: str, model: str, usage: Mapping[str, Any], tier: str | None = None) -> Bill:
    """Charge a provider-shaped usage object; `tier` is the service tier that served the call."""
    name, price = find(provider, model)
    tier = tier or usage.get("service_tier")
    if tier is not None and tier not in STANDARD_TIERS:
        if tier not in price.tiers:
            raise Unpriced(f"{name} has no price for service tier {tier!r}")
        name, price = f"{name}@{tier}", price.tiers[tier]
    units = units_of(provider, usage)
    if price.long and price.long_from and prompt_tokens(units) > price.long_from:
        name, price = f"{name}>{price.long_from}", price.long
    factor = price.us if usage.get("inference_geo") == "us" else Decimal(1)
    lines = {unit: _line(count, unit, price, factor) for unit, count in units.items() if count}
    for turn in usage.get("iterations") or []:
        if turn["type"] == "advisor_message":
            its = bill(provider, turn["model"], turn, tier)
            units |= {f"{its.price}:{unit}": count for unit, count in its.units.items()}
            lines |= {f"{its.price}:{unit}": pico for unit, pico in its.lines_pico.items()}
    return Bill(name, units, lines)


def _line(count: int, unit: str, price: Price, factor: Decimal) -> int:
    if unit == "web_search":
        rate = price.web_search
    else:
        text = price.output if unit in ("output", "reasoning", "audio_output") else price.input
        own: Decimal | None = getattr(price, unit, None)
        rate = (text if own is None else own) * factor
    return int((count * rate * PICO_PER_USD_PER_MILLION).to_integral_value(ROUND_HALF_EVEN))


def prompt_tokens(units: Mapping[str, int]) -> int:
    """All tokens of the prompt, cached or not."""
    names = ("input", "cache_read", "cache_write_5m", "cache_write_1h", "audio_input")
    return sum(units.get(name, 0) for name in names)


def units_of(provider: str, usage: Mapping[str, Any]) -> dict[str, int]:
    """The units of a usage object that overlap nowhere: each token is in exactly one."""
    if provider == "anthropic":
        turns = usage.get("iterations") or []
        parts = [usage, *(turn for turn in turns if turn["type"] == "compaction")]
        every = [_claude_units(part) for part in parts]
        return {unit: sum(one[unit] for one in every) for unit in every[0]}
    if "input_tokens" in usage:
        return _gpt_units(usage, "input_tokens", "output_tokens")
    return _gpt_units(usage, "prompt_tokens", "completion_tokens")


def _claude_units(usage: Mapping[str, Any]) -> dict[str, int]:
    written = usage.get("cache_creation_input_tokens") or 0
    hour = (usage.get("cache_creation") or {}).get("ephemeral_1h_input_tokens") or 0
    return {
        "input": usage.get("input_tokens") or 0,
        "cache_read": usage.get("cache_read_input_tokens") or 0,
        "cache_write_5m": written - hour,
        "cache_write_1h": hour,
        "output": usage.get("output_tokens") or 0,
        "web_search": (usage.get("server_tool_use") or {}).get("web_search_requests") or 0,
    }


def _gpt_units(usage: Mapping[str, Any], total_in: str, total_out: str) -> dict[str, int]:
    asked = usage.get(f"{total_in}_details") or {}
    given = usage.get(f"{total_out}_details") or {}
    read, write = asked.get("cached_tokens") or 0, asked.get("cache_write_tokens") or 0
    heard, spoken = asked.get("audio_tokens") or 0, given.get("audio_tokens") or 0
    thought = given.get("reasoning_tokens") or 0
    return {
        "input": (usage.get(total_in) or 0) - read - write - heard,
        "cache_read": read,
        "cache_write_5m": write,
        "audio_input": heard,
        "output": (usage.get(total_out) or 0) - thought - spoken,
        "reasoning": thought,
        "audio_output": spoken,
    }
