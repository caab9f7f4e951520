"""What requests hold beyond text: parts of unknown size, tools, and what has no bound at all.

Only a call under a hard cap is read so far. What we do not know is taken for the worst that it can
be: a part for as much as the model's window holds, a tool for one without a bound.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Raw

from metering.core.reach import Advice, Reach

TYPED_TOOL_TOKENS = 2_000
"""What a tool adds to a prompt that is named by its type, its text being the vendor's: Anthropic
states 245 (bash) to 735 (computer use), and up to 804 for a system prompt about tools."""
ENVELOPE_TOKENS = 2_000
"""What a vendor may put around a prompt that asks for tools or a shape: see above."""
NESTED = ("content", "output", "source")
"""Members of parts that hold parts themselves."""
_any = msgspec.json.Decoder()


class Unreadable(ValueError):
    """A member is nested too deep to be read, or is no text that we know."""


def member(fields: Mapping[str, Raw], name: str) -> Any:
    """A member, decoded; None if it is missing. Raises Unreadable."""
    raw = fields.get(name)
    if raw is None:
        return None
    try:
        return _any.decode(raw)
    except (ValueError, RecursionError):
        raise Unreadable(name) from None


def parts(value: Any) -> Iterator[dict[str, Any]]:
    """Every part of a content, and the parts in those."""
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, list):
            left += one
        elif isinstance(one, dict):
            yield one
            left += [one[name] for name in NESTED if isinstance(one.get(name), list | dict)]


def kind(part: Mapping[str, Any]) -> str:
    """What a part or a tool says that it is; empty if it does not."""
    found = part.get("type")
    return found if isinstance(found, str) else ""


def count(part: Mapping[str, Any], name: str) -> int | None:
    """A whole number that a tool states; None: it states none."""
    found = part.get(name)
    return found if type(found) is int and found >= 0 else None


class Tally:
    """What has been found of a request, to be a `Reach`."""

    def __init__(self) -> None:
        self._found: dict[str, Any] = {}
        self._fees: dict[str, int] = {}

    def adds(self, input_tokens: int, not_text_bytes: int = 0) -> None:
        """The prompt has so many tokens more at most, in place of so many of its bytes."""
        self._add("input_tokens", input_tokens)
        self._add("not_text_bytes", not_text_bytes)

    def writes(self, output_tokens: int) -> None:
        """The output may have so many tokens that its cap does not count."""
        self._add("output_tokens", output_tokens)

    def is_unknown(self) -> None:
        """The prompt has a part that only the model's window bounds."""
        self._found["whole_context"] = True

    def runs(self, passes: int, **fees: int) -> None:
        """The vendor runs a tool: the model reads its prompt so often, and pays so many uses."""
        self._found["passes"] = max(passes, self._found.get("passes", 1))
        for unit, uses in fees.items():
            self._fees[unit] = self._fees.get(unit, 0) + uses

    def asks(self, model: str, uses: int, output_cap: int | None) -> None:
        """Another model may be asked so often, at its own prices."""
        self._found["advice"] = (*self._found.get("advice", ()), Advice(model, uses, output_cap))

    def has_no_bound(self, field: str, why: str) -> None:
        """Nothing bounds what a member may cost; the first such is told."""
        self._found.setdefault("field", field)
        self._found.setdefault("unbounded", f"{field} {why}")

    def reach(self) -> Reach:
        """All of it."""
        return Reach(fees=self._fees, **self._found)

    def _add(self, name: str, more: int) -> None:
        self._found[name] = self._found.get(name, 0) + more


def refuse_members(tally: Tally, fields: Mapping[str, Raw], reasons: Mapping[str, str]) -> None:
    """Note the members that have no bound."""
    for name in fields.keys() & reasons.keys():
        if bytes(fields[name]) not in (b"null", b"[]", b"{}"):
            tally.has_no_bound(name, reasons[name])


def tools_in(given: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """Every tool, out of the namespaces that hold some."""
    for tool in given:
        if isinstance(tool, dict):
            yield tool
            nested = tool.get("tools")
            if isinstance(nested, list):
                yield from tools_in(nested)
