"""Keys are found by digest alone."""

from __future__ import annotations

from decimal import Decimal

import pytest
from msgspec.structs import replace

from metering.core.terms import Terms
from metering.errors import Conflict
from metering.store import Store, ValueRefused, keys
from metering.store.keys import Changed, KeyRow
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
        permissions=("unmetered", "credential:main"),
        limit_ids=("monthly",),
        user_id="alice",
        team="search",
        customer="acme",
        expires_ms=NOW_MS + 1,
    )
    assert await keys.create(store, made, b"a" * 32) == made
    assert await keys.by_digest(store, b"a" * 32, NOW_MS) == made
    assert await keys.get(store, made.key_id) == made
    assert await keys.get(store, made.key_id, application_id) == made
    assert await keys.by_digest(store, b"b" * 32, NOW_MS) is None


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


async def test_a_key_that_is_no_good_is_not_found(store: Store, application_id: str) -> None:
    """By its digest a blocked or expired key is found no more than one that never was."""
    made = await keys.create(store, a_key(application_id, expires_ms=NOW_MS + 10), b"a" * 32)
    assert await keys.by_digest(store, b"a" * 32, NOW_MS + 10) is None

    blocked = await keys.update(store, made.key_id, {"blocked": True})
    assert blocked is not None
    assert blocked.key == replace(made, blocked=True)
    assert blocked.digests == (b"a" * 32,)
    assert await keys.by_digest(store, b"a" * 32, NOW_MS) is None
    assert await keys.get(store, made.key_id) == blocked.key

    await keys.update(store, made.key_id, {"blocked": False})
    assert await keys.by_digest(store, b"a" * 32, NOW_MS) == made


async def test_only_what_is_named_changes(store: Store, application_id: str) -> None:
    """Each field can be set and taken away alone; the others stay."""
    made = await keys.create(store, a_key(application_id, team="search"), b"a" * 32)
    values: dict[str, object] = {
        "name": "new",
        "permissions": ("price_as",),
        "limit_ids": ("a", "b"),
        "user_id": "alice",
        "team": None,
        "customer": "acme",
        "expires_ms": NOW_MS + 5,
        "blocked": True,
        "rate_limits": {"requests": 60},
        "models": ("gpt-4o", "claude-*"),
        "aliases": {"gpt-4o": "gpt-4o-mini"},
        "tags": ("a", "b"),
        "terms": Terms(max_budget=Decimal("0.000000000001"), budget_duration="30d"),
        "details": {"metadata": '{"a": 1}', "created_by": None},
    }
    assert tuple(values) == keys.CHANGEABLE
    for name, value in values.items():
        changed = await keys.update(store, made.key_id, {name: value})
        assert changed is not None
        made = replace(made, **{name: value})
        assert changed.key == made
    assert await keys.update(store, made.key_id, {}) == Changed(made, (b"a" * 32,))


async def test_rotation(store: Store, application_id: str) -> None:
    """Both secrets find the key until the grace ends; another rotation ends the oldest at once."""
    made = await keys.create(store, a_key(application_id), b"a" * 32)
    ends_ms = NOW_MS + 1_000

    first = await keys.rotate(store, made.key_id, b"b" * 32, "bbbb", previous_ends_ms=ends_ms)
    assert first is not None
    assert first.digests == (b"a" * 32,)
    assert first.key == replace(made, last4="bbbb", previous_ends_ms=ends_ms)
    old, new = [await keys.by_digest(store, it * 32, ends_ms - 1) for it in (b"a", b"b")]
    assert old == replace(first.key, expires_ms=ends_ms)
    assert new == first.key
    assert await keys.by_digest(store, b"a" * 32, ends_ms) is None

    second = await keys.rotate(store, made.key_id, b"c" * 32, "cccc", previous_ends_ms=ends_ms)
    assert second is not None
    assert set(second.digests) == {b"a" * 32, b"b" * 32}
    found = [await keys.by_digest(store, it * 32, NOW_MS) for it in (b"a", b"b", b"c")]
    assert [it is not None for it in found] == [False, True, True]

    at_once = await keys.rotate(store, made.key_id, b"d" * 32, "dddd", previous_ends_ms=None)
    assert at_once is not None
    assert at_once.key.previous_ends_ms is None
    found = [await keys.by_digest(store, it * 32, NOW_MS) for it in (b"b", b"c", b"d")]
    assert [it is not None for it in found] == [False, False, True]
    assert await keys.delete(store, made.key_id) == (b"d" * 32,)


async def test_the_end_of_a_key_ends_its_old_secret_too(store: Store, application_id: str) -> None:
    """A grace period prolongs nothing: whichever end is earlier holds."""
    made = await keys.create(store, a_key(application_id, expires_ms=NOW_MS + 5), b"a" * 32)
    await keys.rotate(store, made.key_id, b"b" * 32, "bbbb", previous_ends_ms=NOW_MS + 1_000)
    old = await keys.by_digest(store, b"a" * 32, NOW_MS)
    assert old is not None
    assert old.expires_ms == NOW_MS + 5


async def test_last_use_is_noted_for_many_keys_at_once(store: Store, application_id: str) -> None:
    """The latest use stays, whichever worker writes last; keys that are gone are no matter."""
    one = await keys.create(store, a_key(application_id), b"a" * 32)
    two = await keys.create(store, a_key(application_id), b"b" * 32)
    await keys.note_use(
        store,
        {
            one.key_id: (NOW_MS + 2, "192.0.2.1"),
            two.key_id: (NOW_MS + 2, "192.0.2.2"),
            request_id(): (NOW_MS, "::1"),
        },
    )
    await keys.note_use(store, {one.key_id: (NOW_MS + 1, "late"), two.key_id: (NOW_MS + 3, "new")})
    await keys.note_use(store, {})

    found = [await keys.get(store, it.key_id) for it in (one, two)]
    assert [(it.last_used_ms, it.last_used_from) for it in found if it] == [
        (NOW_MS + 2, "192.0.2.1"),
        (NOW_MS + 3, "new"),
    ]


async def test_a_deleted_key_gives_its_digests_back(store: Store, application_id: str) -> None:
    """Whoever remembers callers by digest learns which ones to forget."""
    made = await keys.create(store, a_key(application_id), b"a" * 32)
    await keys.rotate(store, made.key_id, b"b" * 32, "bbbb", previous_ends_ms=NOW_MS + 1)
    assert await keys.delete(store, made.key_id) == (b"b" * 32, b"a" * 32)
    assert await keys.delete(store, made.key_id) is None


@pytest.mark.parametrize("other", [request_id(), "nonsense"], ids=["another", "malformed"])
async def test_keys_of_another_application_are_out_of_reach(
    store: Store, application_id: str, other: str
) -> None:
    """With an application given, a key of another is as good as absent."""
    made = await keys.create(store, a_key(application_id), b"a" * 32)
    assert await keys.get(store, made.key_id, other) is None
    assert await keys.update(store, made.key_id, {"blocked": True}, other) is None
    rotated = await keys.rotate(
        store, made.key_id, b"b" * 32, "b", previous_ends_ms=None, application_id=other
    )
    assert rotated is None
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
