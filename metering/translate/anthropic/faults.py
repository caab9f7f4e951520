"""Anthropic's errors as OpenAI's clients read them."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from metering.translate.anthropic import reading

PROVIDER = "anthropic"
MESSAGE_MAX = 500
"""How much of an answer that is no JSON is passed on, in characters."""
_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
CUT = (
    "the provider's stream was cut off before its end; the answer is not complete",
    "api_error",
    "stream_cut",
)
UNREADABLE = (
    "the provider's stream could not be read any further; the answer is not complete",
    "api_error",
    "stream_unreadable",
)


class _Error(msgspec.Struct):
    type: str = "api_error"
    message: str = ""


class _Answer(msgspec.Struct):
    error: _Error
    request_id: Raw | UnsetType = UNSET
    xproxy_result: Raw | UnsetType = UNSET


class _Outer(msgspec.Struct):
    error: dict[str, Any]
    provider: str = PROVIDER
    request_id: Raw | UnsetType = UNSET
    xproxy_result: Raw | UnsetType = UNSET


_decoder = msgspec.json.Decoder(_Answer)


def error(status: int, body: bytes) -> bytes:
    """The body of an answer that is no 2xx: the provider's own type and words."""
    read = reading.found(_decoder, body)
    kind = _TYPES.get(status, "api_error")
    if read is not None:
        said = (
            read.error.message or f"Anthropic answered {status}",
            read.error.type,
            read.error.type,
        )
        return _made(said, read.request_id, read.xproxy_result)
    text = " ".join(body[: 4 * MESSAGE_MAX].decode(errors="replace").split())
    more = "..." if len(text) > MESSAGE_MAX else ""
    message = (
        f"Anthropic answered {status}: {text[:MESSAGE_MAX]}{more}"
        if text
        else (f"Anthropic answered {status} without a body")
    )
    return _made((message, kind, kind))


def event(data: bytes, result: Raw | UnsetType = UNSET) -> bytes:
    """An `error` event of a stream, as the last one of OpenAI's; `result` if it brings none."""
    read = reading.found(_decoder, data)
    if read is None:
        return told(UNREADABLE, result)
    said = (read.error.message or "the provider's stream failed", read.error.type, read.error.type)
    if read.xproxy_result is not UNSET:
        result = read.xproxy_result
    return _sse(_made(said, read.request_id, result))


def told(said: tuple[str, str, str], result: Raw | UnsetType = UNSET) -> bytes:
    """An error of ours, as the last event of OpenAI's: `message, type, code`."""
    return _sse(_made(said, result=result))


def _made(
    said: tuple[str, str, str],
    request_id: Raw | UnsetType = UNSET,
    result: Raw | UnsetType = UNSET,
) -> bytes:
    message, kind, code = said
    inner = {"message": message, "type": kind, "param": None, "code": code}
    return reading.encode(_Outer(inner, request_id=request_id, xproxy_result=result))


def _sse(body: bytes) -> bytes:
    return b"data: " + body.replace(b"\n", b" ") + b"\n\n"
