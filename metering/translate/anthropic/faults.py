"""Anthropic's errors as OpenAI's clients read them."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from metering.translate import reading

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


class Fault(msgspec.Struct, frozen=True):
    """What went wrong."""

    message: str
    type: str
    code: str
    request_id: Raw | UnsetType = UNSET
    xproxy_result: Raw | UnsetType = UNSET


CUT = Fault(
    "the provider's stream was cut off before its end; the answer is not complete",
    "api_error",
    "stream_cut",
)
UNREADABLE = Fault(
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
        return _made(_fault(read, f"Anthropic answered {status}"))
    text = " ".join(body[: 4 * MESSAGE_MAX].decode(errors="replace").split())
    more = "..." if len(text) > MESSAGE_MAX else ""
    message = (
        f"Anthropic answered {status}: {text[:MESSAGE_MAX]}{more}"
        if text
        else (f"Anthropic answered {status} without a body")
    )
    return _made(Fault(message, kind, kind))


def said(data: bytes) -> Fault:
    """What an `error` event of a stream tells of."""
    read = reading.found(_decoder, data)
    return UNREADABLE if read is None else _fault(read, "the provider's stream failed")


def told(fault: Fault, result: Raw | UnsetType = UNSET) -> bytes:
    """A fault as the last event of OpenAI's; `result` if it brings none."""
    if fault.xproxy_result is UNSET and result is not UNSET:
        fault = msgspec.structs.replace(fault, xproxy_result=result)
    return b"data: " + _made(fault).replace(b"\n", b" ") + b"\n\n"


def _fault(read: _Answer, otherwise: str) -> Fault:
    """The provider's own type and words; `otherwise` where it has none."""
    words, kind = read.error.message or otherwise, read.error.type
    return Fault(words, kind, kind, read.request_id, read.xproxy_result)


def _made(fault: Fault) -> bytes:
    inner = {
        "message": fault.message,
        "type": fault.type,
        "param": None,
        "code": fault.code,
    }
    made = _Outer(inner, request_id=fault.request_id, xproxy_result=fault.xproxy_result)
    return reading.encode(made)
