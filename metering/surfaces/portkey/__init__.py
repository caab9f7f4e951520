"""The unified surface, `/v1/...`: OpenAI's API and Anthropic's in front of any provider; and
Portkey's gateway, which it is to whoever sends `x-portkey-*` headers.

| paths                         | errors                                                          |
|-------------------------------|-----------------------------------------------------------------|
| `/v1/messages`, `/v1/complete` | Anthropic's                                                    |
| the others                    | OpenAI's                                                        |
| with `x-portkey-*` headers    | the same, with Portkey's statuses, `status` and `code` beside   |

| Portkey's code | status | what                                                     |
|----------------|--------|----------------------------------------------------------|
| 01             | 401    | a key or virtual key has expired                         |
| 03             | 401    | no good key                                              |
| 04             | 412    | a budget is used up                                      |
| 05             | 429    | too many requests                                        |

Members that Portkey's SDKs put into a body stay here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import msgspec

from metering.core.annotations import Annotations, is_text
from metering.core.headers import header_text
from metering.core.limits import Limit, Refused
from metering.core.result import digits, splice_result
from metering.core.routing import Node
from metering.core.virtual_keys import PREFIX
from metering.errors import InvalidApiKey, OurFault, XproxyError
from metering.surfaces.base import Answer, Problem, Route, Shown, Surface
from metering.surfaces.grammars import Coded, anthropic_body, openai_body, openai_error
from metering.surfaces.portkey import said

PROMPT_ID = ("prompt_id", "promptId")
MEMBERS = (*PROMPT_ID, "cache_status", "cacheStatus", "cache_force_refresh", "cacheForceRefresh")
ANTHROPIC_ROOTS = ("/v1/messages", "/v1/complete")
OPENAI_ROOTS = tuple(
    "/v1/" + noun
    for noun in (
        *("chat/completions", "completions", "embeddings", "responses", "models"),
        *("images/generations", "images/edits", "images/variations"),
        *("audio/speech", "audio/transcriptions", "audio/translations", "moderations"),
        *("files", "uploads", "batches", "fine_tuning", "vector_stores"),
        *("assistants", "threads", "conversations", "containers", "videos", "evals"),
    )
)
RATE = ":rate:"
"""What is in ids of limits that are rates of virtual keys."""
TRACE_ID = b"x-portkey-trace-id"
RETRIES = b"x-portkey-retry-attempt-count"
INVALID, EXPIRED, EXHAUSTED, TOO_MANY = "03", "01", "04", "05"

_UNSAID = re.compile(r"[^ -~]")
"""What of a member's name is not said in a header."""
_encode = msgspec.json.Encoder().encode
_text = msgspec.json.Decoder(str).decode


class Unified(Surface):
    """See the module; a subclass has Portkey's words."""

    name = "portkey"
    key_headers = (b"xproxy-api-key", b"x-portkey-api-key")
    key_name = "x-portkey-api-key"
    members = MEMBERS
    where_headers = said.WHERE
    any_provider = True

    def __init__(self, roots: tuple[str, ...], portkey: Unified | None = None) -> None:
        """`portkey`: the surface of calls with its headers; None: this one is."""
        self.roots = roots
        self._portkey = portkey
        super().__init__()

    def of(self, headers: Sequence[tuple[bytes, bytes]]) -> Surface:
        """The surface of a call with such headers."""
        if self._portkey is None or not any(name.startswith(said.PREFIX) for name, _ in headers):
            return self
        return self._portkey

    def lists(self, method: bytes, path: bytes, headers: Sequence[tuple[bytes, bytes]]) -> bool:
        """See `base.Surface`. Models, of a client that names no provider."""
        if method != b"GET" or path != b"/v1/models":
            return False
        return not any(
            name in self.where_headers or name == b"anthropic-version" for name, _ in headers
        )

    def _find(self, raw_path: bytes | str) -> tuple[str, str] | None:
        path = raw_path.decode("latin-1") if isinstance(raw_path, bytes) else raw_path
        if path.startswith("//"):
            path = "/" + path.lstrip("/")
        if not any(path == root or path.startswith(root + "/") for root in self.roots):
            return None
        return None if self.climbs(path) else ("", path)

    def annotate(self, headers: Sequence[tuple[bytes, bytes]]) -> Annotations:
        """See `base.Surface`."""
        return said.annotated(headers)

    def plan(self, headers: Sequence[tuple[bytes, bytes]]) -> Node:
        """See `base.Surface`."""
        return said.plan(headers)

    def complete(
        self,
        said: Annotations,
        members: Mapping[str, msgspec.Raw],
        *,
        end_user: str | None,
        key_user: str | None,
    ) -> Annotations:
        """See `base.Surface`. OpenAI's `user` is whom a call is for, if nothing else says so and
        the key is nobody's own."""
        prompt_id = next((_read(members[name]) for name in PROMPT_ID if name in members), None)
        user = None if said.user_id or key_user else _user(end_user)
        if prompt_id is None and user is None:
            return said
        properties = said.properties
        if prompt_id is not None:
            properties = {"prompt_id": prompt_id, **properties}
        return msgspec.structs.replace(said, properties=properties, user_id=said.user_id or user)

    def body(self, shown: Shown) -> bytes:
        """See `base.Surface`."""
        return anthropic_body(shown) if self.roots is ANTHROPIC_ROOTS else openai_body(shown)

    def provider_error(self, status: int, body: bytes, result: bytes) -> bytes:  # noqa: ARG002
        """See `base.Surface`. What is no JSON object stays as it is."""
        return splice_result(body, result) or body

    def about_route(self, route: Route) -> Sequence[tuple[bytes, bytes]]:
        """See `base.Surface`."""
        told = [(b"xproxy-provider", route.provider.encode())]
        return [*told, *_lost(b"xproxy", route)]


class Portkey(Unified):
    """Calls with `x-portkey-*` headers."""

    tells_what_is_left = True

    def about_request(
        self, headers: Sequence[tuple[bytes, bytes]], request_id: str
    ) -> Sequence[tuple[bytes, bytes]]:
        """See `base.Surface`."""
        told = next((header_text(it) for name, it in headers if name == TRACE_ID), "")
        trace_id = told if told and is_text(told) else request_id
        return [(TRACE_ID, trace_id.encode()), (b"x-portkey-cache-status", b"DISABLED")]

    def about_route(self, route: Route) -> Sequence[tuple[bytes, bytes]]:
        """See `base.Surface`."""
        return [
            (TRACE_ID, route.trace_id.encode()),
            (b"x-portkey-provider", route.provider.encode()),
            (b"x-portkey-last-used-option-index", route.index.encode()),
            (RETRIES, str(route.retries).encode()),
            (b"x-portkey-cache-status", b"DISABLED"),
            *_lost(b"x-portkey", route),
        ]

    def about_cost(
        self, cost_pico: int | None, remaining: Sequence[tuple[Limit, int]]
    ) -> Sequence[tuple[bytes, bytes]]:
        """See `base.Surface`. Of several budgets the one is told that has least left."""
        told = [] if cost_pico is None else [(b"x-portkey-cost", digits(cost_pico))]
        usd = [left for limit, left in remaining if limit.unit == "usd"]
        tokens = [left for limit, left in remaining if limit.unit == "tokens"]
        if usd:
            told.append((b"x-portkey-budget-remaining", digits(max(0, min(usd)))))
        if tokens:
            told.append((b"x-portkey-tokens-remaining", str(max(0, min(tokens))).encode()))
        return told

    def about_spend(
        self,
        refused: Refused,
        limits: Sequence[Limit],
        limit_ids: Sequence[str],  # noqa: ARG002
    ) -> Sequence[tuple[bytes, bytes]]:
        """See `base.Surface`."""
        settled = {it.limit_id: it.settled for it in refused.refusals}
        left = [(it, it.max - settled[it.limit_id]) for it in limits if it.limit_id in settled]
        return self.about_cost(None, left)

    def refused_status(self, refused: Refused, wanted: int | None) -> int:
        """See `base.Surface`."""
        if all(_is_rate(it) for it in refused.blocked_limit_ids):
            return 429
        return wanted or 412

    def error(self, fault: XproxyError, request_id: str, result: bytes | None = None) -> Answer:
        """See `base.Surface`. A fault of ours is no provider's."""
        status, headers, body = super().error(fault, request_id, result)
        if isinstance(fault, OurFault):
            headers.append((b"x-portkey-gateway-exception", b"true"))
        return status, headers, body

    def body(self, shown: Shown) -> bytes:
        """See `base.Surface`."""
        if self.roots is ANTHROPIC_ROOTS:
            return anthropic_body(shown)
        error = openai_error(shown)
        message = shown.message
        if shown.refused:
            error.type, what = _whose(shown)
            message = f"Portkey {what}: {shown.message}"
            error.code = TOO_MANY if shown.status == 429 else EXHAUSTED
        elif shown.problem.code == "credential_expired":
            error.code, error.type = EXPIRED, "virtual_key_expired_error"
        elif shown.problem.code == InvalidApiKey.default_code:
            error.code = INVALID
        elif shown.status == 429:
            error.code = TOO_MANY
        elif shown.problem.code.endswith("model_access_denied"):
            error.type = "model_not_allowed_error"
        error.message = message
        return _encode(_Failure("failure", message, error, shown.problem, shown.result))


class _Failure(msgspec.Struct):
    status: str
    message: str
    error: Coded
    xproxy_error: Problem
    xproxy_result: msgspec.Raw


def _is_rate(limit_id: str) -> bool:
    return limit_id.startswith(PREFIX) and RATE in limit_id


def _whose(shown: Shown) -> tuple[str, str]:
    """What Portkey calls a refusal, by whose limit it is: its type, and its words."""
    mine = [it for it in shown.blocked if it.startswith(PREFIX)]
    if mine:
        slug = mine[0].removeprefix(PREFIX).partition(":")[0]
        if _is_rate(mine[0]):
            return "virtual_key_rate_limit_error", f"Virtual Key {slug} Rate Limit Exceeded"
        return "virtual_key_exhaust_error", f"Virtual Key {slug} Usage Limit Exceeded"
    if any(it in shown.own for it in shown.blocked):
        return "api_key_exhaust_error", "API Key Usage Limit Exceeded"
    return "usage_limits_policy_exhaust_error", "Usage Limit Exceeded"


def _lost(prefix: bytes, route: Route) -> list[tuple[bytes, bytes]]:
    """What did not come through a translation as it was."""
    names = ((b"-dropped-params", route.dropped), (b"-changed-params", route.changed))
    return [
        (prefix + name, _UNSAID.sub("?", ", ".join(params)[:1024]).encode())
        for name, params in names
        if params
    ]


def _read(raw: msgspec.Raw) -> str | None:
    try:
        text = _text(raw)
    except ValueError:
        return None
    return text if text and is_text(text) else None


def _user(text: str | None) -> str | None:
    """An end user that can be one: the provider may know him by a text that is none here."""
    user = header_text(text.encode()) if text else None
    return user if user and " " not in user and is_text(user) else None


_PORTKEY = tuple(Portkey(roots) for roots in (OPENAI_ROOTS, ANTHROPIC_ROOTS))
UNIFIED: tuple[Unified, ...] = (
    *(Unified(it.roots, it) for it in _PORTKEY),
    *_PORTKEY,
)
"""Those without Portkey's headers first: whose path it is does not tell."""
