"""Which stored credential serves a call, if one does: the one it names, its application's default
for the provider, or the operator's own key; and whether the caller may use it, or bring his own."""

from __future__ import annotations

from metering.core.credentials import (
    HEADER,
    OWN,
    SLUG,
    Credential,
    check_usable,
    environment_slug,
    may_bring_own,
    may_use,
)
from metering.core.headers import redacted
from metering.core.sealing import Secret
from metering.directory import Caller, Directory
from metering.errors import InvalidRequest, NotAllowed
from metering.settings import Settings


class Credentials:
    """The credentials of one worker's calls."""

    def __init__(self, settings: Settings, directory: Directory) -> None:
        self._directory = directory
        keys = {"openai": settings.openai_api_key, "anthropic": settings.anthropic_api_key}
        self._operators = {
            provider: Credential(
                slug=environment_slug(provider), provider=provider, secret=Secret(key)
            )
            for provider, key in keys.items()
            if key
        }
        self._by_slug = {it.slug: it for it in self._operators.values()}

    async def serving(
        self, caller: Caller, provider: str, slug: str | None, *, slot_is_free: bool
    ) -> Credential | None:
        """The credential that serves a call; None: the caller's own, or there is none.

        What a call names, by its `slug`, serves it, whatever stands in the provider's slot. Raises
        NotAllowed, InvalidApiKey or InvalidRequest.
        """
        found: Credential | None
        if slug is not None:
            found = await self.named(caller, slug, provider)
        elif slot_is_free:
            found = await self._default(caller, provider)
        else:
            if not (caller.role == "admin" or may_bring_own(caller.permissions)):
                raise NotAllowed(
                    f"a provider key of one's own needs a key with the permission `{OWN}`; leave "
                    f"it out, or name a stored credential with {HEADER}"
                )
            return None
        if found is not None:
            check_usable(found, provider, self._directory.now_ms())
        return found

    async def named(self, caller: Caller, slug: str, provider: str = "anthropic") -> Credential:
        """The credential of a slug, for a `provider` as far as that is known; raises NotAllowed,
        or InvalidRequest if there is none."""
        if not _permitted(caller, slug):
            raise _not_permitted(slug)
        found = await self.known(caller, slug)
        if found is None:
            shown = redacted(slug)[:64]
            raise InvalidRequest(
                f"Following keys are not valid: {shown}. {HEADER}, or a virtual key, names a "
                "credential that does not exist; store one with POST /api/v1/credentials, or: "
                f"xproxy credentials create {shown} --provider {provider}",
                code="unknown_credential",
                field=HEADER,
            )
        return found

    async def known(self, caller: Caller, slug: str) -> Credential | None:
        """The same, None if there is none; raises NotAllowed for one that the caller may not
        use."""
        if not SLUG.fullmatch(slug):
            return None
        found = self._by_slug.get(slug)
        found = found or await self._directory.credential(caller.application_id, slug)
        if found is not None and not _permitted(caller, slug):
            raise _not_permitted(slug)
        return found

    async def _default(self, caller: Caller, provider: str) -> Credential | None:
        """The application's default if the caller may use it, else the operator's."""
        found = await self._directory.default_credential(caller.application_id, provider)
        if found is not None and _permitted(caller, found.slug):
            return found
        operators = self._operators.get(provider)
        if operators is None or _permitted(caller, operators.slug):
            return operators
        raise _not_permitted(operators.slug)


def _permitted(caller: Caller, slug: str) -> bool:
    return caller.role == "admin" or may_use(caller.permissions, slug)


def _not_permitted(slug: str) -> NotAllowed:
    shown = redacted(slug)[:64]
    return NotAllowed(
        f"credential {shown!r} needs a key with the permission `credential:{shown}`",
        code="credential_not_permitted",
        field=HEADER,
    )
