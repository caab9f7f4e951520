"""Anthropic's tools as OpenAI's functions, and who chooses among them."""

from __future__ import annotations

from msgspec import Raw

from metering.translate import reading
from metering.translate.openai import members
from metering.translate.openai.members import Fields
from metering.translate.reading import Lost

_SEARCH = "tool_search_tool_"
"""A tool that finds tools: the model can do without, as it is given all of them."""
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}


def carry(fields: Fields, out: dict[str, object], lost: Lost) -> None:
    """Writes `tools`, `tool_choice` and `parallel_tool_calls`; raises InvalidRequest."""
    raw = members.take(fields, "tools")
    given = reading.objects(raw, "tools") if raw is not None else []
    tools = [
        tool for i, it in enumerate(given) if (tool := _tool(it, f"tools[{i}]", lost)) is not None
    ]
    if tools:
        out["tools"] = tools
    choice = members.take(fields, "tool_choice")
    if choice is not None:
        _choice(members.fields(choice, "tool_choice"), out, lost)


def _tool(tool: Fields, path: str, lost: Lost) -> dict[str, object] | None:
    kind = members.take_word(tool, "type", path)
    if kind.startswith(_SEARCH):
        lost.drop(path)
        return None
    if kind not in ("", "custom"):
        raise reading.untranslatable(
            f"{path}.type",
            f"is {kind}, a tool that Anthropic's models know and OpenAI's do not; leave it out, or"
            " describe it as a custom tool with an input_schema",
        )
    function: dict[str, object] = {
        "name": members.need_text(tool, "name", path, "name the tool"),
    }
    if (description := members.take_text(tool, "description", path)) is not None:
        function["description"] = description
    schema = members.take(tool, "input_schema")
    if schema is None:
        raise reading.missing(f"{path}.input_schema", "send the JSON schema of the tool's input")
    if members.opening(schema) != members.OBJECT:
        raise reading.wrong(f"{path}.input_schema", "an object, a JSON schema")
    function["parameters"] = schema
    if (strict := members.take(tool, "strict")) is not None:
        function["strict"] = _flag(strict, f"{path}.strict")
    members.drop_rest(lost, tool, path)
    return {"type": "function", "function": function}


def _choice(choice: Fields, out: dict[str, object], lost: Lost) -> None:
    kind = members.take_word(choice, "type", "tool_choice")
    alone = members.take_flag(choice, "disable_parallel_tool_use", "tool_choice")
    name = members.take_text(choice, "name", "tool_choice")
    members.drop_rest(lost, choice, "tool_choice")
    if kind == "tool":
        if name is None:
            raise reading.missing("tool_choice.name", "name the tool to use")
    elif kind not in _CHOICES:
        raise reading.wrong("tool_choice.type", "auto, any, tool or none")
    if "tools" not in out:
        if kind in ("tool", "any"):
            raise reading.missing("tools", "send the tools that tool_choice is of")
        return  # OpenAI takes a choice only where there are tools
    if kind == "tool":
        out["tool_choice"] = {"type": "function", "function": {"name": name}}
    else:
        out["tool_choice"] = _CHOICES[kind]
    if alone:
        out["parallel_tool_calls"] = False


def _flag(raw: Raw, path: str) -> bool:
    given = members.value(raw)
    if not isinstance(given, bool):
        raise reading.wrong(path, "true or false")
    return given
