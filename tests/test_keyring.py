"""Master secrets that a process holds: where they come from, how one follows another, what is left
by those who die on the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from metering.client import _secret
from metering.core.keys import local_token
from metering.core.sealing import Master
from metering.errors import Conflict
from metering.keyring import Keyring, NotHeld
from metering.settings import Settings

OLD, NEW = "old-master-secret-" + "0" * 24, "new-master-secret-" + "1" * 24
NOW_S = 1_790_000_000


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the data directory's own is."""
    return tmp_path / "master.secret"


def own(file: Path) -> Keyring:
    """The keyring of a process in this data directory."""
    return Keyring.of(Settings(data_dir=file.parent))


def ids(keyring: Keyring) -> list[str]:
    """What it holds."""
    return [master.id for master in keyring.masters]


def test_one_is_made_where_there_is_none(file: Path) -> None:
    """For its owner alone; the next process finds it, and so do the commands."""
    made = ids(own(file))
    assert len(made) == 1
    assert ids(own(file)) == made
    assert file.stat().st_mode & 0o777 == 0o600
    assert _secret(file.parent) == own(file).masters[0].secret
    assert list(file.parent.iterdir()) == [file]


def test_the_operators_own_is_not_written_down(file: Path) -> None:
    """Both of them are held, the one that comes first; no file is made."""
    settings = Settings(data_dir=file.parent, master_secret=NEW, master_secret_previous=OLD)
    assert ids(Keyring.of(settings)) == [Master(NEW).id, Master(OLD).id]
    assert not file.exists()


def test_a_running_process_knows_what_another_has_put_there(file: Path) -> None:
    """A secret that comes is held from then on, one that goes is not."""
    running, other = own(file), own(file)
    [before] = running.masters
    with other.locked():
        successor = other.successor(before.id)
        assert ids(running) == [before.id, successor.id]
        assert running.get(successor.id).secret == successor.secret
        assert _secret(file.parent) == before.secret
        other.keep(successor)
    assert ids(running) == [successor.id]
    assert _secret(file.parent) == successor.secret
    with pytest.raises(NotHeld, match=before.id):
        running.get(before.id)


def test_a_token_is_good_while_its_secret_is_held(file: Path) -> None:
    """Before and within a rotation the old one's, then the new one's alone."""
    running, other = own(file), own(file)
    [before] = running.masters
    old = local_token(before.secret, NOW_S)
    with other.locked():
        successor = other.successor(before.id)
        new = local_token(successor.secret, NOW_S)
        assert running.signed(old, NOW_S)
        assert running.signed(new, NOW_S)
        other.keep(successor)
    assert running.signed(new, NOW_S)
    assert not running.signed(old, NOW_S)
    assert not running.signed(new, NOW_S + 61)
    assert not running.signed("sk-" + NEW, NOW_S)


def test_what_a_dead_process_left_is_gone_over(file: Path) -> None:
    """Its successor of a rotation that came to nothing is replaced; the one in force stays."""
    [before] = own(file).masters
    dead = own(file)
    with dead.locked():
        left = dead.successor(before.id)
    again = own(file)
    assert ids(again) == [before.id, left.id]
    with again.locked():
        successor = again.successor(before.id)
        assert ids(again) == [before.id, successor.id]
        again.keep(successor)
    assert ids(own(file)) == [successor.id]


def test_one_rotates_at_a_time(file: Path) -> None:
    """Another process, and the same one, is told that it is being done."""
    first, second = own(file), own(file)
    with first.locked():
        for other in (first, second):
            with pytest.raises(Conflict, match="already"), other.locked():
                pytest.fail("two at a time")
    with second.locked():
        pass


def test_the_operator_brings_the_next_one() -> None:
    """It is the one set first; if that is in force, he is told what to set."""
    keyring = Keyring([NEW, OLD])
    with keyring.locked():
        successor = keyring.successor(Master(OLD).id)
        assert successor.id == Master(NEW).id
        keyring.keep(successor)
    assert ids(keyring) == [Master(NEW).id, Master(OLD).id]
    for settings in ([NEW], [NEW, OLD]):
        with pytest.raises(Conflict, match="XPROXY_MASTER_SECRET_PREVIOUS"):
            Keyring(settings).successor(Master(NEW).id)


def test_what_is_not_held_names_what_is_needed(file: Path) -> None:
    """The id of the one that sealed, and where to put it back; never a secret."""
    for keyring, words in (
        (Keyring([NEW]), "XPROXY_MASTER_SECRET_PREVIOUS"),
        (own(file), str(file)),
    ):
        with pytest.raises(NotHeld, match=words) as refused:
            keyring.get(Master(OLD).id)
        assert Master(OLD).id in refused.value.message
        for master in keyring.masters:
            assert master.secret.decode() not in refused.value.message


def test_a_file_that_goes_leaves_what_is_known(file: Path) -> None:
    """A running process keeps what it has read."""
    running = own(file)
    held = ids(running)
    file.unlink()
    assert ids(running) == held
