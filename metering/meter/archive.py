"""What was said in reported calls, kept for some days, sealed.

Bodies are no part of a call's metering: they are put away when it has been charged, and whatever
goes wrong then costs its bodies, never its usage. Whoever reports the call again brings them again;
the first that were put away stay.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import structlog

from metering.core.bodies import NOTHING, Bodies, bound_to, kept, pack, unpack
from metering.core.ids import uuid7_text_ms
from metering.core.sealing import NONCE_BYTES, Box, NotOpened
from metering.errors import OurFault, XproxyError
from metering.keyring import NotHeld
from metering.store import Store, bodies
from metering.vault import Vault
from pricing.book import day_of

log = structlog.get_logger()
DAY_MS = 86_400_000
KEYS = "bodies "
"""What the names of the keys that seal bodies begin with; the day of the calls follows."""


class Archive:
    """The bodies of reported calls, as one worker puts them away and looks them up."""

    def __init__(self, days: int, vault: Vault, random: Callable[[int], bytes]) -> None:
        """`days`: how long after the call they are kept; 0: not at all."""
        self._days = days
        self._vault = vault
        self._random = random

    @property
    def takes(self) -> bool:
        """Whether anything is kept."""
        return self._days > 0

    def until_ms(self, request_id: str) -> int:
        """When the bodies of a call are due to be deleted."""
        return uuid7_text_ms(request_id) + self._days * DAY_MS

    async def keep(
        self, store: Store, application_id: str, said: Mapping[str, Bodies], now_ms: int
    ) -> None:
        """Put away bodies, by request id; what cannot be is logged, and no more."""
        said = {it: bodies for it, bodies in said.items() if self.until_ms(it) > now_ms}
        if not said:
            return
        try:
            days = {_key(it) for it in said}
            boxes = {day: await self._vault.box(day, make=True) for day in days}
            sealed = await asyncio.to_thread(self._sealed, application_id, said, boxes)
            if sealed:
                await bodies.add(store, application_id, sealed)
        except XproxyError as fault:
            log.warning("bodies_not_kept", calls=len(said), reason=fault.message)
        except Exception:  # the calls are charged: to fail now would be to lose that
            log.exception("bodies_not_kept", calls=len(said))

    def _sealed(
        self, application_id: str, said: Mapping[str, Bodies], boxes: Mapping[str, Box]
    ) -> dict[str, bytes]:
        sealed = {}
        for request_id, its in said.items():
            less = kept(its)
            if less != NOTHING:
                bound, nonce = bound_to(application_id, request_id), self._random(NONCE_BYTES)
                sealed[request_id] = boxes[_key(request_id)].seal(pack(less), bound, nonce)
        return sealed

    async def read(
        self, store: Store, application_id: str, request_id: str, now_ms: int
    ) -> Bodies | None:
        """The bodies of a call; raises OurFault for those that cannot be opened."""
        if self.until_ms(request_id) <= now_ms:
            return None
        sealed = await bodies.read(store, application_id, request_id)
        if sealed is None:
            return None
        try:
            box = await self._vault.box(_key(request_id))
            return unpack(box.open(sealed, bound_to(application_id, request_id)))
        except (NotHeld, NotOpened) as fault:
            log.exception("bodies_not_opened", request_id=request_id, reason=fault.message)
            raise OurFault(
                "the bodies of this call cannot be opened; the log says why",
                code="bodies_not_opened",
                should_retry=False,
            ) from fault


def _key(request_id: str) -> str:
    """The name of the key that the bodies of a call are sealed under."""
    return KEYS + day_of(uuid7_text_ms(request_id))
