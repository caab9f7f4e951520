"""Limits: definitions, epochs, and what was charged in each."""

from __future__ import annotations

import asyncio

import pytest

from metering.core.limits import STATES, Limit, Totals
from metering.errors import Conflict
from metering.store import Store, ValueRefused, limits, usage
from tests.store.samples import NOW_MS, charge, landed, limit, request_id, row


async def test_a_limit_comes_back_as_it_was_made(store: Store, application_id: str) -> None:
    """Every field survives, the largest amount to the pico."""
    made = limit(
        application_id,
        "monthly",
        mode="hard",
        max=10**24 + 1,
        threshold_ppm=800_000,
        properties={"team": "a", "gone": None},
    )
    stored, created = await limits.create(store, made)
    assert created
    assert stored == await limits.get(store, application_id, "monthly")
    assert stored.properties == {"team": "a"}
    assert (stored.max, stored.mode, stored.threshold_ppm) == (10**24 + 1, "hard", 800_000)
    assert stored.created_ms == stored.updated_ms == NOW_MS


@pytest.mark.parametrize(
    ("limit_id", "limit_name", "found"),
    [("a", "other", "a"), ("c", "name-b", "b"), ("a", "name-b", "a")],
    ids=["id taken", "name taken", "both: the id counts"],
)
async def test_creating_again_gives_what_is_there(
    store: Store, application_id: str, limit_id: str, limit_name: str, found: str
) -> None:
    """A taken id or name changes nothing; the one that has it comes back."""
    for known in ("a", "b"):
        await limits.create(store, limit(application_id, known, limit_name=f"name-{known}"))
    again = limit(application_id, limit_id, limit_name=limit_name, max=1)
    stored, created = await limits.create(store, again)
    assert not created
    assert (stored.limit_id, stored.max) == (found, 10 * 10**12)


async def test_applications_do_not_share_limits(store: Store, application_id: str) -> None:
    """The same id and name are free in another application; an unknown application has none."""
    await limits.create(store, limit(application_id, "monthly"))
    with pytest.raises(ValueRefused):
        await limits.create(store, limit(request_id(), "monthly"))
    assert await limits.get(store, request_id(), "monthly") is None
    assert await limits.get(store, "nonsense", "monthly") is None


async def test_an_update_changes_what_it_names(store: Store, application_id: str) -> None:
    """Max and name change; None leaves; a name of another limit is a conflict."""
    await limits.create(store, limit(application_id, "a"))
    await limits.create(store, limit(application_id, "b"))

    async def update(**fields: object) -> Limit | None:
        return await limits.update(store, application_id, "a", **fields)  # type: ignore[arg-type]

    raised = await update(max=11, updated_ms=NOW_MS + 5)
    assert raised is not None
    assert (raised.max, raised.limit_name, raised.updated_ms) == (11, "a", NOW_MS + 5)
    named = await update(limit_name="c", updated_ms=NOW_MS + 6)
    assert named is not None
    assert (named.max, named.limit_name, named.created_ms) == (11, "c", NOW_MS)
    with pytest.raises(Conflict):
        await update(limit_name="b", updated_ms=NOW_MS + 7)
    assert await limits.update(store, application_id, "none", updated_ms=0) is None


async def test_properties_are_merged(store: Store, application_id: str) -> None:
    """New names are added, known ones replaced, and null removes."""
    await limits.create(store, limit(application_id, "a", properties={"x": "1", "y": "2"}))
    changes: dict[str, str | None] = {"y": None, "z": "3", "x": "4"}
    merged = await limits.set_properties(store, application_id, "a", changes, NOW_MS + 1)
    assert merged is not None
    assert merged.properties == {"x": "4", "z": "3"}
    assert await limits.set_properties(store, application_id, "none", changes, NOW_MS) is None


async def test_a_reset_happens_once(store: Store, application_id: str) -> None:
    """Of resets to one epoch a single one counts, and the history has what it ended, once."""
    await limits.create(store, limit(application_id, "a"))
    ended = Totals(epoch=1, settled=7_300_000_000_000, counts={"ok": 3})

    async def reset(epoch: int) -> Limit | None:
        return await limits.set_epoch(
            store, application_id, "a", epoch, totals=ended, reset_ms=NOW_MS + epoch
        )

    results = await asyncio.gather(*(reset(5) for _ in range(4)))
    assert [done.epoch for done in results if done] == [5]
    assert await reset(4) is None
    assert await reset(6) is not None
    history = await limits.history(store, application_id, "a")
    assert [(one.epoch, one.reset_ms) for one in history] == [(5, NOW_MS + 6), (1, NOW_MS + 5)]
    assert history[1].totals == ended
    assert (history[1].limit_name, history[1].max, history[1].mode) == ("a", 10 * 10**12, "allow")


async def test_totals_are_of_one_epoch_each(store: Store, application_id: str) -> None:
    """Charges of an old epoch stay with it; what nothing charged has none."""
    for name in ("a", "b"):
        await limits.create(store, limit(application_id, name, epoch=2))
    await usage.insert(
        store,
        [
            (row(application_id), (charge("a", 100, epoch=1),)),
            (
                row(application_id, cost_pico=30, input_pico=10, output_pico=20),
                (charge("a", 30, epoch=2, state="overrun"),),
            ),
        ],
    )
    zeros = dict.fromkeys(STATES, 0)
    now = Totals(
        epoch=2, settled=30, settled_input=10, settled_output=20, counts=zeros | {"overrun": 1}
    )
    assert await limits.totals(store, application_id, "a", 2) == [now]
    found = await limits.totals(store, application_id, "a", 0)
    assert [(it.epoch, it.settled, it.requests) for it in found] == [(2, 30, 1), (1, 100, 1)]
    assert await limits.totals(store, application_id, "a", 0, 2) == found[1:]
    assert await limits.totals(store, application_id, "a", 0, most=1) == [now]
    for name in ("b", "unknown"):
        assert await limits.totals(store, application_id, name, 0) == []


@pytest.mark.parametrize(
    ("charged", "amounts", "totals"),
    [
        # what was charged; the row's cost, input and output; settled, input and output after it
        (30, (30, 10, 20), (30, 10, 20)),  # settled
        (90, (30, 30, 0), (90, 90, 0)),  # unresolved, its ceiling on a hard cap
        (0, (0, 0, 0), (0, 0, 0)),  # failed
        (35, (35, 10, 20), (35, 10, 20)),  # with a fee in neither direction
    ],
)
async def test_a_charge_beyond_the_cost_counts_as_input(
    store: Store,
    application_id: str,
    charged: int,
    amounts: tuple[int, int, int],
    totals: tuple[int, int, int],
) -> None:
    """Input and output of a total are those of the cost; what was charged beyond it is input."""
    await limits.create(store, limit(application_id, "a"))
    names = ("cost_pico", "input_pico", "output_pico")
    call = row(application_id, **dict(zip(names, amounts, strict=True)))
    await usage.insert(store, [(call, (charge("a", charged),))])
    [found] = await limits.totals(store, application_id, "a", 1)
    assert (found.settled, found.settled_input, found.settled_output) == totals


async def test_a_correction_replaces_the_ceiling(store: Store, application_id: str) -> None:
    """After the truth has come, totals are as if the call had settled at once; it counts once."""
    await limits.create(store, limit(application_id, "a"))
    name = request_id()
    lost = row(
        application_id,
        request_id=name,
        status="unresolved",
        cost_pico=40,
        input_pico=40,
        output_pico=0,
    )
    truth = row(
        application_id,
        request_id=name,
        entry="late",
        cost_pico=-10,
        input_pico=-30,
        output_pico=20,
    )
    await usage.insert(store, [(lost, (charge("a", 90),)), (truth, (charge("a", -60),))])
    [found] = await limits.totals(store, application_id, "a", 1)
    assert (found.settled, found.settled_input, found.settled_output) == (30, 10, 20)
    assert found.requests == 1


async def test_limits_are_listed_by_age_and_name(store: Store, application_id: str) -> None:
    """Pages stay as they were when limits are added meanwhile; a name filters exactly."""
    for n in range(5):
        await limits.create(store, limit(application_id, f"l{n}", created_ms=NOW_MS + n // 2))
    first = await limits.page(store, application_id, page_size=3)
    await limits.create(store, limit(application_id, "newer", created_ms=NOW_MS + 9))
    second = await limits.page(store, application_id, page_size=3, cursor=first.cursor)
    seen = [one.limit_id for one in (*first.items, *second.items)]
    assert seen == ["l4", "l3", "l2", "l1", "l0"]
    oldest = await limits.page(store, application_id, page_size=1, ascending=True)
    assert [one.limit_id for one in oldest.items] == ["l0"]
    named = await limits.page(store, application_id, limit_name="l3")
    assert [one.limit_id for one in named.items] == ["l3"]


async def test_a_deleted_limit_is_gone(store: Store, application_id: str) -> None:
    """It goes with its history, its name is free, and its totals stay with their epoch."""
    await limits.create(store, limit(application_id, "a"))
    await usage.insert(store, [landed(application_id, "a")])
    assert await limits.delete(store, application_id, "a")
    assert not await limits.delete(store, application_id, "a")
    assert await limits.totals(store, application_id, "a", 0) == []
    _, created = await limits.create(store, limit(application_id, "a", epoch=2))
    assert created
    assert await limits.totals(store, application_id, "a", 2) == []
