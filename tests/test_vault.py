"""The vault: our own random keys, stored wrapped; and one master secret after the other."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from metering.core.credentials import bound_to
from metering.core.sealing import Master, NotOpened, Secret, derived, unseal
from metering.errors import Conflict, OurFault
from metering.keyring import Keyring, NotHeld
from metering.settings import Settings
from metering.store import Store, applications, credentials, secrets
from metering.store.secrets import Wrapped
from metering.vault import CURSORS, PEPPER, OwnSecrets, Vault
from tests.builders import APPLICATION, NOW_MS
from tests.store.test_credentials import a_credential

OLD, NEW = "old-master-secret-" + "0" * 24, "new-master-secret-" + "1" * 24
TEXT = "sk-a-providers-own-key"


@pytest.fixture
async def store(database: str) -> AsyncIterator[Store]:
    """A store on a fresh database."""
    store = await Store.open(database, connections=3)
    yield store
    await store.close()


def vault(store: Store, *secrets: str) -> Vault:
    """What a process with these master secrets has."""
    return Vault(store, Keyring(secrets), os.urandom)


async def stored(store: Store, its: Vault, slug: str = "main") -> None:
    """Store a credential."""
    row = a_credential(APPLICATION, slug=slug)
    bound = bound_to(APPLICATION, row.credential_id, row.provider, row.origin)
    await credentials.create(store, row, lambda by: its.seal(by, Secret(TEXT), bound))


async def opened(store: Store, master: Master, slug: str = "main") -> str:
    """Its secret."""
    row = await credentials.sealed(store, APPLICATION, slug)
    assert row is not None
    assert row.sealed is not None
    assert row.sealed.by == master.id
    bound = bound_to(APPLICATION, row.credential_id, row.provider, row.origin)
    return unseal(row.sealed, bound, master).reveal()


async def test_a_new_database_has_random_keys(store: Store) -> None:
    """Made once, whoever comes; they are not what the master secret alone would give."""
    own = await vault(store, OLD).prepare()
    assert own != OwnSecrets(derived(OLD.encode(), PEPPER), derived(OLD.encode(), CURSORS))
    assert own.pepper != own.cursors
    assert await vault(store, OLD).prepare() == own
    assert await vault(store, OLD).load() == own


async def test_a_database_from_before_keeps_what_was_derived(store: Store) -> None:
    """All its keys go on working: their digests were made with it."""
    await applications.create(store, APPLICATION, "default", NOW_MS)
    own = await vault(store, NEW, OLD).prepare()
    assert own == OwnSecrets(derived(OLD.encode(), PEPPER), derived(OLD.encode(), CURSORS))


async def test_another_master_secret_opens_nothing(store: Store) -> None:
    """The start says which one it takes, rather than refusing every key."""
    await vault(store, OLD).prepare()
    for start in (vault(store, NEW).prepare, vault(store, NEW).load):
        with pytest.raises(NotHeld, match=Master(OLD).id):
            await start()


async def test_a_database_that_was_not_prepared(store: Store) -> None:
    """A worker does not make keys of its own."""
    with pytest.raises(OurFault, match="xproxy serve"):
        await vault(store, OLD).load()


async def test_the_operators_rotation(store: Store) -> None:
    """With both set nothing changes until it is asked for; then the old one opens nothing, and
    everything is what it was."""
    await applications.create(store, APPLICATION, "default", NOW_MS)
    old = vault(store, OLD)
    own = await old.prepare()
    both = vault(store, NEW, OLD)
    assert await both.prepare() == own
    await stored(store, both, "within")
    await stored(store, old, "before")
    assert await opened(store, Master(OLD), "within") == TEXT
    assert await both.wrapped() == {Master(OLD).id: 4}

    rotated = await both.rotate(store)

    assert rotated == (Master(OLD).id, Master(NEW).id, 2)
    assert await both.wrapped() == {Master(NEW).id: 4}
    assert await vault(store, NEW).load() == own
    for slug in ("within", "before"):
        assert await opened(store, Master(NEW), slug) == TEXT
    with pytest.raises(NotHeld):
        await vault(store, OLD).load()
    with pytest.raises(NotHeld):
        await stored(store, old, "after")
    await stored(store, vault(store, NEW), "after")
    with pytest.raises(Conflict, match="in force already"):
        await both.rotate(store)


async def test_the_data_directorys_own_rotation(store: Store, tmp_path: Path) -> None:
    """Again and again, by any of its processes; each time one secret is left, and it is another."""
    await applications.create(store, APPLICATION, "default", NOW_MS)
    settings = Settings(data_dir=tmp_path)
    one, two = (Vault(store, Keyring.of(settings), os.urandom) for _ in range(2))
    own = await one.prepare()
    await stored(store, one)
    seen = {(tmp_path / "master.secret").read_text()}
    for its in (one, two, two, one):
        rotated = await its.rotate(store)
        [line] = (tmp_path / "master.secret").read_text().splitlines()
        assert rotated.now == Master(line).id
        assert await opened(store, Master(line)) == TEXT
        seen.add(line)
    assert len(seen) == 5
    assert await two.load() == own


@pytest.mark.parametrize("committed", [True, False])
async def test_a_rotation_that_dies(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, committed: bool
) -> None:
    """Killed before or after the database has it: everything opens, and the next start, or the
    next rotation, leaves the one secret that is in force."""
    await applications.create(store, APPLICATION, "default", NOW_MS)
    its = Vault(store, Keyring.of(Settings(data_dir=tmp_path)), os.urandom)
    own = await its.prepare()
    await stored(store, its)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as dying:
        dying.setattr(Keyring, "keep" if committed else "successor", die)
        if not committed:
            dying.undo()
            dying.setattr(Master, "wrap", die)
        with pytest.raises(KeyboardInterrupt):
            await its.rotate(store)

    assert len((tmp_path / "master.secret").read_text().splitlines()) == 2
    started = Vault(store, Keyring.of(Settings(data_dir=tmp_path)), os.urandom)
    assert await started.load() == own
    assert await started.prepare() == own
    [line] = (tmp_path / "master.secret").read_text().splitlines()
    assert await opened(store, Master(line)) == TEXT
    await started.rotate(store)
    assert await started.load() == own


async def test_a_lost_master_secret(store: Store) -> None:
    """What it sealed is forgotten if nobody has it, and nothing if somebody has: the next start
    has random keys of its own, and the credentials are there without their secrets."""
    await applications.create(store, APPLICATION, "default", NOW_MS)
    old = vault(store, OLD)
    own = await old.prepare()
    await stored(store, old)
    assert not await old.forget_if_lost()
    assert await old.load() == own
    assert await vault(store, NEW).forget_if_lost()
    begun = await vault(store, NEW).prepare()
    assert not {*own, derived(NEW.encode(), PEPPER), derived(NEW.encode(), CURSORS)} & {*begun}
    assert await vault(store, NEW).load() == begun
    row = await credentials.get(store, APPLICATION, "main")
    assert row is not None
    assert row.last4 is None
    assert not await vault(store, NEW).forget_if_lost()


async def test_a_new_database_has_lost_nothing(store: Store) -> None:
    """There is nothing to forget."""
    assert not await vault(store, OLD).forget_if_lost()


async def test_a_row_that_was_altered_is_named(store: Store) -> None:
    """Nothing is rotated then: its secret would be gone, and nobody would know."""
    await applications.create(store, APPLICATION, "default", NOW_MS)
    both = vault(store, NEW, OLD)
    await both.prepare()
    await stored(store, both, "spoilt")
    async with store.connection() as connection:
        await connection.execute("UPDATE credentials SET origin = 'https://evil.example'")
    with pytest.raises(Conflict, match="'spoilt'"):
        await both.rotate(store)
    assert await both.wrapped() == {Master(OLD).id: 3}


async def test_keys_of_a_name_are_everybodys(store: Store) -> None:
    """Made once, whoever asks for it; what one seals the other opens, and no other name's does."""
    one, two = vault(store, OLD), vault(store, OLD)
    await one.prepare()
    made = await asyncio.gather(*(it.box("a day", make=True) for it in (one, two, one, two)))
    sealed = made[0].seal(b"text", b"bound", bytes(12))
    assert {it.open(sealed, b"bound") for it in made} == {b"text"}
    assert (await vault(store, OLD).box("a day")).open(sealed, b"bound") == b"text"
    other = await one.box("another day", make=True)
    for box, bound in ((other, b"bound"), (made[0], b"elsewhere")):
        with pytest.raises(NotOpened):
            box.open(sealed, bound)
    with pytest.raises(NotOpened, match="'no day'"):
        await one.box("no day")


async def test_keys_of_a_name_are_rotated(store: Store) -> None:
    """What was sealed is opened after a rotation, by whoever has the new master secret alone."""
    both = vault(store, NEW, OLD)
    await both.prepare()
    sealed = (await both.box("a day", make=True)).seal(b"text", b"", bytes(12))
    await both.rotate(store)
    assert await both.wrapped() == {Master(NEW).id: 3}
    assert (await vault(store, NEW).box("a day")).open(sealed, b"") == b"text"
    with pytest.raises(NotHeld):
        await vault(store, OLD).box("a day")
    with pytest.raises(NotHeld):
        await vault(store, OLD).box("a day", make=True)


async def test_no_key_is_passed_by_in_a_rotation(store: Store) -> None:
    """One that is made while everything is wrapped anew waits, or is wrapped anew with the rest."""
    both = vault(store, NEW, OLD)
    await both.prepare()

    async def made(name: str) -> None:
        with contextlib.suppress(NotHeld):  # of one who has the old secret alone, and came late
            await vault(store, OLD).box(name, make=True)
        await vault(store, NEW, OLD).box(name, make=True)

    names = [str(number) for number in range(30)]
    await asyncio.gather(*map(made, names[:15]), both.rotate(store), *map(made, names[15:]))
    assert (await both.wrapped()).keys() == {Master(NEW).id}
    for name in names:
        await vault(store, NEW).box(name)


async def test_a_key_under_a_secret_that_came_just_now(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rotation between the row and its opening: the row is read again."""
    settings = Settings(data_dir=tmp_path)
    one, two = (Vault(store, Keyring.of(settings), os.urandom) for _ in range(2))
    await one.prepare()
    await one.box("a day", make=True)
    read = secrets.get

    async def slow(store: Store, name: str) -> Wrapped | None:
        found = await read(store, name)
        monkeypatch.undo()
        await one.rotate(store)
        return found

    monkeypatch.setattr(secrets, "get", slow)
    box = await two.box("a day")
    assert (await one.box("a day")).open(box.seal(b"text", b"", bytes(12)), b"") == b"text"
