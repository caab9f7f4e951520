"""What both dialects' readers share: numbers that can be believed, and JSON that others can read.

A count is an integer from 0 to 10**9; a float, a string, a boolean, a negative or a larger number
is no count, and the usage it stands in says nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Annotated, Any, TypeVar

import msgspec

from metering.providers.base import Usage
from metering.providers.request import COUNT_MAX

What = TypeVar("What")
NAME_MAX = 256
"""The longest name of a model, an answer or a tier, in characters."""
Count = Annotated[int, msgspec.Meta(ge=0, le=COUNT_MAX)]
"""A number of units that can be believed."""


def loose(text: bytes) -> dict[str, Any] | None:
    """An object that the strict reader refused: lone surrogates, NaN, members of odd types.

    None where it is no JSON object at all.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def read_object(
    decoder: msgspec.json.Decoder[What],
    data: bytes,
    loosely: Callable[[dict[str, Any]], What] | None = None,
) -> What | None:
    """An object by its strict reader, or, where that refuses it, by the loose one.

    `loosely` makes it of the loosely read object; by default it is a struct whose members are all
    texts or kept as the JSON they are. None where there is no object.
    """
    try:
        return decoder.decode(data)
    except (ValueError, RecursionError):
        value = loose(data)
    if value is None:
        return None
    return flat(decoder.type, value) if loosely is None else loosely(value)


def flat(kind: type[What], value: dict[str, Any]) -> What:
    """A struct of a loosely read object: each member a text, or the JSON it is."""
    fields = msgspec.structs.fields(kind)  # type: ignore[arg-type]
    makers = {field.name: loose_raw if field.type is msgspec.Raw else loose_str for field in fields}
    return kind(**{name: make(value.get(name)) for name, make in makers.items()})


def loose_raw(value: Any) -> msgspec.Raw:
    """A value of a loosely read object as the JSON it was; empty where it was missing or null."""
    return msgspec.Raw(json.dumps(value).encode()) if value is not None else msgspec.Raw(b"")


def loose_str(value: Any) -> str | None:
    """A string of a loosely read object, lone surrogates replaced: no store would take them."""
    return value.encode(errors="replace").decode() if isinstance(value, str) else None


def bounded(usage: Usage) -> Usage:
    """The usage less names that are none: rows keep them, and whoever is called chose them."""
    said = (usage.model, usage.provider_id, usage.service_tier, usage.scope)
    kept = [it if it and len(it) <= NAME_MAX and it.isprintable() else None for it in said]
    if tuple(kept) == said:
        return usage
    model, provider_id, service_tier, scope = kept
    return msgspec.structs.replace(
        usage, model=model, provider_id=provider_id, service_tier=service_tier, scope=scope
    )


def nonzero(pairs: Iterable[tuple[str, int | None]]) -> dict[str, int]:
    """The counts that are there and not zero."""
    return {unit: count for unit, count in pairs if count}


def said(raw: msgspec.Raw) -> bool:
    """Whether a member is there and not null."""
    return bool(raw) and bytes(raw) != b"null"


def strings(value: Any) -> list[str]:
    """The texts in a loosely read output, of members that are output: for an estimate."""
    if text := loose_str(value):
        return [text]
    if isinstance(value, list):
        return [text for item in value for text in strings(item)]
    if isinstance(value, dict):
        return [text for name in _OUTPUT_MEMBERS for text in strings(value.get(name))]
    return []


_OUTPUT_MEMBERS = (
    "message",
    "delta",
    "content",
    "content_block",
    "text",
    "refusal",
    "reasoning_content",
    "thinking",
    "partial_json",
    "tool_calls",
    "function_call",
    "function",
    "name",
    "arguments",
    "input",
)
