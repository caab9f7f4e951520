"""What a call that has ended was charged is made good once, whatever Redis still knows of it."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from metering.core.limits import Bounds, Floor, Limit
from metering.core.record import UsageRow
from metering.duties.writer import Writer
from metering.errors import StoreAway
from metering.ledger import Hold, Ledger
from metering.redis import Redis, share
from metering.store import Store, requests, rollups, usage
from metering.store import limits as stored_limits
from tests.builders import APPLICATION, NOW_MS, limit, row

OTHER = limit("other", usd=10)
CATEGORY, PROVIDER_ID = "system.openai", "resp_1"


@pytest.fixture(autouse=True)
async def other(ledger: Ledger, store: Store, writer: Writer) -> None:
    """Another limit, which has no rates of its own."""
    await stored_limits.create(store, OTHER)
    await ledger.define(OTHER)


@pytest.fixture
async def guessed(ledger: Ledger, team: Limit) -> UsageRow:
    """A call that was charged 40 by estimate."""
    hold = await ledger.reserve(
        row(category=CATEGORY), [team], Bounds(likely_pico=7), expected_ms=1
    )
    assert isinstance(hold, Hold)
    one = cost(hold.row, 40, estimated=True)
    await ledger.settle(hold, one, 4)
    return one


def cost(one: UsageRow, pico: int, *, estimated: bool) -> UsageRow:
    """The row of the call at some cost."""
    return msgspec.structs.replace(
        one,
        status="ok",
        provider_id=PROVIDER_ID,
        cost_pico=pico,
        input_pico=pico,
        estimated=estimated,
    )


async def settled(ledger: Ledger) -> int:
    """What the limit has counted."""
    [totals] = await ledger.totals(APPLICATION, ["team"])
    return totals.settled


async def landed_pico(store: Store) -> int:
    """What the rows sum to."""
    return (await usage.sums(store, usage.Filters())).cost_pico


@pytest.mark.parametrize("landed", [False, True])
@pytest.mark.parametrize("pico", [100, 40, 3])
async def test_an_estimate_is_made_good_once(
    ledger: Ledger,
    store: Store,
    writer: Writer,
    guessed: UsageRow,
    landed: bool,  # noqa: FBT001 - a table
    pico: int,
) -> None:
    """Dearer, the same or cheaper; whether Redis knows the call or only its rows do."""
    if landed:
        await writer.flush()
    for _ in range(2):
        await ledger.amend(cost(guessed, pico, estimated=False), 1)
    assert await settled(ledger) == pico
    known = await ledger.call_of(APPLICATION, CATEGORY, PROVIDER_ID)
    assert known is not None
    assert (known.cost_pico, known.estimated) == (pico, False)

    await writer.flush()
    await ledger.amend(cost(guessed, pico + 5, estimated=False), 1)
    await writer.flush()
    assert await settled(ledger) == await landed_pico(store) == pico


@pytest.mark.parametrize("at", ["read", "run"])
async def test_a_call_that_lands_meanwhile_is_made_good_all_the_same(
    ledger: Ledger,
    redis: Redis,
    store: Store,
    writer: Writer,
    guessed: UsageRow,
    monkeypatch: pytest.MonkeyPatch,
    at: str,
) -> None:
    """Redis forgets it before it was read, or after: then its rows tell."""
    run = redis.run

    async def late(script: Any, *given: Any) -> Any:
        if script.name == "correct" and at == "run":
            monkeypatch.setattr(redis, "run", run)
            await writer.flush()
        return await run(script, *given)

    monkeypatch.setattr(redis, "run", late)
    if at == "read":
        await writer.flush()
    await ledger.amend(cost(guessed, 100, estimated=False), 1)
    await writer.flush()
    assert await settled(ledger) == await landed_pico(store) == 100


async def test_a_correction_while_its_call_lands_is_the_only_one(
    ledger: Ledger,
    store: Store,
    writer: Writer,
    guessed: UsageRow,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The row was read from the outbox before, and is forgotten after: the mark outlives it."""
    insert = usage.insert

    async def meanwhile(*given: Any) -> int:
        monkeypatch.setattr(usage, "insert", insert)
        await ledger.amend(cost(guessed, 100, estimated=False), 1)
        return await insert(*given)

    monkeypatch.setattr(usage, "insert", meanwhile)
    assert await writer.land() == 1
    await ledger.amend(cost(guessed, 100, estimated=False), 1)
    assert await settled(ledger) == 100
    await writer.flush()
    await ledger.amend(cost(guessed, 100, estimated=False), 1)
    assert await settled(ledger) == await landed_pico(store) == 100


async def test_corrections_at_once_of_a_call_that_landed(
    ledger: Ledger, store: Store, writer: Writer, guessed: UsageRow
) -> None:
    """All of them find that Redis does not know it: one puts it back, none undoes the other."""
    await writer.flush()
    truth = cost(guessed, 100, estimated=False)
    await asyncio.gather(*(ledger.amend(truth, 1) for _ in range(8)))
    known = await ledger.call_of(APPLICATION, CATEGORY, PROVIDER_ID)
    assert known is not None
    assert (known.cost_pico, known.estimated) == (100, False)
    await writer.flush()
    assert await settled(ledger) == await landed_pico(store) == 100


async def test_corrections_of_several_names_at_once_add_up(
    ledger: Ledger, store: Store, writer: Writer, guessed: UsageRow
) -> None:
    """Each is made of what the others left: counters and rows stay one, whoever comes first."""
    await writer.flush()
    call = await requests.by_request(store, APPLICATION, guessed.request_id)
    assert call is not None
    await asyncio.gather(
        ledger.amend(cost(guessed, 100, estimated=False), 1),
        *(
            ledger.reprice(f"run-{n}", call, cost(guessed, 50 + n, estimated=False), NOW_MS)
            for n in range(6)
        ),
    )
    await writer.flush()
    known = await ledger.call_of(APPLICATION, CATEGORY, PROVIDER_ID)
    assert known is not None
    assert await settled(ledger) == await landed_pico(store) == known.cost_pico
    assert known.cost_pico in {100, *range(50, 56)}


async def test_what_nobody_knows_is_left_alone(
    ledger: Ledger, store: Store, writer: Writer
) -> None:
    """A call that is nowhere charges nobody and leaves no row."""
    assert await ledger.call_of(APPLICATION, CATEGORY, "resp_2") is None
    await ledger.amend(cost(row(), 100, estimated=False), 1)
    await writer.flush()
    assert await landed_pico(store) == 0


async def test_what_was_certain_is_left_alone(
    ledger: Ledger, store: Store, writer: Writer, team: Limit
) -> None:
    """Rows that are no estimate stay as they are."""
    hold = await ledger.reserve(row(), [team], Bounds(likely_pico=7), expected_ms=1)
    assert isinstance(hold, Hold)
    await ledger.settle(hold, cost(hold.row, 40, estimated=False), 4)
    await writer.flush()
    await ledger.amend(cost(hold.row, 100, estimated=False), 1)
    await writer.flush()
    assert await settled(ledger) == await landed_pico(store) == 40


async def test_an_estimate_made_good_moves_input_and_output(
    ledger: Ledger, store: Store, writer: Writer, team: Limit
) -> None:
    """A limit's input and output are those of the truth, in the counters as in the totals of rows:
    an estimate had an output too."""
    hold = await ledger.reserve(row(), [team], Bounds(likely_pico=7), expected_ms=1)
    assert isinstance(hold, Hold)
    one = msgspec.structs.replace(cost(hold.row, 30, estimated=True), output_pico=10, cost_pico=40)
    await ledger.settle(hold, one, 4)
    truth = msgspec.structs.replace(
        one, input_pico=31, output_pico=4, cost_pico=35, estimated=False
    )
    await ledger.amend(truth, 1)
    await writer.flush()
    [live] = await ledger.totals(APPLICATION, ["team"])
    await ledger.forget(APPLICATION, "team")
    [rebuilt] = await ledger.totals(APPLICATION, ["team"])
    assert (live.settled, live.settled_input, live.settled_output) == (35, 31, 4)
    assert live == rebuilt


OWN = {"team": (70, 9)}
"""What the limit is charged at its own rates."""


@pytest.mark.parametrize("landed", [False, True])
@pytest.mark.parametrize("rated", [(False, True), (True, True), (True, False)])
async def test_a_limit_with_own_rates_is_made_good_by_them(
    ledger: Ledger,
    store: Store,
    writer: Writer,
    team: Limit,
    rated: tuple[bool, bool],
    landed: bool,  # noqa: FBT001 - a table
) -> None:
    """Whether it had them before, has them now, or both: counters, rows and totals of rows agree,
    and the row's own cost is corrected by itself."""
    hold = await ledger.reserve(row(), [team, OTHER], Bounds(likely_pico=7), expected_ms=1)
    assert isinstance(hold, Hold)
    before = msgspec.structs.replace(
        cost(hold.row, 30, estimated=True),
        output_pico=10,
        cost_pico=40,
        limit_costs={"team": (60, 20)} if rated[0] else {},
    )
    await ledger.settle(hold, before, 4)
    if landed:
        await writer.flush()
    truth = msgspec.structs.replace(
        before,
        input_pico=31,
        output_pico=4,
        cost_pico=35,
        estimated=False,
        limit_costs=OWN if rated[1] else {},
    )
    await ledger.amend(truth, 1)
    await writer.flush()
    names = ["team", "other"]
    live = await ledger.totals(APPLICATION, names)
    for name in names:
        await ledger.forget(APPLICATION, name)
    rebuilt = await ledger.totals(APPLICATION, names)
    found = await requests.by_request(store, APPLICATION, hold.row.request_id)
    assert found is not None
    expected = [OWN["team"] if rated[1] else (31, 4), (31, 4)]
    assert [(it.settled_input, it.settled_output) for it in live] == expected
    assert [it.settled for it in live] == [sum(it) for it in expected]
    assert live == rebuilt
    assert [found.row.cost_for(name) for name in names] == expected
    assert {it.limit_id: it.amount for it in found.charges} == dict(
        zip(names, map(sum, expected), strict=True)
    )
    assert (found.row.input_pico, found.row.output_pico, found.row.cost_pico) == (31, 4, 35)
    assert await rollups.differences(store) == (0, 0)


async def test_a_lost_call_charges_each_limit_its_own(
    ledger: Ledger, store: Store, writer: Writer, team: Limit
) -> None:
    """Hard caps their own ceiling, others their own floor, as last heard; then the truth comes."""
    hard = limit("hard", usd=1, mode="hard")
    await stored_limits.create(store, hard)
    await ledger.define(hard)
    limits = {"team": (8, 80), "hard": (9, 90)}
    bounds = Bounds(likely_pico=4, ceiling_pico=40, limits=limits)
    hold = await ledger.reserve(row(), [team, hard, OTHER], bounds, expected_ms=1)
    assert isinstance(hold, Hold)
    hold.floor = lambda: Floor(3, 1, {"team": (6, 0), "hard": (7, 0)})
    await ledger.heartbeat(0)
    ledger.abandon(hold)
    await ledger._redis.call("ZADD", share(APPLICATION).holds, 1, hold.record)
    assert await ledger.reap() == 1
    names = ["team", "hard", "other"]
    assert [it.settled for it in await ledger.totals(APPLICATION, names)] == [6, 90, 3]

    truth = msgspec.structs.replace(
        cost(hold.row, 20, estimated=False), limit_costs={"team": (40, 2), "hard": (60, 3)}
    )
    await ledger.apply("settle", truth, hold.limits, 5, "held")
    await writer.flush()
    live = await ledger.totals(APPLICATION, names)
    for name in names:
        await ledger.forget(APPLICATION, name)
    assert live == await ledger.totals(APPLICATION, names)
    assert [(it.settled_input, it.settled_output) for it in live] == [(40, 2), (60, 3), (20, 0)]


async def test_the_journal_keeps_what_limits_are_charged(
    ledger: Ledger, team: Limit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A settlement that found no Redis is replayed at the limit's own rates."""
    hold = await ledger.reserve(row(), [team], Bounds(likely_pico=7), expected_ms=1)
    assert isinstance(hold, Hold)
    one = msgspec.structs.replace(cost(hold.row, 40, estimated=False), limit_costs=OWN)

    async def away(*_: object) -> None:
        raise StoreAway

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "apply", away)
        assert await ledger.settle(hold, one, 4) is None
    assert await ledger.replay() == 1
    [live] = await ledger.totals(APPLICATION, ["team"])
    assert (live.settled, live.settled_input, live.settled_output) == (79, 70, 9)
