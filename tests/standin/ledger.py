"""The stand-in's own books: a JSON line for every call, appended before its answer is complete."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec


class Credential(msgspec.Struct, frozen=True):
    """The secret a call came with: where it stood, and its fingerprint."""

    header: str
    sha256: str


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One call as the provider saw it."""

    seq: int
    id: str
    """The id in the answer, `chatcmpl-...`, `msg_...`; the request's id where there is none."""
    provider: str
    method: str
    path: str
    query: str = ""
    model: str | None = None
    stream: bool = False
    status: int | None = None
    """None: no answer was begun."""
    tag: str | None = None
    usage: dict[str, Any] | None = None
    """What was billed, in the provider's shape; None: nothing."""
    units: dict[str, int] = {}
    lines_pico: dict[str, int] = {}
    cost_pico: int | None = 0
    """None: the model has no price here."""
    price: str | None = None
    service_tier: str | None = None
    complete: bool
    """Whether the whole answer was handed over."""
    client: bool
    """Whether the client was still there at the end."""
    body_sent: int = 0
    """Bytes of the answer's body."""
    answer_sha256: str = ""
    """Of those bytes, before they were compressed."""
    body_sha256: str = ""
    """Of the request's body."""
    headers: list[str] = []
    """Names of the request's headers, as they came."""
    credential: Credential | None = None
    leaks: list[str] = []
    """Where a key of the product's own, or one of its headers, was seen: there must be none."""
    began_ms: int
    ended_ms: int


class Came(msgspec.Struct, frozen=True, kw_only=True):
    """One request as it came, whole: only for who looks for what should not have come."""

    method: str
    target: str
    """Path and query."""
    headers: list[tuple[str, str]]
    body: bytes


class Wire:
    """A file of everything that came."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, came: Came) -> None:
        """Append one request."""
        os.write(self._file, msgspec.json.encode(came) + b"\n")


class Ledger:
    """The file, opened to append; every line is one write."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._encode = msgspec.json.Encoder().encode

    def write(self, entry: Entry) -> None:
        """Append one line; it is with the operating system when this returns."""
        os.write(self._file, self._encode(entry) + b"\n")

    def clear(self) -> None:
        """Begin the books anew."""
        os.ftruncate(self._file, 0)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)


def read(path: Path) -> list[Entry]:
    """All entries of a ledger file; works while and after the stand-in runs."""
    if not path.exists():
        return []
    decode = msgspec.json.Decoder(Entry).decode
    return [decode(line) for line in path.read_bytes().splitlines() if line]


def read_wire(path: Path) -> list[Came]:
    """All requests of such a file."""
    decode = msgspec.json.Decoder(Came).decode
    return [decode(line) for line in path.read_bytes().splitlines() if line]


def total_pico(entries: Iterable[Entry]) -> int:
    """What all entries cost together; an unpriced one counts nothing."""
    return sum(entry.cost_pico or 0 for entry in entries)


@lru_cache(4096)
def fingerprint(secret: str) -> str:
    """How the ledger names a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()[:16]
