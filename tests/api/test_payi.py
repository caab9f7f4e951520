"""The `payi` package, checking every answer strictly, drives the control plane."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import httpx
import pytest
from payi import AsyncPayi, BadRequestError, NotFoundError

from metering.core.limits import Charge
from metering.core.money import PICO_PER_USD
from tests.api.conftest import MINE, Bench
from tests.api.test_usage import land, row


@pytest.fixture
async def payi(bench: Bench) -> AsyncIterator[AsyncPayi]:
    """The SDK's client on the control plane; retries off."""
    transport = httpx.ASGITransport(bench.app)
    async with AsyncPayi(
        api_key="app-key",
        base_url="http://xproxy.test/",
        max_retries=0,
        http_client=httpx.AsyncClient(transport=transport),
        _strict_response_validation=True,
    ) as client:
        yield client


async def test_life_of_a_limit(bench: Bench, payi: AsyncPayi) -> None:
    """Create, retrieve, list, update, set properties, reset and delete, as the SDK calls them."""
    created = await payi.limits.create(
        limit_name="team a", max=12.5, limit_id="a/b_c", limit_type="block"
    )
    limit_id = created.limit.limit_id
    bench.spend(limit_id, settled=3 * PICO_PER_USD, counts={"ok": 2, "blocked": 1})

    read = await payi.limits.retrieve(limit_id)
    updated = await payi.limits.update(limit_id, max=20, limit_name="team b")
    [with_properties] = await payi.limits.properties.update(limit_id, properties={"a": "b"})
    reset = await payi.limits.reset(limit_id, reset_date=datetime(2019, 12, 27, tzinfo=UTC))
    deleted = await payi.limits.delete(limit_id)

    assert limit_id == "a/b_c"
    assert read.limit.totals.cost.total.base == 3
    assert read.limit.totals.requests.total == 3
    assert read.limit.limit_type == "block"
    assert updated.limit.max == 20
    assert with_properties.limit.limit_name == "team b"
    assert reset.message == "Limit has been successfully reset."
    assert reset.limit_history.totals.requests.blocked == 1
    assert deleted.message == "Limit was deleted."
    with pytest.raises(NotFoundError) as refused:
        await payi.limits.retrieve(limit_id)
    assert refused.value.response.json()["xproxy_error"]["code"] == "limit_not_found"


async def test_listing(payi: AsyncPayi) -> None:
    """The SDK's own paging walks all pages; its tests' cursor and limit 0 are no errors."""
    for number in range(5):
        await payi.limits.create(limit_name=f"l{number}", max=0, threshold=0)

    names = [limit.limit_name async for limit in payi.limits.list(limit=2, sort_ascending=True)]
    odd = await payi.limits.list(cursor="cursor", limit=0, limit_name="l1", sort_ascending=True)

    assert names == ["l0", "l1", "l2", "l3", "l4"]
    assert [limit.limit_name for limit in odd.items or []] == ["l1"]


async def test_refusals_are_read(payi: AsyncPayi) -> None:
    """A refusal arrives as the SDK's own error, with code and message."""
    await payi.limits.create(limit_name="l", limit_id="l", max=1)

    with pytest.raises(BadRequestError) as refused:
        await payi.limits.create(limit_name="l", limit_id="l", max=2)

    assert "another max" in str(refused.value)
    await payi.limits.update("l")


async def test_results(bench: Bench, payi: AsyncPayi) -> None:
    """A call's result is found by either id, and its properties are set, as the SDK does."""
    recorded = row(1)
    await land(bench, [recorded])
    charged = (Charge("l", 1, "usd", 1, "ok"),)
    bench.ledger.records[MINE, recorded.request_id] = recorded, charged

    ours = await payi.requests.request_id.result.retrieve(recorded.request_id)
    theirs = await payi.requests.response_id.result.retrieve("chatcmpl-1", category="system.openai")
    changed = await payi.requests.request_id.properties.update(
        recorded.request_id, properties={"a": "b"}
    )

    assert ours.xproxy_result == theirs.xproxy_result
    assert ours.xproxy_result.request_id == recorded.request_id
    assert changed.request_id == recorded.request_id
