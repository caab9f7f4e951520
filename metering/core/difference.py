"""Differences: where two of our books do not say the same, and what an audit makes of it."""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

from metering.core.limits import Unit

Kind = Literal[
    "counter",  # a limit's live counters, against its rows
    "hold",  # what a limit holds, against the records of calls in flight
    "record",  # a call in flight that nobody would ever end
    "orphan",  # a name in a set of holds whose call has ended
    "limit_total",  # what landed rows charged a limit, against these rows
    "rollup",  # the sums of an hour, against its rows
    "outbox",  # rows that nobody lands
    "journal",  # what a worker noted that a call cost, against its row
    "dead_letter",  # a row that no table takes
]


AMOUNTS = frozenset(
    {"cost", "settled", "settled_input", "settled_output", "held_likely", "held_ceiling"}
)
"""What is in the difference's unit; all other numbers are counts, or say what they are."""


class Pair(NamedTuple):
    """A number as it was found, and as it should be."""

    found: int
    expected: int


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One difference, with its numbers and its cause."""

    kind: Kind
    application_id: str
    about: str
    """Which limit, record, hour, ...: `team`, `model=gpt-4o 2026-11-28T10:00:00Z`."""
    unit: Unit | None = None
    """What `AMOUNTS` are in, pico for usd. None: there are none."""
    numbers: dict[str, Pair] = {}
    cause: str
    repair: str | None = None
    """What a repair does about it; None: nothing can."""

    @property
    def mark(self) -> tuple[str, str, str]:
        """What makes it the same difference at a second look."""
        return self.kind, self.application_id, self.about
