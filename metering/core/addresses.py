"""Where a request comes from: its client's address, and whether that is this machine alone.

A header says who the client is only where the operator trusts the proxy that wrote it. Whether a
request is local is an allow-list: what is not plainly so, in peer, Host and all other headers, is
not, since a page in a browser of this machine, or a tunnel to it, may have sent it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import msgspec

Networks = tuple[IPv4Network | IPv6Network, ...]

HOPS_MAX = 32
"""Longer chains of proxies are not followed."""
IPV6_BITS = 64
"""One client has so long a prefix to itself, and any number of addresses in it."""
_LOCAL_HOSTS = frozenset({b"localhost", b"127.0.0.1", b"[::1]"})
_NOT_LOCAL = frozenset(
    {
        b"origin",
        b"sec-fetch-site",
        b"forwarded",
        b"via",
        b"client-ip",
        b"x-client-ip",
        b"x-cluster-client-ip",
        b"x-original-host",
        b"x-originating-ip",
        b"x-real-ip",
        b"true-client-ip",
        b"cf-connecting-ip",
        b"fastly-client-ip",
        b"cdn-loop",
    }
)
"""What a page in a browser sends, and what those who forward requests add."""
_NOT_LOCAL_PREFIXES = (b"x-forwarded", b"x-envoy-", b"tailscale-")


class Visitor(msgspec.Struct, frozen=True, gc=False):
    """Who asks: the address of the connection's other end, and the request's headers, names in
    lower case."""

    peer: str
    headers: Sequence[tuple[bytes, bytes]]


def client_address(visitor: Visitor, trusted: Networks) -> str:
    """The address of who asks: the peer, unless that is a proxy that is trusted; then what it, and
    those before it, say in `X-Forwarded-For`, from the right, up to one who is not."""
    address = _address(visitor.peer)
    if address is None or not trusted or not _in(address, trusted):
        return visitor.peer if address is None else str(address)
    for text in reversed(_hops(visitor.headers)):
        hop = _address(text)
        if hop is None:  # what is before it may be anybody's invention
            break
        address = hop
        if not _in(hop, trusted):
            break
    return str(address)


def _hops(headers: Sequence[tuple[bytes, bytes]]) -> list[str]:
    values = [value for name, value in headers if name == b"x-forwarded-for"]
    return b",".join(values).decode("latin-1").split(",")[-HOPS_MAX:] if values else []


def _in(address: IPv4Address | IPv6Address, networks: Networks) -> bool:
    return any(address in network for network in networks)


@lru_cache(maxsize=1024)
def _address(text: str) -> IPv4Address | IPv6Address | None:
    """An address as proxies write it, with a port or in brackets too; one of IPv4 in IPv6 is of
    IPv4. None: it is none."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def neighbourhood(address: str) -> str:
    """What is counted as one client: an address of IPv4, a network of IPv6."""
    found = _address(address)
    if not isinstance(found, IPv6Address):
        return address
    return str(ip_network((found, IPV6_BITS), strict=False))


def is_local(visitor: Visitor) -> bool:
    """Whether a request was made on this machine, by a program, for this service by name.

    The peer is a loopback address; the only Host is `localhost`, `127.0.0.1` or `[::1]`, with or
    without a port, which no other name can be made to be; and nothing says that a page or a proxy
    sent it: no Origin, no word of a browser's that another site asked, no header of a forwarder's.
    """
    peer = _address(visitor.peer)
    if peer is None or not peer.is_loopback:
        return False
    hosts = []
    for raw_name, value in visitor.headers:
        name = raw_name.replace(b"_", b"-")
        if name == b"host":
            hosts.append(value)
        elif name in _NOT_LOCAL or name.startswith(_NOT_LOCAL_PREFIXES):
            return False
    return len(hosts) == 1 and _host_name(hosts[0]) in _LOCAL_HOSTS


def _host_name(host: bytes) -> bytes:
    """The name in a Host header, less its port."""
    name, colon, port = host.rpartition(b":")
    if colon and not port.endswith(b"]"):
        return name.lower() if port.isdigit() or not port else b""
    return host.lower()
