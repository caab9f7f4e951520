"""Names of reported calls: each stands for one request, whoever puts it down how often."""

from __future__ import annotations

import asyncio

from metering.store import Store, ingested
from tests.store.samples import request_id

A, B, C = (("system.openai", it) for it in "abc")


async def test_the_first_has_the_name(store: Store, application_id: str) -> None:
    """Later ones are told which request it is; other sources and applications are others."""
    one, two = request_id(), request_id()
    assert await ingested.claim(store, application_id, {one: [A]}) == {one: one}
    assert await ingested.claim(store, application_id, {two: [A]}) == {two: one}
    assert await ingested.claim(store, application_id, {one: [A]}) == {one: one}
    assert await ingested.claim(store, application_id, {two: [("other", "a")]}) == {two: two}
    other = "00000000-0000-7000-8000-00000000000f"
    assert await ingested.claim(store, other, {two: [A]}) == {two: two}


async def test_all_names_of_a_call_stand_for_one_request(store: Store, application_id: str) -> None:
    """One that is known by any of its names is that call, and so are its new names from then on."""
    one, two, three = request_id(), request_id(), request_id()
    await ingested.claim(store, application_id, {one: [A]})
    assert await ingested.claim(store, application_id, {two: [B, A]}) == {two: one}
    assert await ingested.claim(store, application_id, {three: [B]}) == {three: one}


async def test_a_name_that_comes_twice_together_is_the_firsts(
    store: Store, application_id: str
) -> None:
    """Within one request too."""
    one, two, three = request_id(), request_id(), request_id()
    asked = {one: [A], two: [A], three: [C]}
    assert await ingested.claim(store, application_id, asked) == {one: one, two: one, three: three}


async def test_of_many_at_once_one_has_it(store: Store, application_id: str) -> None:
    """All agree which one it is, and nobody waits for ever."""
    names = [("s", str(number)) for number in range(20)]
    calls = [{request_id(): [name] for name in names} for _ in range(8)]
    calls = [dict(reversed(it.items())) if at % 2 else it for at, it in enumerate(calls)]
    found = await asyncio.gather(*(ingested.claim(store, application_id, it) for it in calls))
    owners = [
        {names[0]: owner for (_, names), owner in zip(asked.items(), told.values(), strict=True)}
        for asked, told in zip(calls, found, strict=True)
    ]
    assert all(it == owners[0] for it in owners)
