"""Every fault as an ApiError: `{message, statusCode, xproxy_error: {code, message}}`.

`code` is the contract, `message` is for people: it names the field and the remedy. Routes of
LiteLLM's and of Portkey's have their grammars (`litellm.grammar`, `portkey.grammar`); the list of
models has OpenAI's, whose SDK asks for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, MethodNotAllowedException, NotFoundException

from metering.api.litellm import grammar as litellm
from metering.api.portkey import MODELS
from metering.api.portkey import grammar as portkey
from metering.errors import InvalidApiKey, InvalidRequest, OurFault, XproxyError
from metering.surfaces.base import Problem, Shown
from metering.surfaces.grammars import openai_body

_log = structlog.get_logger()
_CODES = {
    400: "request_processing_error",
    401: "invalid_api_key",
    403: "not_allowed",
    404: "not_found",
    405: "method_not_allowed",
    413: "request_too_large",
    415: "request_processing_error",
}


def api_error(
    status: int, code: str, message: str, headers: Mapping[str, str] | None = None
) -> Response[Any]:
    """The answer of a fault."""
    content = {
        "message": message,
        "statusCode": status,
        "xproxy_error": {"code": code, "message": message},
    }
    return Response(
        content, status_code=status, headers=dict(headers or {}), media_type="application/json"
    )


def _answer(
    request: Request[Any, Any, Any],
    status: int,
    code: str,
    message: str,
    *,
    field: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response[Any]:
    """A fault in the grammar of the route that was asked for."""
    path = request.scope["path"]
    if litellm.owns(path):
        return litellm.error(status, message, field, headers)
    request_id = str(request.scope["state"].get("request_id", ""))
    if path == MODELS:
        shown = Shown(
            status=status,
            message=message,
            field=field,
            problem=Problem(code, message),
            result=msgspec.Raw(msgspec.json.encode({"request_id": request_id})),
        )
        return Response(
            openai_body(shown),
            status_code=status,
            headers=dict(headers or {}),
            media_type="application/json",
        )
    if portkey.owns(path):
        return portkey.error(
            status, message, code=code, field=field, headers=headers, request_id=request_id
        )
    return api_error(status, code, message, headers)


def of_ours(request: Request[Any, Any, Any], fault: XproxyError) -> Response[Any]:
    """The answer of a fault from the project's own tree."""
    headers: dict[str, str] = {}
    retry_after_s = fault.retry_after_s
    if retry_after_s is None and isinstance(fault, OurFault):
        retry_after_s = 1
    if retry_after_s is not None:
        headers["Retry-After"] = str(retry_after_s)
    if fault.should_retry is not None:
        headers["x-should-retry"] = "true" if fault.should_retry else "false"
    if isinstance(fault, InvalidApiKey):
        headers["WWW-Authenticate"] = "Bearer"
    return _answer(
        request, fault.status, fault.code, fault.message, field=fault.field, headers=headers
    )


def of_litestar(request: Request[Any, Any, Any], fault: HTTPException) -> Response[Any]:
    """The answer of what the framework refuses: unknown routes, methods, malformed input."""
    status = fault.status_code
    if status >= 500:
        return unexpected(request, fault)
    code, field = _CODES.get(status, "request_processing_error"), None
    if isinstance(fault, NotFoundException):
        message = f"There is nothing at {request.scope['path']}; GET /schema lists the routes"
    elif isinstance(fault, MethodNotAllowedException):
        allowed = (fault.headers or {}).get("allow", "")
        message = f"{request.method} is not served here; this route takes {allowed}"
    else:
        code, message, field = _validation(code, fault)
    return _answer(request, status, code, message, field=field, headers=fault.headers)


def _validation(code: str, fault: HTTPException) -> tuple[str, str, str | None]:
    if not isinstance(fault.extra, list) or not fault.extra:
        return code, fault.detail, None
    parts = [_part(error) for error in fault.extra if isinstance(error, dict)]
    missing = any("required" in part for part in parts)
    field = next((it["key"] for it in fault.extra if isinstance(it, dict) and it.get("key")), None)
    return "required_field_missing" if missing else code, "; ".join(parts), field


def of_types(error: msgspec.ValidationError) -> InvalidRequest:
    """What a body is refused with that is not of its types: which member is not."""
    message, _, place = str(error).partition(" - at ")
    key = place.strip("`").removeprefix("$").removeprefix(".")
    part = _part({"message": message, "source": "body", "key": key})
    required = "required" in part
    field = message.rpartition("`")[0].rpartition("`")[2] if required and not key else key
    return InvalidRequest(part, code="required_field_missing" if required else None, field=field)


def _part(error: Mapping[str, Any]) -> str:
    message = str(error.get("message", "is not valid")).replace("`", "'")
    message = message.replace("'decimal'", "'number'").replace("decimal string", "number")
    key, source = error.get("key", ""), error.get("source", "")
    if key in ("data", ""):
        return f"{source}: {message}"
    return f"{'parameter' if source == 'query' else 'field'} {key} ({source}): {message}"


def unexpected(request: Request[Any, Any, Any], fault: Exception) -> Response[Any]:
    """The answer of a bug of ours: nothing about it leaves the house but the request id."""
    _log.error(
        "api_failed",
        method=request.method,
        route=request.scope.get("path_template"),  # what stands in its places may be a secret
        request_id=request.scope["state"].get("request_id"),
        exc_info=fault,
    )
    return _answer(request, 500, "unexpected_error", str(XproxyError()))
