"""Who and what a call names: keys and limits, in memory first, then Postgres.

Found entries are kept for 30 s, missing ones for 5 s; a change is told to every worker through
Redis. Postgres is read on the request path only for what memory does not have, bounded by 250 ms.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import time
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from typing import Any, Literal

import msgspec
import structlog

from metering.core.keys import digest, is_ours, local_token_valid
from metering.core.limits import Limit
from metering.errors import StoreAway
from metering.redis import Redis, keys
from metering.store import Store
from metering.store import keys as stored_keys
from metering.store import limits as stored_limits

log = structlog.get_logger()
FOUND_S = 30.0
MISSING_S = 5.0
READ_S = 0.25
AWAY_S = 5.0
"""How long a Postgres that did not answer is not asked again for what is remembered, if stale."""
ENTRIES_MAX = 50_000
DIGESTS_MAX = 4_096
"""So many keys are remembered with their digest, in this process's memory alone."""
UNKNOWN: Any = object()

Role = Literal["admin", "app", "read"]


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who calls."""

    application_id: str
    key_id: str | None
    role: Role
    permissions: frozenset[str] = frozenset()
    limit_ids: tuple[str, ...] = ()
    """Limits attached to the key: they bind whatever headers say."""

    def may(self, permission: str) -> bool:
        """Whether this caller has a permission; an admin has all."""
        return self.role == "admin" or permission in self.permissions


def _digest(pepper: bytes, key: str) -> tuple[bytes, tuple[str, str]]:
    """The digest of a key, and the name of its entry in the cache."""
    hashed = digest(pepper, key)
    return hashed, ("key", hashed.hex())


class Directory:
    """Names to things. `default_application` is who an admin key acts for."""

    def __init__(
        self,
        store: Store,
        redis: Redis,
        *,
        pepper: bytes,
        master_secret: bytes,
        admin_key: str | None,
        default_application: str,
        clock_ms: Callable[[], int],
    ) -> None:
        self._store = store
        self._redis = redis
        self._digest = lru_cache(DIGESTS_MAX)(partial(_digest, pepper))
        self._master_secret = master_secret
        self._admin_key = admin_key.encode() if admin_key else None
        self._clock_ms = clock_ms
        self.admin = Caller(application_id=default_application, key_id=None, role="admin")
        self._cache: dict[tuple[Any, ...], tuple[float, Any]] = {}
        self._away_until = 0.0
        self._forgotten = 0
        self.prices_told = asyncio.Event()
        """Set when prices may have changed."""

    # Keys

    def is_admin_key(self, key: str) -> bool:
        """Whether a string is the operator's own admin key, in whatever format it is."""
        return self._admin_key is not None and hmac.compare_digest(self._admin_key, key.encode())

    async def caller(self, key: str) -> Caller | None:
        """Who a key belongs to; None for one that is unknown, expired or blocked."""
        hashed, name = self._digest(key)
        if name not in self._cache:  # what is cached has passed these
            if self.is_admin_key(key) or local_token_valid(
                self._master_secret, key, self._clock_ms() // 1000
            ):
                return self.admin
            if not is_ours(key):
                return None
        found = self._kept(name)
        if found is UNKNOWN:
            found = await self._find(name, lambda: self._read_caller(hashed))
        if found is None:
            return None
        expires_ms, caller = found
        return None if expires_ms is not None and expires_ms <= self._clock_ms() else caller

    async def _read_caller(self, hashed: bytes) -> tuple[int | None, Caller] | None:
        row = await stored_keys.by_digest(self._store, hashed)
        if row is None or row.blocked:
            return None
        return row.expires_ms, Caller(
            application_id=row.application_id or self.admin.application_id,
            key_id=row.key_id,
            role=row.role,
            permissions=frozenset(row.permissions),
            limit_ids=tuple(row.limit_ids),
        )

    # Limits

    async def limit(self, application_id: str, limit_id: str) -> Limit | None:
        """A limit's definition."""
        name = ("limit", application_id, limit_id)
        found: Limit | None = self._kept(name)
        if found is UNKNOWN:
            found = await self._find(
                name, lambda: stored_limits.get(self._store, application_id, limit_id)
            )
        return found

    async def limits(self, application_id: str, limit_ids: Iterable[str]) -> list[Limit | None]:
        """Several limits' definitions, in order."""
        found: list[Limit | None] = []
        for limit_id in limit_ids:
            kept = self._kept(("limit", application_id, limit_id))
            if kept is UNKNOWN:
                kept = await self.limit(application_id, limit_id)
            found.append(kept)
        return found

    # The cache

    def _kept(self, name: tuple[Any, ...]) -> Any:
        """What memory has, if it is not too old; else UNKNOWN."""
        kept = self._cache.get(name)
        return UNKNOWN if kept is None or kept[0] <= time.monotonic() else kept[1]

    async def _find(self, name: tuple[Any, ...], read: Callable[[], Any]) -> Any:
        now = time.monotonic()
        kept = self._cache.get(name)
        if kept is not None and now < max(kept[0], self._away_until):
            return kept[1]
        forgotten = self._forgotten
        try:
            async with asyncio.timeout(READ_S):
                value = await read()
        except (TimeoutError, StoreAway) as error:
            self._away_until = now + AWAY_S  # not every call is to wait for every name
            if kept is not None:  # stale is better than away: Postgres down does not stop calls
                return kept[1]
            raise StoreAway from error
        if forgotten != self._forgotten:  # something changed meanwhile: this may be what it was
            return value
        if len(self._cache) >= ENTRIES_MAX:
            self._cache.clear()
        self._cache[name] = (now + (MISSING_S if value is None else FOUND_S), value)
        return value

    async def changed(self, *topics: str) -> None:
        """Tell every worker, this one too, to ask again for what has changed.

        Topics: `key:<digest hex>`, `limit:<application>:<id>`, `prices`, and `*` for everything.
        """
        for topic in topics:
            self._forget(topic)
            with contextlib.suppress(StoreAway):  # they forget by age then
                await self._redis.call("PUBLISH", keys.CHANGED, topic)

    def _forget(self, topic: str) -> None:
        self._forgotten += 1
        if topic in ("*", "prices"):
            self.prices_told.set()
        if topic == "*":
            self._cache.clear()
        elif topic != "prices":
            kind, _, rest = topic.partition(":")
            self._cache.pop((kind, *rest.split(":", 1)) if kind == "limit" else (kind, rest), None)

    def _doubt(self) -> None:
        """Ask again for everything; until Postgres answers, what is known is still used."""
        self._forgotten += 1
        self.prices_told.set()
        self._cache = {name: (0.0, value) for name, (_, value) in self._cache.items()}

    async def listen(self) -> None:
        """Forget what other workers say has changed, for as long as the process lives."""
        while True:
            try:
                async with self._redis.client.pubsub() as channel:
                    await channel.subscribe(keys.CHANGED)
                    self._doubt()  # what was said while nobody listened is lost
                    while True:
                        message = await channel.get_message(
                            ignore_subscribe_messages=True, timeout=20
                        )
                        if message is not None:
                            self._forget(message["data"].decode())
            except (*Redis.FAULTS, StoreAway) as error:
                log.warning("directory_not_told", error=str(error))
                await asyncio.sleep(1)
