"""The providers' own words for an error, so that their SDKs read it, with our members after it."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from metering.surfaces.base import Problem, Shown

BUDGET_TYPE = "budget_exceeded"
ANTHROPIC_TYPES: Mapping[int, str] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "api_error",
    413: "request_too_large",
    429: "rate_limit_error",
}
OPENAI_TYPES: Mapping[int, str] = {
    403: "permission_error",
    408: "api_error",
    429: "rate_limit_error",
    502: "api_error",
    504: "api_error",
}
"""By status, where it is another than `invalid_request_error` or a fault of ours."""

_encode = msgspec.json.Encoder().encode


class _Named(msgspec.Struct):
    type: str
    message: str


class _AnthropicError(msgspec.Struct):
    type: str
    error: _Named
    xproxy_error: Problem
    xproxy_result: msgspec.Raw


class Coded(msgspec.Struct):
    """OpenAI's error."""

    type: str
    message: str
    param: str | None
    code: str | None


class _OpenAIError(msgspec.Struct):
    error: Coded
    xproxy_error: Problem
    xproxy_result: msgspec.Raw


def anthropic_body(shown: Shown) -> bytes:
    """An error of ours as Anthropic would word it."""
    error = _Named(_type(shown, ANTHROPIC_TYPES, "api_error"), shown.message)
    return _encode(_AnthropicError("error", error, shown.problem, shown.result))


def openai_error(shown: Shown) -> Coded:
    """An error of ours as OpenAI would word it."""
    kind = _type(shown, OPENAI_TYPES, "server_error")
    code = "rate_limit_exceeded" if kind == "rate_limit_error" else shown.problem.code
    return Coded(kind, shown.message, shown.field, code)


def openai_body(shown: Shown) -> bytes:
    """The same as a body."""
    return _encode(_OpenAIError(openai_error(shown), shown.problem, shown.result))


def _type(shown: Shown, types: Mapping[int, str], fault_of_ours: str) -> str:
    """What kind of error a provider would call this."""
    if shown.refused:
        return BUDGET_TYPE
    other = "invalid_request_error" if shown.status < 500 else fault_of_ours
    return types.get(shown.status, other)
