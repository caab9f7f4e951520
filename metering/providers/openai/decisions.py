"""Decisions: questions about an input, answered as numbers; billed in tokens as a response is."""

from __future__ import annotations

from metering.providers import request
from metering.providers.base import Ask
from metering.providers.openai.responses import Responses


class Decisions(Responses):
    """`/v1/decisions`, whose usage is a response's; see `base.Form`."""

    def ask(self, body: bytes, content_type: bytes, named: str = "") -> Ask:  # noqa: ARG002
        """See `base.Form`."""
        fields = request.members(body)
        return Ask(
            model=request.model(fields, named),
            texts=(
                *request.item_texts(fields.get("input")),
                *request.prompt_texts(fields, (), ("questions",)),
            ),
            body_bytes=len(body),
            changed_body=request.once(body, fields),
        )
