"""What every surface offers: its paths, what its requests say about themselves, and its errors.

| fault, or refusal  | headers beside the request's id                                           |
|--------------------|---------------------------------------------------------------------------|
| any                | `x-should-retry` where it is known whether that helps                     |
| 405                | `allow`                                                                   |
| 429                | `x-ratelimit-*`, `retry-after`                                            |
| 503                | `retry-after`                                                             |
| of limits          | `x-should-retry`; `retry-after` if only calls in flight are in the way;   |
|                    | `xproxy-resets-at` of limits with windows                                 |

Each surface writes the body in its own grammar.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import ClassVar
from urllib.parse import unquote

import msgspec

from metering.core.annotations import Annotations
from metering.core.limits import Limit, Refusal, Refused, Unit
from metering.core.result import digits
from metering.core.routing import NOBODY, Node, leaf
from metering.core.windows import moment_text
from metering.errors import MethodNotAllowed, OurFault, RateLimited, XproxyError

REACHED = "limit_reached", "Insufficient limit for the requested operation"
REACHED_BUDGET = "not_enough_budget", "Insufficient budget for the requested operation"
"""Code and message of a refusal by limits; and what they were to who calls limits budgets."""
PATH_REMEMBERED_MAX = 256
"""What longer paths mean is looked at anew each time: memory is bounded."""

Headers = list[tuple[bytes, bytes]]
Answer = tuple[int, Headers, bytes]
"""Status, headers and body."""

ANYWHERE = leaf(NOBODY)
"""A plan that says nothing."""

_encode = msgspec.json.Encoder().encode


class _Why(msgspec.Struct, omit_defaults=True):
    limit_id: str
    unit: Unit
    max: msgspec.Raw
    settled: msgspec.Raw
    held: msgspec.Raw
    needed: msgspec.Raw
    holds: int
    final: bool
    resets_at: datetime | None = None


class Problem(msgspec.Struct, omit_defaults=True):
    """The member `xproxy_error`."""

    code: str
    message: str
    limits: tuple[_Why, ...] = ()
    """The numbers of each limit that blocks."""


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """What an error of ours says, in whatever grammar."""

    status: int
    message: str
    field: str | None = None
    """The header or member at fault."""
    refused: bool = False
    """Whether limits refuse the call."""
    blocked: Sequence[str] = ()
    """Which of them do, by their ids."""
    own: Sequence[str] = ()
    """Those of the caller's key."""
    problem: Problem
    result: msgspec.Raw
    """The member `xproxy_result`."""


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """Which way one attempt of a call went."""

    trace_id: str
    provider: str
    """By the name that the call has for it."""
    index: str
    """The target's place in the config."""
    retries: int
    """How often this target had been tried before; -1: as often as it may be, in vain."""
    dropped: Sequence[str] = ()
    """Members that the provider's form has no words for."""
    changed: Sequence[str] = ()
    """Members that came through with another value."""


class Surface(ABC):
    """One client family's dialect."""

    name: str
    """What usage rows call it."""
    roots: tuple[str, ...]
    """What all of its paths begin with, the mistyped ones too."""
    prefixes: ClassVar[Mapping[str, tuple[str, str]]]
    """What a path begins with: which provider's it is, and what its path there begins with."""
    key_headers: tuple[bytes, ...] = (b"xproxy-api-key",)
    """Where our key may stand beside the provider's slots; the first that is sent counts."""
    key_name: str = "xProxy-Api-Key"
    """Where to send it who sends none."""
    members: tuple[str, ...] = ()
    """The members of a body that are for us, and stay here."""
    where_headers: frozenset[bytes] = frozenset()
    """Headers that say where a call goes."""
    any_provider = False
    """Whether its paths are no provider's own: what a call says tells where it goes."""
    tells_what_is_left = False
    """Whether `about_cost` is to know what is left of limits."""
    permanent: Sequence[tuple[bytes, bytes]] = ()
    """Headers of each of its answers."""

    def __init__(self) -> None:
        self._match = lru_cache(maxsize=1024)(self._find)

    def match(self, raw_path: bytes | str) -> tuple[str, str] | None:
        """(provider, its path) of a raw request path without query; None: not one of this surface.
        The provider is empty where the path does not tell.

        Percent-encoding is kept. A path that climbs (`..`, encoded dots) matches nothing.
        """
        if len(raw_path) > PATH_REMEMBERED_MAX:
            return self._find(raw_path)
        return self._match(raw_path)

    def _find(self, raw_path: bytes | str) -> tuple[str, str] | None:
        path = raw_path.decode("latin-1") if isinstance(raw_path, bytes) else raw_path
        if path.startswith("//"):
            path = "/" + path.lstrip("/")
        if path.rstrip("/") + "/" in self.prefixes:
            return None
        for prefix, (provider, base) in self.prefixes.items():
            if path.startswith(prefix):
                upstream_path = base + path[len(prefix) :]
                return None if self.climbs(upstream_path) else (provider, upstream_path)
        return None

    @staticmethod
    def climbs(path: str) -> bool:
        """Whether a path leaves what it begins with (`..`), however it is written."""
        if "." not in path and "%" not in path:
            return False
        if "%2e" in path.lower():
            return True
        parts = unquote(path).replace("\\", "/").split("/")
        return "." in parts or ".." in parts

    def of(self, headers: Sequence[tuple[bytes, bytes]]) -> Surface:  # noqa: ARG002
        """The surface of a call with such headers: they may tell whose client sends it."""
        return self

    def lists(self, method: bytes, path: bytes, headers: Sequence[tuple[bytes, bytes]]) -> bool:  # noqa: ARG002
        """Whether a request asks for what we know ourselves, and is no call to a provider."""
        return False

    # What a request says about itself

    @abstractmethod
    def annotate(self, headers: Sequence[tuple[bytes, bytes]]) -> Annotations:
        """What headers say; raises InvalidRequest."""

    def complete(
        self,
        said: Annotations,
        members: Mapping[str, msgspec.Raw],  # noqa: ARG002
        *,
        end_user: str | None,  # noqa: ARG002
        key_user: str | None,  # noqa: ARG002
    ) -> Annotations:
        """The same with what the body says, if that says anything: `members` for us, as they came,
        and whom the provider is told the call is for. `key_user` is whose key it is. Raises
        InvalidRequest.
        """
        return said

    def plan(self, headers: Sequence[tuple[bytes, bytes]]) -> Node:  # noqa: ARG002
        """Where a call may go, as its headers say, if its path does not tell; raises
        InvalidRequest."""
        return ANYWHERE

    # What it is answered

    def about_request(
        self,
        headers: Sequence[tuple[bytes, bytes]],  # noqa: ARG002
        request_id: str,  # noqa: ARG002
    ) -> Sequence[tuple[bytes, bytes]]:
        """Headers of every answer to such a request, also of one that is no call yet."""
        return ()

    def about_key(
        self,
        limits: Sequence[Limit],  # noqa: ARG002
        limit_ids: Sequence[str],  # noqa: ARG002
        spent: Callable[[Limit], int | None],  # noqa: ARG002
    ) -> Sequence[tuple[bytes, bytes]]:
        """Headers of the answers to a call within these limits, of which `limit_ids` bind its
        key. `spent`: what a limit had settled a moment ago, if that is known."""
        return self.permanent

    def about_route(self, route: Route) -> Sequence[tuple[bytes, bytes]]:  # noqa: ARG002
        """Headers that say which way a call went."""
        return ()

    def about_cost(
        self,
        cost_pico: int | None,  # noqa: ARG002
        remaining: Sequence[tuple[Limit, int]],  # noqa: ARG002
    ) -> Sequence[tuple[bytes, bytes]]:
        """Headers that say what a call cost, None: that is not known yet; and what is left of
        limits that bind it, in their units."""
        return ()

    def about_spend(
        self,
        refused: Refused,  # noqa: ARG002
        limits: Sequence[Limit],  # noqa: ARG002
        limit_ids: Sequence[str],  # noqa: ARG002
    ) -> Sequence[tuple[bytes, bytes]]:
        """Headers of the answer to such a call that limits refuse, in place of those above: what
        the refusal says they have spent."""
        return ()

    def error(self, fault: XproxyError, request_id: str, result: bytes | None = None) -> Answer:
        """The answer to a fault. `result` is its `xproxy_result`, by default its id."""
        if result is None:
            result = _encode({"request_id": request_id})
        shown = Shown(
            status=fault.status,
            message=fault.message,
            field=fault.field,
            problem=Problem(fault.code, fault.message),
            result=msgspec.Raw(result),
        )
        headers = [*_headers(request_id), *self.permanent, *_fault_headers(fault)]
        return fault.status, headers, self.body(shown)

    def refused_status(self, refused: Refused, wanted: int | None) -> int:  # noqa: ARG002
        """The status of the answer to a call that limits refuse; `wanted` is the operator's."""
        return wanted or 400

    def refusal(
        self,
        refused: Refused,
        request_id: str,
        result: bytes,
        status: int | None = None,
        *,
        budgets: bool = False,
        limit_ids: Sequence[str] = (),
    ) -> Answer:
        """The answer to a call that limits refuse, or, as the first SDKs have it, `budgets`.
        `status`: the operator's in place of ours; `limit_ids` are those of the caller's key."""
        code, what = REACHED_BUDGET if budgets else REACHED
        status = self.refused_status(refused, status)
        shown = Shown(
            status=status,
            message=f"{what}: {_reason(refused)}",
            refused=True,
            blocked=refused.blocked_limit_ids,
            own=limit_ids,
            problem=Problem(code, what, tuple(map(_why, refused.refusals))),
            result=msgspec.Raw(result),
        )
        return status, [*_headers(request_id), *_refusal_headers(refused)], self.body(shown)

    @abstractmethod
    def body(self, shown: Shown) -> bytes:
        """An error of ours in this grammar."""

    @abstractmethod
    def provider_error(self, status: int, body: bytes, result: bytes) -> bytes:
        """A provider's error body with our members after its own."""


def upstream_url(base_url: str, path: str, query: bytes = b"", *, versioned: bool) -> str:
    """The provider's URL of a path. Where a base URL is `versioned`, as OpenAI's, it stands for
    everything up to `/v1`."""
    base = base_url.rstrip("/")
    if versioned or (base.endswith("/v1") and path.startswith("/v1/")):
        path = path.removeprefix("/v1")
    return base + path + ("?" + query.decode("latin-1") if query else "")


def request_headers(request_id: str) -> Headers:
    """The headers every answer carries."""
    name = request_id.encode()
    return [(b"xproxy-request-id", name), (b"x-litellm-call-id", name)]


def _headers(request_id: str) -> Headers:
    return [(b"content-type", b"application/json"), *request_headers(request_id)]


def _fault_headers(fault: XproxyError) -> Headers:
    headers: Headers = []
    if fault.should_retry is not None:
        headers.append((b"x-should-retry", b"true" if fault.should_retry else b"false"))
    if isinstance(fault, MethodNotAllowed):
        headers.append((b"allow", ", ".join(fault.allowed).encode()))
    if isinstance(fault, RateLimited):
        headers += [(name.encode(), value.encode()) for name, value in fault.headers]
    retry_after_s = fault.retry_after_s
    if retry_after_s is None and isinstance(fault, OurFault):
        retry_after_s = 1
    if retry_after_s is not None:
        headers.append((b"retry-after", str(retry_after_s).encode()))
    return headers


def _refusal_headers(refused: Refused) -> Headers:
    headers = [(b"x-should-retry", b"true" if refused.retryable else b"false")]
    if refused.retryable:
        headers.append((b"retry-after", str(max(1, refused.retry_after_s)).encode()))
    if refused.resets_at:
        headers.append(resets_header(refused.resets_at))
    return headers


def resets_header(resets_at: Mapping[str, str]) -> tuple[bytes, bytes]:
    """When the windows of limits end: `team=2026-12-01T00:00:00Z`."""
    text = ",".join([f"{limit_id}={at}" for limit_id, at in resets_at.items()])
    return b"xproxy-resets-at", text.encode()


def _why(refusal: Refusal) -> _Why:
    """The numbers of a refusal: USD as plain decimals, other units as counts."""

    def amount(value: int) -> msgspec.Raw:
        return msgspec.Raw(digits(value) if refusal.unit == "usd" else str(value).encode())

    at_ms = refusal.resets_at_ms
    return _Why(
        limit_id=refusal.limit_id,
        unit=refusal.unit,
        max=amount(refusal.max),
        settled=amount(refusal.settled),
        held=amount(refusal.held),
        needed=amount(refusal.needed),
        holds=refusal.holds,
        final=refusal.final,
        resets_at=None if at_ms is None else datetime.fromtimestamp(at_ms // 1000, UTC),
    )


def _reason(refused: Refused) -> str:
    """Which limits refuse, and what helps."""
    names = ", ".join(f"'{limit_id}'" for limit_id in refused.blocked_limit_ids)
    if refused.until_ms is not None:
        until = moment_text(refused.until_ms)
        return f"limit {names} is used up until {until}; raise or reset it to go on before"
    if refused.retryable:
        return f"what is left of limit {names} is held by calls in flight; retry shortly"
    return f"limit {names} is used up; raise or reset it"
