"""Who calls, what binds the call, and what serves it: keys, limits, what limits are attached to,
and stored credentials, by name."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache, partial
from typing import Literal, NamedTuple

import msgspec

from metering.core.addresses import Networks, Visitor, client_address
from metering.core.credentials import Credential
from metering.core.keys import ANONYMOUS, digest_of, is_ours, may_be_litellms
from metering.core.limits import Limit
from metering.core.rates import KINDS, Kind, Rate
from metering.core.terms import label
from metering.directory.attempts import Attempts
from metering.directory.credentials import Credentials
from metering.directory.names import (
    UNKNOWN,
    Names,
    attached_topic,
    key_topic,
    limit_topic,
    profiles_topic,
)
from metering.directory.uses import Uses
from metering.keyring import Keyring
from metering.redis import Redis, keys
from metering.store import Store, attachments, profiles
from metering.store import keys as stored_keys
from metering.store import limits as stored_limits

DIGESTS_MAX = 4_096
"""So many keys are remembered with their digest, in this process's memory alone."""
FAILURES_MAX = 20
"""So many keys that are none may be shown in a minute, by default."""

Role = Literal["admin", "app", "read"]
Attached = dict[attachments.Kind, dict[str, list[str]]]
Profiles = dict[str, dict[str, profiles.Rules]]


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who calls."""

    application_id: str
    key_id: str | None
    role: Role
    permissions: frozenset[str] = frozenset()
    limit_ids: tuple[str, ...] = ()
    """Limits attached to the key: they bind whatever headers say."""
    user_id: str | None = None
    """Whom the key acts for: what is attached to them binds its calls; team, customer likewise."""
    team: str | None = None
    customer: str | None = None
    rates: tuple[Rate, ...] = ()
    models: tuple[str, ...] = ()
    """The ones that the key may call; none: all."""
    aliases: dict[str, str] = {}
    """By the model that a call names, the one that is called."""
    tags: tuple[str, ...] = ()
    """Of all its calls."""
    idempotent: bool = False
    """Whether its application has calls with an `Idempotency-Key` made once."""

    def may(self, permission: str) -> bool:
        """Whether this caller has a permission; an admin has all."""
        return self.role == "admin" or permission in self.permissions


class Held(NamedTuple):
    """Somebody whom a call is for, and what it is held to because of him."""

    kind: str
    name: str
    rules: profiles.Rules

    @property
    def rates(self) -> tuple[Rate, ...]:
        """His rates, which all calls for him share."""
        return _rates(label(self.kind, self.name), self.rules.rate_limits)


class _Known(msgspec.Struct, frozen=True):
    """A key that is good, until when."""

    caller: Caller
    expires_ms: int | None


def _rates(name: str, most: Mapping[Kind, int]) -> tuple[Rate, ...]:
    return tuple(Rate(kind, name, most[kind]) for kind in KINDS if kind in most)


def _expires_ms(known: _Known) -> int | None:
    return known.expires_ms


def _digest(pepper: bytes, key: str) -> tuple[bytes, str, bool]:
    """The digest of a key, its name, and whether there may be such a key: it has our format, or may
    have been brought along from LiteLLM."""
    hashed = digest_of(pepper, key)
    return hashed, key_topic(hashed), is_ours(key) or may_be_litellms(key)


class Directory:
    """Names to things. `default_application` is who an admin key acts for."""

    def __init__(
        self,
        store: Store,
        redis: Redis,
        *,
        pepper: bytes,
        keyring: Keyring,
        admin_key: str | None,
        default_application: str,
        clock_ms: Callable[[], int],
        failures_max: int = FAILURES_MAX,
        trusted: Networks = (),
    ) -> None:
        """`failures_max`: see `Attempts`; `trusted`: proxies that say who the client is."""
        self._store = store
        self._digest = lru_cache(DIGESTS_MAX)(partial(_digest, pepper))
        self._keyring = keyring
        self._admin_key = admin_key.encode() if admin_key else None
        self._clock_ms = clock_ms
        self._trusted = trusted
        self._attempts = Attempts(redis, pepper, failures_max)
        self._uses = Uses()
        self._names = Names(redis, pepper, clock_ms, self._heard)
        self._credentials = Credentials(store, keyring, self._names)
        self.admin = Caller(application_id=default_application, key_id=None, role="admin")
        self.prices_told = asyncio.Event()
        """Set when prices may have changed."""

    # Keys

    async def admit(self, key: str, visitor: Visitor) -> Caller | None:
        """Who shows a key; None for one that is unknown, expired or blocked, which is counted.

        Raises RateLimited for one too many of those.
        """
        caller = await self.caller(key)
        if caller is None:
            await self._attempts.failed(key, client_address(visitor, self._trusted))
        else:
            self._used(caller, visitor)
        return caller

    async def anonymous(self, visitor: Visitor) -> Caller | None:
        """Who calls without a key of ours, where that is let in; None if nobody may, any more."""
        caller = await self._caller_of(*self._digest(ANONYMOUS)[:2])
        if caller is not None:
            self._used(caller, visitor)
        return caller

    def _used(self, caller: Caller, visitor: Visitor) -> None:
        if caller.key_id is not None:
            address = partial(client_address, visitor, self._trusted)
            self._uses.note(caller.key_id, self._clock_ms(), address)

    async def write_uses(self) -> None:
        """Write down when, and from where, keys were last used."""
        await self._uses.write(self._store)

    def is_admin_key(self, key: str) -> bool:
        """Whether a string is the operator's own admin key, in whatever format it is."""
        return self._admin_key is not None and hmac.compare_digest(self._admin_key, key.encode())

    async def caller(self, key: str) -> Caller | None:
        """Who a key belongs to; None for one that is unknown, expired or blocked.

        These are one case all the way down, to what Postgres is asked and answers, and back.
        """
        hashed, name, may_be = self._digest(key)
        if not may_be or self._names.kept(name) is UNKNOWN:  # what is kept has passed these
            if self.is_admin_key(key) or self._keyring.signed(key, self._clock_ms() // 1000):
                return self.admin
            if not may_be:
                return None
        return await self._caller_of(hashed, name)

    async def _caller_of(self, hashed: bytes, name: str) -> Caller | None:
        known = self._names.kept(name)
        if known is UNKNOWN:
            known = await self._names.find(name, lambda: self._read(hashed), _Known, _expires_ms)
        if known is None:
            return None
        ended = known.expires_ms is not None and known.expires_ms <= self._clock_ms()
        caller: Caller = known.caller
        return None if ended else caller

    async def _read(self, hashed: bytes) -> _Known | None:
        row = await stored_keys.by_digest(self._store, hashed, self._clock_ms())
        if row is None:
            return None
        caller = Caller(
            application_id=row.application_id or self.admin.application_id,
            key_id=row.key_id,
            role=row.role,
            permissions=frozenset(row.permissions),
            limit_ids=tuple(row.limit_ids),
            user_id=row.user_id,
            team=row.team,
            customer=row.customer,
            rates=_rates(f"key:{row.key_id}", row.rate_limits),
            models=row.models,
            aliases=row.aliases,
            tags=row.tags,
            idempotent=row.idempotent,
        )
        return _Known(caller, row.expires_ms)

    # Limits

    async def limit(self, application_id: str, limit_id: str) -> Limit | None:
        """A limit's definition."""
        name = limit_topic(application_id, limit_id)
        found: Limit | None = self._names.kept(name)
        if found is UNKNOWN:
            found = await self._names.find(
                name, lambda: stored_limits.get(self._store, application_id, limit_id), Limit
            )
        return found

    async def limits(self, application_id: str, limit_ids: Iterable[str]) -> list[Limit | None]:
        """Several limits' definitions, in order."""
        found: list[Limit | None] = []
        for limit_id in limit_ids:
            kept = self._names.kept(limit_topic(application_id, limit_id))
            if kept is UNKNOWN:
                kept = await self.limit(application_id, limit_id)
            found.append(kept)
        return found

    async def attached(
        self,
        caller: Caller,
        *,
        user_id: str | None = None,
        customer: str | None = None,
        credential: str | None = None,
    ) -> tuple[str, ...]:
        """The ids of limits that bind a call whatever its headers say: those of its key, of the
        users, team and customers that it is for, and of the credential (a slug) that serves it.

        `user_id` and `customer` are the headers': they add to the key's own.
        """
        name = attached_topic(caller.application_id)
        found: Attached = self._names.kept(name)
        if found is UNKNOWN:
            found = await self._names.find(
                name,
                lambda: attachments.of_application(self._store, caller.application_id),
                Attached,
            )
        if not found:
            return caller.limit_ids
        whose: tuple[tuple[attachments.Kind, str | None], ...] = (
            ("user", caller.user_id),
            ("user", user_id),
            ("team", caller.team),
            ("customer", caller.customer),
            ("customer", customer),
            ("credential", credential),
        )
        bound = [it for kind, its in whose if its for it in found.get(kind, {}).get(its, ())]
        return (*caller.limit_ids, *bound)

    async def holding(
        self, caller: Caller, *, user_id: str | None = None, customer: str | None = None
    ) -> tuple[Held, ...]:
        """Of the users, team and customers that a call is for, those because of whom it is held to
        anything; `user_id` and `customer` as in `attached`."""
        name = profiles_topic(caller.application_id)
        found: Profiles = self._names.kept(name)
        if found is UNKNOWN:
            found = await self._names.find(
                name, lambda: profiles.rules(self._store, caller.application_id), Profiles
            )
        if not found:
            return ()
        whose = {
            "team": (caller.team,),
            "user": (caller.user_id, user_id),
            "customer": (caller.customer, customer),
        }
        return tuple(
            Held(kind, its, found[kind][its])
            for kind, names in whose.items()
            for its in dict.fromkeys(names)
            if its in found.get(kind, {})
        )

    # Credentials

    async def credential(self, application_id: str, slug: str) -> Credential | None:
        """A stored credential, its secret opened."""
        return await self._credentials.get(application_id, slug)

    async def default_credential(self, application_id: str, provider: str) -> Credential | None:
        """The one that serves an application's calls to a provider by itself."""
        return await self._credentials.default(application_id, provider)

    def now_ms(self) -> int:
        """What time it is where keys and credentials expire."""
        return self._clock_ms()

    # Changes

    async def changed(self, *topics: str) -> None:
        """See `Names.changed`."""
        await self._names.changed(*topics)

    async def retell(self) -> None:
        """See `Names.retell`."""
        await self._names.retell()

    async def listen(self) -> None:
        """See `Names.listen`."""
        await self._names.listen()

    def _heard(self, topic: str) -> None:
        if topic in (keys.EVERYTHING, "prices"):
            self.prices_told.set()
