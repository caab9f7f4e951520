"""What every request's head must be, whoever it is for: small, and of one valid host."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from metering.errors import CallerFault, HeadTooLarge, InvalidRequest

HEADERS_MAX = 100
HEAD_BYTES_MAX = 32 * 1024
HEAD_S = 10.0
"""How long a request's head may take to come in. It is looked after every half of that."""
_HOST = re.compile(rb"(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::\d{0,5})?")


def check(
    headers: Sequence[tuple[bytes, bytes]], *, http_10: bool, measure: bool
) -> CallerFault | None:
    """What is wrong with a head; names are in lower case.

    `measure`: whether it may be too large, which those who read it know.
    """
    if len(headers) > HEADERS_MAX:
        return HeadTooLarge(f"the request has {len(headers)} headers; at most {HEADERS_MAX} pass")
    if measure and sum(len(name) + len(value) for name, value in headers) > HEAD_BYTES_MAX:
        return too_large()
    hosts = [value for name, value in headers if name == b"host"]
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


def too_large() -> CallerFault:
    """The fault of a head that is too large."""
    return HeadTooLarge(f"the request's headers are larger than {HEAD_BYTES_MAX} bytes")


@lru_cache(maxsize=256)
def _valid(host: bytes) -> bool:
    return len(host) <= 255 and _HOST.fullmatch(host) is not None
