"""Private PostgreSQL and Valkey servers, for when none is configured: real processes, our children.

Laws
1. A server dies with us, however we die (`metering.children`).
2. Data stays in the data directory, under a lock that dies with its holder.
3. Servers listen on sockets only, in a directory only we can enter. It is in /tmp, because the
   path of a socket must be short.
4. Only what is whole is used: a cluster is made beside its place, an orphan is ended first.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, Self

from metering.children import ENVIRONMENT, Identity, give, identity_for, residents, tie
from metering.programs import EmbeddedError, postgres_bin, valkey_bin

READY_S = 60
"""How long a server may take until it answers; recovery after a crash is in here."""
STOP_S = 20
"""How long a server may take to shut down before it is killed."""
SOCKETS = Path("/tmp")
"""Where the sockets' directory is made: the path of a socket has at most 107 bytes."""

Report = Callable[[str], None]


class DataDirBusyError(EmbeddedError):
    """Another process holds the data directory."""


class Server(ABC):
    """One server process and its directory; `Postgres` and `Valkey` say what is special."""

    title: ClassVar[str]
    programs: ClassVar[tuple[str, ...]]
    stop_signal: ClassVar[signal.Signals]
    niceness: ClassVar[int] = 0

    def __init__(self, data_dir: Path, sockets: Path, bin_path: Path | None = None) -> None:
        """`bin_path` is the directory of the programs, instead of the wheel's."""
        self.directory = data_dir / self.title.lower()
        self.sockets = sockets
        self.log = data_dir / f"{self.title.lower()}.log"
        self.bin_path = bin_path
        self.process: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients connect."""

    @abstractmethod
    def spawn(self) -> None:
        """Start the process, after ending any orphan that still holds the directory."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether the server takes connections."""

    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process is not None and self.process.poll() is None

    def wait_ready(self) -> None:
        """Return once the server answers; raises EmbeddedError with the log's last lines."""
        deadline_s = time.monotonic() + READY_S
        while not self.answers():
            if not self.alive():
                raise EmbeddedError(f"{self.title} ended while it started\n{self.log_tail()}")
            if time.monotonic() > deadline_s:
                self.stop()
                raise EmbeddedError(
                    f"{self.title} did not answer in {READY_S} s\n{self.log_tail()}"
                )
            time.sleep(0.005)

    def stop(self) -> None:
        """Shut down cleanly, by force after STOP_S; harmless if it does not run."""
        if self.process is None:
            return
        for signal_number, wait_s in ((self.stop_signal, STOP_S), (signal.SIGKILL, None)):
            self.process.send_signal(signal_number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(wait_s)
                break
        self.process = None

    def log_tail(self) -> str:
        """The last lines the server wrote, with the path of its log."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        lines = "\n".join(f"    {line}" for line in text.splitlines()[-15:])
        return f"{lines}\n  (the end of {self.log})"

    def _popen(
        self, command: Sequence[str | Path], death: signal.Signals, identity: Identity
    ) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.log.replace(self.log.with_suffix(".log.1"))
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=ENVIRONMENT,
                process_group=0,  # Ctrl-C is ours to handle; workers still need the servers
                preexec_fn=tie(death, identity, niceness=self.niceness),
            )


class Postgres(Server):
    """PostgreSQL, in `<data_dir>/postgres`."""

    title = "PostgreSQL"
    programs = ("postgres",)
    niceness = 5  # no call waits for it; all of them wait for Valkey
    stop_signal = signal.SIGINT  # "fast": ends sessions, writes a checkpoint

    def __init__(
        self,
        data_dir: Path,
        sockets: Path,
        bin_path: Path | None = None,
        *,
        options: Sequence[str] = (),
        identity: Identity | None = None,
    ) -> None:
        """`options` are `name=value` server settings; `identity` None finds the way that works."""
        super().__init__(data_dir, sockets, bin_path)
        self.directory = data_dir / "postgres"
        self.log = data_dir / "postgres.log"
        self.options = options
        self.identity = identity

    @property
    def url(self) -> str:
        """`postgresql://` over the socket, as the superuser."""
        return f"postgresql://postgres@/postgres?host={self.sockets}"

    def spawn(self) -> None:
        """Make the database cluster if there is none, then start the server."""
        bin_dir = postgres_bin(self.bin_path)
        identity = self.identity or identity_for(bin_dir / "postgres")
        evict(self.directory, self.programs)
        self._forget_stranger()
        if not (self.directory / "PG_VERSION").exists():
            self._initdb(bin_dir, identity)
        give(self.directory, identity)
        command: list[str | Path] = [
            bin_dir / "postgres",
            "-D",
            self.directory.absolute(),
            "-k",
            self.sockets,
        ]
        fixed = ("listen_addresses=", "unix_socket_permissions=0700", "timezone=UTC", "jit=off")
        for option in (*fixed, "log_timezone=UTC", *self.options):
            command += ["-c", option]
        self._popen(command, signal.SIGINT, identity)

    def answers(self) -> bool:
        """Whether the server's own status line says that it is ready."""
        with contextlib.suppress(OSError):
            lines = (self.directory / "postmaster.pid").read_text().splitlines()
            ours = self.process is not None and lines[:1] == [str(self.process.pid)]
            return ours and len(lines) > 7 and lines[7].strip() == "ready"
        return False

    def _forget_stranger(self) -> None:
        """Drop a pid file that names a living process: none of ours is left, so it is another's.

        One that names a dead process stays: PostgreSQL then looks for what it left in memory.
        """
        file = self.directory / "postmaster.pid"
        with contextlib.suppress(OSError, ValueError, IndexError):
            os.kill(int(file.read_text().splitlines()[0]), 0)
            file.unlink()

    def _initdb(self, bin_dir: Path, identity: Identity) -> None:
        """Make the cluster beside its place and move it there: a half-made one is never used."""
        fresh = self.directory.with_suffix(".new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        give(fresh, identity)
        options = ("-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-instructions")
        made = subprocess.run(
            [bin_dir / "initdb", "-D", fresh.absolute(), *options],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=ENVIRONMENT,
            check=False,
            preexec_fn=tie(signal.SIGKILL, identity),
        )
        if made.returncode:
            raise EmbeddedError(f"initdb failed:\n{(made.stdout + made.stderr).strip()}")
        fresh.replace(self.directory)


class Valkey(Server):
    """Valkey, in `<data_dir>/valkey`: every write is on disk before it is answered."""

    title = "Valkey"
    programs = ("valkey-server", "redis-server")
    stop_signal = signal.SIGTERM

    @property
    def url(self) -> str:
        """`unix://`, database 0."""
        return f"unix://{self.sockets}/valkey.sock"

    def spawn(self) -> None:
        """Start the server; it loads what it wrote, less a command torn by a crash."""
        evict(self.directory, self.programs)
        self.directory.mkdir(mode=0o700, exist_ok=True)
        flags = "--port 0 --daemonize no --appendonly yes --appendfsync always --save"
        more = "--maxmemory-policy noeviction --unixsocketperm 700 --aof-load-truncated yes"
        place = ("--dir", self.directory.absolute(), "--unixsocket", self.sockets / "valkey.sock")
        program = valkey_bin(self.bin_path)
        command: list[str | Path] = [program, *flags.split(), "", *more.split(), *place]
        self._popen(command, signal.SIGTERM, "direct")

    def answers(self) -> bool:
        """Whether PING is answered with PONG (not while it loads)."""
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1)
            connection.connect(str(self.sockets / "valkey.sock"))
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
        return False


class Stores:
    """The embedded servers of one data directory, and the lock on it. A context manager.

    A URL that is given is used as it is, and no server is started for it.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        database_url: str | None = None,
        redis_url: str | None = None,
        pg_bin: Path | None = None,
        valkey_bin: Path | None = None,
        postgres_options: Sequence[str] = (),
        report: Report | None = None,
    ) -> None:
        """`report` gets a line for people whenever a server is ready."""
        self.data_dir = data_dir.absolute()
        self.urls = (database_url, redis_url)
        self.bins = (pg_bin, valkey_bin)
        self.postgres_options = postgres_options
        self.report: Report = report or (lambda _: None)
        self.servers: list[Server] = []
        self._lock: int | None = None
        self._sockets: Path | None = None

    def start(self) -> tuple[str, str]:
        """(database_url, redis_url) of servers that answer; raises EmbeddedError."""
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = lock(self.data_dir)
        try:
            postgres, valkey = self._servers()
            for server in self.servers:
                self._run(server)
        except BaseException:  # a half-started pair must not stay, whatever interrupted us
            self.stop()
            raise
        return self.urls[0] or postgres.url, self.urls[1] or valkey.url

    def _servers(self) -> tuple[Server, Server]:
        sockets = self._socket_dir()
        options = self.postgres_options
        postgres = Postgres(self.data_dir, sockets, self.bins[0], options=options)
        valkey = Valkey(self.data_dir, sockets, self.bins[1])
        pairs = zip((valkey, postgres), reversed(self.urls), strict=True)
        self.servers = [server for server, url in pairs if url is None]
        return postgres, valkey

    def _run(self, server: Server) -> None:
        started_s = time.monotonic()
        server.spawn()
        server.wait_ready()
        self.report(f"{server.title} ready ({time.monotonic() - started_s:.1f} s)")

    def revive(self) -> None:
        """Start again what has died since; raises EmbeddedError."""
        for server in self.servers:
            if not server.alive():
                self.report(f"{server.title} has died; starting it again\n{server.log_tail()}")
                self._run(server)

    def stop(self) -> None:
        """Stop the servers and let go of the data directory; harmless twice."""
        for server in self.servers:
            server.stop()
        if self._sockets is not None:
            shutil.rmtree(self._sockets, ignore_errors=True)
            (self.data_dir / "sockets").unlink(missing_ok=True)
        if self._lock is not None:
            os.close(self._lock)
        self._lock = self._sockets = None
        self.servers = []

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _socket_dir(self) -> Path:
        """A new private directory; `<data_dir>/sockets` points to it. The last one is removed."""
        link = self.data_dir / "sockets"
        if link.is_symlink():
            last = link.readlink()
            if last.name.startswith("xproxy-") and last.parent == SOCKETS:
                shutil.rmtree(last, ignore_errors=True)
            link.unlink()
        self._sockets = Path(tempfile.mkdtemp(prefix="xproxy-", dir=SOCKETS))
        link.symlink_to(self._sockets)
        return self._sockets


def lock(data_dir: Path) -> int:
    """Take the data directory, as an open file that holds it; raises DataDirBusyError.

    The lock goes with the process, so a killed holder never leaves a stale one.
    """
    file = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        raise DataDirBusyError(f"another xproxy uses the data directory {data_dir}") from None
    return file


def evict(directory: Path, programs: Sequence[str]) -> None:
    """End the orphans of a killed process. Ours alone: we hold the lock on the directory."""
    for signal_number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        deadline_s = time.monotonic() + STOP_S
        for pid in residents(directory, programs):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal_number)
        while residents(directory, programs):
            if time.monotonic() > deadline_s:
                break
            time.sleep(0.02)
        else:
            return
    raise EmbeddedError(f"cannot end the servers that still run in {directory}")
