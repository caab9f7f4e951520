"""Embeddings: tokens in, vectors out, which cost nothing."""

from __future__ import annotations

import msgspec
from msgspec import Raw

from metering.core.reach import PLAIN, Reach
from metering.providers import request
from metering.providers.answer import Count, read_object, said
from metering.providers.base import Ask, StreamTap, Usage
from metering.providers.openai.chat import ChatTap


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: Count


class _Answer(msgspec.Struct):
    model: str | None = None
    usage: Raw = Raw(b"")
    error: Raw = Raw(b"")


_answer_decoder = msgspec.json.Decoder(_Answer)
_usage_decoder = msgspec.json.Decoder(_Usage)


class Embeddings:
    """`/v1/embeddings`; see `base.Form`."""

    def ask(self, body: bytes, content_type: bytes, named: str = "") -> Ask:  # noqa: ARG002
        """See `base.Form`."""
        fields = request.members(body)
        given = request.inputs(fields, "input")
        return Ask(
            model=request.model(fields, named),
            max_output_tokens=0,
            texts=given.texts,
            tokens=given.tokens,
            end_user=request.user(fields),
            body_bytes=len(body),
            changed_body=request.once(body, fields),
        )

    def reach(self, body: bytes, ask: Ask) -> Reach:  # noqa: ARG002
        """See `base.Form`. Its text is all there is."""
        return PLAIN

    def read(self, body: bytes, ask: Ask) -> Usage:  # noqa: ARG002
        """See `base.Form`."""
        answer = read_object(_answer_decoder, body)
        if answer is None:
            return Usage()
        return Usage(
            model=answer.model,
            counts=_counts(answer.usage),
            finished=True,
            error=said(answer.error),
        )

    def tap(self, ask: Ask) -> StreamTap:
        """See `base.Form`. OpenAI streams none; a host that does may do it as with chats."""
        return ChatTap(include_usage=ask.include_usage)


def _counts(raw: Raw) -> dict[str, int] | None:
    try:
        return {"input": _usage_decoder.decode(raw).prompt_tokens}
    except ValueError:
        return None
