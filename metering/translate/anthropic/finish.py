"""Why an answer ended, in OpenAI's words."""

from __future__ import annotations

import msgspec
from msgspec import Raw

from metering.translate import reading

FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "compaction": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
}


def finish_reason(stop_reason: str | None, *, legacy: bool = False) -> str:
    """OpenAI's `finish_reason` of a `stop_reason`; what is not known has stopped."""
    found = FINISH_REASONS.get(stop_reason or "", "stop")
    return "function_call" if legacy and found == "tool_calls" else found


class _Details(msgspec.Struct):
    explanation: str | None = None


_details = msgspec.json.Decoder(_Details | None)


def refusal(stop_reason: str | None, details: Raw) -> str | None:
    """What is explained of a refusal, if anything is."""
    if stop_reason != "refusal":
        return None
    read = reading.found(_details, details)
    return read.explanation if read is not None else None
