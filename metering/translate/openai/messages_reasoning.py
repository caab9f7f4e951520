"""What a model's name says of it: how its output is capped, and how hard it can be told to think.

o1, o3, o4-mini   low to high
gpt-5             minimal to high
gpt-5.1           none to high; thinks only when told to, as all after it
gpt-5.2           none to xhigh
gpt-5.6, gpt-6    none to max
gpt-oss           low to high; open, so its hosts know `max_tokens`
"""

from __future__ import annotations

import re

from msgspec import Raw

from metering.translate import reading
from metering.translate.openai import members
from metering.translate.openai.members import Fields
from metering.translate.reading import Lost

_FAMILY = re.compile(
    r"(?:^|[/:])(?:o\d+|gpt-(?P<major>\d)(?:\.(?P<minor>\d+))?|(?P<open>gpt-oss))(?=$|[-:])"
)
_SERIES, _OPEN = (1, 0), (0, 0)
"""Versions of the o-series and of the open models: no GPT has them."""
_EFFORTS = ("low", "medium", "high", "xhigh", "max")
_HIGH = _EFFORTS.index("high")
_HIGH_TOKENS, _MEDIUM_TOKENS = 16_384, 4_096
"""Budgets from which thinking is hard, and middling: what is allowed begins at 1,024."""


def cap_name(model: str) -> str:
    """The member that caps the output: OpenAI's own models that think refuse the older name, and
    not every compatible host knows the newer."""
    newer = _version(model) not in (None, _OPEN)
    return "max_completion_tokens" if newer else "max_tokens"


def effort(fields: Fields, config: Fields, model: str, lost: Lost) -> str | None:
    """The `reasoning_effort` that `thinking` and `output_config.effort` ask for.

    The effort asked for goes before a budget of tokens. A model that cannot be told drops both.
    """
    asked = members.take_word(config, "effort", "output_config")
    if asked and asked not in _EFFORTS:
        raise reading.wrong("output_config.effort", f"one of {', '.join(_EFFORTS)}")
    thinking = members.take(fields, "thinking")
    version = _version(model)
    if version is None or "-chat" in model:
        if asked:
            lost.drop("output_config.effort")
        if thinking is not None and _kind(thinking) != "disabled":
            lost.drop("thinking")
        return None
    thought = _thinking(thinking, version, lost, asked=bool(asked))
    if thought == "none" or not asked:
        return thought
    most = _EFFORTS[_most(version)]
    if _EFFORTS.index(asked) > _most(version):
        lost.change("output_config.effort")
        return most
    return asked


def _thinking(raw: Raw | None, version: tuple[int, int], lost: Lost, *, asked: bool) -> str | None:
    """The effort that `thinking` stands for; what it says beside that is dropped."""
    if raw is None:
        return None
    given = members.fields(raw, "thinking")
    kind = members.take_word(given, "type", "thinking")
    budget = members.take(given, "budget_tokens")
    members.drop_rest(lost, given, "thinking")
    if kind == "disabled":
        if version >= (5, 1):
            return "none"
        lost.drop("thinking")  # it thinks, whatever it is told
    elif kind == "adaptive":
        return "medium"
    elif kind == "enabled":
        if budget is not None:
            (lost.drop if asked else lost.change)("thinking.budget_tokens")
        return _by_budget(budget)
    elif not kind:
        raise reading.missing("thinking.type", "say enabled, adaptive or disabled")
    else:
        lost.drop("thinking")
    return None


def _kind(raw: Raw) -> str:
    return members.take_word(members.fields(raw, "thinking"), "type", "thinking")


def _by_budget(raw: Raw | None) -> str:
    budget = members.value(raw)
    if raw is None:
        return "medium"
    if type(budget) is not int or budget < 1:
        raise reading.wrong("thinking.budget_tokens", "a whole number of tokens, 1024 or more")
    if budget >= _HIGH_TOKENS:
        return "high"
    return "medium" if budget >= _MEDIUM_TOKENS else "low"


def _version(model: str) -> tuple[int, int] | None:
    """The version of a model that thinks; None: it does not, or is not known to."""
    found = _FAMILY.search(model)
    if found is None:
        return None
    if found["open"]:
        return _OPEN
    if not found["major"]:
        return _SERIES
    version = int(found["major"]), int(found["minor"] or 0)
    return version if version >= (5, 0) else None


def _most(version: tuple[int, int]) -> int:
    """The place of the hardest effort that a model knows."""
    if version >= (5, 6):
        return _HIGH + 2
    return _HIGH + (version >= (5, 2))
