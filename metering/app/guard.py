"""What every request's head must be, whoever it is for: small, of one valid host, and clear.

Clear is what no two servers read in two ways: what they disagree on, here or behind us, is how a
request is smuggled in another. The parser refuses the rest of that.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from metering.errors import CallerFault, HeadTooLarge, InvalidRequest, MethodNotAllowed

HEADERS_MAX = 100
HEAD_BYTES_MAX = 32 * 1024
HEAD_S = 10.0
"""How long a request's head may take to come in. It is looked after every half of that."""
_METHODS = frozenset(method.encode() for method in MethodNotAllowed.allowed)
_HOST = re.compile(rb"(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::\d{0,5})?")
_ABSOLUTE = re.compile(rb"(?i:https?)://([^/?#]*)")


def check(
    method: bytes,
    url: bytes,
    version: str,
    headers: Sequence[tuple[bytes, bytes]],
    *,
    measure: bool,
) -> CallerFault | None:
    """What is wrong with a head; names are in lower case, `url` is the target as it came.

    `measure`: whether it may be too large, which those who read it know.
    """
    if method not in _METHODS or version != "1.1" or not url.startswith(b"/"):
        fault = _check_line(method, url, version)
        if fault is not None:
            return fault
    if len(headers) > HEADERS_MAX:
        return HeadTooLarge(f"the request has {len(headers)} headers; at most {HEADERS_MAX} pass")
    if measure and sum(len(name) + len(value) for name, value in headers) > HEAD_BYTES_MAX:
        return too_large()
    hosts: list[bytes] = []
    for name, value in headers:
        if name == b"host":
            hosts.append(value)
        elif name == b"transfer-encoding" and (value.lower() != b"chunked" or version == "1.0"):
            return InvalidRequest(
                "Header Transfer-Encoding is not `chunked`, or the request is not HTTP/1.1",
                code="invalid_transfer_encoding",
                field="Transfer-Encoding",
            )
    return _check_host(hosts, http_10=version == "1.0")


def _check_line(method: bytes, url: bytes, version: str) -> CallerFault | None:
    if method not in _METHODS:
        allowed = ", ".join(MethodNotAllowed.allowed)
        return MethodNotAllowed(f"{method.decode()} is not served here; {allowed} are")
    if version not in ("1.1", "1.0"):
        return InvalidRequest(f"HTTP/{version} is not spoken here", code="invalid_version")
    absolute = _ABSOLUTE.match(url)
    if not url.startswith(b"/") and not (absolute and _valid(absolute[1])):
        return InvalidRequest("the target is neither a path nor a valid URL", code="invalid_target")
    return None


def _check_host(hosts: list[bytes], *, http_10: bool) -> CallerFault | None:
    if len(hosts) == 1 and _valid(hosts[0]):
        return None
    if not hosts and http_10:
        return None
    problem = "is not a valid host" if len(hosts) == 1 else f"came {len(hosts)} times"
    return InvalidRequest(
        f"Header Host {problem}; send one, with the name of this service",
        code="invalid_host",
        field="Host",
    )


def named_by_target(url: bytes, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The headers of a request in the form for proxies: who it is for its target says, whatever
    its Host does (RFC 9112, 3.2.2)."""
    absolute = _ABSOLUTE.match(url)
    if absolute is None:
        return headers
    rest = [header for header in headers if header[0] != b"host"]
    return [(b"host", absolute[1]), *rest]


def unreadable() -> CallerFault:
    """The fault of bytes that are no HTTP."""
    return InvalidRequest("this is no valid HTTP/1.1 request", code="invalid_request")


def too_large() -> CallerFault:
    """The fault of a head, or a trailer, that is too large."""
    return HeadTooLarge(f"the request's headers are larger than {HEAD_BYTES_MAX} bytes")


@lru_cache(maxsize=256)
def _valid(host: bytes) -> bool:
    return len(host) <= 255 and _HOST.fullmatch(host) is not None
