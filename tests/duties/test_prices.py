"""Price lists in force: loaded, heard of, gone back to; and bad ones, which change nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from metering.core.prices import OwnRate, PriceList
from metering.directory import Directory
from metering.duties import every, prices
from metering.duties.prices import Loaded, Prices, Upload, load
from metering.errors import Conflict, InvalidRequest, NotFound
from metering.keyring import Keyring
from metering.redis import Redis
from metering.store import Store, ValueRefused, applications, limits
from metering.store import prices as stored
from pricing.load import digest
from tests.builders import APPLICATION, NOW_MS, limit
from tests.proxy.rig import until


def listing(usd: str = "2", provider: str = "p", name: str = "m", **members: Any) -> bytes:
    """A price file of one model."""
    row = {"from": None, "prices": {"input": usd, "output": "10"}, "source": "s"}
    rows = [row | {"checked": "2026-11-20"} | members]
    model = {"id": name, "match": [name], "prices": rows}
    content = {"provider": provider, "pricing_urls": [], "models": [model]}
    return json.dumps(content, indent=1).encode()


PACKAGED = {"p.json": listing(), "q.json": listing("1", "q")}


@pytest.fixture
async def store(database: str) -> AsyncIterator[Store]:
    """A store with an application."""
    store = await Store.open(database, connections=3)
    await applications.create(store, APPLICATION, "a", NOW_MS)
    yield store
    await store.close()


async def put(store: Store, content: bytes | None = None, **members: Any) -> Loaded:
    """Load a list; by default one that changes a price."""
    if "version" not in members:
        members["files"] = {"mine.json": content or listing("3")}
    return await load(store, PACKAGED, Upload(loaded_by="test", **members), NOW_MS)


def usd(view: Prices, provider: str = "p") -> float:
    """What a million tokens of `m` cost now."""
    rates = view.now.book.find(provider, "m", NOW_MS)
    assert rates is not None
    return rates.tiers["default"].at(1)["input"] / 10**9


async def test_the_packages_own_list_is_version_0(store: Store) -> None:
    """Until a list is loaded the package's files are in force, and nothing is newer."""
    view = Prices(store, PACKAGED)
    await view.refresh()
    assert view.now.version == f"0-{digest(PACKAGED)}"
    assert (view.version.version, view.newer, usd(view)) == (0, False, 2)


async def test_a_list_comes_into_force_whole(store: Store) -> None:
    """A file takes its provider's place, the others stay; a worker that asks, or starts, has it."""
    view, used = Prices(store, PACKAGED), list[PriceList]()
    view.use = used.append
    loaded = await put(store, note="why")
    assert (usd(view), loaded.version.version) == (2, 1)
    await view.refresh()
    await view.refresh()

    later = Prices(store, PACKAGED)
    await later.refresh()
    for one in (view, later):
        assert (usd(one), usd(one, "q")) == (3, 1)
        assert one.now.version == f"1-{loaded.version.digest}"
        assert one.version == loaded.version
    assert used == [view.now]
    assert [it.unit for it in loaded.changes] == ["input"]
    assert [it.note for it in (await stored.page(store)).items] == ["why"]


async def test_the_same_list_is_no_new_version(store: Store) -> None:
    """Loading twice changes nothing, and a dry run neither; of the package's own there is none."""
    first = await put(store)
    again = await put(store)
    tried = await put(store, listing("4"), dry_run=True)
    assert (again.unchanged, again.version, again.changes) == (True, first.version, [])
    assert (tried.version, [it.after for it in tried.changes]) == (first.version, ["4"])
    assert len((await stored.page(store)).items) == 1


async def test_going_back_is_a_new_version(store: Store) -> None:
    """An older list, the package's too, is loaded again under a new number, drastic or not."""
    await put(store, listing("200"), accept=["p/m"])
    await put(store, version=0)
    view = Prices(store, PACKAGED)
    await view.refresh()
    assert (view.version.version, usd(view)) == (2, 2)
    await put(store, version=1)
    await view.refresh()
    assert (view.version.version, usd(view)) == (3, 200)
    with pytest.raises(NotFound, match="no price version 9"):
        await put(store, version=9)


async def test_a_package_with_newer_files_says_so(store: Store) -> None:
    """What was loaded stays in force when the package changes; loading its files settles it."""
    await put(store)
    newer = PACKAGED | {"q.json": listing("1.5", "q")}
    view = Prices(store, newer)
    await view.refresh()
    assert (view.newer, usd(view, "q")) == (True, 1)
    await load(store, newer, Upload(files={"q.json": newer["q.json"]}, loaded_by="t"), NOW_MS)
    await view.refresh()
    assert (view.newer, usd(view), usd(view, "q")) == (False, 3, 1.5)


MODEL = json.dumps(json.loads(listing())["models"][0]).encode()
BAD = [
    (b"", "mine.json"),
    (b"{", "mine.json"),
    (b"[]", "mine.json"),
    (b'{"provider": "p"}', "mine.json"),
    (b"\xff\xfe", "mine.json"),
    (
        listing("-1"),
        "mine.json:11: models[0] (m): prices[0]: input price '-1' is not",
    ),
    (listing("NaN"), "NaN"),
    (listing("Infinity"), "Infinity"),
    (listing("2,5"), "2,5"),
    (listing("2e3"), "2e3"),
    (listing("20"), "mine.json:11: p/m input: 2 -> 20"),
    (listing("0.2"), "p/m input: 2 -> 0.2"),
    (listing("0"), "p/m input: 2 -> 0"),
    (listing(name="other"), "mine.json: p/m is gone"),
    (listing(prices={"input": "2"}), "p/m output: 10 -> no price"),
    (listing(prices={"inputs": "2"}), "'inputs' is not a unit"),
    (listing().replace(b"{", b'{"currency": "EUR", ', 1), "in USD, not in 'EUR'"),
    (listing(service_tier="flex"), "it has no base price"),
    (json.dumps({**json.loads(listing()), "resells": [{"vendor": "v"}]}).encode(), "resells v"),
    (
        listing().replace(b'"models": [', b'"models": [' + MODEL + b","),
        "two entries have the same id",
    ),
    (listing(checked="2026-13-01"), "not a date"),
    (listing().replace(b'"2"', b"2.5"), "Expected `str`, got `float`"),
    (listing().replace(b'"from": null', b'"from": "2026-02-30"'), "not a date"),
]


@pytest.mark.parametrize(("content", "words"), BAD)
async def test_a_bad_list_changes_nothing(store: Store, content: bytes, words: str) -> None:
    """It is refused whole, with what is wrong where; the prices in force stay in force."""
    await put(store, listing("2.0"))
    files = {"mine.json": content, "q.json": listing("1.1", "q")}
    with pytest.raises(InvalidRequest) as refused:
        await load(store, PACKAGED, Upload(files=files, loaded_by="t"), NOW_MS)
    assert words in refused.value.message
    view = Prices(store, PACKAGED)
    await view.refresh()
    assert (view.version.version, usd(view), usd(view, "q")) == (1, 2, 1)


async def test_two_files_of_a_provider_are_refused(store: Store) -> None:
    """Nobody could say which one holds."""
    upload = Upload(files={"a.json": listing(), "b.json": listing("3")}, loaded_by="t")
    with pytest.raises(InvalidRequest, match=r"b\.json:\d+: two files .* a\.json is one"):
        await load(store, PACKAGED, upload, NOW_MS)


async def test_what_is_drastic_is_accepted_by_name(store: Store) -> None:
    """By this model's name and no other's."""
    with pytest.raises(InvalidRequest, match="accepted by name: p/m") as refused:
        await put(store, listing("20"), accept=["p/n", "q/m"])
    assert refused.value.code == "drastic_price_change"
    assert (await put(store, listing("20"), accept=["p/m"])).version.version == 1


async def test_of_two_that_load_at_once_one_is_refused(store: Store) -> None:
    """A list is judged against the one it follows: two cannot follow the same one."""
    found = await asyncio.gather(
        put(store, listing("3")), put(store, listing("4")), return_exceptions=True
    )
    versions = [it.version.version for it in found if isinstance(it, Loaded)]
    faults = [it for it in found if isinstance(it, Conflict)]
    assert (versions, len(faults)) in (([1], 1), ([1, 2], 0))


async def test_a_number_is_taken_once(store: Store) -> None:
    """Whoever comes second with a version's number is told to look first."""
    first = await put(store)
    with pytest.raises(Conflict, match="as version 1"):
        await stored.add(store, first.version, {})


async def test_a_list_that_cannot_be_read_changes_nothing(store: Store, database: str) -> None:
    """What another release wrote, and this one cannot read, leaves what is in force in force: in a
    worker that starts, the package's own. Own prices are, and another list can be loaded."""
    await put(store)
    view = Prices(store, PACKAGED)
    await view.refresh()
    version = stored.PriceVersion(
        version=2, digest="d", packaged="p", note="", loaded_ms=NOW_MS, loaded_by="newer"
    )
    await stored.add(store, version, {"p.json": listing("-7")})
    half = (OwnRate(match="p/*", multiplier="0.5"),)
    await stored.set_own(store, APPLICATION, half, set_ms=NOW_MS, set_by="t")
    later = Prices(store, PACKAGED)
    for one, number, price in ((view, 1, 3), (later, 0, 2)):
        await one.refresh()
        assert (one.version.version, usd(one), set(one.now.own)) == (number, price, {APPLICATION})

    loaded = await put(store, listing("4"))  # judged against the package's, as the other cannot be
    await view.refresh()
    assert (loaded.version.version, usd(view), usd(view, "q")) == (3, 4, 1)


async def test_own_prices_come_and_go(store: Store) -> None:
    """They are in force with the next look, for their application alone, and end when emptied."""
    view = Prices(store, PACKAGED)
    half = (OwnRate(match="p/*", multiplier="0.5"),)
    own = await stored.set_own(store, APPLICATION, half, set_ms=NOW_MS, set_by="t")
    await view.refresh()
    assert set(view.now.own) == {APPLICATION}
    listed = view.now.book.find("p", "m", NOW_MS)
    assert listed is not None
    found = view.now.own[APPLICATION].of(listed, NOW_MS, None)
    assert (found.id, found.ratio) == (f"p/m@undated*own-{own.revision}", (1, 2))
    await stored.set_own(store, APPLICATION, (), set_ms=NOW_MS, set_by="t")
    await view.refresh()
    assert view.now.own == {}


async def test_own_prices_leave_with_their_application(store: Store) -> None:
    """A tenant that is deleted has no prices."""
    view = Prices(store, PACKAGED)
    rates = (OwnRate(match="*", multiplier="0.5"),)
    await stored.set_own(store, APPLICATION, rates, set_ms=NOW_MS, set_by="t")
    await view.refresh()
    assert view.now.own
    await applications.delete(store, APPLICATION)
    await view.refresh()
    assert view.now.own == {}


async def test_own_prices_of_credentials_and_limits(store: Store) -> None:
    """Each is by its name; a limit's are of the one that was there when they were set."""
    view = Prices(store, PACKAGED)
    rates = (OwnRate(match="*", multiplier="0.5"),)
    given: dict[str, Any] = {"set_ms": NOW_MS, "set_by": "t"}
    one = limit("team")
    await limits.create(store, one)
    await stored.set_own(store, APPLICATION, rates, kind="limit", name="team", **given)
    await stored.set_own(store, APPLICATION, rates, kind="credential", name="env-x", **given)
    await view.refresh()
    own = view.now.own[APPLICATION]
    assert own.application is None
    assert [it for it, _ in own.pinned([one, limit("other")])] == ["team"]
    assert set(own.credentials) == {"env-x"}

    await limits.delete(store, APPLICATION, "team")
    later = limit("team", created_ms=NOW_MS + 9, epoch=NOW_MS + 9)
    await limits.create(store, later)
    assert own.pinned([later]) == (), "a worker that has not heard of it yet"
    await view.refresh()
    assert view.now.own[APPLICATION].pinned([later]) == ()
    with pytest.raises(ValueRefused):
        await stored.set_own(store, APPLICATION, rates, kind="limit", name="gone", **given)


Make = Callable[[str], Directory]


@pytest.fixture
async def directory(store: Store) -> AsyncIterator[Make]:
    """Makes directories of a Redis."""
    made: list[Redis] = []

    def make(url: str) -> Directory:
        made.append(Redis(url, timeout_ms=200))
        return Directory(
            store,
            made[-1],
            pepper=b"",
            keyring=Keyring([]),
            admin_key=None,
            default_application=APPLICATION,
            clock_ms=lambda: NOW_MS,
        )

    yield make
    for redis in made:
        await redis.close()


async def test_workers_hear_of_a_list(
    store: Store, directory: Make, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is told looks at once: well before it would by itself."""
    monkeypatch.setattr(prices, "AGE_S", 60.0)
    ours, theirs = directory(redis_url), directory(redis_url)
    view = Prices(store, PACKAGED)
    tasks = [asyncio.create_task(theirs.listen())]
    await until(theirs.prices_told.is_set)  # it looks when it begins to listen
    told = theirs.prices_told
    tasks.append(asyncio.create_task(every(0, "prices", lambda: view.follow(told))))
    await until(lambda: not told.is_set())
    await put(store)
    await ours.changed("prices")
    await until(lambda: usd(view) == 3)
    for task in tasks:
        task.cancel()


async def test_without_redis_a_list_is_found_by_age(
    store: Store, directory: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can be told: every worker looks by itself, and at 30 s it has long done so."""
    assert prices.AGE_S < 30
    monkeypatch.setattr(prices, "AGE_S", 0.2)
    names = directory("unix:///nowhere/redis.sock")
    view = Prices(store, PACKAGED)
    task = asyncio.create_task(every(0, "prices", lambda: view.follow(names.prices_told)))
    await put(store)
    await names.changed("prices")
    await until(lambda: usd(view) == 3)
    task.cancel()
