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

from collections.abc import Callable, Sequence
from typing import ClassVar

import msgspec

from metering.core.annotations import Annotations, annotate
from metering.core.result import splice_json
from metering.surfaces.base import Problem, Shown, Surface

PROXY = "/api/v1/proxy/"
PROVIDER_ERROR = "The downstream provider returned an error."
FOREIGN_BODY_MAX = 16 * 1024
"""How much of a provider's error page is passed on, in bytes."""

_encode = msgspec.json.Encoder().encode
_members: Callable[[bytes], dict[str, msgspec.Raw]] = msgspec.json.Decoder(
    dict[str, msgspec.Raw]
).decode


class _ApiError(msgspec.Struct):
    message: str
    statusCode: int  # noqa: N815 - the wire's name
    xproxy_error: Problem
    xproxy_result: msgspec.Raw


class Payi(Surface):
    """See `base.Surface`."""

    name = "payi"
    roots = (PROXY,)
    prefixes: ClassVar = {
        PROXY + "openai/v1/": ("openai", "/v1/"),
        PROXY + "anthropic/": ("anthropic", "/"),
        PROXY + "azure.openai/": ("azure.openai", "/"),
        PROXY + "azure.anthropic/": ("azure.anthropic", "/"),
    }

    def annotate(self, headers: Sequence[tuple[bytes, bytes]]) -> Annotations:
        """See `base.Surface`."""
        return annotate(headers)

    def body(self, shown: Shown) -> bytes:
        """See `base.Surface`."""
        return _encode(_ApiError(shown.message, shown.status, shown.problem, shown.result))

    def provider_error(self, status: int, body: bytes, result: bytes) -> bytes:
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
        "xproxy_error": Problem("provider_error", PROVIDER_ERROR),
        "xproxy_result": msgspec.Raw(result),
    }
    return {name: msgspec.Raw(_encode(value)) for name, value in members.items()}


PAYI = Payi()
