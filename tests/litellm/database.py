"""A LiteLLM database, made by its own migrations; rows are inserted as LiteLLM would."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import count
from pathlib import Path

import asyncpg

MIGRATIONS = Path(__file__).with_name("migrations.sql")
_numbers = count(1)


class Database:
    """A database of LiteLLM's on a server; its URL is what LiteLLM would have as DATABASE_URL."""

    def __init__(self, url: str) -> None:
        self.url = url

    def insert(self, table: str, **columns: object) -> None:
        """One row; objects and lists of them are JSON, other lists are arrays."""
        names = ", ".join(f'"{name}"' for name in columns)
        places = ", ".join(f"${at}" for at, _ in enumerate(columns, 1))
        values = [json.dumps(it) if _is_json(it) else it for it in columns.values()]
        self.execute(f'INSERT INTO "LiteLLM_{table}" ({names}) VALUES ({places})', *values)

    def execute(self, statement: str, *arguments: object) -> None:
        """One statement."""
        asyncio.run(_execute(self.url, statement, *arguments))

    def key(self, secret: str, **columns: object) -> str:
        """A virtual key; gives its hash, by which others refer to it."""
        token = hashlib.sha256(secret.encode()).hexdigest()
        said = {"token": token, "key_name": f"sk-...{secret[-4:]}", "models": []}
        self.insert("VerificationToken", **(said | columns))
        return token

    def fingerprint(self) -> str:
        """Everything that is in it, as one digest."""
        return asyncio.run(_fingerprint(self.url))


@contextmanager
def litellm_database(postgres_dsn: str) -> Iterator[Database]:
    """A fresh one; it is dropped at the end."""
    name = f"litellm_{next(_numbers)}"
    url = postgres_dsn.replace("/postgres?", f"/{name}?")
    asyncio.run(_execute(postgres_dsn, f"CREATE DATABASE {name}"))
    try:
        asyncio.run(_migrate(url))
        yield Database(url)
    finally:
        asyncio.run(_execute(postgres_dsn, f"DROP DATABASE {name} WITH (FORCE)"))


def naive(at: datetime) -> datetime:
    """A time as LiteLLM's columns have it: UTC, without saying so."""
    return at.replace(tzinfo=None)


def _is_json(value: object) -> bool:
    return isinstance(value, dict) or (
        isinstance(value, list) and bool(value) and isinstance(value[0], dict)
    )


async def _migrate(url: str) -> None:
    """One migration after the other: some must not be in one transaction with others."""
    connection = await asyncpg.connect(url)
    try:
        for text in MIGRATIONS.read_text().split("\n-- migration: ")[1:]:
            await connection.execute("-- " + text)
    finally:
        await connection.close()


async def _execute(url: str, statement: str, *arguments: object) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement, *arguments)
    finally:
        await connection.close()


async def _fingerprint(url: str) -> str:
    connection = await asyncpg.connect(url)
    try:
        tables = await connection.fetch(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"
        )
        digest = hashlib.sha256()
        for (table,) in tables:
            rows = await connection.fetch(f'SELECT t::text FROM "{table}" AS t ORDER BY 1')
            digest.update(repr([tuple(row) for row in rows]).encode())
        return digest.hexdigest()
    finally:
        await connection.close()
