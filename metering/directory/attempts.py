"""Keys that are none: how often whom shows them, and from when on they are told to wait.

Counted are addresses and beginnings of keys, each in memory and, so that workers share it, in
Redis; who is away is not waited for. A good key is never told to wait, whatever else comes from
its address: it is looked at first. So nothing here makes it slower, or says which keys there are.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import math
import time

from metering.core.addresses import neighbourhood
from metering.errors import RateLimited, StoreAway
from metering.redis import SCRIPTS, Redis, keys

SPAN_S = 60
REMEMBERED_MAX = 10_000
PREFIX_CHARS = 20
"""A key's beginning: format and role, and a few characters that are its own."""
_COUNT = SCRIPTS["count"]


class Attempts:
    """Counts failed log-ins."""

    def __init__(self, redis: Redis, pepper: bytes, most: int) -> None:
        """`most`: so many a minute from one address, or with one beginning; 0: any number."""
        self._redis = redis
        self._secret = hmac.digest(pepper, b"xproxy failed log-ins v1", hashlib.sha256)
        self._most = most
        self._counts: dict[str, tuple[int, float]] = {}
        """How often, and when that is forgotten."""

    async def failed(self, key: str, address: str) -> None:
        """Count a key that is none; raises RateLimited if there were too many like it."""
        if not self._most:
            return
        whos = (
            self._name("address", neighbourhood(address)),
            self._name("key", key[:PREFIX_CHARS]),
        )
        wait_s = max(await asyncio.gather(*(self._count(who) for who in whos)))
        if wait_s > 0:
            raise RateLimited(
                f"too many keys that are not valid: more than {self._most} a minute from this "
                "address, or with this beginning. A valid key is served all the same",
                code="too_many_failed_logins",
                retry_after_s=max(1, math.ceil(wait_s)),
                should_retry=False,
            )

    def _name(self, kind: str, text: str) -> str:
        message = f"{kind}\0{text}".encode(errors="surrogatepass")
        return hmac.digest(self._secret, message, hashlib.sha256).hex()[:32]

    async def _count(self, who: str) -> float:
        """How long they have to wait, in seconds; 0 or less: not at all."""
        now_s = time.monotonic()
        times, ends_s = self._counts.get(who, (0, 0.0))
        if ends_s <= now_s:
            times, ends_s = 0, now_s + SPAN_S
        self._note(who, times + 1, ends_s)
        if times < self._most:  # else there is nothing more to learn
            try:
                shared, left_ms = await self._redis.run(
                    _COUNT, [keys.failures(who)], [SPAN_S * 1000]
                )
            except StoreAway:
                pass
            else:
                times, ends_s = self._counts.get(who, (times + 1, ends_s))
                if shared > times:
                    self._note(who, shared, now_s + left_ms / 1000)
        times, ends_s = self._counts.get(who, (times, ends_s))
        return ends_s - now_s if times > self._most else 0.0

    def _note(self, who: str, times: int, ends_s: float) -> None:
        if who not in self._counts and len(self._counts) >= REMEMBERED_MAX:
            del self._counts[next(iter(self._counts))]
        self._counts[who] = (times, ends_s)
