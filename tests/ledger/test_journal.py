"""The journal: what found no Redis is kept, replayed once, and adopted from the dead."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from metering.core.limits import Bounds, Limit
from metering.core.record import UsageRow
from metering.duties.writer import Writer
from metering.errors import StoreAway
from metering.ledger import Hold, Ledger
from metering.redis import Redis, share
from metering.spool import Entry, Spool
from metering.store import Store, usage
from metering.store import requests as stored_requests
from tests.builders import APPLICATION, row


def entry(kind: str = "settle", **values: object) -> Entry:
    """An entry of a call of its own."""
    one = row(cost_pico=5)
    return Entry(kind=kind, request_id=one.request_id, row=one, **values)  # type: ignore[arg-type]


def truth(hold: Hold, pico: int) -> UsageRow:
    """What a call turned out to be."""
    return msgspec.structs.replace(hold.row, status="ok", cost_pico=pico, input_pico=pico)


@pytest.fixture
async def away() -> AsyncIterator[Redis]:
    """A Redis that is not there."""
    redis = Redis("unix:///nowhere/redis.sock", timeout_ms=50)
    yield redis
    await redis.close()


async def held(ledger: Ledger, *limits: Limit) -> Hold:
    """A call that was admitted."""
    hold = await ledger.reserve(row(), limits, Bounds(likely_pico=7), expected_ms=1)
    assert isinstance(hold, Hold)
    return hold


async def settled(ledger: Ledger, limit_id: str = "team") -> int:
    """What a limit's live counters say is spent."""
    (totals,) = await ledger.totals(APPLICATION, [limit_id])
    assert (totals.holds, totals.held_likely) == (0, 0)
    return totals.settled


async def test_the_last_word_on_a_call_is_kept_until_it_is_done(tmp_path: Path) -> None:
    """Opened calls are adopted by the next process, ended ones replayed by this one."""
    mine = Spool(tmp_path, "one")
    opened, ended, done = entry("open"), entry("settle"), entry("release")
    await asyncio.gather(*(mine.append(it) for it in (opened, ended, done)))
    mine.done(done)

    assert mine.waiting() == [ended]
    assert Spool(tmp_path, "two").adopt() == []
    mine.close()
    (orphan,) = Spool(tmp_path, "three").adopt()
    assert orphan.entries == [opened, ended]


async def test_a_journal_with_nothing_left_in_it_is_emptied(tmp_path: Path) -> None:
    """A long life of short outages leaves no long file, and a clean end leaves none."""
    spool = Spool(tmp_path, "one")
    for one in [entry() for _ in range(20)]:
        await spool.append(one)
        spool.done(one)
    await spool.append(last := entry())
    spool.done(last)
    await asyncio.sleep(0.01)

    assert (tmp_path / "one.spool").stat().st_size == 0
    spool.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("lost", [1, 8, 20])
async def test_a_torn_frame_is_the_end_of_the_file(tmp_path: Path, lost: int) -> None:
    """A crash within a write loses that entry alone, which nobody was told was written."""
    spool = Spool(tmp_path, "one")
    await spool.append(first := entry())
    await spool.append(entry())
    spool.close()
    file = tmp_path / "one.spool"
    os.truncate(file, file.stat().st_size - lost)

    (orphan,) = Spool(tmp_path, "two").adopt()

    assert orphan.entries == [first]


async def test_a_full_disk_hides_nothing_that_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that fails half-way is taken back, so that later ones can be read; it says so."""
    spool = Spool(tmp_path, "one")
    await spool.append(first := entry())

    def full(file: int, data: memoryview) -> int:
        monkeypatch.undo()
        os.write(file, data[:5])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("metering.spool.os.write", full)
    with pytest.raises(OSError, match="No space"):
        await spool.append(second := entry())
    assert spool.waiting() == [first, second]  # this process still knows
    await spool.append(third := entry())
    spool.close()

    (orphan,) = Spool(tmp_path, "two").adopt()
    assert orphan.entries == [first, third]


async def test_one_process_adopts_a_journal(tmp_path: Path) -> None:
    """While one replays it no other does; once removed, it is gone for good."""
    dead = Spool(tmp_path, "dead")
    await dead.append(entry())
    dead.close()
    one, two = Spool(tmp_path, "one"), Spool(tmp_path, "two")

    (orphan,) = one.adopt()
    with orphan:
        assert two.adopt() == []
        orphan.remove()

    assert two.adopt() == []


async def test_a_settle_that_finds_no_redis_is_replayed_once(
    redis: Redis, away: Redis, ledger: Ledger, team: Limit, writer: Writer, store: Store
) -> None:
    """The answer goes out without limit states; the charge comes when Redis does."""
    hold = await held(ledger, team)
    ledger._redis = away
    assert await ledger.settle(hold, truth(hold, 40), 4) is None
    with pytest.raises(StoreAway):
        await ledger.reap()
    assert await ledger.replay() == 0

    ledger._redis = redis
    assert [await ledger.replay() for _ in range(2)] == [1, 0]

    await writer.flush()
    assert await settled(ledger) == 40
    assert (await usage.sums(store, usage.Filters())).cost_pico == 40


@pytest.mark.parametrize(
    ("landed", "remembered"),
    [
        (False, True),  # a record has no lifetime until its row has landed
        (True, True),
        (True, False),
    ],
)
async def test_a_truth_in_the_journal_outlives_the_reaper(
    redis: Redis,
    away: Redis,
    ledger: Ledger,
    team: Limit,
    writer: Writer,
    store: Store,
    landed: bool,  # noqa: FBT001 - a table
    remembered: bool,  # noqa: FBT001 - a table
) -> None:
    """Expired before the journal was replayed, landed or not, forgotten or not: one correction."""
    hold = await held(ledger, team)
    ledger._redis = away
    await ledger.settle(hold, truth(hold, 40), 4)
    ledger._redis = redis
    await redis.call("ZADD", share(APPLICATION).holds, 1, hold.record)
    assert await ledger.reap() == 1
    if landed:
        await writer.flush()
    if not remembered:
        await redis.call("DEL", hold.record)

    assert [await ledger.replay() for _ in range(2)] == [1, 0]

    await writer.flush()
    found = await stored_requests.by_request(store, APPLICATION, hold.row.request_id)
    assert found is not None
    assert (found.row.status, found.row.cost_pico) == ("ok", 40)
    assert await settled(ledger) == 40


async def lifetime_s(redis: Redis, hold: Hold) -> int | None:
    """How long the mark of a call lives on: None if it is gone, -1 for ever."""
    left: int = await redis.call("TTL", hold.record)
    return None if left == -2 else left


async def test_marks_live_as_long_as_a_call_may_be_ended_again(
    redis: Redis, away: Redis, ledger: Ledger, team: Limit, writer: Writer
) -> None:
    """Settled: until its row has landed. Unresolved: an hour more. Replayed without a hold: 15 min.

    What is kept is enough for the same end to change nothing.
    """
    settled_once, given_up = await held(ledger, team), await held(ledger, team)
    ledger._redis = away
    without_hold = await held(ledger, team)
    await ledger.settle(without_hold, truth(without_hold, 2), 1)
    ledger._redis = redis
    await ledger.settle(settled_once, truth(settled_once, 40), 4)
    await ledger.expire(given_up, msgspec.structs.replace(given_up.row, status="unresolved"), 0)
    await ledger.replay()
    holds = (settled_once, given_up, without_hold)
    assert [await lifetime_s(redis, it) for it in holds] == [-1, -1, -1]

    await writer.flush()

    gone, hour, quarter = [await lifetime_s(redis, it) for it in holds]
    assert gone is None
    assert hour is not None
    assert 3_500 < hour <= 3_600
    assert quarter is not None
    assert 800 < quarter <= 900
    await ledger.apply("settle", truth(without_hold, 2), without_hold.limits, 1, "any")
    assert await settled(ledger) == 42


async def test_a_call_that_lands_while_it_is_replayed_is_charged_once(
    redis: Redis, ledger: Ledger, team: Limit, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reply to its settle was lost, its mark was there and then gone: the rows know."""
    hold = await held(ledger, team)
    await ledger.settle(hold, truth(hold, 40), 4)
    await ledger._spool.append(
        Entry(
            kind="settle",
            request_id=hold.row.request_id,
            row=truth(hold, 40),
            limits=list(hold.limits),
            tokens=4,
        )
    )
    apply = ledger.apply

    async def late(*given: Any) -> Any:
        await writer.flush()
        return await apply(*given)

    monkeypatch.setattr(ledger, "apply", late)
    assert await ledger.replay() == 0
    assert await ledger.replay() == 1

    assert await settled(ledger) == 40


async def test_a_call_opened_by_a_process_that_died_is_unresolved(
    redis: Redis, away: Redis, store: Store, team: Limit, writer: Writer, tmp_path: Path
) -> None:
    """Redis was away when it began, the process is gone: the next one writes the row."""
    dead = Ledger(away, store, Spool(tmp_path / "spool", "dead"), hold_ttl_ms=30_000)
    hold = await held(dead, team)
    await dead.close()
    heir = Ledger(redis, store, Spool(tmp_path / "spool", "heir"), hold_ttl_ms=30_000)

    assert [await heir.replay() for _ in range(2)] == [1, 0]

    await writer.flush()
    found = await stored_requests.by_request(store, APPLICATION, hold.row.request_id)
    assert found is not None
    assert (found.row.status, [it.state for it in found.charges]) == ("unresolved", ["failed"])
    await heir.close()


async def test_one_entry_that_cannot_be_replayed_keeps_no_other(
    redis: Redis, away: Redis, ledger: Ledger, team: Limit
) -> None:
    """What is behind a broken entry gets through; the entry itself is kept."""
    good = await held(ledger, team)
    ledger._redis = away
    await ledger.settle(good, truth(good, 3), 1)
    ledger._redis = redis
    await redis.call("SET", share(APPLICATION).record("broken", 1), "no hash")
    await ledger._spool.append(
        Entry(kind="settle", request_id="broken", row=row(request_id="broken"))
    )

    assert await ledger.replay() == 1

    assert [it.request_id for it in ledger._spool.waiting()] == ["broken"]
    assert await settled(ledger) == 3


async def test_a_hold_that_redis_forgot_is_settled_from_the_journal(
    redis: Redis, ledger: Ledger, team: Limit, writer: Writer, store: Store
) -> None:
    """Redis was emptied in flight: counters come from the rows, and the call is charged once."""
    hold = await held(ledger, team)
    await redis.call("FLUSHALL")

    assert await ledger.settle(hold, truth(hold, 40), 4) is None
    assert await ledger.replay() == 1

    await writer.flush()
    assert await settled(ledger) == 40
    assert (await usage.sums(store, usage.Filters())).ok == 1
