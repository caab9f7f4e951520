"""Where in a JSON document something is: whoever has to mend a file is told the line."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import TypeAlias

import msgspec

Steps: TypeAlias = tuple[str | int, ...]
"""Where in a file something is: `("models", 3, "prices", 0)`."""

_BYTE = re.compile(r"\(byte (\d+)\)", re.ASCII)
_STEP = re.compile(r"\.(\w+)|\[(\d+)\]", re.ASCII)
_TOKEN = re.compile(rb'("(?:[^"\\]|\\.)*")\s*(:?)|[{}]')


class _Twice(Exception):
    """An object has two members of one name."""


def line_of(content: bytes, path: Steps) -> int:
    """The line on which a part of a JSON document begins."""
    start, part = 0, content
    for step in path:
        if isinstance(step, int):
            items = [bytes(raw) for raw in msgspec.json.decode(part, type=list[msgspec.Raw])]
            for item in items[: step + 1]:
                start = content.index(item, start) + len(item)
            part = items[step]
        else:
            part = bytes(msgspec.json.decode(part, type=dict[str, msgspec.Raw])[step])
            start = content.index(part, content.index(f'"{step}"'.encode(), start)) + len(part)
        start -= len(part)
    return _line_at(content, start)


def line_of_error(content: bytes, error: Exception) -> int:
    """The line that a decoder's complaint is about; of a truncated file the last."""
    if isinstance(error, UnicodeDecodeError):
        return _line_at(content, error.start)
    words = str(error)
    if found := _BYTE.search(words):
        return _line_at(content, int(found[1]))
    if "truncated" in words:
        return _line_at(content, len(content))
    steps = _STEP.findall(words.partition("`$")[2])
    return line_of(content, tuple(int(index) if index else name for name, index in steps))


def twice(content: bytes) -> tuple[int, str] | None:
    """The line and the name of a member that an object has twice.

    JSON allows that, and decoders silently keep the last one.
    """
    try:
        json.loads(content, object_pairs_hook=_once)
    except _Twice:
        return _second(content)
    return None


def _once(members: Sequence[tuple[str, object]]) -> None:
    if len(dict(members)) != len(members):
        raise _Twice


def _second(content: bytes) -> tuple[int, str]:
    """Where the second of two members of one name is, in a document that has such."""
    names: list[set[str]] = []
    for token in _TOKEN.finditer(content):
        if token[0] == b"{":
            names.append(set())
        elif token[0] == b"}":
            names.pop()
        elif token[2]:
            name = json.loads(token[1])
            if name in names[-1]:
                return _line_at(content, token.start()), name
            names[-1].add(name)
    raise AssertionError("no member is there twice")


def _line_at(content: bytes, place: int) -> int:
    return content.count(b"\n", 0, place) + 1
