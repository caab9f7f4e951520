"""Loading a price list into a database, where no service runs to ask."""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec

from metering.api.price_versions import loaded_object
from metering.app.first import clock_ms
from metering.duties.prices import Upload, load
from metering.errors import StoreAway
from metering.redis import Redis, keys
from metering.settings import Settings
from metering.store import Store
from metering.store.migrations import migrate
from pricing.load import read

__all__ = ["Upload", "load_prices"]


async def load_prices(settings: Settings, upload: Upload) -> dict[str, Any]:
    """Put a price list in force, and answer as the service would.

    Services on this database have it within 30 s, and at once where `REDIS_URL` is theirs.
    """
    dsn = settings.database_url or ""
    await migrate(dsn)
    store = await Store.open(dsn, connections=1)
    try:
        loaded = await load(store, read(), upload, clock_ms())
    finally:
        await store.close()
    if settings.redis_url and not (loaded.unchanged or upload.dry_run):
        await _tell(settings.redis_url)
    answer: dict[str, Any] = msgspec.to_builtins(loaded_object(loaded, upload))
    return answer


async def _tell(redis_url: str) -> None:
    redis = Redis(redis_url, timeout_ms=1_000)
    with contextlib.suppress(StoreAway):  # they see it by themselves, then
        await redis.call("PUBLISH", keys.CHANGED, "prices")
    await redis.close()
