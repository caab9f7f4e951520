"""Stored credentials by name, opened. They are in the memory of this process and in no other place:
what workers share in Redis has none of them, only which ones serve an application by default."""

from __future__ import annotations

from functools import partial

import structlog

from metering.core import origins
from metering.core.credentials import Credential, bound_to, defaults_topic, topic
from metering.core.origins import Origin
from metering.core.sealing import NotOpened, Secret, unseal
from metering.directory.names import UNKNOWN, Names
from metering.errors import OurFault
from metering.keyring import Keyring, NotHeld
from metering.store import Store, credentials
from metering.store.credentials import SealedRow

log = structlog.get_logger()


class Credentials:
    """The credentials that serve calls."""

    def __init__(self, store: Store, keyring: Keyring, names: Names) -> None:
        self._store = store
        self._keyring = keyring
        self._names = names

    async def get(self, application_id: str, slug: str) -> Credential | None:
        """See `Directory.credential`."""
        name = topic(application_id, slug)
        found: Credential | None = self._names.kept(name)
        if found is UNKNOWN:
            found = await self._names.find(name, partial(self._read, application_id, slug))
        return found

    async def default(self, application_id: str, provider: str) -> Credential | None:
        """See `Directory.default_credential`."""
        name = defaults_topic(application_id)
        slugs = self._names.kept(name)
        if slugs is UNKNOWN:
            read = partial(credentials.defaults, self._store, application_id)
            slugs = await self._names.find(name, read, dict[str, str])
        slug = slugs.get(provider)
        return None if slug is None else await self.get(application_id, slug)

    async def _read(self, application_id: str, slug: str) -> Credential | None:
        row = await credentials.sealed(self._store, application_id, slug)
        if row is None:
            return None
        try:
            secret = self._unsealed(application_id, row)
        except NotHeld:  # a rotation may have come between the row and its opening
            row = await credentials.sealed(self._store, application_id, slug) or row
            secret = self._unsealed_or_known(application_id, row)
        return Credential(
            slug=slug,
            provider=row.provider,
            origin=_origin(row),
            secret=secret,
            blocked=row.blocked,
            expires_ms=row.expires_ms,
            model_config=row.model_config,
        )

    def _unsealed(self, application_id: str, row: SealedRow) -> Secret | None:
        if row.sealed is None:
            return None
        bound = bound_to(application_id, row.credential_id, row.provider, row.origin)
        try:
            return unseal(row.sealed, bound, self._keyring.get(row.sealed.by))
        except NotOpened as fault:
            log.exception("credential_not_opened", slug=row.slug, reason=fault.message)
            raise _closed(row.slug) from fault

    def _unsealed_or_known(self, application_id: str, row: SealedRow) -> Secret | None:
        """The secret of a row; of one that is sealed under a master secret which this process does
        not hold, the secret that is known here, bound as it was."""
        try:
            return self._unsealed(application_id, row)
        except NotHeld as fault:
            log.warning("credential_not_opened", slug=row.slug, reason=fault.message)
            known: Credential | None = self._names.last(topic(application_id, row.slug))
            if known is None or known.origin != _origin(row):
                raise _closed(row.slug) from fault
            return known.secret


def _origin(row: SealedRow) -> Origin | None:
    return None if row.origin is None else origins.parse(row.origin)


def _closed(slug: str) -> OurFault:
    return OurFault(
        f"credential {slug!r} cannot be opened; the log says why; to set its secret anew "
        f"helps: xproxy credentials rotate {slug}",
        code="credential_not_opened",
        should_retry=False,
    )
