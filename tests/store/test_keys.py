"""Keys are found by digest alone."""

from __future__ import annotations

import pytest

from metering.errors import Conflict
from metering.store import Store, ValueRefused, keys
from metering.store.keys import KeyRow
from tests.store.samples import NOW_MS, request_id


def a_key(application_id: str | None, **fields: object) -> KeyRow:
    """A key of an application."""
    defaults: dict[str, object] = {
        "key_id": request_id(),
        "application_id": application_id,
        "role": "app",
        "name": "backend",
        "last4": "wxyz",
        "created_ms": NOW_MS,
    }
    return KeyRow(**(defaults | fields))  # type: ignore[arg-type]


async def test_a_key_comes_back_as_it_was_made(store: Store, application_id: str) -> None:
    """Every field survives, found by digest or by id."""
    made = a_key(
        application_id,
        permissions=("unmetered", "credentials:main"),
        limit_ids=("monthly",),
        expires_ms=NOW_MS + 1,
    )
    assert await keys.create(store, made, b"a" * 32) == made
    assert await keys.by_digest(store, b"a" * 32) == made
    assert await keys.get(store, made.key_id) == made
    assert await keys.get(store, made.key_id, application_id) == made
    assert await keys.by_digest(store, b"b" * 32) is None


async def test_an_admin_key_needs_no_application(store: Store) -> None:
    """Only an admin key may belong to no application."""
    admin = a_key(None, role="admin")
    assert await keys.create(store, admin, b"a" * 32) == admin
    with pytest.raises(ValueRefused):
        await keys.create(store, a_key(None), b"b" * 32)


async def test_a_digest_is_taken_once(store: Store, application_id: str) -> None:
    """Two keys never share a digest, and a digest has 32 bytes."""
    await keys.create(store, a_key(application_id), b"a" * 32)
    with pytest.raises(Conflict):
        await keys.create(store, a_key(application_id), b"a" * 32)
    with pytest.raises(ValueRefused):
        await keys.create(store, a_key(application_id), b"short")


async def test_a_blocked_key_is_still_found(store: Store, application_id: str) -> None:
    """A blocked key is found, so that the refusal can say why; it can be let in again."""
    made = await keys.create(store, a_key(application_id), b"a" * 32)
    blocked = await keys.block(store, made.key_id)
    assert blocked is not None
    assert blocked.blocked
    assert await keys.by_digest(store, b"a" * 32) == blocked
    assert await keys.block(store, made.key_id, blocked=False) == made


async def test_a_deleted_key_gives_its_digest_back(store: Store, application_id: str) -> None:
    """Whoever remembers callers by digest learns which one to forget."""
    made = await keys.create(store, a_key(application_id), b"a" * 32)
    assert await keys.delete(store, made.key_id) == b"a" * 32
    assert await keys.delete(store, made.key_id) is None


@pytest.mark.parametrize("other", [request_id(), "nonsense"], ids=["another", "malformed"])
async def test_keys_of_another_application_are_out_of_reach(
    store: Store, application_id: str, other: str
) -> None:
    """With an application given, a key of another is as good as absent."""
    made = await keys.create(store, a_key(application_id), b"a" * 32)
    assert await keys.get(store, made.key_id, other) is None
    assert await keys.block(store, made.key_id, application_id=other) is None
    assert await keys.delete(store, made.key_id, other) is None
    assert (await keys.page(store, other)).items == ()
    assert await keys.get(store, "nonsense") is None
    assert (await keys.page(store, None)).items == (made,)


@pytest.mark.parametrize("ascending", [False, True], ids=["newest", "oldest"])
async def test_keys_are_listed_by_age(
    store: Store, application_id: str, *, ascending: bool
) -> None:
    """Pages of an application's keys meet without gap or overlap."""
    made = [
        await keys.create(store, a_key(application_id, created_ms=NOW_MS + n), bytes([n]) * 32)
        for n in range(5)
    ]
    seen: list[KeyRow] = []
    cursor: str | None = None
    for _ in range(3):
        page = await keys.page(
            store, application_id, page_size=2, cursor=cursor, ascending=ascending
        )
        seen += page.items
        cursor = page.cursor
    assert seen == (made if ascending else made[::-1])
    assert cursor is None
