"""Price lists and own prices as Postgres keeps them."""

from __future__ import annotations

import pytest

from metering.core.prices import OwnRate
from metering.errors import Conflict
from metering.store import Store, applications, prices
from metering.store.prices import PriceState, PriceVersion
from tests.store.samples import NOW_MS

RATES = (
    OwnRate(match="openai/*", since="2027-01-01", multiplier="0.85"),
    OwnRate(match="openai/gpt-4o", prices={"input": "2"}),
)


def version(number: int) -> PriceVersion:
    """A version of a list."""
    return PriceVersion(
        version=number,
        digest=f"d{number}",
        packaged="p",
        note="why",
        loaded_ms=NOW_MS + number,
        loaded_by="key",
    )


async def test_a_list_comes_back_as_it_was_loaded(store: Store) -> None:
    """Byte for byte, whatever is in it; a number is taken once, and what was loaded stays."""
    files = {"p.json": '{"a": "\\u0000 \\ud83d\\ude00 é"}\r\n'.encode(), "q.json": b""}
    assert await prices.state(store) == PriceState(0, 0, 0, 0, 0)
    assert await prices.add(store, version(1), files) == version(1)
    with pytest.raises(Conflict, match="version 1"):
        await prices.add(store, version(1), {})
    assert await prices.read(store, 1) == (version(1), files)
    assert await prices.read(store, 2) is None
    assert (await prices.state(store)).version == 1


async def test_lists_go_by_number(store: Store) -> None:
    """Newest first, page after page."""
    for number in range(1, 6):
        await prices.add(store, version(number), {})
    seen: list[int] = []
    cursor: str | None = None
    for _ in range(3):
        page = await prices.page(store, page_size=2, cursor=cursor)
        seen += (it.version for it in page.items)
        cursor = page.cursor
    assert (seen, cursor) == ([5, 4, 3, 2, 1], None)


async def test_the_latest_own_prices_hold(store: Store, application_id: str) -> None:
    """Each revision takes the place of the one before; one without rates ends them. Whose they are
    is the application and, beside it, a credential or a limit."""
    first = await prices.set_own(store, application_id, RATES[:1], set_ms=NOW_MS, set_by="k")
    second = await prices.set_own(store, application_id, RATES, set_ms=NOW_MS + 1, set_by="k")
    slug = await prices.set_own(
        store, application_id, RATES, kind="credential", name="azure-eu", set_ms=NOW_MS, set_by="k"
    )
    assert second.revision > first.revision
    assert second.rates == RATES
    assert await prices.own(store, application_id) == [second, slug]
    assert await prices.own(store, "nobody") == []
    assert second in await prices.own(store)
    before = await prices.state(store)

    await prices.set_own(store, application_id, (), set_ms=NOW_MS + 2, set_by="k")
    assert await prices.own(store, application_id) == [slug]
    assert await prices.state(store) != before


async def test_own_prices_are_a_tenants(store: Store, application_id: str) -> None:
    """They leave with it, and whoever asks whether something changed is told."""
    await prices.set_own(store, application_id, RATES, set_ms=NOW_MS, set_by="k")
    before = await prices.state(store)
    await applications.delete(store, application_id)
    assert await prices.own(store) == []
    assert await prices.state(store) != before
