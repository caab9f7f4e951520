"""From bytes on a socket to a provider call: what passes, what is refused, and by whom."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import httpx
import pytest
import uvicorn

from metering.app import guard
from metering.app.front import Front
from metering.app.worker import _Server
from metering.upstream import unreachable
from tests.builders import APPLICATION
from tests.proxy.rig import (
    ADMIN_KEY,
    ASK,
    CHAT,
    COST_PICO,
    STREAM,
    STREAMED,
    Client,
    Pieces,
    Rig,
    answer,
    completion,
    streamed,
    until,
)

PROXY = "/api/v1/proxy"
OURS = {"xproxy-request-id", "xproxy-cost", "x-litellm-call-id", "x-litellm-response-cost"}


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/proxy/",
        "/api/v1/proxy/openai",
        "/api/v1/proxy/openai/v1",
        "/api/v1/proxy/openai/v1/",
        "/api/v1/proxy/openaix/v1/chat/completions",
        "/api/v1/proxy/openai/v1x/chat/completions",
        "/api/v1/proxy/openai/v2/chat/completions",
        "/api/v1/proxy/OpenAI/v1/chat/completions",
        "/api/v1/proxy/openai%2Fv1/chat/completions",
        "/api/v1/proxy//openai/v1/chat/completions",
        "/api/v1/proxy/anthropic",
        "/api/v1/proxy/anthropicx/v1/messages",
        "/api/v1/proxy/openai/v1/../../anthropic/v1/messages",
        "/api/v1/proxy/openai/v1/./models",
        "/api/v1/proxy/openai/v1/%2e%2e/models",
        "/api/v1/proxy/openai/v1/%2E./models",
        "/api/v1/proxy/openai/v1/..%2fmodels",
        "/api/v1/proxy/openai/v1/..%5cmodels",
        "/api/v1/proxy/google.vertex/v1/models",
    ],
)
async def test_a_mistyped_path_is_a_404_of_ours(rig: Rig, path: str) -> None:
    """It never becomes a provider call, and the answer says whose 404 it is."""
    client = await rig.post(answer(completion()), path=path)

    assert client.status == 404
    assert client.json["xproxy_error"]["code"] == "not_found"
    assert client.request_id
    assert not rig.requests


@pytest.mark.parametrize(
    ("path", "url"),
    [
        (CHAT, "https://openai.test/v1/chat/completions"),
        ("/" + CHAT, "https://openai.test/v1/chat/completions"),
        (CHAT + "?a=b&c", "https://openai.test/v1/chat/completions?a=b&c"),
        (
            f"{PROXY}/anthropic/v1/messages?beta=true",
            "https://anthropic.test/v1/messages?beta=true",
        ),
    ],
)
async def test_where_calls_go(rig: Rig, path: str, url: str) -> None:
    """The path below the provider's prefix, and the query as it is; a doubled slash is forgiven."""
    await rig.post(answer(completion()), ASK | {"max_tokens": 9}, path)

    assert str(rig.requests[0].url) == url


async def test_what_the_provider_sees_of_a_request(rig: Rig) -> None:
    """The caller's own headers, less ours, the front proxy's and the connection's; no key."""
    await rig.post(
        answer(completion()),
        Authorization="Bearer sk-of-the-caller",
        User_Agent="sdk/1",
        X_Stainless_Lang="python",
        X_Stainless_Retry_Count="many",
        OpenAI_Beta="x=1",
        Accept_Encoding="gzip, br",
        Connection="keep-alive, X-Mine",
        X_Mine="hop",
        Cookie="a=b",
        X_Forwarded_For="10.0.0.1",
        Forwarded="for=10.0.0.1",
        Via="1.1 front",
        xProxy_User_ID="ann",
        xProxy_Forward_X_Extra="1",
        X_Portkey_Api_Key="pk",
        Expect="100-continue",
    )

    [request] = rig.requests
    assert dict(request.headers) == {
        "host": "openai.test",
        "content-length": str(len(json.dumps(ASK))),
        "content-type": "application/json",
        "authorization": "Bearer sk-of-the-caller",
        "user-agent": "sdk/1",
        "x-stainless-lang": "python",
        "x-stainless-retry-count": "many",
        "openai-beta": "x=1",
        "x-extra": "1",
        "accept-encoding": "identity",
    }
    assert ADMIN_KEY not in str(request.headers.raw)


async def test_what_the_caller_sees_of_an_answer(rig: Rig) -> None:
    """The provider's headers less its connection's and, of a stored key, its owner's."""
    theirs: dict[str, Any] = {
        "x_request_id": "req_1",
        "x_ratelimit_remaining_requests": "9",
        "openai_organization": "org-owner",
        "set_cookie": "__cf_bm=1",
        "server": "cloudflare",
        "alt_svc": "h3",
        "strict_transport_security": "max-age=1",
        "connection": "close, x-hop",
        "x_hop": "1",
        "access_control_allow_origin": "*",
        "xproxy_request_id": "forged",
        "etag": '"1"',
    }
    stored = await rig.post(answer(completion(), **theirs))
    brought = await rig.post(answer(completion(), **theirs), Authorization="Bearer sk-mine")
    stream = await rig.post(streamed(*STREAM), STREAMED)

    passed = {"content-type", "content-length", "x-request-id", "x-ratelimit-remaining-requests"}
    assert stored.headers.keys() == passed | OURS
    assert brought.headers.keys() == passed | OURS | {"openai-organization"}
    assert stored.headers["xproxy-request-id"] != "forged"
    assert stream.headers.keys() & OURS == {"xproxy-request-id", "x-litellm-call-id"}


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
async def test_what_is_not_metered_passes_as_it_is(rig: Rig, method: str) -> None:
    """Bytes, status, length and encoding are the provider's; the row says that it was free."""
    body = b"" if method == "HEAD" else b"\x00\xff" * 500
    rig.answer = answer(body, 206, "audio/mpeg", content_length="1000", content_encoding="x")
    client = await rig.call(Client(f"{PROXY}/openai/v1/files/f", b"", method=method))

    row = await rig.row(client)
    assert (rig.requests[0].method, rig.requests[0].content) == (method, b"")
    assert (client.status, client.body, client.complete) == (206, body, True)
    assert (client.headers["content-length"], client.headers["content-encoding"]) == ("1000", "x")
    assert (row.pricing, row.status, row.method, row.http_status) == ("free", "ok", method, 206)
    assert row.cost_pico == 0


async def test_errors_of_what_is_not_metered_pass_as_they_are(rig: Rig) -> None:
    """A 404 of the provider's own is not ours, and gets no members of ours."""
    rig.answer = answer(b'{"error":"gone"}', 404)
    client = await rig.call(Client(f"{PROXY}/openai/v1/files/f", b"", method="GET"))

    assert (client.status, client.body) == (404, b'{"error":"gone"}')


@pytest.mark.parametrize("parts", [[b"x" * 20_001], [b"x" * 10_001] * 2, [b"x" * 9_000] * 9])
async def test_too_large_a_body(rig: Rig, parts: list[bytes]) -> None:
    """It is refused before it fills memory; the answer names the setting."""
    client = await rig.call(Client(parts=parts, stalls=True))

    assert (client.status, client.json["xproxy_error"]["code"]) == (413, "request_too_large")
    assert "XPROXY_BODY_BYTES_MAX" in client.json["message"]
    assert not rig.requests


async def test_a_body_that_does_not_come(make_rig: Callable[..., Rig]) -> None:
    """The wait for the rest of a body has an end; the answer names the setting."""
    client = Client(parts=[b"{"], stalls=True)
    await make_rig(body_s=0.01).call(client)

    assert client.status == 400
    assert "did not arrive within 0.01 s; XPROXY_BODY_S raises" in client.json["message"]


async def test_one_key_takes_only_so_much(make_rig: Callable[..., Rig]) -> None:
    """Calls beyond its share are told to come back, and it is free again when the others end."""
    rig = make_rig(key_calls_max=2)
    go = asyncio.Event()

    async def wait(_: httpx.Request) -> httpx.Response:
        await go.wait()
        return answer(completion())

    rig.answer = wait
    first = [asyncio.create_task(rig.serve(Client())) for _ in range(2)]
    await until(lambda: len(rig.requests) == 2)
    third = Client()
    await rig.serve(third)
    go.set()
    await asyncio.gather(*first)
    fourth = await rig.call(Client())

    assert (third.status, fourth.status) == (429, 200)
    assert third.json["xproxy_error"]["code"] == "too_many_concurrent_requests"
    assert "XPROXY_KEY_CALLS_MAX" in third.json["message"]
    assert (third.headers["x-should-retry"], third.headers["retry-after"]) == ("true", "1")
    assert len(rig.requests) == 3


# Over a socket


@pytest.fixture
async def port(rig: Rig) -> AsyncIterator[int]:
    """The data plane behind the real server, as the service runs it."""
    sock = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        control,
        http=partial(Front, serve=rig.flow.begin),  # type: ignore[arg-type]
        lifespan="off",
        access_log=False,
        log_level="critical",
        server_header=False,
        proxy_headers=False,
        ws="none",
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[sock]))
    yield sock.getsockname()[1]
    server.should_exit = True
    await serving


async def control(scope: Any, receive: Any, send: Any) -> None:
    """A control plane that says what it was asked."""
    message = await receive()
    text = f"{scope['method']} {scope['path']} {len(message['body'])}".encode()
    headers = [(b"content-length", str(len(text)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text})


async def exchange(port: int, request: bytes) -> bytes:
    """All that comes back for these bytes, until the server or silence after an answer ends it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    found = b""
    try:
        async with asyncio.timeout(5):
            while piece := await asyncio.wait_for(reader.read(65_536), 0.4 if found else 4):
                found += piece
    except TimeoutError:
        pass
    writer.close()
    return found


@contextlib.asynccontextmanager
async def connected(
    port: int,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection that is closed whatever happens: the server waits for that."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()


def request(body: bytes, *headers: str, path: str = CHAT) -> bytes:
    """A request as it stands on the wire."""
    lines = (f"POST {path} HTTP/1.1", "host: x", f"xproxy-api-key: {ADMIN_KEY}", *headers)
    return "\r\n".join((*lines, "", "")).encode() + body


BODY = json.dumps(ASK).encode()
LENGTH = f"content-length: {len(BODY)}"
CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
HIDDEN = b"GET /api/v1/proxy/openai/v1/models HTTP/1.1\r\nhost: x\r\n\r\n"


@pytest.mark.parametrize(
    ("case", "sent"),
    [
        ("two lengths", request(BODY, LENGTH, "content-length: 5")),
        ("the same length twice", request(BODY, LENGTH, LENGTH)),
        ("length and chunked", request(CHUNKED, LENGTH, "transfer-encoding: chunked")),
        ("chunked and length", request(CHUNKED, "transfer-encoding: chunked", LENGTH)),
        ("a negative length", request(BODY, "content-length: -1")),
        ("a signed length", request(BODY, f"content-length: +{len(BODY)}")),
        ("a folded header", request(BODY, LENGTH, "x: a\r\n b: c")),
        ("blank before the colon", request(BODY, f"content-length : {len(BODY)}")),
        ("chunked is not last", request(CHUNKED, "transfer-encoding: chunked, identity")),
        ("a bad chunk size", request(b"0x5\r\n" + BODY, "transfer-encoding: chunked")),
        ("NUL in a header", request(BODY, LENGTH, "x-a: b\0c")),
        ("a bare CR", request(BODY, LENGTH, "x-a: b\rx-b: c")),
        ("HTTP/1.1 without a blank line", b"POST " + CHAT.encode() + b" HTTP/1.1\n" + HIDDEN),
    ],
)
async def test_ambiguous_requests(rig: Rig, port: int, case: str, sent: bytes) -> None:
    """What two parsers could read in two ways, the server refuses: no call, no second request."""
    rig.answer = answer(completion())
    found = await exchange(port, sent + HIDDEN)

    assert re.findall(rb"HTTP/1.1 (\d+)", found) == [b"400"], case
    assert not rig.requests, case


GRAMMARS = {
    CHAT: ["message", "statusCode", "xproxy_error", "xproxy_result"],
    "/openai/v1/chat/completions": ["error", "xproxy_error", "xproxy_result"],
    "/anthropic/v1/messages": ["type", "error", "xproxy_error", "xproxy_result"],
    "/openai/v1/../x": ["error", "xproxy_error", "xproxy_result"],
    "//anthropic/": ["type", "error", "xproxy_error", "xproxy_result"],
    "/neither": ["message", "statusCode", "xproxy_error", "xproxy_result"],
}


@pytest.mark.parametrize("path", GRAMMARS)
async def test_a_head_is_refused_in_the_grammar_of_its_path(rig: Rig, port: int, path: str) -> None:
    """Before anything else is known of a request: here it names two hosts."""
    found = await exchange(port, request(BODY, LENGTH, "host: y", path=path))
    head, _, body = found.partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 400 ")
    assert list(json.loads(body)) == GRAMMARS[path]


@pytest.mark.parametrize(
    "sent", [request(BODY, LENGTH), request(CHUNKED, "transfer-encoding: chunked")]
)
async def test_two_requests_on_one_connection(rig: Rig, port: int, sent: bytes) -> None:
    """Bodies end where they say: the next request is its own, and needs its own key."""
    rig.answer = answer(completion())
    found = await exchange(port, sent + HIDDEN)

    assert [it.content for it in rig.requests] == [BODY]
    assert re.findall(rb"HTTP/1.1 (\d+)", found) == [b"200", b"401"]


async def test_the_two_planes_share_a_connection(rig: Rig, port: int) -> None:
    """Requests that come together, for either, are answered in their order, each by its own."""
    rig.answer = answer(completion())
    ours = b"POST /api/v1/limits?a=b HTTP/1.1\r\nhost: x\r\nContent-Length: 3\r\n\r\nabc"
    call = request(BODY, LENGTH)
    found = await exchange(port, ours + call + ours + HIDDEN + call)

    statuses = [b"200", b"200", b"200", b"401", b"200"]
    assert re.findall(rb"HTTP/1.1 (\d+)", found) == statuses
    assert found.count(b"POST /api/v1/limits 3") == 2
    assert [it.content for it in rig.requests] == [BODY, BODY]


@pytest.mark.parametrize("target", [CHAT + "?a=b#c", f"http://x{CHAT}?a=b"])
async def test_targets_in_other_forms(rig: Rig, port: int, target: str) -> None:
    """With scheme and host, as to a proxy, or with a fragment: path and query are what counts."""
    rig.answer = answer(completion())
    found = await exchange(port, request(BODY, LENGTH, path=target))

    assert found.startswith(b"HTTP/1.1 200")
    assert str(rig.requests[0].url) == "https://openai.test/v1/chat/completions?a=b"


async def test_idle_connections_are_closed(
    rig: Rig, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once nothing has come for a while, not before: each answer starts the time anew."""
    monkeypatch.setattr(Front, "IDLE_S", 0.3)
    rig.answer = answer(completion())
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(4):
        writer.write(request(BODY, LENGTH))
        assert await reader.readuntil(b"}}}}")
        await asyncio.sleep(0.15)
    async with asyncio.timeout(2):
        assert await reader.read() == b""
    writer.close()
    assert len(rig.requests) == 4


async def test_a_call_is_not_idle(rig: Rig, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it takes, and even if it began to come before its predecessor's answer."""
    monkeypatch.setattr(Front, "IDLE_S", 0.2)
    call = request(BODY, LENGTH)
    async with connected(port) as (reader, writer):
        rig.answer = answer(completion())
        writer.write(call + call[:60])
        assert await reader.readuntil(b"}}}}")
        slow = asyncio.Event()
        rig.answer = answer(Pieces(slow, completion()))
        writer.write(call[60:])
        asyncio.get_running_loop().call_later(0.8, slow.set)
        async with asyncio.timeout(2):
            assert await reader.readuntil(b"}}}}")


LINE = f"POST {CHAT} HTTP/1.1"
KEY = f"xproxy-api-key: {ADMIN_KEY}"


@pytest.mark.parametrize("line", [LINE, "POST /api/v1/limits HTTP/1.1"])
@pytest.mark.parametrize(
    ("case", "headers", "status", "code"),
    [
        ("no host", [], 400, "invalid_host"),
        ("two hosts", ["host: a", "Host: a"], 400, "invalid_host"),
        ("an empty host", ["host:"], 400, "invalid_host"),
        ("a host with a path", ["host: a/b"], 400, "invalid_host"),
        ("a host with user info", ["host: a@b"], 400, "invalid_host"),
        ("a long host", ["host: " + "a" * 256], 400, "invalid_host"),
        ("many headers", ["host: x", *["a: b"] * 100], 431, "headers_too_large"),
        ("large headers", ["host: x", *["a: " + "b" * 9_000] * 4], 431, "headers_too_large"),
        ("does not end", ["host: x", "a: " + "b" * 66_000], 431, "headers_too_large"),
    ],
)
async def test_heads_that_are_refused(
    rig: Rig, port: int, line: str, case: str, headers: list[str], status: int, code: str
) -> None:
    """On either plane: the answer says what is wrong, and the connection ends with it."""
    rig.answer = answer(completion())
    sent = "\r\n".join((line, KEY, LENGTH, *headers, "", "")).encode() + BODY
    found = await exchange(port, sent.partition(b"\r\n\r\n")[0] if "end" in case else sent)

    assert re.findall(rb"HTTP/1.1 (\d+)", found) == [b"%d" % status], case
    assert json.loads(found.partition(b"\r\n\r\n")[2])["xproxy_error"]["code"] == code
    assert b"connection: close" in found
    assert ADMIN_KEY.encode() not in found
    assert not rig.requests


@pytest.mark.parametrize("host", ["x", "a.b-c_d:8787", "127.0.0.1:1", "[::1]:8787", "A.EXAMPLE."])
async def test_hosts_that_pass(rig: Rig, port: int, host: str) -> None:
    """Names and addresses, with a port or without; in HTTP/1.0 there need be none."""
    rig.answer = answer(completion())
    named = "\r\n".join((LINE, f"host: {host}", KEY, LENGTH, "", "")).encode() + BODY
    old = "\r\n".join((LINE.replace("1.1", "1.0"), KEY, LENGTH, "", "")).encode() + BODY

    assert (await exchange(port, named)).startswith(b"HTTP/1.1 200")
    assert (await exchange(port, old)).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("path", [CHAT, "/api/v1/limits"])
async def test_methods_nobody_forwards(rig: Rig, port: int, path: str) -> None:
    """No tunnels, and no echo that would show a caller the stored key."""
    for method in ("TRACE", "CONNECT", "PROPFIND"):
        sent = "\r\n".join((f"{method} {path} HTTP/1.1", "host: x", KEY, "", "")).encode()
        found = await exchange(port, sent + request(BODY, LENGTH))

        assert re.findall(rb"HTTP/1.1 (\d+)", found) == [b"405"], method
        assert b"allow: DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT\r\n" in found
    assert not rig.requests


UNCLEAR = [
    ("POST {} HTTP/2.0", LENGTH, "invalid_version"),
    ("POST {} HTTP/0.9", LENGTH, "invalid_version"),
    ("POST {}", LENGTH, "invalid_version"),
    ("POST http://{} HTTP/1.1", LENGTH, "invalid_target"),
    ("POST http://a@b{} HTTP/1.1", LENGTH, "invalid_target"),
    ("POST ftp://b{} HTTP/1.1", LENGTH, "invalid_target"),
    ("POST * HTTP/1.1", LENGTH, "invalid_target"),
    ("POST {} HTTP/1.1", "transfer-encoding: gzip, chunked", "invalid_transfer_encoding"),
    ("POST {} HTTP/1.1", "transfer-encoding: ,chunked", "invalid_transfer_encoding"),
    ("POST {} HTTP/1.0", "transfer-encoding: chunked", "invalid_transfer_encoding"),
    ("POST {} HTTP/1.1", "transfer-encoding: identity", "invalid_transfer_encoding"),
    ("POST {} HTTP/1.1", "content-length: +1", "invalid_request"),
]


@pytest.mark.parametrize("path", [CHAT, "/api/v1/limits"])
async def test_heads_that_are_not_clear(rig: Rig, port: int, path: str) -> None:
    """On either plane, in our grammar; nothing that follows is taken for a request."""
    for line, header, code in UNCLEAR:
        sent = "\r\n".join((line.format(path), "host: x", KEY, header, "", "")).encode()
        found = await exchange(port, sent + b"0\r\n\r\n" + request(BODY, LENGTH))

        assert re.findall(rb"HTTP/1.1 (\d+)", found) == [b"400"], (line, header)
        assert json.loads(found.partition(b"\r\n\r\n")[2])["xproxy_error"]["code"] == code
        assert b"connection: close" in found
    assert not rig.requests


async def test_a_target_the_control_plane_cannot_read(rig: Rig, port: int) -> None:
    """Its own reader of targets knows no such port; that is the caller's fault."""
    sent = b"GET http://b:99999/x HTTP/1.1\r\nhost: x\r\n\r\n"
    found = await exchange(port, sent + request(BODY, LENGTH))

    assert re.findall(rb"HTTP/1.1 (\d+)", found) == [b"400"]
    assert not rig.requests


BAD_CHUNK = request(b"5\r\nhello\n", "transfer-encoding: chunked")


@pytest.mark.parametrize(
    "bad",
    [
        f"{LINE}\r\n\r\n".encode(),
        b"\0\0\0\0",
        request(BODY, LENGTH, LENGTH),
        BAD_CHUNK,
        BAD_CHUNK.replace(CHAT.encode(), b"/api/v1/limits"),
    ],
)
async def test_a_fault_waits_its_turn(rig: Rig, port: int, bad: bytes) -> None:
    """It is answered after the call before it, whose answer it does not cut; the rest is not
    read, since nobody knows where a request would begin."""
    rig.answer = answer(completion())
    found = await exchange(port, request(BODY, LENGTH) + bad + request(BODY, LENGTH))
    alone = await exchange(port, bad + request(BODY, LENGTH))

    assert re.findall(rb"HTTP/1.1 (\d+)", found) == [b"200", b"400"]
    assert re.findall(rb"HTTP/1.1 (\d+)", alone) == [b"400"]
    assert len(rig.requests) == 1


async def test_one_answer_a_request(rig: Rig, port: int) -> None:
    """A body that goes bad after its request was answered ends the connection, silently."""
    async with connected(port) as (reader, writer):
        writer.write(BAD_CHUNK.replace(ADMIN_KEY.encode(), b"bad")[:-1])
        assert b" 401 " in await reader.readuntil(b"\r\n")
        await asyncio.sleep(0.1)
        writer.write(b"\n")
        async with asyncio.timeout(2):
            rest = await reader.read()
    assert b"HTTP/1.1" not in rest


TRAILED = b"%x\r\n%b\r\n0\r\n" % (len(BODY), BODY)


@pytest.mark.parametrize("path", [CHAT, "/api/v1/limits"])
@pytest.mark.parametrize("endless", [TRAILED + b"x: ", b"5;", b"5;a="])
async def test_what_does_not_end(rig: Rig, port: int, path: str, endless: bytes) -> None:
    """Neither a trailer nor what stands beside a chunk's size fills memory."""
    async with connected(port) as (reader, writer):
        writer.write(request(endless, "transfer-encoding: chunked", path=path) + b"y" * 1_000_000)
        found = b""
        async with asyncio.timeout(2):
            with contextlib.suppress(ConnectionResetError):  # it was not read to its end
                found = await reader.read()

    assert re.findall(rb"HTTP/1.1 (\d+)", found) in ([], [b"431"])
    assert not rig.requests


async def test_trailers_are_no_headers(rig: Rig, port: int) -> None:
    """They are dropped, whoever sends them when: no check has seen them."""
    rig.answer = answer(completion())
    named = request(TRAILED, "transfer-encoding: chunked")
    trailer = b"x-trailer: 1\r\nxproxy-api-key: %b\r\n\r\n" % ADMIN_KEY.encode()
    found = await exchange(port, (named + trailer) * 2)
    keyless = await exchange(port, named.replace(ADMIN_KEY.encode(), b"bad") + trailer)

    assert re.findall(rb"HTTP/1.1 (\d+)", found) == [b"200", b"200"]
    assert not [it for it in rig.requests if "x-trailer" in it.headers]
    assert re.findall(rb"HTTP/1.1 (\d+)", keyless) == [b"401"]


@pytest.mark.parametrize("path", [CHAT, "/api/v1/limits"])
async def test_a_trailer_that_ends_the_connection(rig: Rig, port: int, path: str) -> None:
    """The parser reads nothing after it, so that the connection has to end."""
    rig.answer = answer(completion())
    sent = request(TRAILED + b"connection: close\r\n\r\n", "transfer-encoding: chunked", path=path)
    async with connected(port) as (reader, writer):
        writer.write(sent + request(BODY, LENGTH))
        async with asyncio.timeout(2):
            found = await reader.read()
    assert re.findall(rb"HTTP/1.1 (\d+)", found) == [b"200"]


@pytest.mark.parametrize(
    ("body", "framing"), [(BODY, LENGTH), (CHUNKED, "transfer-encoding: chunked")]
)
@pytest.mark.parametrize("cut", [0, 20, 250])
async def test_no_other_protocol(rig: Rig, port: int, body: bytes, framing: str, cut: int) -> None:
    """Whoever asks for one (Java's client does with every call) is served in this one."""
    rig.answer = answer(completion())
    asked = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAA")
    call = request(body, *asked, framing)
    ours = call.replace(CHAT.encode(), b"/api/v1/limits")
    async with connected(port) as (reader, writer):
        sent = call + ours + call
        for piece in (sent[:cut], sent[cut:-cut] if cut else sent, sent[-cut:] if cut else b""):
            writer.write(piece)
            await asyncio.sleep(0.02)
        found = b""
        async with asyncio.timeout(2):
            while found.count(b"}}}}") < 2 and (piece := await reader.read(65_536)):
                found += piece

    assert re.findall(rb"HTTP/1.1 (\d+)", found) == [b"200"] * 3
    assert b"POST /api/v1/limits %d" % len(BODY) in found
    assert [it.content for it in rig.requests] == [BODY, BODY]
    assert not [it for it in rig.requests if "upgrade" in it.headers]


async def test_a_client_of_http_10_gets_one_answer(rig: Rig, port: int) -> None:
    """It knows no interim ones, whatever it says that it expects."""
    rig.answer = answer(completion())
    old = request(b"", LENGTH, "Expect: 100-continue").replace(b"HTTP/1.1", b"HTTP/1.0")
    async with connected(port) as (reader, writer):
        writer.write(old)
        await asyncio.sleep(0.1)
        writer.write(BODY)
        async with asyncio.timeout(2):
            found = await reader.read()
    assert found.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("begun", [b"", b"\r\n", b"POST ", request(BODY, LENGTH)[:60]])
async def test_slow_heads_are_closed(
    rig: Rig, port: int, monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    """Byte after byte does not help; a connection that never begins counts as idle."""
    monkeypatch.setattr(guard, "HEAD_S", 0.4)
    monkeypatch.setattr(Front, "IDLE_S", 0.4)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(begun)
    ended = asyncio.create_task(reader.read())
    for _ in range(40):
        if ended.done():
            break
        if begun.startswith(b"POST /"):
            writer.write(b"x")
        await asyncio.sleep(0.05)
    assert ended.done()
    assert ended.result() == b""
    writer.close()
    assert not rig.requests


async def test_a_cut_stream_is_seen_to_be_cut(rig: Rig, port: int) -> None:
    """The connection ends without the last chunk: no client takes it for the end of the answer."""
    rig.answer = streamed(*STREAM[:2], STREAM[2][:30], unreachable(sent=True))
    body = json.dumps(STREAMED).encode()
    found = await exchange(port, request(body, f"content-length: {len(body)}"))

    assert b"transfer-encoding: chunked" in found
    assert STREAM[1] in found
    assert not found.endswith(b"0\r\n\r\n")


async def test_a_client_that_hangs_up_is_charged(rig: Rig, port: int) -> None:
    """A connection that is closed in the middle of a stream is a client that left."""
    more = asyncio.Event()
    body = Pieces(STREAM[0], more, *STREAM[1:])
    rig.answer = answer(body, content_type="text/event-stream")
    asked = json.dumps(STREAMED).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request(asked, f"content-length: {len(asked)}"))
    head = await reader.readuntil(b"\r\n\r\n")
    writer.transport.abort()
    more.set()
    await rig.flow.finish(5)

    [name] = [it[19:] for it in head.decode().split("\r\n") if it.startswith("xproxy-request-id: ")]
    found = await rig.ledger.record(APPLICATION, name)
    assert found is not None
    assert found[0].cost_pico == COST_PICO
