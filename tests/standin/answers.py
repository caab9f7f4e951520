"""An answer as a value: status, headers, the pieces of its body, and what it is billed for."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any
from zlib import crc32

import msgspec

from tests.standin.control import Control
from tests.standin.prices import Bill

Headers = list[tuple[bytes, bytes]]
encode = msgspec.json.Encoder().encode

SNAPSHOTS = {
    "gpt-3.5-turbo": "gpt-3.5-turbo-0125",
    "gpt-4": "gpt-4-0613",
    "gpt-4-turbo": "gpt-4-turbo-2024-04-09",
    "gpt-4o": "gpt-4o-2024-08-06",
    "gpt-4o-mini": "gpt-4o-mini-2024-07-18",
    "gpt-4.1": "gpt-4.1-2025-04-14",
    "gpt-4.1-mini": "gpt-4.1-mini-2025-04-14",
    "gpt-5": "gpt-5-2025-08-07",
    "gpt-5-mini": "gpt-5-mini-2025-08-07",
    "o3-mini": "o3-mini-2025-01-31",
    "o4-mini": "o4-mini-2025-04-16",
    "claude-3-5-haiku-latest": "claude-3-5-haiku-20241022",
    "claude-sonnet-4-5": "claude-sonnet-4-5-20250929",
    "claude-haiku-4-5": "claude-haiku-4-5-20251001",
}
"""What a provider calls the model that answers."""

_TEXT = (
    "A robot kept the ledger of a small harbour town and every evening it counted the boats twice "
    "because the sea, it said, gives no receipts. "
) * 80
_ENDS = [i for i, letter in enumerate(_TEXT) if letter == " "]
ERRORS = {
    400: ("invalid_request_error", "invalid_request_error", None),
    401: ("invalid_request_error", "authentication_error", "invalid_api_key"),
    403: ("invalid_request_error", "permission_error", "unsupported_country_region_territory"),
    404: ("invalid_request_error", "not_found_error", "model_not_found"),
    413: ("invalid_request_error", "request_too_large", None),
    429: ("requests", "rate_limit_error", "rate_limit_exceeded"),
    500: ("server_error", "api_error", None),
    503: ("server_error", "api_error", None),
    529: ("server_error", "overloaded_error", None),
}
"""By status: OpenAI's error type, Anthropic's error type, OpenAI's code."""


@dataclass(kw_only=True)
class Answer:
    """One answer, complete, before anything goes wrong with it."""

    provider: str
    id: str
    pieces: list[bytes]
    status: int = 200
    content_type: str = "application/json"
    headers: Headers = field(default_factory=list)
    model: str | None = None
    usage: dict[str, Any] | None = None
    """What it is billed for; None: nothing."""
    bill: Bill | None = None
    """The whole bill, of what is not billed by the price table of tokens."""
    tier: str | None = None
    stream: bool = False


def unique(prefix: str, length: int) -> str:
    """An id as providers make them: a prefix and random letters and digits."""
    random = base64.b64encode(os.urandom(length), b"AZ")[:length]
    return prefix + random.decode()


def number(data: bytes, below: int) -> int:
    """A number that is always the same for the same bytes."""
    return crc32(data) % below


def text_of(control: Control, tokens: int) -> str:
    """The text of an answer: about a word a token, at most 2,000 of them."""
    if control.text is not None:
        return control.text
    return _TEXT[: _ENDS[max(0, min(tokens, 2000) - 1)]] if tokens else ""


def chunks_of(control: Control, text: str) -> list[str]:
    """The text in pieces of whole characters; by default at most ten."""
    if not text:
        return []
    count = min(control.chunks or 10, len(text))
    bounds = [len(text) * i // count for i in range(count + 1)]
    return [text[a:b] for a, b in pairwise(bounds)]


def answering(control: Control, requested: str) -> str:
    """The model that answers."""
    return control.model or SNAPSHOTS.get(requested, requested)


def request_headers(provider: str) -> Headers:
    """The headers every answer of a provider carries."""
    if provider == "anthropic":
        return [
            (b"request-id", unique("req_011C", 20).encode()),
            (b"anthropic-organization-id", b"0a1b2c3d-0000-4000-8000-000000000000"),
            (b"anthropic-ratelimit-requests-limit", b"4000"),
            (b"anthropic-ratelimit-requests-remaining", b"3999"),
            (b"server", b"cloudflare"),
            (b"cf-cache-status", b"DYNAMIC"),
        ]
    return [
        (b"x-request-id", b"req_" + os.urandom(16).hex().encode()),
        (b"openai-organization", b"standin"),
        (b"openai-version", b"2020-10-01"),
        (b"openai-processing-ms", b"12"),
        (b"x-ratelimit-limit-requests", b"10000"),
        (b"x-ratelimit-remaining-requests", b"9999"),
        (b"set-cookie", b"__cf_bm=standin; path=/; HttpOnly; Secure"),
        (b"strict-transport-security", b"max-age=31536000"),
        (b"alt-svc", b'h3=":443"; ma=86400'),
        (b"server", b"cloudflare"),
    ]


def request_id(headers: Headers) -> str:
    """The provider's id of the request, from the headers of its answer."""
    return next(value.decode() for name, value in headers if name.endswith(b"request-id"))


def json_answer(provider: str, body: Any, **members: Any) -> Answer:
    """An answer whose body is a JSON value."""
    headers = request_headers(provider)
    members.setdefault("id", request_id(headers))
    return Answer(provider=provider, pieces=[encode(body)], headers=headers, **members)


def dictated(control: Control, provider: str) -> Answer | None:
    """The answer whose content a control spells out, if it does."""
    if control.body is not None:
        return json_answer(provider, control.body)
    if control.events is None:
        return None
    pieces = [
        (f"event: {event['type']}\n".encode() if "type" in event else b"")
        + b"data: %b\n\n" % encode(event)
        for event in control.events
    ]
    answer = json_answer(provider, None)
    answer.pieces = pieces if "type" in control.events[0] else [*pieces, b"data: [DONE]\n\n"]
    answer.content_type, answer.stream = "text/event-stream; charset=utf-8", True
    return answer


def error(
    provider: str, status: int, message: str | None = None, body: dict[str, Any] | None = None
) -> Answer:
    """An error in the provider's own shape; a 429 says when to come back."""
    ours, theirs, code = ERRORS.get(status, ERRORS[500 if status >= 500 else 400])
    message = message or f"The stand-in was told to answer {status}."
    headers = request_headers(provider)
    if body is None and provider == "anthropic":
        fault = {"type": theirs, "message": message}
        body = {"type": "error", "error": fault, "request_id": request_id(headers)}
    elif body is None:
        body = {"error": {"message": message, "type": ours, "param": None, "code": code}}
    if status == 429:
        headers.append((b"retry-after", b"1"))
    return Answer(
        provider=provider,
        id=request_id(headers),
        status=status,
        headers=headers,
        pieces=[encode(body)],
    )
