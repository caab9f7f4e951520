"""Limits keep what their modes promise, whoever comes first; and a race would tell if not."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from metering.store import Store
from tests.chaos.rig import Rig
from tests.races import ledgers, services
from tests.races.__main__ import WIDTHS
from tests.races.truth import WAYS, Asked, Call, Figures, Race, Told, Way

Size = Literal["ci", "full", "soak"]
BINDING: tuple[Way, ...] = ("block", "hard")


@pytest.fixture
async def store(database: str) -> AsyncIterator[Store]:
    """A store on a fresh database."""
    store = await Store.open(database)
    yield store
    await store.close()


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """The whole service, with two workers, before a stand-in."""
    with Rig(tmp_path_factory.mktemp("races"), outlive=False, **services.SETTINGS) as rig:
        yield rig


def check(way: Way, width: int, figures: Figures) -> None:
    """What holds of every race, and of a way and a width."""
    assert figures.broken == []
    assert figures.admitted > 0
    if way == "hard":
        assert figures.overrun_pico == 0
    if way == "allow":
        assert figures.refused == 0
    if way in BINDING:
        assert figures.refused > 0
    if way == "block" and width == 1:
        assert figures.false == 0


@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("way", WAYS)
async def test_through_two_ledgers(
    way: Way, store: Store, redis_url: str, tmp_path: Path, size: Size
) -> None:
    """1 to 1,000 calls at once by two proxies, in 20 races each (in CI up to 200, in one): no hard
    cap is overrun, and every refusal says exactly what was spent and held, and whether to wait."""
    widths, seeds = ((1, 10, 200), 1) if size == "ci" else (WIDTHS, 20)
    async with ledgers.two_ledgers(store, redis_url, tmp_path) as two:
        for width in widths:
            for seed in range(seeds):
                calls = ledgers.some_calls(random.Random(seed), width)
                check(way, width, await ledgers.race(two, redis_url, way, width, calls))


@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("way", WAYS)
def test_through_the_service(way: Way, rig: Rig, size: Size) -> None:
    """The same over HTTP, whole and streamed; what was charged is what the provider billed."""
    for width in (50,) if size == "ci" else WIDTHS:
        calls = services.some_calls(random.Random(width), width)
        check(way, width, services.race(rig, way, width, calls))


# What a race would tell. Calls cost 60 of a max of 100, are likely to cost 50, and at most 70.
CALL = Call(cost_pico=60, likely_pico=50, ceiling_pico=70, seconds=0)
WAIT = Told(retryable=True, settled_pico=0, held_pico=70, needed_pico=70, holds=1)
DONE = Told(retryable=False, settled_pico=60, held_pico=0, needed_pico=70, holds=0)
TOLD: list[tuple[Way, Told | None, str, str]] = [
    # what the third call was told, what happened in turn, and what is wrong with that
    ("hard", None, "a+ a- b+ b-", "spent 120, at most 100 was promised"),
    ("hard", None, "a+ b+ a- b- c+ c-", "spent 180, at most 100 was promised"),
    ("block", None, "a+ b+ c+ d+ a- b- c- d-", "spent 240, at most 190 was promised"),
    ("block", None, "a+ b+ c+ a- b- c-", ""),
    ("hard", WAIT, "a+ c! a-", ""),
    ("hard", DONE, "a+ a- c!", ""),
    ("hard", replace(DONE, retryable=True), "a+ a- c!", "said to be retryable, which it is not"),
    ("hard", replace(WAIT, retryable=False), "a+ c! a-", "said to be final, which it is not"),
    ("hard", WAIT, "c!", "refused with nothing in the way"),
    ("hard", replace(WAIT, holds=2), "a+ c! a-", "names 2 holds, and 1 calls are under way"),
    ("hard", replace(WAIT, held_pico=60), "a+ c! a-", "states 60 as held, and 70 is"),
    ("hard", replace(DONE, settled_pico=61), "a+ a- c!", "states 61 as spent, and 60 was"),
    ("hard", replace(DONE, needed_pico=50), "a+ a- c!", "needs 50, and the call costs 60"),
    ("allow", DONE, "a+ a- c!", "a limit that allows has refused"),
    ("block", None, "a+ c! a-", "a call was refused and its client not told"),
    ("block", WAIT, "a+ c+ a- c-", "a call was held and its client told that it is refused"),
    ("hard", None, "a+", "1 of 1 calls have not ended"),
]
MARKS = {"+": "held", "-": "settled", "!": "blocked"}


@pytest.mark.parametrize(("way", "told", "happened", "wrong"), TOLD)
def test_a_race_would_tell(way: Way, told: Told | None, happened: str, wrong: str) -> None:
    """Whatever a limit might do wrong or say wrongly is seen, and nothing where all is well."""
    marks = [(what[0], MARKS[what[1]]) for what in happened.split()]
    asked = {name: Asked(CALL, told if name == "c" else None) for name, _ in marks}
    broken = Race(way, 100, asked).told_again(marks).broken
    assert (wrong in broken) if wrong else broken == []
