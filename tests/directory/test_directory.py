"""Who calls: one path for every key that is no good, what binds a call, and when keys were used."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec.structs import replace

from metering.core.addresses import Visitor
from metering.core.keys import digest, litellm_hash, make_key
from metering.core.limits import Limit
from metering.core.rates import Rate
from metering.directory import Caller, Directory, attached_topic, key_topic, profiles_topic
from metering.errors import RateLimited, StoreAway
from metering.keyring import Keyring
from metering.redis import Redis
from metering.redis import keys as redis_keys
from metering.store import Store, applications, attachments, keys, limits, profiles
from metering.store.attachments import Attachment
from metering.store.profiles import Profile
from tests.store.samples import NOW_MS, request_id
from tests.store.test_keys import a_key

APPLICATION = request_id()
PEPPER = b"pepper"
HERE = Visitor("192.0.2.7", [])


class CountingStore:
    """The store, counting what it is asked."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.asked: list[str] = []

    async def row(self, name: str, *arguments: object) -> Any:
        """One row."""
        self.asked.append(name)
        return await self._store.row(name, *arguments)

    async def rows(self, name: str, *arguments: object) -> Any:
        """All rows."""
        self.asked.append(name)
        return await self._store.rows(name, *arguments)


class CountingRedis(Redis):
    """A connection that counts its commands."""

    asked: int = 0

    def call(self, *arguments: Any) -> Any:
        """A command."""
        self.asked += 1
        return super().call(*arguments)


class Bench:
    """A directory on real stores, with a clock that is set."""

    def __init__(self, store: Store, redis: Redis, **options: Any) -> None:
        self.store = store
        self.counting = CountingStore(store)
        self.now_ms = NOW_MS
        self.redis = redis
        self.directory = Directory(
            self.counting,  # type: ignore[arg-type]
            redis,
            pepper=PEPPER,
            keyring=Keyring(["master"]),
            admin_key="a-key-of-the-operators-own-choice",
            default_application=APPLICATION,
            clock_ms=lambda: self.now_ms,
            **options,
        )

    async def key(self, **members: Any) -> tuple[str, keys.KeyRow]:
        """A new key, and its row."""
        key = make_key("app", os.urandom(32))
        row = await keys.create(self.store, a_key(APPLICATION, **members), digest(PEPPER, key))
        return key, row

    async def limit(self, limit_id: str) -> None:
        """A new limit."""
        limit = Limit(
            application_id=APPLICATION,
            limit_id=limit_id,
            limit_name=limit_id,
            max=10**24,
            epoch=NOW_MS,
            created_ms=NOW_MS,
            updated_ms=NOW_MS,
        )
        await limits.create(self.store, limit)

    async def attach(self, kind: attachments.Kind, name: str, limit_id: str) -> None:
        """Attach a limit."""
        one = Attachment(kind=kind, name=name, limit_id=limit_id, attached_ms=NOW_MS)
        assert await attachments.attach(self.store, APPLICATION, one)


@pytest.fixture
async def bench(store: Store, redis_url: str) -> AsyncIterator[Bench]:
    """A directory on real stores."""
    await applications.create(store, APPLICATION, "acme", NOW_MS)
    redis = CountingRedis(redis_url, 500)
    yield Bench(store, redis)
    await redis.close()


async def test_who_a_key_belongs_to(bench: Bench) -> None:
    """All that a key is comes with it, from each tier alike."""
    key, row = await bench.key(
        permissions=("price_as",),
        limit_ids=("a",),
        user_id="u",
        team="t",
        customer="c",
        models=("m",),
        aliases={"n": "m"},
        tags=("x",),
    )
    expected = Caller(
        application_id=APPLICATION,
        key_id=row.key_id,
        role="app",
        permissions=frozenset({"price_as"}),
        limit_ids=("a",),
        user_id="u",
        team="t",
        customer="c",
        models=("m",),
        aliases={"n": "m"},
        tags=("x",),
    )
    another = Bench(bench.store, bench.redis)

    assert await bench.directory.caller(key) == expected
    assert await bench.directory.caller(key) == expected
    assert await another.directory.caller(key) == expected
    assert (bench.counting.asked, another.counting.asked) == (["read_key_by_digest"], [])


@pytest.mark.parametrize("known", [False, True], ids=["never seen", "known before"])
@pytest.mark.parametrize("why", ["unknown", "expired", "blocked", "deleted", "rotated"])
async def test_keys_that_are_no_good_are_one_case(bench: Bench, why: str, *, known: bool) -> None:
    """Unknown, expired, blocked, deleted or rotated away: the same reads of the same stores, first
    and again, and the same answer."""
    key, row = await bench.key(expires_ms=NOW_MS + 500 if why == "expired" else None)
    if known:
        assert await bench.directory.caller(key) is not None
    match why:
        case "unknown":
            key = make_key("app", os.urandom(32))
        case "expired":
            bench.now_ms += 500
            time.sleep(0.6)  # Redis and memory look at clocks of their own
        case "blocked":
            await keys.update(bench.store, row.key_id, {"blocked": True})
        case "deleted":
            await keys.delete(bench.store, row.key_id)
        case "rotated":
            other = digest(PEPPER, make_key("app", os.urandom(32)))
            await keys.rotate(bench.store, row.key_id, other, "abcd", previous_ends_ms=None)
    if why not in ("unknown", "expired"):
        await bench.directory.changed(key_topic(digest(PEPPER, key)))
    bench.counting.asked.clear()
    bench.redis.asked = 0  # type: ignore[attr-defined]

    assert [await bench.directory.caller(key) for _ in range(3)] == [None] * 3
    assert bench.counting.asked == ["read_key_by_digest"]
    assert bench.redis.asked == 3  # type: ignore[attr-defined]


async def test_litellms_keys_are_found_by_their_hash(bench: Bench) -> None:
    """Which is no key itself, whatever stands before it; whoever guesses some is told to wait. Keys
    of our form are asked for as ever, once."""
    secret, operators = "sk-1234", "a-key-of-the-operators-own-choice"
    token = litellm_hash(secret)
    row = await keys.create(bench.store, a_key(APPLICATION), digest(PEPPER, token))
    for _ in range(2):
        caller = await bench.directory.caller(secret)
        assert caller is not None
        assert caller.key_id == row.key_id
    assert bench.counting.asked == ["read_key_by_digest"]
    assert await bench.directory.caller(operators) == bench.directory.admin
    for other in (token, f"sk-{token}", "sk-12345", "sk-", "1234", "sk-" + "1" * 600):
        assert await bench.directory.caller(other) is None, other
    asked = len(bench.counting.asked)
    ours, _ = await bench.key()
    assert await bench.directory.caller(ours) is not None
    assert len(bench.counting.asked) == asked + 1
    assert await failures(bench, HERE, 25, "sk-wrong") == 20
    assert await bench.directory.admit(secret, HERE) is not None


async def test_a_key_that_expires_is_no_good_at_that_moment(bench: Bench) -> None:
    """Not a call later, however lately it was good."""
    key, _ = await bench.key(expires_ms=NOW_MS + 60_000)
    assert await bench.directory.caller(key) is not None
    bench.now_ms += 59_999
    assert await bench.directory.caller(key) is not None
    bench.now_ms += 1
    assert await bench.directory.caller(key) is None


async def test_what_stands_for_anonymous_callers_cannot_be_shown(bench: Bench) -> None:
    """It is a key like another, but for that no key is it."""
    row = a_key(APPLICATION, name="anonymous")
    await keys.create(bench.store, row, digest(PEPPER, "anonymous"))

    caller = await bench.directory.anonymous(HERE)

    assert caller is not None
    assert caller.key_id == row.key_id
    assert await bench.directory.caller("anonymous") is None
    await keys.update(bench.store, row.key_id, {"blocked": True})
    await bench.directory.changed(key_topic(digest(PEPPER, "anonymous")))
    assert await bench.directory.anonymous(HERE) is None


# What binds a call


async def test_calls_are_held_to_what_is_set_of_whom_they_are_for(bench: Bench) -> None:
    """Of the key's team, user and customer and the headers': each once; an application of which
    nothing is set costs a look, and a change is seen when it is told."""
    caller = Caller(
        application_id=APPLICATION, key_id="k", role="app", user_id="alice", team="t", customer="c"
    )
    holding = bench.directory.holding
    assert await holding(caller, user_id="bob") == ()
    for kind, name in (("team", "t"), ("user", "alice"), ("user", "bob"), ("customer", "a;b")):
        profile = Profile(
            kind=kind,  # type: ignore[arg-type]
            name=name,
            models=("m",),
            rate_limits={"requests": 1, "parallel": 2},
            created_ms=NOW_MS,
            updated_ms=NOW_MS,
        )
        await profiles.create(bench.store, APPLICATION, profile)
    assert await holding(caller) == ()
    await bench.directory.changed(profiles_topic(APPLICATION))
    found = await holding(caller, user_id="bob", customer="a;b")
    assert [(it.kind, it.name) for it in found] == [
        ("team", "t"),
        ("user", "alice"),
        ("user", "bob"),
        ("customer", "a;b"),
    ]
    assert len(await holding(caller, user_id="alice")) == 2
    assert found[0].rates == (Rate("requests", "team:t", 1), Rate("parallel", "team:t", 2))
    assert ";" not in found[3].rates[0].name


async def test_limits_bind_whom_they_are_attached_to(bench: Bench) -> None:
    """A call is bound by what is attached to its key, and to each user, team, customer and
    credential that it has; what headers say only adds."""
    for limit_id in ("k", "u", "v", "t", "c", "d", "s", "x"):
        await bench.limit(limit_id)
    await bench.attach("user", "alice", "u")
    await bench.attach("user", "bob", "v")
    await bench.attach("team", "search", "t")
    await bench.attach("customer", "acme", "c")
    await bench.attach("customer", "other", "d")
    await bench.attach("credential", "shared", "s")
    await bench.attach("team", "alice", "x")  # another alice
    key, _ = await bench.key(limit_ids=("k",), user_id="alice", team="search", customer="acme")
    caller = await bench.directory.caller(key)
    assert caller is not None
    attached = bench.directory.attached

    assert await attached(caller) == ("k", "u", "t", "c")
    whole = await attached(caller, user_id="bob", customer="other", credential="shared")
    assert whole == ("k", "u", "v", "t", "c", "d", "s")
    bare = replace(caller, user_id=None, team=None, customer=None)
    assert await attached(bare) == ("k",)
    assert await attached(bare, user_id="nobody") == ("k",)
    assert bench.counting.asked.count("read_attachments") == 1


async def test_attachments_change_at_once(bench: Bench) -> None:
    """They are remembered, none too, until somebody says that they have changed."""
    await bench.limit("u")
    key, _ = await bench.key(user_id="alice")
    caller = await bench.directory.caller(key)
    assert caller is not None
    assert await bench.directory.attached(caller) == ()
    await bench.attach("user", "alice", "u")
    assert await bench.directory.attached(caller) == ()
    await bench.directory.changed(attached_topic(APPLICATION))

    assert await bench.directory.attached(caller) == ("u",)


async def test_definitions_keep_every_digit_in_redis(bench: Bench) -> None:
    """Amounts have more than 64 bits."""
    await bench.limit("u")
    another = Bench(bench.store, bench.redis)
    assert await bench.directory.limit(APPLICATION, "u") == await another.directory.limit(
        APPLICATION, "u"
    )
    assert another.counting.asked == []


async def test_no_secret_is_in_redis(bench: Bench) -> None:
    """Of a key there is its peppered digest and what it may, nothing that it could be shown by."""
    key, row = await bench.key()
    await bench.directory.admit(key, HERE)
    await bench.directory.admit(key[:-7] + "0000000", HERE)
    names = await bench.redis.call("KEYS", "*")
    values = [await bench.redis.call("GET", name) for name in names]
    everything = b"\n".join([*names, *values]).decode()

    assert row.key_id in everything
    assert key[20:] not in everything
    assert HERE.peer not in everything


# Failures


async def test_a_good_key_never_waits(bench: Bench) -> None:
    """20 keys that are none are refused as such, the others told to wait; a good one from the same
    address, and with the same beginning, is served."""
    key, _ = await bench.key()
    refused, told = 0, []
    for _ in range(50):
        try:
            assert await bench.directory.admit(make_key("app", os.urandom(32)), HERE) is None
            refused += 1
        except RateLimited as fault:
            told.append(fault)
    caller = await bench.directory.admit(key, HERE)

    assert (refused, len(told)) == (20, 30)
    assert {(it.status, it.code, it.should_retry) for it in told} == {
        (429, "too_many_failed_logins", False)
    }
    assert all(55 <= (it.retry_after_s or 0) <= 60 for it in told)
    assert caller is not None


async def failures(bench: Bench, visitor: Visitor, count: int, key: str | None = None) -> int:
    """How many of so many wrong keys are refused as such."""
    refused = 0
    for _ in range(count):
        try:
            await bench.directory.admit(key or make_key("app", os.urandom(32)), visitor)
            refused += 1
        except RateLimited:
            pass
    return refused


async def test_addresses_are_counted_apart(bench: Bench) -> None:
    """One who guesses keeps nobody else waiting; but all of an IPv6 network are one."""
    assert await failures(bench, HERE, 25) == 20
    assert await failures(bench, Visitor("192.0.2.8", []), 5) == 5
    networks = [f"2001:db8::{number:x}" for number in range(25)]
    assert sum([await failures(bench, Visitor(it, []), 1) for it in networks]) == 20
    assert await failures(bench, Visitor("2001:db8:0:1::1", []), 1) == 1


async def test_beginnings_of_keys_are_counted_too(bench: Bench) -> None:
    """Who guesses one key from many addresses is told to wait as well."""
    start = make_key("app", os.urandom(32))[:-10]
    refused = [
        await failures(bench, Visitor(f"192.0.2.{number}", []), 1, f"{start}{number:010}")
        for number in range(30)
    ]
    assert sum(refused) == 20


async def test_workers_count_together(bench: Bench) -> None:
    """Through Redis: each of several workers refuses its part of the 20."""
    others = [Bench(bench.store, bench.redis) for _ in range(2)]
    assert sum([await failures(it, HERE, 15) for it in (bench, *others)]) == 20


async def test_without_redis_each_worker_counts_alone(store: Store) -> None:
    """It is not waited for, and guessing is bounded all the same."""
    await applications.create(store, APPLICATION, "acme", NOW_MS)
    redis = Redis("unix:///nowhere/redis.sock", 50)
    assert await failures(Bench(store, redis), HERE, 30) == 20
    await redis.close()


async def test_memory_of_failures_is_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many addresses there are, the oldest are forgotten first."""
    monkeypatch.setattr("metering.directory.attempts.REMEMBERED_MAX", 50)
    for number in range(100):
        await failures(bench, Visitor(f"198.51.100.{number}", []), 1)
    assert len(bench.directory._attempts._counts) == 50


async def test_it_can_be_left_to_others(store: Store, bench: Bench) -> None:
    """XPROXY_FAILED_LOGINS_MAX=0: nobody waits, and nothing is counted."""
    free = Bench(store, bench.redis, failures_max=0)
    assert await failures(free, HERE, 30) == 30
    assert await bench.redis.call("KEYS", redis_keys.failures("*")) == []


# Last use


async def test_last_use_is_written_down_later(bench: Bench) -> None:
    """A minute's uses are one, no call waits for it, and what could not be written is kept."""
    key, row = await bench.key()
    for _ in range(3):
        await bench.directory.admit(key, HERE)
        bench.now_ms += 10_000
    assert "note_key_use" not in bench.counting.asked
    store, bench.directory._store = bench.directory._store, Away()  # type: ignore[assignment]
    with pytest.raises(StoreAway):
        await bench.directory.write_uses()
    bench.directory._store = store
    await bench.directory.write_uses()
    await bench.directory.write_uses()

    found = await keys.get(bench.store, row.key_id)
    assert found is not None
    assert (found.last_used_ms, found.last_used_from) == (NOW_MS, HERE.peer)
    assert bench.counting.asked.count("note_key_use") == 1

    bench.now_ms = NOW_MS + 60_000
    await bench.directory.admit(key, Visitor("127.0.0.1", []))
    await bench.directory.write_uses()
    found = await keys.get(bench.store, row.key_id)
    assert found is not None
    assert (found.last_used_ms, found.last_used_from) == (NOW_MS + 60_000, "127.0.0.1")


class Away:
    """A store that does not answer."""

    async def rows(self, name: str, *arguments: object) -> Any:
        """Nothing."""
        raise StoreAway
