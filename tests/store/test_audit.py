"""The audit log: every change of what people manage, in the transaction that makes it."""

from __future__ import annotations

import contextlib

import asyncpg
import msgspec
import pytest

import sql
from metering.core.limits import Limit
from metering.errors import StoreAway
from metering.store import Store, applications, audit, keys, limits
from metering.store.audit import Actor, Asked
from tests.store.samples import NOW_MS, request_id
from tests.store.test_keys import a_key

BY = Actor(role="app", key_id="0198", address="127.0.0.1", request_id="r-1")
# What is no change of what people manage: facts about calls, and what is kept of limits that ended.
NOT_MANAGED = {
    "audit",
    "bodies",  # they are nobody's to change, and the trail has none of them
    "dead_letters",
    "ingested",
    "limit_history",
    "limit_totals",
    "rollups",
    "schema_migrations",
    "secrets",  # its rotation is noted by name
    "usage",
}


def acting(store: Store) -> Store:
    """The store, for somebody's changes."""
    return store.acting(msgspec.json.encode(BY).decode())


def a_limit(application_id: str) -> Limit:
    """A limit of ten dollars."""
    return Limit(
        application_id=application_id,
        limit_id="monthly",
        limit_name="Monthly",
        max=10**13,
        epoch=1,
        created_ms=NOW_MS,
        updated_ms=NOW_MS,
    )


async def entries(store: Store, **asked: str | int) -> list[audit.Change]:
    """What is on record, oldest first."""
    found = await audit.page(store, Asked(**asked))  # type: ignore[arg-type]
    return list(reversed(found.items))


async def test_a_change_is_on_record_with_who_made_it(store: Store, application_id: str) -> None:
    """Created, updated and deleted: by whom, when, and the row before and after."""
    await limits.create(acting(store), a_limit(application_id))
    await limits.update(acting(store), application_id, "monthly", max=2, updated_ms=NOW_MS + 1)
    await limits.delete(acting(store), application_id, "monthly")
    made, changed, gone = await entries(store, object="limit")
    assert [it.action for it in (made, changed, gone)] == ["created", "updated", "deleted"]
    assert {it.actor for it in (made, changed, gone)} == {BY}
    assert {it.object_id for it in (made, changed, gone)} == {"monthly"}
    assert made.before is None
    assert made.after == changed.before
    assert made.after is not None
    assert made.after["max"] == 10**13
    assert changed.after == made.after | {"max": 2}
    assert changed.after == gone.before
    assert gone.after is None
    assert made.at_ms <= changed.at_ms <= gone.at_ms


async def test_what_changes_nothing_leaves_nothing(store: Store, application_id: str) -> None:
    """An update to what was there already is no change, nor is one that finds nothing."""
    await limits.create(store, a_limit(application_id))
    await limits.update(store, application_id, "monthly", max=10**13, updated_ms=NOW_MS + 1)
    await limits.update(store, application_id, "other", max=1, updated_ms=NOW_MS + 1)
    assert [it.action for it in await entries(store, object="limit")] == ["created"]


async def test_a_change_that_fails_is_not_on_record(store: Store, application_id: str) -> None:
    """What is rolled back takes its entry with it."""
    made = sql.queries["create_application"]
    with contextlib.suppress(RuntimeError):
        async with acting(store).transaction() as connection:
            await connection.fetchrow(made, request_id(), "rolled back", NOW_MS)
            raise RuntimeError
    assert not [it for it in await entries(store) if it.after and "rolled" in str(it.after)]


async def test_no_secret_is_on_record(store: Store, application_id: str) -> None:
    """Of a digest it is said that it is one, and that it changed."""
    key = a_key(application_id)
    await keys.create(store, key, b"a" * 32)
    async with store.connection() as connection:
        await connection.execute(
            "UPDATE keys SET digest = $1 WHERE key_id = $2", b"b" * 32, key.key_id
        )
    made, changed = await entries(store, object="key", object_id=key.key_id)
    assert made.after is not None
    assert made.after["digest"] == "secret"
    assert changed.before is not None
    assert changed.before["digest"] == "secret"
    assert changed.after is not None
    assert changed.after["digest"] == "another secret"
    text = str(await entries(store))
    assert (b"a" * 32).hex() not in text
    assert (b"b" * 32).hex() not in text


async def test_without_an_actor_it_was_the_service(store: Store, application_id: str) -> None:
    """What the service does by itself is said to be its own; the next transaction knows no more."""
    await limits.create(acting(store), a_limit(application_id))
    await limits.delete(store, application_id, "monthly")
    _, gone = await entries(store, object="limit")
    assert gone.actor == Actor(role="service")


async def test_what_goes_with_an_application_is_on_record(
    store: Store, application_id: str
) -> None:
    """A deletion names everything that it took along."""
    await limits.create(store, a_limit(application_id))
    await keys.create(store, a_key(application_id), b"a" * 32)
    await applications.delete(acting(store), application_id)
    gone = [it for it in await entries(store) if it.action == "deleted"]
    assert {it.object for it in gone} == {"application", "key", "limit"}
    assert {it.actor for it in gone} == {BY}
    assert {it.application_id for it in gone} == {application_id}


async def test_a_tenant_reads_its_own(store: Store, application_id: str) -> None:
    """Row-level security confines a tenant, also where what is asked for would not."""
    other = request_id()
    await applications.create(store, other, "other", NOW_MS)
    await limits.create(store, a_limit(other))
    assert {it.application_id for it in await entries(store, application_id=other)} == {other}
    async with store.reader(application_id) as reader:
        found = await reader.rows("page_audit", None, None, None, None, None, None, None, 100)
    assert {str(it["application_id"]) for it in found} == {application_id}
    assert await entries(store, application_id="no id") == []


async def test_pages_and_questions(store: Store, application_id: str) -> None:
    """Newest first, page by page; by kind, thing, key and time."""
    await limits.create(acting(store), a_limit(application_id))
    for maximum in range(1, 6):
        at_ms = NOW_MS + maximum
        await limits.update(store, application_id, "monthly", max=maximum, updated_ms=at_ms)
    asked = Asked(object="limit", object_id="monthly")
    first = await audit.page(store, asked, page_size=4)
    second = await audit.page(store, asked, page_size=4, cursor=first.cursor)
    assert [it.after["max"] for it in first.items if it.after] == [5, 4, 3, 2]
    assert [it.after["max"] for it in second.items if it.after] == [1, 10**13]
    assert second.cursor is None
    assert [it.action for it in await entries(store, key_id="0198")] == ["created"]
    at_ms = second.items[-1].at_ms
    assert not [it for it in await entries(store, to_ms=at_ms) if it.object == "limit"]
    assert len([it for it in await entries(store, from_ms=at_ms) if it.object == "limit"]) == 6


@pytest.mark.parametrize(
    "change", ["UPDATE audit SET action = 'created'", "DELETE FROM audit", "TRUNCATE audit"]
)
async def test_the_record_stays(store: Store, application_id: str, change: str) -> None:
    """Nobody changes or deletes an entry, not even the tables' owner."""
    before = await entries(store)
    assert before
    with pytest.raises(StoreAway) as refused:
        async with store.connection() as connection:
            await connection.execute(change)
    assert "only ever appended" in str(refused.value.__cause__)
    assert await entries(store) == before


async def test_a_note(store: Store, application_id: str) -> None:
    """What changes no table is put on record by name."""
    await audit.note(acting(store), application_id, "repriced", ("repricing", "run-1"), {"a": 1})
    [noted] = await entries(store, object="repricing")
    assert (noted.actor, noted.object_id, noted.after) == (BY, "run-1", {"a": 1})
    assert noted.before is None


async def test_every_table_is_watched(database: str) -> None:
    """A new table has the trigger, or a reason why not; secret columns are named to it."""
    connection = await asyncpg.connect(database)
    try:
        tables = await connection.fetch(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
            " AND relkind IN ('r', 'p') AND NOT relispartition"
        )
        watched = await connection.fetch(
            "SELECT tgrelid::regclass::text, tgargs FROM pg_trigger WHERE tgname = 'audited'"
        )
        columns = await connection.fetch(
            "SELECT table_name, column_name FROM information_schema.columns"
            " WHERE table_schema = 'public' AND data_type = 'bytea'"
        )
    finally:
        await connection.close()
    said = {name: arguments.decode().split("\0") for name, arguments in watched}
    assert {it["relname"] for it in tables} - NOT_MANAGED == said.keys()
    for table, column in columns:
        if table in said:
            assert column in said[table][2].split(","), (table, column)
