"""Connections to providers, and what the data plane asks of them."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import cast

import httpx

from metering.upstream.connection import timed_out, unreachable
from metering.upstream.engine import Body, EngineTransport, Reply

__all__ = ["Body", "EngineTransport", "Reply", "Upstream", "timed_out", "unreachable"]


class Upstream:
    """One call: its status, headers and raw bytes. The transport may be any of httpx's."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        """`EngineTransport` is asked without httpx's objects; `MockTransport` is for tests."""
        self._transport = transport

    def send(
        self, method: str, url: str, headers: list[tuple[bytes, bytes]], body: bytes
    ) -> Awaitable[Reply]:
        """Send a call; read the reply's stream, then close it. Raises ProviderFault."""
        if isinstance(self._transport, EngineTransport):
            return self._transport.send(method, url, headers, body)
        return self._send(method, url, headers, body)

    async def _send(
        self, method: str, url: str, headers: list[tuple[bytes, bytes]], body: bytes
    ) -> Reply:
        request = httpx.Request(method, url, headers=headers, content=body or None)
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
