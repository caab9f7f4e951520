"""The response object: what it says of the request, and of the message."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw

from metering.translate import reading
from metering.translate.anthropic.chat_usage import Used
from metering.translate.anthropic.finish import finish_reason

_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""Why a response is incomplete, by the reason that a chat would end with."""
_ECHOED: dict[str, Any] = {
    "instructions": None,
    "max_output_tokens": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "temperature": None,
    "tool_choice": "auto",
    "top_p": None,
    "truncation": "disabled",
    "user": None,
}
"""What a response repeats of the request, and what it says where that says nothing."""
_TEXT = {"format": {"type": "text"}}
_FUNCTION = {"parameters": None, "strict": False}
_text = msgspec.json.Decoder(str)


class Form:
    """What all objects of one response have in common."""

    def __init__(self, created_s: int, echo: dict[str, Any]) -> None:
        """`echo`: what it repeats of the request."""
        self._created_s = created_s
        self._echo = echo
        self.message_id = ""
        """The provider's id of the message, once it is known."""

    def name(self, message_id: Raw, model: Raw) -> None:
        """Takes the names that the provider gives."""
        self.message_id = reading.found(_text, message_id) or ""
        if reading.found(_text, model):
            self._echo = {**self._echo, "model": model}

    def made(
        self,
        status: str,
        output: list[dict[str, Any]],
        used: Used,
        *,
        reason: str | None = None,
        error: dict[str, str] | None = None,
    ) -> dict[str, Any]:
        """The response, such as it is now."""
        ended = status != "in_progress"
        made = {
            "id": self.message_id,
            "object": "response",
            "created_at": self._created_s,
            "status": status,
            "background": False,
            "error": error,
            "incomplete_details": None if reason is None else {"reason": reason},
            **self._echo,
            "output": output,
            "usage": _usage(used) if ended else None,
        }
        if used.tier is not None:
            made["service_tier"] = used.tier
        return made


def ending(stop_reason: str | None) -> tuple[str, str | None]:
    """The status of an answer that ended so, and why it is incomplete."""
    reason = _INCOMPLETE.get(finish_reason(stop_reason))
    return "completed" if reason is None else "incomplete", reason


def echo(fields: dict[str, Raw]) -> dict[str, Any]:
    """What a response repeats of a request that has been read."""
    made: dict[str, Any] = {
        name: _line(fields[name]) if name in fields else otherwise
        for name, otherwise in _ECHOED.items()
    }
    given = reading.members(fields["text"], "text") if "text" in fields else {}
    made["text"] = {**_TEXT, **{name: _line(raw) for name, raw in given.items()}}
    made["tools"] = []
    if "tools" in fields:
        made["tools"] = [_tool(tool) for tool in reading.objects(fields["tools"], "tools")]
    return {**made, "model": _line(fields["model"]), "previous_response_id": None, "store": False}


def _tool(tool: dict[str, Raw]) -> dict[str, Any]:
    said = {name: _line(raw) for name, raw in tool.items()}
    return said if bytes(said["type"]) != b'"function"' else {**_FUNCTION, **said}


def _line(raw: Raw) -> Raw:
    """JSON on one line, as events need it."""
    return Raw(bytes(raw).replace(b"\n", b" ").replace(b"\r", b" "))


def _usage(used: Used) -> dict[str, Any] | None:
    told = used.told(strict=True)
    if told is None:
        return None
    return {
        "input_tokens": told["prompt_tokens"],
        "input_tokens_details": told["prompt_tokens_details"],
        "output_tokens": told["completion_tokens"],
        "output_tokens_details": told.get("completion_tokens_details") or {"reasoning_tokens": 0},
        "total_tokens": told["total_tokens"],
    }
