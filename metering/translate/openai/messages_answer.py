"""An answer of `/v1/chat/completions` as one of `/v1/messages`: whole, or the error it is."""

from __future__ import annotations

from msgspec import Raw

from metering.translate import reading
from metering.translate.base import Stream
from metering.translate.openai import completions
from metering.translate.openai.completions import Completion, Said
from metering.translate.openai.messages_stream import MessagesStream

_NO_TEXT = Raw(b'""')


class MessagesAnswers:
    """See `base.Answers`."""

    def whole(self, body: bytes) -> bytes | None:
        """See `base.Answers`."""
        answer = completions.read(body)
        if answer is None or not answer.choices or answer.choices[0].message is None:
            return None
        choice = answer.choices[0]
        said = answer.choices[0].message
        message = {
            "model": completions.text(answer.model) or _NO_TEXT,
            "id": completions.text(answer.id) or _NO_TEXT,
            "type": "message",
            "role": "assistant",
            "content": _blocks(said, answer),
            **completions.stop(
                choice.finish_reason,
                choice.stop_reason,
                called=bool(said.calls),
                refused=completions.text(said.refusal) is not None,
            ),
            "usage": completions.usage(answer.usage) | completions.tier(answer.service_tier),
        }
        return reading.encode(message)

    def error(self, status: int, body: bytes) -> bytes:
        """See `base.Answers`."""
        return reading.encode(completions.error(body, status))

    def stream(self) -> Stream:
        """See `base.Answers`."""
        return MessagesStream()


def _blocks(said: Said, answer: Completion) -> list[dict[str, object]]:
    """The content of a message, in the order in which models write it."""
    blocks: list[dict[str, object]] = []
    if (thought := said.thought) is not None:
        blocks.append({"type": "thinking", "thinking": thought, "signature": ""})
    texts = (completions.text(raw) for raw in (said.content, said.refusal))
    blocks += [{"type": "text", "text": text} for text in texts if text is not None]
    for number, call in enumerate(said.calls):
        name = completions.text(call.function.name) if call.function is not None else None
        block: dict[str, object] = {
            "type": "tool_use",
            "id": completions.call_id(call.id, answer.id, number),
            "name": name or _NO_TEXT,
            "input": completions.tool_input(call.function),
        }
        blocks.append(block)
    return blocks
