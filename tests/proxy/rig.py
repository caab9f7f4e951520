"""A data plane on real stores, with a provider made of plain functions and a client of messages."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import h11
import httpx

from metering.core import sealing
from metering.core.credentials import bound_to, defaults_topic, topic
from metering.core.estimate import Learned
from metering.core.keys import digest, make_key
from metering.core.limits import Charge
from metering.core.prices import PriceList
from metering.core.record import UsageRow
from metering.core.sealing import SEAL_BYTES, Master, Sealed, Secret
from metering.directory import Directory
from metering.duties.writer import decode
from metering.keyring import Keyring
from metering.ledger import Ledger
from metering.meter import Meter
from metering.proxy.exchange import Exchange
from metering.proxy.flow import Flow
from metering.proxy.plan import Planner
from metering.proxy.spends import Spends
from metering.redis import Redis
from metering.redis.outbox import Outbox
from metering.replays import Replays
from metering.settings import Settings
from metering.store import Store, credentials, keys
from metering.upstream import Resolver, Upstream
from pricing.load import load
from tests.builders import APPLICATION, NOW_MS, request_id
from tests.store.test_credentials import a_credential

PEPPER = b"pepper"
MASTER = "master-secret-of-the-rigs-0123456789"
ADMIN_KEY = "an-administrators-key-of-forty-characters"
CHAT = "/api/v1/proxy/openai/v1/chat/completions"
MESSAGES = "/api/v1/proxy/anthropic/v1/messages"
JSON_BYTES_MAX = 4096
"""What is buffered at most here, so that larger answers need not be large."""
BOOK = load()
SETTINGS = Settings(
    admin_key=ADMIN_KEY,
    openai_api_key="sk-stored-openai",
    anthropic_api_key="sk-ant-stored",
    openai_base_url="https://openai.test/v1",
    anthropic_base_url="https://anthropic.test",
    json_bytes_max=JSON_BYTES_MAX,
    body_bytes_max=20_000,
)
ASK: dict[str, Any] = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello"}]}
USAGE = {"prompt_tokens": 9, "completion_tokens": 12, "total_tokens": 21}
COST_PICO = 9 * 2_500_000 + 12 * 10_000_000
"""What an answer with USAGE costs."""
Answer = httpx.Response | BaseException | Callable[[httpx.Request], Awaitable[httpx.Response]]


async def until(condition: Callable[[], bool], patience_s: float = 5.0) -> None:
    """Wait for a condition; raises TimeoutError."""
    async with asyncio.timeout(patience_s):
        while not condition():
            await asyncio.sleep(0.001)


class Pieces(httpx.AsyncByteStream):
    """A provider's body: bytes, faults, and events to wait for, in order."""

    def __init__(self, *pieces: bytes | BaseException | asyncio.Event) -> None:
        self._pieces = pieces
        self.given = 0
        """How many pieces were taken."""
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            if isinstance(piece, asyncio.Event):
                await piece.wait()
            elif isinstance(piece, BaseException):
                raise piece
            else:
                await asyncio.sleep(0)  # as a socket would: others have their turn
                self.given += 1
                yield piece

    async def aclose(self) -> None:
        self.closed = True


def _nothing() -> None:
    """What a connection does that is used for one exchange alone."""


class Client(asyncio.Transport):
    """One request, the socket it came through, and what came back."""

    def __init__(
        self,
        path: str = CHAT,
        body: object = ASK,
        *,
        method: str = "POST",
        headers: Iterable[tuple[str, str]] = (),
        parts: list[bytes] | None = None,
        stalls: bool = False,
    ) -> None:
        """`parts`: the body in these pieces, after which the client leaves, or `stalls`."""
        super().__init__()
        raw_path, _, query = path.encode().partition(b"?")
        sent = {"xproxy-api-key": ADMIN_KEY, "content-type": "application/json", **dict(headers)}
        whole = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.method = method
        self._target = (raw_path, query)
        self._sent = [(k.lower().encode(), v.encode("latin-1")) for k, v in sent.items()]
        self._exchange: Exchange | None = None
        self.write_paused = False
        self.room = asyncio.Event()
        self.on_left: Callable[[], None] = lambda: None
        """Called once the service has been told."""
        self._parts = [whole] if parts is None else parts
        self._stalls = stalls
        self._whole = parts is None
        self.received = b""
        """What the service wrote."""
        self.closed = False
        self.reading = True
        """Whether the service takes what the client sends."""

    def head(self) -> Exchange:
        """Send the head of the request."""
        self._exchange = Exchange(
            self.method, self._target, self._sent, transport=self, flow=self, on_end=_nothing
        )
        return self._exchange

    def rest(self) -> None:
        """Send the body of the request."""
        assert self._exchange is not None
        for part in self._parts:
            self._exchange.feed(part)
        if self._whole:
            self._exchange.end_of_request()
        elif not self._stalls:
            asyncio.get_running_loop().call_soon(self.leave)

    def served(self) -> None:
        """Let go of the request: it has been served."""
        self._exchange = None

    def leave(self) -> None:
        """Close the connection."""
        assert self._exchange is not None
        self.closed = True
        self.room.set()
        self._exchange.lost()
        self.on_left()

    def stop_reading(self) -> None:
        """Take nothing more."""
        self.write_paused = True
        self.room.clear()

    def read_on(self) -> None:
        """Take everything again."""
        self.write_paused = False
        self.room.set()

    # As the service sees it: a transport, and the flow over it

    def write(self, data: Any) -> None:
        """Take bytes of the service's."""
        assert not self.closed, "bytes for a connection that is closed"
        self.received += bytes(data)

    def close(self) -> None:
        """The service closes the connection."""
        self.closed = True

    def pause_reading(self) -> None:
        """The service takes nothing more for now."""
        self.reading = False

    def resume_reading(self) -> None:
        """The service takes more."""
        self.reading = True

    async def drain(self) -> None:
        """Returns when there is room again."""
        await self.room.wait()

    # What came back

    @property
    def _answer(self) -> tuple[int | None, dict[str, str], bytes, bool]:
        """Status, headers, body, and whether it came to its end."""
        peer = h11.Connection(h11.CLIENT)
        peer.send(h11.Request(method=self.method, target="/", headers=[("host", "x")]))
        peer.send(h11.EndOfMessage())
        if self.received:  # nothing would mean the end
            peer.receive_data(self.received)
        status, headers, body = None, {}, b""
        while (event := peer.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
            if isinstance(event, h11.Response):
                status = event.status_code
                headers = {k.decode(): v.decode("latin-1") for k, v in event.headers}
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                assert not peer.trailing_data[0], "bytes after the end"
                return status, headers, body, True
        return status, headers, body, False

    @property
    def status(self) -> int | None:
        """The status of the answer, if there is one."""
        return self._answer[0]

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the answer, less those that frame it."""
        frame = ("transfer-encoding", "connection")
        return {name: value for name, value in self._answer[1].items() if name not in frame}

    @property
    def body(self) -> bytes:
        """The body of the answer so far."""
        return self._answer[2]

    @property
    def complete(self) -> bool:
        """Whether the answer came to its end."""
        return self._answer[3]

    @property
    def json(self) -> dict[str, Any]:
        """The answer as an object."""
        value: dict[str, Any] = json.loads(self.body)
        return value

    @property
    def request_id(self) -> str:
        """Our name of the call."""
        return self.headers["xproxy-request-id"]


class Rig:
    """The data plane of one worker."""

    def __init__(
        self,
        ledger: Ledger,
        store: Store,
        redis: Redis,
        settings: Settings,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """`transport`: instead of one to the provider of plain functions."""
        self.directory = Directory(
            store,
            redis,
            pepper=PEPPER,
            keyring=Keyring([MASTER]),
            admin_key=settings.admin_key,
            default_application=APPLICATION,
            clock_ms=lambda: time.time_ns() // 1_000_000,
        )
        self.ledger = ledger
        self.store = store
        self.redis = redis
        self.meter = Meter(PriceList(BOOK), ledger, Learned())
        self.requests: list[httpx.Request] = []
        self.answer: Answer = httpx.Response(500)
        self.names: dict[str, list[str] | OSError] = {}
        """The addresses that names have, or why they have none."""
        self.looked_up: list[str] = []
        resolver = Resolver(private=settings.allow_private_origins == "on", lookup=self._look_up)
        self.flow = Flow(
            settings=settings,
            planner=Planner(
                settings, self.directory, self.meter, resolver, Spends(ledger, time.monotonic)
            ),
            ledger=ledger,
            meter=self.meter,
            upstream=Upstream(transport or httpx.MockTransport(self._provide)),
            replays=Replays(redis, PEPPER, os.urandom),
            clock_ms=lambda: time.time_ns() // 1_000_000,
            clock_s=time.monotonic,
            random=os.urandom,
        )

    async def _provide(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if isinstance(self.answer, BaseException):
            raise self.answer
        return (
            self.answer if isinstance(self.answer, httpx.Response) else await self.answer(request)
        )

    async def _look_up(self, host: str) -> list[str]:
        self.looked_up.append(host)
        found = self.names.get(host, socket.gaierror(socket.EAI_NONAME, "unknown"))
        if isinstance(found, OSError):
            raise found
        return found

    async def credential(
        self, slug: str, secret: str, *, by: str = MASTER, **members: Any
    ) -> credentials.CredentialRow:
        """Store a credential of the application's, sealed under the master secret of the rig."""
        row = a_credential(APPLICATION, slug=slug, **members)
        bound = bound_to(APPLICATION, row.credential_id, row.provider, row.origin)

        def seal(_: str | None) -> Sealed:
            return sealing.seal(Secret(secret), bound, Master(by), os.urandom(SEAL_BYTES))

        made = await credentials.create(self.store, row, seal)
        await self.tell(slug)
        return made.row

    async def tell(self, slug: str) -> None:
        """Say that a credential has changed."""
        topics = (topic(APPLICATION, slug), defaults_topic(APPLICATION))
        await self.directory.changed(*topics)

    async def key(self, *permissions: str) -> str:
        """A new application's key that may do these things."""
        key = make_key("app", os.urandom(32))
        row = keys.KeyRow(
            key_id=request_id(),
            application_id=APPLICATION,
            role="app",
            name="app",
            last4=key[-4:],
            permissions=permissions,
            created_ms=NOW_MS,
        )
        await keys.create(self.store, row, digest(PEPPER, key))
        return key

    async def call(self, client: Client) -> Client:
        """Serve a client to the end of its call."""
        async with asyncio.timeout(10):
            await self.serve(client)
        await asyncio.sleep(0)
        assert self.flow.running == 0
        return client

    async def serve(self, client: Client) -> None:
        """Serve a client."""
        serving = self.flow.begin(client.head())
        client.rest()
        await serving
        client.served()

    async def post(
        self, answer: Answer, body: object = ASK, path: str = CHAT, **headers: str
    ) -> Client:
        """One call that the provider answers so; header names with `_` for `-`."""
        self.answer = answer
        sent = [(name.replace("_", "-"), value) for name, value in headers.items()]
        return await self.call(Client(path, body, headers=sent))

    async def record(self, client: Client) -> tuple[UsageRow, tuple[Charge, ...]]:
        """The row of a call and what it charged, as they stand in Redis."""
        found = await self.ledger.record(APPLICATION, client.request_id)
        assert found is not None
        return found

    async def row(self, client: Client) -> UsageRow:
        """The row of a call."""
        return (await self.record(client))[0]

    async def rows(self) -> list[UsageRow]:
        """The rows of all calls that have ended, in that order."""
        return [decode(entry)[0] for entry in await Outbox(self.redis).read(1_000)]


def completion(**members: Any) -> bytes:
    """A whole chat completion."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": "Hi"},
        "finish_reason": "stop",
    }
    body = {"id": "chatcmpl-1", "model": "gpt-4o-2024-08-06", "choices": [choice], "usage": USAGE}
    return json.dumps(body | members).encode()


def chunk(content: str | None = None, **members: Any) -> bytes:
    """An event of a chat stream; without content its end."""
    delta = {} if content is None else {"content": content}
    choice = {"index": 0, "delta": delta, "finish_reason": "stop" if content is None else None}
    data = {"id": "chatcmpl-1", "model": "gpt-4o-2024-08-06", "choices": [choice]} | members
    return b"data: " + json.dumps(data).encode() + b"\n\n"


USAGE_CHUNK = chunk(choices=[], usage=USAGE)
DONE = b"data: [DONE]\n\n"
STREAM = (chunk("Hel"), chunk("lo"), chunk(), USAGE_CHUNK, DONE)


def answer(
    body: bytes | Pieces, status: int = 200, content_type: str = "application/json", **headers: str
) -> httpx.Response:
    """A provider's answer; header names with `_` for `-`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    stream = Pieces(body) if isinstance(body, bytes) else body
    return httpx.Response(status, headers={"content-type": content_type, **named}, stream=stream)


def streamed(
    *pieces: bytes | BaseException | asyncio.Event, content_encoding: str = "identity"
) -> httpx.Response:
    """A provider's stream of events."""
    body = Pieces(*pieces)
    return answer(body, content_type="text/event-stream", content_encoding=content_encoding)


STREAMED = ASK | {"stream": True}
