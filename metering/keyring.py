"""The master secrets a process holds: the operator's, or those in the data directory's own file.

Which of several is in force says the database: it is the one that wraps what is there. So all
processes may get a new one first, at their leisure, and then everything is wrapped anew at once.

The file has a secret a line, and normally one; two while they change. It is read again whenever it
has changed, so that a running process knows what another has put there. No environment has them.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

from metering.client import SECRET_FILE
from metering.core.keys import LOCAL_TOKEN, local_token_valid
from metering.core.sealing import Master, by_id
from metering.errors import Conflict, OurFault
from metering.settings import Settings


class NotHeld(OurFault):
    """The master secret that wraps this is not held here."""


class Keyring:
    """Master secrets, those that came first first."""

    def __init__(self, secrets: Sequence[str], file: Path | None = None) -> None:
        """`file`: where they are kept and read from, if that is ours to do."""
        self._masters = [Master(secret) for secret in secrets]
        self._file = file
        self._seen: tuple[int, int] | None = None

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The operator's, or else the data directory's own, made if there is none."""
        given = (settings.master_secret, settings.master_secret_previous)
        if settings.master_secret:
            return cls([secret for secret in given if secret])
        file = settings.data_dir / SECRET_FILE
        if not file.exists():
            _write(file, [secrets.token_urlsafe(32)])
        return cls([], file)

    @property
    def masters(self) -> list[Master]:
        """All that are held now."""
        if self._file is not None:
            with contextlib.suppress(FileNotFoundError):  # whoever took it away: it is known here
                stat = self._file.stat()
                seen = (stat.st_ino, stat.st_mtime_ns)
                if seen != self._seen:
                    lines = self._file.read_text().split()
                    self._masters, self._seen = [Master(line) for line in lines], seen
        return self._masters

    def get(self, name: str) -> Master:
        """The master secret of an id; one that is held no more is still known to who has not looked
        since, for what he read before. Raises NotHeld."""
        found = by_id(self._masters, name) or by_id(self.masters, name)
        if found is None:
            raise NotHeld(
                f"what is stored is sealed under the master secret {name}, and held here "
                f"are {', '.join(master.id for master in self._masters)}: "
                + (
                    f"put the one it was sealed under back into {self._file}"
                    if self._file
                    else "set that one as XPROXY_MASTER_SECRET, or as XPROXY_MASTER_SECRET_PREVIOUS"
                )
                + "; if it is lost: xproxy serve --forget-secrets",
                should_retry=False,
            )
        return found

    def signed(self, token: str, now_s: int) -> bool:
        """Whether one of them has signed a local token just now."""
        if not LOCAL_TOKEN.fullmatch(token):
            return False
        return any(local_token_valid(master.secret, token, now_s) for master in self.masters)

    # Rotation

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else changes the file meanwhile; raises Conflict if somebody does already."""
        if self._file is None:
            yield
            return
        lock = os.open(self._file.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError:
            raise Conflict("the master secret is being rotated already") from None
        finally:
            os.close(lock)

    def successor(self, in_force: str) -> Master:
        """The master secret that follows the one in force: the operator's, or a new one, which is
        then held beside it by everybody who reads the file. For within `locked`."""
        if self._file is None:
            if self._masters[0].id == in_force:
                raise Conflict(
                    "XPROXY_MASTER_SECRET is in force already: to rotate it, start every process "
                    "with a new one, and with the present one as XPROXY_MASTER_SECRET_PREVIOUS"
                )
            return self._masters[0]
        fresh = secrets.token_urlsafe(32)
        _write(self._file, [self.get(in_force).secret.decode(), fresh])
        return by_id(self.masters, Master(fresh).id) or Master(fresh)

    def keep(self, master: Master) -> None:
        """Forget the others, if they are ours to forget. For within `locked`."""
        if self._file is not None and len(self.masters) > 1:
            _write(self._file, [master.secret.decode()])


def _write(file: Path, lines: Sequence[str]) -> None:
    """Replace the file, or leave it as it was; only its owner reads it."""
    fresh = file.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write("".join(line + "\n" for line in lines))
        out.flush()
        os.fsync(out.fileno())
    fresh.replace(file)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
