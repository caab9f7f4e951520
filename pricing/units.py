"""The one rule that turns overlapping counts of units into disjoint leaves.

A unit is a set of dimensions (family, direction, modality, kind, ttl, size, quality). A unit
*contains* another when its dimensions are a subset of the other's: `input` contains `cache_read`,
which contains `cache_read_audio`; `images` contains `image_hd_1024x1024`. Providers report
overlapping counts; each price applies to what is left of a unit once everything more specific is
taken out of it. What is left of the totals `input` and `output` is plain text: `input_text`,
`output_text`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from pricing.vocabulary import VOCABULARY, Unit


class UnitError(ValueError):
    """Counts that cannot be: more of a part than of the whole, a negative or an unknown count."""


UNITS: dict[str, Unit] = {unit.name: unit for unit in VOCABULARY}
"""Every unit by name."""


def _nearest(unit: Unit) -> tuple[str, ...]:
    above = [other for other in VOCABULARY if other.contains(unit)]
    above.sort(key=lambda other: -len(other.dimensions))
    return (unit.name, *(other.name for other in above))


LINEAGE: dict[str, tuple[str, ...]] = {unit.name: _nearest(unit) for unit in VOCABULARY}
"""By unit: itself, then what contains it, nearest first. The first one priced lends its price."""
INPUTS: frozenset[str] = frozenset(unit.name for unit in VOCABULARY if unit.direction == "input")
"""Units whose cost is input cost."""
_DIRECTION = {unit.name: unit.direction for unit in VOCABULARY}
INPUT_TOKENS: frozenset[str] = frozenset(name for name in INPUTS if UNITS[name].tokens)
"""Units whose sum decides the context tier."""
OUTPUT_TOKENS: frozenset[str] = frozenset(
    unit.name for unit in VOCABULARY if unit.tokens and unit.name not in INPUTS
)
"""Tokens a model made."""
TOKENS: frozenset[str] = INPUT_TOKENS | OUTPUT_TOKENS
"""What a scope's multiplier applies to."""
MEASURES = frozenset({"images", "durations", "characters", "pages", "messages", "reranks"})
"""Families that a model is billed by in place of tokens."""

_PARTS = {unit.name: tuple(u.name for u in VOCABULARY if unit.contains(u)) for unit in VOCABULARY}
_DEPTH_FIRST = {
    unit.name: rank
    for rank, unit in enumerate(sorted(VOCABULARY, key=lambda u: -len(u.dimensions)))
}
_Order = tuple[tuple[str, tuple[str, ...]], ...]
_Reported = tuple[tuple[str, str, bool], ...]
_LEAF = {unit.name: unit.leaf or unit.name for unit in VOCABULARY}
# Of two units with one name on the wire, the first: a cache write of no stated lifetime.
_OF_WIRE = {unit.wire: _LEAF[unit.name] for unit in reversed(VOCABULARY)}
LARGE_CONTEXT = "_large_context"
"""What Pay-i's clients add to the names of units in calls with a long context."""


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


def is_input(unit: str) -> bool:
    """Whether a unit's cost is input cost; one of a caller's own says it itself: `page.output`."""
    direction = _DIRECTION.get(unit)
    return not unit.endswith(".output") if direction is None else direction == "input"


def is_free_unless_listed(unit: str) -> bool:
    """Whether a unit without a price is free, not unpriced."""
    return unit in UNITS and UNITS[unit].optional


def unit_of(wire: str) -> str | None:
    """The leaf that a name on the wire counts: `text_large_context.input` are `input_text`.

    Pay-i's clients name the context tier of what they ingest; ours follows from the counts, all
    of which they name alike.
    """
    kind, _, direction = wire.rpartition(".")
    return _OF_WIRE.get(f"{kind.removesuffix(LARGE_CONTEXT)}.{direction}")
