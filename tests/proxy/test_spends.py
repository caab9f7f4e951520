"""What is said of budgets a moment after: looked at once a second, and never waited for."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from metering.core.limits import Limit, Totals
from metering.errors import StoreAway
from metering.proxy.spends import FRESH_S, REMEMBERED_MAX, Spends
from tests.builders import limit


class _Ledger:
    """Counts how often it is asked, and says what it is told to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.settled: int | None = 5

    async def present(self, limits: tuple[Limit, ...]) -> list[Totals]:
        """The totals of a limit."""
        self.asked += [it.limit_id for it in limits]
        if self.settled is None:
            raise StoreAway
        return [Totals(epoch=1, settled=self.settled)]


def world() -> Any:
    """A ledger, a clock, and figures of it."""
    ledger, clock = _Ledger(), SimpleNamespace(now_s=100.0)
    spends = Spends(ledger, lambda: clock.now_s)  # type: ignore[arg-type]
    return SimpleNamespace(ledger=ledger, clock=clock, of=spends.of, spends=spends)


async def test_a_figure_is_looked_at_once_a_second() -> None:
    """The first call does not have it, the next ones as it was, until it is a second old."""
    its, team = world(), limit("team")
    assert its.of(team) is None
    assert its.of(team) is None
    await asyncio.sleep(0)
    assert (its.of(team), its.ledger.asked) == (5, ["team"])
    its.ledger.settled = 7
    its.clock.now_s += FRESH_S
    assert its.of(team) == 5
    await asyncio.sleep(0)
    assert (its.of(team), its.ledger.asked) == (7, ["team", "team"])


async def test_while_redis_is_away_the_last_figure_stands() -> None:
    """It is asked for once a second, and no more often, and nothing is raised."""
    its, team = world(), limit("team")
    its.of(team)
    await asyncio.sleep(0)
    its.ledger.settled = None
    for _ in range(3):
        its.clock.now_s += FRESH_S
        assert (its.of(team), its.of(team)) == (5, 5)
        await asyncio.sleep(0)
    assert its.ledger.asked == ["team"] * 4


async def test_memory_is_bounded() -> None:
    """Who was not asked for the longest is forgotten first; applications are told apart."""
    its = world()
    for number in range(REMEMBERED_MAX + 1):
        its.of(limit(f"team-{number}"))
    await asyncio.sleep(0)
    assert its.of(limit(f"team-{REMEMBERED_MAX}")) == 5
    assert its.of(limit("team-0")) is None
    assert its.of(limit("team-9", application_id="another")) is None
