"""The SQL itself: every query is valid, and the schema is what the migrations make."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

import sql
from metering.store import Store, migrations, usage
from tests.store.samples import NOW_MS, landed, request_id

CATALOGUE = {
    "columns": """
        SELECT table_name, ordinal_position, column_name, data_type, numeric_precision, is_nullable,
               column_default
        FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2""",
    "constraints": """
        SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid)
        FROM pg_constraint WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2""",
    "indexes": "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1",
    "functions": """
        SELECT proname, pg_get_functiondef(oid)
        FROM pg_proc WHERE pronamespace = 'public'::regnamespace ORDER BY 1""",
    "triggers": """
        SELECT tgrelid::regclass::text, pg_get_triggerdef(oid)
        FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1, 2""",
    "policies": "SELECT * FROM pg_policies ORDER BY tablename, policyname",
    "tables": """
        SELECT relname, relkind, relrowsecurity, relforcerowsecurity, relacl::text,
               pg_get_partkeydef(oid), pg_get_expr(relpartbound, oid)
        FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'S', 'v')
        ORDER BY 1""",
}


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


async def catalogue(connection: asyncpg.Connection) -> dict[str, list[tuple[object, ...]]]:
    return {
        part: [tuple(found) for found in await connection.fetch(query)]
        for part, query in CATALOGUE.items()
    }


async def test_the_schema_is_what_all_migrations_make(database: str, empty_database: str) -> None:
    """A database made by schema.sql and one made step by step have the same catalogue."""
    async with connected(empty_database) as whole, connected(database) as stepped:
        await whole.execute(sql.schema)
        expected, found = await catalogue(stepped), await catalogue(whole)
    assert len(expected["columns"]) > 100
    for part in CATALOGUE:
        assert found[part] == expected[part], part


async def test_every_query_is_valid(database: str) -> None:
    """PostgreSQL prepares every named query against the real schema."""
    async with connected(database) as connection:
        for name, query in sql.queries.items():
            try:
                await connection.prepare(query)
            except asyncpg.PostgresError as error:
                pytest.fail(f"{name}: {error}")


def test_queries_are_parsed_by_name() -> None:
    """A file is cut at its heads; each query keeps its description as a comment."""
    found = sql.parse(
        "-- one --\n-- The first.\nSELECT 1;\n\n-- two --\n-- The other.\nSELECT 2\n;\n"
    )
    assert found == {"one": "-- The first.\nSELECT 1;", "two": "-- The other.\nSELECT 2\n;"}
    assert len(sql.queries) > 30


async def test_migrations_run_once_whoever_comes(empty_database: str) -> None:
    """Of processes that start together one takes each step, and a later one finds nothing to do."""
    taken = await asyncio.gather(*(migrations.migrate(empty_database) for _ in range(4)))
    assert sorted(taken, reverse=True) == [[step.name for step in sql.migrations()], [], [], []]


async def test_a_migration_that_changed_is_refused(
    empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step that was applied with another text stops the start, by name, and changes nothing."""
    await migrations.migrate(empty_database)
    changed = [step._replace(sha256="other") for step in sql.migrations()]
    monkeypatch.setattr(migrations, "migrations", lambda: changed)
    with pytest.raises(migrations.MigrationRefused, match="0001_initial changed after use"):
        await migrations.migrate(empty_database)


@pytest.mark.parametrize("head", ["", "-- no-transaction\n"], ids=["transaction", "none"])
async def test_a_migration_that_fails_is_not_noted(
    database: str, monkeypatch: pytest.MonkeyPatch, head: str
) -> None:
    """A step that fails leaves no note, so that it is taken again; in a transaction, no trace."""
    text = f"{head}CREATE TABLE half (); SELECT 1 / 0;"
    broken = [*sql.migrations(), sql.Migration(9999, "broken", text, "sum")]
    monkeypatch.setattr(migrations, "migrations", lambda: broken)
    with pytest.raises(migrations.MigrationFailed, match="9999_broken: division by zero"):
        await migrations.migrate(database)
    async with connected(database) as connection:
        assert await connection.fetchval("SELECT to_regclass('half')") is None
        newest = await connection.fetchval("SELECT max(version) FROM schema_migrations")
        assert newest == sql.migrations()[-1].version


async def test_a_step_without_transaction_is_noted(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step that asks for no transaction runs without one: it may build an index concurrently."""
    text = "-- no-transaction\nCREATE INDEX CONCURRENTLY more ON keys (name);"
    more = [*sql.migrations(), sql.Migration(9999, "more", text, "sum")]
    monkeypatch.setattr(migrations, "migrations", lambda: more)
    assert await migrations.migrate(database) == ["more"]
    assert await migrations.migrate(database) == []


async def owned_by(connection: asyncpg.Connection, dsn: str, options: str) -> str:
    """The URL of a database owned by a user who is no superuser."""
    await connection.execute(f"CREATE ROLE plain LOGIN {options}")
    await connection.execute("ALTER DATABASE empty_one OWNER TO plain")
    return dsn.replace("postgres@", "plain@")


async def lands_and_reads(dsn: str) -> None:
    store = await Store.open(dsn)
    try:
        await usage.ensure_partitions(store, NOW_MS)
        ours, theirs = request_id(), request_id()
        assert await usage.insert(store, [landed(ours, "l"), landed(theirs, "l")]) == 2
        page = await usage.query(store, usage.Filters(application_id=ours))
        assert [entry.row.application_id for entry in page.entries] == [ours]
        assert len((await usage.query(store, usage.Filters())).entries) == 2
    finally:
        await store.close()


async def test_a_plain_user_who_may_make_roles_can_migrate(
    postgres_dsn: str, empty_database: str
) -> None:
    """CREATEROLE and owning the database are enough: no superuser is needed to install."""
    async with connected(postgres_dsn) as admin:
        await admin.execute("ALTER ROLE xproxy_tenant RENAME TO set_aside")
        dsn = await owned_by(admin, empty_database, "CREATEROLE")
        try:
            await migrations.migrate(dsn)
            await lands_and_reads(dsn)
        finally:
            async with connected(empty_database) as inside:
                await inside.execute("DROP OWNED BY plain, xproxy_tenant")
            await admin.execute("ALTER DATABASE empty_one OWNER TO postgres")
            await admin.execute("DROP ROLE xproxy_tenant, plain")
            await admin.execute("ALTER ROLE set_aside RENAME TO xproxy_tenant")


async def test_a_plain_user_is_told_what_an_administrator_must_do(
    postgres_dsn: str, empty_database: str
) -> None:
    """Who may not make roles is told the two statements; after them the same user can migrate."""
    async with connected(postgres_dsn) as admin:
        dsn = await owned_by(admin, empty_database, "")
        try:
            hint = "CREATE ROLE xproxy_tenant NOLOGIN; GRANT xproxy_tenant TO plain;"
            with pytest.raises(migrations.MigrationFailed, match=hint):
                await migrations.migrate(dsn)
            await admin.execute("GRANT xproxy_tenant TO plain")
            await migrations.migrate(dsn)
            await lands_and_reads(dsn)
        finally:
            async with connected(empty_database) as inside:
                await inside.execute("DROP OWNED BY plain")
            await admin.execute("ALTER DATABASE empty_one OWNER TO postgres")
            await admin.execute("DROP ROLE plain")
