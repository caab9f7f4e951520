"""How much a model may write and think, and how it chooses its words, as the model takes it.

OpenAI's efforts are Anthropic's where the model has efforts; older ones think within a budget of
tokens, which lies below the cap. The cap is the client's own: what does not fit under it gives way.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw

from metering.translate import reading
from metering.translate.anthropic.capabilities import Capabilities
from metering.translate.reading import Lost, wrong

OUTPUT_DEFAULT = 4096
"""The cap where neither the client nor the model's entry in the price list says one."""
BUDGET_MIN = 1024
BUDGETS = {"low": 1024, "medium": 4096, "high": 16384, "xhigh": 32768, "max": 32768}
"""How many tokens an older model may think, by effort."""
_OFF = ("none", "minimal")
_EFFORTS = (*_OFF, *BUDGETS)
_TOP_P_THINKING = 0.95
"""The least `top_p` beside thinking."""


class _Given(msgspec.Struct):
    type: str = ""
    budget_tokens: int | None = None


_given = msgspec.json.Decoder(_Given)


class Plan(msgspec.Struct):
    """What comes of it."""

    max_tokens: int
    thinking: Any = None
    effort: str | None = None

    @property
    def thinks(self) -> bool:
        """Whether thinking was asked for, which few words to choose by go with."""
        if isinstance(self.thinking, Raw):
            return _given.decode(self.thinking).type in {"enabled", "adaptive"}
        return self.thinking is not None and self.thinking["type"] in {"enabled", "adaptive"}


def plan(
    fields: dict[str, Raw],
    model: Capabilities,
    lost: Lost,
    *,
    output_max: int | None,
    forced: bool,
) -> Plan:
    """The cap and the thinking of a request; `forced`: it must call a tool."""
    asked = _cap(fields, lost)
    made = Plan(output_max or OUTPUT_DEFAULT if asked is None else asked)
    effort, path = _effort(fields, lost)
    if "thinking" in fields:
        _verbatim(made, fields["thinking"], asked, output_max, lost)
    elif effort in _OFF:
        _off(made, path, model, lost)
    elif effort is not None and model.adaptive:
        made.thinking = {"type": "adaptive"}
    elif effort is not None and model.budgets and not forced:  # neither goes with the other there
        _budget(made, BUDGETS[effort], asked, output_max, share=2)
    if effort in BUDGETS and model.efforts:
        made.effort = _nearest(effort, path, model.efforts, lost)
    elif effort is not None and ("thinking" in fields or (effort in BUDGETS and not made.thinking)):
        lost.drop(path)
    return made


def sampling(
    fields: dict[str, Raw], model: Capabilities, lost: Lost, *, thinks: bool
) -> dict[str, Raw]:
    """`temperature`, `top_p` and `top_k`, as far as the model takes them."""
    kept: dict[str, Raw] = {}
    free = model.sampling and not thinks
    if "temperature" in fields:
        given = reading.number(fields["temperature"], "temperature")
        if free:
            kept["temperature"] = fields["temperature"] if 0 <= given <= 1 else _clamped(given)
            if not 0 <= given <= 1:
                lost.change("temperature")
        elif given != 1:
            lost.drop("temperature")
    if "top_p" in fields:
        given = reading.number(fields["top_p"], "top_p")
        takes = free or (model.sampling and given >= _TOP_P_THINKING)
        if takes and not ("temperature" in kept and model.one_sampling):
            kept["top_p"] = fields["top_p"]
        elif given != 1:
            lost.drop("top_p")
    if "top_k" in fields:
        if free:
            kept["top_k"] = fields["top_k"]
        else:
            lost.drop("top_k")
    return kept


def _clamped(given: float) -> Raw:
    return Raw(b"1" if given > 1 else b"0")


def _cap(fields: dict[str, Raw], lost: Lost) -> int | None:
    """The cap that the client has set, by either name: the newer one holds."""
    found = [
        (name, reading.count(fields[name], name))
        for name in ("max_completion_tokens", "max_tokens")
        if name in fields
    ]
    if len(found) > 1 and found[0][1] != found[1][1]:
        lost.drop("max_tokens")
    return found[0][1] if found else None


def _effort(fields: dict[str, Raw], lost: Lost) -> tuple[str | None, str]:
    path = "reasoning_effort"
    given = fields.get(path)
    if given is None and "reasoning" in fields:
        reasoning = reading.members(fields["reasoning"], "reasoning")
        lost.unknown(reasoning, frozenset({"effort"}), "reasoning")
        path, given = "reasoning.effort", reasoning.get("effort")
    if given is None:
        return None, path
    effort = reading.text(given, path)
    if effort not in _EFFORTS:
        raise wrong(path, f"one of {', '.join(_EFFORTS)}")
    return effort, path


def _off(made: Plan, path: str, model: Capabilities, lost: Lost) -> None:
    if model.off == "never":  # the least that there is
        made.effort = model.efforts[0]
        lost.change(path)
    elif model.off != "omit":
        made.thinking = {"type": model.off}


def _budget(
    made: Plan, budget: int, asked: int | None, output_max: int | None, share: int = 1
) -> None:
    """Thinking within a budget, lowered to lie below the cap, and to at most its `share`-th part
    if that is a budget still; none where none fits."""
    room = asked if asked is not None else output_max or budget + OUTPUT_DEFAULT
    fitting = min(budget, room - 1, max(room // share, BUDGET_MIN))
    if fitting >= BUDGET_MIN:
        made.max_tokens = room
        made.thinking = {"type": "enabled", "budget_tokens": fitting}


def _verbatim(made: Plan, raw: Raw, asked: int | None, output_max: int | None, lost: Lost) -> None:
    """Thinking as the client has asked for it in Anthropic's own words."""
    made.thinking = raw
    try:
        given = _given.decode(raw)
    except (ValueError, RecursionError):
        raise wrong("thinking", "an object with a type, such as {'type': 'adaptive'}") from None
    budget = given.budget_tokens
    if given.type != "enabled" or budget is None or budget < made.max_tokens:
        return
    made.thinking = None
    _budget(made, budget, asked, output_max)
    if made.thinking is None:
        lost.drop("thinking")
    elif made.thinking["budget_tokens"] == budget:
        made.thinking = raw
    else:
        made.thinking = {**reading.members(raw, "thinking"), **made.thinking}
        lost.change("thinking.budget_tokens")


def _nearest(effort: str, path: str, efforts: tuple[str, ...], lost: Lost) -> str:
    """The effort, or the one next to it that the model has: `max` stands in for `xhigh`."""
    if effort in efforts:
        return effort
    lost.change(path)
    return efforts[-1]
