"""Secrets of our own, and the sealing of others': what the master secret wraps, and its rotation.

The pepper of key digests and the key that signs cursors are random, and stored wrapped. While a
process runs it has them in memory, and needs the master secret for stored credentials alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from metering.core.credentials import bound_to
from metering.core.sealing import (
    KEY_BYTES,
    NONCE_BYTES,
    SEAL_BYTES,
    Box,
    NotOpened,
    Sealed,
    Secret,
    context,
    derived,
    seal,
)
from metering.errors import Conflict, OurFault
from metering.keyring import Keyring, NotHeld
from metering.store import Store, secrets
from metering.store.secrets import RowKey, Wrapped

PEPPER, CURSORS = "key pepper", "cursors"


class OwnSecrets(NamedTuple):
    """Our own random keys."""

    pepper: bytes
    """Keys are stored as `core.keys.digest(pepper, key)`."""
    cursors: bytes
    """Signs the cursors of pages."""


class Rotated(NamedTuple):
    """What a rotation did: which master secret was in force, which one is, and how many
    credentials it wraps now that it did not."""

    before: str
    now: str
    credentials: int


class Vault:
    """What is sealed in a store, and the master secrets that a process holds."""

    def __init__(self, store: Store, keyring: Keyring, random: Callable[[int], bytes]) -> None:
        self._store = store
        self.keyring = keyring
        self._random = random
        self._boxes: dict[str, Box] = {}

    async def prepare(self) -> OwnSecrets:
        """Our own keys, made if there are none.

        A database from before they were stored has them derived from the master secret: those are
        kept, so that all keys go on working.
        """
        found = await secrets.read(self._store)
        if not {PEPPER, CURSORS} <= found.keys():
            await self._make(derive=await secrets.used_before(self._store))
            found = await secrets.read(self._store)
        with self.keyring.locked():  # what a rotation left that died
            self.keyring.keep(self.keyring.get(found[PEPPER].by))
        return self._opened(found)

    async def _make(self, *, derive: bool) -> None:
        master = self.keyring.masters[-1]  # of two, the one that was there before
        for name in (PEPPER, CURSORS):
            key = derived(master.secret, name) if derive else self._random(KEY_BYTES)
            wrapped = master.wrap(key, _own(name), self._random(NONCE_BYTES))
            await secrets.add(self._store, name, wrapped, master.id)

    async def forget_if_lost(self) -> bool:
        """If the master secret in force is not held here, have what it wraps forgotten, so that a
        new start is possible; whether that was so."""
        in_force = (await secrets.read(self._store)).get(PEPPER)
        try:
            if in_force is not None:
                self.keyring.get(in_force.by)
            return False
        except NotHeld:
            await secrets.forget(self._store)
            await self._make(derive=False)
            return True

    async def load(self) -> OwnSecrets:
        """Our own keys; raises NotHeld."""
        found = await secrets.read(self._store)
        if not {PEPPER, CURSORS} <= found.keys():
            raise OurFault("the database has not been prepared: start it with `xproxy serve`")
        return self._opened(found)

    def _opened(self, found: dict[str, Wrapped]) -> OwnSecrets:
        return OwnSecrets(self._open(PEPPER, found[PEPPER]), self._open(CURSORS, found[CURSORS]))

    def _open(self, name: str, key: Wrapped) -> bytes:
        return self.keyring.get(key.by).unwrap(key.wrapped, _own(name))

    def seal(self, by: str, secret: Secret, bound: bytes) -> Sealed:
        """Seal a secret for what it is bound to, by the master secret of an id; raises NotHeld."""
        return seal(secret, bound, self.keyring.get(by), self._random(SEAL_BYTES))

    async def box(self, name: str, *, make: bool = False) -> Box:
        """What seals under a random key of this name, which is made if it may be; raises NotOpened
        where there is none, and NotHeld."""
        found = self._boxes.get(name)
        if found is None:
            found = self._boxes[name] = Box(await self._key(name, make=make), name)
        return found

    async def _key(self, name: str, *, make: bool) -> bytes:
        if make:
            key = self._random(KEY_BYTES)

            def wrap(by: str) -> bytes:
                return self.keyring.get(by).wrap(key, _own(name), self._random(NONCE_BYTES))

            await secrets.make(self._store, name, wrap)
        for again in (True, False):
            found = await secrets.get(self._store, name)
            if found is None:
                break
            try:
                return self._open(name, found)
            except NotHeld:  # a rotation may have come between
                if not again:
                    raise
        raise NotOpened(f"the key {name!r} is gone", should_retry=False)

    async def wrapped(self) -> dict[str, int]:
        """How many keys each master secret wraps, by its id."""
        return await secrets.counts(self._store)

    async def rotate(self, store: Store) -> Rotated:
        """Have the next master secret wrap everything, all at once; `store` says who wants it.

        Whatever happens on the way, everything can still be opened: the next one is held by all
        who read the file before anything depends on it, and this one until nothing does.
        """
        with self.keyring.locked():
            before = (await secrets.read(self._store))[PEPPER].by
            master = self.keyring.successor(before)

            def own(name: str, key: Wrapped) -> bytes:
                return master.wrap(self._open(name, key), _own(name), self._random(NONCE_BYTES))

            def of_row(row: RowKey) -> bytes:
                bound = bound_to(row.application_id, row.credential_id, row.provider, row.origin)
                try:
                    key = self.keyring.get(row.key.by).unwrap(row.key.wrapped, bound)
                except NotOpened:
                    raise _spoilt(row) from None
                return master.wrap(key, bound, self._random(NONCE_BYTES))

            count = await secrets.rewrap(store, master.id, own, of_row)
            self.keyring.keep(master)
        return Rotated(before, master.id, count)


def _spoilt(row: RowKey) -> Conflict:
    return Conflict(
        f"credential {row.slug!r} of application {row.application_id} was altered in the database "
        "and cannot be opened: delete it, or set its secret anew; nothing has been rotated"
    )


def _own(name: str) -> bytes:
    return context("secret", name)
