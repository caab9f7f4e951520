"""Rate limits: decided by the script that holds, on the server's clock. The laws: `core.rates`."""

from __future__ import annotations

import asyncio
import struct
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metering.core.limits import Bounds, Limit, Refused
from metering.core.rates import KINDS, Kind, Rate, Throttled
from metering.ledger import Hold, Ledger
from metering.redis import Redis, share
from metering.spool import Spool
from metering.store import Store
from tests.builders import APPLICATION, limit, row

SECONDS = 61
PACKED = struct.Struct(f"<{SECONDS + 1}d")
CALL = Bounds(likely_tokens=100, ceiling_tokens=200)


def rate(kind: Kind, maximum: int) -> Rate:
    """A rate of one key."""
    return Rate(kind, "key:k", maximum)


async def call(
    ledger: Ledger, *rates: Rate, limits: tuple[Limit, ...] = (), bounds: Bounds = CALL
) -> Hold | Refused | Throttled:
    """One admission."""
    return await ledger.reserve(row(), limits, bounds, expected_ms=5_000, rates=rates)


async def admitted(ledger: Ledger, *rates: Rate, bounds: Bounds = CALL) -> Hold:
    """One that must be let in."""
    hold = await call(ledger, *rates, bounds=bounds)
    assert isinstance(hold, Hold), hold
    return hold


async def refused(ledger: Ledger, *rates: Rate, bounds: Bounds = CALL) -> Throttled:
    """One that must come too soon."""
    found = await call(ledger, *rates, bounds=bounds)
    assert isinstance(found, Throttled), found
    return found


async def end(ledger: Ledger, hold: Hold, tokens: int) -> None:
    """A call that used so many tokens."""
    done = msgspec.structs.replace(hold.row, status="ok")
    assert await ledger.settle(hold, done, tokens) is not None


async def used(redis: Redis, kind: Kind) -> int:
    """What a rate has counted."""
    packed = await redis.call("GET", f"{share(APPLICATION).rate_prefix}key:k:{kind}")
    return int(sum(PACKED.unpack(packed)[1:])) if packed else 0


async def came(redis: Redis, kind: Kind, counts: dict[int, int]) -> None:
    """So much came so many seconds ago."""
    now = int((await redis.call("TIME"))[0])
    buckets = [0.0] * SECONDS
    newest = now - min(counts)
    for ago, number in counts.items():
        buckets[(now - ago) % SECONDS] = float(number)
    name = f"{share(APPLICATION).rate_prefix}key:k:{kind}"
    await redis.call("SET", name, PACKED.pack(newest, *buckets))


async def test_rates_of_one_kind_are_each_kept(ledger: Ledger, redis: Redis) -> None:
    """A key's and its team's: the one that has no room refuses, by its own name, and takes nothing
    of the other; what a call really used is counted in both."""
    own, team = rate("tokens", 1_000), Rate("tokens", "team:t", 450)
    hold = await admitted(ledger, own, team)
    await end(ledger, hold, 300)
    soon = await refused(ledger, own, Rate("tokens", "team:t", 350))
    assert (soon.rate.name, soon.used, soon.rate.whose) == ("team:t", 300, "team")
    assert "this team's rate limit is 350 tokens" in soon.message
    assert await used(redis, "tokens") == 300
    await admitted(ledger, own, team)


async def test_so_many_requests_in_a_minute(ledger: Ledger, redis: Redis) -> None:
    """The call after the last is told what is used and when to come back, and takes nothing;
    an end gives none back."""
    three = rate("requests", 3)
    holds = [await admitted(ledger, three) for _ in range(3)]
    for hold in holds:
        await end(ledger, hold, 10)
    for _ in range(20):
        found = await refused(ledger, three)
        assert (found.rate, found.used, found.needed, found.remaining) == (three, 3, 1, 0)
        assert 55_000 < found.retry_ms <= 61_000
        assert not found.final
    assert await used(redis, "requests") == 3


async def test_so_many_tokens_in_a_minute(ledger: Ledger, redis: Redis) -> None:
    """Likely tokens are taken as a call comes in, true ones at its end; none if it used nothing."""
    most = rate("tokens", 250)
    first, second = await admitted(ledger, most), await admitted(ledger, most)
    assert (await refused(ledger, most)).remaining == 50
    await end(ledger, first, 10)
    third = await admitted(ledger, most)
    assert await used(redis, "tokens") == 210
    await ledger.release(second, second.row)
    assert await used(redis, "tokens") == 110
    await end(ledger, third, 400)
    assert await used(redis, "tokens") == 410
    assert (await refused(ledger, most)).remaining == 0
    await end(ledger, third, 400)
    assert await used(redis, "tokens") == 410


async def test_what_never_fits(ledger: Ledger) -> None:
    """A call of more tokens than a minute has is refused for good, and so is all at a rate of 0."""
    found = await refused(ledger, rate("tokens", 99))
    assert found.final
    assert "alone" in found.message
    assert (await refused(ledger, rate("requests", 0))).final
    assert (await refused(ledger, rate("parallel", 0))).final
    nothing = Bounds()
    await admitted(ledger, rate("tokens", 0), bounds=nothing)


@pytest.mark.parametrize("how", ["settle", "release", "expire", "reap"])
async def test_so_many_at_once(
    ledger: Ledger, redis: Redis, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """A place is free again once a hold ends, however it ends."""
    two = rate("parallel", 2)
    first, _ = await admitted(ledger, two), await admitted(ledger, two)
    assert (await refused(ledger, two)).retry_s == 1
    match how:
        case "settle":
            await end(ledger, first, 10)
        case "release":
            await ledger.release(first, first.row)
        case "expire":
            await ledger.expire(first, first.row, 0)
        case _:
            ledger.abandon(first)
            await redis.call("ZADD", share(APPLICATION).holds, 1, first.record)
            assert await ledger.reap() == 1
    await admitted(ledger, two)
    assert isinstance(await call(ledger, two), Throttled)


async def test_a_place_that_nobody_holds_is_free(ledger: Ledger, redis: Redis) -> None:
    """Whatever left it behind: a call that is not among the holds holds no place."""
    one = rate("parallel", 1)
    name = f"{share(APPLICATION).rate_prefix}key:k:parallel"
    await redis.call("ZADD", name, 1, "forgotten")
    await admitted(ledger, one)
    await refused(ledger, one)


async def test_no_more_than_the_rate_at_once(ledger: Ledger) -> None:
    """Of 200 calls that come together so many are let in as each kind allows, and no more."""
    for kind, maximum, expected in (("requests", 7, 7), ("tokens", 1_150, 11), ("parallel", 5, 5)):
        asked = Rate(kind, f"key:{kind}", maximum)  # type: ignore[arg-type]
        verdicts = await asyncio.gather(*(call(ledger, asked) for _ in range(200)))
        assert sum(isinstance(it, Hold) for it in verdicts) == expected
        assert sum(isinstance(it, Throttled) for it in verdicts) == 200 - expected


async def test_a_refusal_takes_nothing_of_any(ledger: Ledger, redis: Redis) -> None:
    """Neither one by a rate nor one by a limit."""
    rates = (rate("requests", 5), rate("tokens", 1_000), rate("parallel", 5))
    none = limit(max=0, mode="block", unit="requests")
    await ledger.define(none)
    assert isinstance(await call(ledger, *rates, limits=(none,)), Refused)
    await refused(ledger, *rates[:2], rate("parallel", 0))
    assert await used(redis, "requests") == await used(redis, "tokens") == 0
    [outbox] = [await redis.call("XLEN", share(APPLICATION).outbox)]
    assert outbox == 1  # the limit's refusal has a row; what came too soon has none
    totals = await ledger.totals(APPLICATION, [none.limit_id])
    assert totals[0].counts["blocked"] == 1


@pytest.mark.parametrize(
    ("counts", "room"),
    [
        #  seconds ago: how many came, and is there room for one more of 3
        ({0: 3}, False),
        ({30: 1, 59: 2}, False),
        ({60: 3}, False),  # the 61st second: in part less than a minute ago
        ({62: 3}, True),
        ({62: 1, 90: 2}, True),
        ({500: 3}, True),
    ],
)
async def test_a_minute_moves_along(
    ledger: Ledger, redis: Redis, *, counts: dict[int, int], room: bool
) -> None:
    """What came in the last 60 s counts, by the second; older calls do not."""
    await came(redis, "requests", counts)
    found = await call(ledger, rate("requests", 3))
    assert isinstance(found, Hold) is room


async def test_when_there_is_room_again(ledger: Ledger, redis: Redis) -> None:
    """The wait is until enough of what came has become old, not until all has."""
    await came(redis, "tokens", {50: 30, 20: 40, 5: 30})
    wants = {30: 11, 31: 41, 70: 41, 71: 56}
    for needed, seconds in wants.items():
        found = await refused(ledger, rate("tokens", 100), bounds=Bounds(likely_tokens=needed))
        assert found.used == 100
        assert seconds - 1.1 <= found.retry_ms / 1_000 <= seconds + 0.1, needed


async def test_rates_wait_for_no_redis(store: Store, tmp_path: Path) -> None:
    """Without Redis a call that no limit holds goes on."""
    away = Redis("redis://127.0.0.1:1", timeout_ms=200)
    ledger = Ledger(away, store, Spool(tmp_path / "spool", "test"), hold_ttl_ms=30_000)
    hold = await admitted(ledger, rate("requests", 0))
    assert hold.spooled
    await ledger.close()
    await away.close()


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    counts=st.dictionaries(st.integers(0, 60), st.integers(0, 50), min_size=1, max_size=12),
    needed=st.integers(0, 60),
    maximum=st.integers(0, 300),
)
async def test_the_script_is_the_rules_twin(
    ledger: Ledger, redis: Redis, counts: dict[int, int], needed: int, maximum: int
) -> None:
    """Whatever came when: admitted if what is younger than 61 seconds leaves room, else not."""
    await came(redis, "tokens", counts)
    before = int((await redis.call("TIME"))[0])
    verdict = await call(ledger, rate("tokens", maximum), bounds=Bounds(likely_tokens=needed))
    moved = int((await redis.call("TIME"))[0]) - before  # a second may have passed meanwhile
    possible = {
        sum(it for ago, it in counts.items() if ago + shift < SECONDS) for shift in range(moved + 2)
    }
    if isinstance(verdict, Throttled):
        assert verdict.used in possible
        assert verdict.used + needed > maximum
    else:
        assert min(possible) + needed <= maximum


def test_kinds() -> None:
    """Every kind takes one of itself, but tokens."""
    assert [Rate(kind, "n", 1).needed(9) for kind in KINDS] == [1, 9, 1]
