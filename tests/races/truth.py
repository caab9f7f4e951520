"""What really happened in a race, and whether the limit kept what it promises.

Who was let in, refused and charged, and in which order, is read from Redis's own MONITOR; what each
call costs is known here alone. None of the limit's own figures is believed: those that a refusal
states are held against these.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tests.monitor import Command

MARK = re.compile(r' "\{s\d\d\}:r:[^:]+:([^:]+):1" "st" "(held|blocked|settled|expired)"')
Way = Literal["check", "allow", "block", "hard"]
WAYS: tuple[Way, ...] = ("check", "allow", "block", "hard")
"""`check`: the limit allows, and each client looks at what is spent before it calls."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """A call: what is thought of it beforehand, what it comes to, and how long it takes."""

    cost_pico: int
    likely_pico: int = 0
    """0: only the service knows."""
    ceiling_pico: int = 0
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a client was told that was refused."""

    retryable: bool
    settled_pico: int
    held_pico: int
    needed_pico: int
    holds: int


@dataclass(frozen=True)
class Asked:
    """A call that was made, by its request id: admitted, or refused so."""

    call: Call
    told: Told | None = None


@dataclass(kw_only=True)
class Figures:
    """What came of one race."""

    max_pico: int
    spent_pico: int = 0
    admitted: int = 0
    refused: int = 0
    turned_away: int = 0
    """By the client itself, which had looked before."""
    false: int = 0
    """Refused, though with what the calls came to in the end this one would have fit."""
    false_by_own_bound: int = 0
    """Of these: those that did not fit by their own ceiling, whatever else was under way."""
    broken: list[str] = field(default_factory=list)
    """What the limit's mode promises and did not keep."""

    @property
    def overrun_pico(self) -> int:
        """How much more than max was spent."""
        return max(0, self.spent_pico - self.max_pico)


def trace(commands: Iterable[Command]) -> list[tuple[str, str]]:
    """(request id, what became of it) of all calls, in the order in which Redis decided."""
    marks = (MARK.match(it.arguments) for it in commands if it.scripted and it.name == "HSET")
    return [(mark[1], mark[2]) for mark in marks if mark]


class Race:
    """A race as it is told again, with what nobody could know when it was run."""

    def __init__(self, way: Way, max_pico: int, asked: Mapping[str, Asked]) -> None:
        self.figures = Figures(max_pico=max_pico)
        self._way = way
        self._asked = asked
        self._flight: dict[str, Call] = {}
        self._at_most_pico = max_pico

    def told_again(self, marks: Sequence[tuple[str, str]]) -> Figures:
        """The figures, once all calls have ended."""
        its = self.figures
        for request_id, mark in marks:
            call = self._asked[request_id].call
            if mark == "held":
                self._admit(request_id, call)
            elif mark == "blocked":
                self._refuse(self._asked[request_id])
            else:
                its.spent_pico += self._flight.pop(request_id).cost_pico
        if self._flight or its.admitted + its.refused != len(self._asked):
            its.broken.append(f"{len(self._flight)} of {len(self._asked)} calls have not ended")
        if self._way in ("block", "hard") and its.spent_pico > self._at_most_pico:
            its.broken.append(f"spent {its.spent_pico}, at most {self._at_most_pico} was promised")
        return its

    def _sum(self, amount: str) -> int:
        return sum(getattr(it, amount) for it in self._flight.values())

    def _admit(self, request_id: str, call: Call) -> None:
        its = self.figures
        its.admitted += 1
        if self._asked[request_id].told is not None:
            its.broken.append("a call was held and its client told that it is refused")
        if self._way == "block":  # one call, and what estimates of those in flight miss
            missed_pico = self._sum("cost_pico") - self._sum("likely_pico")
            self._at_most_pico = its.max_pico + call.cost_pico + missed_pico
        self._flight[request_id] = call

    def _refuse(self, asked: Asked) -> None:
        its, call, told = self.figures, asked.call, asked.told
        its.refused += 1
        if told is None:
            its.broken.append("a call was refused and its client not told")
            return
        hard = self._way == "hard"
        really_pico = its.spent_pico + self._sum("cost_pico")
        own_pico = told.needed_pico
        final = its.spent_pico + own_pico > its.max_pico
        if really_pico + (call.cost_pico if hard else 0) <= its.max_pico:
            its.false += 1
            its.false_by_own_bound += final
        its.broken += self._lies(told, call, final=final)

    def _lies(self, told: Told, call: Call, *, final: bool) -> Iterable[str]:
        """What a refusal says that is not so."""
        its, hard = self.figures, self._way == "hard"
        if self._way in ("check", "allow"):
            yield "a limit that allows has refused"
        if not final and not self._flight:
            yield "refused with nothing in the way"
        if told.retryable == final:
            yield f"said to be {'retryable' if told.retryable else 'final'}, which it is not"
        if told.settled_pico != its.spent_pico:
            yield f"states {told.settled_pico} as spent, and {its.spent_pico} was"
        if told.holds != len(self._flight):
            yield f"names {told.holds} holds, and {len(self._flight)} calls are under way"
        if told.needed_pico < (call.cost_pico if hard else 0):
            yield f"needs {told.needed_pico}, and the call costs {call.cost_pico}"
        held_pico = self._sum("ceiling_pico" if hard else "likely_pico")
        if call.likely_pico and told.held_pico != held_pico:
            yield f"states {told.held_pico} as held, and {held_pico} is"
        if call.ceiling_pico and told.needed_pico != (call.ceiling_pico if hard else 0):
            yield f"needs {told.needed_pico}, and its ceiling is {call.ceiling_pico}"
