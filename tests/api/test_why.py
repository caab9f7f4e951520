"""`/limits/{id}/why`: the numbers of refusals, from the script that refused to the answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from metering.api.services import Services
from metering.cli.limits import sentences
from metering.core.limits import Bounds, Limit, Refused
from metering.core.money import PICO_PER_USD as USD
from metering.core.record import UsageRow
from metering.core.windows import Window, moment_text
from metering.duties import Lease
from metering.duties.writer import Writer
from metering.ledger import Hold, Ledger
from metering.redis import Redis
from metering.redis.outbox import Outbox
from metering.spool import Spool
from metering.store import limits as stored_limits
from metering.store import usage
from tests.api.conftest import MINE, NOW_MS, Bench
from tests.builders import limit
from tests.builders import row as call

EXACT = msgspec.json.Decoder(float_hook=Decimal).decode


class World:
    """The control plane on a real ledger, its writer, and calls."""

    def __init__(self, bench: Bench, ledger: Ledger, writer: Writer) -> None:
        self.bench, self.ledger, self.writer = bench, ledger, writer

    async def limit(self, **values: Any) -> Limit:
        """A stored, live limit."""
        one = limit(**{"application_id": MINE, **values})
        await stored_limits.create(self.bench.services.store, one)
        await self.ledger.define(one)
        return one

    async def reserve(
        self, *limits: Limit, likely: int, ceiling: int, **values: Any
    ) -> tuple[UsageRow, Hold | Refused]:
        """An admission and its verdict."""
        row = call(application_id=MINE, **values)
        bounds = Bounds(
            likely_pico=likely, ceiling_pico=ceiling, likely_tokens=10, ceiling_tokens=20
        )
        verdict = await self.ledger.reserve(row, limits, bounds, expected_ms=1000)
        assert isinstance(verdict, Hold | Refused)
        return row, verdict

    async def why(self, limit_id: str, query: str = "", key: str = "read-key") -> dict[str, Any]:
        """The answer, exact."""
        response = await self.bench.ask("GET", f"/api/v1/limits/{limit_id}/why?{query}", key=key)
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = EXACT(response.content)
        return answer


@pytest.fixture
async def world(services: Services, redis_url: str, tmp_path: Path) -> AsyncIterator[World]:
    """Real parts but for the directory."""
    redis = Redis(redis_url, 5_000)
    store = services.store
    await usage.ensure_partitions(store, NOW_MS)
    ledger = Ledger(redis, store, Spool(tmp_path, "test"), hold_ttl_ms=30_000)
    writer = Writer(Outbox(redis), store, Lease(redis, "writer", "test"))
    bench = Bench(replace(services, ledger=ledger))
    async with bench.http:
        yield World(bench, ledger, writer)
    await ledger.close()
    await redis.close()


async def test_what_live_holds_caused(world: World) -> None:
    """A hard cap names settled, ceilings held, what the call needed, and that it may wait."""
    cap = await world.limit(limit_id="cap", max=USD, mode="hard")
    _, first = await world.reserve(cap, likely=USD // 10, ceiling=USD // 2 + 1)
    row, verdict = await world.reserve(
        cap, likely=USD // 10, ceiling=USD // 2, tags=["night"], key_id="k-app"
    )
    assert isinstance(first, Hold)
    assert isinstance(verdict, Refused)
    await world.writer.land()

    answer = await world.why("cap")
    [why] = answer["items"]
    assert why == {
        "at": why["at"],
        "request_id": row.request_id,
        "final": False,
        "cause": "live_holds",
        "mode": "hard",
        "unit": "usd",
        "max": 1,
        "settled": 0,
        "held": Decimal("0.500000000001"),
        "needed": Decimal("0.5"),
        "missing": Decimal("0.000000000001"),
        "holds": 1,
        "model": "gpt-4o",
        "key_id": "k-app",
        "tags": ["night"],
    }
    now = answer["now"]
    assert (now["max"], now["spent"], now["holds"]) == (1, 0, 1)
    assert (now["held"], now["remaining"]) == (
        Decimal("0.500000000001"),
        Decimal("0.499999999999"),
    )
    said = " ".join(sentences(answer))
    assert "$0.500000000001 held by 1 calls in flight" in said
    assert "$0.000000000001 more than the max of $1" in said
    assert "it helps to wait" in said


async def test_what_was_spent_is_final(world: World) -> None:
    """Each limit that blocked has its own numbers, in its unit; one that did not has none."""
    spent = await world.limit(limit_id="spent", max=0, mode="block")
    calls = await world.limit(limit_id="calls", max=1, mode="block", unit="requests")
    roomy = await world.limit(limit_id="roomy", max=10**24, mode="hard")
    _, hold = await world.reserve(spent, calls, roomy, likely=0, ceiling=1)
    assert isinstance(hold, Hold)
    settled = msgspec.structs.replace(hold.row, status="ok", cost_pico=7, input_pico=7)
    await world.ledger.settle(hold, settled, 5)
    row, _ = await world.reserve(spent, calls, roomy, likely=0, ceiling=1)
    await world.writer.land()

    [money] = (await world.why("spent"))["items"]
    counted = await world.why("calls", f"request_id={row.request_id.upper()}")
    [count] = counted["items"]
    assert (money["final"], money["cause"], money["settled"]) == (
        True,
        "settled",
        Decimal("0.000000000007"),
    )
    assert (count["unit"], count["max"], count["settled"], count["needed"]) == ("requests", 1, 1, 1)
    assert (await world.why("roomy"))["items"] == []
    assert "raise the max or reset it." in " ".join(sentences(counted))
    assert next(sentences(await world.why("roomy"))) == "Limit roomy has refused no call."


@pytest.mark.parametrize("landed", [False, True])
async def test_until_when_a_window_is_used_up(world: World, *, landed: bool) -> None:
    """A rolling one until enough has left it, which is recorded; where there is never so much room,
    nobody is told to wait."""
    rolling = await world.limit(
        limit_id="rolling", max=10, mode="hard", window=Window(rolling="2 hours")
    )
    monthly = await world.limit(
        limit_id="monthly", max=10, mode="hard", window=Window(every="month", zone="UTC")
    )
    _, hold = await world.reserve(rolling, likely=0, ceiling=8)
    assert isinstance(hold, Hold)
    await world.ledger.settle(hold, msgspec.structs.replace(hold.row, cost_pico=8, input_pico=8), 5)
    part_ms = hold.limits[0][1]
    for one, ceiling, until in (
        (rolling, 3, moment_text(part_ms + 122 * 60_000)),
        (rolling, 11, None),
        (monthly, 11, None),
    ):
        row, verdict = await world.reserve(one, likely=0, ceiling=ceiling)
        assert isinstance(verdict, Refused)
        if landed:
            await world.writer.land()
        [why] = (found := await world.why(one.limit_id, f"request_id={row.request_id}"))["items"]
        said = " ".join(sentences(found))
        assert why["final"] is True
        assert ("wait until" in said) is (until is not None)
        assert why.get("resets_at") == until or one is monthly
        assert f"wait until {until}." in said or until is None
        path = f"/api/v1/requests/{row.request_id}/result"
        result = (await world.bench.ask("GET", path)).json()["xproxy_result"]
        assert result["limits"][one.limit_id].get("resets_at") == until


async def test_a_refusal_is_known_before_it_lands(world: World) -> None:
    """By its request id at once, from Redis; the same after its row has landed."""
    team = await world.limit(max=0, mode="block", unit="requests")
    row, _ = await world.reserve(team, likely=0, ceiling=0)
    before = await world.why("team", f"request_id={row.request_id}")
    assert (await world.why("team"))["items"] == []
    await world.writer.land()
    after = await world.why("team", f"request_id={row.request_id}")
    assert before["items"] == after["items"] == (await world.why("team"))["items"]
    assert before["items"][0]["request_id"] == row.request_id


async def test_the_latest_come_first(world: World) -> None:
    """So many as asked for; a call that this limit did not refuse is no answer, nor another's."""
    team = await world.limit(max=0, mode="block", unit="requests")
    other = await world.limit(limit_id="other", max=9, mode="block", unit="requests")
    refused = [(await world.reserve(team, likely=0, ceiling=0))[0] for _ in range(12)]
    passed, _ = await world.reserve(other, likely=0, ceiling=0)
    await world.writer.land()
    latest = sorted((it.request_id for it in refused), reverse=True)
    found = [it["request_id"] for it in (await world.why("team"))["items"]]
    assert found == latest[:10]
    found = [it["request_id"] for it in (await world.why("team", "limit=12"))["items"]]
    assert found == latest
    for path, key in (
        (f"team/why?request_id={passed.request_id}", "app-key"),
        (f"other/why?request_id={refused[0].request_id}", "app-key"),
        ("team/why?request_id=nope", "app-key"),
        ("nothing/why", "app-key"),
        ("team/why", "other-key"),
    ):
        response = await world.bench.ask("GET", f"/api/v1/limits/{path}", key=key)
        assert response.status_code == 404, path
