"""When, and from where, keys were last used: noted in memory, written down now and then.

No call waits for it. It is precise to about a minute; what a process that dies had not written yet
is lost.
"""

from __future__ import annotations

from collections.abc import Callable

from metering.store import Store
from metering.store import keys as stored_keys

EVERY_MS = 60_000
"""So often a key's use is noted, however often it is used."""
KEYS_MAX = 50_000


class Uses:
    """The last uses of keys in one process."""

    def __init__(self) -> None:
        self._noted: dict[str, int] = {}
        self._unwritten: dict[str, tuple[int, str]] = {}

    def note(self, key_id: str, now_ms: int, address: Callable[[], str]) -> None:
        """A key is used; `address` tells from where, if that is to be noted."""
        if now_ms - self._noted.get(key_id, 0) < EVERY_MS:
            return
        if len(self._noted) >= KEYS_MAX:
            self._noted.clear()
        self._noted[key_id] = now_ms
        self._unwritten[key_id] = (now_ms, address())

    async def write(self, store: Store) -> None:
        """Write down what is noted; it stays noted if the store is away."""
        writing, self._unwritten = self._unwritten, {}
        try:
            await stored_keys.note_use(store, writing)
        except BaseException:  # cancelled too, as a process ends: its last try has all of it then
            self._unwritten = writing | self._unwritten
            raise
