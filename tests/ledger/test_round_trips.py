"""What a call asks of Redis, as Redis itself saw it."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from metering.core.limits import Limit, Refused
from metering.core.rates import Rate
from metering.core.windows import Window
from metering.ledger import Hold, Ledger
from metering.redis import SCRIPTS
from tests.builders import limit, row
from tests.ledger.test_verbs import CENT, likely, priced
from tests.ledger.test_verbs import reserve as admit
from tests.monitor import Command, Monitor

CALLS = 20
EIGHT = [limit(f"team-{number}", usd=10, mode="block") for number in range(8)]


def asked(commands: list[Command]) -> Counter[str]:
    """What clients asked for, by name; a script that was run, by its own."""
    names = {f' "{script.running[1]}"': script.name for script in SCRIPTS.values()}
    return Counter(
        next((it for name, it in names.items() if command.arguments.startswith(name)), command.name)
        for command in commands
        if not command.scripted
    )


MINUTELY = limit("minutely", mode="block", window=Window(rolling="1 minute"), epoch=1, created_ms=1)
MONTHLY = limit("monthly", mode="block", window=Window(every="month"), epoch=1, created_ms=1)
RATES = (Rate("requests", "key:k", 1_000), Rate("parallel", "key:k", 10))


@pytest.mark.parametrize(
    ("limits", "rates"),
    [([], ()), (EIGHT[:2], ()), (EIGHT, ()), ([MINUTELY, MONTHLY], ()), (EIGHT[:1], RATES)],
    ids=["no limit", "two", "eight", "windows", "rates"],
)
async def test_each_verb_is_one_round_trip(
    limits: list[Limit], rates: tuple[Rate, ...], ledger: Ledger, redis_url: str
) -> None:
    """Calls one after the other run one script to reserve and one to settle, and ask nothing else,
    whatever the number of their limits, with windows and rates too."""
    await ledger.now_ms()  # connects
    for its in limits:
        await ledger.define(its)
    with Monitor(redis_url) as monitor:
        for _ in range(CALLS):
            hold = await ledger.reserve(row(), limits, likely(CENT), expected_ms=1, rates=rates)
            assert isinstance(hold, Hold)
            assert await ledger.settle(hold, priced(hold, 1), 1) is not None
        assert asked(monitor.seen()) == {"reserve": CALLS, "settle": CALLS}


async def test_a_refusal_is_one_round_trip(ledger: Ledger, redis_url: str) -> None:
    """What refuses also writes the row of the call, by the same script."""
    full = limit(mode="hard", max=0)
    await ledger.define(full)
    with Monitor(redis_url) as monitor:
        for _ in range(CALLS):
            verdict, _ = await admit(ledger, full)
            assert isinstance(verdict, Refused)
        assert asked(monitor.seen()) == {"reserve": CALLS}


async def test_calls_at_once_share_round_trips(ledger: Ledger, redis_url: str) -> None:
    """What has gathered while Redis was busy is one run of the script: fewer runs than calls."""
    await ledger.define(EIGHT[0])
    with Monitor(redis_url) as monitor:
        await asyncio.gather(*(admit(ledger, EIGHT[0]) for _ in range(200)))
        assert asked(monitor.seen())["reserve"] < 200 / 10
