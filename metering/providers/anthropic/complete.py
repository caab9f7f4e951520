"""Text completions, before there were messages: nothing is stated, everything is counted."""

from __future__ import annotations

from typing import Any

import msgspec

from metering.core.reach import PLAIN, Reach
from metering.core.sse import Event
from metering.providers import request
from metering.providers.answer import loose_str, read_object
from metering.providers.base import Ask, StreamTap, Usage
from metering.providers.holding import HoldingTap


class _Completion(msgspec.Struct):
    id: str | None = None
    type: str | None = None
    model: str | None = None
    completion: str | None = None
    stop_reason: str | None = None


_decoder = msgspec.json.Decoder(_Completion)


def _loose(value: dict[str, Any]) -> _Completion:
    names = _Completion.__struct_fields__
    return _Completion(**{name: loose_str(value.get(name)) for name in names})


class Complete:
    """`/v1/complete`; see `base.Form`."""

    def ask(self, body: bytes, content_type: bytes, named: str = "") -> Ask:  # noqa: ARG002
        """See `base.Form`."""
        fields = request.members(body)
        return Ask(
            model=request.model(fields, named),
            stream=request.flag(fields, "stream"),
            max_output_tokens=request.count(fields, "max_tokens_to_sample"),
            texts=request.inputs(fields, "prompt").texts,
            end_user=request.metadata_user(fields),
            body_bytes=len(body),
            changed_body=request.once(body, fields),
        )

    def reach(self, body: bytes, ask: Ask) -> Reach:  # noqa: ARG002
        """See `base.Form`. Its text is all there is."""
        return PLAIN

    def read(self, body: bytes, ask: Ask) -> Usage:  # noqa: ARG002
        """See `base.Form`."""
        answer = read_object(_decoder, body, _loose)
        if answer is None:
            return Usage()
        return Usage(
            model=answer.model,
            provider_id=answer.id,
            output_text=answer.completion or "",
            finished=True,
            error=answer.type == "error",
        )

    def tap(self, ask: Ask) -> StreamTap:  # noqa: ARG002
        """See `base.Form`."""
        return CompleteTap()


class CompleteTap(HoldingTap):
    """The tap of a completion stream: the event with a `stop_reason` is the last one."""

    def __init__(self) -> None:
        super().__init__()
        self._id: str | None = None
        self._model: str | None = None

    def usage(self) -> Usage:
        """See `base.StreamTap`."""
        return Usage(
            model=self._model,
            provider_id=self._id,
            output_text=self._text.getvalue(),
            finished=self._finished,
            error=self._error,
        )

    def _take(self, event: Event) -> None:
        found = read_object(_decoder, event.data, _loose) if event.data else None
        if found is None:
            self._pass(event)
            return
        self._id, self._model = found.id or self._id, found.model or self._model
        self._error = self._error or found.type == "error"
        if found.completion:
            self._say(found.completion)
        if found.stop_reason:
            self._finished = self.ready = True
            self._carry(event)
        else:
            self._pass(event)

    def _hidden(self, event: Event) -> bool:  # noqa: ARG002
        return False
