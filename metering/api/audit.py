"""`/audit`: who changed what, and when; before and after, secrets aside."""

from datetime import datetime
from typing import Annotated, Any

import msgspec
from litestar import Controller, get
from litestar.params import FromQuery, QueryParameter

from metering.api import pages
from metering.api.limit_shapes import amount
from metering.api.server import ApiRequest
from metering.api.text import moment, time_ms
from metering.store import audit
from metering.store.audit import Action, Actor, Asked

LISTING = "audit"


class ChangeObject(msgspec.Struct, kw_only=True, omit_defaults=True):
    """An entry. Of an update, `before` and `after` are what differs."""

    audit_id: int
    at: datetime
    application_id: str | None = None
    actor: Actor
    action: Action
    object: str
    object_id: str
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None


class AuditController(Controller):
    """Read the audit log."""

    path = "/audit"
    tags = ("audit",)

    @get()
    async def page(
        self,
        request: ApiRequest,
        *,
        object_: Annotated[str | None, QueryParameter(name="object")] = None,
        object_id: FromQuery[str | None] = None,
        key: FromQuery[str | None] = None,
        from_: Annotated[str | None, QueryParameter(name="from")] = None,
        to: FromQuery[str | None] = None,
        limit: FromQuery[int | None] = None,
        cursor: FromQuery[str | None] = None,
    ) -> dict[str, Any]:
        """Changes, newest first: of one kind of `object`, of one thing, by one `key` (its id).

        An admin key that names no `application` sees all of them, and what is of no application.
        """
        asked = Asked(
            application_id=request.user.scope,
            object=object_,
            object_id=object_id,
            key_id=key,
            from_ms=None if from_ is None else time_ms(from_, "from"),
            to_ms=None if to is None else time_ms(to, "to"),
        )
        found = await audit.page(
            request.services.store,
            asked,
            page_size=limit,
            cursor=pages.read_cursor(request, LISTING, cursor),
        )
        items = [change_object(change) for change in found.items]
        return pages.page(request, LISTING, items, found.cursor)


def change_object(change: audit.Change) -> ChangeObject:
    """An entry as callers see it."""
    before, after = (_shown(change.object, row) for row in (change.before, change.after))
    if before is not None and after is not None:
        differing = [name for name in {**before, **after} if before.get(name) != after.get(name)]
        before, after = (
            {name: row[name] for name in differing if name in row} for row in (before, after)
        )
    return ChangeObject(
        audit_id=change.audit_id,
        at=moment(change.at_ms),
        application_id=change.application_id,
        actor=change.actor,
        action=change.action,
        object=change.object,
        object_id=change.object_id,
        before=before,
        after=after,
    )


def _shown(noun: str, row: dict[str, Any] | None) -> dict[str, Any] | None:
    """A row in the units of this API."""
    if row is None or noun != "limit":
        return row
    return {**row, "max": amount(row["max"], row["unit"])}
