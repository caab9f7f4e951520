"""Resources that applications price themselves, every version of them."""

from __future__ import annotations

import msgspec

from metering.core.resources import Resource, UnitPrices
from metering.store import Record, Store, as_uuid

_decode_units = msgspec.json.Decoder(dict[str, UnitPrices]).decode


async def create(store: Store, asked: Resource) -> Resource:
    """Add a version; gives it with its revision."""
    [record] = await store.rows(
        "create_resource",
        asked.resource_id,
        asked.application_id,
        asked.category,
        asked.resource,
        msgspec.json.encode(asked.units).decode(),
        asked.max_input_units,
        asked.max_output_units,
        asked.max_total_units,
        asked.starts_ms,
        asked.created_by,
        asked.proxy_allowed,
    )
    return _read(record)


async def versions(
    store: Store,
    application_id: str | None = None,
    category: str | None = None,
    resource: str | None = None,
) -> list[Resource]:
    """All versions of an application's resources or (None) of everybody's, oldest first in each;
    of a category and a name if asked."""
    application = as_uuid(application_id)
    if application is None and application_id is not None:  # what is no id is nobody's, not all's
        return []
    return [_read(it) for it in await store.rows("read_resources", application, category, resource)]


async def count(store: Store, application_id: str) -> int:
    """How many versions an application has."""
    found: int = await store.value("count_resources", application_id)
    return found


async def delete(
    store: Store,
    application_id: str,
    category: str,
    resource: str | None = None,
    resource_id: str | None = None,
) -> list[Resource]:
    """Take away a category, a resource of it, or one version of that; gives what is gone."""
    version = as_uuid(resource_id)
    if version is None and resource_id is not None:
        return []
    arguments = (application_id, category, resource, version)
    return [_read(it) for it in await store.rows("delete_resources", *arguments)]


def _read(record: Record) -> Resource:
    values = dict(record)
    for name in ("resource_id", "application_id"):
        values[name] = str(values[name])
    values["units"] = _decode_units(values["units"])
    return Resource(**values)
