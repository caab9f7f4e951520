"""Ends of calls that only Redis knows: kept here until their rows have landed.

If Redis loses its memory, what it was told and Postgres has not yet is told again from here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Literal, NamedTuple

from metering.core.record import UsageRow
from metering.ledger.holds import Hold

Verb = Literal["settle", "release", "expire"]
KEPT_MAX = 20_000
"""So many a process keeps; of more than that, while Postgres is away, Redis's log is the only
witness."""


class Ended(NamedTuple):
    """How a call ended, and the entry of the outbox that says so."""

    hold: Hold
    verb: Verb
    row: UsageRow
    tokens: int
    entry: bytes


class Unlanded:
    """Ends of calls by the outbox they are in, oldest first."""

    def __init__(self) -> None:
        self._by_outbox: dict[str, deque[Ended]] = {}
        self._count = 0

    def keep(self, outbox: str, ended: Ended) -> None:
        """Remember an end that Redis was told."""
        waiting = self._by_outbox.get(outbox)
        if waiting is None:
            waiting = self._by_outbox[outbox] = deque()
        waiting.append(ended)
        self._count += 1
        if self._count > KEPT_MAX:
            waiting.popleft()
            self._count -= 1

    def __len__(self) -> int:
        return self._count

    def outboxes(self) -> list[str]:
        """Those that something is in."""
        return [outbox for outbox, waiting in self._by_outbox.items() if waiting]

    def latest(self, outbox: str) -> bytes:
        """The entry of the latest end that an outbox has."""
        return self._by_outbox[outbox][-1].entry

    def landed(self, outbox: str, oldest: bytes, latest: bytes) -> None:
        """Forget what has landed: what came before the oldest entry that has not; if there is none
        (b""), all up to the one that was the latest when this was asked."""
        waiting = self._by_outbox[outbox]
        end = _place(oldest) if oldest else _after(_place(latest))
        while waiting and _place(waiting[0].entry) < end:
            waiting.popleft()
            self._count -= 1

    def take(self) -> Iterator[tuple[str, Ended]]:
        """Each with its outbox, forgotten as it is given."""
        for outbox, waiting in self._by_outbox.items():
            for _ in range(len(waiting)):  # what is kept meanwhile is not given
                self._count -= 1
                yield outbox, waiting.popleft()


def _place(entry: bytes) -> tuple[int, int]:
    ms, _, number = entry.partition(b"-")
    return int(ms), int(number)


def _after(place: tuple[int, int]) -> tuple[int, int]:
    return place[0], place[1] + 1
