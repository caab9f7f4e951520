"""What each Claude takes: which members its API accepts, by the version in its name.

As documented by Anthropic for each model, and as its API was seen to answer. A name without a
version, or with a later one, is taken for the newest: what that refuses is left out.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal

import msgspec

Version = tuple[int, int]
Off = Literal["omit", "disabled", "between_tools", "never"]

NEWEST: Version = (99, 0)
_NAME = re.compile(
    r"claude-(?:(?P<before>[a-z]+)-)?v?(?P<major>\d{1,2})(?!\d)(?:[-.](?P<minor>\d{1,2})(?!\d))?"
    r"(?:-(?P<after>[a-z]+))?"
)
_NEVER: Version = (1000, 0)


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a model takes."""

    budgets: bool
    """`thinking` with `budget_tokens`."""
    adaptive: bool
    """`thinking` of type `adaptive`."""
    efforts: tuple[str, ...]
    """What `output_config.effort` may be; empty: it may not be there."""
    off: Off
    """How thinking is turned off; `omit`: it is, unless asked for."""
    sampling: bool
    """`temperature`, `top_p` and `top_k`."""
    one_sampling: bool
    """Of `temperature` and `top_p`, only one."""
    forced_tools: bool
    """A `tool_choice` that makes it call a tool."""
    late_system: bool
    """Messages of role `system` after the first turn."""
    schemas: bool
    """`output_config.format`, and `strict` tools."""


# family: since when thinking cannot be turned off, no tool can be forced, late system messages go
_FAMILIES: dict[str, tuple[Version, Version, Version]] = {
    "opus": ((5, 5), (5, 5), (4, 8)),
    "sonnet": (_NEVER, (5, 5), (5, 5)),
    "haiku": (_NEVER, _NEVER, (5, 5)),
    "fable": ((0, 0), (5, 1), (5, 0)),
    "mythos": ((0, 0), (5, 1), (5, 0)),
}
_OTHER: tuple[Version, Version, Version] = ((5, 5), (5, 5), (5, 5))

# since when a model has which efforts
_EFFORTS: tuple[tuple[Version, tuple[str, ...]], ...] = (
    ((4, 7), ("low", "medium", "high", "xhigh", "max")),
    ((4, 6), ("low", "medium", "high", "max")),
    ((0, 0), ()),
)
_OPUS_4_5_EFFORTS = ("low", "medium", "high")


@lru_cache(maxsize=256)
def of(model: str) -> Capabilities:
    """What the model of this name takes."""
    family, version = _parsed(model)
    always, unforced, late = _FAMILIES.get(family, _OTHER)
    efforts = next(levels for since, levels in _EFFORTS if version >= since)
    if (family, version) == ("opus", (4, 5)):
        efforts = _OPUS_4_5_EFFORTS
    return Capabilities(
        budgets=(3, 7) <= version < (4, 7),
        adaptive=version >= (4, 6),
        efforts=efforts,
        off=_off(family, version, always),
        sampling=version < (4, 7),
        one_sampling=version >= (4, 1),
        forced_tools=version < unforced,
        late_system=version >= late,
        schemas=version >= (4, 1),
    )


def _parsed(model: str) -> tuple[str, Version]:
    named = _NAME.search(model.lower())
    if named is None:
        return "", NEWEST
    family = named["before"] or named["after"] or ""
    return family, (int(named["major"]), int(named["minor"] or 0))


def _off(family: str, version: Version, always: Version) -> Off:
    if version >= max(always, (5, 0)):
        return "never"
    if version < (5, 0):
        return "omit"
    return "between_tools" if family == "sonnet" and version >= (5, 5) else "disabled"
