"""Which price a call has: by the list it was admitted with, whose it is, and what answers it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping

import httpx
import pytest

from metering.core.prices import Negotiated, OwnRate, OwnRates, PriceList
from metering.meter import price_of
from pricing.book import PriceBook
from pricing.load import parse_all, read
from tests.builders import APPLICATION
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
