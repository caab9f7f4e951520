"""Portkey's virtual keys with Portkey's own package: what it sends is understood, what it reads is
there, and a fault is the exception that it has for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from portkey_ai import Portkey as Client
from portkey_ai.api_resources import exceptions

from tests.acceptance.portkey import SECRET, Portkey
from tests.acceptance.tenant import Tenant

NEXT = "sk-after-its-rotation-93ab"
VirtualKeys = Callable[[str], Any]


@pytest.fixture
def virtual_keys(tenant: Tenant) -> Iterator[VirtualKeys]:
    """Gives what the package does with virtual keys, by a key of ours."""
    made: list[Client] = []

    def make(key: str) -> Any:
        made.append(Client(api_key=key, base_url=tenant.service.url + "/v1"))
        return made[-1].virtual_keys

    yield make
    for client in made:
        client.openai_client.close()
        client._client.close()


@pytest.fixture
def manager(tenant: Tenant) -> str:
    """A key that may manage the tenant's credentials."""
    members = {"application_id": tenant.application_id, "role": "app", "name": "manager"}
    asked = members | {"permissions": ["manage_credentials"]}
    key: str = tenant.service.manage("POST", "keys", asked)["key"]
    return key


def test_the_life_of_a_virtual_key(tenant: Tenant, manager: str, virtual_keys: VirtualKeys) -> None:
    """Made, listed, read, changed and deleted, as its documentation does it."""
    keys = virtual_keys(manager)
    made = keys.create(
        name="Open AI",
        provider="openai",
        key=SECRET,
        note="for all",
        usage_limits={"credit_limit": 10, "periodic_reset": "monthly", "alert_threshold": 9},
    )
    assert (made.object, bool(made.id)) == ("virtual-key", True)
    assert made.slug.startswith("open-ai-")
    assert Portkey(tenant).call(made.slug).status_code == 200
    listed = keys.list()
    assert (listed.object, listed.total) == ("list", 1)
    assert listed.data[0]["slug"] == made.slug
    found = keys.retrieve(slug=made.slug)
    assert (found.name, found.note, found.status) == ("Open AI", "for all", "active")
    assert found.usage["current_usage"] > 0
    changed = keys.update(
        slug=made.slug,
        name="Other",
        key=NEXT,
        rate_limits=[{"type": "requests", "unit": "rpm", "value": 5}],
    )
    assert changed.slug == made.slug
    found = keys.retrieve(slug=made.slug)
    assert (found.name, found.note) == ("Other", "for all")
    assert Decimal(str(found.usage_limits["credit_limit"])) == 10
    assert found.rate_limits == [{"type": "requests", "unit": "rpm", "value": 5}]
    keys.delete(slug=made.slug)
    assert keys.list().total == 0


def test_its_exceptions(tenant: Tenant, manager: str, virtual_keys: VirtualKeys) -> None:
    """By the status; the message names the member."""
    keys = virtual_keys(manager)
    with pytest.raises(exceptions.NotFoundError):
        keys.retrieve(slug="nothing")
    with pytest.raises(exceptions.BadRequestError, match="provider"):
        keys.create(name="x", provider="nobody", key=SECRET)
    with pytest.raises(exceptions.PermissionDeniedError):
        virtual_keys(tenant.key).create(name="x", provider="openai", key=SECRET)
    with pytest.raises(exceptions.AuthenticationError):
        virtual_keys("sk-none").list()
