"""What runs beside the calls: heartbeats, replay, and duties that one worker has by a lease."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from metering.errors import StoreAway
from metering.redis import SCRIPTS, Redis

log = structlog.get_logger()
LEASE_MS = 6_000


async def every(
    period_s: float,
    name: str,
    work: Callable[[], Awaitable[object]],
    rest: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> None:
    """Do some work again and again, with rests; what fails is logged and tried again."""
    while True:
        try:
            await work()
        except StoreAway as fault:
            log.warning("duty_waits", duty=name, reason=str(fault.__cause__ or fault))
        except Exception:  # a duty must outlive its bugs: without it, rows would pile up
            log.exception("duty_failed", duty=name)
        await rest(period_s)


class Lease:
    """A duty that one worker has, across all replicas, for as long as it keeps asking."""

    def __init__(self, redis: Redis, name: str, holder: str) -> None:
        self._redis = redis
        self._key = f"xproxy:lease:{name}"
        self._holder = holder
        self._until_s = 0.0

    async def held(self) -> bool:
        """Whether the duty is ours now; renews it when a third of its time has gone."""
        now_s = asyncio.get_running_loop().time()
        if now_s < self._until_s:
            return True
        mine = await self._redis.run(SCRIPTS["lease"], [self._key], [self._holder, LEASE_MS])
        self._until_s = now_s + LEASE_MS / 3000 if mine else 0.0
        return bool(mine)

    async def give_up(self) -> None:
        """Let another worker have it at once."""
        if self._until_s:
            self._until_s = 0.0
            await self._redis.call("DEL", self._key)
