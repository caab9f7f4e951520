"""Where a caller may send a call: `xProxy-Provider-BaseUri`, read and judged.

`parse` makes of a base URI one spelling that all parsers read alike, or refuses it; `Rules` says
whether that may be called; `is_public` judges each address that its name turns out to have. What
is refused names the header, the problem and what helps.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TypeVar

import idna
import msgspec

from metering.errors import InvalidRequest, XproxyError
from metering.settings import Settings

Fault = TypeVar("Fault", bound=XproxyError)
HEADER = "xProxy-Provider-BaseUri"
EXAMPLE = "https://my-resource.openai.azure.com"
URI_MAX = 1024
"""The longest base URI, in characters."""
HOST_MAX = 253
PORTS = {"https": 443, "http": 80}

_STRANGE = re.compile(r'[\x00-\x20\x7f-\xa0\\<>"^`{|}]|\s')
_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^?#]*)([?#].*)?")
_AUTHORITY = re.compile(r"(\[[^][]*\]|[^][:]*)(?::([0-9]{1,5}))?")
_PATH = re.compile(r"(/[A-Za-z0-9._~!$&'()*+,;=:@%-]*)*")
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMERIC = re.compile(r"[0-9]+|0x[0-9a-f]*")
"""The last label of what some resolver takes for an IPv4 address."""
_LOCAL = frozenset(
    {
        *("localhost", "local", "localdomain", "internal", "intranet", "private"),
        *("corp", "home", "lan", "svc", "arpa"),
    }
)
"""Last labels that the public DNS has no names under."""
_METADATA = frozenset({"metadata", "instance-data"})
"""First labels of the services that tell a cloud's machines their credentials."""
_PUBLIC_IPV6 = ip_network("2000::/3")
"""The only part of IPv6 that is given out: no NAT64, local, multicast or compatible ones."""
_SPECIAL = tuple(
    ip_network(block)
    for block in (
        "168.63.129.16/32",  # Azure's own services, as its machines see them
        "192.0.0.0/24",  # protocol assignments; Oracle's metadata
        "192.88.99.0/24",  # 6to4 relays
        "2001::/23",  # protocol assignments: Teredo, ORCHID
        "2002::/16",  # 6to4
        "3fff::/20",  # documentation
    )
)
"""What `ipaddress` counts as global and is nobody's host, or not the public's."""


class Origin(msgspec.Struct, frozen=True):
    """A base URI in its one spelling."""

    scheme: str
    host: str
    """ASCII, in lower case; an IPv6 address without its brackets."""
    port: int
    path: str = ""
    """What every path begins with; no slash at its end."""

    @property
    def address(self) -> IPv4Address | IPv6Address | None:
        """The host, where that is an address and not a name."""
        return _literal(self.host)

    @property
    def authority(self) -> str:
        """Host, and port where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"

    def shares_host(self, other: Origin) -> bool:
        """Whether it is the same scheme, host and port, whatever the paths."""
        return (self.scheme, self.host, self.port) == (other.scheme, other.host, other.port)

    @property
    def url(self) -> str:
        """The base URI itself."""
        return f"{self.scheme}://{self.authority}{self.path}"


class Rules(msgspec.Struct, frozen=True):
    """What the operator allows."""

    private: bool = False
    """Whether addresses and names that are not public, plain http and any port are fine."""
    hosts: tuple[str, ...] = ()
    """The only hosts that are; `*.suffix` for all below. Empty: any."""

    def check(self, origin: Origin) -> None:
        """Raises InvalidRequest for an origin that may not be called, as far as its URI tells."""
        if self.hosts and not any(_listed(origin.host, pattern) for pattern in self.hosts):
            problem = "is none that the operator lists in XPROXY_PROVIDER_ORIGINS"
            raise wrong_host(origin.host, problem)
        if self.private:
            return
        if origin.scheme != "https":
            raise _wrong_uri("must begin with https://: what is sent has a key in it")
        if origin.port != PORTS["https"]:
            raise _wrong_uri(f"names port {origin.port}; only 443 is called: leave it out")
        if origin.address is not None:
            if not is_public(origin.address):
                raise wrong_host(origin.host, f"is an address that {NOT_PUBLIC}")
        elif _is_local(origin.host):
            raise wrong_host(origin.host, "is a name of a private network; name a public host")


def rules_of(settings: Settings) -> Rules:
    """What the operator's settings allow."""
    return Rules(settings.allow_private_origins == "on", tuple(settings.provider_hosts()))


def operators(base_url: str) -> Origin | None:
    """An operator's base URL as a caller may spell it; None where that is none."""
    try:
        return parse(base_url)
    except InvalidRequest:
        return None


NOT_PUBLIC = "is not public, and the operator does not allow others"


def wrong_host(host: str, problem: str, *, should_retry: bool | None = None) -> InvalidRequest:
    """The fault of a host that cannot be called."""
    message = f"Header {HEADER}: the host {_quoted(host)} {problem}"
    return InvalidRequest(
        message, code="invalid_provider_host", field=HEADER, should_retry=should_retry
    )


def _wrong_uri(problem: str) -> InvalidRequest:
    return InvalidRequest(f"Header {HEADER} {problem}", code="invalid_provider_uri", field=HEADER)


def of_field(fault: Fault, field: str) -> Fault:
    """The same fault of a base URI that did not come in our header, but in another or in a member
    of a body."""
    if HEADER in fault.message:
        message = fault.message.replace(f"Header {HEADER}:", f"{field}:")
        message = message.replace(f"Header {HEADER}", field).replace(HEADER, field)
        fault.message, fault.field, fault.args = message, field, (message,)
    return fault


def _quoted(text: str) -> str:
    """A caller's text for a message: short, and in plain ASCII."""
    quoted = ascii(text)
    return quoted if len(quoted) <= 80 else quoted[:76] + "...'"


def parse(text: str) -> Origin:
    """A base URI in its one spelling; raises InvalidRequest `invalid_provider_uri` or `.._host`."""
    if len(text) > URI_MAX:
        raise _wrong_uri(f"is longer than {URI_MAX} characters")
    if strange := _STRANGE.search(text):
        raise _wrong_uri(f"contains the character {strange[0]!a}; remove it")
    match = _URI.fullmatch(text)
    if match is None or match[1].lower() not in PORTS:
        raise _wrong_uri(f"must be an absolute URI, such as {EXAMPLE}")
    scheme, authority, path, rest = match[1].lower(), match[2], match[3], match[4]
    if "@" in authority:
        raise _wrong_uri("names a user; send the provider's key in its usual header")
    if rest:
        raise _wrong_uri("has a query or fragment; a query belongs on the call itself")
    parts = _AUTHORITY.fullmatch(authority)
    port = int(parts[2] or PORTS[scheme]) if parts else 0
    if parts is None or not 1 <= port <= 65535:
        raise _wrong_uri(f"must name a host and at most a port after it, such as {EXAMPLE}")
    return Origin(scheme, _host(parts[1]), port, _path(path))


def _path(path: str) -> str:
    plain = path.lower().replace("%2e", ".").replace("%2f", "/")
    if not _PATH.fullmatch(path) or "%5c" in plain or {".", ".."} & set(plain.split("/")):
        raise _wrong_uri("has a path that is not plain: percent-encode it, without `.` and `..`")
    return path.rstrip("/")


def _host(text: str) -> str:
    if text.startswith("["):
        return _ipv6(text[1:-1])
    try:
        host = (text if text.isascii() else idna.encode(text, uts46=True).decode()).lower()
    except UnicodeError as error:  # idna's own is one
        raise wrong_host(text, f"is no domain name: {_quoted(str(error))}") from None
    if _NUMERIC.fullmatch(host.rstrip(".").rpartition(".")[2]):
        if not isinstance(_literal(host), IPv4Address):
            raise wrong_host(text, "looks like an address: write it as 192.0.2.1, or use a name")
        return host
    if len(host) > HOST_MAX or not all(map(_LABEL.fullmatch, host.split("."))):
        raise wrong_host(text, "is no domain name: letters, digits and -, dots between only")
    return host


def _ipv6(text: str) -> str:
    """An IPv6 address in the one spelling it has; without a zone, which is this machine's own."""
    address = _literal(text)
    if not isinstance(address, IPv6Address) or address.scope_id is not None:
        raise wrong_host(text, "is no IPv6 address")
    plain = str(address.ipv4_mapped or address)
    if text.lower() != plain:
        raise wrong_host(text, f"is an address in another spelling than its own, {plain}")
    return plain


def _literal(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _listed(host: str, pattern: str) -> bool:
    return host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern


def _is_local(host: str) -> bool:
    labels = host.split(".")
    return len(labels) == 1 or labels[-1] in _LOCAL or labels[0] in _METADATA


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address is a host's on the public internet, whatever way it is written."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if address not in _PUBLIC_IPV6:
            return False
    if not address.is_global or address.is_multicast:
        return False
    return not any(address in block for block in _SPECIAL)
