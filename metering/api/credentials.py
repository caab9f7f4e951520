"""`/credentials`: providers' secrets. They come in here and never out, last characters aside.

Every key sees what its application has. An admin changes them, and a key with the permission
`manage_credentials` those of its application.
"""

from datetime import datetime
from functools import partial
from typing import Any, Literal

import msgspec
from litestar import Controller, delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from msgspec import UnsetType

from metering.api import caps, pages
from metering.api.credential_shapes import (
    CreateCredential,
    RotateCredential,
    UpdateCredential,
    checked_new_slug,
    checked_origin,
    checked_provider,
    checked_secret,
    last4,
)
from metering.api.key_shapes import LIMIT_IDS_MAX, parse_expiry
from metering.api.limit_shapes import DefaultResponse
from metering.api.pages import Paging
from metering.api.probe import Tried
from metering.api.server import ApiRequest
from metering.api.text import checked_name, moment
from metering.core import credentials as rules
from metering.core.ids import uuid7
from metering.core.sealing import Sealed
from metering.core.virtual_keys import prefix
from metering.errors import Conflict, NotAllowed, NotFound
from metering.store import attachments, credentials
from metering.store.credentials import Change, Changed, CredentialRow, Seal

LISTING = "credentials"
State = Literal["ready", "blocked", "expired", "needs_secret"]


class CredentialObject(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A credential, without its secret."""

    request_id: str
    credential_id: str
    application_id: str
    slug: str
    name: str
    provider: str
    origin: str | None = None
    is_default: bool
    state: State
    last4: str | None = None
    secret_set_at: datetime | None = None
    expires_at: datetime | None = None
    created_at: datetime
    created_by: str
    updated_at: datetime


class TriedObject(Tried, frozen=True, kw_only=True, omit_defaults=True):
    """What came of a try."""

    request_id: str
    slug: str


def credential_object(request: ApiRequest, row: CredentialRow) -> CredentialObject:
    """A credential as callers see it."""
    return CredentialObject(
        request_id=request.request_id,
        credential_id=row.credential_id,
        application_id=row.application_id,
        slug=row.slug,
        name=row.name,
        provider=row.provider,
        origin=row.origin,
        is_default=row.is_default,
        state=state(row, request.services.clock()),
        last4=row.last4,
        secret_set_at=None if row.secret_ms is None else moment(row.secret_ms),
        expires_at=None if row.expires_ms is None else moment(row.expires_ms),
        created_at=moment(row.created_ms),
        created_by=row.created_by,
        updated_at=moment(row.updated_ms),
    )


def state(row: CredentialRow, now_ms: int) -> State:
    """Whether a credential serves calls, and if not why."""
    if row.blocked:
        return "blocked"
    if row.expires_ms is not None and row.expires_ms <= now_ms:
        return "expired"
    return "needs_secret" if row.last4 is None else "ready"


class CredentialController(Controller):
    """Store, list, change, try and delete credentials."""

    path = "/credentials"
    tags = ("credentials",)

    @post()
    async def create(
        self, request: ApiRequest, data: JSONBody[CreateCredential]
    ) -> CredentialObject:
        """Store a credential of a provider; its secret is in no answer, this one included."""
        check_may_manage(request)
        services, now_ms = request.services, request.services.clock()
        slug, provider = checked_new_slug(data.slug), checked_provider(data.provider)
        secret = checked_secret(data.secret)
        row = CredentialRow(
            credential_id=str(uuid7(now_ms, services.random(10))),
            application_id=request.user.application_id,
            slug=slug,
            name=checked_name(data.name or slug, "name"),
            provider=provider,
            origin=checked_origin(data.origin, provider, services.settings),
            is_default=data.is_default,
            blocked=False,
            last4=last4(secret),
            secret_ms=now_ms,
            created_ms=now_ms,
            created_by=request.user.key_id or "operator",
            updated_ms=now_ms,
            expires_ms=parse_expiry(data.expires_at, now_ms),
        )
        made = await credentials.create(services.store, row, seal(request, row, data.secret))
        return await _told(request, made)

    @get()
    async def page(self, request: ApiRequest, paging: NamedDependency[Paging]) -> dict[str, Any]:
        """A page of credentials, newest first."""
        found = await credentials.page(
            request.services.store,
            request.user.scope,
            **paging.of(request, LISTING),
        )
        items = [credential_object(request, row) for row in found.items]
        return pages.page(request, LISTING, items, found.cursor)

    @get("/{slug:str}")
    async def read(self, request: ApiRequest, slug: FromPath[str]) -> CredentialObject:
        """One credential."""
        found = await credentials.get(request.services.store, request.user.application_id, slug)
        if found is None:
            raise not_found(slug)
        return credential_object(request, found)

    @patch("/{slug:str}")
    async def update(
        self, request: ApiRequest, slug: FromPath[str], data: JSONBody[UpdateCredential]
    ) -> CredentialObject:
        """Change a credential. Another origin voids its secret, unless one comes with it."""
        return await _change(request, slug, partial(changed, request, data))

    @post("/{slug:str}/rotate", status_code=200)
    async def rotate(
        self, request: ApiRequest, slug: FromPath[str], data: JSONBody[RotateCredential]
    ) -> CredentialObject:
        """Give a credential another secret; calls use it at once."""
        update = UpdateCredential(secret=data.secret)
        return await _change(request, slug, partial(changed, request, update))

    @post("/{slug:str}/test", status_code=200)
    async def test(self, request: ApiRequest, slug: FromPath[str]) -> TriedObject:
        """Try a credential: one call to its provider that costs nothing."""
        check_may_manage(request)
        services = request.services
        found = await services.directory.credential(request.user.application_id, slug)
        if found is None:
            raise not_found(slug)
        if found.secret is None:
            raise Conflict(f"Credential {slug!r} has no secret to try; set one first")
        tried = msgspec.structs.asdict(await services.probe.attempt(found))
        return TriedObject(request_id=request.request_id, slug=slug, **tried)

    @delete("/{slug:str}", status_code=200)
    async def delete(self, request: ApiRequest, slug: FromPath[str]) -> DefaultResponse:
        """Delete a credential: calls that need it are refused from now on."""
        await remove(request, slug)
        return DefaultResponse(
            request_id=request.request_id, message=f"Credential {slug} was deleted."
        )


async def remove(request: ApiRequest, slug: str) -> None:
    """Delete a credential, and then the limits that were its own as a virtual key."""
    check_may_manage(request)
    store, application_id = request.services.store, request.user.application_id
    if not await credentials.delete(store, application_id, slug):
        raise not_found(slug)
    await tell(request, application_id, slug)
    await caps.drop(request, await own_limits(request, slug))


async def own_limits(request: ApiRequest, slug: str) -> set[str]:
    """The ids of limits that are a credential's own as a virtual key."""
    found = await attachments.page(
        request.services.store,
        request.user.application_id,
        kind="credential",
        name=slug,
        page_size=LIMIT_IDS_MAX,
    )
    return {it.limit_id for it in found.items if it.limit_id.startswith(prefix(slug))}


async def _change(request: ApiRequest, slug: str, decide: Any) -> CredentialObject:
    check_may_manage(request)
    store, application_id = request.services.store, request.user.application_id
    done = await credentials.change(store, application_id, slug, decide)
    if done is None:
        raise not_found(slug)
    return await _told(request, done)


def changed(request: ApiRequest, data: UpdateCredential, row: CredentialRow) -> Change:
    """A credential as an update has it."""
    services, now_ms = request.services, request.services.clock()
    values: dict[str, Any] = {"updated_ms": now_ms}
    if data.name is not None:
        values["name"] = checked_name(data.name, "name")
    if data.is_default is not None:
        values["is_default"] = data.is_default
    if data.blocked is not None:
        values["blocked"] = data.blocked
    origin = row.origin
    if not isinstance(data.origin, UnsetType):
        origin = values["origin"] = checked_origin(data.origin, row.provider, services.settings)
    if not isinstance(data.expires_at, UnsetType):
        values["expires_ms"] = parse_expiry(data.expires_at, now_ms)
    if data.secret is not None:
        values |= {"last4": last4(checked_secret(data.secret)), "secret_ms": now_ms}
    elif origin != row.origin:
        values |= {"last4": None, "secret_ms": None}
    after = msgspec.structs.replace(row, **values)
    return Change(after, None if data.secret is None else seal(request, after, data.secret))


def seal(request: ApiRequest, row: CredentialRow, text: str) -> Seal:
    """Seals a secret for a credential as it will be."""
    bound = rules.bound_to(row.application_id, row.credential_id, row.provider, row.origin)
    secret, vault = checked_secret(text), request.services.vault

    def sealed(by: str) -> Sealed:
        return vault.seal(by, secret, bound)

    return sealed


async def _told(request: ApiRequest, done: Changed) -> CredentialObject:
    """A credential that was changed, of which every worker has been told."""
    row = done.row
    await tell(request, row.application_id, row.slug)
    return credential_object(request, row)


async def tell(request: ApiRequest, application_id: str, slug: str) -> None:
    """Have every worker know that a credential has changed."""
    topics = (rules.topic(application_id, slug), rules.defaults_topic(application_id))
    await request.services.directory.changed(*topics)


def check_may_manage(request: ApiRequest) -> None:
    """Raises NotAllowed for a key that may not change credentials."""
    if not (request.user.is_admin or rules.MANAGE in request.auth.permissions):
        raise NotAllowed(
            f"Changing credentials needs a key of role admin or the permission `{rules.MANAGE}`"
        )


def not_found(slug: str) -> NotFound:
    """What is answered for another application's credentials, too."""
    return NotFound(f"Credential {slug!r} not found", code="credential_not_found", field="slug")
