"""What both kinds of process share, and what the first start makes: schema, application, keys."""

from __future__ import annotations

import contextlib
import gc
import os
import secrets
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from metering.core.ids import uuid7
from metering.core.keys import ANONYMOUS, digest, make_key
from metering.core.limits import Limit, Mode
from metering.core.money import PICO_PER_USD
from metering.errors import Conflict
from metering.keyring import Keyring
from metering.settings import Settings
from metering.store import Store, applications, keys, limits, usage
from metering.store.migrations import migrate
from metering.vault import Vault

DEFAULT_APPLICATION = "00000000-0000-7000-8000-000000000001"
"""The application an admin key acts for where a call needs one."""
GC_THRESHOLD = 200_000
"""A call makes hundreds of objects and no cycles to speak of: looking less often costs nothing."""
DEMO_LIMIT = "demo"
DEMO_LIMIT_USD = 5
ANONYMOUS_KEY = "00000000-0000-7000-8000-000000000002"
"""The id of the key that stands for those who show none of ours."""
ANONYMOUS_LIMIT_USD = 5
"""As a hard cap it has to hold the most that a call may come to, not what it does."""


class Welcome(msgspec.Struct, frozen=True):
    """What is said once, at the first start."""

    admin_key: str | None
    """None where the operator brought one."""
    application_key: str
    limit_id: str
    limit_usd: int


def clock_ms() -> int:
    """Unix milliseconds."""
    return time.time_ns() // 1_000_000


def collect_rarely() -> None:
    """Have the garbage collector look at what is new only, and less often; for after the start."""
    gc.collect()
    gc.freeze()  # what is here now stays: it need not be looked at again and again
    gc.set_threshold(GC_THRESHOLD)


async def prepare(settings: Settings, *, forget_secrets: bool = False) -> Welcome | None:
    """Bring the database up to date; at the first start, make what a newcomer needs.

    `forget_secrets`: what a master secret has sealed that nobody has any more.
    """
    dsn = settings.database_url or ""
    await migrate(dsn)
    store = await Store.open(dsn, connections=2)
    try:
        await usage.ensure_partitions(store, clock_ms())
        vault = Vault(store, Keyring.of(settings), os.urandom)
        if forget_secrets:
            await vault.forget_if_lost()
        own = await vault.prepare()
        welcome = await _first_start(settings, store, own.pepper)
        if settings.anonymous == "loopback":
            await _let_anybody_in(store, own.pepper)
        return welcome
    finally:
        await store.close()


async def _let_anybody_in(store: Store, pepper: bytes) -> None:
    """Make what stands for those who show no key of ours, if it is not there: a key that nobody
    can show, and the limit that binds it. Both are the operator's to change."""
    now_ms = clock_ms()
    limit = _limit(ANONYMOUS, "Anonymous", ANONYMOUS_LIMIT_USD, now_ms, mode="hard")
    _, new = await limits.create(store, limit)
    row = keys.KeyRow(
        key_id=ANONYMOUS_KEY,
        application_id=DEFAULT_APPLICATION,
        role="app",
        name=ANONYMOUS,
        last4="",
        limit_ids=(ANONYMOUS,),
        created_ms=now_ms,
    )
    hashed = digest(pepper, ANONYMOUS)
    with contextlib.suppress(Conflict):
        await keys.create(store, row, hashed)
    if new:  # a limit that was deleted is no more with the key, either
        await keys.update(store, ANONYMOUS_KEY, {"limit_ids": (ANONYMOUS,)})


def _limit(limit_id: str, name: str, usd: int, now_ms: int, *, mode: Mode = "block") -> Limit:
    return Limit(
        application_id=DEFAULT_APPLICATION,
        limit_id=limit_id,
        limit_name=name,
        mode=mode,
        max=usd * PICO_PER_USD,
        epoch=now_ms,
        created_ms=now_ms,
        updated_ms=now_ms,
    )


FIRST_PERMISSIONS = ("price_as", "base_uri", "ingest")
"""Of the key that a newcomer gets: so much as examples need."""


async def _first_start(settings: Settings, store: Store, pepper: bytes) -> Welcome | None:
    now_ms = clock_ms()
    if await applications.get(store, DEFAULT_APPLICATION) is not None:
        return None
    with contextlib.suppress(Conflict):  # another replica starts at the same moment
        await applications.create(store, DEFAULT_APPLICATION, "default", now_ms)
    await limits.create(store, _limit(DEMO_LIMIT, "Demo", DEMO_LIMIT_USD, now_ms))
    admin_key = None
    if settings.admin_key is None:
        admin_key = await _make_key(pepper, store, "admin", "admin", ())
    application_key = await _make_key(pepper, store, "app", "first", FIRST_PERMISSIONS)
    return Welcome(admin_key, application_key, DEMO_LIMIT, DEMO_LIMIT_USD)


async def _make_key(
    pepper: bytes, store: Store, role: Any, name: str, permissions: Sequence[str]
) -> str:
    key = make_key(role, secrets.token_bytes(32))
    now_ms = clock_ms()
    row = keys.KeyRow(
        key_id=str(uuid7(now_ms, secrets.token_bytes(10))),
        application_id=None if role == "admin" else DEFAULT_APPLICATION,
        role=role,
        name=name,
        last4=key[-4:],
        permissions=tuple(permissions),
        created_ms=now_ms,
    )
    await keys.create(store, row, digest(pepper, key))
    return key
