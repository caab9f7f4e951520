"""Base URIs, read and judged: what is called, and what nobody may have called."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from metering.core.origins import HEADER, Origin, Rules, is_public, parse
from metering.errors import InvalidRequest
from tests.hostile import REFUSED

ANY = Rules(private=True)
CODES = {"invalid_provider_uri", "invalid_provider_host"}


def judged(uri: str, rules: Rules | None = None) -> Origin:
    """An origin that may be called; raises InvalidRequest."""
    origin = parse(uri)
    (rules or Rules()).check(origin)
    return origin


@pytest.mark.parametrize("uri", REFUSED, ids=ascii)
def test_what_is_refused(uri: str) -> None:
    """Nothing of the corpus may be called; the fault names the header, in plain ASCII."""
    with pytest.raises(InvalidRequest) as caught:
        judged(uri)
    assert caught.value.code in CODES
    assert caught.value.field == HEADER
    assert HEADER in caught.value.message
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 300


def test_the_corpus_is_large() -> None:
    """At least 120 different ones, none twice."""
    assert len(REFUSED) == len(set(REFUSED)) >= 120


@pytest.mark.parametrize(
    ("uri", "url"),
    [
        ("https://api.openai.com/v1", "https://api.openai.com/v1"),
        ("https://my-resource.openai.azure.com/", "https://my-resource.openai.azure.com"),
        ("HTTPS://Api.OpenAI.com:443/V1//", "https://api.openai.com/V1"),
        ("https://dbc-1.cloud.databricks.com/serving-endpoints",
         "https://dbc-1.cloud.databricks.com/serving-endpoints"),
        ("https://x.services.ai.azure.com/anthropic/", "https://x.services.ai.azure.com/anthropic"),
        ("https://bücher.de", "https://xn--bcher-kva.de"),
        ("https://xn--bcher-kva.de", "https://xn--bcher-kva.de"),
        ("https://faß.de", "https://xn--fa-hia.de"),
        ("https://ａpi。openai．com", "https://api.openai.com"),  # noqa: RUF001
        ("https://my_host.example.com/a%20b/~c", "https://my_host.example.com/a%20b/~c"),
        ("https://8.8.8.8", "https://8.8.8.8"),
        ("https://8。8。8。8", "https://8.8.8.8"),
        ("https://[2606:4700::1111]/v1", "https://[2606:4700::1111]/v1"),
        ("https://1password.com", "https://1password.com"),
        ("https://0xdeadbeef.com", "https://0xdeadbeef.com"),
        ("https://metadata-api.com", "https://metadata-api.com"),
        ("https://127.0.0.1.nip.io", "https://127.0.0.1.nip.io"),  # its address is judged later
    ],
)  # fmt: skip
def test_what_is_called_in_its_one_spelling(uri: str, url: str) -> None:
    """Scheme and host in lower-case ASCII, no default port, no slash at the end; the path as is."""
    origin = judged(uri)
    assert origin.url == url
    assert parse(origin.url) == origin


@pytest.mark.parametrize(
    ("uri", "url"),
    [
        ("http://localhost:8000/v1", "http://localhost:8000/v1"),
        ("http://127.0.0.1", "http://127.0.0.1"),
        ("http://127.0.0.1:443", "http://127.0.0.1:443"),
        ("https://127.0.0.1:80", "https://127.0.0.1:80"),
        ("http://[::1]:11434", "http://[::1]:11434"),
        ("http://vllm", "http://vllm"),
        ("https://gateway.corp:8443/llm/", "https://gateway.corp:8443/llm"),
    ],
)
def test_what_an_operator_may_allow(uri: str, url: str) -> None:
    """Private addresses and names, plain http and any port; only where that is set."""
    assert judged(uri, ANY).url == url
    with pytest.raises(InvalidRequest):
        judged(uri)


@pytest.mark.parametrize(
    "uri", ["http://127.1", "http://2130706433", "http://u@10.0.0.1", "ftp://x"]
)
def test_odd_spellings_stay_refused(uri: str) -> None:
    """What is private may be allowed; what two parsers read in two ways may not."""
    with pytest.raises(InvalidRequest):
        judged(uri, ANY)


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("api.openai.com", True),
        ("a.openai.azure.com", True),
        ("a.b.openai.azure.com", True),
        ("openai.azure.com", False),
        ("evilopenai.azure.com", False),
        ("api.openai.com.evil.com", False),
        ("8.8.8.8", False),
    ],
)
def test_a_list_of_hosts_is_the_only_ones(host: str, allowed: bool) -> None:  # noqa: FBT001
    """A host is listed by its name, or below a suffix; the rest is refused, public or not."""
    for rules in (Rules(hosts=("api.openai.com", "*.openai.azure.com")),
                  Rules(private=True, hosts=("api.openai.com", "*.openai.azure.com"))):  # fmt: skip
        if allowed:
            assert judged(f"https://{host}", rules).host == host
        else:
            with pytest.raises(InvalidRequest, match="XPROXY_PROVIDER_ORIGINS"):
                judged(f"https://{host}", rules)


def test_a_listed_host_is_judged_all_the_same() -> None:
    """Listing a private host does not open it: that is the other setting's business."""
    with pytest.raises(InvalidRequest):
        judged("https://10.0.0.1", Rules(hosts=("10.0.0.1",)))


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("1.1.1.1", True),
        ("100.63.255.255", True),
        ("100.64.0.1", False),
        ("168.63.129.16", False),
        ("169.254.169.254", False),
        ("224.0.0.1", False),
        ("2606:4700::1111", True),
        ("2a00:1450::1", True),
        ("::ffff:8.8.8.8", True),
        ("::ffff:10.0.0.1", False),
        ("::8.8.8.8", False),
        ("64:ff9b::808:808", False),
        ("2002:808:808::1", False),
        ("2001::1", False),
        ("fec0::1", False),
        ("fe80::1%eth0", False),
        ("ff0e::1", False),
    ],
)
def test_addresses(address: str, public: bool) -> None:  # noqa: FBT001
    """Public is a host's own address on the public internet; what carries another one is not."""
    assert is_public(ip_address(address)) is public


PRIVATE = [
    ip_network(it)
    for it in ("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
               "172.16.0.0/12", "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/4", "240.0.0.0/4")
]  # fmt: skip


@given(st.integers(0, 2**32 - 1).map(IPv4Address))
@example(IPv4Address("0.0.0.0"))
@example(IPv4Address("255.255.255.255"))
def test_an_address_within_another_is_no_way_in(inner: IPv4Address) -> None:
    """No private block is public; mapped an address is as public as it is, otherwise never."""
    if any(inner in block for block in PRIVATE):
        assert not is_public(inner)
    number = int(inner)
    assert is_public(IPv6Address(0xFFFF << 32 | number)) is is_public(inner)
    for prefix, shift in (("::", 0), ("64:ff9b::", 0), ("64:ff9b:1::", 0), ("2002::", 80)):
        assert not is_public(IPv6Address(int(IPv6Address(prefix)) | number << shift))


@given(st.text(max_size=60))
@example("https://[::1]")
def test_whatever_comes_is_judged(text: str) -> None:
    """Any text is refused, or has one spelling that is read as the same place."""
    for uri in (text, "https://" + text, f"https://{text}.com/{text}", f"https://[{text}]"):
        try:
            origin = parse(uri)
        except InvalidRequest:
            continue
        assert parse(origin.url) == origin
        assert origin.url.isascii()
