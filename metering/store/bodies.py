"""What was said in reported calls, as it comes: sealed. Kept for a while, then deleted."""

from __future__ import annotations

from collections.abc import Mapping

from metering.store import Store, as_uuid
from sql import queries


async def add(store: Store, application_id: str, sealed: Mapping[str, bytes]) -> None:
    """Keep the bodies of calls, by request id, all at once; those that are there stay."""
    await store.rows("add_bodies", application_id, [*sealed], [*sealed.values()])


async def read(store: Store, application_id: str, request_id: str) -> bytes | None:
    """The bodies of a call."""
    found: bytes | None = await store.value(
        "read_bodies", as_uuid(application_id), as_uuid(request_id)
    )
    return found


async def expire(store: Store, before_ms: int, most: int) -> int:
    """Delete so many of calls before a time, at most, or of applications that are gone; returns
    how many."""
    async with store.transaction() as connection:
        await connection.execute(queries["plan_anew"])
        count: int = await connection.fetchval(queries["expire_bodies"], before_ms, most)
    return count
