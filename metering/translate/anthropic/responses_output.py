"""A message's blocks as the items of a response, whole or bit by bit.

| block                   | becomes                                                              |
|-------------------------|----------------------------------------------------------------------|
| text                    | `output_text` of a message; those in a row are one                   |
| thinking                | a reasoning item: its text as a summary, and all of it sealed        |
| tool_use                | a `function_call`                                                    |
| server_tool_use         | a `web_search_call`, if it is a search                               |
| others                  | nothing: results of the provider's own tools                         |

An item is over when the next one begins, or the message ends: only then it is known whether it was
cut short.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import msgspec
from msgspec import Raw

from metering.translate import reading
from metering.translate.anthropic.chat_tools import WEB_SEARCH
from metering.translate.anthropic.message_stream import Block, Delta
from metering.translate.anthropic.responses_items import (
    Call,
    Item,
    Message,
    Reasoning,
    Refusal,
    Search,
    Tell,
)

_SEARCH = b'"%b"' % WEB_SEARCH.encode()
_list = msgspec.json.Decoder(list[Raw])


class Output:
    """The items so far."""

    def __init__(self, tell: Tell, message_id: str) -> None:
        """`message_id`: what the ids of the items are made of, so that they are always the same."""
        self._tell = tell
        self._tail = message_id.removeprefix("msg_")
        self._items: list[dict[str, Any]] = []
        self._open: Item | None = None
        self._index = -1
        """Of the block that is under way."""

    def begin(self, index: int, block: Block) -> None:
        """Takes a block, whole or its beginning."""
        self._index = index
        take = self._blocks.get(block.type)
        if take is not None:
            take(self, block)

    def go_on(self, index: int, delta: Delta) -> None:
        """Takes a piece of a block."""
        item = self._open
        if delta.type == "text_delta":
            self._message().say(delta.text)
        elif index != self._index:
            return
        elif delta.type == "citations_delta" and isinstance(item, Message):
            item.cite(delta.citation)
        elif delta.type == "thinking_delta" and isinstance(item, Reasoning):
            item.think(delta.thinking)
        elif delta.type == "signature_delta" and isinstance(item, Reasoning):
            item.sign(delta.signature)
        elif delta.type == "input_json_delta" and isinstance(item, Call):
            item.add(delta.partial_json)

    def end_block(self) -> None:
        """A block is over."""
        if isinstance(self._open, Message):
            self._open.end_block()
        self._index = -1

    def refuse(self, words: str) -> None:
        """Takes what the model says of why it does not answer."""
        item = Refusal(self._tell, self._tail, self._next())
        self._begin(item)
        item.say(Raw(reading.encode(words)))

    def end(self, status: str) -> list[dict[str, Any]]:
        """The message is over: all items, the last one of which has this status."""
        self._close(status)
        return self._items

    def cut(self) -> list[dict[str, Any]]:
        """What has come of a message that breaks off."""
        return self._items if self._open is None else [*self._items, self._open.made("incomplete")]

    def _next(self) -> int:
        """Closes the item that is open; which one the next is."""
        self._close("completed")
        return len(self._items)

    def _close(self, status: str) -> None:
        if self._open is not None:
            self._items.append(self._open.close(status))
            self._open = None

    def _begin(self, item: Item) -> None:
        self._open = item
        item.open()

    def _message(self) -> Message:
        """The message that goes on, or a new one."""
        if isinstance(self._open, Message):
            return self._open
        item = Message(self._tell, self._tail, self._next())
        self._begin(item)
        return item

    def _text(self, block: Block) -> None:
        item = self._message()
        item.begin_block()
        item.say(block.text)
        for citation in reading.found(_list, block.citations) or []:
            item.cite(citation)

    def _thinking(self, block: Block) -> None:
        item = Reasoning(self._tell, self._tail, self._next())
        self._begin(item)
        item.think(block.thinking)
        item.sign(block.signature)

    def _redacted(self, block: Block) -> None:
        item = Reasoning(self._tell, self._tail, self._next())
        self._begin(item)
        item.redact(block.data)

    def _use(self, block: Block) -> None:
        self._calls(Call(self._tell, self._tail, self._next(), block.id, block.name), block)

    def _server_use(self, block: Block) -> None:
        if bytes(block.name) == _SEARCH:
            self._calls(Search(self._tell, self._tail, self._next(), block.id, block.name), block)

    def _calls(self, item: Call, block: Block) -> None:
        self._begin(item)
        item.whole(block.input)

    def _searched(self, _: Block) -> None:
        if isinstance(self._open, Search):
            self._close("completed")

    _blocks: ClassVar[dict[str, Callable[[Output, Block], None]]] = {
        "text": _text,
        "thinking": _thinking,
        "redacted_thinking": _redacted,
        "tool_use": _use,
        "server_tool_use": _server_use,
        "web_search_tool_result": _searched,
    }
