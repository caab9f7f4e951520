"""`/usage`: what was used, entry by entry or summed by dimensions, as JSON or CSV."""

from typing import Annotated, Any, cast, get_args

import msgspec
from litestar import Controller, get
from litestar.params import FromQuery, QueryParameter

from metering.api import pages
from metering.api.server import ApiRequest, ExactResponse
from metering.api.services import Services
from metering.api.text import moment, time_ms
from metering.api.usage_shapes import (
    COST_COLUMNS,
    ENTRY_COLUMNS,
    GROUP_COLUMNS,
    csv_text,
    entry_object,
    group_object,
)
from metering.core.record import Status
from metering.errors import InvalidRequest, StoreAway
from metering.store import usage
from metering.store.usage import END_MS, GROUPS, Filters, GroupBy, UsagePage

LISTING = "usage"
SINCE_MS = 24 * 3_600_000
"""How far back a question without `from` goes."""


class UsageController(Controller):
    """Read usage."""

    path = "/usage"
    tags = ("usage",)

    @get()
    async def page(
        self,
        request: ApiRequest,
        *,
        from_: Annotated[str | None, QueryParameter(name="from")] = None,
        to: FromQuery[str | None] = None,
        key: FromQuery[str | None] = None,
        limit: FromQuery[str | None] = None,
        user: FromQuery[str | None] = None,
        use_case: FromQuery[str | None] = None,
        tag: FromQuery[str | None] = None,
        model: FromQuery[str | None] = None,
        provider: FromQuery[str | None] = None,
        status: FromQuery[str | None] = None,
        group_by: FromQuery[str | None] = None,
        page_size: FromQuery[int | None] = None,
        cursor: FromQuery[str | None] = None,
        sort_ascending: FromQuery[bool] = False,
        format: FromQuery[str | None] = None,  # noqa: A002 - the parameter's name
    ) -> ExactResponse:
        """Entries of calls admitted in [from, to), or their sums by `group_by` (comma-separated).

        Without `from` the last 24 hours before `to`; without `to` until now. An admin key that
        names no `application` sees all of them.
        """
        from_ms, to_ms = parse_range(from_, to, request.services.clock())
        groups = parse_groups(group_by)
        filters = Filters(
            application_id=request.user.scope,
            from_ms=from_ms,
            to_ms=END_MS if to is None else to_ms,
            key_id=key,
            limit_id=limit,
            user_id=user,
            use_case_name=use_case,
            tag=tag,
            model=model,
            provider=provider,
            status=parse_status(status),
        )
        listing = ":".join((LISTING, *groups, "up" if sort_ascending else "down"))
        landed_ms = await landed_until_ms(request.services)
        found = await usage.query(
            request.services.store,
            filters,
            group_by=groups,
            page_size=page_size,
            cursor=pages.read_cursor(request, listing, cursor),
            ascending=sort_ascending,
        )
        found = msgspec.structs.replace(found, as_of_ms=min(found.as_of_ms, landed_ms))
        if wants_csv(request, format):
            return csv_answer(request, listing, found, groups)
        span = {"from": moment(from_ms), "to": moment(to_ms), "as_of": moment(found.as_of_ms)}
        return ExactResponse(pages.page(request, listing, items_of(found), found.cursor, **span))


async def landed_until_ms(services: Services) -> int:
    """Until when all rows are in the database, as far as the outbox says."""
    try:
        since_ms = await services.ledger.unlanded_since_ms()
    except StoreAway:  # the outbox cannot be asked; the rows can
        return END_MS
    return END_MS if since_ms is None else since_ms - 1


def parse_range(from_text: str | None, to_text: str | None, now_ms: int) -> tuple[int, int]:
    """[from, to) in milliseconds."""
    to_ms = now_ms if not to_text else time_ms(to_text, "to")
    from_ms = to_ms - SINCE_MS if not from_text else time_ms(from_text, "from")
    from_ms, to_ms = (min(max(at_ms, 0), END_MS) for at_ms in (from_ms, to_ms))
    if from_ms > to_ms:
        raise InvalidRequest("from is later than to", field="from")
    return from_ms, to_ms


def parse_groups(text: str | None) -> tuple[GroupBy, ...]:
    """The dimensions of a comma-separated list."""
    names = tuple(dict.fromkeys(name.strip() for name in (text or "").split(",") if name.strip()))
    unknown = [name for name in names if name not in GROUPS]
    if unknown:
        raise InvalidRequest(
            f"group_by takes {', '.join(GROUPS)}; not {', '.join(unknown)}", field="group_by"
        )
    return cast(tuple[GroupBy, ...], names)


def parse_status(text: str | None) -> Status | None:
    """A status in any case."""
    if not text:
        return None
    status = text.lower()
    if status not in get_args(Status):
        raise InvalidRequest(f"status must be one of {', '.join(get_args(Status))}", field="status")
    return cast(Status, status)


def wants_csv(request: ApiRequest, asked: str | None) -> bool:
    """Whether CSV was asked for: `format=csv`, or `Accept: text/csv` without a `format`."""
    if asked is None:
        return "text/csv" in request.headers.get("accept", "").lower()
    if asked.lower() not in ("csv", "json"):
        raise InvalidRequest("format must be json or csv", field="format")
    return asked.lower() == "csv"


def items_of(found: UsagePage) -> list[dict[str, Any]]:
    """The page's entries, or its groups, as objects."""
    entries = [entry_object(entry) for entry in found.entries]
    return entries or [group_object(group) for group in found.groups]


def csv_answer(
    request: ApiRequest, listing: str, found: UsagePage, groups: tuple[GroupBy, ...]
) -> ExactResponse:
    """The page as CSV; its cursor and moment are in `xproxy-cursor` and `xproxy-as-of`."""
    columns = (*groups, *GROUP_COLUMNS, *COST_COLUMNS) if groups else ENTRY_COLUMNS
    headers = {
        "Content-Disposition": 'attachment; filename="usage.csv"',
        "xproxy-as-of": moment(found.as_of_ms).isoformat(),
    }
    cursor = pages.write_cursor(request, listing, found.cursor)
    if cursor is not None:
        headers["xproxy-cursor"] = cursor
    return ExactResponse(csv_text(columns, items_of(found)), media_type="text/csv", headers=headers)
