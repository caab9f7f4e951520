"""Prices of applications' own: a tenant adds and takes away what is its own, and no other."""

from __future__ import annotations

import msgspec
import pytest

from metering.core.resources import Resource
from metering.errors import XproxyError
from metering.store import Store, resources
from tests.store.samples import NOW_MS, request_id


def version(application_id: str, *, proxy_allowed: bool) -> Resource:
    """A version of one resource."""
    return Resource(
        application_id=application_id,
        resource_id=request_id(),
        category="mine",
        resource="r",
        units={},
        starts_ms=NOW_MS,
        proxy_allowed=proxy_allowed,
    )


async def test_a_tenant_prices_no_proxied_calls(store: Store, application_id: str) -> None:
    """Whatever the service asks for it: the database takes no such version of it, none of another
    application's, and lets it delete none that an administrator has set."""
    actor = msgspec.json.encode({"role": "app"}).decode()
    tenant = store.acting(actor, tenant=application_id)
    theirs = version(application_id, proxy_allowed=True)
    await resources.create(store, theirs)
    own = await resources.create(tenant, version(application_id, proxy_allowed=False))
    for wrong in (
        version(application_id, proxy_allowed=True),
        version(request_id(), proxy_allowed=False),
    ):
        with pytest.raises(XproxyError):
            await resources.create(tenant, wrong)
    gone = await resources.delete(tenant, application_id, "mine")
    assert [it.resource_id for it in gone] == [own.resource_id]
    left = await resources.versions(store, application_id)
    assert [it.resource_id for it in left] == [theirs.resource_id]
