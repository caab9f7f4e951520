"""The bodies of `/credentials`, and what their members may be."""

import re

import msgspec
from msgspec import UNSET, UnsetType

from metering.core import origins
from metering.core.credentials import RESERVED, checked_slug
from metering.core.keys import looks_ours
from metering.core.sealing import Secret
from metering.errors import InvalidRequest
from metering.providers import DIALECTS, hosts
from metering.settings import Settings

SECRET_CHARS_MIN, SECRET_CHARS_MAX = 8, 4096
SHOWN_FROM_CHARS = 16
"""Of shorter secrets nothing is shown: four characters would be too much of them."""
_SECRET = re.compile(r"[!-~]+")


class CreateCredential(msgspec.Struct, kw_only=True):
    """The body of a new credential."""

    slug: str
    provider: str
    secret: str
    name: str | None = None
    origin: str | None = None
    is_default: bool = False
    expires_at: str | int | None = None


class UpdateCredential(msgspec.Struct, kw_only=True):
    """The body of a change; what is absent stays as it is."""

    name: str | None = None
    origin: str | UnsetType | None = UNSET
    """Null: the operator's base URL of the provider."""
    is_default: bool | None = None
    blocked: bool | None = None
    secret: str | None = None
    expires_at: str | int | UnsetType | None = UNSET
    """Null: never."""


class RotateCredential(msgspec.Struct, kw_only=True):
    """The body of another secret."""

    secret: str


def checked_new_slug(slug: str) -> str:
    """What a new credential is called."""
    checked_slug(slug, "slug")
    if slug.startswith(RESERVED):
        raise InvalidRequest(
            f"slug must not begin with {RESERVED}: so the operator's own keys are called",
            field="slug",
        )
    return slug


def checked_provider(provider: str) -> str:
    """A provider by the name that the routes have for it."""
    if provider not in DIALECTS:
        raise InvalidRequest(f"provider must be one of {', '.join(DIALECTS)}", field="provider")
    return provider


def checked_secret(text: str) -> Secret:
    """A secret that can stand in a header, and is none of ours. No message repeats it."""
    if not SECRET_CHARS_MIN <= len(text) <= SECRET_CHARS_MAX or not _SECRET.fullmatch(text):
        raise InvalidRequest(
            f"secret must be {SECRET_CHARS_MIN} to {SECRET_CHARS_MAX} visible ASCII characters "
            "without spaces: the provider's key as it was issued",
            field="secret",
        )
    if looks_ours(text):
        raise InvalidRequest(
            "secret is a key of this service: give the one that the provider issued",
            field="secret",
        )
    return Secret(text)


def checked_origin(text: str | None, provider: str, settings: Settings) -> str | None:
    """The one place where a credential goes, in its one spelling; None: the operator's base URL."""
    base_url = hosts.bases_of(settings).get(provider)
    if text is None:
        if base_url is None:
            raise InvalidRequest(
                f"origin is required for {provider}: where the resource is, such as "
                f"{origins.EXAMPLE}",
                field="origin",
            )
        return None
    try:
        origin = origins.parse(text)
        if base_url is None or origin != origins.operators(base_url):
            origins.rules_of(settings).check(origin)
    except InvalidRequest as fault:
        raise origins.of_field(fault, "origin") from None
    return origin.url


def last4(secret: Secret) -> str:
    """What is shown of a secret."""
    text = secret.reveal()
    return text[-4:] if len(text) >= SHOWN_FROM_CHARS else ""
