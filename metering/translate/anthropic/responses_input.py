"""The items of a responses request as a system prompt and turns.

| item                    | becomes                                                              |
|-------------------------|----------------------------------------------------------------------|
| message                 | as in a chat: system and developer, user, assistant                  |
| reasoning               | the thinking that we gave out in it; that of others is dropped       |
| function_call           | a `tool_use`, in one turn with what the assistant said before        |
| function_call_output    | a `tool_result`; those in a row are one turn of the user             |
| others of the provider  | dropped: its own tools' calls                                        |
| others of the client    | 400: without them the conversation would make no sense               |
"""

from __future__ import annotations

from typing import ClassVar

from msgspec import UNSET, Raw

from metering.errors import InvalidRequest
from metering.translate import reading
from metering.translate.anthropic import chat_parts
from metering.translate.anthropic.blocks import Content, Image, Made, ToolResult, Uploaded
from metering.translate.anthropic.chat_messages import use
from metering.translate.anthropic.chat_parts import cached, file_block, media_block, text_block
from metering.translate.anthropic.responses_reasoning import unsealed
from metering.translate.anthropic.turns import Turns
from metering.translate.reading import Lost, is_text, missing, wrong

_NONE = Raw(b"[]")
_AUTO = Raw(b'"auto"')
_POSSIBLE = "'input_text', 'input_image' or 'input_file': the models take no audio and no video"
_TEXTS = {
    "input_text": "text",
    "output_text": "text",
    "text": "text",
    "refusal": "refusal",
}
"""The parts that are text, and where it stands."""
_CACHED = frozenset({"type", "cache_control", "prompt_cache_breakpoint"})
_IMAGE = _CACHED | {"image_url", "file_id", "detail"}
_FILE = _CACHED | {"file_data", "file_url", "file_id", "filename", "detail"}
_ITEM = frozenset({"type", "id", "status"})
_MESSAGE = _ITEM | {"role", "content"}
_CALL = _ITEM | {"call_id", "name", "arguments", "cache_control"}
_OUTPUT = _ITEM | {"call_id", "output", "cache_control"}
_THEIRS = frozenset(
    {
        *("web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call"),
        *("mcp_list_tools", "mcp_call", "mcp_approval_request", "mcp_approval_response"),
        *("tool_search_call", "tool_search_output"),
    }
)
"""What OpenAI's own tools leave in a conversation: the answers tell what came of it."""


class Input(Turns):
    """The items so far."""

    def __init__(self, lost: Lost, *, late_system: bool) -> None:
        """See `Turns`."""
        super().__init__(lost, late_system=late_system)
        self._said: Content = []
        """The assistant's turn, as far as it has come."""
        self._thoughts: list[str] = []
        """The paths of the reasoning that it ends with."""

    def read(self, raw: Raw) -> None:
        """Takes the whole `input`."""
        if is_text(raw):
            self.say(raw)
        else:
            for index, item in enumerate(reading.objects(raw, "input")):
                self._add(item, f"input[{index}]")
        self._close()
        self.end("input")

    def _add(self, item: dict[str, Raw], path: str) -> None:
        kind = reading.text(item["type"], f"{path}.type") if "type" in item else "message"
        take = self._kinds.get(kind)
        if take is not None:
            take(self, item, path)
        elif kind in _THEIRS:
            self._lost.drop(path)
        else:
            raise wrong(f"{path}.type", f"one of {', '.join(self._kinds)}")

    def _close(self) -> None:
        """The assistant's turn is over. It cannot end with thinking."""
        if self._thoughts:
            del self._said[-len(self._thoughts) :]
            self._lost.drop(*self._thoughts)
            self._thoughts = []
        if self._said:
            self.answer(self._said)
            self._said = []

    def _message(self, item: dict[str, Raw], path: str) -> None:
        self._lost.unknown(item, _MESSAGE, path)
        for name in ("role", "content"):
            if name not in item:
                raise missing(f"{path}.{name}", "a message has a role and its content")
        role = reading.text(item["role"], f"{path}.role")
        content, place = item["content"], f"{path}.content"
        if role == "assistant":
            self._goes_on(chat_parts.content(content, place, self._lost, _part))
            return
        self._close()
        if role in {"system", "developer"}:
            self.instruct([*chat_parts.texts(content, place, self._lost, _part)], path)
        elif role == "user":
            plain = is_text(content)
            self.say(content if plain else chat_parts.content(content, place, self._lost, _part))
        else:
            raise wrong(f"{path}.role", "'user', 'assistant', 'system' or 'developer'")

    def _goes_on(self, found: Content) -> None:
        if found:
            self._said += found
            self._thoughts.clear()

    def _reasoning(self, item: dict[str, Raw], path: str) -> None:
        block = unsealed(item.get("encrypted_content"))
        if block is None:
            self._lost.drop(path)
        else:
            self._said.append(block)
            self._thoughts.append(path)

    def _call(self, item: dict[str, Raw], path: str) -> None:
        self._lost.unknown(item, _CALL, path)
        made = use(_call_id(item, path), item, path)
        made.cache_control = item.get("cache_control", UNSET)
        self._goes_on([made])

    def _output(self, item: dict[str, Raw], path: str) -> None:
        self._lost.unknown(item, _OUTPUT, path)
        if "output" not in item:
            raise missing(f"{path}.output", "it is what the function has answered")
        self._close()
        mark = cached(item, path, self._lost)
        made = ToolResult(_call_id(item, path), cache_control=mark)
        output = item["output"]
        if not is_text(output):
            self.result(made, chat_parts.content(output, f"{path}.output", self._lost, _part))
        else:
            self.result(made, output)

    def _reference(self, _: dict[str, Raw], path: str) -> None:
        raise InvalidRequest(
            f"Request field '{path}' refers to an item, and there are none stored for this model;"
            " send the item itself",
            code="invalid_request_field",
            field=path,
        )

    _kinds: ClassVar = {
        "message": _message,
        "function_call": _call,
        "function_call_output": _output,
        "reasoning": _reasoning,
        "item_reference": _reference,
    }


def _call_id(item: dict[str, Raw], path: str) -> Raw:
    if "call_id" not in item:
        raise missing(f"{path}.call_id", "it is the id that a call and its output share")
    if not is_text(item["call_id"]):
        raise wrong(f"{path}.call_id", "a string")
    return item["call_id"]


def _part(part: dict[str, Raw], path: str, lost: Lost) -> Made | None:
    """The block of a part."""
    if "type" not in part:
        raise missing(f"{path}.type", f"it is {_POSSIBLE}")
    kind = reading.text(part["type"], f"{path}.type")
    if kind in _TEXTS:
        for name in ("annotations", "logprobs"):
            if part.get(name) == _NONE:
                del part[name]
        return text_block(part, _TEXTS[kind], path, lost)
    if kind == "input_image":
        return _image(part, path, lost)
    if kind == "input_file":
        _detail(part, _FILE, path, lost)
        return file_block(part, path, cached(part, path, lost))
    raise wrong(f"{path}.type", _POSSIBLE)


def _image(part: dict[str, Raw], path: str, lost: Lost) -> Made:
    _detail(part, _IMAGE, path, lost)
    mark = cached(part, path, lost)
    if "image_url" in part:
        return media_block(part["image_url"], f"{path}.image_url", mark)
    if "file_id" not in part:
        raise missing(f"{path}.image_url", "or send file_id")
    if not is_text(part["file_id"]):
        raise wrong(f"{path}.file_id", "a string")
    return Image(Uploaded(part["file_id"]), cache_control=mark)


def _detail(part: dict[str, Raw], known: frozenset[str], path: str, lost: Lost) -> None:
    lost.unknown(part, known, path)
    if part.get("detail", _AUTO) != _AUTO:
        lost.drop(f"{path}.detail")
