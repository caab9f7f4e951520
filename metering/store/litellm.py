"""A LiteLLM database, read: in one transaction that may write nothing, table by table.

Its schema changes with every release, so rows are read as JSON, with the columns that there are.
PostgreSQL writes a double in the shortest decimal that is that double; read as `Decimal` that is
exact, and never becomes a float of ours.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import asyncpg
import msgspec

from metering.errors import InvalidRequest

ORDERS = {
    "LiteLLM_BudgetTable": "budget_id",
    "LiteLLM_TeamTable": "team_id",
    "LiteLLM_UserTable": "user_id",
    "LiteLLM_EndUserTable": "user_id",
    "LiteLLM_ModelTable": "id",
    "LiteLLM_BudgetWindowSpend": "entity_type, entity_id, window_duration",
    "LiteLLM_VerificationToken": "token",
    "LiteLLM_DailyUserSpend": "date, id",
}
"""The tables that are read, and in which order their rows come."""
AT_ONCE = 500
CONNECT_S = 10
STATEMENT_S = 300
PRISMAS = frozenset({"connection_limit", "pool_timeout", "pgbouncer", "connect_timeout", "schema"})
"""What LiteLLM's URLs may say that is not for PostgreSQL."""
_decode = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal).decode


class NotReadable(InvalidRequest):
    """The database cannot be read, or is none of LiteLLM's."""


class Source:
    """A LiteLLM database at one moment."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record], schema: str | None) -> None:
        self._connection = connection
        self._schema = schema

    async def count(self, table: str, where: str = "true") -> int:
        """How many rows a table has; of one that there is not, none."""
        name = await self._name(table)
        if name is None:
            return 0
        found: int = await self._connection.fetchval(f"SELECT count(*) FROM {name} WHERE {where}")  # noqa: S608
        return found

    async def rows(self, table: str) -> AsyncIterator[dict[str, Any]]:
        """The rows of a table, their columns by name, numbers exact."""
        name = await self._name(table)
        if name is None:
            return
        text = f"SELECT to_jsonb(t)::text FROM {name} AS t ORDER BY {ORDERS[table]}"  # noqa: S608
        async for record in self._connection.cursor(text, prefetch=AT_ONCE):
            yield _decode(record[0])

    async def _name(self, table: str) -> str | None:
        """A table as statements call it."""
        name = ".".join(f'"{it}"' for it in (self._schema, table) if it)
        found = await self._connection.fetchval("SELECT to_regclass($1) IS NOT NULL", name)
        return name if found else None


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Source]:
    """A LiteLLM database by the URL that LiteLLM has, for reading; raises NotReadable."""
    dsn, schema = _dsn(url)
    try:
        connection = await asyncpg.connect(
            dsn,
            timeout=CONNECT_S,
            command_timeout=STATEMENT_S,
            server_settings={"application_name": "xproxy import", "timezone": "UTC"},
        )
    except (OSError, ValueError, TimeoutError, asyncpg.PostgresError) as error:
        raise NotReadable(
            f"the LiteLLM database does not answer ({type(error).__name__}): is --database-url the "
            "DATABASE_URL that LiteLLM has?"
        ) from None  # what it says may quote the password
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            source = Source(connection, schema)
            if not await connection.fetchval(
                "SELECT to_regclass($1) IS NOT NULL",
                ".".join(f'"{it}"' for it in (schema, "LiteLLM_VerificationToken") if it),
            ):
                raise NotReadable(
                    'this database has no table "LiteLLM_VerificationToken": it is none of '
                    "LiteLLM's, or its tables are in another schema (?schema=NAME in the URL)"
                )
            yield source
    except asyncpg.PostgresError as error:
        raise NotReadable(f"the LiteLLM database cannot be read: {error}") from error
    finally:
        await connection.close(timeout=CONNECT_S)


def _dsn(url: str) -> tuple[str, str | None]:
    """The URL without what is Prisma's, and the schema that it names."""
    parts = urlsplit(url)
    said = parse_qsl(parts.query, keep_blank_values=True)
    schema = next((value for name, value in said if name == "schema"), None)
    kept = urlencode([it for it in said if it[0] not in PRISMAS])
    if schema is not None and '"' in schema:
        raise NotReadable("the schema in the URL has a quote in its name")
    return urlunsplit(parts._replace(query=kept)), schema
