"""The stand-in itself: one ASGI application, both providers, its books and its script."""

from __future__ import annotations

import asyncio
import hashlib
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from tests.standin import (
    answers,
    azure,
    chat,
    complete,
    control,
    media,
    messages,
    prices,
    recordings,
    responses,
)
from tests.standin.answers import Answer, encode
from tests.standin.control import Control
from tests.standin.delivery import Delivery, Receive, Send
from tests.standin.ledger import Came, Credential, Entry, Ledger, Wire, fingerprint
from tests.standin.ledger import read as read_ledger

FORBIDDEN = b"sk-xproxy-"
"""How keys begin that must never come here."""
OURS = ("xproxy", "x-xproxy", "x-litellm-", "x-portkey-")
"""How headers begin that must not, either."""
MODELS = {"openai": sorted(prices.OPENAI), "anthropic": sorted(prices.ANTHROPIC)}


@dataclass(frozen=True)
class Request:
    """One request, read to its end."""

    method: str
    path: str
    query: bytes
    headers: dict[bytes, bytes]
    names: list[str]
    body: bytes
    provider: str
    began_ms: int
    model: str | None = None
    """What the path names, for a request that names none."""


class Provider:
    """The application. Everything it knows is here and in its ledger file."""

    def __init__(self, ledger: Path, wire: Path | None = None) -> None:
        self.ledger = Ledger(ledger)
        self.wire = None if wire is None else Wire(wire)
        self.began = time.monotonic()
        self.default: dict[str, Any] = {}
        self.next: deque[dict[str, Any]] = deque()
        self.auth: frozenset[str] | None = None
        self.seq = 0
        self.in_flight = 0
        self.in_flight_max = 0
        self.paths: Counter[str] = Counter()

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """One request."""
        request = await _read(scope, receive)
        if request.path.startswith("/_"):
            await _reply(send, *self.administer(request))
            return
        if self.wire is not None:
            self.wire.write(_came(scope, request))
        self.in_flight += 1
        self.in_flight_max = max(self.in_flight_max, self.in_flight)
        self.paths[request.path] += 1
        try:
            await self.serve(request, scope["standin.transport"], receive, send)
        except Exception:
            traceback.print_exc()  # a fault of the stand-in's own must not pass for a provider's
            raise
        finally:
            self.in_flight -= 1

    async def serve(
        self, request: Request, transport: asyncio.Transport, receive: Receive, send: Send
    ) -> None:
        """Answer a provider call as it asks to be answered, and put it in the books."""
        self.seq += 1
        seq = self.seq
        script = self.default | self.next.popleft() if self.next else self.default
        try:
            told = control.read(script, request.query, request.headers, request.body)
            answer = self.answer(request, told)
        except (control.ControlError, LookupError) as error:
            told = control.PLAIN
            fault = {"error": {"type": "standin_control", "message": str(error)}}
            answer = answers.error(request.provider, 400, body=fault)

        def enter(delivery: Delivery) -> None:
            self.ledger.write(_entry(seq, request, told, answer, delivery))

        await Delivery(answer, told, transport, enter).run(receive, send)

    def answer(self, request: Request, told: Control) -> Answer:
        """The answer before anything goes wrong with it; raises LookupError on an unknown name."""
        if self.auth is not None and _secret(request)[1] not in self.auth:
            return answers.error(request.provider, 401, "Incorrect API key provided.")
        if told.status != 200:
            return answers.error(request.provider, told.status, body=told.error)
        if told.recording is not None:
            return _recorded(recordings.find(told.recording))
        if (answer := answers.dictated(told, request.provider)) is not None:
            return answer
        if told.body_bytes is not None:
            answer = answers.json_answer(request.provider, None)
            answer.pieces = [b"\xa5" * told.body_bytes]
            answer.content_type = told.content_type or "application/octet-stream"
            return answer
        return _route(request, told)

    def administer(self, request: Request) -> tuple[int, Any]:
        """The stand-in's own: `/_ledger`, `/_stats`, `/_reset`, `/_script`, `/_replay`."""
        match request.method, request.path:
            case "GET", "/_ledger":
                return 200, read_ledger(self.ledger.path)
            case "GET", "/_stats":
                return 200, self.stats()
            case "POST", "/_reset":
                self.ledger.clear()
                self.default, self.auth = {}, None
                self.next.clear()
                self.paths.clear()
                self.seq, self.in_flight_max = 0, self.in_flight
                return 200, {}
            case "POST", "/_script":
                return self.script(msgspec.json.decode(request.body))
            case "POST", "/_replay":
                names = msgspec.json.decode(request.body)["recordings"]
                return self.script({"next": [{"recording": name} for name in names]})
        return 404, {"error": f"{request.method} {request.path}"}

    def script(self, told: dict[str, Any]) -> tuple[int, Any]:
        """Set the `default` behaviour, append to what the `next` calls do, or list who may call."""
        try:
            for one in (told.get("default") or {}, *told.get("next", ())):
                control.checked(one)
        except control.ControlError as error:
            return 400, {"error": str(error)}
        if "default" in told:
            self.default = told["default"] or {}
        if "auth" in told:
            self.auth = None if told["auth"] is None else frozenset(told["auth"])
        self.next.extend(told.get("next", ()))
        return 200, {"default": self.default, "next": list(self.next)}

    def stats(self) -> dict[str, Any]:
        """Calls seen, now and at most at the same time."""
        return {
            "calls": self.seq,
            "in_flight": self.in_flight,
            "in_flight_max": self.in_flight_max,
            "paths": dict(self.paths),
            "seconds": round(time.monotonic() - self.began, 3),
        }


def _came(scope: dict[str, Any], request: Request) -> Came:
    return Came(
        method=request.method,
        target=f"{request.path}?{request.query.decode('latin-1')}",
        headers=[(k.decode(), v.decode("latin-1")) for k, v in scope["headers"]],
        body=request.body,
    )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


async def _read(scope: dict[str, Any], receive: Receive) -> Request:
    pairs: list[tuple[bytes, bytes]] = scope["headers"]
    headers = dict(pairs)
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    path = scope["raw_path"].decode()
    anthropic = b"anthropic-version" in headers or path.startswith(("/v1/messages", "/v1/complete"))
    return Request(
        method=scope["method"],
        path=path,
        query=scope["query_string"],
        headers=headers,
        names=[name.decode() for name, _ in pairs],
        body=body,
        provider="anthropic" if anthropic else "openai",
        began_ms=_now_ms(),
    )


async def _reply(send: Send, status: int, body: Any) -> None:
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": encode(body)})


def _route(request: Request, told: Control) -> Answer:
    meant = azure.vendors(request.path, request.body)
    if meant is None:
        return _vendors_answer(request, told)
    path, body, model = meant
    if path.endswith("/completions") and (problem := azure.refusal(request.query, body)):
        return answers.error("openai", 400, problem)
    return azure.filtered(
        _vendors_answer(replace(request, path=path, body=body, model=model), told)
    )


def _vendors_answer(request: Request, told: Control) -> Answer:
    handle = ROUTES.get((request.method, request.path), _echo)
    try:
        return handle(request, told)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return answers.error(request.provider, 400, f"We could not parse your request: {error}")


def _fields(request: Request) -> media.Fields:
    sent = media.read(request.body, request.headers.get(b"content-type", b"").decode())
    return sent if request.model is None else sent | {"model": request.model}


def _models(request: Request, told: Control) -> Answer:
    provider = request.provider
    if provider == "anthropic":
        data = [
            {"type": "model", "id": m, "display_name": m, "created_at": "2025-01-01T00:00:00Z"}
            for m in MODELS[provider]
        ]
        ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"], "has_more": False}
        return answers.json_answer(provider, {"data": data} | ends)
    listed = [
        {"id": m, "object": "model", "created": 1735689600, "owned_by": "openai"}
        for m in MODELS[provider]
    ]
    return answers.json_answer(provider, {"object": "list", "data": listed})


def _echo(request: Request, told: Control) -> Answer:
    secrets = (b"authorization", b"x-api-key", b"api-key", b"cookie")
    shown = {
        name.decode(): fingerprint(value.decode()) if name in secrets else value.decode("latin-1")
        for name, value in request.headers.items()
    }
    body = {
        "object": "standin.echo",
        "method": request.method,
        "path": request.path,
        "query": request.query.decode("latin-1"),
        "headers": shown,
        "body_bytes": len(request.body),
        "body_sha256": hashlib.sha256(request.body).hexdigest(),
    }
    return answers.json_answer(request.provider, body)


ROUTES: dict[tuple[str, str], Callable[[Request, Control], Answer]] = {
    ("POST", "/v1/chat/completions"): lambda r, told: chat.answer(told, chat.decode(r.body)),
    ("POST", "/v1/embeddings"): lambda r, told: chat.embeddings(
        told, chat.decode_embeddings(r.body)
    ),
    ("POST", "/v1/responses"): lambda r, told: responses.answer(told, responses.decode(r.body)),
    ("POST", "/v1/messages"): lambda r, told: messages.answer(told, messages.decode(r.body)),
    ("POST", "/v1/messages/count_tokens"): lambda r, _: messages.count_tokens(
        messages.decode_count(r.body)
    ),
    ("POST", "/v1/complete"): lambda r, told: complete.answer(told, complete.decode(r.body)),
    ("POST", "/v1/images/generations"): lambda r, told: media.images(told, _fields(r)),
    ("POST", "/v1/images/edits"): lambda r, told: media.images(told, _fields(r)),
    ("POST", "/v1/audio/speech"): lambda r, told: media.speech(told, _fields(r)),
    ("POST", "/v1/audio/transcriptions"): lambda r, told: media.transcript(told, _fields(r)),
    ("POST", "/v1/audio/translations"): lambda r, told: media.transcript(told, _fields(r)),
    ("GET", "/v1/models"): _models,
}
"""What is answered as the providers do; every other path is echoed."""


def _recorded(recording: recordings.Recording) -> Answer:
    model, usage, tier = recordings.usage(recording) if recording.status == 200 else (None,) * 3
    body = recording.body
    headers = answers.request_headers(recording.provider)
    return Answer(
        provider=recording.provider,
        id=_recorded_id(body) or answers.request_id(headers),
        pieces=recordings.events(body) if recording.streamed else [body],
        status=recording.status,
        content_type=recording.content_type,
        headers=headers,
        model=model,
        usage=usage if model else None,
        tier=tier,
        stream=recording.streamed,
    )


def _recorded_id(body: bytes) -> str | None:
    for prefix in (b'"chatcmpl-', b'"msg_', b'"resp_'):
        start = body.find(prefix)
        if start >= 0:
            return body[start + 1 : body.index(b'"', start + 1)].decode()
    return None


def _secret(request: Request) -> tuple[str, str]:
    """(header, secret) of the credential a request came with; empty without one."""
    for header in ("x-api-key", "api-key"):
        if key := request.headers.get(header.encode()):
            return header, key.decode("latin-1")
    value = request.headers.get(b"authorization", b"").decode("latin-1")
    return ("authorization", value.removeprefix("Bearer ")) if value else ("", "")


def _leaks(request: Request) -> list[str]:
    found = [name for name in request.names if name.startswith(OURS)]
    found += [k.decode() for k, v in request.headers.items() if FORBIDDEN in v]
    if FORBIDDEN in request.query:
        found.append("query")
    if FORBIDDEN in request.body or b'"litellm_metadata"' in request.body:
        found.append("body")
    return found


def _billed(told: Control, answer: Answer, delivery: Delivery) -> dict[str, Any] | None:
    """The usage to charge: all of it, or the output in proportion to what was handed over."""
    whole = delivery.complete or delivery.stated or not answer.stream
    mode = told.bill or ("full" if whole else "delivered")
    if answer.usage is None or mode == "none" or answer.status != 200:
        return None
    if told.bill is None and not delivery.begun and told.hang:
        return None
    if mode == "full":
        return answer.usage
    if not delivery.body_sent:
        return None
    sent, total = delivery.body_sent, max(1, delivery.body_total)
    outputs = ("completion_tokens", "output_tokens")
    return answer.usage | {k: answer.usage[k] * sent // total for k in outputs if k in answer.usage}


def _entry(seq: int, request: Request, told: Control, answer: Answer, delivery: Delivery) -> Entry:
    usage = _billed(told, answer, delivery)
    header, secret = _secret(request)
    cost: int | None = 0
    bill = prices.Bill("", {}, {})
    if usage is not None and answer.model is not None:
        try:
            bill = answer.bill or prices.bill(answer.provider, answer.model, usage, answer.tier)
            cost = bill.cost_pico
        except prices.Unpriced:
            cost = None
    return Entry(
        seq=seq,
        id=answer.id,
        provider=answer.provider,
        method=request.method,
        path=request.path,
        query=request.query.decode("latin-1"),
        model=answer.model,
        stream=answer.stream,
        status=answer.status if delivery.begun or delivery.complete else None,
        tag=told.tag,
        usage=usage,
        units=bill.units,
        lines_pico=bill.lines_pico,
        cost_pico=cost,
        price=bill.price or None,
        service_tier=answer.tier,
        complete=delivery.complete,
        client=delivery.client,
        body_sent=delivery.body_sent,
        answer_sha256=delivery.sha256,
        body_sha256=hashlib.sha256(request.body).hexdigest(),
        headers=request.names,
        credential=Credential(header, fingerprint(secret)) if secret else None,
        leaks=_leaks(request),
        began_ms=request.began_ms,
        ended_ms=_now_ms(),
    )
