"""Reserve, settle, release, expire on a real Valkey."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from metering.core.limits import Bounds, Floor, Limit, Refused
from metering.core.money import PICO_PER_USD as USD
from metering.core.rates import Throttled
from metering.core.record import UsageRow
from metering.ledger import Hold, Ledger
from metering.ledger.replies import parse_charges, states_of
from metering.redis import Redis, share
from metering.redis.outbox import Outbox
from tests.builders import APPLICATION, limit, row

CENT = USD // 100


def likely(pico: int, ceiling: int | None = None) -> Bounds:
    """Bounds of a call."""
    return Bounds(
        likely_pico=pico,
        ceiling_pico=pico if ceiling is None else ceiling,
        likely_tokens=100,
        ceiling_tokens=200,
    )


async def reserve(
    ledger: Ledger, *limits: Limit, bounds: Bounds | None = None, **values: Any
) -> tuple[Hold | Refused | Throttled, Hold | None]:
    """One admission: the verdict, and the hold if that is what it is."""
    found = await ledger.reserve(
        row(**values), limits, bounds or likely(10 * CENT), expected_ms=5_000
    )
    return found, found if isinstance(found, Hold) else None


def priced(hold: Hold, pico: int, **values: Any) -> UsageRow:
    """The row of a call that cost so much, half of it input."""
    half = pico // 2
    return msgspec.structs.replace(
        hold.row, status="ok", cost_pico=pico, input_pico=half, output_pico=pico - half, **values
    )


async def spend(ledger: Ledger, limit_: Limit, pico: int) -> str:
    """One whole call; gives the state it left the limit in."""
    _, hold = await reserve(ledger, limit_)
    assert hold is not None
    charged = await ledger.settle(hold, priced(hold, pico), 10)
    assert charged is not None
    return states_of(charged)[limit_.limit_id]


@pytest.mark.parametrize(
    ("mode", "max_cents", "calls"),
    [
        #         state after, or refused, of calls that cost so many cents
        ("allow", 100, [(40, "ok"), (40, "ok"), (20, "exceeded"), (1, "overrun"), (1, "overrun")]),
        ("block", 100, [(40, "ok"), (60, "exceeded"), (1, "overrun"), (1, "refused")]),
        ("block", 0, [(1, "overrun"), (1, "refused")]),
        ("block", 100, [(250, "overrun"), (1, "refused"), (1, "refused")]),
        ("hard", 100, [(90, "ok"), (10, "exceeded"), (10, "refused")]),
    ],
)
async def test_one_call_after_the_other(
    ledger: Ledger, mode: Any, max_cents: int, calls: list[tuple[int, str]]
) -> None:
    """A block limit is Pay-i's: the call that crosses max passes, the next does not."""
    team = limit(max=max_cents * CENT, mode=mode)
    await ledger.define(team)

    for cents, expected in calls:
        verdict, hold = await reserve(ledger, team)
        if expected == "refused":
            assert isinstance(verdict, Refused)
            assert not verdict.retryable
            assert verdict.states == {"team": "blocked"}
            continue
        assert hold is not None
        charged = await ledger.settle(hold, priced(hold, cents * CENT), 10)
        assert charged is not None
        assert list(states_of(charged).values()) == [expected]


async def test_many_at_once_are_held_not_overspent(ledger: Ledger) -> None:
    """With room for 20 likely costs, 21 of 200 concurrent calls pass, the others may try again."""
    team = limit(usd=2, mode="block")
    await ledger.define(team)

    verdicts = await asyncio.gather(*(reserve(ledger, team) for _ in range(200)))

    refused = [it for it, _ in verdicts if isinstance(it, Refused)]
    assert len(refused) == 200 - 21
    assert all(it.retryable and 1 <= it.retry_after_s <= 20 for it in refused)
    [why] = refused[0].refusals
    assert (why.max, why.settled, why.held, why.needed) == (2 * USD, 0, 210 * CENT, 0)
    assert (why.limit_id, why.holds, why.missing, why.final) == ("team", 21, 10 * CENT, False)


async def test_a_refusal_by_one_limit_holds_nothing_on_the_others(ledger: Ledger) -> None:
    """All limits of a call are decided together: the others say `blocked_external`."""
    tight, wide = limit("tight", mode="block", max=0), limit("wide", usd=100, mode="block")
    await ledger.define(tight)
    await ledger.define(wide)
    await spend(ledger, tight, CENT)

    verdict, _ = await reserve(ledger, wide, tight)

    assert isinstance(verdict, Refused)
    assert verdict.states == {"wide": "blocked_external", "tight": "blocked"}
    assert verdict.blocked_limit_ids == ("tight",)
    wide_totals, tight_totals = await ledger.totals(APPLICATION, ["wide", "tight"])
    assert (wide_totals.held_likely, wide_totals.holds) == (0, 0)
    assert wide_totals.counts["blocked_external"] == tight_totals.counts["blocked"] == 1


async def test_ending_twice_is_harmless(ledger: Ledger) -> None:
    """Settling again, or expiring what has settled, moves nothing and writes no second row."""
    team = limit(usd=10)
    await ledger.define(team)
    _, hold = await reserve(ledger, team)
    assert hold is not None

    first = await ledger.settle(hold, priced(hold, 123), 7)
    again = await ledger.settle(hold, priced(hold, 456), 9)
    expired = await ledger.expire(hold, hold.row, 0)

    assert first == again == expired
    (totals,) = await ledger.totals(APPLICATION, ["team"])
    assert (totals.settled, totals.settled_input, totals.settled_output) == (123, 61, 62)
    assert (totals.held_likely, totals.held_ceiling, totals.holds) == (0, 0, 0)
    assert totals.counts["ok"] == 1


async def test_a_release_counts_as_failed_and_charges_nothing(ledger: Ledger) -> None:
    """A provider's error costs nothing and is counted under `failed`."""
    team = limit(usd=10)
    await ledger.define(team)
    _, hold = await reserve(ledger, team)
    assert hold is not None

    charges = parse_charges(await ledger.release(hold, hold.row) or b"")

    assert (charges[0].amount, charges[0].state) == (0, "failed")
    (totals,) = await ledger.totals(APPLICATION, ["team"])
    assert (totals.settled, totals.holds, totals.counts["failed"]) == (0, 0, 1)


@pytest.mark.parametrize(
    ("unit", "max_", "settles", "then"),
    [
        ("tokens", 100, [60, 60], "refused"),
        ("tokens", 100, [60], "admitted"),
        ("requests", 2, [1, 1], "refused"),
        ("requests", 2, [1], "admitted"),
        ("concurrent", 1, [1, 1, 1], "admitted"),
    ],
)
async def test_other_units(
    ledger: Ledger, unit: Any, max_: int, settles: list[int], then: str
) -> None:
    """Tokens, requests and calls at once are counted like money, in whole units."""
    team = limit(max=max_, unit=unit, mode="block")
    await ledger.define(team)
    for tokens in settles:
        _, hold = await reserve(ledger, team, bounds=Bounds())
        assert hold is not None
        await ledger.settle(hold, priced(hold, CENT), tokens)

    verdict, _ = await reserve(ledger, team, bounds=Bounds())

    assert isinstance(verdict, Refused if then == "refused" else Hold)


async def test_one_at_a_time(ledger: Ledger) -> None:
    """A second concurrent call is refused, retryably, until the first has ended."""
    alone = limit(max=1, unit="concurrent", mode="block")
    await ledger.define(alone)
    _, hold = await reserve(ledger, alone)
    assert hold is not None

    verdict, _ = await reserve(ledger, alone)
    assert isinstance(verdict, Refused)
    assert verdict.retryable

    await ledger.settle(hold, priced(hold, 0), 0)
    assert isinstance((await reserve(ledger, alone))[0], Hold)


async def test_a_reset_in_flight(ledger: Ledger) -> None:
    """What a call spent that was admitted before a reset never enters the new epoch."""
    team = limit(usd=10)
    await ledger.define(team)
    await spend(ledger, team, 5)
    _, hold = await reserve(ledger, team)
    assert hold is not None

    before = await ledger.reset(team, team.epoch + 1)
    again = await ledger.reset(team, team.epoch + 1)
    charges = parse_charges(await ledger.settle(hold, priced(hold, 7), 1) or b"")

    assert (before.settled, before.holds, before.counts["ok"]) == (5, 1, 1)
    assert again.settled == 0
    assert (charges[0].epoch, charges[0].amount) == (team.epoch, 7)
    (totals,) = await ledger.totals(APPLICATION, ["team"])
    assert (totals.epoch, totals.settled, totals.holds) == (team.epoch + 1, 0, 0)


async def test_a_limit_that_is_not_loaded_is_not_no_limit(ledger: Ledger, redis: Redis) -> None:
    """Counters that are gone are loaded before the call is decided."""
    team = limit(max=0, mode="block", unit="requests")

    verdict, _ = await reserve(ledger, team)

    assert isinstance(verdict, Refused)


async def test_expiry_charges_the_ceiling_to_hard_caps_and_the_floor_elsewhere(
    ledger: Ledger, redis: Redis
) -> None:
    """Of a worker that fell silent nobody knows the truth; its row says `unresolved`."""
    soft, hard = limit("soft", usd=10), limit("hard", usd=10, mode="hard")
    await ledger.define(soft)
    await ledger.define(hard)
    _, hold = await reserve(ledger, soft, hard, bounds=likely(CENT, ceiling=50 * CENT))
    assert hold is not None
    hold.floor = lambda: Floor(3)
    await ledger.heartbeat(0)
    assert await ledger.reap() == 0

    await redis.call("ZADD", share(APPLICATION).holds, 1, hold.record)
    assert await ledger.reap() == 0  # nobody expires a call that he himself is making
    ledger.abandon(hold)
    assert await ledger.reap() == 1

    soft_totals, hard_totals = await ledger.totals(APPLICATION, ["soft", "hard"])
    assert (soft_totals.settled, soft_totals.holds) == (3, 0)
    assert (hard_totals.settled, hard_totals.holds) == (50 * CENT, 0)
    found = await ledger.record(APPLICATION, hold.row.request_id)
    assert found is not None
    assert (found[0].status, found[0].cost_pico) == ("unresolved", 3)


async def test_who_gives_a_call_up_says_what_is_certain_of_it(ledger: Ledger) -> None:
    """Heartbeats may not have said it yet: what counts is what the call's own worker knows."""
    soft, hard = limit("soft", usd=10), limit("hard", usd=10, mode="hard")
    words = limit("words", max=1_000, mode="block", unit="tokens")
    for it in (soft, hard, words):
        await ledger.define(it)
    _, hold = await reserve(ledger, soft, hard, words, bounds=likely(CENT, ceiling=50 * CENT))
    assert hold is not None
    await ledger.heartbeat(0)

    await ledger.expire(hold, priced(hold, 7), 5)

    totals = await ledger.totals(APPLICATION, ["soft", "hard", "words"])
    assert [it.settled for it in totals] == [7, 50 * CENT, 5]
    assert [it.holds for it in totals] == [0, 0, 0]


async def test_a_truth_that_comes_late_is_a_correction(ledger: Ledger, redis: Redis) -> None:
    """The worker was only asleep: one signed row makes the difference good on every limit."""
    soft, hard = limit("soft", usd=10), limit("hard", usd=10, mode="hard")
    await ledger.define(soft)
    await ledger.define(hard)
    _, hold = await reserve(ledger, soft, hard, bounds=likely(CENT, ceiling=50 * CENT))
    assert hold is not None
    await redis.call("ZADD", share(APPLICATION).holds, 1, hold.record)
    ledger.abandon(hold)
    await ledger.reap()

    for _ in range(2):  # once by its name
        await ledger.settle(hold, priced(hold, 20 * CENT, lines={"input_text": 20 * CENT}), 5)

    totals = await ledger.totals(APPLICATION, ["soft", "hard"])
    assert [it.settled for it in totals] == [20 * CENT, 20 * CENT]
    entries = await Outbox(redis).read(10)
    assert [it.kind for it in entries] == ["call", "correction"]


async def test_a_heartbeat_raises_what_is_likely_to_what_is_certain(ledger: Ledger) -> None:
    """A call that has already cost more than expected counts with what it has cost."""
    team = limit(usd=1, mode="block")
    await ledger.define(team)
    _, hold = await reserve(ledger, team, bounds=likely(CENT))
    assert hold is not None
    hold.floor = lambda: Floor(150 * CENT)
    await ledger.heartbeat(0)

    verdict, _ = await reserve(ledger, team)
    assert isinstance(verdict, Refused)
    await ledger.settle(hold, priced(hold, 10 * CENT), 1)
    (totals,) = await ledger.totals(APPLICATION, ["team"])
    assert (totals.settled, totals.held_likely, totals.holds) == (10 * CENT, 0, 0)


async def test_every_verdict_leaves_one_row(ledger: Ledger, redis: Redis) -> None:
    """Settled, released and refused calls are all in the outbox, once."""
    team = limit(max=0, mode="block")
    await ledger.define(team)
    _, hold = await reserve(ledger, team)
    assert hold is not None
    await ledger.settle(hold, priced(hold, 1), 1)
    await reserve(ledger, team)
    _, free = await reserve(ledger)
    assert free is not None
    await ledger.release(free, free.row)

    entries = await Outbox(redis).read(10)

    assert [it.kind for it in entries] == ["call", "blocked", "call"]
    await Outbox(redis).landed(
        entries[0].stream,
        [it.id for it in entries],
        records=[],
        indexes=[],
        kept={},
        corrected_ttl_ms=1,
    )
    assert await Outbox(redis).depth() == 0


async def test_amounts_beyond_every_double_are_exact(ledger: Ledger) -> None:
    """Eighteen million dollars and one pico are told apart."""
    team = limit(max=18 * 10**18, mode="block")
    await ledger.define(team)
    assert await spend(ledger, team, 9 * 10**18 - 1) == "ok"
    assert await spend(ledger, team, 9 * 10**18) == "ok"
    assert await spend(ledger, team, 1) == "exceeded"
    assert await spend(ledger, team, 1) == "overrun"
    (totals,) = await ledger.totals(APPLICATION, ["team"])
    assert totals.settled == 18 * 10**18 + 1
