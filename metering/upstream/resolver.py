"""Names of origins that callers chose, looked up once and judged: a call connects to what is given
here and to nothing else, so that no second answer of a name server can lead it elsewhere.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address

from metering.core.origins import NOT_PUBLIC, Origin, is_public, wrong_host

Lookup = Callable[[str], Awaitable[Sequence[str]]]
"""All addresses of a name; raises OSError."""

LOOKUP_S = 5.0
"""How long a name server may take."""
REMEMBERED_S = 30.0
REMEMBERED_MAX = 1024
THREADS = 8
"""Lookups at once. They have threads of their own: names that callers chose, and whose servers
never answer, keep nobody from a provider of the operator's."""


class Resolver:
    """The addresses of origins. What is remembered has been judged, and is forgotten in 30 s."""

    def __init__(self, *, private: bool = False, lookup: Lookup | None = None) -> None:
        """`private`: whether addresses that are not public are fine."""
        self._private = private
        self._lookup = lookup or self._getaddrinfo
        self._loop = asyncio.get_running_loop()
        self._threads: ThreadPoolExecutor | None = None
        self._remembered: dict[str, tuple[float, tuple[str, ...]]] = {}

    async def addresses(self, origin: Origin) -> tuple[str, ...]:
        """Where to connect, in order; raises InvalidRequest `invalid_provider_host`."""
        if origin.address is not None:  # the rules have judged it
            return (origin.host,)
        now_s = self._loop.time()
        kept = self._remembered.get(origin.host)
        if kept is not None and now_s < kept[0]:
            return kept[1]
        found = await self._find(origin.host)
        if len(self._remembered) >= REMEMBERED_MAX:
            self._remembered.clear()
        self._remembered[origin.host] = (now_s + REMEMBERED_S, found)
        return found

    async def _find(self, host: str) -> tuple[str, ...]:
        try:
            async with asyncio.timeout(LOOKUP_S):
                found = tuple(dict.fromkeys(await self._lookup(host)))
        except TimeoutError:
            raise wrong_host(host, "was not found in time; try again", should_retry=True) from None
        except OSError as error:
            again = error.errno == socket.EAI_AGAIN
            problem = "cannot be looked up now" if again else "does not exist"
            raise wrong_host(host, problem, should_retry=again) from None
        if not found:
            raise wrong_host(host, "has no address")
        if not self._private and not all(is_public(ip_address(it)) for it in found):
            raise wrong_host(host, f"has an address that {NOT_PUBLIC}")
        return found

    async def _getaddrinfo(self, host: str) -> list[str]:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="resolver")
        found = await self._loop.run_in_executor(
            self._threads, lambda: socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        )
        return [str(address[0]) for *_, address in found]

    def close(self) -> None:
        """Look nothing up any more."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
