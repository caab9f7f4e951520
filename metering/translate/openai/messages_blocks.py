"""Anthropic's turns of blocks as OpenAI's messages of parts, calls and results.

A turn of results becomes one message of role `tool` for each, and then one of the user with what
else it says. A result is text alone in OpenAI's form, so what it shows is put before the user's.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw

from metering.translate import reading
from metering.translate.openai import members
from metering.translate.openai.members import Fields
from metering.translate.openai.messages_parts import Parts, part, texts
from metering.translate.reading import Lost

Message = dict[str, object]
"""A message of a chat, to be encoded."""

_DIRECT = {"type": "direct"}
_USERS = ("tool_result", "image", "document", "search_result")
"""Blocks that only the user's turns have."""


class _Turn(msgspec.Struct):
    """What one turn of blocks comes to."""

    said: Parts = []
    shown: Parts = []
    """What the results of tools show beside their text."""
    results: list[Message] = []
    calls: list[Message] = []


def chat_messages(system: Raw | None, given: list[Fields], lost: Lost) -> list[Message]:
    """The whole conversation; raises InvalidRequest."""
    out: list[Message] = []
    if system is not None:
        _system(system, "system", lost, out)
    for index, fields in enumerate(given):
        path = f"messages[{index}]"
        role = members.take_word(fields, "role", path)
        content = members.take(fields, "content")
        if content is None:
            raise reading.missing(f"{path}.content", "send a string or a list of blocks")
        members.drop_rest(lost, fields, path)
        if role not in _ROLES:
            raise reading.wrong(f"{path}.role", "user, assistant or system")
        _ROLES[role](content, f"{path}.content", lost, out)
    if given and out and out[-1]["role"] == "assistant":
        lost.change(f"messages[{len(given) - 1}]")  # answered, where Anthropic's would go on
    return out


def _system(content: Raw, path: str, lost: Lost, out: list[Message]) -> None:
    if members.opening(content) == members.QUOTE:
        out.append({"role": "system", "content": content})
        return
    parts: Parts = []
    for at, kind, block in _blocks(content, path):
        if kind == "text":
            parts += part(kind, block, at, lost)
        else:
            lost.drop(at)
    if parts:
        out.append({"role": "system", "content": _plain(parts)})


def _user(content: Raw, path: str, lost: Lost, out: list[Message]) -> None:
    if members.opening(content) == members.QUOTE:
        out.append({"role": "user", "content": content})
        return
    turn = _Turn()
    for at, kind, block in _blocks(content, path):
        if kind == "tool_result":
            _result(block, at, lost, turn)
        elif kind == "tool_use":
            raise reading.wrong(
                f"{at}.type", "a block of the user's; put calls in the assistant's turn"
            )
        else:
            turn.said += part(kind, block, at, lost)
    out += turn.results
    if parts := turn.shown + turn.said:
        out.append({"role": "user", "content": _plain(parts)})


def _assistant(content: Raw, path: str, lost: Lost, out: list[Message]) -> None:
    if members.opening(content) == members.QUOTE:
        out.append({"role": "assistant", "content": content})
        return
    turn = _Turn()
    for at, kind, block in _blocks(content, path):
        if kind == "text":
            turn.said += part(kind, block, at, lost)
        elif kind == "tool_use":
            turn.calls.append(_call(block, at, lost))
        elif kind in _USERS:
            raise reading.wrong(
                f"{at}.type", "a block of the assistant's; put it in the user's turn"
            )
        else:
            lost.drop(at)
    message: Message = {"role": "assistant"}
    if turn.said:
        message["content"] = _plain(turn.said)
    if turn.calls:
        message["tool_calls"] = turn.calls
    if len(message) > 1:
        out.append(message)


_ROLES = {"user": _user, "assistant": _assistant, "system": _system}


def _blocks(content: Raw, path: str) -> list[tuple[str, str, Fields]]:
    """The blocks of a content, with their paths and types; raises InvalidRequest."""
    if members.opening(content) != members.LIST:
        raise reading.wrong(path, "a string or a list of blocks")
    found = []
    for index, block in enumerate(reading.objects(content, path)):
        at = f"{path}[{index}]"
        kind = members.take_word(block, "type", at)
        if not kind:
            raise reading.missing(f"{at}.type", "say what kind of block this is")
        found.append((at, kind, block))
    return found


def _plain(parts: Parts) -> object:
    """A content: its text where that is all there is, else its parts."""
    if len(parts) == 1 and parts[0]["type"] == "text":
        return parts[0]["text"]
    return parts


def _call(block: Fields, path: str, lost: Lost) -> Message:
    """A call of a tool; its arguments are the input's text, to the last digit."""
    call_id = members.need_text(block, "id", path, "say which call this is")
    name = members.need_text(block, "name", path, "name the tool")
    given = members.take(block, "input")
    if given is not None and members.opening(given) != members.OBJECT:
        raise reading.wrong(f"{path}.input", "an object")
    caller = members.take(block, "caller")
    if caller is not None and members.value(caller) != _DIRECT:
        lost.drop(f"{path}.caller")
    members.drop_rest(lost, block, path)
    arguments = bytes(given).decode() if given is not None else "{}"
    return {
        "id": call_id,
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }


def _result(block: Fields, path: str, lost: Lost, turn: _Turn) -> None:
    call_id = members.need_text(block, "tool_use_id", path, "say which call this answers")
    content = members.take(block, "content")
    failed = members.take_flag(block, "is_error", path)
    members.drop_rest(lost, block, path)
    said: Parts = []
    if content is not None and members.opening(content) == members.QUOTE:
        said = texts(content)
    elif content is not None:
        shown: Parts = []
        for at, kind, inner in _blocks(content, f"{path}.content"):
            for it in part(kind, inner, at, lost):
                (said if it["type"] == "text" else shown).append(it)
                if it["type"] != "text":
                    lost.change(at)
        if shown:
            turn.shown += texts(members.concat("Shown by the tool call ", call_id, ":")) + shown
            said = said or texts(members.concat("Shown in the next message of the user."))
    if failed:  # told in words, as there is no member for it
        lost.change(f"{path}.is_error")
        first = said[0]["text"] if said else None
        prefix = members.concat("Error: ", first if isinstance(first, Raw) else "")
        said = [*texts(prefix), *said[1:]]
    turn.results.append(
        {"role": "tool", "tool_call_id": call_id, "content": _plain(said) if said else ""}
    )
