"""The items of a response as they grow, and the events that tell of each step.

Texts are kept as the pieces of JSON strings that they came in. What a whole item is, and which
events it begins, goes on and ends with, stands here once: a whole answer is one whose events nobody
listens to.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import msgspec
from msgspec import Raw

from metering.translate import reading
from metering.translate.anthropic.responses_reasoning import sealed_redacted, sealed_thinking

Tell = Callable[[str, dict[str, Any]], None]
"""Takes an event: its type, and its members less the type and the number."""
_text = msgspec.json.Decoder(str)


class _Citation(msgspec.Struct):
    url: str | None = None
    title: str | None = None


class _Query(msgspec.Struct):
    query: str = ""


_citation = msgspec.json.Decoder(_Citation)
_query = msgspec.json.Decoder(_Query)


class Pieces:
    """A JSON string in pieces."""

    def __init__(self) -> None:
        self._inner: list[bytes] = []

    def add(self, piece: Raw) -> bool:
        """Takes the next one; False: it is no string, or says nothing."""
        inner = bytes(piece).strip()[1:-1] if reading.is_text(piece) else b""
        if inner:
            self._inner.append(inner)
        return bool(inner)

    def joined(self, since: int = 0, upto: int | None = None) -> Raw:
        """The string; or what came since a piece, up to another."""
        return Raw(b'"%b"' % b"".join(self._inner[since:upto]))

    def __len__(self) -> int:
        """How many pieces there are."""
        return len(self._inner)


class Item(ABC):
    """An item of the output."""

    prefix: ClassVar[str]
    """What its id begins with."""

    def __init__(self, tell: Tell, tail: str, at: int) -> None:
        """`tail`: what the ids of the answer end with; `at`: which of its items this is."""
        self._tell = tell
        self.id = f"{self.prefix}_{tail}_{at}"
        self._at = at

    @abstractmethod
    def made(self, status: str) -> dict[str, Any]:
        """The item, as far as it has come."""

    def open(self) -> None:
        """It begins."""
        self._tell("response.output_item.added", {"output_index": self._at, "item": self._new()})

    def close(self, status: str) -> dict[str, Any]:
        """It is over; gives all of it."""
        self._end()
        made = self.made(status)
        self._tell("response.output_item.done", {"output_index": self._at, "item": made})
        return made

    def _new(self) -> dict[str, Any]:
        return self.made("in_progress")

    @abstractmethod
    def _end(self) -> None:
        """Tells of what ends before the item does."""

    def _say(self, event: str, **members: Any) -> None:
        self._tell(f"response.{event}", {"item_id": self.id, "output_index": self._at, **members})


class Message(Item):
    """What the model says; texts that follow one another are one part."""

    prefix = "msg"
    name: ClassVar[str] = "text"
    """What the part has its text under."""
    kind: ClassVar[str] = "output_text"
    more: ClassVar[dict[str, Any]] = {"logprobs": []}
    """What its events have beside."""

    def __init__(self, tell: Tell, tail: str, at: int) -> None:
        super().__init__(tell, tail, at)
        self._pieces = Pieces()
        self._annotations: list[dict[str, Any]] = []
        self._cited: list[_Citation] = []
        self._begins = 0
        """The piece that the present block begins with."""
        self._counted = self._characters = 0
        """How many pieces have been counted, and their characters."""

    def made(self, status: str) -> dict[str, Any]:
        """See `Item`."""
        return {**self._whole([self._part()]), "status": status}

    def open(self) -> None:
        """See `Item`."""
        super().open()
        self._say("content_part.added", content_index=0, part=self._part())

    def say(self, text: Raw) -> None:
        """Takes a piece of the text."""
        if self._pieces.add(text):
            self._say(f"{self.kind}.delta", content_index=0, delta=text, **self.more)

    def cite(self, raw: Raw) -> None:
        """Takes what the present block cites; only pages have a place in an answer."""
        found = reading.found(_citation, raw)
        if found is not None and found.url:
            self._cited.append(found)

    def end_block(self) -> None:
        """The present block is over: it is what its citations are for."""
        if not self._cited:
            return
        start, end = self._characters_to(self._begins), self._characters_to(len(self._pieces))
        for cited in self._cited:
            note = {
                "type": "url_citation",
                "start_index": start,
                "end_index": end,
                "title": cited.title or "",
                "url": cited.url,
            }
            at = {"content_index": 0, "annotation_index": len(self._annotations)}
            self._annotations.append(note)
            self._say("output_text.annotation.added", **at, annotation=note)
        self._cited = []

    def begin_block(self) -> None:
        """A block begins."""
        self._begins = len(self._pieces)

    def _characters_to(self, upto: int) -> int:
        counted = reading.found(_text, self._pieces.joined(self._counted, upto))
        self._characters += len(counted or "")
        self._counted = upto
        return self._characters

    def _part(self) -> dict[str, Any]:
        notes = {"annotations": self._annotations, "logprobs": []} if self.more else {}
        return {"type": self.kind, **notes, self.name: self._pieces.joined()}

    def _whole(self, content: list[Any]) -> dict[str, Any]:
        return {"id": self.id, "type": "message", "role": "assistant", "content": content}

    def _new(self) -> dict[str, Any]:
        return {**self._whole([]), "status": "in_progress"}

    def _end(self) -> None:
        self.end_block()
        said = {self.name: self._pieces.joined(), **self.more}
        self._say(f"{self.kind}.done", content_index=0, **said)
        self._say("content_part.done", content_index=0, part=self._part())


class Refusal(Message):
    """Why the model does not answer."""

    name = "refusal"
    kind = "refusal"
    more: ClassVar[dict[str, Any]] = {}


class Reasoning(Item):
    """What the model has thought, sealed so that it can come back."""

    prefix = "rs"

    def __init__(self, tell: Tell, tail: str, at: int) -> None:
        super().__init__(tell, tail, at)
        self._pieces = Pieces()
        self._signature = Pieces()
        self._redacted: bytes | None = None

    def made(self, status: str) -> dict[str, Any]:
        """See `Item`."""
        made: dict[str, Any] = {
            "id": self.id,
            "type": "reasoning",
            "summary": [self._part()] if self._pieces else [],
        }
        if self._signature:
            thinking, signed = self._pieces.joined(), self._signature.joined()
            made["encrypted_content"] = sealed_thinking(bytes(thinking), bytes(signed))
        elif self._redacted is not None:
            made["encrypted_content"] = sealed_redacted(self._redacted)
        return {**made, "status": status}

    def think(self, text: Raw) -> None:
        """Takes a piece of the thinking."""
        if not self._pieces.add(text):
            return
        if len(self._pieces) == 1:
            empty = {"type": "summary_text", "text": ""}
            self._say("reasoning_summary_part.added", summary_index=0, part=empty)
        self._say("reasoning_summary_text.delta", summary_index=0, delta=text)

    def sign(self, signature: Raw) -> None:
        """Takes a piece of the signature, without which thinking cannot come back."""
        self._signature.add(signature)

    def redact(self, data: Raw) -> None:
        """Takes thinking that is encrypted."""
        if reading.is_text(data):
            self._redacted = bytes(data)

    def _part(self) -> dict[str, Any]:
        return {"type": "summary_text", "text": self._pieces.joined()}

    def _end(self) -> None:
        if self._pieces:
            text = self._pieces.joined()
            self._say("reasoning_summary_text.done", summary_index=0, text=text)
            self._say("reasoning_summary_part.done", summary_index=0, part=self._part())


class Call(Item):
    """A call of a function."""

    prefix = "fc"

    def __init__(self, tell: Tell, tail: str, at: int, call: Raw, name: Raw) -> None:
        super().__init__(tell, tail, at)
        self._call = call
        self._name = name
        self._arguments = Pieces()
        self._whole = False

    def made(self, status: str) -> dict[str, Any]:
        """See `Item`."""
        return {
            "id": self.id,
            "type": "function_call",
            "call_id": self._call,
            "name": self._name,
            "arguments": self._arguments.joined(),
            "status": status,
        }

    def whole(self, given: Raw) -> None:
        """Takes all arguments, as the JSON they are; an empty object may be only the beginning."""
        plain = bytes(given).strip()
        if plain not in {b"", b"{}", b"null"}:
            self.add(Raw(reading.encode(plain.decode(errors="replace"))))
            self._whole = True

    def add(self, piece: Raw) -> None:
        """Takes a piece of the arguments."""
        if not self._whole and self._arguments.add(piece):
            self._more(piece)

    def _more(self, piece: Raw) -> None:
        self._say("function_call_arguments.delta", delta=piece)

    def _end(self) -> None:
        if not self._arguments:
            self.add(Raw(b'"{}"'))
        self._done()

    def _done(self) -> None:
        self._say("function_call_arguments.done", arguments=self._arguments.joined())


class Search(Call):
    """A search of the web, by the provider."""

    prefix = "ws"

    def made(self, status: str) -> dict[str, Any]:
        """See `Item`."""
        inner = reading.found(_text, self._arguments.joined()) or "{}"
        asked = reading.found(_query, inner.encode(errors="replace"))
        query = asked.query if asked is not None else ""
        action = {"type": "search", "query": query, "queries": [query] if query else []}
        return {"id": self.id, "type": "web_search_call", "status": status, "action": action}

    def open(self) -> None:
        """See `Item`."""
        super().open()
        self._say("web_search_call.in_progress")
        self._say("web_search_call.searching")

    def _more(self, piece: Raw) -> None:
        pass

    def _done(self) -> None:
        self._say("web_search_call.completed")
