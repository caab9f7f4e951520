"""The master secret: the operator's, or the data directory's own, made at the first start.

The own one is read from its file by each process that needs it; no environment has it.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import msgspec

from metering.client import SECRET_FILE
from metering.settings import Settings


def complete(settings: Settings) -> Settings:
    """The settings with a master secret, which is made if there is none yet."""
    if settings.master_secret:
        return settings
    return msgspec.structs.replace(settings, master_secret=_own(settings.data_dir))


def _own(data_dir: Path) -> str:
    """The data directory's own secret; only its owner reads it."""
    path = data_dir / SECRET_FILE
    if not path.exists():
        fresh = path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    return path.read_text().strip()
