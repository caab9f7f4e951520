"""A message as a chat completion.

Text is joined, calls of the client's tools are `tool_calls`, and what else a message holds has no
place in OpenAI's form: beside it, where not `strict`, all blocks stand as they are.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from metering.translate import reading
from metering.translate.anthropic import faults
from metering.translate.anthropic.chat_stream import ChatStream
from metering.translate.anthropic.chat_usage import Used
from metering.translate.anthropic.finish import finish_reason, refusal
from metering.translate.base import Options

_NULL = Raw(b"null")


class _Citation(msgspec.Struct):
    url: str | None = None
    title: str | None = None


class _Block(msgspec.Struct):
    type: str = ""
    text: Raw = Raw(b"")
    citations: Raw = Raw(b"")
    thinking: Raw = Raw(b"")
    id: Raw = _NULL
    name: Raw = _NULL
    input: Raw = Raw(b"{}")


class _Message(msgspec.Struct):
    content: list[Raw]
    id: Raw = Raw(b'""')
    model: Raw = Raw(b'""')
    stop_reason: str | None = None
    stop_sequence: Raw = _NULL
    stop_details: Raw = _NULL
    usage: Raw = _NULL
    xproxy_result: Raw | UnsetType = UNSET


_message = msgspec.json.Decoder(_Message)
_block = msgspec.json.Decoder(_Block)
_citations = msgspec.json.Decoder(list[_Citation] | None)
_text: msgspec.json.Decoder[str] = msgspec.json.Decoder(str)


class ChatAnswers:
    """See `base.Answers`."""

    def __init__(self, options: Options, *, model: str, include_usage: bool, legacy: bool) -> None:
        """`legacy`: the client knows functions, not tools."""
        self._options = options
        self._model = model
        self._include_usage = include_usage
        self._legacy = legacy

    def whole(self, body: bytes) -> bytes | None:
        """See `base.Answers`."""
        read = reading.found(_message, body)
        if read is None:
            return None
        blocks = [block for raw in read.content if (block := reading.found(_block, raw))]
        used = Used()
        used.add(read.usage)
        choice = {
            "index": 0,
            "message": self._message(read, blocks),
            "logprobs": None,
            "finish_reason": finish_reason(read.stop_reason, legacy=self._legacy),
        }
        made: dict[str, Any] = {
            "id": read.id,
            "object": "chat.completion",
            "created": self._options.created_s,
            "model": read.model,
            "choices": [choice],
        }
        usage = used.told(strict=self._options.strict)
        if usage is not None:
            made["usage"] = usage
        if used.tier is not None:
            made["service_tier"] = used.tier
        if not self._options.strict:
            choice |= {"stop_reason": read.stop_reason, "stop_sequence": read.stop_sequence}
            made["provider"] = faults.PROVIDER
        if read.xproxy_result is not UNSET:
            made["xproxy_result"] = read.xproxy_result
        return reading.encode(made)

    def error(self, status: int, body: bytes) -> bytes:
        """See `base.Answers`."""
        return faults.error(status, body)

    def stream(self) -> ChatStream:
        """See `base.Answers`."""
        return ChatStream(
            self._options,
            model=self._model,
            include_usage=self._include_usage,
            legacy=self._legacy,
        )

    def _message(self, read: _Message, blocks: list[_Block]) -> dict[str, Any]:
        texts = [block for block in blocks if block.type == "text" and reading.is_text(block.text)]
        calls = [block for block in blocks if block.type == "tool_use"]
        made: dict[str, Any] = {
            "role": "assistant",
            "content": _joined([block.text for block in texts]),
            "refusal": refusal(read.stop_reason, read.stop_details),
        }
        annotations = _annotations(texts)
        if annotations:
            made["annotations"] = annotations
        if calls and self._legacy:
            made["function_call"] = _called(calls[0])
        elif calls:
            made["tool_calls"] = [
                {"id": call.id, "type": "function", "function": _called(call)} for call in calls
            ]
        if not self._options.strict:
            thoughts = [it.thinking for it in blocks if reading.is_text(it.thinking)]
            if thoughts:
                made["reasoning_content"] = _joined(thoughts)
            made["content_blocks"] = read.content
        return made


def _joined(texts: list[Raw]) -> Raw | None:
    """JSON strings one after the other, as one."""
    if len(texts) < 2:
        return texts[0] if texts else None
    return Raw(b'"' + b"".join(bytes(text)[1:-1] for text in texts) + b'"')


def _called(call: _Block) -> dict[str, Any]:
    return {"name": call.name, "arguments": bytes(call.input).decode(errors="replace")}


def _annotations(texts: list[_Block]) -> list[dict[str, Any]]:
    """The pages that texts cite, and which part of the whole does so."""
    made: list[dict[str, Any]] = []
    at = 0
    if not any(reading.is_list(block.citations) for block in texts):
        return made
    for block in texts:
        text = reading.found(_text, block.text)
        start, at = at, at + len(text or "")
        cited = reading.found(_citations, block.citations) if block.citations else None
        made += [
            {
                "type": "url_citation",
                "url_citation": {
                    "start_index": start,
                    "end_index": at,
                    "title": citation.title or "",
                    "url": citation.url,
                },
            }
            for citation in cited or []
            if citation.url
        ]
    return made
