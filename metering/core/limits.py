"""Limits: what they are, when they refuse, and what becomes of calls and counters.

Laws
1. A hold counts until one script moves it to settled; expiry alone frees nothing.
2. All limits of a call are decided and held in one script, all or nothing, on the server's clock.
3. Settling twice, late or after a reset is harmless: money of an old epoch never enters a new one.
4. Every verdict leaves one usage row, by the script that moved the counters.

An amount is counted in the limit's unit: pico for `usd`, plain counts for the others.

| mode  | a call is refused when                               | final when                  |
|-------|------------------------------------------------------|-----------------------------|
| allow | never                                                |                             |
| block | settled + likely of live holds > max                 | settled > max               |
| hard  | settled + ceilings of live holds + own ceiling > max | settled + own ceiling > max |

`requests` and `concurrent` count the call's own 1 in every mode that refuses.

| a call                | becomes   | holds           | each limit is charged       | row        |
|-----------------------|-----------|-----------------|-----------------------------|------------|
| is reserved           | held      | likely, ceiling | nothing                     |            |
| is refused            | blocked   |                 | nothing; it is counted      | blocked    |
| held, beats           | held      | likely >= floor | nothing                     |            |
| held, is settled      | settled   | no more         | the truth                   | call       |
| held, is released     | settled   | no more         | nothing                     | call       |
| held, expires         | expired   | no more         | ceiling if hard, else floor | call       |
| expired, is settled   | corrected |                 | the truth less what it was  | correction |
| unknown, is settled   | settled   |                 | the truth                   | replayed   |
| any other, is settled | as it was |                 | nothing                     |            |

`requests` are charged 1 for the truth or a floor, `concurrent` nothing. A limit whose epoch a call
is not of keeps its counters; the row has the charge all the same.

| a limit               | its counters                                                           |
|-----------------------|------------------------------------------------------------------------|
| is made               | are empty, or what rows say of its epoch                               |
| gets another max      | stay                                                                   |
| gets a later epoch    | are empty: no call in flight is of it; `concurrent` keeps what is held |
| enters another window | the same, when somebody calls or looks: the epoch is its start         |
| is `rolling`          | lose each part that is older than the window                           |
| is deleted            | are gone; made again under its id, it has a later epoch                |

`core.books` and `core.rules` are this page as functions; the scripts are their twin.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

import msgspec

from metering.core.windows import Window, moment_text

Mode = Literal["allow", "block", "hard"]
OnStoreDown = Literal["refuse", "allow"]
Unit = Literal["usd", "tokens", "requests", "concurrent"]
State = Literal["ok", "exceeded", "overrun", "blocked", "blocked_external", "failed"]
STATES: tuple[State, ...] = ("ok", "exceeded", "overrun", "blocked", "blocked_external", "failed")


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """A limit's definition, as Postgres keeps it. Amounts are in the unit (pico for usd)."""

    application_id: str
    limit_id: str
    limit_name: str
    mode: Mode = "allow"
    unit: Unit = "usd"
    max: int
    threshold_ppm: int | None = None
    """Fraction of max (in millionths, 750000..990000) at which the state becomes `exceeded`."""
    epoch: int
    """Of the counters: the creation ms, or that of the last reset. Windows have later ones."""
    created_ms: int
    updated_ms: int
    properties: dict[str, str | None] = {}
    window: Window | None = None
    """In which spans of time it counts; without one, until it is reset."""

    on_store_down: OnStoreDown | None = None
    """What becomes of calls while nobody can tell what it has counted; None: as its mode has it."""

    def epoch_at(self, at_ms: int) -> int:
        """Where a call that is admitted then is counted: an epoch begins with a window, and within
        one with a reset."""
        return self.epoch if self.window is None else max(self.epoch, self.window.start(at_ms))

    def resets_ms(self, epoch: int) -> int | None:
        """When the window ends that an epoch is in; None: nothing but a reset ends it."""
        return self.window.bounds(epoch or self.epoch)[1] if self.window is not None else None

    @property
    def binding(self) -> bool:
        """Whether this limit can refuse a call."""
        return self.mode != "allow"

    @property
    def refuses_without_store(self) -> bool:
        """Whether it refuses calls while nobody can tell what it has counted."""
        if self.on_store_down is None:
            return self.binding
        return self.on_store_down == "refuse"

    @property
    def threshold(self) -> int:
        """The amount from which on the state is `exceeded`, rounded up."""
        return -(-self.max * (self.threshold_ppm or 1_000_000) // 1_000_000)


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """The live counters of a limit in one epoch. Amounts are in the limit's unit."""

    epoch: int
    settled: int = 0
    settled_input: int = 0
    settled_output: int = 0
    held_likely: int = 0
    held_ceiling: int = 0
    holds: int = 0
    counts: dict[State, int] = {}

    @property
    def requests(self) -> int:
        """How many calls were counted, whatever became of them."""
        return sum(self.counts.values())


class Charge(msgspec.Struct, frozen=True, array_like=True):
    """What one limit was charged by one row, and the state it was left in."""

    limit_id: str
    epoch: int
    unit: Unit
    amount: int
    state: State


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """What a call may cost: certain so far, likely, and at most. Pico-USD and tokens."""

    floor_pico: int = 0
    likely_pico: int = 0
    ceiling_pico: int = 0
    likely_tokens: int = 0
    ceiling_tokens: int = 0
    limits: dict[str, tuple[int, int]] = {}
    """Likely and ceiling, in pico-USD, of limits with own rates: by limit id."""


class Floor(NamedTuple):
    """What is certain of a call so far."""

    pico: int = 0
    tokens: int = 0
    limit_costs: Mapping[str, tuple[int, int]] = MappingProxyType({})
    """The same of limits with own rates, as in a usage row: all of it is input."""


class Refusal(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a limit had no room for a call: the numbers that prove it, in the limit's unit."""

    limit_id: str
    epoch: int
    unit: Unit
    mode: Mode
    max: int
    settled: int
    held: int
    """Likely amounts of the live holds; of a hard cap their ceilings."""
    needed: int
    """What the call itself would have held; 0 where the mode does not count it."""
    holds: int
    resets_at_ms: int | None = None
    """When its window ends; of a rolling one, when so much has left it that the call has room."""

    @property
    def final(self) -> bool:
        """Whether what is settled suffices to refuse; if not, holds do, which end by themselves."""
        return self.settled + self.needed > self.max

    @property
    def missing(self) -> int:
        """How much more room there would have to be."""
        return self.settled + self.held + self.needed - self.max


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """The call must not go ahead: why, in numbers."""

    states: dict[str, State]
    blocked_limit_ids: tuple[str, ...]
    retryable: bool
    retry_after_s: int = 0
    refusals: tuple[Refusal, ...] = ()
    """Of each limit that blocks."""

    @property
    def until_ms(self) -> int | None:
        """When all begin anew whose money is spent; None: they do not, or it would not help."""
        return until_ms(self.refusals)

    @property
    def resets_at(self) -> dict[str, str]:
        """When the windows of those limits end that have one, by id, as text."""
        return refusals_reset_at(self.refusals)


def until_ms(refusals: Iterable[Refusal]) -> int | None:
    """When all limits begin anew that refuse for good, if there is room for the call then."""
    final = [it for it in refusals if it.final]
    ends = [it.resets_at_ms for it in final if it.resets_at_ms is not None and it.needed <= it.max]
    return max(ends, default=None) if len(ends) == len(final) else None


def refusals_reset_at(refusals: Iterable[Refusal]) -> dict[str, str]:
    """When the windows end that are used up, or have room again: by limit id, as text."""
    ends = [(it.limit_id, it.resets_at_ms) for it in refusals]
    return {limit_id: moment_text(end_ms) for limit_id, end_ms in ends if end_ms is not None}


def resets_at(limits: Iterable[tuple[Limit, int]]) -> dict[str, str]:
    """When the windows end that limits are in, each in an epoch: by id, as text."""
    ends = [(it.limit_id, it.resets_ms(epoch)) for it, epoch in limits if it.window is not None]
    return {limit_id: moment_text(end_ms) for limit_id, end_ms in ends if end_ms is not None}
