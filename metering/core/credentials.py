"""Stored provider credentials: what they are called, what they are bound to, and who may use them.

A key that names none in its permissions may use every credential of its application and the
operator's, and may bring one of its own. One that names any, `credential:<slug>`, `credential:*` or
`own_credential`, may use what it names and nothing else.
"""

from __future__ import annotations

import re

import msgspec

from metering.core.origins import Origin
from metering.core.routing import Azure
from metering.core.sealing import Secret, context
from metering.errors import InvalidApiKey, InvalidRequest, NotAllowed

HEADER = "xProxy-Credential"
SLUG = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
RESERVED = "env-"
"""What the slugs of the operator's own keys begin with, which his environment has."""
OWN = "own_credential"
MANAGE = "manage_credentials"
_USE = "credential:"
_USE_ALL = _USE + "*"


class Deployment(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    rename={"name": "deploymentName", "api_version": "apiVersion"},
):
    """One of several deployments of an Azure resource, in Portkey's words."""

    name: str
    api_version: str | None = None
    alias: str | None = None
    """By which name of a model it is called; that of the deployment itself always is one."""
    is_default: bool = False


class ModelConfig(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    rename={
        "resource": "resourceName",
        "deployment": "deploymentName",
        "api_version": "apiVersion",
        "deployments": "deploymentConfig",
    },
):
    """What a credential of Azure's knows of its resource, in Portkey's words."""

    resource: str | None = None
    deployment: str | None = None
    api_version: str | None = None
    deployments: tuple[Deployment, ...] = ()

    def azure(self, model: str) -> Azure:
        """The deployment for a call of a model: one that is called so, or has it for an alias, else
        the default one."""
        called = [it for it in self.deployments if model and model in (it.alias, it.name)]
        defaults = [it for it in self.deployments if it.is_default]
        found = next(iter((*called, *defaults)), None)
        if found is None:
            return Azure(self.resource, self.deployment, self.api_version)
        return Azure(self.resource, found.name, found.api_version or self.api_version)


NO_CONFIG = ModelConfig()


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
    expires_ms: int | None = None
    """From when on it serves no call."""
    model_config: ModelConfig = NO_CONFIG

    def expired(self, now_ms: int) -> bool:
        """Whether its time is over."""
        return self.expires_ms is not None and self.expires_ms <= now_ms

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


def check_usable(credential: Credential, provider: str, now_ms: int) -> None:
    """Raises NotAllowed for a credential that cannot serve a call to a provider, and InvalidApiKey
    for one that has expired."""
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
    if credential.expired(now_ms):
        raise InvalidApiKey(
            f"credential {slug!r} has expired; give it a later expires_at, or none",
            code="credential_expired",
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
