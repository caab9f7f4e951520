"""The run file, `<data_dir>/run.json`: how commands and a second start find a running service."""

from __future__ import annotations

import os
import re
from pathlib import Path

import msgspec

from metering.client import RUN_FILE

_PASSWORDS = (
    re.compile(r"(://[^:@/?]*:)[^/?]*(?=@)"),
    re.compile(r"([?&](?:ssl)?password=)[^&]*"),
)


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """A service that runs: its process, where it answers, and its stores."""

    pid: int
    url: str
    database_url: str
    redis_url: str
    """Without passwords."""
    started: str
    """ISO 8601, UTC."""


def write(data_dir: Path, running: Running) -> None:
    """Leave the run file, readable by its owner alone."""
    fresh = data_dir / f"{RUN_FILE}.new"
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(running), indent=2) + b"\n")
    fresh.replace(data_dir / RUN_FILE)


def read(data_dir: Path) -> Running | None:
    """The service that runs on a data directory, if its process is still there."""
    try:
        running = msgspec.json.decode((data_dir / RUN_FILE).read_bytes(), type=Running)
        os.kill(running.pid, 0)
    except (OSError, msgspec.MsgspecError):  # none there, torn, or left by a process that died
        return None
    return running


def without_password(url: str) -> str:
    """A store's URL as it may lie about."""
    for pattern in _PASSWORDS:
        url = pattern.sub(r"\1***", url)
    return url


def remove(data_dir: Path) -> None:
    """Take the run file away; harmless twice."""
    (data_dir / RUN_FILE).unlink(missing_ok=True)
