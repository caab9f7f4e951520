"""Applications: the tenants."""

from __future__ import annotations

import msgspec

from metering.errors import Conflict
from metering.store import Record, Store, as_uuid, pages
from metering.store.pages import Page


class Application(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant."""

    application_id: str
    name: str
    created_ms: int
    idempotency: bool = False
    """Whether its calls with an `Idempotency-Key` are made once."""


def _application(record: Record) -> Application:
    return Application(
        application_id=str(record["application_id"]),
        name=record["name"],
        created_ms=record["created_ms"],
        idempotency=record["idempotency"],
    )


async def create(store: Store, application_id: str, name: str, created_ms: int) -> Application:
    """Add a tenant; Conflict when its name (or id) is taken."""
    record = await store.row("create_application", application_id, name, created_ms)
    if record is None:
        raise Conflict(f"there is an application named {name!r} already", field="name")
    return _application(record)


async def get(store: Store, application_id: str) -> Application | None:
    """One tenant by its id."""
    record = await store.row("read_application", as_uuid(application_id))
    return None if record is None else _application(record)


async def by_name(store: Store, name: str) -> Application | None:
    """One tenant by its name."""
    record = await store.row("read_application_by_name", name)
    return None if record is None else _application(record)


async def page(
    store: Store,
    *,
    page_size: int | None = None,
    cursor: str | None = None,
    ascending: bool = False,
) -> Page[Application]:
    """Tenants by age, newest first unless `ascending`."""
    page_size = pages.size(page_size)
    after = pages.read_cursor(cursor, int, str)
    query = "page_applications_oldest" if ascending else "page_applications_newest"
    records = await store.rows(query, *after, page_size + 1)
    items = [_application(record) for record in records]
    return pages.cut(items, page_size, lambda last: (last.created_ms, last.application_id))


async def update(
    store: Store, application_id: str, *, name: str | None = None, idempotency: bool | None = None
) -> Application | None:
    """Change a tenant, None leaves as it is; Conflict when the name is another's."""
    record = await store.row("update_application", as_uuid(application_id), name, idempotency)
    return None if record is None else _application(record)


async def delete(store: Store, application_id: str) -> bool:
    """Remove a tenant with its keys and limits; its usage stays. False if there is none."""
    return await store.value("delete_application", as_uuid(application_id)) is not None
