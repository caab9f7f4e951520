"""The tier between memory and Postgres: definitions that all workers share, in Redis.

An entry is `<stamp>:<signature>:<JSON>`; the stamp is the server's time, in microseconds, before
the truth was read. A change leaves a stamp of its own and nothing else. What was read before what
is there is not kept (`remember.lua`): a reader that was slow, for however long, does not bring back
what was revoked meanwhile. Entries are signed, so that who can write to Redis makes no keys. No
secret is ever in one: a key's is named by its peppered digest.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from typing import Any, NamedTuple

import msgspec

from metering.errors import StoreAway
from metering.redis import SCRIPTS, Redis, keys

LIFE_MS = 24 * 3600 * 1000
"""So long an entry outlives the Postgres that it was read from."""
_REMEMBER, _FORGET = SCRIPTS["remember"], SCRIPTS["forget"]


class Found(NamedTuple):
    """What was found, when that was asked for, and when it ends by itself; None: there is none."""

    read_us: int
    value: Any
    ends_ms: int | None


class Looked(NamedTuple):
    """What Redis has, and its time; 0: it does not answer."""

    now_us: int
    found: Found | None

    @property
    def age_s(self) -> float:
        """For how long what was found has not been asked for."""
        return (self.now_us - self.found.read_us) / 1_000_000 if self.found else 0.0


NOTHING = Looked(0, None)


class Shared:
    """The definitions that all workers share."""

    def __init__(self, redis: Redis, pepper: bytes) -> None:
        self._redis = redis
        self._secret = hmac.digest(pepper, b"xproxy shared definitions v1", hashlib.sha256)

    async def look(self, topic: str, shape: Any) -> Looked:
        """What is there of a topic, if it is of this type, and what time it is."""
        call = self._redis.call
        everything = keys.definition(keys.EVERYTHING)
        try:
            found, floor, (seconds, micros) = await asyncio.gather(
                call("GET", keys.definition(topic)), call("GET", everything), call("TIME")
            )
        except StoreAway:
            return NOTHING
        now_us = int(seconds) * 1_000_000 + int(micros)
        its = self._read(topic, found or b"", shape)
        return Looked(now_us, its if its is not None and its.read_us > int(floor or 0) else None)

    def _read(self, topic: str, entry: bytes, shape: Any) -> Found | None:
        stamp, _, rest = entry.partition(b":")
        signature, _, text = rest.partition(b":")
        if not hmac.compare_digest(signature, self._sign(topic, stamp, text)):
            return None
        try:
            ends_ms, value = json.loads(text)
            return Found(int(stamp), msgspec.convert(value, shape), ends_ms)
        except (ValueError, msgspec.ValidationError):  # another version's
            return None

    def _sign(self, topic: str, stamp: bytes, text: bytes) -> bytes:
        message = b"\0".join((topic.encode(), stamp, text))
        return hmac.digest(self._secret, message, hashlib.sha256).hex().encode()

    async def keep(self, topic: str, found: Found, life_ms: int) -> None:
        """Share what was found, for so long; raises StoreAway."""
        stamp, behind = str(found.read_us).encode(), b""
        if found.value is not None:
            # not msgspec's encoder: amounts have more than 64 bits
            pair = [found.ends_ms, msgspec.to_builtins(found.value)]
            text = json.dumps(pair, separators=(",", ":")).encode()
            behind = b":%b:%b" % (self._sign(topic, stamp, text), text)
        await self._redis.run(_REMEMBER, [keys.definition(topic)], [stamp, behind, life_ms])

    async def forget(self, topic: str) -> None:
        """Forget what has changed, and tell every worker; raises StoreAway."""
        await self._redis.run(_FORGET, [keys.definition(topic)], [keys.CHANGED, topic, LIFE_MS])
