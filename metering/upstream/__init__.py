"""Connections to providers, and what the data plane asks of them."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import cast

import httpx

from metering.upstream.connection import timed_out, unreachable
from metering.upstream.engine import Addresses, Body, EngineTransport, Reply
from metering.upstream.resolver import Resolver

__all__ = ["Body", "EngineTransport", "Reply", "Resolver", "Upstream", "timed_out", "unreachable"]


class Upstream:
    """One call: its status, headers and raw bytes. The transport may be any of httpx's."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        """`EngineTransport` is asked without httpx's objects; `MockTransport` is for tests."""
        self._transport = transport

    def send(
        self,
        method: str,
        url: str,
        headers: list[tuple[bytes, bytes]],
        body: bytes,
        addresses: Addresses = None,
    ) -> Awaitable[Reply]:
        """Send a call; read the reply's stream, then close it. Raises ProviderFault.

        `addresses`: of an origin that the caller chose, the only ones to connect to.
        """
        if isinstance(self._transport, EngineTransport):
            return self._transport.send(method, url, headers, body, addresses)
        return self._send(method, url, headers, body, addresses)

    async def _send(
        self,
        method: str,
        url: str,
        headers: list[tuple[bytes, bytes]],
        body: bytes,
        addresses: Addresses,
    ) -> Reply:
        extensions = {"addresses": addresses}  # for a test to see: no other engine keeps to them
        request = httpx.Request(
            method, url, headers=headers, content=body or None, extensions=extensions
        )
        try:
            response = await self._transport.handle_async_request(request)
        except httpx.TimeoutException as error:
            raise timed_out(sent=True) from error
        except httpx.TransportError as error:
            raise unreachable(sent=True) from error
        named = [(name.lower(), value) for name, value in response.headers.raw]
        return Reply(response.status_code, named, _Foreign(response))

    async def close(self) -> None:
        """Close every connection."""
        await self._transport.aclose()


class _Foreign:
    """A body from another transport than ours."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self._pieces = aiter(cast(httpx.AsyncByteStream, response.stream))

    async def read(self) -> bytes:
        """See `Body`."""
        while (data := await anext(self._pieces, None)) is not None:
            if data:
                return data
        return b""

    async def aclose(self) -> None:
        """See `Body`."""
        await cast(httpx.AsyncByteStream, self._response.stream).aclose()
