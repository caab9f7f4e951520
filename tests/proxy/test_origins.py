"""Calls whose callers say where they go: who may, with whose key, and to what address."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from metering.upstream import EngineTransport, unreachable
from metering.upstream.connection import untrusted
from tests.hostile import REFUSED
from tests.proxy.rig import ASK, CHAT, MESSAGES, USAGE, Client, Rig, answer, completion

PUBLIC, OTHER = "93.184.215.14", "2606:4700::1111"
HEADER = "xProxy-Provider-BaseUri"
URI = "https://gateway.example.com/serving-endpoints"
OWN = "Bearer sk-callers-own"
MESSAGE = {"model": "claude-haiku-4-5", "max_tokens": 9, "messages": []}


@pytest.fixture
def named(rig: Rig) -> Rig:
    """A data plane whose name server knows one public host."""
    rig.names["gateway.example.com"] = [PUBLIC]
    return rig


async def chosen(rig: Rig, uri: str | bytes = URI, path: str = CHAT, **headers: str) -> Client:
    """A call to where its caller says, with the caller's own provider key."""
    text = uri if isinstance(uri, str) else uri.decode("latin-1")
    own = {"authorization": OWN} | {name.replace("_", "-"): it for name, it in headers.items()}
    sent = [(HEADER, text), *((name, value) for name, value in own.items() if value)]
    rig.answer = rig.answer if callable(rig.answer) else answer(completion())
    return await rig.call(Client(path, MESSAGE if path == MESSAGES else ASK, headers=sent))


def refusal(client: Client) -> tuple[int | None, str]:
    """Status and code of a fault that names the header."""
    error = client.json["xproxy_error"]
    assert HEADER in error["message"]
    return client.status, error["code"]


@pytest.mark.parametrize(
    ("uri", "path", "url"),
    [
        (URI, CHAT, URI + "/chat/completions"),
        (URI + "/", CHAT + "?a=%20b", URI + "/chat/completions?a=%20b"),
        ("https://gateway.example.com/v1", CHAT, "https://gateway.example.com/v1/chat/completions"),
        ("https://gateway.example.com", CHAT, "https://gateway.example.com/chat/completions"),
        ("https://gateway.example.com", MESSAGES, "https://gateway.example.com/v1/messages"),
        ("https://gateway.example.com/v1", MESSAGES, "https://gateway.example.com/v1/messages"),
        ("https://GATEWAY.example.com:443/a", MESSAGES, "https://gateway.example.com/a/v1/messages"),
    ],
)  # fmt: skip
async def test_what_a_base_uri_stands_for(named: Rig, uri: str, path: str, url: str) -> None:
    """For what the base URL of the SDK stands for: OpenAI's ends in /v1, Anthropic's before it."""
    await chosen(named, uri, path)

    [request] = named.requests
    assert str(request.url) == url
    assert request.headers["host"] == "gateway.example.com"
    assert request.headers["authorization"] == OWN
    assert "x-api-key" not in request.headers
    assert not [name for name in request.headers if name.startswith("xproxy")]
    assert request.extensions["addresses"] == (PUBLIC,)
    assert named.looked_up == ["gateway.example.com"]


async def test_the_row_names_the_host(named: Rig) -> None:
    """A call to a host of the caller's choice says so; others say nothing."""
    assert (await named.row(await chosen(named))).provider_host == "gateway.example.com"
    assert (await named.row(await named.post(answer(completion())))).provider_host is None


@pytest.mark.parametrize("uri", REFUSED, ids=ascii)
async def test_nothing_hostile_is_called(rig: Rig, uri: str) -> None:
    """400 that names the header; nothing is looked up, connected, held or recorded."""
    client = await chosen(rig, uri.encode())

    assert refusal(client) in [(400, "invalid_provider_uri"), (400, "invalid_provider_host")]
    assert not rig.requests
    assert not rig.looked_up
    assert not await rig.rows()


@pytest.mark.parametrize(
    "found",
    [
        ["127.0.0.1"],
        [PUBLIC, "10.0.0.1"],
        [OTHER, "::1"],
        ["169.254.169.254"],
        [],
        socket.gaierror(socket.EAI_NONAME, "unknown"),
    ],
)
async def test_a_name_is_as_good_as_its_worst_address(rig: Rig, found: Any) -> None:
    """One that has an address we do not call, or none: refused before anything is held."""
    rig.names["gateway.example.com"] = found
    client = await chosen(rig)

    assert refusal(client) == (400, "invalid_provider_host")
    assert not rig.requests
    assert not await rig.rows()


async def test_a_name_that_changes_its_address(rig: Rig) -> None:
    """The address that was judged is the one that is called: the name is looked up once."""
    rig.names["gateway.example.com"] = [PUBLIC]

    async def rebind(request: httpx.Request) -> httpx.Response:
        rig.names["gateway.example.com"] = ["127.0.0.1"]
        return answer(completion())

    rig.answer = rebind
    for _ in range(2):
        assert (await chosen(rig)).status == 200
    assert [it.extensions["addresses"] for it in rig.requests] == [(PUBLIC,), (PUBLIC,)]
    assert rig.looked_up == ["gateway.example.com"]


async def test_nobody_chooses_without_the_permission(named: Rig) -> None:
    """403 that names it; with it a key may."""
    for permissions, status in (((), 403), (("price_as",), 403), (("base_uri",), 200)):
        client = await chosen(named, xproxy_api_key=await named.key(*permissions))
        assert client.status == status
        assert status == 200 or "`base_uri`" in client.json["message"]
    assert len(named.requests) == 1


@pytest.mark.parametrize("path", [CHAT, MESSAGES])
async def test_a_stored_key_never_goes_there(named: Rig, path: str) -> None:
    """Without a key of the caller's own: 401 that says both ways out. Ours goes nowhere either."""
    for ours in ("", "Bearer {}", "{}"):
        key = await named.key("base_uri")
        client = await chosen(named, path=path, xproxy_api_key=key, authorization=ours.format(key))
        assert refusal(client) == (401, "provider_key_missing")
        assert "send the provider's own key" in client.json["message"]
        assert "leave xProxy-Provider-BaseUri out" in client.json["message"]
    assert not named.requests
    assert not named.looked_up

    assert (await chosen(named, xproxy_api_key=key, x_other=f"see {key}")).status == 200
    assert key not in str(named.requests[0].headers)


@pytest.mark.parametrize(
    ("path", "uri", "credential"),
    [
        (CHAT, "https://openai.test/v1", ("authorization", "Bearer sk-stored-openai")),
        (CHAT, "HTTPS://OpenAI.test:443/v1/", ("authorization", "Bearer sk-stored-openai")),
        (MESSAGES, "https://anthropic.test/", ("x-api-key", "sk-ant-stored")),
    ],
)
async def test_the_operators_own_base_url_is_no_choice(
    rig: Rig, path: str, uri: str, credential: tuple[str, str]
) -> None:
    """Named exactly, it is as if the header were not there: stored key, no permission, no look."""
    key = await rig.key()
    client = await chosen(rig, uri, path, xproxy_api_key=key, authorization="")

    assert client.status == 200 or client.json["statusCode"] == 502  # Anthropic's is no completion
    [request] = rig.requests
    assert request.headers[credential[0]] == credential[1]
    assert request.extensions["addresses"] is None
    assert not rig.looked_up


@pytest.mark.parametrize(
    "uri",
    ["https://openai.test", "https://openai.test/v1/x", "https://openai.test/V1",
     "https://anthropic.test", "https://openai.test.example.com/v1"],
)  # fmt: skip
async def test_what_is_nearly_the_operators_is_the_callers(rig: Rig, uri: str) -> None:
    """Another path, another provider's, a longer name: no stored key."""
    client = await chosen(rig, uri, authorization="")
    assert client.status == 401
    assert not rig.requests


async def test_an_operators_base_url_is_not_judged(make_rig: Callable[..., Rig]) -> None:
    """It may be what no caller could choose: plain, near, with a user."""
    rig = make_rig(openai_base_url="http://user@10.0.0.1:8000/v1")
    assert (await rig.post(answer(completion()))).status == 200
    assert (rig.requests[0].url.host, rig.requests[0].url.port) == ("10.0.0.1", 8000)
    assert (await chosen(rig, "http://user@10.0.0.1:8000/v1")).status == 400


async def test_a_list_of_hosts(make_rig: Callable[..., Rig]) -> None:
    """Where the operator lists hosts, there are no others."""
    rig = make_rig(provider_origins="*.example.com, other.com")
    rig.names |= {"gateway.example.com": [PUBLIC], "evil.com": [PUBLIC]}
    assert (await chosen(rig)).status == 200
    assert refusal(await chosen(rig, "https://evil.com")) == (400, "invalid_provider_host")
    assert len(rig.requests) == 1


async def test_a_certificate_that_is_wrong(named: Rig) -> None:
    """The caller's fault: 400 with Pay-i's code, nothing charged, nothing held."""

    async def provide(request: httpx.Request) -> httpx.Response:
        raise untrusted("gateway.example.com", "self-signed certificate")

    named.answer = provide
    client = await chosen(named)
    assert refusal(client) == (400, "invalid_provider_ssl_certificate")
    assert client.headers["x-should-retry"] == "false"
    row, charges = await named.record(client)
    assert (row.status, row.error_code, row.cost_pico, charges) == (
        "failed", "invalid_provider_ssl_certificate", 0, (),
    )  # fmt: skip
    named.answer = unreachable(sent=False)
    assert (await named.post(named.answer)).status == 502


async def test_a_redirect_is_the_answer(named: Rig) -> None:
    """It goes to the caller; nobody follows it."""

    async def provide(request: httpx.Request) -> httpx.Response:
        return answer(b"", 302, location="http://169.254.169.254/latest/meta-data")

    named.answer = provide
    assert (await chosen(named)).status == 302
    assert len(named.requests) == 1
    assert named.looked_up == ["gateway.example.com"]


async def test_a_host_restates_only_its_own_calls(named: Rig) -> None:
    """A response of the provider's cannot be said to have cost nothing by a caller's host."""
    responses = CHAT.replace("chat/completions", "responses")
    taken = {"id": "resp_1", "model": "gpt-4o", "status": "queued", "background": True}
    ended = taken | {"status": "completed", "usage": {"input_tokens": 1, "output_tokens": 1}}
    await named.post(
        httpx.Response(200, json=taken), {"model": "gpt-4o", "input": "Hi"}, path=responses
    )

    def look(*headers: tuple[str, str]) -> Client:
        named.answer = httpx.Response(200, json=ended)
        return Client(responses + "/resp_1", b"", method="GET", headers=headers)

    assert (await named.call(look((HEADER, URI), ("authorization", OWN)))).status == 200
    assert "late" not in [row.entry for row in await named.rows()]
    assert (await named.call(look())).status == 200
    assert "late" in [row.entry for row in await named.rows()]


@pytest.fixture
async def listener() -> AsyncIterator[tuple[int, list[str]]]:
    """A provider on all of 127.0.0.0/8, and which of its addresses were connected to."""
    reached: list[str] = []
    body = completion()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.append(writer.get_extra_info("sockname")[0])
        await reader.readuntil(b"}]}")
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
        writer.write(head + b"content-length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "0.0.0.0", 0)
    yield server.sockets[0].getsockname()[1], reached
    server.close()


@pytest.mark.parametrize("private", ["on", "off"])
async def test_the_judged_address_is_the_one_connected_to(
    make_rig: Callable[..., Rig], listener: tuple[int, list[str]], private: str
) -> None:
    """On real sockets: a name that moves after its look-up is called where it was; or not at all,
    where private addresses are not allowed."""
    port, reached = listener
    engine = EngineTransport(connect_s=2, idle_s=2)
    rig = make_rig(engine, allow_private_origins=private)
    rig.names["gateway.example.com"] = ["127.0.0.2"]
    client = await chosen(rig, f"http://gateway.example.com:{port}")
    rig.names["gateway.example.com"] = ["127.0.0.3"]
    again = await chosen(rig, f"http://gateway.example.com:{port}")

    if private == "on":
        assert client.json["usage"] == again.json["usage"] == USAGE
        assert reached == ["127.0.0.2", "127.0.0.2"]
        assert rig.looked_up == ["gateway.example.com"]
    else:
        assert (client.status, again.status, reached) == (400, 400, [])
    await engine.aclose()
