"""Sealed bodies: kept once, seen by their application alone, deleted in batches when due."""

from __future__ import annotations

import asyncpg
import pytest

from metering.errors import StoreAway
from metering.store import Store, applications, audit, bodies
from metering.store.audit import Asked
from sql import queries
from tests.store.samples import HOUR_MS, NOW_MS, request_id


async def count(store: Store) -> int:
    """How many calls' there are."""
    async with store.connection() as connection:
        found: int = await connection.fetchval("SELECT count(*) FROM bodies")
    return found


async def test_the_first_stay(store: Store, application_id: str) -> None:
    """Many at once, by request id; what is there already stays as it is, of each application."""
    one, two, other = request_id(), request_id(), request_id()
    await bodies.add(store, application_id, {one: b"one", two: b"two"})
    await bodies.add(store, application_id, {two: b"again", other: b""})
    assert await bodies.read(store, application_id, one) == b"one"
    assert await bodies.read(store, application_id, two) == b"two"
    assert await bodies.read(store, application_id, other) == b""
    assert await bodies.read(store, request_id(), one) is None
    assert await bodies.read(store, application_id, request_id()) is None
    assert await bodies.read(store, application_id, "none") is None
    await bodies.add(store, application_id, {})
    assert await count(store) == 3


async def test_tenants_see_and_keep_their_own(store: Store, application_id: str) -> None:
    """Row-level security: no other's is read or added."""
    theirs = (await applications.create(store, request_id(), "theirs", NOW_MS)).application_id
    call = request_id()
    ours, tenant = store.acting("{}", application_id), store.acting("{}", theirs)
    await bodies.add(ours, application_id, {call: b"ours"})
    assert await bodies.read(ours, application_id, call) == b"ours"
    assert await bodies.read(tenant, application_id, call) is None
    with pytest.raises(StoreAway) as refused:
        await bodies.add(tenant, application_id, {request_id(): b"forged"})
    assert isinstance(refused.value.__cause__, asyncpg.InsufficientPrivilegeError)
    assert await count(store) == 1


async def test_what_is_due_is_deleted_in_batches(store: Store, application_id: str) -> None:
    """Of calls before a time, to the millisecond, however many applications there are."""
    others = [
        (await applications.create(store, request_id(), name, NOW_MS)).application_id
        for name in ("a", "b", "c")
    ]
    for its in (application_id, *others):
        old = {request_id(NOW_MS - 1 - n * HOUR_MS): b"old" for n in range(5)}
        await bodies.add(store, its, old | {request_id(NOW_MS): b"new"})
    gone = [await bodies.expire(store, NOW_MS, 8) for _ in range(4)]
    assert gone == [8, 8, 4, 0]
    async with store.connection() as connection:
        left = await connection.fetch("SELECT application_id, sealed FROM bodies")
    assert {str(it["application_id"]) for it in left} == {application_id, *others}
    assert {it["sealed"] for it in left} == {b"new"}
    assert await bodies.expire(store, NOW_MS + 1, 8) == 4


async def test_they_leave_with_their_application(store: Store, application_id: str) -> None:
    """Whatever their age; those of others stay."""
    theirs = (await applications.create(store, request_id(), "theirs", NOW_MS)).application_id
    for its in (application_id, theirs):
        await bodies.add(store, its, {request_id(): b"x", request_id(): b"y"})
    await applications.delete(store, theirs)
    assert await bodies.expire(store, 0, 8) == 2
    assert await count(store) == 2


async def test_the_audit_trail_has_none_of_them(store: Store, application_id: str) -> None:
    """Neither that they came nor that they went."""
    before = await audit.page(store, Asked())
    await bodies.add(store, application_id, {request_id(NOW_MS): b"x"})
    await bodies.expire(store, NOW_MS + 1, 8)
    assert await audit.page(store, Asked()) == before


async def test_nothing_tries_to_compress_what_is_sealed(store: Store) -> None:
    """It came compressed, and sealed it looks like noise."""
    async with store.connection() as connection:
        storage = await connection.fetchval(
            "SELECT attstorage FROM pg_attribute"
            " WHERE attrelid = 'bodies'::regclass AND attname = 'sealed'"
        )
    assert storage == b"e"


async def test_what_is_due_is_found_by_the_index(store: Store, application_id: str) -> None:
    """It is planned anew each time: the plan of an empty table would scan a full one."""
    async with store.transaction() as connection:
        await connection.execute(queries["plan_anew"])
        await connection.execute(f"PREPARE due (bigint, bigint) AS {queries['expire_bodies']}")
        for _ in range(6):
            await connection.execute(f"EXECUTE due ({NOW_MS}, 500)")
        await connection.execute(
            "INSERT INTO bodies SELECT $1, uuid7_floor($2::bigint + n), ''"
            " FROM generate_series(1, 20000) AS n",
            application_id,
            NOW_MS,
        )
        await connection.execute("ANALYZE bodies")
        plan = await connection.fetch(f"EXPLAIN EXECUTE due ({NOW_MS}, 500)")
        await connection.execute("DEALLOCATE due")
    text = "\n".join(line[0] for line in plan)
    assert "Seq Scan on bodies" not in text, text
    assert "Index Scan using bodies_pkey on bodies b" in text, text
    assert "Tid Scan on bodies" in text, text
