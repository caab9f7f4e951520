"""Calls priced anew on the real stores: reported by all that they have in common, and corrected."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgspec
import pytest

from metering.api.services import Services
from metering.core.limits import Bounds, Limit
from metering.core.prices import OwnRate
from metering.core.record import UsageRow
from metering.duties import Lease
from metering.duties.writer import Writer
from metering.ledger import Hold, Ledger
from metering.redis import Redis
from metering.redis.outbox import Outbox
from metering.spool import Spool
from metering.store import limits as stored_limits
from metering.store import prices as stored_prices
from metering.store import rollups, usage
from pricing.cost import cost
from tests.api.conftest import MINE, NOW_MS, PACKAGED, Bench
from tests.builders import limit, request_id, row

PATH = "/api/v1/prices/reprice"
UNITS = {"input_text": 1_000, "cache_read": 10, "output_text": 100}
RANGE = {"from": str(NOW_MS - 1), "to": str(NOW_MS + 1_000)}
BEFORE_PICO = 1_000 * 2_500_000 + 10 * 1_250_000 + 100 * 10_000_000
"""What gpt-4o lists: $2.5, $1.25 and $10 a million."""
DEARER_PICO = 1_000 * 5_000_000 + 10 * 1_250_000 + 100 * 10_000_000


@dataclass
class Rig:
    """The control plane, the ledger behind it, and the writer."""

    bench: Bench
    ledger: Ledger
    writer: Writer
    redis: Redis

    async def call(self, limits: list[Limit], **values: Any) -> UsageRow:
        """A settled call of gpt-4o at list price."""
        defaults = {"model": "gpt-4o", "units": UNITS, "application_id": MINE}
        one = row(**{"request_id": request_id(), **defaults, **values})
        hold = await self.ledger.reserve(one, limits, Bounds(), expected_ms=1)
        assert isinstance(hold, Hold)
        rates = self.bench.services.prices.now.book.find("openai", "gpt-4o", NOW_MS)
        assert rates is not None
        paid = cost(UNITS, rates)
        assert paid.total_pico == BEFORE_PICO
        charged = {
            "lines": paid.lines,
            "input_pico": paid.input_pico,
            "output_pico": paid.output_pico,
            "cost_pico": paid.total_pico,
            "price_id": rates.id,
        }
        done = msgspec.structs.replace(one, **{"status": "ok", **charged, **values})
        await self.ledger.settle(hold, done, 1_110)
        return done

    async def ask(self, **members: Any) -> Any:
        """The answer to a question, exact; raises AssertionError at a refusal."""
        answer = await self.bench.ask("POST", PATH, {**RANGE, **members}, key="admin-key")
        assert answer.status_code == 200, answer.text
        return json.loads(answer.content, parse_float=Decimal)

    async def forget(self) -> None:
        """Redis forgets the calls that have landed, as it does after a while."""
        for record in await self.redis.call("KEYS", "*:r:*"):
            await self.redis.call("DEL", record)

    async def audit(self) -> list[usage.Entry]:
        """All entries, which are what the counters, rollups and totals are the sums of."""
        await self.writer.flush()
        store = self.bench.services.store
        page = await usage.query(store, usage.Filters(application_id=MINE), page_size=1_000)
        assert await rollups.differences(store) == (0, 0)
        for one in LIMITS:
            [live] = await self.ledger.totals(MINE, [one.limit_id])
            charged = [
                it.amount
                for entry in page.entries
                for it in entry.charges
                if (it.limit_id, it.epoch) == (one.limit_id, live.epoch)
            ]
            assert live.settled == sum(charged), one.limit_id
        return list(page.entries)


LIMITS = [
    limit("team", usd=10, application_id=MINE),
    limit("words", application_id=MINE, unit="tokens", max=10**9),
    limit("calls", application_id=MINE, unit="requests", max=10**6),
]


@pytest.fixture
async def rig(services: Services, redis_url: str, tmp_path: Path) -> AsyncIterator[Rig]:
    """All of it, with a limit of each unit."""
    redis = Redis(redis_url, 5_000)
    store = services.store
    await usage.ensure_partitions(store, NOW_MS)
    ledger = Ledger(redis, store, Spool(tmp_path, "test"), hold_ttl_ms=30_000)
    for one in LIMITS:
        await stored_limits.create(store, one)
        await ledger.define(one)
    bench = Bench(replace(services, ledger=ledger))
    async with bench.http:
        yield Rig(bench, ledger, Writer(Outbox(redis), store, Lease(redis, "w", "t")), redis)
    await ledger.close()
    await redis.close()


def dearer() -> dict[str, str]:
    """OpenAI's file, with an input of gpt-4o that costs twice as much."""
    content = json.loads(PACKAGED["openai.json"])
    [model] = [it for it in content["models"] if it["id"] == "gpt-4o"]
    for price in model["prices"]:
        if price.get("service_tier", "default") == "default":
            price["prices"]["input"] = "5"
    return {"openai.json": json.dumps(content)}


async def test_what_if(rig: Rig) -> None:
    """Before and after, in all and by each label, to the pico; what cannot be said is apart."""
    for user in ("ann", "ann", "bob"):
        await rig.call(LIMITS, user_id=user, use_case_name="chat")
    await rig.call([], estimated=True)
    await rig.call([], units={}, lines={}, cost_pico=0, input_pico=0, output_pico=0)
    await rig.call([], model="no-such-model")
    entries = await rig.audit()

    answer = await rig.ask(files=dearer())

    total = answer["total"]
    assert (total["calls"], total["changed"]) == (3, 3)
    assert Decimal(total["before_usd"]).scaleb(12) == 3 * BEFORE_PICO
    assert Decimal(total["after_usd"]).scaleb(12) == 3 * DEARER_PICO
    assert total["percent"] == Decimal("71.17")
    assert {it["user"]: it["calls"] for it in answer["by"]["user"]} == {"ann": 2, "bob": 1}
    assert {it["limit"] for it in answer["by"]["limit"]} == {"team", "words", "calls"}
    assert [it["use_case"] for it in answer["by"]["use_case"]] == ["chat"]
    apart = {name: count for name, count in answer["not_repriced"].items() if count}
    assert apart == {"estimated": 1, "no_units": 1, "unpriced": 1}
    assert await rig.audit() == entries
    assert (await rig.ask())["total"]["changed"] == 0, "the prices in force"


@pytest.mark.parametrize("forgotten", [False, True])
async def test_charged_once(rig: Rig, *, forgotten: bool) -> None:
    """One correction a call, whether Redis knows it or not; a second run adds nothing, also before
    the first has landed or at once; the call's own row stays, tokens and requests too."""
    made = [await rig.call(LIMITS) for _ in range(3)]
    before = [it for it in await rig.audit() if it.row.entry == "call"]
    question: dict[str, Any] = {"files": dearer(), "apply": True, "run": "may"}

    first, second = await asyncio.gather(rig.ask(**question), rig.ask(**question))
    assert first["corrected"] + second["corrected"] == 3
    if forgotten:
        await rig.audit()
        await rig.forget()
    assert (await rig.ask(**question))["corrected"] == 0
    entries = await rig.audit()

    assert [it for it in entries if it.row.entry == "call"] == before
    corrections = [it.row for it in entries if it.row.entry == "reprice:may"]
    assert len(corrections) == len(entries) - 3 == 3
    assert {it.request_id for it in corrections} == {it.request_id for it in made}
    assert {it.cost_pico for it in corrections} == {DEARER_PICO - BEFORE_PICO}
    [team, words, calls] = await rig.ledger.totals(MINE, ["team", "words", "calls"])
    assert (team.settled, words.settled, calls.settled) == (3 * DEARER_PICO, 3_330, 3)

    await rig.forget()
    back = await rig.ask(apply=True, run="june")
    assert back["corrected"] == 3
    await rig.audit()
    [team] = await rig.ledger.totals(MINE, ["team"])
    assert team.settled == 3 * BEFORE_PICO


async def negotiate(
    rig: Rig, multiplier: str | None, kind: Any = "limit", name: str = "team"
) -> None:
    """Rates of a limit or a credential from now on; None ends them."""
    rates = () if multiplier is None else (OwnRate(match="*", multiplier=multiplier),)
    services = rig.bench.services
    given: dict[str, Any] = {"kind": kind, "name": name, "set_ms": NOW_MS, "set_by": "t"}
    await stored_prices.set_own(services.store, MINE, rates, **given)
    await services.prices.refresh()


@pytest.mark.parametrize("forgotten", [False, True])
async def test_limits_own_rates(rig: Rig, *, forgotten: bool) -> None:
    """What limits are charged is repriced by their own rates: set, changed and ended since, while
    the calls cost what they did and other limits were charged."""
    plain = limit("plain", usd=10, application_id=MINE)
    await stored_limits.create(rig.bench.services.store, plain)
    await rig.ledger.define(plain)
    for _ in range(2):
        await rig.call([*LIMITS, plain])
    await rig.audit()
    for multiplier, factor in (("3", 3), ("0.5", Fraction(1, 2)), (None, 1)):
        before, other = await rig.ledger.totals(MINE, ["team", "plain"])
        await negotiate(rig, multiplier)
        if forgotten:
            await rig.forget()
        asked = await rig.ask()
        by_limit = {it["limit"]: it for it in asked["by"]["limit"]}
        after = int(2 * BEFORE_PICO * factor)
        assert Decimal(by_limit["team"]["before_usd"]).scaleb(12) == before.settled
        assert Decimal(by_limit["team"]["after_usd"]).scaleb(12) == after
        assert asked["total"]["changed"] == by_limit["plain"]["changed"] == 0

        run: dict[str, Any] = {"apply": True, "run": f"times-{multiplier}"}
        made = await rig.ask(**run)
        assert (made["corrected"], made["corrected_usd"]) == (2, 0)
        entries = await rig.audit()
        assert (await rig.ask(**run))["corrected"] == 0
        team, again = await rig.ledger.totals(MINE, ["team", "plain"])
        assert (team.settled, again.settled) == (after, other.settled)
        assert team.settled == team.settled_input + team.settled_output
        await rig.ledger.forget(MINE, "team")
        [rebuilt] = await rig.ledger.totals(MINE, ["team"])
        assert rebuilt == team
        corrections = [it.row for it in entries if it.row.entry == f"reprice:times-{multiplier}"]
        assert [it.cost_pico for it in corrections] == [0, 0]


async def test_another_limit_of_the_same_id(rig: Rig) -> None:
    """What a limit that is gone was charged is not repriced by the rates of one made later."""
    services = rig.bench.services
    await rig.call(LIMITS)
    await rig.audit()
    await stored_limits.delete(services.store, MINE, "team")
    later = limit("team", usd=10, application_id=MINE, created_ms=NOW_MS + 9, epoch=NOW_MS + 9)
    await stored_limits.create(services.store, later)
    await rig.ledger.define(later)
    await negotiate(rig, "3")
    assert (await rig.ask(apply=True, run="x"))["corrected"] == 0
    [team] = await rig.ledger.totals(MINE, ["team"])
    assert team.settled == 0


async def test_a_credentials_rates(rig: Rig) -> None:
    """Calls that it served are repriced by them, others are not."""
    await rig.call(LIMITS, credential="env-openai")
    await rig.call(LIMITS)
    await rig.audit()
    await negotiate(rig, "0.5", "credential", "env-openai")
    assert (await rig.ask(apply=True, run="x"))["corrected"] == 1
    await rig.audit()
    [team] = await rig.ledger.totals(MINE, ["team"])
    assert team.settled == BEFORE_PICO + BEFORE_PICO // 2


async def test_old_epochs_money_stays_there(rig: Rig) -> None:
    """A limit that was reset since counts nothing of it."""
    await rig.call(LIMITS)
    await rig.audit()
    await rig.ledger.reset(LIMITS[0], NOW_MS + 5)

    assert (await rig.ask(files=dearer(), apply=True, run="x"))["corrected"] == 1

    await rig.audit()
    [team] = await rig.ledger.totals(MINE, ["team"])
    assert (team.settled, team.settled_input, team.settled_output) == (0, 0, 0)


async def test_as_another_model(rig: Rig) -> None:
    """All are priced as it, at its price then."""
    await rig.call([])
    await rig.audit()
    answer = await rig.ask(**{"as": "openai/gpt-4o-mini"})
    after = 1_000 * 150_000 + 10 * 75_000 + 100 * 600_000
    assert Decimal(answer["total"]["after_usd"]).scaleb(12) == after


@pytest.mark.parametrize(
    ("members", "field", "words"),
    [
        ({"from": "yesterday"}, "from", "give ISO 8601"),
        ({"to": "2026-13-01"}, "to", "give ISO 8601"),
        ({"from": RANGE["to"], "to": RANGE["from"]}, "from", "not before to"),
        ({"as": "gpt-9", "model": "gpt-4o"}, "as", "give provider/model"),
        ({"as": "openai/gpt-9", "model": "gpt-4o"}, "as", "xproxy prices list"),
        ({"as": "openai/gpt-4o", "apply": True}, "model", "say which calls"),
        ({"run": "a b", "apply": True}, "run", "visible ASCII"),
        ({"files": {"openai.json": '{\n"provider": 1}'}}, "files", "openai.json:2"),
        ({"files": {"o.json": dearer()["openai.json"].replace('"5"', '"-5"')}}, "files", "'-5'"),
    ],
)
async def test_refused(rig: Rig, members: dict[str, Any], field: str, words: str) -> None:
    """What cannot be meant is refused with the field and the remedy, and changes nothing."""
    await rig.call(LIMITS)
    entries = await rig.audit()
    question = {**RANGE, "files": dearer(), "apply": True, **members}
    answer = await rig.bench.ask("POST", PATH, question, key="admin-key")
    assert answer.status_code == 400
    assert words in answer.json()["message"]
    assert field in answer.text
    assert await rig.audit() == entries


async def test_only_admins(rig: Rig) -> None:
    """Another key is refused."""
    assert (await rig.bench.ask("POST", PATH, RANGE)).status_code == 403


async def test_in_parts(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cursor leads through all calls, each counted once with all of its entries."""
    monkeypatch.setattr("metering.api.repricing.PAGE_CALLS", 2)
    monkeypatch.setattr("metering.api.repricing.PART_S", -1)
    for _ in range(5):
        await rig.call([])
    await rig.audit()
    counted, cursor = [], None
    while True:
        part = await rig.ask(files=dearer(), apply=True, run="r", cursor=cursor)
        counted.append(part["total"]["calls"])
        cursor = part.get("cursor")
        await rig.audit()
        if cursor is None:
            break
    assert counted == [2, 2, 1]
    assert (await rig.ask())["total"]["calls"] == 2


async def test_corrections_wait_for_the_writer(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """While many rows have not landed none is added, but for a page a part, so that it ends."""
    monkeypatch.setattr("metering.api.repricing.UNLANDED_MAX", 2)
    for _ in range(4):
        await rig.call([])
    await rig.writer.flush()
    for _ in range(3):
        await rig.call([])
    looks: list[int] = []
    unlanded = rig.ledger.unlanded

    async def looked() -> int:
        looks.append(await unlanded())
        return looks[-1]

    monkeypatch.setattr(rig.ledger, "unlanded", looked)
    asked = asyncio.create_task(rig.ask(files=dearer(), apply=True, run="r"))
    while len(looks) < 2:
        await asyncio.sleep(0.01)
    assert (asked.done(), set(looks)) == (False, {3})
    await rig.writer.flush()
    assert (await asked)["corrected"] == 4

    monkeypatch.setattr("metering.api.repricing.PART_S", 0.2)
    monkeypatch.setattr("metering.api.repricing.UNLANDED_MAX", -1)
    assert (await rig.ask(files=dearer(), apply=True, run="s"))["corrected"] == 3
    await rig.audit()
