"""LiteLLM's faults: `{"error": {"message", "type", "param", "code"}}`, `code` being the status."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from litestar import Response

NOUNS = ("key", "team", "user", "customer", "end_user", "budget", "spend", "global", "tag")
"""What its routes begin with."""
_TYPES = {
    400: "bad_request_error",
    401: "auth_error",
    403: "auth_error",
    404: "not_found_error",
    409: "bad_request_error",
    413: "bad_request_error",
    429: "throttling_error",
}
_PARAMS = {401: "key"}


def owns(path: str) -> bool:
    """Whether a path is one of LiteLLM's, so that its faults are."""
    return path.split("/", 2)[1:2] != [] and path.split("/", 2)[1] in NOUNS


def error(
    status: int, message: str, field: str | None = None, headers: Mapping[str, str] | None = None
) -> Response[Any]:
    """The answer of a fault."""
    if status == 401:
        message = f"Authentication Error, {message}"
    content = {
        "error": {
            "message": message,
            "type": _TYPES.get(status, "internal_server_error"),
            "param": field or _PARAMS.get(status),
            "code": str(status),
        }
    }
    return Response(
        content, status_code=status, headers=dict(headers or {}), media_type="application/json"
    )
