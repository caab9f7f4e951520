"""Credentials in the store: metadata for everybody it concerns, secrets for nobody who reads it."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from metering.core.sealing import Sealed
from metering.errors import Conflict, StoreAway
from metering.store import Store, applications, audit, credentials, secrets
from metering.store.audit import Asked
from metering.store.credentials import Change, CredentialRow
from metering.store.secrets import RowKey, Wrapped
from tests.store.samples import NOW_MS, request_id


def a_credential(application_id: str, **fields: object) -> CredentialRow:
    """A credential of an application."""
    defaults: dict[str, object] = {
        "credential_id": request_id(),
        "application_id": application_id,
        "slug": "main",
        "name": "Main",
        "provider": "openai",
        "origin": None,
        "is_default": False,
        "blocked": False,
        "last4": "wxyz",
        "secret_ms": NOW_MS,
        "created_ms": NOW_MS,
        "created_by": "key-1",
        "updated_ms": NOW_MS,
    }
    return CredentialRow(**(defaults | fields))  # type: ignore[arg-type]


def seal(by: str | None) -> Sealed:
    """No real seal: the store does not look into it."""
    return Sealed(b"text", b"key", by or "m1")


def again(by: str | None) -> Sealed:
    """Another one."""
    return Sealed(b"another text", b"another key", by or "m1")


async def test_a_credential_comes_back_as_it_was_made(store: Store, application_id: str) -> None:
    """Every field survives; the sealed secret is in the one answer that is for serving calls."""
    row = a_credential(application_id, origin="https://a.example", is_default=True)
    made = await credentials.create(store, row, seal)
    assert (made.row, made.displaced) == (row, ())
    assert await credentials.get(store, application_id, "main") == row
    found = await credentials.sealed(store, application_id, "main")
    assert found is not None
    assert found.sealed == seal(None)
    assert (found.credential_id, found.origin) == (row.credential_id, "https://a.example")
    assert await credentials.defaults(store, application_id) == {"openai": "main"}
    assert await credentials.get(store, request_id(), "main") is None
    assert await credentials.sealed(store, request_id(), "main") is None
    assert await credentials.get(store, "no id", "main") is None


async def test_a_slug_is_taken_once(store: Store, application_id: str) -> None:
    """In one application; another may have it too. What is refused displaces no default."""
    await credentials.create(store, a_credential(application_id, slug="one", is_default=True), seal)
    await credentials.create(store, a_credential(application_id), seal)
    with pytest.raises(Conflict):
        await credentials.create(store, a_credential(application_id, is_default=True), seal)
    assert await credentials.defaults(store, application_id) == {"openai": "one"}
    other = await applications.create(store, request_id(), "other", NOW_MS)
    await credentials.create(store, a_credential(other.application_id), seal)


async def test_one_default_for_each_provider(store: Store, application_id: str) -> None:
    """A new one takes the place of the one before, made so or changed to it."""
    rows = [a_credential(application_id, slug=slug, is_default=True) for slug in ("a", "b")]
    rows.append(a_credential(application_id, slug="c", provider="anthropic", is_default=True))
    displaced = [(await credentials.create(store, row, seal)).displaced for row in rows]
    assert displaced == [(), ("a",), ()]

    def promote(row: CredentialRow) -> Change:
        return Change(msgspec.structs.replace(row, is_default=True))

    changed = await credentials.change(store, application_id, "a", promote)
    assert changed is not None
    assert changed.displaced == ("b",)
    assert await credentials.defaults(store, application_id) == {"openai": "a", "anthropic": "c"}


async def test_a_change_touches_the_secret_if_it_says_so(store: Store, application_id: str) -> None:
    """It stays, is another, or is gone, in one piece with the rest."""
    await credentials.create(store, a_credential(application_id), seal)
    replace = msgspec.structs.replace

    async def change(change: Change) -> tuple[Sealed | None, CredentialRow | None]:
        await credentials.change(store, application_id, "main", lambda _: change)
        found = await credentials.sealed(store, application_id, "main")
        assert found is not None
        return found.sealed, await credentials.get(store, application_id, "main")

    row = a_credential(application_id)
    named = replace(row, name="Other", blocked=True)
    sealed, found = await change(Change(named))
    assert sealed == seal(None)
    assert found is not None
    assert (found.name, found.blocked, found.last4) == ("Other", True, "wxyz")
    sealed, found = await change(Change(replace(named, last4="4321", secret_ms=5), again))
    assert sealed == again(None)
    assert found is not None
    assert (found.last4, found.secret_ms) == ("4321", 5)
    gone = replace(named, last4=None, secret_ms=None, origin="https://b.example")
    sealed, found = await change(Change(gone))
    assert sealed is None
    assert found is not None
    assert (found.last4, found.secret_ms, found.origin) == (None, None, "https://b.example")
    sealed, found = await change(Change(replace(gone, name="Still without")))
    assert sealed is None


async def test_a_change_of_nothing(store: Store, application_id: str) -> None:
    """What is not there is not changed, and not deleted."""
    nothing = Change(a_credential(application_id))
    for whose in (application_id, request_id(), "no id"):
        assert await credentials.change(store, whose, "main", lambda _: nothing) is None
        assert not await credentials.delete(store, whose, "main")
    await credentials.create(store, a_credential(application_id), seal)
    assert await credentials.delete(store, application_id, "main")
    assert await credentials.get(store, application_id, "main") is None


async def test_pages(store: Store, application_id: str) -> None:
    """By age, either way, of one application or of all."""
    for number in range(5):
        row = a_credential(application_id, slug=f"c{number}", created_ms=NOW_MS + number)
        await credentials.create(store, row, seal)
    first = await credentials.page(store, application_id, page_size=3)
    rest = await credentials.page(store, application_id, page_size=3, cursor=first.cursor)
    assert [it.slug for it in (*first.items, *rest.items)] == ["c4", "c3", "c2", "c1", "c0"]
    assert rest.cursor is None
    oldest = await credentials.page(store, None, page_size=1, ascending=True)
    assert [it.slug for it in oldest.items] == ["c0"]
    assert (await credentials.page(store, request_id())).items == ()
    assert (await credentials.page(store, "no id")).items == ()


async def test_a_tenant_manages_his_own_and_reads_no_secret(
    store: Store, application_id: str
) -> None:
    """As the tenant role all of it works for the application itself, and for no other."""
    await secrets.add(store, "key pepper", b"pepper", "m7")
    other = (await applications.create(store, request_id(), "other", NOW_MS)).application_id
    mine = store.acting("{}", application_id)
    await credentials.create(mine, a_credential(application_id), seal)
    found = await credentials.sealed(store, application_id, "main")
    assert found is not None
    assert found.sealed is not None
    assert found.sealed.by == "m7"
    row = a_credential(application_id, is_default=True, last4="4321")
    changed = await credentials.change(mine, application_id, "main", lambda _: Change(row, again))
    assert changed is not None
    with pytest.raises(StoreAway):
        await credentials.sealed(mine, application_id, "main")
    with pytest.raises(StoreAway):
        await credentials.create(mine, a_credential(other), seal)
    await credentials.create(store, a_credential(other), seal)
    assert await credentials.get(mine, other, "main") is None
    assert not await credentials.delete(mine, other, "main")
    assert await credentials.delete(mine, application_id, "main")


async def test_the_record_has_no_secret(store: Store, application_id: str) -> None:
    """It says that there is one and when it changed; wrapping it anew is no change of it."""
    await credentials.create(store, a_credential(application_id), seal)
    row = a_credential(application_id, last4="4321")
    await credentials.change(store, application_id, "main", lambda _: Change(row, again))
    count = await secrets.rewrap(store, "m2", lambda *_: b"", lambda _: b"key of m2")
    assert count == 1
    made, changed = reversed((await audit.page(store, Asked(object="credential"))).items)
    assert made.after is not None
    assert changed.after is not None
    assert (made.object_id, made.after["sealed"]) == ("main", "secret")
    assert (changed.after["sealed"], changed.after["last4"]) == ("another secret", "4321")
    text = str((made, changed))
    for stored in (b"text", b"key", b"another text", b"another key"):
        assert stored.hex() not in text


async def test_wrapping_anew_is_all_or_nothing(store: Store, application_id: str) -> None:
    """A row that cannot be wrapped leaves all as they were; what is wrapped already is left."""
    await secrets.add(store, "key pepper", b"pepper", "m1")
    for slug in ("a", "b"):
        await credentials.create(store, a_credential(application_id, slug=slug), seal)
    gone = a_credential(application_id, slug="c", last4=None, secret_ms=None)
    await credentials.create(store, a_credential(application_id, slug="c"), seal)
    await credentials.change(store, application_id, "c", lambda _: Change(gone))

    def own(name: str, key: Wrapped) -> bytes:
        assert (name, key) == ("key pepper", Wrapped(b"pepper", "m1"))
        return b"pepper of m2"

    def fails(row: RowKey) -> bytes:
        if row.slug == "b":
            raise Conflict
        return b"key of m2"

    with pytest.raises(Conflict):
        await secrets.rewrap(store, "m2", own, fails)
    assert await secrets.counts(store) == {"m1": 3}
    assert await secrets.rewrap(store, "m2", own, lambda _: b"key of m2") == 2
    assert await secrets.counts(store) == {"m2": 3}
    assert await secrets.read(store) == {"key pepper": Wrapped(b"pepper of m2", "m2")}
    assert await secrets.rewrap(store, "m2", own, fails) == 0


async def test_who_seals_while_all_is_wrapped_anew_waits(store: Store, application_id: str) -> None:
    """A credential that comes meanwhile is sealed under the new master secret, and not lost."""
    await secrets.add(store, "key pepper", b"pepper", "m1")
    made: list[asyncio.Task[object]] = []

    def own(*_: object) -> bytes:
        row = a_credential(application_id)
        made.append(asyncio.ensure_future(credentials.create(store, row, seal)))
        return b"pepper of m2"

    await secrets.rewrap(store, "m2", own, lambda _: b"")
    await made[0]
    found = await credentials.sealed(store, application_id, "main")
    assert found is not None
    assert found.sealed is not None
    assert found.sealed.by == "m2"
