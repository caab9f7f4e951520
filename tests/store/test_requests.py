"""One call, by our id or the provider's."""

from __future__ import annotations

import pytest

from metering.store import Store, requests, usage
from sql import queries
from tests.store.samples import charge, landed, request_id, row


async def test_a_call_is_found_by_either_id(store: Store, application_id: str) -> None:
    """Our id and (category, provider's id) lead to the same entry."""
    call = landed(application_id, "a", provider_id="chatcmpl-1")
    await usage.insert(store, [call, landed(application_id)])
    found = await requests.by_request(store, application_id, call[0].request_id)
    assert found == usage.Entry(*call)
    assert await requests.by_provider(store, application_id, "system.openai", "chatcmpl-1") == found
    assert await requests.exists(store, application_id, call[0].request_id, 1)
    assert not await requests.exists(store, application_id, call[0].request_id, 2)


@pytest.mark.parametrize("name", ["", "nonsense", request_id()], ids=["empty", "malformed", "new"])
async def test_an_unknown_call_is_nothing(store: Store, application_id: str, name: str) -> None:
    """What was never there is None, never a fault."""
    assert await requests.by_request(store, application_id, name) is None
    assert await requests.by_request(store, "nonsense", name) is None
    assert await requests.by_provider(store, application_id, "system.openai", name) is None
    assert not await requests.exists(store, application_id, name, 1)
    assert not await requests.set_properties(store, application_id, name, {"a": "b"})


async def test_calls_of_others_are_out_of_reach(store: Store, application_id: str) -> None:
    """Neither id finds another application's call, nor changes it."""
    call = landed(request_id(), provider_id="chatcmpl-1")
    name = call[0].request_id
    await usage.insert(store, [call])
    assert await requests.by_request(store, application_id, name) is None
    assert await requests.by_provider(store, application_id, "system.openai", "chatcmpl-1") is None
    assert not await requests.set_properties(store, application_id, name, {"a": "b"})


async def test_the_latest_attempt_and_the_latest_call_count(
    store: Store, application_id: str
) -> None:
    """A call is its last attempt; an id the provider used twice is the later call's."""
    name = request_id()
    await usage.insert(
        store,
        [
            landed(application_id, request_id=name, attempt=1, status="failed", provider_id="same"),
            landed(application_id, request_id=name, attempt=2, provider_id="same"),
            landed(application_id, provider_id="twice"),
            landed(application_id, provider_id="twice", model="later"),
        ],
    )
    found = await requests.by_provider(store, application_id, "system.openai", "same")
    assert found is not None
    assert (found.row.attempt, found.row.status) == (2, "ok")
    later = await requests.by_provider(store, application_id, "system.openai", "twice")
    assert later is not None
    assert later.row.model == "later"
    assert await requests.by_provider(store, application_id, "system.other", "twice") is None


async def test_many_ids_are_looked_up_at_once(store: Store, application_id: str) -> None:
    """Each by the index of providers' ids, also while Postgres knows nothing of the table: not by
    reading all the calls of a busy application for each of them."""
    calls = [landed(application_id, provider_id=f"c{number}") for number in range(200)]
    await usage.insert(store, calls)
    names = [("system.openai", f"c{number}") for number in range(190, 210)]
    found = await requests.request_ids_of(store, application_id, names)
    expected = {name: call.request_id for name, (call, _) in zip(names, calls[190:], strict=False)}
    assert found == expected
    assert await requests.request_ids_of(store, application_id, []) == {}
    query = f"EXPLAIN {queries['read_request_ids']}"
    async with store.connection() as connection:
        plan = await connection.fetch(query, application_id, ["a"], ["b"])
    scans = [line[0] for line in plan if "Scan using" in line[0]]
    assert scans
    assert all("provider_id" in line for line in scans), scans


async def test_corrections_are_summed(store: Store, application_id: str) -> None:
    """Costs, units, lines and charges add up; the truth about a lost call brings its status."""
    name = request_id()
    lost = row(
        application_id,
        request_id=name,
        status="unresolved",
        estimated=True,
        units={"input_text": 100},
        lines={"input_text": 40},
        cost_pico=40,
        input_pico=40,
        output_pico=0,
    )
    late = row(
        application_id,
        request_id=name,
        entry="late",
        http_status=200,
        provider_id="msg_1",
        units={"input_text": -10, "output_text": 5},
        lines={"input_text": -4, "output_text": 14},
        cost_pico=10,
        input_pico=-4,
        output_pico=14,
    )
    reprice = row(
        application_id,
        request_id=name,
        entry="reprice:1",
        units={},
        lines={"input_text": 1},
        cost_pico=1,
        input_pico=1,
        output_pico=0,
        price_id="new",
    )
    await usage.insert(
        store,
        [
            (reprice, (charge("a", 1, state="overrun"),)),
            (late, (charge("a", -40), charge("b", 10))),
            (lost, (charge("a", 90), charge("b", 40))),
        ],
    )
    found = await requests.by_provider(store, application_id, "system.openai", "msg_1")
    assert found is not None
    call = found.row
    assert (call.entry, call.status, call.http_status) == ("call", "ok", 200)
    assert (call.estimated, call.price_id, call.provider_id) == (False, "new", "msg_1")
    assert (call.units, call.lines) == (
        {"input_text": 90, "output_text": 5},
        {"input_text": 37, "output_text": 14},
    )
    assert (call.cost_pico, call.input_pico, call.output_pico) == (51, 37, 14)
    assert found.charges == (charge("a", 51, state="overrun"), charge("b", 50))


async def test_properties_are_merged(store: Store, application_id: str) -> None:
    """New names are added, known ones replaced, null removes; amounts stay as they are."""
    call = row(application_id, properties={"x": "1", "y": "2"})
    await usage.insert(store, [(call, ())])
    changes = {"y": None, "z": "3", "x": "4"}
    assert await requests.set_properties(store, application_id, call.request_id, changes)
    found = await requests.by_request(store, application_id, call.request_id)
    assert found is not None
    assert found.row.properties == {"x": "4", "z": "3"}
    assert found.row.cost_pico == call.cost_pico
