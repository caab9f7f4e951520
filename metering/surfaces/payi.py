"""Pay-i's surface: its proxy paths, and its error grammar.

| body         | members                                                          |
|--------------|------------------------------------------------------------------|
| ApiError     | message, statusCode, xproxy_error {code, message}, xproxy_result |
| ProxyApiError| the same, of a refusal: xproxy_result names limits and states,   |
|              | xproxy_error has `limits`, the numbers of each that blocks       |
| provider's   | the provider's own members first, then those of ours it lacks    |

Our bodies have no member `error`: the provider's SDKs would show that alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from urllib.parse import unquote

import msgspec

from metering.core.limits import Refusal, Refused, Unit
from metering.core.result import digits, splice_json
from metering.core.windows import moment_text
from metering.errors import MethodNotAllowed, OurFault, RateLimited, XproxyError

PREFIX = "/api/v1/proxy/"
PROVIDERS: dict[str, tuple[str, str]] = {
    "openai/v1/": ("openai", "/v1/"),
    "anthropic/": ("anthropic", "/"),
    "azure.openai/": ("azure.openai", "/"),
    "azure.anthropic/": ("azure.anthropic", "/"),
}
"""What follows the prefix: which dialect it is, and what its path begins with."""
LIMIT_REACHED = "Insufficient limit for the requested operation"
BUDGET_REACHED = "Insufficient budget for the requested operation"
"""What it was to who calls limits budgets, and `not_enough_budget` its code."""
PROVIDER_ERROR = "The downstream provider returned an error."
PATH_REMEMBERED_MAX = 256
"""What longer paths mean is looked at anew each time: memory is bounded."""
FOREIGN_BODY_MAX = 16 * 1024
"""How much of a provider's error page is passed on, in bytes."""

Headers = list[tuple[bytes, bytes]]

_encode = msgspec.json.Encoder().encode
_members: Callable[[bytes], dict[str, msgspec.Raw]] = msgspec.json.Decoder(
    dict[str, msgspec.Raw]
).decode


def match(raw_path: bytes | str) -> tuple[str, str] | None:
    """(provider, its path) of a raw request path without query; None: not a path of this surface.

    Percent-encoding is kept. A path that climbs (`..`, encoded dots) matches nothing.
    """
    if len(raw_path) > PATH_REMEMBERED_MAX:
        return _match.__wrapped__(raw_path)
    return _match(raw_path)


@lru_cache(maxsize=1024)
def _match(raw_path: bytes | str) -> tuple[str, str] | None:
    path = raw_path.decode("latin-1") if isinstance(raw_path, bytes) else raw_path
    if path.startswith("//"):
        path = "/" + path.lstrip("/")
    if not path.startswith(PREFIX):
        return None
    rest = path[len(PREFIX) :]
    for prefix, (provider, base) in PROVIDERS.items():
        if rest.startswith(prefix) and len(rest) > len(prefix):
            upstream_path = base + rest[len(prefix) :]
            return None if _climbs(upstream_path) else (provider, upstream_path)
    return None


def _climbs(path: str) -> bool:
    if "." not in path and "%" not in path:
        return False
    if "%2e" in path.lower():
        return True
    parts = unquote(path).replace("\\", "/").split("/")
    return "." in parts or ".." in parts


def upstream_url(provider: str, base_url: str, path: str, query: bytes = b"") -> str:
    """The provider's URL of a path. OpenAI's base URL stands for everything up to `/v1`."""
    base = base_url.rstrip("/")
    if provider == "openai" or (base.endswith("/v1") and path.startswith("/v1/")):
        path = path.removeprefix("/v1")
    return base + path + ("?" + query.decode("latin-1") if query else "")


class _Why(msgspec.Struct, omit_defaults=True):
    limit_id: str
    unit: Unit
    max: msgspec.Raw
    settled: msgspec.Raw
    held: msgspec.Raw
    needed: msgspec.Raw
    holds: int
    final: bool
    resets_at: datetime | None = None


class _Error(msgspec.Struct, omit_defaults=True):
    code: str
    message: str
    limits: tuple[_Why, ...] = ()


class _ApiError(msgspec.Struct, omit_defaults=True):
    message: str
    statusCode: int  # noqa: N815 - the wire's name
    xproxy_error: _Error
    xproxy_result: msgspec.Raw | None = None


def error(
    fault: XproxyError, request_id: str, result: bytes | None = None
) -> tuple[int, Headers, bytes]:
    """Status, headers and body of a fault. `result` is its `xproxy_result`, by default its id."""
    if result is None:
        result = _encode({"request_id": request_id})
    problem = _Error(fault.code, fault.message)
    body = _ApiError(fault.message, fault.status, problem, msgspec.Raw(result))
    headers = _headers(request_id)
    if fault.should_retry is not None:
        headers.append((b"x-should-retry", b"true" if fault.should_retry else b"false"))
    if isinstance(fault, MethodNotAllowed):
        headers.append((b"allow", ", ".join(fault.allowed).encode()))
    if isinstance(fault, RateLimited):
        headers += [(name.encode(), value.encode()) for name, value in fault.headers]
    retry_after_s = fault.retry_after_s
    if retry_after_s is None and isinstance(fault, OurFault):
        retry_after_s = 1
    if retry_after_s is not None:
        headers.append((b"retry-after", str(retry_after_s).encode()))
    return fault.status, headers, _encode(body)


def _headers(request_id: str) -> Headers:
    return [(b"content-type", b"application/json"), (b"xproxy-request-id", request_id.encode())]


def refusal(
    refused: Refused, request_id: str, result: bytes, status: int = 400, *, budgets: bool = False
) -> tuple[int, Headers, bytes]:
    """Status, headers and body of a refusal by limits, or, as the first SDKs have it, `budgets`."""
    code, what = ("limit_reached", LIMIT_REACHED)
    if budgets:
        code, what = ("not_enough_budget", BUDGET_REACHED)
    problem = _Error(code, what, tuple(map(_why, refused.refusals)))
    body = _ApiError(f"{what}: {_reason(refused)}", status, problem, msgspec.Raw(result))
    headers = _headers(request_id)
    headers.append((b"x-should-retry", b"true" if refused.retryable else b"false"))
    if refused.retryable:
        headers.append((b"retry-after", str(max(1, refused.retry_after_s)).encode()))
    if refused.resets_at:
        headers.append(resets_header(refused.resets_at))
    return status, headers, _encode(body)


def _why(refusal: Refusal) -> _Why:
    """The numbers of a refusal: USD as plain decimals, other units as counts."""

    def amount(value: int) -> msgspec.Raw:
        return msgspec.Raw(digits(value) if refusal.unit == "usd" else str(value).encode())

    at_ms = refusal.resets_at_ms
    return _Why(
        limit_id=refusal.limit_id,
        unit=refusal.unit,
        max=amount(refusal.max),
        settled=amount(refusal.settled),
        held=amount(refusal.held),
        needed=amount(refusal.needed),
        holds=refusal.holds,
        final=refusal.final,
        resets_at=None if at_ms is None else datetime.fromtimestamp(at_ms // 1000, UTC),
    )


def resets_header(resets_at: Mapping[str, str]) -> tuple[bytes, bytes]:
    """When the windows of limits end: `team=2026-12-01T00:00:00Z`."""
    text = ",".join([f"{limit_id}={at}" for limit_id, at in resets_at.items()])
    return b"xproxy-resets-at", text.encode()


def _reason(refused: Refused) -> str:
    """Which limits refuse, and what helps."""
    names = ", ".join(f"'{limit_id}'" for limit_id in refused.blocked_limit_ids)
    if refused.until_ms is not None:
        until = moment_text(refused.until_ms)
        return f"limit {names} is used up until {until}; raise or reset it to go on before"
    if refused.retryable:
        return f"what is left of limit {names} is held by calls in flight; retry shortly"
    return f"limit {names} is used up; raise or reset it"


def provider_error(status: int, body: bytes, result: bytes) -> bytes:
    """A provider's error body with our members after its own; never in place of one of its own.

    A body that is no JSON object comes as the member `provider_response`.
    """
    ours = _provider_members(status, result)
    try:
        theirs = _members(body)
    except (ValueError, RecursionError):
        text = body[:FOREIGN_BODY_MAX].decode(errors="replace")
        return _encode({"provider_response": msgspec.Raw(_encode(text)), **ours})
    added = {name: value for name, value in ours.items() if name not in theirs}
    return splice_json(body, _encode(added)[1:-1]) or body if added else body


def _provider_members(status: int, result: bytes) -> dict[str, msgspec.Raw]:
    members = {
        "message": PROVIDER_ERROR,
        "statusCode": status,
        "xproxy_error": _Error("provider_error", PROVIDER_ERROR),
        "xproxy_result": msgspec.Raw(result),
    }
    return {name: msgspec.Raw(_encode(value)) for name, value in members.items()}
