"""`/virtual-keys`: Portkey's virtual keys, which are stored credentials with limits of their own.

Every key sees what its application has; who may change credentials changes them. What binds a
virtual key is there before the key is, and what no longer does is deleted after it lets go. Each
step may be done again after a fault.
"""

from collections.abc import Sequence
from typing import Annotated, Any

from litestar import Controller, delete, get, post, put
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from metering.api import caps
from metering.api.attachments import check_room
from metering.api.credential_shapes import (
    UpdateCredential,
    checked_new_slug,
    checked_origin,
    checked_secret,
    last4,
)
from metering.api.credentials import (
    changed,
    check_may_manage,
    not_found,
    own_limits,
    remove,
    seal,
    tell,
)
from metering.api.key_shapes import parse_expiry
from metering.api.portkey.shapes import (
    PAGE_SIZE,
    PAGE_SIZE_MAX,
    AskedKey,
    ChangedKey,
    CreateKey,
    KeyList,
    KeyView,
    RotateKey,
    UpdateKey,
    changed_key,
    checked_mappings,
    checked_note,
    checked_provider,
    merged_config,
    merged_terms,
    said_of_config,
    view,
)
from metering.api.server import ApiRequest
from metering.api.text import checked_name
from metering.core.credentials import NO_CONFIG, ModelConfig
from metering.core.ids import uuid7
from metering.core.terms import Cap
from metering.core.virtual_keys import NO_TERMS, budgets, slug_of
from metering.core.virtual_keys import caps as caps_of
from metering.directory import attached_topic
from metering.errors import Conflict, InvalidRequest
from metering.providers.hosts import azure_host
from metering.store import attachments, credentials
from metering.store.attachments import Attachment
from metering.store.credentials import Change, CredentialRow


class PortkeyKeyController(Controller):
    """Make, list, read, change, rotate and delete virtual keys."""

    path = "/virtual-keys"
    tags = ("portkey's virtual keys",)

    @post(status_code=200)
    async def create(self, request: ApiRequest, data: JSONBody[CreateKey]) -> ChangedKey:
        """Make a virtual key of a provider's key; that is in no answer, this one included."""
        check_may_manage(request)
        row = await _drafted(request, data)
        await _bind(request, row.slug, caps_of(row.slug, row.terms, row.created_ms))
        sealed = seal(request, row, data.key)
        made = await credentials.create(request.services.store, row, sealed)
        await tell(request, row.application_id, row.slug)
        await _unbind(request, made.row)
        return changed_key(made.row)

    @get()
    async def page(
        self,
        request: ApiRequest,
        *,
        current_page: Annotated[int, QueryParameter(ge=0, le=10**9)] = 0,
        page_size: Annotated[int, QueryParameter(ge=1, le=PAGE_SIZE_MAX)] = PAGE_SIZE,
        workspace_id: FromQuery[str | None] = None,  # noqa: ARG002 - there are none
    ) -> KeyList:
        """A page of virtual keys, newest first; the first page is 0."""
        rows, total = await credentials.numbered(
            request.services.store,
            request.user.application_id,
            current_page * page_size,
            page_size,
        )
        return KeyList(total=total, data=await _views(request, rows))

    @get("/{slug:str}")
    async def read(self, request: ApiRequest, slug: FromPath[str]) -> KeyView:
        """One virtual key, and what it has used."""
        [shown] = await _views(request, [await _existing(request, slug)])
        return shown

    @put("/{slug:str}")
    async def update(
        self, request: ApiRequest, slug: FromPath[str], data: JSONBody[UpdateKey]
    ) -> ChangedKey:
        """Change a virtual key: what is not named stays, null takes away. Usage counts on."""
        check_may_manage(request)
        row = await _changed(request, slug, data)
        if data.reset_usage:
            its = budgets(row.slug, row.terms, row.created_ms)
            await caps.reset(request, [it.limit_id for it in its])
        return changed_key(row)

    @post("/{slug:str}/rotate", status_code=200)
    async def rotate(
        self, request: ApiRequest, slug: FromPath[str], data: JSONBody[RotateKey]
    ) -> ChangedKey:
        """Give a virtual key another key of its provider; calls use it at once."""
        check_may_manage(request)
        return changed_key(await _changed(request, slug, UpdateKey(key=data.key)))

    @delete("/{slug:str}", status_code=200)
    async def delete(self, request: ApiRequest, slug: FromPath[str]) -> ChangedKey:
        """Delete a virtual key and its limits: calls that name it are refused from now on."""
        check_may_manage(request)
        row = await _existing(request, slug)
        await remove(request, slug)
        return changed_key(row)


async def _drafted(request: ApiRequest, data: CreateKey) -> CredentialRow:
    """A virtual key that is to be, checked; it has no limits yet."""
    services, now_ms = request.services, request.services.clock()
    checked_mappings(data)
    provider, secret = checked_provider(data.provider), _secret(data.key)
    said = said_of_config(data)
    config = merged_config(NO_CONFIG, said)
    expires_at = None if isinstance(data.expires_at, UnsetType) else data.expires_at
    name = checked_name(data.name, "name")
    return CredentialRow(
        credential_id=str(uuid7(now_ms, services.random(10))),
        application_id=request.user.application_id,
        slug=await _new_slug(request, data.slug, name),
        name=name,
        provider=provider,
        origin=_origin(request, provider, config, said.get("custom_host")),
        is_default=False,
        blocked=False,
        last4=last4(secret),
        secret_ms=now_ms,
        created_ms=now_ms,
        created_by=request.user.key_id or "operator",
        updated_ms=now_ms,
        expires_ms=parse_expiry(expires_at, now_ms),
        note=checked_note(data),
        model_config=config,
        terms=merged_terms(NO_TERMS, data),
    )


async def _new_slug(request: ApiRequest, asked: str | None, name: str) -> str:
    """The slug that was asked for, or one that is made of a name; nobody has it."""
    services, application_id = request.services, request.user.application_id
    slug = checked_new_slug(asked) if asked else slug_of(name, services.random(3))
    while await credentials.get(services.store, application_id, slug) is not None:
        if asked:
            raise Conflict(f"there is a virtual key {slug!r} already", field="slug")
        slug = slug_of(name, services.random(3))
    return slug


async def _existing(request: ApiRequest, slug: str) -> CredentialRow:
    found = await credentials.get(request.services.store, request.user.application_id, slug)
    if found is None:
        raise not_found(slug)
    return found


async def _changed(request: ApiRequest, slug: str, data: AskedKey) -> CredentialRow:
    """A virtual key as it is once a body has changed it, at once on every worker."""
    row = await _existing(request, slug)
    checked_mappings(data)
    terms = merged_terms(row.terms, data)
    update = _update(request, row, data)
    if terms != row.terms:
        await _bind(request, slug, caps_of(slug, terms, row.created_ms))

    def decide(before: CredentialRow) -> Change:
        change = changed(request, update, before)
        after = replace(
            change.row,
            note=checked_note(data, before.note),
            model_config=merged_config(before.model_config, said_of_config(data)),
            terms=merged_terms(before.terms, data),
        )
        return change._replace(row=after)

    done = await credentials.change(
        request.services.store, request.user.application_id, slug, decide
    )
    if done is None:
        raise not_found(slug)
    await tell(request, done.row.application_id, slug)
    if terms != row.terms:
        await _unbind(request, done.row)
    return done.row


def _update(request: ApiRequest, row: CredentialRow, data: AskedKey) -> UpdateCredential:
    """What a body changes of the credential itself."""
    said = said_of_config(data)
    origin: str | UnsetType | None = UNSET
    if "custom_host" in said or said.get("resourceName"):
        config = merged_config(row.model_config, said)
        origin = _origin(request, row.provider, config, said.get("custom_host"))
    if data.key is not None:
        _secret(data.key)
    return UpdateCredential(
        name=data.name, origin=origin, secret=data.key, expires_at=data.expires_at
    )


def _secret(key: str) -> Any:
    try:
        return checked_secret(key)
    except InvalidRequest as fault:
        raise _of_member(fault, "secret", "key") from None


def _origin(
    request: ApiRequest, provider: str, config: ModelConfig, custom_host: str | None
) -> str | None:
    """The one place that a virtual key goes to; None: the service's base URL of the provider."""
    settings = request.services.settings
    if custom_host is None and provider.startswith("azure"):
        host = azure_host(config.resource or "")
        if host is None:
            raise InvalidRequest(
                "resourceName must be the name of the Azure resource, or custom_host where it is",
                field="resourceName",
            )
        return checked_origin(f"https://{host}", provider, settings)
    try:
        return checked_origin(custom_host, provider, settings)
    except InvalidRequest as fault:
        raise _of_member(fault, "origin", "custom_host") from None


def _of_member(fault: InvalidRequest, ours: str, theirs: str) -> InvalidRequest:
    """A fault of a member that is called otherwise here."""
    message = theirs + fault.message.removeprefix(ours)
    return InvalidRequest(message, code=fault.code, field=theirs)


async def _bind(request: ApiRequest, slug: str, wanted: Sequence[Cap]) -> None:
    """Have limits be there, and bind what a virtual key serves, on every worker."""
    if not wanted:
        return
    store, application_id = request.services.store, request.user.application_id
    await check_room(request, "credential", slug, {it.limit_id for it in wanted})
    for limit_id in await caps.put(request, wanted):
        one = Attachment(
            kind="credential",
            name=slug,
            limit_id=limit_id,
            attached_ms=request.services.clock(),
        )
        if not await attachments.attach(store, application_id, one):
            raise Conflict(f"limit {limit_id!r} was deleted just now; try again")
    await request.services.directory.changed(attached_topic(application_id))


async def _unbind(request: ApiRequest, row: CredentialRow) -> None:
    """Delete the limits that a virtual key has no more."""
    wanted = {it.limit_id for it in caps_of(row.slug, row.terms, row.created_ms)}
    await caps.drop(request, await own_limits(request, row.slug) - wanted)


async def _views(request: ApiRequest, rows: Sequence[CredentialRow]) -> list[KeyView]:
    ids = {it.limit_id for row in rows for it in budgets(row.slug, row.terms, row.created_ms)}
    found = await caps.counted(request, ids) if ids else {}
    now_ms = request.services.clock()
    return [view(row, found, now_ms) for row in rows]
