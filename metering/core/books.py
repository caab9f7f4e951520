"""An application's books: what limits have come to, what calls hold, and which rows were left.

Immutable: what happens to a limit gives other books; what happens to calls is in `core.rules`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

import msgspec
from msgspec.structs import replace

from metering.core.limits import Charge, Floor, Limit, Mode, Totals, Unit
from metering.core.windows import PARTS

Status = Literal["held", "blocked", "settled", "expired", "corrected"]
Kind = Literal["call", "replayed", "blocked", "correction"]


class Used(NamedTuple):
    """What a call used, as far as whoever ends it knows."""

    input_pico: int = 0
    output_pico: int = 0
    tokens: int = 0
    limit_costs: Mapping[str, tuple[int, int]] = {}
    """Input and output, in pico-USD, of limits with own rates: by limit id."""

    def cost_for(self, limit_id: str) -> tuple[int, int]:
        """Input and output, in pico-USD, of a limit in usd."""
        return self.limit_costs.get(limit_id, (self.input_pico, self.output_pico))


NOTHING = Used()


class Share(msgspec.Struct, frozen=True):
    """What a call in flight holds of one limit."""

    epoch: int
    unit: Unit
    mode: Mode
    likely: int
    ceiling: int
    ends_ms: int
    """When it is expected to end."""


class Live(msgspec.Struct, frozen=True, kw_only=True):
    """A limit and its counters."""

    limit: Limit
    epoch: int
    oldest_ms: int = 0
    """Of a rolling window: where the first of its parts begins."""
    parts: Mapping[int, Totals] = {}
    """What came in, by epoch: one, or a part of a rolling window each."""
    holds: Mapping[str, Share] = {}
    """By call."""

    @property
    def part_ms(self) -> int:
        """How long a part of its window is; 0: it is no rolling one."""
        return self.limit.window.part_ms if self.limit.window is not None else 0

    @property
    def totals(self) -> Totals:
        """What it has come to, and what is held."""
        shares = self.holds.values()
        held = Totals(
            epoch=self.epoch,
            held_likely=sum(it.likely for it in shares),
            held_ceiling=sum(it.ceiling for it in shares),
            holds=len(shares),
        )
        return add(held, self.parts.values())

    def into(self, now_ms: int) -> int:
        """The epoch of what is admitted now."""
        return (
            max(self.epoch, now_ms // self.part_ms * self.part_ms) if self.part_ms else self.epoch
        )

    def counts(self, epoch: int) -> bool:
        """Whether what was admitted in an epoch is of this life: money of an old one never is."""
        return epoch == self.epoch or (self.part_ms > 0 and epoch > self.epoch)

    def gone(self, epoch: int) -> bool:
        """Whether that part of a rolling window has left it."""
        return self.part_ms > 0 and epoch // self.part_ms * self.part_ms < self.oldest_ms

    def book(self, charge: Totals) -> Live:
        """The counters with a charge, in its epoch's part."""
        if self.gone(charge.epoch):
            return self
        before = self.parts.get(charge.epoch, Totals(epoch=charge.epoch))
        return replace(self, parts={**self.parts, charge.epoch: add(before, [charge])})


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt."""

    status: Status
    shares: Mapping[str, Share] = {}
    deadline_ms: int = 0
    """When it is given up if nobody says that it runs."""
    floor: Floor = Floor()
    charges: tuple[Charge, ...] = ()
    """What its last row charged."""


class Books(msgspec.Struct, frozen=True):
    """All that is known of an application; a transition gives others."""

    limits: Mapping[str, Live] = {}
    calls: Mapping[str, Call] = {}
    rows: tuple[tuple[Kind, tuple[Charge, ...]], ...] = ()

    def put(self, *limits: Live) -> Books:
        """The books with limits as they are now."""
        return replace(self, limits={**self.limits, **{it.limit.limit_id: it for it in limits}})

    def note(self, call_id: str, call: Call, kind: Kind | None = None) -> Books:
        """The books with a call as it is now, and the row of its verdict if it leaves one."""
        rows = self.rows if kind is None else (*self.rows, (kind, call.charges))
        return replace(self, calls={**self.calls, call_id: call}, rows=rows)


# What happens to limits


def define(books: Books, limit: Limit, now_ms: int) -> Books:
    """Create a limit's counters, or bring its definition up to date; a later epoch starts anew."""
    epoch = (
        limit.epoch if limit.window is not None and limit.window.part_ms else limit.epoch_at(now_ms)
    )
    if limit.unit == "concurrent":  # a reset of it ends nothing: who runs still runs
        epoch = min(limit.epoch, limit.created_ms)
    live = books.limits.get(limit.limit_id)
    if live is None or (epoch > live.epoch and limit.unit != "concurrent"):
        return books.put(Live(limit=limit, epoch=epoch))
    return books.put(replace(live, limit=limit))


def forget(books: Books, limit_id: str) -> Books:
    """A limit is deleted; calls in flight settle without it."""
    return replace(books, limits={k: v for k, v in books.limits.items() if k != limit_id})


def reset(books: Books, limit: Limit, epoch: int, now_ms: int) -> tuple[Books, Totals]:
    """Begin a later epoch with empty counters; gives them as they were. Who is running now still
    runs: a limit on calls at once keeps its holds, and so its epoch."""
    if limit.limit_id not in books.limits:
        books = define(books, limit, now_ms)
    live = present(books.limits[limit.limit_id], now_ms)
    if live.epoch >= epoch:
        return books.put(live), Totals(epoch=limit.epoch)
    after = replace(live, parts={}) if limit.unit == "concurrent" else begin(live, epoch)
    return books.put(after), live.totals


def begin(live: Live, epoch: int) -> Live:
    """A later epoch, with empty counters; calls in flight settle into the old one."""
    return Live(limit=live.limit, epoch=epoch)


def age(live: Live, now_ms: int) -> Live:
    """What is older than a rolling window leaves it, and does not come back."""
    if not live.part_ms:
        return live
    oldest_ms = (now_ms // live.part_ms - PARTS) * live.part_ms
    aged = replace(live, oldest_ms=max(live.oldest_ms, oldest_ms))
    return replace(aged, parts={k: v for k, v in live.parts.items() if not aged.gone(k)})


def roll(live: Live, now_ms: int) -> Live:
    """Begin the window on the calendar that is now, if it is not the present one."""
    if live.limit.window is None or live.part_ms:
        return live
    start = live.limit.window.start(now_ms)
    return begin(live, start) if start > live.epoch else live


def present(live: Live, now_ms: int) -> Live:
    """A limit in the window that is now."""
    return roll(age(live, now_ms), now_ms)


def add(first: Totals, others: Iterable[Totals]) -> Totals:
    """One with what others have come to."""
    settled, into, out = first.settled, first.settled_input, first.settled_output
    counts = dict(first.counts)
    for it in others:
        settled += it.settled
        into += it.settled_input
        out += it.settled_output
        for state, count in it.counts.items():
            counts[state] = counts.get(state, 0) + count
    return replace(first, settled=settled, settled_input=into, settled_output=out, counts=counts)
