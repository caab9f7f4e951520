"""The Lua scripts, each a file with a contract at its top; the prelude goes before every one.

Those that every call runs are functions too: Redis makes what is in a script anew at every run,
what is in a library once, and that is a fifth of a run. A library is named by the hash of its text,
so that two versions of the product may share a Redis.
"""

from __future__ import annotations

import hashlib
from importlib.resources import files

import msgspec

HOT = ("reserve", "settle")
"""They end with `return run()`, and have what belongs to one run in the variables set below."""
_GLOBALS = "local KEYS, ARGV, redis_call = KEYS, ARGV, redis.call\n"
_LIBRARY = """#!lua name={name}
local KEYS, ARGV, redis_call, run, forget
local function make()
{text}
return run, function() batch, rates, moment = {{}}, {{}} end
end
redis.register_function('{name}', function(keys, arguments)
  KEYS, ARGV, redis_call = keys, arguments, redis.call
  if run then forget() else run, forget = make() end
  return run()
end)
"""


class Script(msgspec.Struct, frozen=True):
    """A script and the hash Redis knows it by; of a hot one, the library and its function too."""

    name: str
    text: str
    sha: str
    function: str = ""
    library: str = ""

    @property
    def loading(self) -> tuple[str, ...]:
        """The command that makes it known."""
        if self.function:
            return ("FUNCTION", "LOAD", "REPLACE", self.library)
        return ("SCRIPT", "LOAD", self.text)

    @property
    def running(self) -> tuple[str, str]:
        """The beginning of the command that runs it."""
        return ("FCALL", self.function) if self.function else ("EVALSHA", self.sha)


def script(name: str, text: str) -> Script:
    """A script from its text."""
    sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    if name not in HOT:
        return Script(name, text, sha)
    function = f"xproxy_{name}_{sha[:12]}"
    body = text.replace(_GLOBALS, "").removesuffix("return run()\n")
    return Script(name, text, sha, function, _LIBRARY.format(name=function, text=body))


def _load() -> dict[str, Script]:
    folder = files(__package__) / "lua"
    prelude = (folder / "prelude.lua").read_text()
    scripts = {}
    for file in folder.iterdir():
        name = file.name.removesuffix(".lua")
        if name != "prelude" and file.name.endswith(".lua"):
            scripts[name] = script(name, prelude + file.read_text())
    return scripts


SCRIPTS = _load()
"""By name: reserve, settle, correct, heartbeat, define, present, reset, landed, restore, adopt,
retell, oldest, begin, inspect, mend, lease, remember, forget, count, claim."""
