"""A data plane on real stores, with a provider made of plain functions and a client of messages."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import httpx

from metering.core.estimate import Learned
from metering.core.limits import Charge
from metering.core.record import UsageRow
from metering.directory import Directory
from metering.ledger import Ledger
from metering.meter import Meter
from metering.proxy.flow import Flow
from metering.proxy.plan import Planner
from metering.redis import Redis
from metering.settings import Settings
from metering.store import Store
from metering.upstream import Upstream
from pricing.load import load
from tests.builders import APPLICATION

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
                self.given += 1
                yield piece

    async def aclose(self) -> None:
        self.closed = True


class Client:
    """One request over ASGI, and what came back."""

    def __init__(
        self,
        path: str = CHAT,
        body: object = ASK,
        *,
        method: str = "POST",
        headers: Iterable[tuple[str, str]] = (),
        parts: list[bytes] | None = None,
    ) -> None:
        """`parts`: the body in these pieces, after which the client leaves unless it is whole."""
        raw_path, _, query = path.encode().partition(b"?")
        sent = {"xproxy-api-key": ADMIN_KEY, "content-type": "application/json", **dict(headers)}
        self.scope = {
            "type": "http",
            "method": method,
            "raw_path": raw_path,
            "query_string": query,
            "headers": [(k.lower().encode(), v.encode("latin-1")) for k, v in sent.items()],
        }
        whole = body if isinstance(body, bytes) else json.dumps(body).encode()
        self._parts = [whole] if parts is None else parts
        self._whole = parts is None
        self.left = asyncio.Event()
        self.on_left: Callable[[], None] = lambda: None
        """Called once the service has been told."""
        self.reads = asyncio.Event()
        """Cleared, the client takes nothing more."""
        self.reads.set()
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.body = b""
        self.complete = False

    async def receive(self) -> dict[str, Any]:
        """The next message of the client's; none but its leaving once the body was sent."""
        if self._parts:
            part = self._parts.pop(0)
            more = bool(self._parts) or not self._whole
            return {"type": "http.request", "body": part, "more_body": more}
        if self._whole:
            await self.left.wait()
            asyncio.get_running_loop().call_soon(self.on_left)
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        """Take a message of the service's."""
        if message["type"] == "http.response.start":
            assert self.status is None, "an answer began twice"
            self.status = message["status"]
            self.headers = {k.decode(): v.decode("latin-1") for k, v in message["headers"]}
            return
        assert not self.complete, "bytes after the end"
        await self.reads.wait()
        self.body += message["body"]
        self.complete = not message.get("more_body", False)

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

    def __init__(self, ledger: Ledger, store: Store, redis: Redis, settings: Settings) -> None:
        directory = Directory(
            store,
            redis,
            pepper=b"pepper",
            master_secret=b"master",
            admin_key=settings.admin_key,
            default_application=APPLICATION,
            clock_ms=lambda: time.time_ns() // 1_000_000,
        )
        self.ledger = ledger
        self.store = store
        self.meter = Meter(BOOK, ledger, Learned())
        self.requests: list[httpx.Request] = []
        self.answer: Answer = httpx.Response(500)
        self.flow = Flow(
            settings=settings,
            planner=Planner(settings, directory, self.meter),
            ledger=ledger,
            meter=self.meter,
            upstream=Upstream(httpx.MockTransport(self._provide)),
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

    async def call(self, client: Client) -> Client:
        """Serve a client to the end of its answer, and the call to the end of its pump."""
        async with asyncio.timeout(10):
            await self.serve(client)
        await self.flow.finish(5)
        assert self.flow.running == 0
        return client

    async def serve(self, client: Client) -> None:
        """Serve a client."""
        await self.flow(client.scope, client.receive, client.send)

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
