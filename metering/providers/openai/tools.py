"""Tools that OpenAI runs within a response: fees of their own, and models beside the response's.

- A search of the web that searched costs a fee (one that opened a page does not), and so does one
  of files. `tool_usage` states the billable searches where it is there.
- Code runs in containers, billed by the session. One that the request named was billed when it
  was made; any other that ran code counts as a session of this response.
- Images are made by another model, whose tokens `tool_usage` sums; an SVG by yet another.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Raw

from metering.providers.answer import Count, nonzero
from metering.providers.openai import images
from pricing.units import UNITS

IMAGE_MODEL = "gpt-image-1"
"""Who makes the images of a tool that names no model."""
MEMORY = "1g"
"""Of a container for which none is named."""
AUTO = ("auto", "container_auto")
"""Kinds of containers that are made for a response."""


class _Place(msgspec.Struct, gc=False):
    """A container: a new one, or one that was there."""

    type: str | None = None
    container_id: str | None = None
    memory_limit: str | None = None


class _Action(msgspec.Struct, gc=False):
    type: str | None = None


class _Item(msgspec.Struct, gc=False):
    type: str | None = None
    action: Raw = Raw(b"")
    container_id: str | None = None
    environment: Raw = Raw(b"")
    svg_usage: Raw = Raw(b"")


class _Requests(msgspec.Struct, gc=False):
    num_requests: Count | None = None


class _ToolUsage(msgspec.Struct):
    web_search: _Requests | None = None
    image_gen: Raw = Raw(b"")


class _Tool(msgspec.Struct, gc=False):
    type: str | None = None
    model: str | None = None
    container: Raw = Raw(b"")
    environment: Raw = Raw(b"")


_items_decoder = msgspec.json.Decoder(list[_Item] | None)
_tools_decoder = msgspec.json.Decoder(list[_Tool] | None)
_tool_usage_decoder = msgspec.json.Decoder(_ToolUsage | None)
_action_decoder = msgspec.json.Decoder(_Action | None)
_place_decoder = msgspec.json.Decoder(_Place | None)
Counts = dict[str, int]


def used(output: Raw, tools: Raw, tool_usage: Raw) -> tuple[Counts, dict[str, Counts]]:
    """What tools add to a response: fees in units, and the counts of other models by model."""
    items: list[_Item] = _decoded(_items_decoder, output) or []
    given: list[_Tool] = _decoded(_tools_decoder, tools) or []
    stated: _ToolUsage = _decoded(_tool_usage_decoder, tool_usage) or _ToolUsage()
    return _fees(items, stated) | _containers(items, given), _others(items, given, stated)


def _decoded(decoder: msgspec.json.Decoder[Any], raw: Raw) -> Any:
    try:
        return decoder.decode(raw) if raw else None
    except ValueError:
        return None


def _fees(items: list[_Item], stated: _ToolUsage) -> Counts:
    searches = stated.web_search.num_requests if stated.web_search is not None else None
    if searches is None:
        searches = sum(it.type == "web_search_call" and _searched(it.action) for it in items)
    files = sum(it.type == "file_search_call" for it in items)
    return nonzero((("web_search", searches), ("file_search", files)))


def _searched(action: Raw) -> bool:
    """Whether a call of the web search tool searched: it did if it does not say."""
    found: _Action | None = _decoded(_action_decoder, action)
    return found is None or found.type in (None, "search")


def _containers(items: list[_Item], tools: list[_Tool]) -> Counts:
    """Sessions of containers that the request did not name, by their memory."""
    ran_in = {_ran_in(item) for item in items} - {None}
    if not ran_in:
        return {}
    places = [place for tool in tools for place in _places(tool)]
    new = ran_in - {place.container_id for place in places}
    memory = next((it.memory_limit for it in places if it.type in AUTO and it.memory_limit), MEMORY)
    return session(memory, len(new))


def session(memory: str, times: int = 1) -> Counts:
    """Sessions of containers with so much memory; of one that has no price, the smallest."""
    unit = f"container_{memory}"
    return nonzero(((unit if unit in UNITS else f"container_{MEMORY}", times),))


def _ran_in(item: _Item) -> str | None:
    place: _Place | None = _decoded(_place_decoder, item.environment)
    return item.container_id or (place.container_id if place is not None else None)


def _places(tool: _Tool) -> Iterable[_Place]:
    """The containers a tool may use; one that was there may be named by its id alone."""
    for raw in (tool.container, tool.environment):
        if bytes(raw).startswith(b'"'):
            yield _Place(container_id=msgspec.json.decode(raw, type=str))
        elif place := _decoded(_place_decoder, raw):
            yield place


def _others(items: list[_Item], tools: list[_Tool], stated: _ToolUsage) -> dict[str, Counts]:
    found: dict[str, Counts] = {}
    made = images.counts(stated.image_gen)
    if made is not None and made["output"]:
        named = [it.model for it in tools if it.type == "image_generation" and it.model]
        found[named[0] if named else IMAGE_MODEL] = made
    for item in items:
        for model, counts in images.svg_author(item.svg_usage).items():
            before = found.setdefault(model, {})
            found[model] = before | {unit: before.get(unit, 0) + n for unit, n in counts.items()}
    return found
