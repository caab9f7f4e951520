"""Where a request comes from, and whether that is this machine alone."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from metering.core.addresses import Visitor, client_address, is_local, neighbourhood

TRUSTED = tuple(map(ip_network, ("10.0.0.0/8", "127.0.0.1", "fd00::/8")))


# peer, X-Forwarded-For (each header), the client
CLIENTS = [
    ("192.0.2.1", [], "192.0.2.1"),
    ("192.0.2.1", ["198.51.100.1"], "192.0.2.1"),  # nobody whom we trust says so
    ("10.0.0.1", [], "10.0.0.1"),
    ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
    ("::ffff:10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
    ("127.0.0.1", ["198.51.100.1:4711"], "198.51.100.1"),
    ("fd00::1", ["[2001:db8::1]:443"], "2001:db8::1"),
    ("10.0.0.1", ["2001:db8::1"], "2001:db8::1"),
    ("10.0.0.1", ["::ffff:198.51.100.1"], "198.51.100.1"),
    ("10.0.0.1", ["1.1.1.1, 198.51.100.1"], "198.51.100.1"),  # the left one is the client's word
    ("10.0.0.1", ["198.51.100.1, 10.0.0.2"], "198.51.100.1"),
    ("10.0.0.1", ["1.1.1.1", "198.51.100.1", "10.0.0.2"], "198.51.100.1"),
    ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
    ("10.0.0.1", ["198.51.100.1, garbage"], "10.0.0.1"),
    ("10.0.0.1", ["198.51.100.1, garbage, 10.0.0.2"], "10.0.0.2"),
    ("10.0.0.1", [""], "10.0.0.1"),
    ("10.0.0.1", ["1.1.1.1, " + "10.0.0.2, " * 40 + "10.0.0.2"], "10.0.0.2"),
    ("", ["198.51.100.1"], ""),
    ("/run/socket", [], "/run/socket"),
]


@pytest.mark.parametrize(("peer", "forwarded", "client"), CLIENTS)
def test_who_the_client_is(peer: str, forwarded: list[str], client: str) -> None:
    """What headers say counts from the right, as far as those who wrote them are trusted."""
    headers = [(b"host", b"x"), *((b"x-forwarded-for", it.encode()) for it in forwarded)]
    assert client_address(Visitor(peer, headers), TRUSTED) == client


def test_nobody_is_trusted_by_default() -> None:
    """Then the client is who has connected."""
    headers = [(b"x-forwarded-for", b"198.51.100.1")]
    assert client_address(Visitor("10.0.0.1", headers), ()) == "10.0.0.1"


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8:0:0:ffff::", "2001:db8::/64"),
        ("::1", "::/64"),
        ("", ""),
        ("/run/socket", "/run/socket"),
    ],
)
def test_what_is_one_client(address: str, network: str) -> None:
    """Who has an IPv6 address has 2^64 of them."""
    assert neighbourhood(address) == network


HERE = "127.0.0.1"
LOCAL = [
    (HERE, [("host", "localhost")]),
    (HERE, [("host", "localhost:8787")]),
    (HERE, [("host", "localhost:")]),
    (HERE, [("host", "LocalHost:8787")]),
    (HERE, [("host", "127.0.0.1:1")]),
    ("127.9.9.9", [("host", "127.0.0.1")]),
    ("::1", [("host", "[::1]:8787")]),
    ("::1", [("host", "[::1]")]),
    ("::ffff:127.0.0.1", [("host", "localhost")]),
    (HERE, [("host", "localhost"), ("user-agent", "x"), ("sec-fetch-mode", "cors")]),
]
NOT_LOCAL = [
    # somebody else
    ("192.0.2.1", [("host", "localhost")]),
    ("10.0.0.1", [("host", "127.0.0.1")]),
    ("::ffff:10.0.0.1", [("host", "localhost")]),
    ("0.0.0.0", [("host", "localhost")]),
    ("", [("host", "localhost")]),
    ("/run/socket", [("host", "localhost")]),
    # a name that somebody has made to mean this machine, or another spelling
    (HERE, []),
    (HERE, [("host", "")]),
    (HERE, [("host", "localhost"), ("host", "localhost")]),
    *(
        (HERE, [("host", host)])
        for host in (
            *("evil.example", "evil.example:8787", "localhost.", "localhost.:8787", "127.1"),
            *("127.0.0.1.nip.io", "localhost.evil.example", "app.localhost", "0.0.0.0", "0"),
            *("2130706433", "0x7f000001", "0177.0.0.1", "127.0.0.2", "127.0.0.1.", "[::]"),
            *("[::ffff:127.0.0.1]", "[0:0:0:0:0:0:0:1]", "::1", "localhost:8787:1", "[::1]x"),
            *(
                "localhost:x",
                "user@localhost",
                "localhost@evil.example",
                "localhost/",
                " localhost",
            ),
            *("192.168.0.1", "host.docker.internal", "127。0。0。1", "ⓛocalhost"),
        )
    ),
    # a page, or who forwards what others ask
    *(
        (HERE, [("host", "localhost"), (name, "x")])
        for name in (
            *(
                "origin",
                "sec-fetch-site",
                "forwarded",
                "via",
                "x-real-ip",
                "x-real_ip",
                "x_real_ip",
            ),
            *("x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded"),
            *("x_forwarded_for", "x-forwarded-", "x-client-ip", "client-ip", "true-client-ip"),
            *("cf-connecting-ip", "cdn-loop", "x-envoy-external-address", "tailscale-user-login"),
            *("x-cluster-client-ip", "fastly-client-ip", "x-originating-ip", "x-original-host"),
        )
    ),
    (HERE, [("host", "localhost"), ("origin", "http://localhost:8787")]),
    (HERE, [("host", "localhost"), ("origin", "null")]),
    (HERE, [("host", "localhost"), ("x-forwarded-for", "127.0.0.1")]),
]


def visitor(peer: str, headers: list[tuple[str, str]]) -> Visitor:
    """A request."""
    return Visitor(peer, [(name.encode(), value.encode()) for name, value in headers])


@pytest.mark.parametrize(("peer", "headers"), LOCAL)
def test_what_is_local(peer: str, headers: list[tuple[str, str]]) -> None:
    """A program on this machine that asks for this machine by one of three names, on any port."""
    assert is_local(visitor(peer, headers))


@pytest.mark.parametrize(("peer", "headers"), NOT_LOCAL)
def test_what_is_not_plainly_local_is_not(peer: str, headers: list[tuple[str, str]]) -> None:
    """Another peer, another spelling, or a trace of a page or a proxy."""
    assert not is_local(visitor(peer, headers))
