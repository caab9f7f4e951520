"""Random keys of our own, wrapped by the master secret, and wrapping everything anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from metering.store import Store
from sql import queries


class Wrapped(NamedTuple):
    """A key as it is stored, and the id of the master secret that wraps it."""

    wrapped: bytes
    by: str


class RowKey(NamedTuple):
    """The wrapped row key of a credential, and what it is bound to."""

    credential_id: str
    application_id: str
    slug: str
    provider: str
    origin: str | None
    key: Wrapped


REWRAP_S = 120
"""How long a statement may take that wraps everything anew."""


async def read(store: Store) -> dict[str, Wrapped]:
    """Our own keys, by name."""
    records = await store.rows("read_secrets")
    return {it["name"]: Wrapped(it["wrapped"], it["wrapped_by"]) for it in records}


async def add(store: Store, name: str, wrapped: bytes, by: str) -> None:
    """Keep a key, if there is none of this name."""
    await store.rows("add_secret", name, wrapped, by)


async def get(store: Store, name: str) -> Wrapped | None:
    """One of them."""
    record = await store.row("read_secret", name)
    return None if record is None else Wrapped(record["wrapped"], record["wrapped_by"])


async def make(store: Store, name: str, wrap: Callable[[str], bytes]) -> None:
    """Keep a key, wrapped by the master secret in force, if there is none of this name; no
    rotation passes it by."""
    async with store.transaction() as connection:
        by = await connection.fetchval(queries["read_master_in_force"])
        await connection.execute(queries["add_secret"], name, wrap(by), by)


async def expire(store: Store, prefix: str, day: str) -> None:
    """Forget the keys of days before one, which are named by a prefix and their day."""
    await store.rows("expire_secrets", prefix, day)


async def used_before(store: Store) -> bool:
    """Whether this database has been used before."""
    return bool(await store.value("count_applications"))


async def forget(store: Store) -> None:
    """Remove our own keys and the secrets of credentials: nobody can open them any more."""
    await store.rows("forget_secrets")


async def counts(store: Store) -> dict[str, int]:
    """How many keys each master secret wraps, by its id."""
    records = await store.rows("count_wrapped")
    return {record["wrapped_by"]: record["number"] for record in records}


async def rewrap(
    store: Store,
    by: str,
    own: Callable[[str, Wrapped], bytes],
    of_row: Callable[[RowKey], bytes],
) -> int:
    """Wrap everything by the master secret `by`, or nothing; how many keys of credentials it was.

    Nobody seals meanwhile; who opens is not in the way.
    """
    async with store.transaction() as connection:
        await connection.execute(queries["lock_master"], timeout=REWRAP_S)
        records = await connection.fetch(queries["lock_secrets"], timeout=REWRAP_S)
        for it in records:
            if it["wrapped_by"] != by:
                wrapped = own(it["name"], Wrapped(it["wrapped"], it["wrapped_by"]))
                await connection.execute(queries["rewrap_secret"], it["name"], wrapped, by)
        rows = [
            RowKey(
                str(it["credential_id"]),
                str(it["application_id"]),
                it["slug"],
                it["provider"],
                it["origin"],
                Wrapped(it["row_key"], it["wrapped_by"]),
            )
            for it in await connection.fetch(queries["lock_row_keys"], by, timeout=REWRAP_S)
        ]
        ids, keys = [row.credential_id for row in rows], [of_row(row) for row in rows]
        await connection.execute(queries["rewrap_row_keys"], ids, keys, by, timeout=REWRAP_S)
    return len(rows)
