"""Which price a call has: by the list it was admitted with, whose it is, and what answers it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from metering.core.limits import Bounds
from metering.core.money import PICO_PER_USD
from metering.core.prices import LimitRates, Negotiated, OwnRate, OwnRates, PriceList
from metering.meter import price_of
from metering.store import limits as stored_limits
from pricing.book import PriceBook
from pricing.load import parse_all, read
from tests.builders import APPLICATION, NOW_MS, limit, request_id
from tests.proxy.rig import (
    ASK,
    BOOK,
    CHAT,
    COST_PICO,
    STREAM,
    STREAMED,
    USAGE,
    Client,
    Pieces,
    Rig,
    answer,
    completion,
    streamed,
    until,
)

FILES = read()
OTHER = "00000000-0000-7000-8000-0000000000bb"


def prices(version: str, own: Mapping[str, Negotiated] | None = None) -> PriceList:
    """The package's list, but for gpt-4o: $3 in and $12 out."""
    content = json.loads(FILES["openai.json"])
    [model] = [it for it in content["models"] if it["id"] == "gpt-4o"]
    row = {"from": "2026-11-01", "prices": {"input": "3", "output": "12"}}
    model["prices"].append(row | {"source": "s", "checked": "2026-11-01"})
    files = FILES | {"openai.json": json.dumps(content).encode()}
    return PriceList(PriceBook(parse_all(files), version), own or {})


def id_of(book: PriceBook, at_ms: int, model: str = "gpt-4o") -> str:
    """The id of a price."""
    rates = book.find("openai", model, at_ms)
    assert rates is not None
    return rates.id


NEW_PICO = 9 * 3_000_000 + 12 * 12_000_000


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-4o-2024-08-06"], ids=["same", "snapshot"])
@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
async def test_a_call_keeps_the_list_it_was_admitted_with(
    rig: Rig, model: str, *, stream: bool
) -> None:
    """A list that comes while the provider answers is the next call's, also where only the answer
    tells which snapshot it is."""
    go = asyncio.Event()
    whole = completion(model=model)
    pieces = Pieces(*STREAM[:2], go, *STREAM[2:]) if stream else Pieces(whole[:9], go, whole[9:])
    kind = "text/event-stream" if stream else "application/json"
    rig.answer = answer(pieces, content_type=kind)
    client = Client(CHAT, STREAMED if stream else ASK)
    call = asyncio.create_task(rig.call(client))
    await until(lambda: pieces.given > 0)
    rig.meter.use(prices("2-new"))
    go.set()
    await call
    after = await rig.post(streamed(*STREAM) if stream else answer(completion(model=model)))

    old, new = await rig.row(client), await rig.row(after)
    assert (old.cost_pico, old.price_version) == (COST_PICO, BOOK.version)
    assert (new.cost_pico, new.price_version) == (NEW_PICO, "2-new")
    for row, book in ((old, BOOK), (new, prices("").book)):
        assert row.price_id == id_of(book, row.at_ms)


async def test_what_a_hold_holds_is_at_the_own_price(rig: Rig) -> None:
    """An application's own rates decide cost, hold and result; another's calls cost the list's."""
    half = OwnRates([OwnRate(match="openai/*", multiplier="0.5")], "own-7")
    rig.meter.use(PriceList(BOOK, {APPLICATION: Negotiated(half)}))
    mine = await rig.row(await rig.post(answer(completion())))
    likely = price_of(rig.meter.prices, APPLICATION, "openai", "gpt-4o", mine.at_ms).rates
    rig.meter.use(PriceList(BOOK, {OTHER: Negotiated(half)}))
    theirs = await rig.row(await rig.post(answer(completion())))
    listed = price_of(rig.meter.prices, APPLICATION, "openai", "gpt-4o", mine.at_ms).rates

    assert (mine.cost_pico, theirs.cost_pico) == (COST_PICO // 2, COST_PICO)
    assert mine.price_id == f"{id_of(BOOK, mine.at_ms)}*own-7"
    assert mine.lines == {"input_text": 9 * 1_250_000, "output_text": 12 * 5_000_000}
    assert likely is not None
    assert listed is not None
    assert likely.ceiling(1_000, 100) * 2 == listed.ceiling(1_000, 100)


TWICE, HALF = (OwnRate(match="*", multiplier=it) for it in ("2", "0.5"))


class Limits:
    """Limits that are there, with rates of their own or without."""

    def __init__(self, rig: Rig, **kinds: OwnRate | None) -> None:
        """By name; ids are new for every test."""
        self._rig = rig
        self._rates = {f"{name}-{request_id()}": rate for name, rate in kinds.items()}
        self.named = ",".join(self._rates)
        """The header that names them."""

    async def create(self, **values: Any) -> Limits:
        """Create them, and put their rates in force."""
        for it in self._rates:
            await stored_limits.create(self._rig.store, limit(it, **values))
        self._rig.meter.use(
            PriceList(
                BOOK,
                {
                    APPLICATION: Negotiated(
                        limits={
                            it: LimitRates(NOW_MS, OwnRates([rate], "own-9"))
                            for it, rate in self._rates.items()
                            if rate
                        }
                    )
                },
            )
        )
        return self

    async def settled(self) -> list[int]:
        """What they have counted."""
        names = list(self._rates)
        return [it.settled for it in await self._rig.ledger.totals(APPLICATION, names)]


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
async def test_limits_are_charged_their_own_rates(rig: Rig, *, stream: bool) -> None:
    """Twice the call's price, another price of the output, or what the call costs: the row, the
    answer and the limits that have none know nothing of it."""
    body = STREAMED if stream else ASK

    async def post(named: str) -> Client:
        given = streamed(*STREAM) if stream else answer(completion())
        return await rig.post(given, body, xproxy_limit_ids=named)

    plain = await rig.row(await post(""))
    agreed = OwnRate(match="openai/*", prices={"output": "8"})
    limits = await Limits(rig, twice=TWICE, agreed=agreed, plain=None).create()
    client = await post(limits.named)
    row, charges = await rig.record(client)

    expected = [2 * COST_PICO, 9 * 2_500_000 + 12 * 8_000_000, COST_PICO]
    assert [it.amount for it in charges] == await limits.settled() == expected
    assert (row.cost_pico, row.lines, row.price_id) == (
        plain.cost_pico,
        plain.lines,
        plain.price_id,
    )
    assert b"limit_costs" not in client.body


async def test_a_call_keeps_the_limits_rates_it_was_admitted_with(rig: Rig) -> None:
    """Rates that end while the provider answers end with the next call; they are those of the
    model in the answer, too."""
    limits = await Limits(rig, team=TWICE).create()
    go = asyncio.Event()
    whole = completion(model="gpt-4o-mini")
    pieces = Pieces(whole[:9], go, whole[9:])
    rig.answer = answer(pieces)
    client = Client(CHAT, ASK, headers=[("xproxy-limit-ids", limits.named)])
    call = asyncio.create_task(rig.call(client))
    await until(lambda: pieces.given > 0)
    rig.meter.use(PriceList(BOOK))
    go.set()
    await call
    row, [charge] = await rig.record(client)
    assert row.price_id == id_of(BOOK, row.at_ms, "gpt-4o-mini")
    assert charge.amount == 2 * row.cost_pico > 0
    await rig.post(answer(completion()), xproxy_limit_ids=limits.named)
    assert await limits.settled() == [charge.amount + COST_PICO]


@pytest.mark.parametrize("rate", [TWICE, HALF], ids=["twice", "half"])
async def test_a_hard_cap_admits_by_its_own_ceiling(
    rig: Rig, rate: OwnRate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the pico: with room for it a call passes, with one less it is refused."""
    seen: list[Bounds] = []
    bounds = rig.meter.bounds

    def watched(*given: Any, ceiling: bool) -> Bounds:
        seen.append(bounds(*given, ceiling=ceiling))
        return seen[-1]

    monkeypatch.setattr(rig.meter, "bounds", watched)

    async def status(limits: Limits) -> int | None:
        given = answer(completion())
        body = ASK | {"max_tokens": 40}
        return (await rig.post(given, body, xproxy_limit_ids=limits.named)).status

    assert await status(await Limits(rig, none=rate).create(max=0, mode="hard")) == 400
    [(_, needed)] = seen[0].limits.values()
    ratio = 2 * PICO_PER_USD // (1 if rate is TWICE else 4)
    assert needed * PICO_PER_USD == seen[0].ceiling_pico * ratio
    assert await status(await Limits(rig, less=rate).create(max=needed - 1, mode="hard")) == 400
    fits = await Limits(rig, fits=rate).create(max=needed, mode="hard")
    assert await status(fits) == 200
    assert await fits.settled() == [COST_PICO * ratio // PICO_PER_USD]


async def test_an_answer_that_cannot_be_read_charges_each_limit_its_own(rig: Rig) -> None:
    """Its own floor, where its prices are other ones."""
    limits = await Limits(rig, half=HALF, twice=TWICE, plain=None).create()
    await rig.post(answer(b"no json"), xproxy_limit_ids=limits.named)
    [row] = await rig.rows()
    half, twice, plain = await limits.settled()
    assert row.status == "unresolved"
    assert (2 * half, twice, plain) == (row.cost_pico, 2 * row.cost_pico, row.cost_pico)
    assert plain > 0


@pytest.mark.parametrize("own_key", [False, True])
async def test_a_credentials_rates(rig: Rig, *, own_key: bool) -> None:
    """They are of the calls that it serves; a call that brings its own key is not one."""
    its = {"env-openai": OwnRates([OwnRate(match="openai/*", multiplier="0.5")], "own-7")}
    rig.meter.use(PriceList(BOOK, {APPLICATION: Negotiated(credentials=its)}))
    sent = {"authorization": "Bearer sk-callers-own"} if own_key else {}
    row = await rig.row(await rig.post(answer(completion()), **sent))
    assert (row.credential, row.cost_pico) == (
        (None, COST_PICO) if own_key else ("env-openai", COST_PICO // 2)
    )


async def test_an_own_price_of_one_unit(rig: Rig) -> None:
    """What is not negotiated costs what the list says."""
    rate = OwnRate(match="openai/gpt-4o", prices={"output": "8"})
    rig.meter.use(PriceList(BOOK, {APPLICATION: Negotiated(OwnRates([rate], "own-8"))}))
    row = await rig.row(await rig.post(answer(completion())))
    assert row.cost_pico == 9 * 2_500_000 + 12 * 8_000_000


@pytest.mark.parametrize(
    ("asked", "answered", "priced", "flagged"),
    [
        ("gpt-4o", "gpt-4o", "gpt-4o", False),
        ("gpt-4o", "gpt-4o-2024-08-06", "gpt-4o", False),
        ("gpt-4o", "gpt-4o-2024-05-13", "gpt-4o-2024-05-13", False),
        ("gpt-4o", "gpt-4o-mini", "gpt-4o-mini", True),
        ("gpt-4o", "gpt-4o-mini-2024-07-18", "gpt-4o-mini", True),
        ("gpt-4o-mini", "gpt-4o", "gpt-4o", True),
        ("gpt-4o", "somebodys-own-model", "gpt-4o", False),
        ("a-router-of-ours", "gpt-4o-mini", "gpt-4o-mini", False),
    ],
)
async def test_the_answers_model_decides(
    rig: Rig, asked: str, answered: str, priced: str, *, flagged: bool
) -> None:
    """It is what is charged; what was asked for stays beside it, and another known model than that
    is flagged. An alias, a snapshot, or a name that nobody knows is not."""
    client = await rig.post(answer(completion(model=answered)), ASK | {"model": asked})
    row = await rig.row(client)
    price_id = id_of(BOOK, row.at_ms, priced)
    assert (row.model_requested, row.model, row.price_id) == (asked, answered, price_id)
    words = f"the answer is {answered}'s, and priced as that; the call asked for {asked}"
    assert row.warnings == [words] * flagged
    assert client.json["xproxy_result"].get("warnings", []) == row.warnings


@pytest.mark.parametrize(
    ("tier", "flagged"),
    [
        (None, False),
        ("default", False),
        ("standard", False),
        ("priority", False),
        ("batch", False),
        ("scale", True),
    ],
)
async def test_a_tier_without_prices_is_flagged(
    rig: Rig, tier: str | None, *, flagged: bool
) -> None:
    """It costs what the base does, and says so; a tier that is priced, or is the base, does not."""
    body = completion() if tier is None else completion(service_tier=tier)
    client = await rig.post(answer(body))
    row = await rig.row(client)
    words = "this service tier has no price of its own: charged as default"
    assert row.warnings == [words] * flagged
    assert client.json["xproxy_result"].get("warnings", []) == row.warnings
    assert (row.cost_pico == COST_PICO) is (tier not in ("priority", "batch"))


async def test_a_correction_has_the_price_of_its_call(rig: Rig) -> None:
    """A response that is made in the background is charged again what its list says, not a later
    one's that came before its end was seen."""
    path = CHAT.replace("chat/completions", "responses")
    body = {"model": "gpt-4o", "input": "Hi", "background": True}
    waiting = {"id": "resp_1", "object": "response", "status": "queued", "model": "gpt-4o"}
    used = {"input_tokens": 9, "output_tokens": 12, "total_tokens": 21}
    first = await rig.post(answer(json.dumps(waiting | {"output": []}).encode()), body, path)
    assert (await rig.row(first)).estimated
    rig.meter.use(prices("2-new"))
    done = waiting | {"status": "completed", "output": [], "usage": used}
    rig.answer = httpx.Response(200, json=done)
    await rig.call(Client(f"{path}/resp_1", b"", method="GET"))
    row = await rig.row(first)
    assert USAGE["prompt_tokens"] == 9
    assert (row.estimated, row.cost_pico, row.price_version) == (False, COST_PICO, BOOK.version)
