"""Streams of a thing in pieces whose last event states the usage: images, speech, transcripts."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Raw

from metering.core.sse import EVENT_BYTES_MAX, Event
from metering.providers.answer import loose_raw, loose_str, read_object, said
from metering.providers.base import Usage
from metering.providers.holding import HoldingTap

AUDIO_BYTES_MAX = 8 << 20
"""How much delivered speech is kept for an estimate."""


class _Event(msgspec.Struct):
    type: str | None = None
    delta: str | None = None
    audio: str | None = None
    usage: Raw = Raw(b"")
    error: Raw = Raw(b"")


_decoder = msgspec.json.Decoder(_Event)


def _loose(value: dict[str, Any]) -> _Event:
    return _Event(
        type=loose_str(value.get("type")),
        delta=loose_str(value.get("delta")),
        usage=loose_raw(value.get("usage")),
        error=loose_raw(value.get("error")),
    )


class DoneTap(HoldingTap):
    """The tap of such a stream: its last final event carries the result."""

    def __init__(
        self,
        final: str,
        counts: Callable[[Raw], dict[str, int] | None],
        *,
        times: int = 1,
        counted: dict[str, int] | None = None,
        event_bytes_max: int = EVENT_BYTES_MAX,
    ) -> None:
        """`final` is how the type of a final event ends, `times` how many of them there will be,
        `counts` reads their usage, and `counted` is what each stands for beside it."""
        super().__init__(event_bytes_max)
        self._final = final
        self._read = counts
        self._times = times
        self._each = counted or {}
        self._seen = 0
        self._counts: dict[str, int] = {}
        self._unread = False
        self._audio = bytearray()

    def usage(self) -> Usage:
        """See `base.StreamTap`."""
        stated = None if self._unread or not self._seen else self._counts
        return Usage(
            counts=stated,
            counted={unit: count * self._seen for unit, count in self._each.items()},
            output_text="" if stated else self._text.getvalue(),
            output_audio=b"" if stated else bytes(self._audio),
            finished=self._finished,
            error=self._error,
        )

    def _take(self, event: Event) -> None:
        found = read_object(_decoder, event.data, _loose) if event.data else None
        if found is None:
            self._pass(event)
            return
        self._error = self._error or found.type == "error" or said(found.error)
        if found.delta:
            self._say(found.delta)
        if found.audio:
            self._hear(found.audio)
        if found.type is not None and found.type.endswith(self._final):
            self._take_final(event, found.usage)
        else:
            self._pass(event)

    def _take_final(self, event: Event, usage: Raw) -> None:
        counts = self._read(usage)
        self._unread = self._unread or counts is None
        for unit, count in (counts or {}).items():
            self._counts[unit] = self._counts.get(unit, 0) + count
        self._seen += 1
        self._finished = self.ready = self._seen >= self._times
        self._release()
        self._carry(event)

    def _hear(self, audio: str) -> None:
        if len(self._audio) < AUDIO_BYTES_MAX:
            try:
                self._audio += b64decode(audio, validate=True)
            except ValueError:  # no base64
                return

    def _hidden(self, event: Event) -> bool:  # noqa: ARG002
        return False
