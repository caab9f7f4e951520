"""Containers for the code interpreter, made by themselves: billed by the session and the memory."""

from __future__ import annotations

import msgspec
from msgspec import Raw

from metering.core.reach import PLAIN, Reach
from metering.providers import request
from metering.providers.answer import read_object, said
from metering.providers.base import Ask, StreamTap, Usage
from metering.providers.openai.chat import ChatTap
from metering.providers.openai.tools import MEMORY, session
from pricing.catalogue import TOOLS


class _Container(msgspec.Struct):
    id: str | None = None
    memory_limit: str | None = None
    error: Raw = Raw(b"")


_decoder = msgspec.json.Decoder(_Container)


class Containers:
    """`/v1/containers`; see `base.Form`."""

    def ask(self, body: bytes, content_type: bytes, named: str = "") -> Ask:  # noqa: ARG002
        """See `base.Form`."""
        fields = request.members(body)
        return Ask(
            model=TOOLS,
            counted=session(request.word(fields, "memory_limit") or MEMORY),
            body_bytes=len(body),
            changed_body=request.once(body, fields),
        )

    def reach(self, body: bytes, ask: Ask) -> Reach:  # noqa: ARG002
        """See `base.Form`. Its text is all there is."""
        return PLAIN

    def read(self, body: bytes, ask: Ask) -> Usage:
        """See `base.Form`."""
        made = read_object(_decoder, body)
        if made is None:
            return Usage()
        stated = session(made.memory_limit) if made.memory_limit else ask.counted
        return Usage(provider_id=made.id, counted=stated, finished=True, error=said(made.error))

    def tap(self, ask: Ask) -> StreamTap:  # noqa: ARG002
        """See `base.Form`. There is none."""
        return ChatTap(include_usage=False)
