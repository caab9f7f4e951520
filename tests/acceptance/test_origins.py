"""`xProxy-Provider-BaseUri` on the running service: nothing near is reached unless allowed."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import httpx
import pytest

from tests.acceptance.listeners import Listeners
from tests.acceptance.tenant import CHAT, Tenant, new_tenant
from tests.hostile import REFUSED
from tests.standin.process import Standin
from tests.standin.service import Service

BODY = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello."}]}
OWN = {"Authorization": "Bearer sk-callers-own"}
HEADER = "xProxy-Provider-BaseUri"
PLAIN = ["127.0.0.1", "127.0.0.2", "[::1]"]
NEAR = [
    *PLAIN,
    *("localhost", "localhost.", "127.0.0.1.", "0.0.0.0", "[::]", "127.1", "2130706433"),
    *("0x7f000001", "0177.0.0.1", "127。0。0。1", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]"),
    *("[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[::127.0.0.1]"),
]
"""What leads to this machine, in the spellings of various parsers."""


@pytest.fixture(scope="module")
def listeners() -> Iterator[Listeners]:
    """Sockets on this machine that count who connects."""
    with Listeners() as listeners:
        yield listeners


@pytest.fixture
def chooser(service: Service, standin: Standin) -> Tenant:
    """A tenant who may choose origins, with a limit."""
    standin.wait_idle()
    standin.reset()
    return new_tenant(service, "team", permissions=["base_uri"])


def choose(tenant: Tenant, uri: str, **headers: str) -> httpx.Response:
    """A call to where its caller says, under a limit, with a provider key of the caller's own."""
    sent = {"xProxy-Api-Key": tenant.key, "xProxy-Limit-IDs": "team"} | OWN | headers
    raw = [(name.encode(), value.encode()) for name, value in sent.items() if value]
    raw.append((HEADER.encode(), uri.encode()))
    return tenant.service.http.post(CHAT, json=BODY, headers=raw)


def near(port: int) -> list[str]:
    """URIs of a listener on this machine."""
    return [
        f"{scheme}://{host}{where}"
        for scheme in ("http", "https")
        for host in NEAR
        for where in (f":{port}/v1", "/v1")
    ]


def test_nothing_hostile_reaches_anything(
    chooser: Tenant, standin: Standin, listeners: Listeners
) -> None:
    """Hundreds of URIs: each a 400 that names the header, with no connection, hold or row."""
    uris = [*REFUSED, *near(listeners.port), *(uri + "/x" for uri in near(standin.port))]
    assert len(uris) >= 250
    for uri in uris:
        answer = choose(chooser, uri)
        error = answer.json()["xproxy_error"]
        assert answer.status_code == 400, uri
        assert error["code"] in {"invalid_provider_uri", "invalid_provider_host"}, uri
        assert HEADER in error["message"], uri
    assert listeners.connections == []
    assert standin.ledger() == []
    [budget] = chooser.manage("GET", "budgets")["items"]
    assert [budget[name] for name in ("spent", "held", "holds")] == [0, 0, 0]
    assert chooser.post(CHAT, BODY).status_code == 200
    assert len(chooser.rows(1)) == 1


def test_a_name_that_leads_here_is_refused_by_its_address(
    chooser: Tenant, listeners: Listeners
) -> None:
    """A name that does not exist, as much as one whose address is not public."""
    answer = choose(chooser, "https://no-such-provider.invalid")
    assert (answer.status_code, answer.json()["xproxy_error"]["code"]) == (
        400,
        "invalid_provider_host",
    )
    assert listeners.connections == []


def test_without_the_permission_nothing_is_chosen(tenant: Tenant, standin: Standin) -> None:
    """403 that names header and permission, whether the URI is fine or not."""
    tenant.limit("team")
    answer = choose(tenant, "https://api.openai.com")
    assert answer.status_code == 403
    assert HEADER in answer.json()["message"]
    assert "base_uri" in answer.json()["message"]
    assert standin.ledger() == []


def test_the_operators_base_url_is_no_choice(tenant: Tenant, standin: Standin) -> None:
    """Spelled exactly, it goes where it would go anyway: with the stored key, by any key."""
    tenant.limit("team")
    answer = choose(tenant, standin.openai_url, Authorization="")
    assert answer.status_code == 200, answer.text
    assert len(standin.ledger()) == 1


def test_allowed_the_same_uris_do_connect(
    open_service: Service, listeners: Listeners, standin: Standin
) -> None:
    """The control: with XPROXY_ALLOW_PRIVATE_ORIGINS=on the listeners are reached."""
    tenant = new_tenant(open_service, "team", permissions=["base_uri"])
    for host in PLAIN:
        choose(tenant, f"http://{host}:{listeners.port}")
    reached = set(listeners.connections)
    assert reached == {it for it in listeners.bound if it[1] == listeners.port}
    listeners.connections.clear()

    answer = choose(tenant, f"http://localhost:{standin.port}/v1")
    assert answer.status_code == 200, answer.text
    [row] = [row for row in tenant.rows(len(PLAIN) + 1) if row["status"] == "ok"]
    assert row["provider_host"] == f"localhost:{standin.port}"


def test_a_redirect_is_not_followed(open_service: Service, listeners: Listeners) -> None:
    """Where a provider points to is for the caller to see."""

    class Moved(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(302)
            self.send_header("Location", f"http://127.0.0.1:{listeners.port}/")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    listeners.connections.clear()
    tenant = new_tenant(open_service, "team", permissions=["base_uri"])
    with http.server.HTTPServer(("127.0.0.1", 0), Moved) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        answer = choose(tenant, f"http://127.0.0.1:{server.server_port}")
    assert answer.status_code == 302
    assert listeners.connections == []
