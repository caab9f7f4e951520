"""Bodies put away and looked up: sealed for one call, for some days, and never at a call's cost."""

from __future__ import annotations

import os
import zlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from metering.core.bodies import BYTES_MAX, Bodies, HeaderInfo
from metering.errors import OurFault
from metering.keyring import Keyring
from metering.meter import Archive
from metering.store import Store, applications
from metering.vault import Vault
from tests.builders import APPLICATION, NOW_MS, request_id

MASTER = "a-master-secret-" + "0" * 24
DAY_MS = 86_400_000
SAID = Bodies(provider_request_json="what the canary asked", provider_response_json=["and", "got"])


@pytest.fixture
async def store(database: str) -> AsyncIterator[Store]:
    """A store with an application."""
    store = await Store.open(database, connections=3, timeout_ms=1_000)
    await applications.create(store, APPLICATION, "a", NOW_MS)
    await Vault(store, Keyring([MASTER]), os.urandom).prepare()
    yield store
    await store.close()


def archive(store: Store, days: int = 30, master: str = MASTER) -> Archive:
    """An archive of a process that has nothing in memory."""
    return Archive(days, Vault(store, Keyring([master]), os.urandom), os.urandom)


async def keep(store: Store, its: Archive, **said: Any) -> list[Any]:
    """Put away; what was logged."""
    with capture_logs() as logged:
        await its.keep(store, APPLICATION, said, NOW_MS)
    return logged


async def test_what_was_said_comes_back(store: Store) -> None:
    """In another process too; of many calls each has its own, of whatever day."""
    days = [request_id(NOW_MS - n * DAY_MS) for n in range(3)]
    said = {call: Bodies(provider_request_json=f"of {call}") for call in days}
    assert await keep(store, archive(store), **said) == []
    for call in days:
        found = await archive(store).read(store, APPLICATION, call, NOW_MS)
        assert found == said[call]
    assert await archive(store).read(store, APPLICATION, request_id(), NOW_MS) is None


async def test_the_database_has_it_sealed(store: Store) -> None:
    """Compressed, and then such that nobody reads a word of it, or its like twice."""
    long = Bodies(provider_request_json="what the canary asked, again and again. " * 1_000)
    one, two, three = (request_id() for _ in range(3))
    assert await keep(store, archive(store), **{one: SAID, two: SAID, three: long}) == []
    async with store.connection() as connection:
        rows = await connection.fetch("SELECT sealed FROM bodies ORDER BY octet_length(sealed)")
        everything = str(await connection.fetch("SELECT * FROM secrets"))
    sealed = [row["sealed"] for row in rows]
    for it in sealed:
        assert b"canary" not in it
        for start in range(20):
            with pytest.raises(zlib.error):
                zlib.decompress(it[start:])
    assert sealed[0] != sealed[1]
    assert len(sealed[2]) < 1_000
    assert "bodies 2026" in everything


@pytest.mark.parametrize("column", ["request_id", "application_id", "sealed"])
async def test_what_was_altered_or_moved_does_not_open(store: Store, column: str) -> None:
    """Another call's, another application's, or changed in one bit."""
    call, other = request_id(), request_id()
    theirs = "00000000-0000-7000-8000-0000000000bb"
    await keep(store, archive(store), **{call: SAID})
    moved = {
        "request_id": f"'{other}'",
        "application_id": f"'{theirs}'",
        "sealed": "set_bit(sealed, 200, 1 - get_bit(sealed, 200))",
    }[column]
    async with store.connection() as connection:
        await connection.execute(f"UPDATE bodies SET {column} = {moved}")
    of = theirs if column == "application_id" else APPLICATION
    its = other if column == "request_id" else call
    with pytest.raises(OurFault, match="cannot be opened"):
        await archive(store).read(store, of, its, NOW_MS)


async def test_no_longer_than_said(store: Store) -> None:
    """Not stored when it is due already, not read from when it is, to the millisecond."""
    old, young = request_id(NOW_MS - DAY_MS), request_id(NOW_MS - DAY_MS + 1)
    its = archive(store, days=1)
    assert await keep(store, its, **{old: SAID, young: SAID}) == []
    async with store.connection() as connection:
        [row] = await connection.fetch("SELECT request_id FROM bodies")
    assert str(row["request_id"]) == young
    assert await its.read(store, APPLICATION, young, NOW_MS) == SAID
    assert await its.read(store, APPLICATION, young, NOW_MS + 1) is None
    assert its.until_ms(young) == NOW_MS + 1


async def test_an_archive_of_no_days_takes_nothing(store: Store) -> None:
    """And gives nothing, though something is there from before."""
    call = request_id()
    await keep(store, archive(store), **{call: SAID})
    none = archive(store, days=0)
    assert not none.takes
    assert await keep(store, none, **{request_id(): SAID}) == []
    assert await none.read(store, APPLICATION, call, NOW_MS) is None
    assert archive(store, days=1).takes


async def test_nothing_that_may_be_kept_is_not_kept(store: Store) -> None:
    """No row of a call of which there is nothing to say."""
    secret = Bodies(provider_request_headers=[HeaderInfo(name="authorization", value="x")])
    await keep(store, archive(store), **{request_id(): secret, request_id(): Bodies()})
    async with store.connection() as connection:
        assert await connection.fetchval("SELECT count(*) FROM bodies") == 0


async def test_the_first_stay(store: Store) -> None:
    """Whoever brings others later changes nothing."""
    call, its = request_id(), archive(store)
    await keep(store, its, **{call: SAID})
    await keep(store, its, **{call: Bodies(provider_request_json="another")})
    assert await its.read(store, APPLICATION, call, NOW_MS) == SAID


async def test_a_long_body_is_cut(store: Store) -> None:
    """And says so when it comes back."""
    call, its = request_id(), archive(store)
    await keep(store, its, **{call: Bodies(provider_request_json="x" * (BYTES_MAX + 1))})
    found = await its.read(store, APPLICATION, call, NOW_MS)
    assert found is not None
    assert (found.provider_request_json, found.truncated) == (
        "x" * BYTES_MAX,
        ["provider_request_json"],
    )


@pytest.mark.parametrize("trouble", ["table", "master", "store", "bug"])
async def test_what_cannot_be_kept_is_logged_and_no_more(store: Store, trouble: str) -> None:
    """The database refuses, the key cannot be had, nobody answers, or we are wrong: no fault."""
    its, said = archive(store), SAID
    if trouble == "table":
        async with store.connection() as connection:
            await connection.execute("DROP TABLE bodies")
    elif trouble == "master":
        its = archive(store, master="another-master-secret-" + "1" * 24)
    elif trouble == "store":
        await store.close()
    else:
        said = Bodies(provider_request_json="\ud800")
    [line] = await keep(store, its, **{request_id(): said, request_id(): SAID})
    assert (line["event"], line["calls"]) == ("bodies_not_kept", 2)
    assert "canary" not in str(line)
