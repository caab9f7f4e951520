"""Clients that keep calling, in a thread of their own, and remember what each of them saw."""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec

PICO = 10**12
_body = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal).decode


@dataclass(frozen=True)
class Form:
    """An endpoint, and how one asks there."""

    name: str
    path: str
    model: str
    prompt: Callable[[str], dict[str, Any]]
    """The members of a request that ask something."""
    cap: str | None
    """The member that caps the output."""
    streams: bool = True

    def by(self, route: str) -> Form:
        """The same by another route."""
        return replace(self, path=route + self.path.removeprefix(PAYI))


def _messages(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}


def _input(text: str) -> dict[str, Any]:
    return {"input": text}


PAYI, LITELLM = "/api/v1/proxy", ""
"""What each client family's routes to the providers begin with."""
OPENAI, ANTHROPIC = PAYI + "/openai/v1", PAYI + "/anthropic/v1"
CHAT = Form("chat", OPENAI + "/chat/completions", "gpt-4o-mini", _messages, "max_tokens")
MESSAGES = Form("messages", ANTHROPIC + "/messages", "claude-haiku-4-5", _messages, "max_tokens")
RESPONSES = Form("responses", OPENAI + "/responses", "gpt-4.1-mini", _input, "max_output_tokens")
EMBEDDINGS = Form(
    "embeddings", OPENAI + "/embeddings", "text-embedding-3-small", _input, None, streams=False
)
FORMS = (CHAT, MESSAGES, RESPONSES, EMBEDDINGS)
OUTPUT_CAP = 60


@dataclass
class Seen:
    """One call, as its client saw it."""

    tag: str
    streamed: bool
    began_s: float
    """Monotonic."""
    ended_s: float = 0.0
    status: int | None = None
    """None: the connection failed, before or within the answer."""
    headers: httpx.Headers = field(default_factory=httpx.Headers)
    result: dict[str, Any] | None = None
    """The `xproxy_result`, if it came."""
    whole: bool = False
    """Whether the answer came to its end."""

    @property
    def request_id(self) -> str | None:
        """Our id of the call."""
        name: str | None = self.headers.get("xproxy-request-id")
        return name

    @property
    def cost_pico(self) -> int | None:
        """What the call was told to cost; None: it was not told."""
        cost = ((self.result or {}).get("cost") or {}).get("total") or {}
        return int(Decimal(cost["base"]) * PICO) if "base" in cost else None

    @property
    def waited_s(self) -> float:
        """How long it took."""
        return self.ended_s - self.began_s


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where calls go and what they name."""

    url: str
    key: str
    limits: tuple[str, ...] = ()
    provider_key: str | None = "sk-provider"
    """What stands in the provider's slot; None: nothing, a stored one is to serve the call."""


def request(
    target: Target, tag: str, told: dict[str, Any], form: Form = CHAT, *, stream: bool = False
) -> tuple[dict[str, str], dict[str, Any]]:
    """Headers and body of a call; `told` goes to the stand-in."""
    headers = {
        "xProxy-Api-Key": target.key,
        "xProxy-Request-Tags": tag,
        "x-standin": json.dumps(told | {"tag": tag}),
    }
    if target.provider_key:
        headers["authorization"] = f"Bearer {target.provider_key}"
    if target.limits:
        headers["xProxy-Limit-IDs"] = ",".join(target.limits)
    members = {"model": form.model} | form.prompt(f"What is {tag}?")
    if form.cap:
        members[form.cap] = OUTPUT_CAP
    return headers, members | ({"stream": True} if stream else {})


async def call(
    client: httpx.AsyncClient,
    target: Target,
    tag: str,
    told: dict[str, Any],
    form: Form = CHAT,
    *,
    stream: bool = False,
    **members: Any,
) -> Seen:
    """Make one call and see it to its end, whatever that is; `members` go into its body."""
    headers, body = request(target, tag, told, form, stream=stream)
    seen = Seen(tag, stream, time.monotonic())
    try:
        url = target.url + form.path
        async with client.stream("POST", url, headers=headers, json=body | members) as response:
            seen.headers = response.headers
            if "event-stream" in response.headers.get("content-type", ""):
                async for line in response.aiter_lines():
                    _read_event(seen, line)
            else:
                seen.result = _body(await response.aread()).get("xproxy_result")
            seen.status = response.status_code
            seen.whole = True
    except (httpx.HTTPError, msgspec.DecodeError):
        seen.status = None
    seen.ended_s = time.monotonic()
    return seen


def _read_event(seen: Seen, line: str) -> None:
    if line.startswith("data: {") and '"xproxy_result"' in line:
        seen.result = _body(line.removeprefix("data: ").encode()).get("xproxy_result")


ROUTES = (PAYI, LITELLM)
KINDS = [(form, stream) for form in FORMS for stream in (False, True) if form.streams or not stream]
"""Every endpoint, whole and as a stream."""
HEALTHY = 12


async def twelve(target: Target, name: str) -> list[Seen]:
    """Twelve calls as they should be, of every kind, all at once."""
    async with httpx.AsyncClient(timeout=20, trust_env=False) as client:
        kinds = [KINDS[number % len(KINDS)] for number in range(HEALTHY)]
        calls = (
            call(client, target, f"{name}-{number}", {}, form, stream=stream)
            for number, (form, stream) in enumerate(kinds)
        )
        return list(await asyncio.gather(*calls))


def raw(
    target: Target,
    tag: str,
    told: dict[str, Any],
    form: Form = CHAT,
    *,
    stream: bool = False,
    cancel: bool = False,
) -> bytes:
    """A call as the bytes of its request, the only one on its connection; `cancel` is what becomes
    of it when its client leaves."""
    headers, members = request(target, tag, told, form, stream=stream)
    if cancel:
        headers["xProxy-On-Disconnect"] = "cancel"
    body = msgspec.json.encode(members)
    host = urlsplit(target.url).netloc
    lines = [f"POST {form.path} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(body)}"]
    lines.append("Connection: close")
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def paced(rng: random.Random) -> dict[str, Any]:
    """How a provider might behave: quick or slow, in few pieces or many."""
    return {
        "delay_ms": rng.choice([0, 0, 20, 100, 300]),
        "chunk_delay_ms": rng.choice([0, 5, 20]),
        "chunks": rng.randint(2, 12),
    }


class Load:
    """So many clients, each making one call after the other, by either route, until it is told to
    stop."""

    def __init__(
        self,
        target: Target,
        *,
        seed: int,
        clients: int = 16,
        pause_s: float = 0.02,
        pace: Callable[[random.Random], dict[str, Any]] = paced,
    ) -> None:
        self.target = target
        self.seen: list[Seen] = []
        self._clients = clients
        self._pause_s = pause_s
        self._pace = pace
        self._rng = random.Random(seed)
        self._name = f"{seed:x}-{self._rng.getrandbits(32):08x}"
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def start(self) -> Load:
        """Begin."""
        self._thread.start()
        return self

    def stop(self) -> list[Seen]:
        """Let every client finish its call; what all of them saw."""
        self._stopping.set()
        self._thread.join(90)
        assert not self._thread.is_alive(), "a client waits for ever"
        return self.seen

    async def _run(self) -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        async with httpx.AsyncClient(timeout=60, limits=limits, trust_env=False) as client:
            await asyncio.gather(*(self._client(client, n) for n in range(self._clients)))

    async def _client(self, client: httpx.AsyncClient, number: int) -> None:
        rng, count = random.Random(self._rng.getrandbits(64)), 0
        while not self._stopping.is_set():
            count += 1
            self.seen.append(
                await call(
                    client,
                    self.target,
                    f"{self._name}-{number}-{count}",
                    self._pace(rng),
                    (MESSAGES if rng.random() < 0.4 else CHAT).by(rng.choice(ROUTES)),
                    stream=rng.random() < 0.5,
                )
            )
            if self.seen[-1].status is None:
                await asyncio.sleep(0.1)
            await asyncio.sleep(rng.random() * self._pause_s * 2)
