"""Where a call goes: to the base URL of its provider, the operator's or a public one, or where its
caller says.

What a caller says needs a key that may, is judged by the rules, and is looked up before anything
is held or connected. A stored credential goes to its own origin alone, which is judged and looked
up likewise, or without one to the operator's base URL; never where a caller says.
"""

from __future__ import annotations

from metering.core import origins
from metering.core.credentials import Credential
from metering.core.origins import Origin
from metering.directory import Caller
from metering.errors import InvalidApiKey, InvalidRequest, NotAllowed
from metering.providers import hosts
from metering.providers.base import Dialect
from metering.settings import Settings
from metering.upstream import Resolver


class Destinations:
    """The origins of one worker's calls."""

    def __init__(self, settings: Settings, resolver: Resolver) -> None:
        self.addresses = resolver.addresses
        """See `Resolver.addresses`."""
        self._rules = origins.rules_of(settings)
        self._bases = hosts.bases_of(settings)
        self._origins = {name: origins.operators(url) for name, url in self._bases.items()}

    def of(
        self,
        caller: Caller,
        dialect: Dialect,
        base_uri: Origin | None,
        credential: Credential | None,
    ) -> Origin | None:
        """Where a call goes; None: to the operator's own.

        Raises NotAllowed, InvalidRequest, or InvalidApiKey.
        """
        if credential is None:
            return self._chosen(caller, dialect, base_uri)
        if credential.origin is not None:
            return self._bound(dialect, base_uri, credential.origin)
        chosen = self._chosen(caller, dialect, base_uri)
        if chosen is not None:
            raise no_stored_key(chosen)
        return None

    def _bound(self, dialect: Dialect, base_uri: Origin | None, bound: Origin) -> Origin | None:
        """The origin of a credential; a caller may say the same one, and another path there."""
        if base_uri is not None:
            if not base_uri.shares_host(bound):
                raise InvalidRequest(
                    f"{origins.HEADER} is not the origin that the credential of this call is bound "
                    "to: leave the header out, name another credential, or send the provider's own "
                    "key in its usual header",
                    code="credential_of_another_origin",
                    field=origins.HEADER,
                )
            bound = base_uri if base_uri.path else bound
        if bound == self._origins.get(dialect.name):
            return None
        self._rules.check(bound)
        return bound

    def _chosen(self, caller: Caller, dialect: Dialect, base_uri: Origin | None) -> Origin | None:
        """The origin that a caller chose, if it may be called."""
        if base_uri is None and dialect.name not in self._bases:
            raise missing(origins.HEADER, f"where the resource is, such as {origins.EXAMPLE}")
        operators = self._origins.get(dialect.name)
        if base_uri is None or base_uri == operators:
            if operators is not None and dialect.name in hosts.PUBLIC:
                self._rules.check(operators)  # the operator may have listed others
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


def no_stored_key(chosen: Origin) -> InvalidApiKey:
    """The fault of a call that goes where its caller says, and brings no key for that."""
    return InvalidApiKey(
        f"{chosen.host} is a host of the caller's choice, to which no stored key is sent: "
        "send the provider's own key in its usual header and this service's in "
        "xProxy-Api-Key, or have the operator set the provider's base URL and leave "
        f"{origins.HEADER} out",
        code="provider_key_missing",
        field=origins.HEADER,
    )
