"""Getting the lists: over https from their makers, else from packages, else not at all."""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from threading import Thread

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pricing import fetch as fetching
from pricing.fetch import SOURCES, Unreachable, fetch, get
from pricing.portkey import LISTS
from tests.pricing.lists import nowhere, wheels

LONG = 2_000


class _Site(BaseHTTPRequestHandler):
    """A site with a list, one that moved, one that moved to http, and one that is too long."""

    def do_GET(self) -> None:
        moved = {"/moved": "/list", "/insecure": f"http://{self.headers['Host']}/list"}
        if self.path in moved:
            self.send_response(302)
            self.send_header("Location", moved[self.path])
            self.end_headers()
            return
        self.send_response(404 if self.path == "/none" else 200)
        self.end_headers()
        self.wfile.write(b"x" * LONG if self.path == "/long" else b"the list")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, ssl.SSLContext]]:
    """(its https URL, a context that trusts it)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path_factory.mktemp("tls") / "site.pem"
    encoding = serialization.Encoding.PEM
    pem.write_bytes(
        key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(encoding)
    )
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(pem)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Site)
    server.socket = serving.wrap_socket(server.socket, server_side=True)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"https://127.0.0.1:{server.server_port}", ssl.create_default_context(cafile=str(pem))
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_list_is_read_over_https(site: tuple[str, ssl.SSLContext]) -> None:
    """Also where it has moved to, by https."""
    url, context = site
    assert get(f"{url}/list", context) == b"the list"
    assert get(f"{url}/moved", context) == b"the list"


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/insecure", "leads to http://"),
        ("/none", "HTTP Error 404"),
        ("/long", "is larger than 1000 bytes"),
    ],
)
def test_what_is_not_to_be_had_is_unreachable(
    path: str, reason: str, site: tuple[str, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A redirect to http, an error, an endless answer: none of them is a list."""
    url, context = site
    monkeypatch.setattr(fetching, "BYTES_MAX", LONG // 2)
    with pytest.raises(Unreachable, match=reason):
        get(url + path, context)


def test_only_https_is_spoken(site: tuple[str, ssl.SSLContext]) -> None:
    """Neither http nor a site whose certificate nobody vouches for."""
    with pytest.raises(Unreachable, match="is not https"):
        get(site[0].replace("https", "http"))
    with pytest.raises(Unreachable, match="certificate"):
        get(site[0])


def test_every_source_is_pinned_to_https() -> None:
    """The table of sources speaks of https and of one member of a package."""
    assert [source.name for source in SOURCES] == ["genai-prices", "litellm"]
    assert all(source.url.startswith("https://") for source in SOURCES)
    assert fetching.PORTKEY_URL.startswith("https://")


def test_the_makers_come_first() -> None:
    """What has a URL that answers is not downloaded as a package; its version is its content's."""

    def some(url: str) -> bytes:
        return nowhere(url) if url == SOURCES[1].url else url.encode()

    def download(directory: Path, packages: Iterable[str]) -> None:
        assert list(packages) == ["litellm"]
        (directory / "litellm-8.8-py3-none-any.whl").write_bytes(b"")
        raise Unreachable("the index is away")

    with pytest.raises(Unreachable, match="the index is away"):
        fetch(some, download)
    feeds, portkey = fetch(lambda url: url.encode(), download)
    assert [feed.content.decode() for feed in feeds] == [source.url for source in SOURCES]
    assert [len(feed.source.split(" ")[1]) for feed in feeds] == [12, 12]
    assert portkey.content.count(b"https://") == len(LISTS)


def test_packages_come_second() -> None:
    """Where no site answers, both lists are read out of their wheels, by the wheels' versions."""
    feeds, portkey = fetch(nowhere, wheels("code", {}))
    assert [(feed.source, feed.content) for feed in feeds] == [
        ("genai-prices 9.9", b"code"),
        ("litellm 8.8", b"{}"),
    ]
    assert portkey.name == "portkey-models"
    assert portkey.content == fetching.SNAPSHOT.read_bytes()
