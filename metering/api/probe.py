"""A try of a stored credential: one call that costs nothing, where the credential's calls go."""

from __future__ import annotations

import asyncio
import time
from typing import Literal

import msgspec

from metering.core import origins
from metering.core.credentials import Credential
from metering.errors import InvalidRequest, ProviderFault
from metering.providers import DIALECTS, hosts
from metering.settings import Settings
from metering.surfaces.base import upstream_url
from metering.upstream import Resolver, Upstream

PATIENCE_S = 15
_REFUSED = frozenset({401, 403})


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it; nothing that the provider said but its status."""

    outcome: Literal["accepted", "refused", "unclear", "unreachable"]
    """`refused`: of the credential; `unclear`: the provider answered, but not to that question."""
    status: int | None = None
    latency_ms: int | None = None
    reason: str | None = None
    """Why the provider could not be reached."""


class Probe:
    """Tries credentials."""

    def __init__(self, settings: Settings, upstream: Upstream, resolver: Resolver) -> None:
        self._bases = hosts.bases_of(settings)
        self._rules = origins.rules_of(settings)
        self._upstream = upstream
        self._resolver = resolver

    async def attempt(self, credential: Credential) -> Tried:
        """Show it to the provider once, in bounded time."""
        began_s = time.monotonic()
        try:
            async with asyncio.timeout(PATIENCE_S):
                status = await self._status(credential)
        except TimeoutError:
            return Tried(outcome="unreachable", reason=f"no answer in {PATIENCE_S} s")
        except ProviderFault as fault:
            return Tried(outcome="unreachable", reason=fault.message)
        except InvalidRequest as fault:  # of its origin
            refused = origins.of_field(fault, "origin")
            return Tried(outcome="unreachable", reason=refused.message)
        return Tried(
            outcome="refused" if status in _REFUSED else "accepted" if status < 300 else "unclear",
            status=status,
            latency_ms=round((time.monotonic() - began_s) * 1000),
        )

    async def _status(self, credential: Credential) -> int:
        dialect = DIALECTS[credential.provider]
        origin, addresses = credential.origin, None
        base = self._bases.get(credential.provider, "")
        if origin is not None and origin != origins.operators(base):
            self._rules.check(origin)
            base, addresses = origin.url, await self._resolver.addresses(origin)
        under = "" if origin is None else origin.path
        path = dialect.models_path.removeprefix(under)
        headers = [dialect.credential(credential.revealed()), (b"accept-encoding", b"identity")]
        headers += dialect.default_headers(headers)
        url = upstream_url(base, path, versioned=dialect.versioned)
        reply = await self._upstream.send("GET", url, headers, b"", addresses)
        await reply.stream.aclose()
        return reply.status
