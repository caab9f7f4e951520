"""Who calls: by a key of ours wherever it may stand, or by none where that is let in."""

from __future__ import annotations

from metering.core.addresses import Visitor, is_local
from metering.directory import Caller, Directory
from metering.errors import InvalidApiKey, NotAllowed
from metering.proxy.exchange import Exchange
from metering.proxy.said import Reader, Said
from metering.settings import Settings
from metering.surfaces import SURFACES, Surface


class Callers:
    """Knows the callers of one worker."""

    def __init__(self, settings: Settings, directory: Directory) -> None:
        self._settings = settings
        self._directory = directory
        self._readers = {
            it: Reader(it, directory.is_admin_key, settings.admin_key) for it in SURFACES
        }

    async def of(self, exchange: Exchange, surface: Surface) -> tuple[Caller, Said]:
        """Who calls, and what is said then: of who needs no key of ours, any may stand in for the
        provider's. Raises InvalidApiKey, or NotAllowed."""
        said = self._readers[surface].read(exchange.headers)
        visitor = Visitor(exchange.peer, exchange.headers)
        caller = None
        lets_in = self._lets_in(said, visitor)
        own = said.brought_along()
        if lets_in:
            caller = await self._directory.caller(own.key) if own.key else None
        elif own.key:
            caller = await self._directory.admit(own.key, visitor)
        if caller is not None:
            said = own
        elif lets_in:
            caller = await self._directory.anonymous(visitor)
            said = said.without_placeholder()
        if caller is None:
            raise InvalidApiKey(field=surface.key_name)
        if caller.role == "read":
            raise NotAllowed("a key with role `read` cannot make provider calls; use an `app` key")
        return caller, said

    def _lets_in(self, said: Said, visitor: Visitor) -> bool:
        """Whether whoever calls needs no key of ours. Some key is asked for all the same: no page
        in a browser can make it show one without asking first."""
        if self._settings.anonymous != "loopback" or not said.shows_another_key:
            return False
        return is_local(visitor)
