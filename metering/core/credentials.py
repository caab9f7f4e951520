"""Stored provider credentials: what they are called, what they are bound to, and who may use them.

A key that names none in its permissions may use every credential of its application and the
operator's, and may bring one of its own. One that names any, `credential:<slug>`, `credential:*` or
`own_credential`, may use what it names and nothing else.
"""

from __future__ import annotations

import re

import msgspec

from metering.core.origins import Origin
from metering.core.sealing import Secret, context
from metering.errors import InvalidRequest, NotAllowed

HEADER = "xProxy-Credential"
SLUG = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
RESERVED = "env-"
"""What the slugs of the operator's own keys begin with, which his environment has."""
OWN = "own_credential"
MANAGE = "manage_credentials"
_USE = "credential:"
_USE_ALL = _USE + "*"


class Credential(msgspec.Struct, frozen=True, kw_only=True):
    """A provider's secret, as it serves calls."""

    slug: str
    provider: str
    """By the name that the routes have for it."""
    origin: Origin | None = None
    """The only place it goes; None: the operator's base URL of the provider."""
    secret: Secret | None = None
    """None: it was voided, and has to be set anew."""
    blocked: bool = False

    def revealed(self) -> str:
        """The secret itself, of one that is usable."""
        if self.secret is None:
            raise ValueError(self.slug)
        return self.secret.reveal()


def bound_to(application_id: str, credential_id: str, provider: str, origin: str | None) -> bytes:
    """What the secret of a credential is sealed for: it opens nowhere else."""
    return context("credential", application_id, credential_id, provider, origin or "")


def checked_slug(text: str, field: str) -> str:
    """What a credential is called; raises InvalidRequest naming `field`."""
    if not SLUG.fullmatch(text):
        raise InvalidRequest(
            f"{field} must be the slug of a credential: 1 to 64 of the characters a-z 0-9 _ -, a "
            "letter or digit first",
            field=field,
        )
    return text


def environment_slug(provider: str) -> str:
    """What the operator's own key of a provider is called."""
    return RESERVED + provider


def _restricted(permissions: frozenset[str]) -> bool:
    return any(it == OWN or it.startswith(_USE) for it in permissions)


def may_use(permissions: frozenset[str], slug: str) -> bool:
    """Whether a key with these permissions may use a stored credential."""
    if _USE + slug in permissions or _USE_ALL in permissions:
        return True
    return not _restricted(permissions)


def may_bring_own(permissions: frozenset[str]) -> bool:
    """Whether a key with these permissions may bring a provider key of its own."""
    return OWN in permissions or not _restricted(permissions)


def check_usable(credential: Credential, provider: str) -> None:
    """Raises NotAllowed for a credential that cannot serve a call to a provider."""
    slug = credential.slug
    if credential.provider != provider:
        raise NotAllowed(
            f"credential {slug!r} is of {credential.provider}, and this call goes to {provider}",
            code="credential_of_another_provider",
            field=HEADER,
        )
    if credential.blocked:
        raise NotAllowed(
            f"credential {slug!r} is blocked; unblock it: xproxy credentials update {slug} "
            "--unblock",
            code="credential_blocked",
            field=HEADER,
        )
    if credential.secret is None:
        raise NotAllowed(
            f"credential {slug!r} has no secret since its origin was changed; set it: "
            f"xproxy credentials rotate {slug}",
            code="credential_needs_secret",
            field=HEADER,
        )


def topic(application_id: str, slug: str) -> str:
    """What workers are told when a credential changes."""
    return f"credential:{application_id}:{slug}"


def defaults_topic(application_id: str) -> str:
    """What workers are told when an application's default credentials change."""
    return f"default_credentials:{application_id}"
