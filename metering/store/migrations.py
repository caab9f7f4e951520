"""Bring a database to the present schema, step by step, one process at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg

from metering.errors import OurFault
from metering.store import Store
from sql import Migration, migrations, queries

if TYPE_CHECKING:
    from metering.store import Connection

NO_TRANSACTION = "-- no-transaction"
TIMEOUT_S = 600
"""A step may rewrite a table, and another process's step may have to be waited for."""


class MigrationRefused(OurFault):
    """A migration that was applied is not the one that is here now."""


class MigrationFailed(OurFault):
    """A migration could not be applied; the message has Postgres's reason, and its hint."""


async def migrate(dsn: str) -> list[str]:
    """Take all steps not yet taken; returns their names. Refuses if a taken step's text changed."""
    store = await Store.open(dsn, connections=1)
    try:
        async with store.connection() as connection:
            # Held by the session: it ends with it, whatever happens.
            await connection.execute(queries["lock_migrations"], timeout=TIMEOUT_S)
            return await _take_missing(connection)
    finally:
        await store.close()


async def _take_missing(connection: Connection) -> list[str]:
    await connection.execute(queries["create_schema_migrations"])
    records = await connection.fetch(queries["read_schema_migrations"])
    taken = {record["version"]: record["sha256"] for record in records}
    missing = []
    for step in migrations():
        if step.version not in taken:
            missing.append(step)
        elif taken[step.version] != step.sha256:
            raise MigrationRefused(f"migration {step.version:04d}_{step.name} changed after use")
    for step in missing:
        await _take(connection, step)
    return [step.name for step in missing]


async def _take(connection: Connection, step: Migration) -> None:
    try:
        if step.text.startswith(NO_TRANSACTION):
            await _apply(connection, step)
        else:
            async with connection.transaction():
                await _apply(connection, step)
    except asyncpg.PostgresError as error:
        raise MigrationFailed(f"migration {step.version:04d}_{step.name}: {error}") from error


async def _apply(connection: Connection, step: Migration) -> None:
    await connection.execute(step.text, timeout=TIMEOUT_S)
    note = (step.version, step.name, step.sha256)
    await connection.execute(queries["record_migration"], *note)
