"""Canaries: texts that must come out nowhere, and the search for them wherever a service leaves or
shows anything.

All canaries of one owner begin with one token, so that one look for it sees them all; what follows
the token says which one it was. Canaries are letters and digits: in a URL, in JSON or quoted by
Python they stand as they are. They are looked for in hex and Base64 too, however aligned.
"""

from __future__ import annotations

import base64
import contextlib
import re
import secrets
import string
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import asyncpg
from redis import Redis

from tests.chaos.rig import children, elsewhere

LETTERS = string.ascii_letters + string.digits
CONTEXT_BYTES = 60


class Canary:
    """A text, or what several texts begin with, and the forms in which it might come out."""

    def __init__(self, text: str | None = None) -> None:
        """By default a token nobody else writes."""
        self.text = text or "".join(secrets.choice(LETTERS) for _ in range(20))
        self.forms = _forms(self.text.encode())

    def __call__(self, name: str) -> str:
        """A canary of this token; its name is letters alone."""
        return f"{self.text}{name}0"

    def seen_in(self, data: bytes) -> Iterator[str]:
        """Each form that is in there, with what stands around its first place."""
        for form, needle in self.forms.items():
            at = data.find(needle)
            if at >= 0:
                around = data[max(0, at - CONTEXT_BYTES) : at + len(needle) + CONTEXT_BYTES]
                yield f"{form} {around!r}"

    def named_in(self, text: str) -> list[str]:
        """The names of the canaries of this token in a text."""
        return re.findall(re.escape(self.text) + "([A-Za-z]*)0", text)


def _forms(text: bytes) -> dict[str, bytes]:
    hexed = text.hex()
    escaped = "".join(f"\\u{byte:04x}" for byte in text)
    forms = {
        "plain": text,
        "lower case": text.lower(),
        "upper case": text.upper(),
        "UTF-16": text.decode().encode("utf-16-le"),
        "hex": hexed.encode(),
        "HEX": hexed.upper().encode(),
        "percent": "".join(f"%{byte:02X}" for byte in text).encode(),
        "JSON": escaped.encode(),
    }
    for shift in range(3):
        whole = base64.b64encode(bytes(shift) + text)
        first, last = -(-shift * 8 // 6), (shift + len(text)) * 8 // 6
        forms[f"Base64 +{shift}"] = whole[first:last]
    return forms


class Hunt:
    """Looks for canaries by title, and remembers where each was seen."""

    def __init__(self) -> None:
        self.canaries: dict[str, Canary] = {}
        self.places: set[str] = set()
        """Wherever it has looked."""
        self._seen: dict[str, dict[str, list[str]]] = defaultdict(dict)

    def add(self, title: str, text: str | None = None) -> Canary:
        """A canary to look for from now on."""
        canary = self.canaries[title] = Canary(text)
        return canary

    def look(self, place: str, data: bytes) -> None:
        """Look through the content of a place."""
        self.places.add(place)
        for title, canary in self.canaries.items():
            sightings = list(canary.seen_in(data))
            if sightings:
                self._seen[title].setdefault(place, []).extend(sightings)

    def look_at_all(self, found: Iterable[tuple[str, bytes]]) -> None:
        """Look through many places."""
        for place, data in found:
            self.look(place, data)

    def seen(self, title: str, *, but: Iterable[str] = ()) -> dict[str, list[str]]:
        """Where a canary was seen, and in which forms; but for places that begin with these."""
        but = tuple(but)
        return {
            place: forms
            for place, forms in self._seen[title].items()
            if not (but and place.startswith(but))
        }


# Places


def files(folder: Path, title: str) -> Iterator[tuple[str, bytes]]:
    """Every file in a folder, raw; a file may go while one looks."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            with contextlib.suppress(FileNotFoundError):
                yield f"{title} {path.relative_to(folder)}", path.read_bytes()


def rows(database_url: str) -> Iterator[tuple[str, bytes]]:
    """Every row of every table as text, long ones too, and what every connection said last."""
    yield from elsewhere(_rows(database_url)).items()


async def _rows(database_url: str) -> dict[str, bytes]:
    connection = await asyncpg.connect(database_url)
    try:
        tables = await connection.fetch(
            "SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables"
            " WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        )
        found = {}
        for name in (*(table["name"] for table in tables), "pg_stat_activity"):
            lines = await connection.fetch(f"SELECT t::text AS line FROM {name} AS t")
            found[f"table {name}"] = "\n".join(line["line"] for line in lines).encode()
        return found
    finally:
        await connection.close()


def execute(database_url: str, statement: str) -> None:
    """Do something to the database that no code of ours would."""

    async def run() -> None:
        connection = await asyncpg.connect(database_url)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    elsewhere(run())


def keys(redis_url: str) -> Iterator[tuple[str, bytes]]:
    """Every key of a Redis with its value, read by its type, and the log of slow commands."""
    with Redis.from_url(redis_url, socket_timeout=5) as redis:
        for name in redis.scan_iter(count=1_000):
            kind = [*name.split(b":"), b""][1].decode()
            yield f"Redis {kind}", name + b"\n" + _value(redis, name)
        yield "Redis slow log", repr(redis.execute_command("SLOWLOG", "GET", -1)).encode()


def _value(redis: Redis, name: bytes) -> bytes:
    kind = str(redis.type(name), "ascii")  # type: ignore[arg-type]
    return _flat(redis.execute_command(*READ[kind](name))) if kind in READ else b""  # type: ignore[no-untyped-call]


READ: dict[str, Callable[[bytes], tuple[str | bytes | int, ...]]] = {
    "string": lambda name: ("GET", name),
    "hash": lambda name: ("HGETALL", name),
    "list": lambda name: ("LRANGE", name, 0, -1),
    "set": lambda name: ("SMEMBERS", name),
    "zset": lambda name: ("ZRANGE", name, 0, -1, "WITHSCORES"),
    "stream": lambda name: ("XRANGE", name, "-", "+"),
}
"""How each type is read; `none` is of what went meanwhile."""


def _flat(value: object) -> bytes:
    """All that is in a reply, its bytes as they are."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, dict):
        value = [part for pair in value.items() for part in pair]
    if isinstance(value, list | tuple | set):
        return b"\n".join(map(_flat, value))
    return str(value).encode()


def processes(pid: int) -> Iterator[tuple[str, bytes]]:
    """The command line and the environment of a process and all that it has started."""
    for one in (pid, *descendants(pid)):
        with contextlib.suppress(OSError):
            line = Path(f"/proc/{one}/cmdline").read_bytes()
            kind = next((it for it in (b"serve", b"worker", b"keeper") if it in line), b"store")
            yield f"command line of {kind.decode()}", line
            yield f"environment of {kind.decode()}", Path(f"/proc/{one}/environ").read_bytes()


def descendants(pid: int) -> list[int]:
    """All processes a process has started, and theirs."""
    with contextlib.suppress(OSError):
        own = children(pid)
        return own + [below for one in own for below in descendants(one)]
    return []
