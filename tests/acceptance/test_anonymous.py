"""`XPROXY_ANONYMOUS=loopback`: SDKs on this machine call with any key, nobody else does."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest

from metering.app.first import ANONYMOUS_KEY
from metering.core.keys import make_key
from tests.acceptance.conftest import PATIENT, STORED
from tests.acceptance.tenant import ANTHROPIC, CHAT, MESSAGES, OPENAI
from tests.acceptance.test_credentials import came_with
from tests.standin.process import Standin
from tests.standin.service import Service

BODY = {"model": "gpt-4o-mini", "messages": []}
HELLO: list[Any] = [{"role": "user", "content": "Hello."}]
ANYTHING = {"Authorization": "Bearer sk-anything"}
OWN_OPENAI = "sk-proj-" + "A1b2" * 20
OWN_ANTHROPIC = "sk-ant-api03-" + "A1b2" * 20
STORED_OPENAI, STORED_ANTHROPIC = STORED["OPENAI_API_KEY"], STORED["ANTHROPIC_API_KEY"]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, standin: Standin) -> Iterator[Service]:
    """A service that lets anybody on this machine in."""
    data_dir = tmp_path_factory.mktemp("anonymous") / "data"
    with Service(
        data_dir, standin.url, XPROXY_ANONYMOUS="loopback", **STORED, **PATIENT
    ) as service:
        yield service


@pytest.fixture(autouse=True)
def books(standin: Standin) -> None:
    """The stand-in has empty books."""
    standin.wait_idle()
    standin.reset()


def status(service: Service, **headers: str) -> int:
    """What a call with any key and these headers comes to; `_` stands for `-`."""
    sent = ANYTHING | {name.replace("_", "-"): value for name, value in headers.items()}
    return service.http.post(CHAT, json=BODY, headers=sent).status_code


def test_the_sdks_call_with_any_key(service: Service, standin: Standin) -> None:
    """As before keys are set up: a stored key goes upstream in place of what stands in the slot;
    the calls are one key's, and its limit's."""
    before = spent(service)
    with openai.OpenAI(base_url=service.url + OPENAI, api_key="sk-anything") as client:
        chat = client.chat.completions.create(model="gpt-4o-mini", messages=HELLO, max_tokens=9)
    with anthropic.Anthropic(base_url=service.url + ANTHROPIC, api_key="sk-anything") as claude:
        claude.messages.create(model="claude-haiku-4-5", messages=HELLO, max_tokens=9)
    with anthropic.Anthropic(base_url=service.url + ANTHROPIC, auth_token="anything") as claude:
        claude.messages.create(model="claude-haiku-4-5", messages=HELLO, max_tokens=9)

    first, *others = standin.ledger()
    assert came_with(first, "authorization", STORED_OPENAI)
    assert all(came_with(call, "x-api-key", STORED_ANTHROPIC) for call in others)
    assert set(chat.xproxy_result["limits"]) == {"anonymous"}  # type: ignore[attr-defined]
    assert spent(service) > before
    assert service.manage("GET", f"keys/{ANONYMOUS_KEY}")["name"] == "anonymous"


def spent(service: Service) -> Any:
    """What anonymous calls have cost."""
    limit = service.manage("GET", "limits/anonymous")["limit"]
    assert (limit["max"], limit["limit_type"], limit["hard_cap"]) == (5, "block", True)
    return limit["totals"]["cost"]["total"]["base"]


@pytest.mark.parametrize(
    ("path", "header", "own"),
    [
        (CHAT, "Authorization", OWN_OPENAI),
        (MESSAGES, "x-api-key", OWN_ANTHROPIC),
        (MESSAGES, "Authorization", OWN_ANTHROPIC),
    ],
)
def test_a_real_key_goes_upstream(
    service: Service, standin: Standin, path: str, header: str, own: str
) -> None:
    """What is long enough to be a provider's key is the caller's own, as it is beside one of
    ours: who brings one pays with it."""
    value = f"Bearer {own}" if header == "Authorization" else own
    model = "claude-haiku-4-5" if path == MESSAGES else "gpt-4o-mini"
    body = BODY | {"model": model, "max_tokens": 9}
    assert service.http.post(path, json=body, headers={header: value}).status_code == 200
    [call] = standin.ledger()
    assert came_with(call, header.lower(), own)


def test_some_key_has_to_be_shown(service: Service) -> None:
    """A page in a browser can send a request to this machine, but with a key it has to ask."""
    assert service.http.post(CHAT, json=BODY).status_code == 401
    assert service.http.post(CHAT, json=BODY, headers={"Authorization": ""}).status_code == 401


def test_a_key_of_ours_has_to_be_good(service: Service) -> None:
    """In our format it is taken for what it says it is, good or not; a good one is itself."""
    wrong = make_key("app", bytes(32))
    for headers in ({"Authorization": f"Bearer {wrong}"}, {"xProxy-Api-Key": wrong}):
        assert service.http.post(CHAT, json=BODY, headers=headers).status_code == 401
    assert status(service, xProxy_Api_Key=wrong) == 401
    assert status(service, xProxy_Api_Key="anything") == 200
    assert status(service, xProxy_Api_Key=service.admin_key) == 200
    good = service.application_key("good")
    assert status(service, xProxy_Api_Key=good) == 200


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:{port}", "127.0.0.1", "127.0.0.1:1", "[::1]", "[::1]:{port}"],
)
def test_names_of_this_machine(service: Service, host: str) -> None:
    """In any case, with any port."""
    assert status(service, Host=host.format(port=service.port)) == 200


@pytest.mark.parametrize(
    "headers",
    [
        *(
            {"Host": host}
            for host in (
                *("rebound.evil.example", "rebound.evil.example:{port}", "localhost.", "127.1"),
                *("localhost.:{port}", "127.0.0.1.nip.io", "localhost.evil.example", "0.0.0.0"),
                *("2130706433", "0x7f000001", "app.localhost", "[::]", "[::ffff:127.0.0.1]"),
            )
        ),
        {"Origin": "https://evil.example"},
        {"Origin": "http://localhost:{port}"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"X-Forwarded-For": "198.51.100.1"},
        {"X-Forwarded-For": "127.0.0.1"},
        {"x_forwarded_for": "127.0.0.1"},
        {"X-Forwarded-Host": "localhost"},
        {"X-Forwarded-Proto": "https"},
        {"X-Real-IP": "127.0.0.1"},
        {"Forwarded": "for=127.0.0.1"},
        {"Via": "1.1 proxy"},
        {"CF-Connecting-IP": "198.51.100.1"},
    ],
    ids=str,
)
def test_whoever_may_come_from_elsewhere_needs_a_key(
    service: Service, standin: Standin, headers: dict[str, str]
) -> None:
    """Rebound names, other spellings, pages, and what proxies and tunnels add: 401, no call."""
    sent = {name: value.format(port=service.port) for name, value in headers.items()}
    answer = service.http.post(CHAT, json=BODY, headers=ANYTHING | sent)
    assert answer.status_code == 401
    assert answer.json()["xproxy_error"]["code"] == "invalid_api_key"
    assert standin.ledger() == []


RAW = [
    (b"POST http://evil.example%(path)b HTTP/1.1", b"Host: localhost", 401),
    (b"POST http://evil.example:80%(path)b HTTP/1.1", b"Host: localhost", 401),
    (b"POST http://localhost%(path)b HTTP/1.1", b"Host: evil.example", 200),
    (b"POST %(path)b HTTP/1.0", b"X-Nothing: x", 401),
    (b"POST %(path)b HTTP/1.1", b"Host: localhost\r\nHost: localhost", 400),
    (b"POST %(path)b HTTP/1.1", b"Host: localhost\r\nHost: evil.example", 400),
    (b"POST %(path)b HTTP/1.1", b"Host : localhost", 400),
    (b"POST %(path)b HTTP/1.1", b"Host: evil.example\r\nX-Host: localhost", 401),
    (b"POST %(path)b HTTP/1.1", b"HOST: LocalHost", 200),
]


@pytest.mark.parametrize(("line", "head", "expected"), RAW)
def test_what_no_client_would_send(
    service: Service, line: bytes, head: bytes, expected: int
) -> None:
    """The form for proxies names whom it is for, whatever Host says; Host comes once."""
    body = b'{"model": "gpt-4o-mini", "messages": []}'
    lines = [
        line % {b"path": CHAT.encode()},
        head,
        b"Authorization: Bearer sk-anything",
        b"Content-Type: application/json",
        b"Content-Length: %d" % len(body),
        b"Connection: close",
    ]
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as peer:
        peer.sendall(b"\r\n".join((*lines, b"", body)))
        answer = b""
        while piece := peer.recv(65536):
            answer += piece
    assert int(answer.split()[1]) == expected


def test_nothing_but_calls(service: Service) -> None:
    """The management API knows no anonymous callers, and they choose neither prices nor hosts."""
    for path in ("limits", "usage", "keys", "budgets"):
        answer = service.http.get("/api/v1/" + path, headers=ANYTHING)
        assert answer.status_code == 401
    assert status(service, xProxy_PriceAs_Resource="gpt-4o") == 403
    assert status(service, xProxy_Provider_BaseUri="https://evil.example") == 403


def test_the_operator_can_end_it(service: Service) -> None:
    """What stands for anonymous callers is a key like others: blocked, it lets nobody in."""
    assert status(service) == 200
    service.manage("PATCH", f"keys/{ANONYMOUS_KEY}", {"blocked": True})
    assert status(service) == 401
    service.manage("PATCH", f"keys/{ANONYMOUS_KEY}", {"blocked": False})
    assert status(service) == 200
