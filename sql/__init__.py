"""What we ask Postgres: `queries["name"]`, `schema` and `migrations()`, read once from this folder.

A query is written as `-- its_name --`, then `-- one line that says what it answers`, then its body
with `$1`-style parameters. A query is a literal: nothing is ever formatted into it.
"""

from __future__ import annotations

import hashlib
import re
from importlib.resources import files
from typing import LiteralString, NamedTuple

HEAD = re.compile(r"^-- (\w+) --\n-- (.+)\n", re.MULTILINE)
FOLDER = files(__name__)


class Migration(NamedTuple):
    """One step of the schema; `sha256` is its text's, for what was applied never changes."""

    version: int
    name: str
    text: LiteralString
    sha256: str


def parse(text: str) -> dict[str, LiteralString]:
    """The queries of one file by name; a description goes with its query, into the server's log."""
    _, *parts = HEAD.split(text)
    described = zip(parts[::3], parts[1::3], parts[2::3], strict=True)
    return {name: f"-- {about}\n{body.strip()}" for name, about, body in described}


def _queries() -> dict[str, LiteralString]:
    found: dict[str, LiteralString] = {}
    for file in sorted((FOLDER / "queries").iterdir(), key=lambda file: file.name):
        new = parse(file.read_text(encoding="utf-8"))
        if twice := found.keys() & new.keys():
            raise ValueError(f"{file.name} names again: {', '.join(sorted(twice))}")
        found |= new
    return found


def migrations() -> list[Migration]:
    """Every step, in order; a file is `<four digits>_<purpose>.sql`."""
    steps = []
    for file in (FOLDER / "migrations").iterdir():
        version, _, name = file.name.removesuffix(".sql").partition("_")
        text = file.read_text(encoding="utf-8")
        steps.append(Migration(int(version), name, text, hashlib.sha256(text.encode()).hexdigest()))
    return sorted(steps)


queries = _queries()
schema: LiteralString = (FOLDER / "schema.sql").read_text(encoding="utf-8")
