"""Rate limits: how much in a minute, how many at once. The Lua scripts are the twin.

Laws
1. In no 60 s more comes in than `max`: what came in is kept by the second, for 61 of them.
2. A call that is refused, by a rate or by a limit, takes nothing of any.
3. `tokens` takes what a call likely uses as it comes in, and what it used in its place at its end,
   in the second in which it came in. A call that used nothing gives its tokens back.
4. `parallel` counts a call until its hold ends, however it ends.

| kind     | a call is refused when                                | for good when |
|----------|-------------------------------------------------------|---------------|
| requests | calls of the last minute + 1 > max                    | max is 0      |
| tokens   | tokens of the last minute + likely tokens of it > max | likely > max  |
| parallel | calls under way + 1 > max                             | max is 0      |
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

Kind = Literal["requests", "tokens", "parallel"]
KINDS: tuple[Kind, ...] = ("requests", "tokens", "parallel")
RATE_MAX = 10**12
"""The largest `max` of a rate."""
_WORDS: dict[Kind, str] = {
    "requests": "requests per minute",
    "tokens": "tokens per minute",
    "parallel": "calls at once",
}


class Rate(msgspec.Struct, frozen=True):
    """So much of a kind, of what `name` says: `key:<key id>`, `team:<its name>`."""

    kind: Kind
    name: str
    max: int

    @property
    def whose(self) -> str:
        """Whether it is the key's, or of whom a call is for."""
        return self.name.partition(":")[0]

    def needed(self, tokens: int) -> int:
        """What a call that likely uses so many tokens takes of it."""
        return tokens if self.kind == "tokens" else 1


class Throttled(msgspec.Struct, frozen=True, kw_only=True):
    """A call came too soon: which rate it would exceed, and when there is room for it."""

    rate: Rate
    used: int
    needed: int
    retry_ms: int

    @property
    def final(self) -> bool:
        """Whether waiting does not help."""
        return self.needed > self.rate.max

    @property
    def remaining(self) -> int:
        """What there was room for."""
        return max(0, self.rate.max - self.used)

    @property
    def message(self) -> str:
        """The refusal in a sentence."""
        kind, maximum, whose = self.rate.kind, self.rate.max, self.rate.whose
        if self.final and kind == "tokens":
            return (
                f"this call alone likely uses {self.needed} tokens, and its {whose} may use "
                f"{maximum} per minute: send less, or have the {whose}'s rate limit raised"
            )
        text = f"this {whose}'s rate limit is {maximum} {_WORDS[kind]}, and {self.used} are used"
        if kind == "parallel":
            return f"{text}; retry when one has ended"
        return f"{text}, of which this call needs {self.needed}; retry in {self.retry_s} s"

    @property
    def retry_s(self) -> int:
        """After how many seconds to try again."""
        return max(1, -(-self.retry_ms // 1000))


def rates_text(rates: Sequence[Rate], prefix: str, tokens: int) -> str:
    """Rates as the script takes them, `kind|max|needed|key;...`, for a call of so many tokens."""
    return "".join(
        [f"{it.kind}|{it.max}|{it.needed(tokens)}|{prefix}{it.name}:{it.kind};" for it in rates]
    )
