"""`/audit`: who changed what, and when, secrets aside; and whether all our books agree."""

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from itertools import groupby
from typing import Annotated, Any

import msgspec
from litestar import Controller, get, post
from litestar.params import FromQuery, JSONBody, QueryParameter

from metering.api import pages
from metering.api.auth import admin_only
from metering.api.limit_shapes import amount
from metering.api.server import ApiRequest
from metering.api.text import moment, time_ms
from metering.core.difference import AMOUNTS, Difference
from metering.store import audit
from metering.store.audit import Action, Actor, Asked

LISTING = "audit"
NOTED = 100
"""So many repaired differences of an application are on record one by one."""


class Check(msgspec.Struct, kw_only=True):
    """The body of an audit of the books."""

    repair: bool = False


class Numbers(msgspec.Struct, kw_only=True):
    """A number as it was found, and as it should be."""

    found: Decimal
    expected: Decimal


class DifferenceObject(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Where two of our books do not say the same, and why; `repair` is what a repair does."""

    kind: str
    application_id: str
    about: str
    unit: str | None = None
    numbers: dict[str, Numbers]
    cause: str
    repair: str | None = None


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
    """Read the audit log; audit the books."""

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

    @post("/check", guards=[admin_only], status_code=200)
    async def check(self, request: ApiRequest, data: JSONBody[Check]) -> dict[str, Any]:
        """Compare rows, sums, counters, holds, journal and outbox, of one `application` or of all.

        Calls go on meanwhile. `differences` are those that there are, after a repair those that
        remain; `repaired` are those that were.
        """
        services = request.services
        as_of = moment(services.clock())
        work = services.auditor.repair if data.repair else services.auditor.check
        report = await work(request.user.scope)
        await _note(request, report.repaired)
        return {
            "request_id": request.request_id,
            "as_of": as_of,
            "applications": report.applications,
            "waiting": report.waiting,
            "journal": report.journal,
            "differences": [difference_object(it) for it in report.differences],
            "repaired": [difference_object(it) for it in report.repaired],
        }


async def _note(request: ApiRequest, repaired: Iterable[Difference]) -> None:
    """Put on record what was repaired."""
    ordered = sorted(repaired, key=lambda it: it.application_id)
    for application_id, some in groupby(ordered, lambda it: it.application_id):
        its = list(some)
        particulars = {
            "count": len(its),
            "differences": [
                {"kind": it.kind, "about": it.about, "numbers": it.numbers} for it in its[:NOTED]
            ],
        }
        named = ("books", application_id or "all")
        await audit.note(
            request.services.store, application_id or None, "repaired", named, particulars
        )


def difference_object(it: Difference) -> DifferenceObject:
    """A difference as callers see it: amounts in USD where they are money."""
    unit = it.unit or "requests"
    return DifferenceObject(
        kind=it.kind,
        application_id=it.application_id,
        about=it.about,
        unit=it.unit,
        numbers={
            name: Numbers(found=amount(pair.found, unit), expected=amount(pair.expected, unit))
            if name in AMOUNTS
            else Numbers(found=Decimal(pair.found), expected=Decimal(pair.expected))
            for name, pair in it.numbers.items()
        },
        cause=it.cause,
        repair=it.repair,
    )


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
