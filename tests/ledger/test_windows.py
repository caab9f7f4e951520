"""Windows on a real Valkey, by its clock: calendar ones begin anew, rolling ones lose their oldest.

That an hour has passed is said by moving a limit's epoch back; a rolling window is made so short
that it passes by itself.
"""

from __future__ import annotations

import asyncio
import random
import struct
from typing import Any

import msgspec
import pytest

from metering.core.limits import STATES, Bounds, Limit, Refused, Totals
from metering.core.money import PICO_PER_USD as USD
from metering.core.windows import Window, moment_text
from metering.duties.writer import Writer
from metering.ledger import Hold, Ledger
from metering.ledger.replies import COUNTERS, pair, parse_charges, what_is
from metering.redis import SCRIPTS, Redis, share
from metering.store import Store
from metering.store import limits as stored_limits
from tests.builders import APPLICATION, but_for, limit, request_id, row

HOUR = 3_600_000
CENT = USD // 100
DIME = Bounds(likely_pico=10 * CENT, ceiling_pico=20 * CENT, likely_tokens=1, ceiling_tokens=2)
PART = struct.Struct("<12d")
NAME = share(APPLICATION).limit("team")


@pytest.fixture
async def now_ms(ledger: Ledger) -> int:
    """The server's time."""
    return await ledger.now_ms()


@pytest.fixture
def hourly(now_ms: int) -> Limit:
    """A dollar an hour, made long ago; no hour ends while a test runs."""
    near = min(now_ms % HOUR, HOUR - now_ms % HOUR) < 5 * 60_000
    window = Window(every="hour", zone="Asia/Kolkata" if near else "UTC")
    return limit(mode="block", window=window, epoch=1, created_ms=1)


def starts(of: Limit, now_ms: int) -> int:
    """When the present window began."""
    assert of.window is not None
    return of.window.starts(now_ms).present


async def call(ledger: Ledger, of: Limit, at_ms: int, attempt: int = 1) -> Hold | Any:
    """One admission, at a time by the proxy's clock."""
    one = row(at_ms=at_ms, request_id=request_id(at_ms), attempt=attempt)
    return await ledger.reserve(one, (of,), DIME, expected_ms=5_000)


async def settled(ledger: Ledger, hold: Hold, cents: int) -> Any:
    """The end of a call that cost so much; what it was charged."""
    cost = cents * CENT
    done = msgspec.structs.replace(
        hold.row, status="ok", cost_pico=cost, input_pico=cost - cost // 3, output_pico=cost // 3
    )
    charged = await ledger.settle(hold, done, 10)
    assert charged is not None
    [charge] = parse_charges(charged)
    return charge


async def spend(ledger: Ledger, of: Limit, at_ms: int, cents: int) -> Any:
    """One whole call."""
    hold = await call(ledger, of, at_ms)
    assert isinstance(hold, Hold), hold
    return await settled(ledger, hold, cents)


async def hours_pass(redis: Redis, of: Limit, now_ms: int, hours: int = 1) -> None:
    """What was counted until now was so many hours ago."""
    await alter(redis, epoch=starts(of, now_ms) - hours * HOUR)


async def alter(redis: Redis, **values: str | int) -> None:
    """Have the limit be something else from now on."""
    packed = await redis.call("HGET", NAME, "is")
    await redis.call("HSET", NAME, "is", but_for(packed, **values))


async def live(redis: Redis) -> tuple[int, int]:
    """The epoch and what is settled, as they stand in Redis."""
    what, packed = await redis.call("HMGET", NAME, "is", "cnt")
    whole, part = COUNTERS.unpack(packed)[:2]
    return what_is(what)[2], round(whole) * USD + round(part)


async def test_a_call_in_a_new_window_finds_it_empty(
    ledger: Ledger, redis: Redis, hourly: Limit, now_ms: int
) -> None:
    """What the last one was used up by refuses nothing, and its history is in the rows' epochs."""
    await ledger.define(hourly)
    start = starts(hourly, now_ms)
    assert (await spend(ledger, hourly, now_ms, 150)).state == "overrun"
    assert isinstance(await call(ledger, hourly, now_ms), Refused)
    [totals] = await ledger.present((hourly,))
    assert (totals.epoch, totals.settled, totals.counts["blocked"]) == (start, 150 * CENT, 1)

    await hours_pass(redis, hourly, now_ms)
    charge = await spend(ledger, hourly, now_ms, 30)

    assert (charge.epoch, charge.amount, charge.state) == (start, 30 * CENT, "ok")
    [totals] = await ledger.present((hourly,))
    assert (totals.epoch, totals.settled, totals.requests, totals.holds) == (start, 30 * CENT, 1, 0)


@pytest.mark.parametrize("off", [-HOUR, 0, HOUR])
async def test_the_servers_clock_says_which_window_is_now(
    ledger: Ledger, redis: Redis, hourly: Limit, now_ms: int, off: int
) -> None:
    """A proxy whose clock is a window behind, or ahead, counts in the same one as the others."""
    await ledger.define(hourly)
    await hours_pass(redis, hourly, now_ms)
    assert (await spend(ledger, hourly, now_ms + off, 10)).epoch == starts(hourly, now_ms)
    assert (await spend(ledger, hourly, now_ms, 20)).epoch == starts(hourly, now_ms)
    assert await live(redis) == (starts(hourly, now_ms), 30 * CENT)


async def test_proxies_that_disagree_in_one_run_count_in_one_window(
    ledger: Ledger, redis: Redis, hourly: Limit, now_ms: int
) -> None:
    """A window begins once, however many calls come at once with other bounds, and never ends
    before its time."""
    await ledger.define(hourly)
    await spend(ledger, hourly, now_ms, 90)
    await hours_pass(redis, hourly, now_ms)
    offs = [-3 * HOUR, -HOUR, 0, HOUR, 0, -3 * HOUR]
    holds = await asyncio.gather(*(call(ledger, hourly, now_ms + off) for off in offs))
    kept = [it for it in holds if isinstance(it, Hold)]
    assert [it.limits[0][1] for it in kept][-4:] == [starts(hourly, now_ms)] * 4
    for hold in kept:
        await settled(ledger, hold, 1)
    [totals] = await ledger.present((hourly,))
    assert totals.settled == CENT * sum(it.limits[0][1] == totals.epoch for it in kept)
    assert (totals.holds, totals.held_likely) == (0, 0)


async def test_a_call_belongs_to_the_window_of_its_admission(
    ledger: Ledger, redis: Redis, hourly: Limit, now_ms: int
) -> None:
    """Begun in one and ended in the next, it is charged to the one that has ended, in full."""
    await ledger.define(hourly)
    early = await call(ledger, hourly, now_ms)
    assert isinstance(early, Hold)
    record = early.record
    earlier = starts(hourly, now_ms) - HOUR
    held = (await redis.call("HGET", record, "lim")).decode()
    await redis.call("HSET", record, "lim", held.replace(str(earlier + HOUR), str(earlier)))
    await hours_pass(redis, hourly, now_ms)
    late = await call(ledger, hourly, now_ms)  # the window begins while the first call runs

    charge = await settled(ledger, early, 70)

    assert (charge.epoch, charge.amount) == (earlier, 70 * CENT)
    [totals] = await ledger.present((hourly,))
    assert (totals.settled, totals.holds, totals.requests) == (0, 1, 0)
    assert (await settled(ledger, late, 5)).epoch == earlier + HOUR
    [totals] = await ledger.present((hourly,))
    assert (totals.settled, totals.holds, totals.held_likely, totals.requests) == (
        5 * CENT,
        0,
        0,
        1,
    )


async def test_a_window_that_ended_without_a_call_reads_as_zeros(
    ledger: Ledger, redis: Redis, hourly: Limit, now_ms: int
) -> None:
    """Who reads what is left is not told what the last window came to."""
    await ledger.define(hourly)
    await spend(ledger, hourly, now_ms, 90)
    await hours_pass(redis, hourly, now_ms, 5)
    [totals] = await ledger.present((hourly,))
    assert totals == Totals(epoch=starts(hourly, now_ms), counts=dict.fromkeys(STATES, 0))


async def test_a_reset_within_a_window_holds_until_the_next(
    ledger: Ledger, redis: Redis, hourly: Limit, now_ms: int
) -> None:
    """It begins a later epoch; it gives what the present window has come to, not an earlier one."""
    await ledger.define(hourly)
    await spend(ledger, hourly, now_ms, 40)
    before = await ledger.reset(hourly, now_ms)
    assert before.settled == 40 * CENT
    later = msgspec.structs.replace(hourly, epoch=now_ms)
    assert (await spend(ledger, later, now_ms, 10)).epoch == now_ms
    await ledger.define(later)
    assert await live(redis) == (now_ms, 10 * CENT)

    await hours_pass(redis, hourly, now_ms)
    assert (await ledger.reset(hourly, now_ms + 1)).settled == 0


async def test_emptied_counters_are_rebuilt_from_the_present_window(
    ledger: Ledger, redis: Redis, store: Store, writer: Writer, hourly: Limit, now_ms: int
) -> None:
    """Rows of earlier windows stay out."""
    await stored_limits.create(store, hourly)
    await ledger.define(hourly)
    hold = await call(ledger, hourly, now_ms - HOUR)
    held = (await redis.call("HGET", hold.record, "lim")).decode()
    start = starts(hourly, now_ms)
    await redis.call("HSET", hold.record, "lim", held.replace(str(start), str(start - HOUR)))
    assert (await settled(ledger, hold, 60)).epoch == start - HOUR
    await spend(ledger, hourly, now_ms, 25)
    await writer.flush()
    await redis.call("FLUSHALL")

    [totals] = await ledger.present((hourly,))

    assert (totals.epoch, totals.settled, totals.requests) == (start, 25 * CENT, 1)
    stored = await stored_limits.totals(store, APPLICATION, "team", 0)
    assert [(it.epoch - start, it.settled) for it in stored] == [(0, 25 * CENT), (-HOUR, 60 * CENT)]


async def test_a_call_without_a_hold_counts_where_it_was_admitted(
    ledger: Ledger, redis: Redis, hourly: Limit, now_ms: int
) -> None:
    """Admitted while Redis was away, it is of the window of that time: of an earlier one it enters
    nothing, of a later one it is the first."""
    free = msgspec.structs.replace(hourly, mode="allow")
    await ledger.define(free)
    await hours_pass(redis, free, now_ms)
    start = starts(free, now_ms)
    for at_ms, cents, counted in ((now_ms - 2 * HOUR, 50, 0), (now_ms, 7, 7), (now_ms, 2, 9)):
        one = row(at_ms=at_ms, request_id=request_id(at_ms), status="ok", cost_pico=cents * CENT)
        pairs = [("team", free.epoch_at(at_ms))]
        assert await ledger.apply("settle", one, pairs, 1, "any") is not None
        assert (await live(redis))[1] == counted * CENT
    assert (await live(redis))[0] == start


@pytest.mark.parametrize(
    ("max_cents", "left_ms", "retryable", "retry_after_s", "until"),
    [
        # what is left of the window; whether to try again, and when; whether waiting helps at all
        (100, 21_000, False, 0, True),
        (100, 20_000, True, 20, True),
        (100, 4_100, True, 5, True),
        (100, 1, True, 1, True),
        (15, 4_000, False, 0, False),  # its ceiling is more than there is in any window
    ],
)
async def test_waiting_is_asked_for_only_if_it_helps_soon(
    ledger: Ledger,
    hourly: Limit,
    now_ms: int,
    max_cents: int,
    left_ms: int,
    retryable: bool,  # noqa: FBT001
    retry_after_s: int,
    until: bool,  # noqa: FBT001
) -> None:
    """A limit that is used up says when it begins anew; to try again, if that is within 20 s."""
    hard = msgspec.structs.replace(hourly, mode="hard", max=max_cents * CENT)
    if max_cents == 100:
        await ledger.define(msgspec.structs.replace(hard, mode="allow"))
        await spend(ledger, hard, now_ms, 100)
    await ledger.define(hard)
    assert hard.window is not None
    end = hard.window.starts(now_ms).next

    refused = await call(ledger, hard, end - left_ms)

    assert isinstance(refused, Refused)
    assert (refused.retryable, refused.retry_after_s) == (retryable, retry_after_s)
    assert refused.until_ms == (end if until else None)
    assert refused.resets_at == {"team": moment_text(end)}


async def test_of_several_limits_all_must_begin_anew(
    ledger: Ledger, hourly: Limit, now_ms: int
) -> None:
    """One that does not makes a refusal final, however soon the other does; holds do not."""
    team, other, wide = hourly, limit("other", mode="block"), limit("wide", mode="block", usd=9)
    pair_ = (team, other, wide)
    for it in pair_:
        await ledger.define(it)
    end = team.window.starts(now_ms).next if team.window else 0

    async def ask(*limits: Limit) -> Any:
        at_ms = end - 3_000
        one = row(at_ms=at_ms, request_id=request_id(at_ms))
        return await ledger.reserve(one, limits, DIME, expected_ms=5_000)

    hold = await ask(*pair_)
    assert hold.resets_at == {"team": moment_text(end)}
    done = msgspec.structs.replace(hold.row, status="ok", cost_pico=2 * USD, input_pico=2 * USD)
    await ledger.settle(hold, done, 1)
    both = await ask(*pair_)
    assert (both.retryable, both.until_ms, both.resets_at) == (
        False,
        None,
        {"team": moment_text(end)},
    )
    alone = await ask(team, wide)
    assert (alone.retryable, alone.until_ms, alone.retry_after_s) == (True, end, 3)
    assert alone.states == {"team": "blocked", "wide": "blocked_external"}


# Rolling


async def roll(redis: Redis, of: Limit, part_ms: int) -> None:
    """Make a limit whose window has parts of so many ms."""
    amounts = (*pair(of.unit, of.max), *pair(of.unit, of.threshold))
    arguments = [of.mode, of.unit, *amounts, of.epoch, part_ms]
    assert await redis.run(SCRIPTS["define"], [NAME], arguments) == 0  # closed, and empty
    await alter(redis, mode=of.mode)


def rolling(**values: Any) -> Limit:
    """A dollar in a rolling window; how long it is, is what Redis was told."""
    window = Window(rolling="1 minute")
    made: dict[str, Any] = {"mode": "block", "window": window, "epoch": 1, "created_ms": 1}
    return limit(**made | values)


async def parts(redis: Redis) -> list[float]:
    """The sum of a rolling window's parts: settled, input, output, in pico; then the states."""
    fields = await redis.call("HGETALL", f"{NAME};w")
    it = iter(fields if isinstance(fields, list) else [x for kv in fields.items() for x in kv])
    packed = [PART.unpack(value) for name, value in zip(it, it, strict=True) if name != b"oldest"]
    sums = [sum(column) for column in zip(*packed, strict=True)] or [0] * 12
    return [int(sums[at]) * USD + int(sums[at + 1]) for at in (0, 2, 4)] + sums[6:]


async def test_a_rolling_window_loses_what_is_older(
    ledger: Ledger, redis: Redis, now_ms: int
) -> None:
    """What was spent is counted for the whole window, and at most a sixtieth longer."""
    team = rolling()
    await roll(redis, team, 10)
    charge = await spend(ledger, team, now_ms, 100)
    assert charge.state == "exceeded"
    await spend(ledger, team, now_ms, 1)
    spent_ms = await ledger.now_ms()
    assert isinstance(await call(ledger, team, now_ms), Refused)

    await asyncio.sleep(0.4)
    [totals] = await ledger.present((team,))
    if await ledger.now_ms() - charge.epoch < 600:
        assert (totals.settled, totals.requests) == (101 * CENT, 3)
    while await ledger.now_ms() <= spent_ms + 610:
        await asyncio.sleep(0.01)
    [totals] = await ledger.present((team,))
    assert (totals.epoch, totals.settled, totals.settled_input, totals.settled_output) == (
        1,
        0,
        0,
        0,
    )
    assert isinstance(await call(ledger, team, now_ms), Hold)


async def ask(ledger: Ledger, of: Limit, at_ms: int, ceiling: int) -> Any:
    """An admission of a call that may cost so much."""
    bounds = msgspec.structs.replace(DIME, ceiling_pico=ceiling)
    one = row(at_ms=at_ms, request_id=request_id(at_ms))
    return await ledger.reserve(one, (of,), bounds, expected_ms=5_000)


@pytest.mark.parametrize(
    ("mode", "spent", "leaves"),
    [
        # cents spent one after the other; which of them must leave for a ceiling of 30
        ("hard", (30, 50), 0),
        ("hard", (5, 50, 25), 1),
        ("block", (30, 50, 25), 0),  # what a call needs itself does not count
        ("block", (5, 50, 90), 1),
    ],
)
async def test_a_rolling_window_that_is_used_up_says_when_it_has_room(
    ledger: Ledger, redis: Redis, now_ms: int, mode: str, spent: tuple[int, ...], leaves: int
) -> None:
    """To the moment: before it a call is refused, from then on it is let in."""
    team = rolling(mode=mode)
    await roll(redis, team, 40)
    epochs = []
    for cents in spent:
        epochs.append((await spend(ledger, team, now_ms, cents)).epoch)
        await asyncio.sleep(0.1)
    room_ms = (epochs[leaves] // 40 + 61) * 40
    at_ms = await ledger.now_ms()
    first = await ask(ledger, team, at_ms, 30 * CENT)
    assert isinstance(first, Refused)
    assert (first.retryable, first.retry_after_s) == (True, -(-(room_ms - at_ms) // 1000))
    assert (first.until_ms, first.resets_at) == (room_ms, {"team": moment_text(room_ms)})

    verdict: Any = first
    before_ms = at_ms
    while isinstance(verdict, Refused):
        assert before_ms < room_ms
        assert [it.resets_at_ms for it in verdict.refusals] == [room_ms]
        await asyncio.sleep(0.005)
        before_ms = await ledger.now_ms()
        verdict = await ask(ledger, team, at_ms, 30 * CENT)
    assert await ledger.now_ms() >= room_ms


async def test_a_rolling_window_that_never_has_room_says_no_time(
    ledger: Ledger, redis: Redis, now_ms: int
) -> None:
    """What needs more than max is refused for good; what only live holds refuse has no time yet."""
    team = rolling(mode="hard")
    await roll(redis, team, 1_000)
    await spend(ledger, team, now_ms, 10)
    never = await ask(ledger, team, now_ms, 101 * CENT)
    assert (never.retryable, never.until_ms, never.resets_at) == (False, None, {})
    assert isinstance(await ask(ledger, team, now_ms, 80 * CENT), Hold)
    soon = await ask(ledger, team, now_ms, 20 * CENT)
    assert (soon.retryable, soon.until_ms, soon.resets_at) == (True, None, {})


@pytest.mark.parametrize("seed", range(5))
async def test_room_in_a_rolling_window_is_when_enough_of_the_oldest_has_left(
    ledger: Ledger, redis: Redis, now_ms: int, seed: int
) -> None:
    """By another arithmetic, over parts of any size and age, and calls that come in one run."""
    chance, width = random.Random(seed), 10_000
    team = rolling(mode="hard")
    await roll(redis, team, width)
    ages = chance.sample(range(1, 55), 12)
    spent = {(now_ms // width - age) * width: chance.randrange(USD // 8, USD // 3) for age in ages}
    packed: list[Any] = ["oldest", now_ms // width - 60]
    for epoch, pico in spent.items():
        packed += [epoch, PART.pack(*divmod(pico, USD), *divmod(pico, USD), *[0] * 8)]
    total = sum(spent.values())
    counters = COUNTERS.pack(*divmod(total, USD), *divmod(total, USD), *[0] * 13)
    await redis.call("HSET", f"{NAME};w", *packed)
    await redis.call("HSET", NAME, "cnt", counters)

    async def check(ceiling: int) -> None:
        refused = await ask(ledger, team, now_ms, ceiling)
        left, room_ms = total, None
        for epoch in sorted(spent):
            left -= spent[epoch]
            if left + ceiling <= USD:
                room_ms = epoch + 61 * width
                break
        assert [it.resets_at_ms for it in refused.refusals] == [room_ms]

    await asyncio.gather(*(check(chance.randrange(USD)) for _ in range(10)))


async def test_a_call_that_runs_longer_than_the_window_is_charged_and_counted_nowhere(
    ledger: Ledger, redis: Redis, now_ms: int
) -> None:
    """It is of the part of its admission, which has left; its hold counts until it ends."""
    team = rolling()
    await roll(redis, team, 2)
    hold = await call(ledger, team, now_ms)
    await asyncio.sleep(0.2)
    [totals] = await ledger.present((team,))
    assert (totals.holds, totals.held_likely) == (1, 10 * CENT)
    charge = await settled(ledger, hold, 33)
    assert (charge.amount, charge.epoch) == (33 * CENT, hold.limits[0][1])
    [totals] = await ledger.present((team,))
    assert (totals.settled, totals.holds, totals.held_likely, totals.requests) == (0, 0, 0, 0)


async def test_the_counters_are_the_sum_of_the_parts_to_the_pico(
    ledger: Ledger, redis: Redis, now_ms: int
) -> None:
    """Whatever calls do, at once and over many windows: settled, given up, released, corrected."""
    team = rolling(usd=10**6)
    await roll(redis, team, 3)
    chance = random.Random(7)
    under_way: list[Hold] = []

    async def step() -> None:
        kind = chance.choice(["begin", "begin", "end", "end", "give up"])
        if kind == "begin" or not under_way:
            under_way.append(await call(ledger, team, now_ms))
            return
        hold = under_way.pop(chance.randrange(len(under_way)))
        cost = chance.randrange(3 * USD)
        done = msgspec.structs.replace(
            hold.row, cost_pico=cost, input_pico=cost // 7, output_pico=cost - cost // 7
        )
        if kind == "give up":
            await ledger.expire(hold, done, 0)
            await asyncio.sleep(chance.random() / 100)
        await ledger.settle(hold, done, 1)

    for _ in range(150):
        await asyncio.gather(*(step() for _ in range(chance.randrange(1, 5))))
        if chance.random() < 0.2:
            await asyncio.sleep(chance.random() / 20)
        packed = COUNTERS.unpack(await redis.call("HGET", NAME, "cnt"))
        pairs = [int(packed[at]) * USD + int(packed[at + 1]) for at in (0, 2, 4)]
        assert [*pairs, *packed[11:]] == await parts(redis)
        assert pairs[0] == pairs[1] + pairs[2]
        assert packed[10] == len(under_way)


async def test_a_rolling_window_is_rebuilt_from_its_parts(
    ledger: Ledger, redis: Redis, store: Store, writer: Writer, now_ms: int
) -> None:
    """From rows alone: what is in the window is in it again, each in its part."""
    team = rolling()
    await stored_limits.create(store, team)
    await ledger.define(team)
    for cents in (10, 20, 30):
        await spend(ledger, team, now_ms, cents)
        await asyncio.sleep(0.5)
    hold = await call(ledger, team, now_ms)
    held = (await redis.call("HGET", hold.record, "lim")).decode()
    old = now_ms // 1000 * 1000 - 70_000
    await redis.call("HSET", hold.record, "lim", held.replace(str(hold.limits[0][1]), str(old)))
    assert (await settled(ledger, hold, 99)).epoch == old  # out of the window
    await writer.flush()
    [before], its = await ledger.present((team,)), await parts(redis)
    assert before.settled == 60 * CENT

    await redis.call("FLUSHALL")

    assert await ledger.present((team,)) == [before]
    assert await parts(redis) == its


async def test_a_reset_empties_a_rolling_window(ledger: Ledger, redis: Redis, now_ms: int) -> None:
    """What came in before it is in no part of it; what comes in after is."""
    team = rolling()
    await roll(redis, team, 60_000)
    running = await call(ledger, team, now_ms)
    await spend(ledger, team, now_ms, 50)
    at_ms = await ledger.now_ms()
    assert (await ledger.reset(team, at_ms)).settled == 50 * CENT
    assert (await settled(ledger, running, 40)).epoch < at_ms
    [totals] = await ledger.present((team,))
    assert (totals.epoch, totals.settled, totals.holds) == (at_ms, 0, 0)
    assert (await spend(ledger, team, now_ms, 5)).epoch >= at_ms
    [totals] = await ledger.present((team,))
    assert totals.settled == 5 * CENT


async def test_a_forgotten_limit_leaves_nothing(ledger: Ledger, redis: Redis, now_ms: int) -> None:
    """Its parts go with it."""
    team = rolling()
    await roll(redis, team, 1000)
    await spend(ledger, team, now_ms, 1)
    await ledger.forget(APPLICATION, "team")
    assert await redis.call("KEYS", f"{NAME}*") == []
