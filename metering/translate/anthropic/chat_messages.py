"""The messages of a chat as a system prompt and turns.

| role                    | becomes                                                              |
|-------------------------|----------------------------------------------------------------------|
| system, developer       | blocks of `system`; later ones a message of role `system`, if the    |
|                         | model takes any, after the user's turn they came with                |
| user                    | a turn; right after results of tools it joins theirs                 |
| assistant               | a turn: `content_blocks` as they are, else thinking, text and calls  |
| tool, function          | a `tool_result`; those in a row are one turn of the user             |
"""

from __future__ import annotations

from typing import ClassVar

import msgspec
from msgspec import UNSET, Raw

from metering.errors import InvalidRequest
from metering.translate import reading
from metering.translate.anthropic import chat_parts
from metering.translate.anthropic.blocks import Content, ToolResult, ToolUse
from metering.translate.anthropic.chat_parts import cached
from metering.translate.anthropic.turns import EMPTY, Turns
from metering.translate.reading import Lost, is_object, is_text, missing, wrong

_NO_INPUT = Raw(b"{}")
_NOTHING = Raw(b"[]")
_PLAIN = frozenset({"role", "content", "cache_control"})
_RESULT = _PLAIN | {"tool_call_id", "is_error", "name"}
_ASSISTANT = _PLAIN | {
    *("refusal", "tool_calls", "function_call", "content_blocks", "thinking_blocks"),
    *("annotations", "reasoning_content"),
}
_CALL = frozenset({"id", "type", "index", "function", "cache_control"})
_arguments = msgspec.json.Decoder(dict[str, Raw])


class _Seen(msgspec.Struct):
    """As much of a block as is looked at."""

    type: str
    id: Raw = Raw(b"")


_seen = msgspec.json.Decoder(list[_Seen])


class Conversation(Turns):
    """The messages so far."""

    def __init__(self, lost: Lost, *, late_system: bool) -> None:
        """See `Turns`."""
        super().__init__(lost, late_system=late_system)
        self._function: Raw | None = None

    def add(self, message: dict[str, Raw], path: str) -> None:
        """Takes the next message."""
        if "role" not in message:
            raise missing(f"{path}.role", f"it is one of {', '.join(self._roles)}")
        role = reading.text(message["role"], f"{path}.role")
        take = self._roles.get(role)
        if take is None:
            raise wrong(f"{path}.role", f"one of {', '.join(self._roles)}")
        take(self, message, path)

    def _system(self, message: dict[str, Raw], path: str) -> None:
        self._lost.unknown(message, _PLAIN, path)
        found: Content = [*chat_parts.texts(_content(message, path), f"{path}.content", self._lost)]
        self._mark(found, message, path)
        self.instruct(found, path)

    def _user(self, message: dict[str, Raw], path: str) -> None:
        self._lost.unknown(message, _PLAIN, path)
        content = _content(message, path)
        if is_text(content) and "cache_control" not in message:
            self.say(content)
            return
        found = chat_parts.content(content, f"{path}.content", self._lost)
        self._mark(found, message, path)
        self.say(found)

    def _assistant(self, message: dict[str, Raw], path: str) -> None:
        self._lost.unknown(message, _ASSISTANT, path)
        found = self._said(message, path)
        self._mark(found, message, path)
        self.answer(found)

    def _said(self, message: dict[str, Raw], path: str) -> Content:
        """What an assistant has said and called, in Anthropic's order."""
        found: Content = []
        known: set[bytes] = set()
        if message.get("content_blocks", _NOTHING) != _NOTHING:
            found, known = _verbatim(message["content_blocks"], f"{path}.content_blocks")
        else:
            if "thinking_blocks" in message:
                found, _ = _verbatim(message["thinking_blocks"], f"{path}.thinking_blocks")
            elif "reasoning_content" in message:
                self._lost.drop(f"{path}.reasoning_content")
            for name in ("content", "refusal"):
                if name in message:
                    found += chat_parts.content(message[name], f"{path}.{name}", self._lost)
        calls = f"{path}.tool_calls"
        given = reading.objects(message["tool_calls"], calls) if "tool_calls" in message else []
        for index, call in enumerate(given):
            made = self._call(call, f"{calls}[{index}]")
            if bytes(made.id) not in known:
                found.append(made)
        if "function_call" in message:
            found.append(self._function_call(message["function_call"], f"{path}.function_call"))
        return found

    def _call(self, call: dict[str, Raw], path: str) -> ToolUse:
        self._lost.unknown(call, _CALL, path)
        if "type" in call and reading.text(call["type"], f"{path}.type") != "function":
            raise wrong(f"{path}.type", "'function': there are no calls of other kinds")
        for name in ("id", "function"):
            if name not in call:
                raise missing(f"{path}.{name}", "a tool call has an id and a function")
        if not is_text(call["id"]):
            raise wrong(f"{path}.id", "a string")
        function = reading.members(call["function"], f"{path}.function")
        made = use(call["id"], function, f"{path}.function")
        made.cache_control = call.get("cache_control", UNSET)
        return made

    def _function_call(self, raw: Raw, path: str) -> ToolUse:
        """A call as it was before calls had ids: the next function's answer is its result."""
        self._function = Raw(reading.encode(f"call_{len(self.turns)}"))
        return use(self._function, reading.members(raw, path), path)

    def _tool(self, message: dict[str, Raw], path: str) -> None:
        self._lost.unknown(message, _RESULT, path)
        if "tool_call_id" not in message:
            raise missing(f"{path}.tool_call_id", "it is the id of the call that this answers")
        self._result(message["tool_call_id"], message, path)

    def _function_result(self, message: dict[str, Raw], path: str) -> None:
        self._lost.unknown(message, _RESULT, path)
        if self._function is None:
            raise InvalidRequest(
                f"Request field '{path}' answers no call; send the assistant's message with the"
                " function_call before it",
                code="invalid_request_field",
                field=path,
            )
        self._result(self._function, message, path)
        self._function = None

    def _result(self, call: Raw, message: dict[str, Raw], path: str) -> None:
        if not is_text(call):
            raise wrong(f"{path}.tool_call_id", "a string")
        made = ToolResult(
            call,
            is_error=message.get("is_error", UNSET),
            cache_control=cached(message, path, self._lost),
        )
        content = message.get("content", EMPTY)
        if is_text(content):
            self.result(made, content)
        else:
            self.result(made, chat_parts.content(content, f"{path}.content", self._lost))

    def _mark(self, content: Content, message: dict[str, Raw], path: str) -> None:
        """Gives the `cache_control` of a message to its last block."""
        mark = message.get("cache_control")
        last = content[-1] if content else None
        if mark is None:
            return
        if last is None or isinstance(last, Raw):
            self._lost.drop(f"{path}.cache_control")
        elif last.cache_control is UNSET:
            last.cache_control = mark

    _roles: ClassVar = {
        "system": _system,
        "developer": _system,
        "user": _user,
        "assistant": _assistant,
        "tool": _tool,
        "function": _function_result,
    }


def _content(message: dict[str, Raw], path: str) -> Raw:
    if "content" not in message:
        raise missing(f"{path}.content", "it is a string or a list of content parts")
    return message["content"]


def _verbatim(raw: Raw, path: str) -> tuple[Content, set[bytes]]:
    """Anthropic's own blocks as they are, and the ids of those that have one."""
    try:
        seen = _seen.decode(raw)
    except (ValueError, RecursionError):
        raise wrong(path, "a list of content blocks as an answer gave them") from None
    return [*reading.items(raw, path)], {bytes(block.id) for block in seen if block.id}


def use(call: Raw, function: dict[str, Raw], path: str) -> ToolUse:
    """A call of a function."""
    if "name" not in function:
        raise missing(f"{path}.name", "it is the name of the function that was called")
    if not is_text(function["name"]):
        raise wrong(f"{path}.name", "a string")
    return ToolUse(call, function["name"], _input(function.get("arguments"), f"{path}.arguments"))


def _input(arguments: Raw | None, path: str) -> Raw:
    """The arguments of a call, which are JSON in a string, as that JSON."""
    if arguments is None:
        return _NO_INPUT
    given = arguments if is_object(arguments) else Raw(reading.text(arguments, path).encode())
    if not bytes(given).strip():
        return _NO_INPUT
    try:
        _arguments.decode(given)
    except (ValueError, RecursionError):
        raise wrong(path, "a string with a JSON object in it, or empty") from None
    return given
