"""What is set of teams, users and customers, by kind and name; and of budgets."""

from __future__ import annotations

from decimal import Decimal

import pytest
from msgspec.structs import replace

from metering.core.terms import Terms
from metering.errors import StoreAway
from metering.store import Store, applications, audit, keys, profiles
from metering.store.audit import Asked
from metering.store.keys import Wanted
from metering.store.profiles import Kind, Profile, Rules
from tests.store.samples import NOW_MS, request_id
from tests.store.test_keys import a_key

TERMS = Terms(max_budget=Decimal("0.000000000001"), budget_duration="1d", budget_id="gold")


def one(kind: Kind = "team", name: str = "blue", at_ms: int = NOW_MS, **fields: object) -> Profile:
    """Somebody."""
    values = {"kind": kind, "name": name, "created_ms": at_ms, "updated_ms": at_ms}
    return Profile(**(values | fields))  # type: ignore[arg-type]


async def test_a_profile_comes_back_as_it_was_set(store: Store, application_id: str) -> None:
    """Every field survives; one of a kind and name is there once, and each kind is its own."""
    made = one(
        blocked=True,
        models=("gpt-4o", "claude-*"),
        rate_limits={"requests": 5},
        terms=TERMS,
        details={"metadata": '{"a": 0.1}', "team_alias": None},
    )
    assert await profiles.create(store, application_id, made) == made
    assert await profiles.create(store, application_id, one()) is None
    assert await profiles.get(store, application_id, "team", "blue") == made
    assert await profiles.get(store, application_id, "user", "blue") is None
    assert await profiles.get(store, request_id(), "team", "blue") is None

    changed = replace(made, blocked=False, terms=Terms(), updated_ms=NOW_MS + 1)
    assert await profiles.update(store, application_id, changed) == changed
    assert await profiles.update(store, application_id, one(name="red")) is None
    assert await profiles.delete(store, application_id, "team", "blue")
    assert not await profiles.delete(store, application_id, "team", "blue")


async def test_they_are_listed(store: Store, application_id: str) -> None:
    """Newest first, after so many; of one budget if asked. Keys likewise."""
    for number in range(3):
        terms = TERMS if number else Terms()
        made = one("customer", f"c{number}", NOW_MS + number, terms=terms)
        await profiles.create(store, application_id, made)
        key = a_key(application_id, name=f"k{number}", terms=terms, created_ms=NOW_MS + number)
        await keys.create(store, key, bytes([number]) * 32)
    await keys.create(store, a_key(application_id, role="admin", name="k0"), b"z" * 32)
    some = await profiles.some(store, application_id, "customer", skip=1)
    assert [it.name for it in some] == ["c1", "c0"]
    some = await profiles.some(store, application_id, "customer", budget_id="gold")
    assert [it.name for it in some] == ["c2", "c1"]
    assert await profiles.count(store, application_id, "customer") == 3
    assert await profiles.count(store, application_id, "team") == 0

    found = await keys.some(store, application_id, Wanted(), skip=1, most=1)
    assert [it.name for it in found] == ["k1"]
    found = await keys.some(store, application_id, Wanted(budget_id="gold"))
    assert [it.name for it in found] == ["k2", "k1"]
    assert await keys.count(store, application_id, Wanted(name="k0")) == 1
    assert await keys.count(store, application_id, Wanted(team="blue")) == 0


async def test_rules_are_of_those_who_have_any(store: Store, application_id: str) -> None:
    """Who is only known is not asked for with every call; a budget is nobody."""
    await profiles.create(store, application_id, one("team", "plain", terms=TERMS))
    await profiles.create(store, application_id, one("budget", "b", blocked=True))
    await profiles.create(store, application_id, one("team", "off", blocked=True))
    await profiles.create(store, application_id, one("user", "u", models=("m",)))
    await profiles.create(store, application_id, one("customer", "c", rate_limits={"tokens": 0}))
    assert await profiles.rules(store, application_id) == {
        "team": {"off": Rules(blocked=True)},
        "user": {"u": Rules(models=("m",))},
        "customer": {"c": Rules(rate_limits={"tokens": 0})},
    }
    assert await profiles.rules(store, request_id()) == {}


async def test_a_key_by_any_of_its_secrets(store: Store, application_id: str) -> None:
    """Good or not; the one before its rotation as long as it is good, and in its application."""
    made = await keys.create(store, a_key(application_id, blocked=True), b"a" * 32)
    assert await keys.id_of(store, application_id, b"a" * 32, NOW_MS) == made.key_id
    assert await keys.id_of(store, request_id(), b"a" * 32, NOW_MS) is None
    await keys.rotate(store, made.key_id, b"b" * 32, "bbbb", previous_ends_ms=NOW_MS + 10)
    for digest, at_ms, found in ((b"a", 9, True), (b"b", 99, True), (b"a", 10, False)):
        key_id = await keys.id_of(store, application_id, digest * 32, NOW_MS + at_ms)
        assert (key_id == made.key_id) is found


async def test_a_tenant_sees_its_own_and_changes_none(store: Store, application_id: str) -> None:
    """Profiles, and all of keys but their digests."""
    other = request_id()
    await applications.create(store, other, "other", NOW_MS)
    await profiles.create(store, application_id, one())
    key = await keys.create(store, a_key(application_id, terms=TERMS), b"a" * 32)
    mine, theirs = (store.acting("{}", tenant=it) for it in (application_id, other))
    assert await profiles.get(mine, application_id, "team", "blue") == one()
    assert await keys.get(mine, key.key_id, application_id) == key
    assert await profiles.get(theirs, application_id, "team", "blue") is None
    assert await keys.get(theirs, key.key_id, application_id) is None
    with pytest.raises(StoreAway):
        await profiles.delete(mine, application_id, "team", "blue")
    with pytest.raises(StoreAway):
        await keys.id_of(mine, application_id, b"a" * 32, NOW_MS)


async def test_it_is_on_record(store: Store, application_id: str) -> None:
    """Who set what, and when it was taken away; it goes with its application."""
    await profiles.create(store, application_id, one())
    await profiles.update(store, application_id, one(blocked=True, updated_ms=NOW_MS + 1))
    await applications.delete(store, application_id)
    found = await audit.page(store, Asked(object="profile", object_id="blue"))
    assert [it.action for it in found.items] == ["deleted", "updated", "created"]
