"""What limits are attached to, by kind and name."""

from __future__ import annotations

import pytest

from metering.core.limits import Limit
from metering.errors import StoreAway
from metering.store import Store, attachments, audit, keys, limits
from metering.store.attachments import Attachment
from tests.store.samples import NOW_MS, request_id
from tests.store.test_keys import a_key


async def a_limit(store: Store, application_id: str, limit_id: str) -> None:
    """A limit of an application."""
    limit = Limit(
        application_id=application_id,
        limit_id=limit_id,
        limit_name=limit_id,
        max=1,
        epoch=NOW_MS,
        created_ms=NOW_MS,
        updated_ms=NOW_MS,
    )
    await limits.create(store, limit)


def one(limit_id: str, kind: attachments.Kind = "user", name: str = "alice") -> Attachment:
    """An attachment."""
    return Attachment(kind=kind, name=name, limit_id=limit_id, attached_ms=NOW_MS)


async def test_attachments_are_read_by_kind_and_name(store: Store, application_id: str) -> None:
    """Attaching twice is once; names of different kinds are different things."""
    for limit_id in ("a", "b"):
        await a_limit(store, application_id, limit_id)
    made = [one("a"), one("b"), one("a", "team", "alice"), one("a", "customer", "a/b c")]
    for it in (*made, made[0]):
        assert await attachments.attach(store, application_id, it)

    assert await attachments.of_application(store, application_id) == {
        "user": {"alice": ["a", "b"]},
        "team": {"alice": ["a"]},
        "customer": {"a/b c": ["a"]},
    }
    assert await attachments.count(store, application_id, "user", "alice") == (4, 2)
    assert await attachments.of_application(store, request_id()) == {}


async def test_only_limits_that_exist_are_attached(store: Store, application_id: str) -> None:
    """A limit of another application does not exist here."""
    await a_limit(store, application_id, "a")
    assert not await attachments.attach(store, application_id, one("nope"))
    assert not await attachments.attach(store, request_id(), one("a"))
    assert not await attachments.detach(store, application_id, "user", "alice", "a")


async def test_a_limit_is_deleted_from_all_that_it_is_attached_to(
    store: Store, application_id: str
) -> None:
    """Nothing names a limit that is gone: no attachment, no key; the other limits stay."""
    for limit_id in ("a", "b"):
        await a_limit(store, application_id, limit_id)
        await attachments.attach(store, application_id, one(limit_id))
    bound = await keys.create(store, a_key(application_id, limit_ids=("a", "b")), b"a" * 32)
    await keys.rotate(store, bound.key_id, b"b" * 32, "bbbb", previous_ends_ms=NOW_MS + 1)
    await keys.create(store, a_key(application_id, limit_ids=("b",)), b"c" * 32)
    assert await attachments.attached(store, application_id, "a")

    digests = await keys.bound_by(store, application_id, "a")
    assert await limits.delete(store, application_id, "a")

    assert sorted(digests) == [b"a" * 32, b"b" * 32]
    key = await keys.get(store, bound.key_id)
    assert key is not None
    assert key.limit_ids == ("b",)
    assert await attachments.of_application(store, application_id) == {"user": {"alice": ["b"]}}
    assert not await attachments.attached(store, application_id, "a")
    assert not await limits.delete(store, application_id, "a")


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, ["a", "b", "a"]),
        ({"kind": "user"}, ["a", "b"]),
        ({"kind": "team"}, []),
        ({"name": "bob"}, ["a"]),
        ({"limit_id": "a"}, ["a", "a"]),
    ],
)
async def test_pages(
    store: Store, application_id: str, asked: dict[str, object], found: list[str]
) -> None:
    """Pages meet without gap or overlap, of all or of what is asked for."""
    for limit_id in ("a", "b"):
        await a_limit(store, application_id, limit_id)
        await attachments.attach(store, application_id, one(limit_id))
    customer = one("a", "customer", "bob")
    await attachments.attach(store, application_id, customer)
    seen: list[Attachment] = []
    cursor: str | None = None
    while True:
        page = await attachments.page(
            store,
            application_id,
            page_size=1,
            cursor=cursor,
            **asked,  # type: ignore[arg-type]
        )
        seen += page.items
        cursor = page.cursor
        if cursor is None:
            break
    assert sorted(it.limit_id for it in seen) == sorted(found)
    assert await attachments.detach(store, application_id, "customer", "bob", "a")


async def test_a_tenant_sees_its_own_and_changes_none(store: Store, application_id: str) -> None:
    """Row-level security confines what a key that is no admin's asks for, and it attaches nothing;
    a limit that it deletes is gone from all that it is attached to all the same."""
    for limit_id in ("a", "b"):
        await a_limit(store, application_id, limit_id)
    await attachments.attach(store, application_id, one("a"))
    bound = await keys.create(store, a_key(application_id, limit_ids=("a", "b")), b"a" * 32)
    mine, other = (store.acting("{}", tenant=it) for it in (application_id, request_id()))

    assert len((await attachments.page(mine, application_id)).items) == 1
    assert (await attachments.page(other, application_id)).items == ()
    assert await attachments.attached(mine, application_id, "a")
    with pytest.raises(StoreAway):
        await attachments.attach(mine, application_id, one("b"))
    with pytest.raises(StoreAway):
        await attachments.detach(mine, application_id, "user", "alice", "a")

    assert await limits.delete(mine, application_id, "a")
    assert await attachments.of_application(store, application_id) == {}
    key = await keys.get(store, bound.key_id)
    assert key is not None
    assert key.limit_ids == ("b",)


async def test_attachments_and_rotations_are_on_record(store: Store, application_id: str) -> None:
    """Who did it is with them, and no digest; that a key was used is no change."""
    acting = store.acting('{"role": "admin", "key_id": "k"}')
    await a_limit(store, application_id, "a")
    await attachments.attach(acting, application_id, one("a"))
    key = await keys.create(acting, a_key(application_id), b"a" * 32)
    await keys.rotate(acting, key.key_id, b"b" * 32, "bbbb", previous_ends_ms=NOW_MS)
    await keys.note_use(store, {key.key_id: (NOW_MS, "192.0.2.1")})

    log = (await audit.page(store, audit.Asked(application_id=application_id))).items
    attached = [it for it in log if it.object == "attachment"]
    changes = [it for it in log if it.object == "key"]
    assert [(it.action, it.object_id, it.actor.key_id) for it in attached] == [
        ("created", "a", "k")
    ]
    assert [it.action for it in changes] == ["updated", "created"]
    assert changes[0].after is not None
    assert changes[0].after["digest"] == "another secret"
    assert changes[0].after["previous_digest"] == "another secret"
    assert "last_used_at" not in changes[0].after
