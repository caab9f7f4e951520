"""Faults of Portkey's admin API: `{"success": false, "data": {"message", "errorCode", ...}}`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from litestar import Response

from metering.api.portkey import ROOTS

NOUNS = ("virtual-keys",)
"""What its routes are about."""
_PATHS = tuple(f"{root}/{noun}" for root in ROOTS for noun in NOUNS)
_CODES = {
    401: "AB05",
    402: "AB09",
    403: "AB03",
    404: "AB08",
    409: "AB07",
    429: "AB06",
}
_INVALID, _OURS = "AB01", "AB04"


def owns(path: str) -> bool:
    """Whether a path is one of Portkey's, so that its faults are."""
    return any(path == it or path.startswith(it + "/") for it in _PATHS)


def error(
    status: int,
    message: str,
    *,
    code: str,
    field: str | None,
    headers: Mapping[str, str] | None,
    request_id: str,
) -> Response[Any]:
    """The answer of a fault; `code` is ours."""
    data = {
        "message": message,
        "errorCode": _CODES.get(status, _OURS if status >= 500 else _INVALID),
        "code": code,
        "request_id": request_id,
    }
    if field:
        data["field"] = field
    content = {"success": False, "data": data}
    return Response(
        content, status_code=status, headers=dict(headers or {}), media_type="application/json"
    )
