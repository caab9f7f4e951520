"""A request of somebody who may call: what of it does not depend on where it goes."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Raw

from metering.core.annotations import Annotations
from metering.directory import Caller
from metering.providers import request as reading
from metering.proxy.exchange import Exchange
from metering.proxy.said import Said
from metering.settings import Settings
from metering.surfaces import Surface

NO_MEMBERS: Mapping[str, Raw] = {}


class Request:
    """See the module. Its body is read when it is first asked for."""

    __slots__ = (
        "_body",
        "_exchange",
        "_settings",
        "caller",
        "method",
        "now_ms",
        "ours",
        "path",
        "provider",
        "query",
        "request_id",
        "said",
        "started_s",
        "surface",
    )

    def __init__(
        self,
        exchange: Exchange,
        route: tuple[str, str],
        who: tuple[Caller, Said],
        settings: Settings,
        *,
        request_id: str,
        now_ms: int,
        started_s: float,
    ) -> None:
        """`route`: see `Surface.match`."""
        self.surface: Surface = exchange.surface
        self.method = exchange.method
        self.provider, self.path = route
        self.query = exchange.query
        self.caller, self.said = who
        self.request_id = request_id
        self.now_ms = now_ms
        self.started_s = started_s
        self.ours = NO_MEMBERS
        """The members of its body that are for us."""
        self._exchange = exchange
        self._settings = settings
        self._body: bytes | None = None

    @property
    def annotations(self) -> Annotations:
        """What its headers say; raises InvalidRequest."""
        return self.said.annotations()

    async def body(self) -> bytes:
        """The whole body, less what is for us."""
        if self._body is None:
            settings = self._settings
            body = await self._exchange.body(settings.body_bytes_max, settings.body_s)
            self._body, self.ours = _taken(self.surface.members, body)
        return self._body


def _taken(names: tuple[str, ...], body: bytes) -> tuple[bytes, Mapping[str, Raw]]:
    """What of a body is for the provider, and the members that are for us."""
    ours: dict[str, Raw] = {}
    for name in names:
        if b'"%b"' % name.encode() in body:
            body, found = reading.without(body, name)
            if found is not None:
                ours[name] = found
    return body, ours or NO_MEMBERS
