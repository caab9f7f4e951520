"""Where a call goes: to the operator's base URL of its provider, or where its caller says.

What a caller says needs a key that may, is judged by the rules, and is looked up before anything
is held or connected. Stored keys never go there.
"""

from __future__ import annotations

from metering.core import origins
from metering.core.origins import Origin, Rules
from metering.directory import Caller
from metering.errors import InvalidRequest, NotAllowed
from metering.providers.base import Dialect
from metering.settings import Settings
from metering.upstream import Resolver


class Destinations:
    """The origins of one worker's calls."""

    def __init__(self, settings: Settings, resolver: Resolver) -> None:
        self.addresses = resolver.addresses
        """See `Resolver.addresses`."""
        self._rules = Rules(
            settings.allow_private_origins == "on", tuple(settings.provider_hosts())
        )
        self._bases = {
            "openai": settings.openai_base_url,
            "anthropic": settings.anthropic_base_url,
        }
        self._origins = {name: _origin(url) for name, url in self._bases.items()}

    def chosen(self, caller: Caller, dialect: Dialect, base_uri: Origin | None) -> Origin | None:
        """The origin that a caller chose, if it may be called; None: the operator's own.

        Raises NotAllowed or InvalidRequest.
        """
        if base_uri is None and dialect.name not in self._bases:
            raise missing(origins.HEADER, f"where the resource is, such as {origins.EXAMPLE}")
        if base_uri is None or base_uri == self._origins.get(dialect.name):
            return None
        if not caller.may("base_uri"):
            raise NotAllowed(
                f"{origins.HEADER} needs a key with the permission `base_uri`",
                field=origins.HEADER,
            )
        self._rules.check(base_uri)
        return base_uri

    def base_url(self, dialect: Dialect, chosen: Origin | None) -> str:
        """What the path of a call follows upstream."""
        return self._bases[dialect.name] if chosen is None else chosen.url


def missing(header: str, what: str) -> InvalidRequest:
    """The fault of a call without a header it must have; `what` it says."""
    return InvalidRequest(
        f"Required header {header} is missing from the request; send in it {what}",
        code="header_is_missing",
        field=header,
    )


def _origin(url: str) -> Origin | None:
    """An operator's base URL as a caller may spell it; None where that is none."""
    try:
        return origins.parse(url)
    except InvalidRequest:
        return None
