"""The tools of a chat and how they are chosen, as Anthropic's.

Functions are tools with their schemas byte for byte; tools of Anthropic's own pass as they are, or
as Portkey writes them (`{"type": X, X: {"name": <type>, ...}}`).
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, Raw

from metering.core.result import splice_json
from metering.errors import InvalidRequest
from metering.translate import reading
from metering.translate.anthropic.blocks import Given
from metering.translate.reading import Lost, is_object, is_text, missing, wrong

_ANY_INPUT = Raw(b'{"type":"object","properties":{}}')
_FALSE = Raw(b"false")
_EXTRAS = ("cache_control", "defer_loading", "allowed_callers", "input_examples")
_STREAMING = "eager_input_streaming"
_FUNCTION = frozenset({"name", "description", "parameters", "strict", *_EXTRAS, _STREAMING})
_TOOL = frozenset({"type", "function", *_EXTRAS, _STREAMING})
_CHOICES = (
    "'auto', 'none', 'required', {'type': 'function', 'function': {'name': ...}} or of type"
    " 'allowed_tools'"
)
_SINGLE = "disable_parallel_tool_use"
WEB_SEARCH = "web_search"


class _Tool(msgspec.Struct):
    name: Raw
    input_schema: Raw
    description: Given = UNSET
    strict: Given = UNSET
    cache_control: Given = UNSET
    defer_loading: Given = UNSET
    allowed_callers: Given = UNSET
    input_examples: Given = UNSET
    eager_input_streaming: Given = UNSET


class WebSearch(msgspec.Struct):
    """Anthropic's search of the web."""

    user_location: dict[str, Raw] | msgspec.UnsetType = UNSET
    allowed_domains: Given = UNSET
    blocked_domains: Given = UNSET
    type: str = "web_search_20250305"
    name: str = WEB_SEARCH


class Tools:
    """The tools of a request, and which of them may or must be called."""

    choices = _CHOICES
    """What a choice may be, in words."""

    def __init__(self, lost: Lost, *, schemas: bool) -> None:
        """`schemas`: whether the model keeps to the schema of a `strict` tool."""
        self._lost = lost
        self._schemas = schemas
        self._tools: dict[str, Any] = {}
        """By their names; those without one by where they stand."""
        self.choice: dict[str, Any] | None = None
        self.legacy = False
        """Whether the client spoke of functions, before there were tools."""

    def write(self, made: dict[str, Any]) -> None:
        """Gives a request what was read; without tools there is no choice."""
        if self._tools:
            made["tools"] = list(self._tools.values())
            if self.choice is not None:
                made["tool_choice"] = self.choice

    @property
    def forced(self) -> bool:
        """Whether a tool must be called."""
        return self.choice is not None and self.choice["type"] in {"any", "tool"}

    def read(self, fields: dict[str, Raw]) -> None:
        """Takes the members that speak of tools."""
        if "tools" in fields:
            given = reading.items(fields["tools"], "tools")
            for index, tool in enumerate(reading.objects(fields["tools"], "tools")):
                self._add(tool, given[index], f"tools[{index}]")
        if "functions" in fields:
            self.legacy = not self._tools
            for index, function in enumerate(reading.objects(fields["functions"], "functions")):
                self._function(function, {}, f"functions[{index}]")
        if "web_search_options" in fields:
            path = "web_search_options"
            options = reading.members(fields[path], path)
            self._lost.unknown(options, frozenset({"user_location"}), path)
            self._tools.setdefault(WEB_SEARCH, self._search(options, path))
        for name in ("tool_choice", "function_call"):
            if name in fields and self.choice is None:
                self._choose(fields[name], name)
        parallel = fields.get("parallel_tool_calls")
        single = parallel is not None and not reading.flag(parallel, "parallel_tool_calls")
        if self._tools and (single or self.legacy):
            self.choice = self.choice or {"type": "auto"}
            if self.choice["type"] != "none":
                self.choice[_SINGLE] = True

    def free(self) -> None:
        """Leaves it to the model whether it calls a tool, as it cannot be made to."""
        if self.forced and self.choice:
            self._lost.change("tool_choice")
            self.choice = {**self.choice, "type": "auto"}
            self.choice.pop("name", None)

    def _put(self, name: str, tool: Any, path: str) -> None:
        if name in self._tools:
            raise wrong(f"{path}.name", "a name that no other tool has")
        self._tools[name] = tool

    def _add(self, tool: dict[str, Raw], given: Raw, path: str) -> None:
        kind = reading.text(tool["type"], f"{path}.type") if "type" in tool else ""
        if kind in {"function", ""} and "function" in tool:
            self._lost.unknown(tool, _TOOL, path)
            function = reading.members(tool["function"], f"{path}.function")
            self._function(function, tool, f"{path}.function")
        elif kind == "custom" and "custom" in tool:
            raise wrong(
                f"{path}.type",
                "'function': the models take no tools of free text; give it one string parameter",
            )
        elif kind in tool and is_object(tool[kind]):
            self._named(kind, tool, path)
        elif kind not in {"function", "custom", ""} or "input_schema" in tool:
            self._put(_name(tool, path), given, path)
        else:
            raise missing(f"{path}.function", "it has the function's name and parameters")

    def _named(self, kind: str, tool: dict[str, Raw], path: str) -> None:
        """One of Anthropic's as Portkey writes it: its type stands as its name."""
        inner = reading.members(tool[kind], f"{path}.{kind}")
        if "name" not in inner:
            raise missing(f"{path}.{kind}.name", "it is the tool's type, with its date")
        outer = {name: raw for name, raw in tool.items() if name not in {"type", kind}}
        self._put(kind, {**outer, **inner, "type": inner["name"], "name": kind}, path)

    def _function(self, function: dict[str, Raw], tool: dict[str, Raw], path: str) -> None:
        self._lost.unknown(function, _FUNCTION, path)
        if "name" not in function:
            raise missing(f"{path}.name", "it is what the model calls the function by")
        both = {**function, **tool}
        strict = function.get("strict", UNSET)
        if not self._schemas and strict is not UNSET:
            if strict != _FALSE:
                self._lost.drop(f"{path}.strict")
            strict = UNSET
        made = _Tool(
            function["name"],
            _schema(function.get("parameters"), f"{path}.parameters"),
            description=function.get("description", UNSET),
            strict=strict,
            **{name: both[name] for name in (*_EXTRAS, _STREAMING) if name in both},
        )
        self._put(reading.text(function["name"], f"{path}.name"), made, path)

    def _search(self, options: dict[str, Raw], path: str) -> WebSearch:
        made = WebSearch()
        if "user_location" in options:
            path = f"{path}.user_location"
            location = reading.members(options["user_location"], path)
            if "approximate" in location:
                near = reading.members(location["approximate"], f"{path}.approximate")
                location = {"type": Raw(b'"approximate"'), **near}
            made.user_location = location
        return made

    def _choose(self, raw: Raw, path: str) -> None:
        if is_text(raw):
            word = reading.text(raw, path)
            kinds = {"auto": "auto", "none": "none", "required": "any", "any": "any"}
            if word not in kinds:
                raise wrong(path, self.choices)
            if self._tools:
                self.choice = {"type": kinds[word]}
            elif word in {"required", "any"}:
                raise self._unknown(path)
            return
        choice = reading.members(raw, path)
        kind = reading.text(choice["type"], f"{path}.type") if "type" in choice else "function"
        if kind == "allowed_tools":
            path = f"{path}.allowed_tools"
            allowed = choice.get("allowed_tools", reading.NULL)
            self._allow(reading.members(allowed, path), path)
        elif kind == "function":
            inner = reading.members(choice.get("function", raw), f"{path}.function")
            self._force(inner, f"{path}.function" if "function" in choice else path)
        elif kind == "tool":  # as Anthropic says it
            self._force(choice, path)
        elif kind in {"auto", "any", "none"}:
            self.choice = {**choice, "type": kind} if self._tools else None
        else:
            raise wrong(path, _CHOICES)

    def _force(self, function: dict[str, Raw], path: str) -> None:
        if "name" not in function:
            raise missing(f"{path}.name", "it is the name of the function to call")
        name = reading.text(function["name"], f"{path}.name")
        if name not in self._tools:
            raise self._unknown(f"{path}.name")
        self.choice = {"type": "tool", "name": name}
        if _SINGLE in function:
            self.choice[_SINGLE] = function[_SINGLE]

    def _allow(self, allowed: dict[str, Raw], path: str) -> None:
        """Leaves the tools that may be called."""
        mode = reading.text(allowed.get("mode", Raw(b'"auto"')), f"{path}.mode")
        if mode not in {"auto", "required"}:
            raise wrong(f"{path}.mode", "'auto' or 'required'")
        names = set()
        path = f"{path}.tools"
        for index, tool in enumerate(reading.objects(allowed.get("tools", reading.NULL), path)):
            place = f"{path}[{index}]"
            names.add(self._called(tool, place))
        if not names <= self._tools.keys() or not names:
            raise self._unknown(path)
        self._tools = {name: tool for name, tool in self._tools.items() if name in names}
        self.choice = {"type": "any" if mode == "required" else "auto"}

    def _called(self, tool: dict[str, Raw], path: str) -> str:
        """The name of a tool that may be called."""
        return _name(reading.members(tool["function"], path) if "function" in tool else tool, path)

    def _unknown(self, path: str) -> InvalidRequest:
        return InvalidRequest(
            f"Request field '{path}' asks for a tool that is not in 'tools'; add it there",
            code="invalid_request_field",
            field=path,
        )


def _name(tool: dict[str, Raw], path: str) -> str:
    return reading.text(tool["name"], f"{path}.name") if "name" in tool else path


def _schema(parameters: Raw | None, path: str) -> Raw:
    """The parameters as they are; Anthropic asks for a `type`, which OpenAI does not."""
    if parameters is None:
        return _ANY_INPUT
    if "type" in reading.members(parameters, path):
        return parameters
    return Raw(splice_json(bytes(parameters), b'"type":"object"') or parameters)
