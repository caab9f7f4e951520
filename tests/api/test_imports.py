"""What is imported, on real stores: what was spent is booked once, whatever happens in between."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from redis import Redis

from metering.api.services import Services
from metering.core.keys import litellm_hash, local_token
from tests.api.conftest import NOW_MS
from tests.api.house import SECRET, House, built

KEY = "sk-" + "k3Y" * 7
ADMIN = local_token(SECRET, NOW_MS // 1000)
BUDGETS = [{"budget_duration": "1h", "max_budget": 1}, {"budget_duration": "12h", "max_budget": 2}]
ASKED: dict[str, Any] = {
    "token": litellm_hash(KEY),
    "last4": KEY[-4:],
    "max_budget": 5,
    "budget_duration": "30d",
    "soft_budget": 4,
    "budget_limits": BUDGETS,
    "spend": 4.5,
    "window_spend": {"1h": 0.25, "12h": 1.5},
}
SPENT = {"budget:month": "4.5", "soft:month": "4.5", "window:hour": "0.25", "window:720m": "1.5"}


@pytest.fixture
async def house(services: Services, redis_url: str, tmp_path: Path) -> AsyncIterator[House]:
    """The control plane on real stores."""
    async with built(services, redis_url, tmp_path) as house:
        yield house


async def imported(house: House, **body: Any) -> list[dict[str, Any]]:
    """What became of a part."""
    answer = await house.bench.ask("POST", "/api/v1/imports/litellm", body, key=ADMIN)
    assert answer.status_code == 200, answer.text
    results: list[dict[str, Any]] = msgspec.json.decode(answer.content)["results"]
    return results


async def spent(house: House) -> dict[str, str]:
    """What each limit has counted, by the end of its id."""
    answer = await house.bench.ask("GET", "/api/v1/limits", key=house.key)
    decode = msgspec.json.Decoder(float_hook=Decimal).decode
    return {
        it["limit_id"].split(":", 2)[2]: str(it["totals"]["cost"]["total"]["base"])
        for it in decode(answer.content)["items"]
    }


async def test_every_limit_begins_with_its_share(house: House) -> None:
    """Of each window what was spent in it; the row costs nothing, and is its key's."""
    [told] = await imported(house, keys=[ASKED])
    assert (told["outcome"], told["opened"]) == ("imported", 4.5)
    assert await spent(house) == SPENT
    [row] = await house.rows()
    assert (row.surface, row.cost_pico, row.key_id) == ("import", 0, told["token"])
    assert sorted(it for it, _ in row.limit_costs.values()) == [
        *(25 * 10**10, 15 * 10**11, 45 * 10**11, 45 * 10**11)
    ]


async def test_a_run_that_died_goes_on(house: House, redis_url: str) -> None:
    """A key that is not there although its opening was booked: it is booked no second time, before
    its row has landed, afterwards, and when Redis has forgotten everything."""
    for land, forget in ((False, False), (True, False), (True, True)):
        [told] = await imported(house, keys=[ASKED])
        assert told["outcome"] == "imported"
        assert await spent(house) == SPENT
        if land:
            await house.rows()
        if forget:
            with Redis.from_url(redis_url) as redis:
                for name in redis.scan_iter("*:l:*"):
                    redis.delete(name)
        assert await spent(house) == SPENT
        async with house.services.store.connection() as connection:
            await connection.execute("DELETE FROM keys WHERE key_id = $1", told["token"])
    assert len(await house.rows()) == 1


async def test_what_nobody_could_have_sent(house: House) -> None:
    """Each is refused by itself, naming what is wrong; the others come along."""
    odd = [
        ASKED | {"token": "abc"},
        ASKED | {"token": "a" * 64, "spend": 10**8},
        ASKED | {"token": "b" * 64, "spend": -1},
        ASKED | {"token": "c" * 64, "created_at": "last week"},
        ASKED | {"token": "d" * 64, "team_id": "nobody"},
    ]
    told = await imported(house, keys=[*odd, ASKED])
    assert [it["outcome"] for it in told] == ["refused"] * 5 + ["imported"]
    said = [it["message"] for it in told[:5]]
    for message, part in zip(said, ("token", "9.2", "spend", "created_at", "Team"), strict=True):
        assert part in message
    days = [{"id": "1", "date": "2026-02-30"}, {"id": "2", "date": "2026-02-03", "spend": 0.5}]
    told = await imported(house, days=days)
    assert sorted(it["outcome"] for it in told) == ["imported", "refused"]
