"""Every method of the newest `payi`, sync and async, its client checking every answer strictly."""

from __future__ import annotations

import inspect
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import payi
import pytest
from payi import AsyncPayi, Payi
from payi._resource import SyncAPIResource

from tests.acceptance.tenant import Tenant, new_tenant
from tests.standin.process import Standin
from tests.standin.service import Service

LATER = "use_cases."
"""Resources that are not served yet."""
Method = Callable[..., Awaitable[Any]]


def methods(resource: Any, prefix: str = "") -> Iterator[str]:
    """The dotted name of every method of a client's resources."""
    for name in dir(type(resource)):
        if name.startswith(("_", "with_")):
            continue
        member = inspect.getattr_static(type(resource), name)
        if inspect.isfunction(member) and isinstance(resource, SyncAPIResource):
            yield prefix + name
        elif not inspect.isfunction(member) and not isinstance(member, property):
            below = getattr(resource, name, None)
            if isinstance(below, SyncAPIResource):
                yield from methods(below, f"{prefix}{name}.")


class Client:
    """Either client: methods by dotted name, whose answers are awaited; pages come whole."""

    def __init__(self, client: Payi | AsyncPayi) -> None:
        self._client = client
        self.asked: set[str] = set()

    async def __call__(self, name: str, *args: Any, **members: Any) -> Any:
        """One call."""
        self.asked.add(name)
        found: Any = self._client
        for part in name.split("."):
            found = getattr(found, part)
        answer = found(*args, **members)
        if inspect.isawaitable(answer) and not hasattr(answer, "__aiter__"):
            return await answer
        if hasattr(answer, "__aiter__"):
            return [it async for it in answer]
        return [*answer] if hasattr(answer, "iter_pages") else answer


@pytest.fixture(params=["sync", "async"])
async def ask(request: pytest.FixtureRequest, reporting: Tenant) -> Any:
    """A client of either kind, which takes nothing on trust."""
    options: Any = {
        "api_key": reporting.key,
        "base_url": reporting.service.url,
        "_strict_response_validation": True,
        "max_retries": 0,
    }
    if request.param == "sync":
        with Payi(**options) as client:
            yield Client(client)
    else:
        async with AsyncPayi(**options) as waiting:
            yield Client(waiting)


@pytest.fixture
def reporting(service: Service, standin: Standin) -> Tenant:
    """A tenant whose key may report calls."""
    return new_tenant(service, permissions=["ingest"])


async def limits(ask: Client) -> None:
    """All of a limit's life."""
    made = await ask("limits.create", limit_name="team a", max=12.5, limit_id="a/b_c")
    again = await ask("limits.create", limit_name="team a", max=12.5, limit_id="a/b_c")
    limit_id = made.limit.limit_id
    assert again.limit.limit_id == limit_id == "a/b_c"
    units = {"text": {"input": 1_000_000, "output": 0}}
    for status in (200, 500):
        await ask(
            "ingest.units",
            category="system.openai",
            resource="gpt-4o-mini",
            units=units,
            http_status_code=status,
            limit_ids=[
                (await ask("limits.create", limit_name="t", limit_id="t", max=0.1)).limit.limit_id
            ],
        )
    totals = (await ask("limits.retrieve", "t")).limit.totals
    assert totals.cost.total.base == 0.15
    assert totals.cost.total.overrun_base == pytest.approx(0.05)
    requests = totals.requests
    assert (requests.overrun, requests.failed, requests.total) == (1, 1, 2)
    assert (requests.ok, requests.exceeded, requests.blocked, requests.blocked_external) == (0,) * 4
    assert (await ask("limits.update", limit_id, max=20, limit_name="b")).limit.max == 20
    assert (await ask("limits.update", limit_id)).limit.limit_name == "b"
    changed = await ask("limits.properties.update", limit_id, properties={"a": "b", "c": None})
    assert changed[0].limit.limit_id == limit_id
    odd = await ask("limits.create", limit_name="odd", max=0, threshold=0, limit_type="allow")
    assert odd.limit.max == 0
    reset = await ask("limits.reset", "t", reset_date=datetime(2019, 12, 27, tzinfo=UTC))
    assert reset.limit_history.totals.requests.total == 2
    assert (await ask("limits.retrieve", "t")).limit.totals.requests.total == 0
    names = [it.limit_name for it in await ask("limits.list", limit=1, sort_ascending=True)]
    assert names == ["b", "t", "odd"]
    first = await ask("limits.list", cursor="cursor", limit=0, limit_name="b", sort_ascending=True)
    assert [it.limit_name for it in first] == ["b"]
    assert (await ask("limits.delete", limit_id)).request_id


async def categories(ask: Client) -> None:
    """Resources of an application's own, and the catalogue's."""
    own, named = "my category/%", "my page"
    units = {"scan": {"input_price": 0.5, "output_price": 0}, "foo": {}}
    where: dict[str, Any] = {"category": own}
    now = datetime.now(UTC)
    made = await ask(
        "categories.resources.create",
        named,
        **where,
        units=units,
        max_input_units=0,
        max_output_units=0,
        max_total_units=0,
        start_timestamp=now - timedelta(days=2),
    )
    later = await ask("categories.resources.create", named, **where, units=units)
    one = await ask("categories.resources.retrieve", made.resource_id, **where, resource=named)
    assert (one.resource, one.active, later.active) == (named, False, True)
    assert one.end_timestamp == later.start_timestamp
    versions = await ask("categories.resources.list", named, **where, active=True, limit=1)
    assert [it.resource_id for it in versions] == [later.resource_id]
    listed = await ask("categories.list_resources", own, cursor="cursor", limit=0)
    assert [it.resource_id for it in listed] == [later.resource_id]
    names = [it.category for it in await ask("categories.list", limit=50)]
    assert {own, "system.openai", "system.anthropic"} <= set(names)
    assert names == sorted(names)
    reported = await ask("ingest.units", category=own, resource=named, units={"scan": {"input": 3}})
    assert reported.xproxy_result.cost.total.base == 1.5
    assert reported.xproxy_result.resource_id == later.resource_id
    catalogue = await ask("categories.list_resources", "system.anthropic", limit=500, active=True)
    assert all(it.active and it.units for it in catalogue)
    gone = await ask("categories.resources.delete", later.resource_id, **where, resource=named)
    assert gone.resource_id == later.resource_id
    rest = await ask("categories.delete_resource", named, category=own)
    assert [it.resource_id for it in rest] == [made.resource_id]
    with pytest.raises(payi.NotFoundError):
        await ask("categories.delete", own)
    await ask("categories.resources.create", named, **where, units=units)
    assert len(await ask("categories.delete", own)) == 1
    with pytest.raises(payi.PermissionDeniedError):
        await ask("categories.delete", "system.openai")


async def ingest(ask: Client) -> None:
    """One call with all there is to say, and many."""
    everything: dict[str, Any] = {
        "category": "system.openai",
        "units": {"text": {"input": 1_000, "output": 100}, "foo": {}},
        "resource": "gpt-4o-mini",
        "end_to_end_latency_ms": 0,
        "event_timestamp": datetime.now(UTC) - timedelta(hours=1),
        "http_status_code": 0,
        "properties": {"foo": "string", "none": None},
        "provider_request_headers": [{"name": "x", "value": "string"}],
        "provider_request_json": "not JSON {",
        "provider_request_reasoning_json": "string",
        "provider_response_function_calls": [{"name": "x", "arguments": "string"}],
        "provider_response_headers": [{"name": "x", "value": None}],
        "provider_response_id": f"r {time.monotonic_ns()}/%",
        "provider_response_json": ["string"],
        "provider_uri": "provider_uri",
        "time_to_first_completion_token_ms": 0,
        "time_to_first_token_ms": 0,
        "use_case_properties": {"foo": "string"},
    }
    said: dict[str, Any] = {
        "use_case_id": "u 1",
        "use_case_name": "case",
        "use_case_step": "step",
        "use_case_version": 0,
        "user_id": "u",
        "account_name": "an account",
    }
    event = everything | said
    await ask("limits.create", limit_name="l", limit_id="l", max=1)
    made = await ask(
        "ingest.units",
        **event,
        limit_ids=["l"],
        request_tags=["a"],
        resource_scope="datazone.us",
        disable_logging=True,
    )
    result = made.xproxy_result
    assert result.cost.total.base == 0.00021
    assert result.limits["l"].state == "ok"
    assert (result.use_case_id, result.user_id) == ("u 1", "u")
    assert result.account_name == "an account"
    assert abs((made.event_timestamp - everything["event_timestamp"]).total_seconds()) < 0.01
    again = await ask("ingest.units", **event, extra_query={"id": event["provider_response_id"]})
    assert again.request_id == made.request_id
    assert again.xproxy_result.duplicate_request
    assert again.xproxy_result.cost == result.cost
    many = await ask(
        "ingest.bulk",
        events=[
            event | {"limit_ids": ["l"], "request_tags": ["a"], "scope": "global"},
            event | {"provider_response_id": f"n{time.monotonic_ns()}", "limit_ids": ["l"]},
            event | {"limit_ids": ["none"]},
        ],
    )
    assert (many.ingest_count, many.error_count, many.total_count) == (1, 1, 3)
    [fault] = many.errors
    assert fault.item_index == 2
    assert fault.xproxy_result.xproxy_error.code == "invalid_limit_ids"
    assert (await ask("limits.retrieve", "l")).limit.totals.requests.total == 2
    assert (await ask("ingest.bulk")).ingest_count == 0
    assert (await ask("ingest.bulk", events=[])).total_count == 0


async def requests(ask: Client) -> None:
    """Results and properties by our id and by the provider's, at once."""
    provider_id, category = f"chat {time.monotonic_ns()}/%", "system.openai"
    made = await ask(
        "ingest.units",
        category=category,
        resource="gpt-4o-mini",
        units={"text": {"input": 1}},
        provider_response_id=provider_id,
    )
    ours = await ask("requests.request_id.result.retrieve", made.request_id)
    theirs = await ask("requests.response_id.result.retrieve", provider_id, category=category)
    assert ours.xproxy_result == theirs.xproxy_result == made.xproxy_result
    for name, which, more in (
        ("requests.request_id.properties.update", made.request_id, {}),
        ("requests.response_id.properties.update", provider_id, {"category": category}),
    ):
        changed = await ask(name, which, **more, properties={"system.failure": "x", "none": None})
        assert changed.request_id == made.request_id
    with pytest.raises(payi.NotFoundError):
        await ask("requests.request_id.result.retrieve", "none")


async def test_every_method_of_the_sdk_is_asked(ask: Client, reporting: Tenant) -> None:
    """The SDK's own list of methods is the measure: one that is not asked here fails."""
    for part in (limits, categories, ingest, requests):
        await part(ask)
    with Payi(api_key="k") as client:
        every = {it for it in methods(client) if not it.startswith(LATER)}
    assert len(every) >= 20
    assert ask.asked == every


async def test_a_bad_key_is_told_as_the_sdk_understands(service: Service) -> None:
    """401 with its code, from every resource."""
    with Payi(api_key="none", base_url=service.url, max_retries=0) as client:
        for asked in (client.limits.list, client.categories.list, client.ingest.bulk):
            with pytest.raises(payi.AuthenticationError) as refused:
                asked()
            body = refused.value.response.json()
            assert body["xproxy_error"]["code"] == "invalid_api_key"
            assert body["statusCode"] == httpx.codes.UNAUTHORIZED
