"""Tenants, and pages by age."""

from __future__ import annotations

import pytest

from metering.errors import Conflict
from metering.store import Store, applications, keys, limits, pages, usage
from tests.store.samples import NOW_MS, landed, limit, request_id
from tests.store.test_keys import a_key


async def test_a_name_is_taken_once(store: Store) -> None:
    """A second application of the same name is a conflict; both lookups find the first."""
    made = await applications.create(store, request_id(), "acme", NOW_MS)
    with pytest.raises(Conflict, match="acme"):
        await applications.create(store, request_id(), "acme", NOW_MS)
    assert await applications.get(store, made.application_id) == made
    assert await applications.by_name(store, "acme") == made


async def test_what_is_no_id_is_nothing(store: Store, application_id: str) -> None:
    """An unknown or malformed id is the id of nothing, never a fault."""
    for unknown in (request_id(), "nonsense", ""):
        assert await applications.get(store, unknown) is None
        assert not await applications.delete(store, unknown)
    assert await applications.by_name(store, "nobody") is None


async def test_a_tenant_leaves_with_keys_and_limits_but_not_its_usage(
    store: Store, application_id: str
) -> None:
    """Facts outlive what they are about; definitions do not."""
    await keys.create(store, a_key(application_id), b"d" * 32)
    await limits.create(store, limit(application_id, "monthly"))
    await usage.insert(store, [landed(application_id, "monthly")])
    assert await applications.delete(store, application_id)
    assert await keys.by_digest(store, b"d" * 32, NOW_MS) is None
    assert await limits.get(store, application_id, "monthly") is None
    assert (await usage.sums(store, usage.Filters(application_id=application_id))).ok == 1


@pytest.mark.parametrize("ascending", [False, True], ids=["newest", "oldest"])
async def test_pages_meet_without_gap_or_overlap(store: Store, *, ascending: bool) -> None:
    """Pages of any size give every item once, in order, items of one millisecond too."""
    made = [
        await applications.create(store, request_id(), f"app-{n}", NOW_MS + n // 3)
        for n in range(10)
    ]
    order = sorted(made, key=lambda one: (one.created_ms, one.application_id))
    seen: list[applications.Application] = []
    cursor: str | None = None
    for _ in range(4):
        page = await applications.page(store, page_size=3, cursor=cursor, ascending=ascending)
        seen += page.items
        cursor = page.cursor
    assert cursor is None
    assert seen == (order if ascending else order[::-1])


async def test_a_full_last_page_has_no_cursor(store: Store) -> None:
    """A page that ends with the last item says so: nobody fetches an empty one."""
    for n in range(2):
        await applications.create(store, request_id(), f"app-{n}", NOW_MS)
    assert (await applications.page(store, page_size=2)).cursor is None
    assert (await applications.page(store, page_size=1)).cursor is not None


@pytest.mark.parametrize(
    "cursor", ["cursor", "", "WzFd", "bnVsbA", "W251bGwsbnVsbF0", "é", "=", "AA"]
)
async def test_a_foreign_cursor_means_the_first_page(
    store: Store, application_id: str, cursor: str
) -> None:
    """What is no cursor of ours is ignored: SDKs send such."""
    assert len((await applications.page(store, cursor=cursor)).items) == 1


@pytest.mark.parametrize(
    ("wanted", "size"),
    [(None, 100), (0, 100), (-1, 100), (1, 1), (1_000, 1_000), (10_000, 1_000)],
)
def test_page_sizes(wanted: int | None, size: int) -> None:
    """No size or one that is not positive is the default; none is above the largest."""
    assert pages.size(wanted) == size
