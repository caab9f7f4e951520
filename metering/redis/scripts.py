"""The Lua scripts, each a file with a contract at its top; the prelude goes before every one."""

from __future__ import annotations

import hashlib
from importlib.resources import files

import msgspec


class Script(msgspec.Struct, frozen=True):
    """A script and the hash Redis knows it by."""

    name: str
    text: str
    sha: str


def _load() -> dict[str, Script]:
    folder = files(__package__) / "lua"
    prelude = (folder / "prelude.lua").read_text()
    scripts = {}
    for file in folder.iterdir():
        name = file.name.removesuffix(".lua")
        if name != "prelude" and file.name.endswith(".lua"):
            text = prelude + file.read_text()
            digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
            scripts[name] = Script(name, text, digest)
    return scripts


SCRIPTS = _load()
"""By name: reserve, settle, correct, heartbeat, define, present, reset, landed, restore, adopt,
retell, oldest, begin, inspect, mend, lease, remember, forget, count, claim."""
