"""The billable units and the one rule that turns overlapping counts into disjoint leaves.

A unit is a set of dimensions (family, direction, modality, kind, ttl, size, quality). A unit
*contains* another when its dimensions are a subset of the other's: `input` contains `cache_read`,
which contains `cache_read_audio`; `images` contains `image_hd_1024x1024`. Providers report
overlapping counts; each price applies to what is left of a unit once everything more specific is
taken out of it. What is left of the totals `input` and `output` is plain text: `input_text`,
`output_text`.

A new unit is one line of the table; the rules follow from its dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache


class UnitError(ValueError):
    """Counts that cannot be: more of a part than of the whole, a negative or an unknown count."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A billable unit: its dimensions and how it is named and priced."""

    name: str
    wire: str
    """The name in the management API and in `units` of ingested events: `text_cache_read.input`."""
    dimensions: frozenset[tuple[str, str]]
    per: int = 1_000_000
    """How many of them a catalogue price buys: a million tokens, a thousand calls, an image."""
    leaf: str = ""
    """What the rest is called that no more specific count explains; if empty, as the unit."""
    optional: bool = False
    """A fee that exists only where a price is listed: without one it is free, not unpriced."""

    @property
    def direction(self) -> str:
        """`input` or `output`: which of the two sums of a cost this unit belongs to."""
        return dict(self.dimensions)["direction"]

    @property
    def family(self) -> str:
        """What is counted: `tokens`, `images`, `tool_calls`."""
        return dict(self.dimensions)["family"]

    @property
    def tokens(self) -> bool:
        """Whether this unit counts tokens (and so moves the context tier)."""
        return self.family == "tokens"

    def contains(self, other: Unit) -> bool:
        """Whether every `other` is also one of these."""
        return self.dimensions < other.dimensions


def _tokens(name: str, wire: str, leaf: str = "", **dimensions: str) -> Unit:
    items = frozenset({"family": "tokens", **dimensions}.items())
    return Unit(name=name, wire=wire, dimensions=items, leaf=leaf)


def _fee(name: str, wire: str, per: int, *, optional: bool = False, **dimensions: str) -> Unit:
    return Unit(name, wire, frozenset(dimensions.items()), per, optional=optional)


def _image(**dimensions: str) -> Unit:
    """A generated image of a size, and of a quality where that has a price."""
    name = "_".join(("image", *dimensions.values()))
    items = {"family": "images", "direction": "output", **dimensions}
    return Unit(name, f"{name}.output", frozenset(items.items()), per=1)


def _container(memory: str) -> Unit:
    """A session of a container with so much memory, in which OpenAI's code interpreter runs."""
    items = {"family": "containers", "direction": "output", "kind": memory}
    name = f"container_{memory}"
    return Unit(name, f"{name}_session.output", frozenset(items.items()), per=1)


# Order matters in one place: of several equally near ancestors, the first lends its price.
_ALL = (
    _tokens("input", "text.input", "input_text", direction="input"),
    _tokens("input_text", "text.input", direction="input", modality="text"),
    _tokens("input_audio", "audio.input", direction="input", modality="audio"),
    _tokens("input_image", "vision.input", direction="input", modality="image"),
    _tokens("cache_read", "text_cache_read.input", direction="input", kind="cache_read"),
    _tokens(
        "cache_read_audio",
        "audio_cache_read.input",
        direction="input",
        modality="audio",
        kind="cache_read",
    ),
    _tokens(
        "cache_read_image",
        "vision_cache_read.input",
        direction="input",
        modality="image",
        kind="cache_read",
    ),
    _tokens("cache_write", "text_cache_write.input", direction="input", kind="cache_write"),
    _tokens(
        "cache_write_5m",
        "text_cache_write.input",
        direction="input",
        kind="cache_write",
        ttl="5m",
    ),
    _tokens(
        "cache_write_1h",
        "text_cache_write_1h.input",
        direction="input",
        kind="cache_write",
        ttl="1h",
    ),
    _tokens("output", "text.output", "output_text", direction="output"),
    _tokens("output_text", "text.output", direction="output", modality="text"),
    _tokens("output_audio", "audio.output", direction="output", modality="audio"),
    _tokens("output_image", "vision.output", direction="output", modality="image"),
    _tokens("reasoning", "reasoning.output", direction="output", kind="reasoning"),
    # Fees have a direction so that a cost's input and output always add up to its total.
    _fee(
        "web_search",
        "web_search_request.output",
        1_000,
        family="tool_calls",
        direction="output",
        kind="web_search",
    ),
    _fee(
        "file_search",
        "file_search_request.output",
        1_000,
        family="tool_calls",
        direction="output",
        kind="file_search",
    ),
    # Anthropic bills neither of these by the use. Fetching a page costs the tokens of the page.
    # Code runs in containers that are billed by the hour beyond a monthly allowance, and an answer
    # says how often one was used, not for how long: it has a price only where one is configured.
    # https://platform.claude.com/docs/en/about-claude/pricing, "Specific tool pricing"
    _fee(
        "web_fetch",
        "web_fetch_request.output",
        1_000,
        optional=True,
        family="tool_calls",
        direction="output",
        kind="web_fetch",
    ),
    _fee(
        "code_execution",
        "code_execution_request.output",
        1_000,
        optional=True,
        family="tool_calls",
        direction="output",
        kind="code_execution",
    ),
    *(_container(memory) for memory in ("1g", "4g", "16g", "64g")),
    # A size without a price is unpriced: only what contains it lends its price, `images` where a
    # model has one price for all. Pay-i's `image` is one image, so the tokens of images that a
    # model makes are `vision`, as those it is shown are.
    _fee("images", "image.output", 1, family="images", direction="output"),
    *(_image(size=size) for size in ("256x256", "512x512", "1024x1024")),
    *(
        _image(quality=quality, size=size)
        for quality in ("standard", "hd")
        for size in ("1024x1024", "1024x1792", "1792x1024")
    ),
    _fee(
        "audio_seconds",
        "audio_second.input",
        3_600,
        family="durations",
        direction="input",
        modality="audio",
    ),
    _fee(
        "input_characters",
        "text_character.input",
        1_000_000,
        family="characters",
        direction="input",
        modality="text",
    ),
    _fee("requests", "request.input", 1_000, optional=True, family="requests", direction="input"),
)

UNITS: dict[str, Unit] = {unit.name: unit for unit in _ALL}
"""Every unit by name."""


def _nearest(unit: Unit) -> tuple[str, ...]:
    above = [other for other in _ALL if other.contains(unit)]
    above.sort(key=lambda other: -len(other.dimensions))
    return (unit.name, *(other.name for other in above))


LINEAGE: dict[str, tuple[str, ...]] = {unit.name: _nearest(unit) for unit in _ALL}
"""By unit: itself, then what contains it, nearest first. The first one priced lends its price."""
INPUTS: frozenset[str] = frozenset(unit.name for unit in _ALL if unit.direction == "input")
"""Units whose cost is input cost."""
INPUT_TOKENS: frozenset[str] = frozenset(name for name in INPUTS if UNITS[name].tokens)
"""Units whose sum decides the context tier."""
OUTPUT_TOKENS: frozenset[str] = frozenset(
    unit.name for unit in _ALL if unit.tokens and unit.name not in INPUTS
)
"""Tokens a model made."""
TOKENS: frozenset[str] = INPUT_TOKENS | OUTPUT_TOKENS
"""What a scope's multiplier applies to."""
MEASURES = frozenset({"images", "durations", "characters"})
"""Families that a model is billed by in place of tokens."""

_PARTS = {unit.name: tuple(u.name for u in _ALL if unit.contains(u)) for unit in _ALL}
_DEPTH_FIRST = {
    unit.name: rank for rank, unit in enumerate(sorted(_ALL, key=lambda u: -len(u.dimensions)))
}
_Order = tuple[tuple[str, tuple[str, ...]], ...]
_Reported = tuple[tuple[str, str, bool], ...]
_LEAF = {unit.name: unit.leaf or unit.name for unit in _ALL}


def leaves(counts: Mapping[str, int]) -> dict[str, int]:
    """Split overlapping counts into disjoint leaves.

    `{input: 100, cache_read: 20, output: 10, reasoning: 4}` becomes
    `{input_text: 80, cache_read: 20, output_text: 6, reasoning: 4}`. A container that was not
    reported is not a count. Zero leaves are left out, but for those of the two totals: there, zero
    is something the provider said. Raises UnitError naming the units that do not fit together.
    """
    split: dict[str, int] = {}
    rest: dict[str, int] = {}
    if not counts.keys() <= UNITS.keys():
        unknown = next(name for name in counts if name not in UNITS)
        raise UnitError(f"{counts[unknown]} {unknown} is not a count of a unit we know")
    order, reported = _order(tuple(counts))
    for name, parts in order:
        rest[name] = left = counts[name] - sum([rest[part] for part in parts])
        if left < 0:
            raise UnitError(_misfit(name, counts))
    for name, leaf, is_total in reported:
        if rest[name] or is_total:
            split[leaf] = split.get(leaf, 0) + rest[name]
    return split


@lru_cache(maxsize=1024)
def _order(names: tuple[str, ...]) -> tuple[_Order, _Reported]:
    """How to take some units apart, whatever their counts: parts first."""
    order = tuple(
        (name, tuple(part for part in _PARTS[name] if part in names))
        for name in sorted(names, key=lambda name: _DEPTH_FIRST[name])
    )
    return order, tuple((name, _LEAF[name], bool(UNITS[name].leaf)) for name in names)


def _misfit(name: str, counts: Mapping[str, int]) -> str:
    if counts[name] < 0:
        return f"{counts[name]} {name} is not a count"
    parts = {part: counts[part] for part in _PARTS[name] if counts.get(part)}
    listed = " and ".join(f"{part} ({count})" for part, count in parts.items())
    return f"{listed} cannot exceed {name} ({counts[name]}), which contains them"


def wire_name(unit: str) -> str:
    """The name of a unit on the wire; a unit of the caller's own keeps its name."""
    known = UNITS.get(unit)
    return known.wire if known else unit
