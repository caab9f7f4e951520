"""The machine finds what it is for: faults that are planted into the scripts."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, Verbosity, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.ledger.planted import FAULTS, Fault, rehearsed
from tests.ledger.test_twin import STEPS, arena

EXAMPLES_MAX = 2_000
"""A fault that is not found in so many is not found; most are in the first few."""


@pytest.mark.parametrize("fault", FAULTS, ids=lambda it: it.name)
async def test_a_planted_fault_is_caught(
    redis_url: str, database: str, tmp_path: Path, size: str, fault: Fault
) -> None:
    """Some step of the machine differs from the rules, in a bounded number of examples: the same
    ones every time, at full size others."""
    caught = await asyncio.to_thread(
        find, redis_url, database, tmp_path, fault, derandomize=size == "ci"
    )
    print(f"\n{fault.name}: {caught}")


def find(url: str, database: str, folder: Path, fault: Fault, *, derandomize: bool) -> str:
    """Run the machine until it catches a fault; gives how long that took."""
    with arena(url, database, folder, rehearsed((fault,))) as here:
        with pytest.raises(AssertionError):
            run_state_machine_as_test(
                here.machine(),
                settings=settings(
                    max_examples=EXAMPLES_MAX,
                    stateful_step_count=STEPS,
                    derandomize=derandomize,
                    phases=[Phase.generate],
                    deadline=None,
                    database=None,
                    verbosity=Verbosity.quiet,
                    report_multiple_bugs=False,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        return f"{here.steps} steps, {here.examples} examples"


def test_a_fault_whose_place_is_gone_is_none() -> None:
    """Who changes a script is told that a fault is not planted any more."""
    gone = Fault("gone", "Nothing.", "what no script says", "")
    with pytest.raises(AssertionError, match="gone can no longer be planted"):
        rehearsed((gone,))
