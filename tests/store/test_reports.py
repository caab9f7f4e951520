"""Usage is read by page, by group and by filter; and each tenant reads his own."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest

from metering.core.limits import Totals
from metering.errors import InvalidRequest, StoreAway
from metering.store import (
    Store,
    applications,
    bodies,
    credentials,
    keys,
    limits,
    prices,
    rollups,
    usage,
)
from metering.store.usage import Filters, Group
from sql import queries
from tests.store.samples import HOUR_MS, NOW_MS, landed, limit, request_id
from tests.store.test_credentials import a_credential, seal
from tests.store.test_keys import a_key

DAY_MS = 24 * HOUR_MS


@pytest.fixture
async def busy(store: Store, application_id: str) -> str:
    """An application with six calls, told apart by their cost (1, 2, 4, ... pico)."""
    calls: list[tuple[int, tuple[str, ...], dict[str, Any]]] = [
        #                    hour, limits, fields
        (0, ("a",), {"model": "m1", "user_id": "ann", "tags": ["x"]}),
        (1, ("a", "b"), {"model": "m1", "user_id": "bob", "tags": ["x", "y"]}),
        (25, (), {"model": "m2", "provider": "anthropic", "key_id": "key-2"}),
        (26, ("b",), {"model": "m2", "use_case_name": "chat", "tags": ["y", "y"]}),
        (27, (), {"status": "failed", "model": None}),
        (48, ("a",), {"status": "unresolved", "estimated": True, "pricing": "unpriced"}),
    ]
    await usage.insert(
        store,
        [
            landed(
                application_id,
                *limit_ids,
                request_id=request_id(NOW_MS + hour * HOUR_MS),
                **{"cost_pico": 2**n, **fields},
            )
            for n, (hour, limit_ids, fields) in enumerate(calls)
        ],
    )
    return application_id


@pytest.mark.parametrize(
    ("filters", "cost_pico"),
    [
        ({}, 0b111111),
        ({"from_ms": NOW_MS + HOUR_MS}, 0b111110),
        ({"to_ms": NOW_MS + HOUR_MS}, 0b000001),
        ({"from_ms": NOW_MS + HOUR_MS, "to_ms": NOW_MS + 27 * HOUR_MS}, 0b001110),
        ({"from_ms": -1, "to_ms": 2**60}, 0b111111),
        ({"key_id": "key-2"}, 0b000100),
        ({"limit_id": "a"}, 0b100011),
        ({"limit_id": "b"}, 0b001010),
        ({"limit_id": "ok"}, 0),
        ({"user_id": "ann"}, 0b000001),
        ({"use_case_name": "chat"}, 0b001000),
        ({"tag": "y"}, 0b001010),
        ({"model": "m2"}, 0b001100),
        ({"provider": "anthropic"}, 0b000100),
        ({"status": "failed"}, 0b010000),
        ({"tag": "x", "limit_id": "b", "model": "m1"}, 0b000010),
        ({"user_id": "nobody"}, 0),
    ],
)
async def test_filters(store: Store, busy: str, filters: dict[str, object], cost_pico: int) -> None:
    """Each filter keeps the rows it names, in pages and in sums alike; of several all must hold."""
    wanted = Filters(application_id=busy, **filters)  # type: ignore[arg-type]
    assert (await usage.sums(store, wanted)).cost_pico == cost_pico
    page = await usage.query(store, wanted)
    assert sum(entry.row.cost_pico for entry in page.entries) == cost_pico


@pytest.mark.parametrize(
    ("group_by", "costs"),
    [
        (["model"], {(None,): 16, ("gpt-4o",): 32, ("m1",): 3, ("m2",): 12}),
        (["provider"], {("anthropic",): 4, ("openai",): 59}),
        (["key"], {("key-1",): 59, ("key-2",): 4}),
        (["user"], {(None,): 60, ("ann",): 1, ("bob",): 2}),
        (["use_case"], {(None,): 55, ("chat",): 8}),
        (["tag"], {(None,): 52, ("x",): 3, ("y",): 10}),
        (["limit"], {(None,): 20, ("a",): 35, ("b",): 10}),
        (["status"], {("failed",): 16, ("ok",): 15, ("unresolved",): 32}),
        (["month"], {("2026-11",): 63}),
        (["day"], {("2026-11-20",): 3, ("2026-11-21",): 28, ("2026-11-22",): 32}),
        (
            ["provider", "hour"],
            {
                ("2026-11-20T00:00:00Z", "openai"): 1,
                ("2026-11-20T01:00:00Z", "openai"): 2,
                ("2026-11-21T01:00:00Z", "anthropic"): 4,
                ("2026-11-21T02:00:00Z", "openai"): 8,
                ("2026-11-21T03:00:00Z", "openai"): 16,
                ("2026-11-22T00:00:00Z", "openai"): 32,
            },
        ),
        (
            ["tag", "limit"],  # values come in the order of `GROUPS`: the limit first
            {
                (None, None): 20,
                ("a", None): 32,
                ("a", "x"): 3,
                ("a", "y"): 2,
                ("b", "x"): 2,
                ("b", "y"): 10,
            },
        ),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, list) else "",
)
async def test_groups(
    store: Store, busy: str, group_by: list[usage.GroupBy], costs: dict[tuple[str | None, ...], int]
) -> None:
    """Groups have exact sums and come sorted; a row with two tags is in the group of each."""
    page = await usage.query(store, Filters(application_id=busy), group_by=group_by)
    found = {tuple(group.values.values()): group.sums.cost_pico for group in page.groups}
    assert found == costs
    assert set(page.groups[0].values) == set(group_by)


async def test_groups_across_applications(store: Store, busy: str) -> None:
    """An administrator groups all tenants by application; each group says whose it is."""
    other = request_id()
    await usage.insert(store, [landed(other, cost_pico=7)])
    page = await usage.query(store, Filters(), group_by=["application"])
    found = {group.values["application"]: group.sums.cost_pico for group in page.groups}
    assert found == {busy: 63, other: 7}


async def test_calls_are_counted_by_status(store: Store, busy: str) -> None:
    """Every call is of one status; estimated and unpriced ones are counted beside it."""
    sums = await usage.sums(store, Filters(application_id=busy))
    assert (sums.ok, sums.failed, sums.blocked, sums.unresolved) == (4, 1, 0, 1)
    assert (sums.calls, sums.estimated, sums.unpriced) == (6, 1, 1)
    assert await usage.sums(store, Filters(application_id=request_id())) == rollups.Sums()


@pytest.mark.parametrize("ascending", [False, True], ids=["newest", "oldest"])
async def test_pages_are_stable_under_inserts(
    store: Store, application_id: str, *, ascending: bool
) -> None:
    """Rows that land between pages neither shift nor repeat what was there; order is by time."""
    calls = [landed(application_id) for _ in range(7)]
    calls += [landed(application_id, request_id=calls[3][0].request_id, attempt=2)]
    await usage.insert(store, calls)
    known = {(call.request_id, call.attempt) for call, _ in calls}
    seen: list[tuple[str, int]] = []
    cursor: str | None = None
    while True:
        page = await usage.query(
            store,
            Filters(application_id=application_id),
            page_size=3,
            cursor=cursor,
            ascending=ascending,
        )
        seen += [(entry.row.request_id, entry.row.attempt) for entry in page.entries]
        if (cursor := page.cursor) is None or len(seen) > 30:
            break
        if len(seen) < 8:  # one at each end, as settles and clocks have it
            await usage.insert(store, [landed(application_id)])
            early = landed(application_id, request_id=request_id(NOW_MS - DAY_MS + len(seen)))
            await usage.insert(store, [early])
    assert len(seen) == len(set(seen))
    assert [name for name in seen if name in known] == sorted(known, reverse=not ascending)


async def test_pages_of_groups_meet(store: Store, application_id: str) -> None:
    """Groups are paged by their values: inserts may change sums, never the order."""
    users = [f"user-{n:02d}" for n in range(10)]
    await usage.insert(store, [landed(application_id, user_id=user) for user in users])
    groups: list[Group] = []
    cursor: str | None = None
    for _ in range(4):
        page = await usage.query(
            store,
            Filters(application_id=application_id),
            group_by=["user"],
            page_size=3,
            cursor=cursor,
        )
        groups += page.groups
        cursor = page.cursor
        await usage.insert(store, [landed(application_id, user_id="user-00")])
    assert cursor is None
    assert [group.values["user"] for group in groups] == users


async def test_an_unknown_group_is_the_callers_fault(store: Store) -> None:
    """The answer to an unknown group names the known ones."""
    with pytest.raises(InvalidRequest, match=r"month, day, hour, .*; not colour") as caught:
        await usage.query(store, Filters(), group_by=["colour"])  # type: ignore[list-item]
    assert caught.value.field == "group_by"


async def test_as_of_is_the_time_of_the_snapshot(store: Store, application_id: str) -> None:
    """What landed before `as_of` is in the answer, and it moves on."""
    first = await usage.query(store, Filters(application_id=application_id))
    await usage.insert(store, [landed(application_id)])
    second = await usage.query(store, Filters())
    assert second.as_of_ms >= first.as_of_ms > NOW_MS - 10_000 * DAY_MS
    assert len(second.entries) == 1


@pytest.mark.parametrize(
    "filters", [{}, {"tag": "y"}, {"limit_id": "a"}, {"model": "m2"}, {"user_id": ""}], ids=str
)
async def test_rollups_and_rows_say_the_same(
    store: Store, busy: str, monkeypatch: pytest.MonkeyPatch, filters: dict[str, Any]
) -> None:
    """Whatever rollups are trusted to answer is what the rows add up to, page by page."""
    whole = Filters(application_id=busy, from_ms=NOW_MS, to_ms=NOW_MS + 48 * HOUR_MS, **filters)
    questions: list[list[usage.GroupBy]] = [[one] for one in usage.GROUPS]
    questions += [[one, "day"] for one in usage.GROUPS[3:]]

    async def answers() -> list[object]:
        found: list[object] = [await usage.sums(store, whole)]
        for group_by in questions:
            page = await usage.query(store, whole, group_by=group_by, page_size=2)
            rest = await usage.query(store, whole, group_by=group_by, cursor=page.cursor)
            found.append((group_by, page.groups, rest.groups))
        return found

    trusted = await answers()
    monkeypatch.setattr(rollups, "covering", lambda *_: None)
    assert trusted == await answers()


@pytest.mark.parametrize(
    ("from_ms", "to_ms", "group_by", "filters", "place"),
    [
        #      range         group by             filters                    dimension, value
        (0, usage.END_MS, [], {}, ("", None)),
        (0, HOUR_MS, ["day", "application"], {}, ("", None)),
        (0, HOUR_MS, ["model", "hour"], {}, ("model", None)),
        (0, HOUR_MS, ["month"], {"tag": "x"}, ("tag", "x")),
        (1, HOUR_MS, [], {}, None),
        (0, HOUR_MS + 1, [], {}, None),
        (0, HOUR_MS, ["model", "tag"], {}, None),
        (0, HOUR_MS, ["model"], {"tag": "x"}, None),
        (0, HOUR_MS, ["tag"], {"tag": "x"}, None),
        (0, HOUR_MS, [], {"tag": "x", "model": "m"}, None),
        (0, HOUR_MS, ["status"], {}, None),
        (0, HOUR_MS, [], {"status": "ok"}, None),
        (0, HOUR_MS, [], {"user": ""}, None),
    ],
)
def test_what_rollups_can_answer(
    from_ms: int,
    to_ms: int,
    *,
    group_by: list[str],
    filters: dict[str, str | None],
    place: tuple[str, str | None] | None,
) -> None:
    """Whole hours, and one dimension at most: hours do not know which rows had both of two."""
    assert rollups.covering(from_ms, to_ms, group_by, {"key": None} | filters) == place


FORCED = (
    "audit",
    "bodies",
    "credentials",
    "keys",
    "limits",
    "limit_history",
    "limit_totals",
    "own_prices",
    "rollups",
    "usage",
)


@pytest.fixture
async def two_tenants(store: Store) -> tuple[str, str]:
    """Two applications with something in every table."""
    names = []
    for name in ("ours", "theirs"):
        made = await applications.create(store, request_id(), name, NOW_MS)
        names.append(made.application_id)
        await keys.create(store, a_key(made.application_id), name.ljust(32).encode())
        await limits.create(store, limit(made.application_id, "a"))
        await limits.set_epoch(
            store,
            made.application_id,
            "a",
            2,
            totals=Totals(epoch=1),
            reset_ms=NOW_MS,
        )
        await usage.insert(store, [landed(made.application_id, "a")])
        await prices.set_own(store, made.application_id, (), set_ms=NOW_MS, set_by="operator")
        await credentials.create(store, a_credential(made.application_id), seal)
        await bodies.add(store, made.application_id, {request_id(): b"sealed"})
    return names[0], names[1]


@pytest.mark.parametrize("table", FORCED)
async def test_a_tenant_sees_his_own_rows(
    store: Store, two_tenants: tuple[str, str], table: str
) -> None:
    """Even a query without any condition gives a tenant read the rows of one application."""
    async with store.reader(two_tenants[0]) as reader:
        found = await reader.connection.fetch(f"SELECT DISTINCT application_id FROM {table}")
    assert [str(record["application_id"]) for record in found] == [two_tenants[0]]
    async with store.reader(None) as reader:
        assert await reader.connection.fetchval(f"SELECT count(*) FROM {table}") >= 2


@pytest.mark.parametrize("table", FORCED)
async def test_the_tenant_role_sees_nothing_by_itself(
    store: Store, two_tenants: tuple[str, str], table: str
) -> None:
    """Without an application named, the role sees no row of any."""
    async with store.transaction() as connection:
        await connection.execute("SET LOCAL ROLE xproxy_tenant")
        assert await connection.fetchval(f"SELECT count(*) FROM {table}") == 0


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM usage_2026_11",
        "SELECT * FROM usage_default",
        "SELECT * FROM applications",
        "SELECT * FROM dead_letters",
        "SELECT digest FROM keys",
        "SELECT sealed FROM credentials",
        "SELECT row_key FROM credentials",
        "SELECT * FROM secrets",
        "UPDATE secrets SET wrapped_by = ''",
        "UPDATE credentials SET provider = 'openai'",
        "UPDATE credentials SET slug = 'another'",
        "SELECT * FROM price_versions",
        "UPDATE keys SET role = 'admin'",
        "DELETE FROM keys",
        "UPDATE usage SET cost_pico = 0",
        "DELETE FROM usage",
        "UPDATE limit_totals SET charged = 0",
        "UPDATE rollups SET cost_pico = 0",
        "UPDATE own_prices SET rates = '[]'",
        "INSERT INTO own_prices (application_id) VALUES (tenant())",
        "UPDATE limit_history SET max = 0",
        "UPDATE bodies SET sealed = ''",
        "DELETE FROM bodies",
        "DELETE FROM audit",
        "INSERT INTO audit (object) VALUES ('')",
    ],
)
async def test_the_tenant_role_has_no_way_around_the_policies(
    store: Store, two_tenants: tuple[str, str], statement: str
) -> None:
    """Not a partition by its name, not a secret, not a write but to what tenants manage."""

    async def execute() -> None:
        async with store.transaction() as connection:
            await connection.fetchval(queries["begin_tenant_read"], two_tenants[0])
            await connection.execute(statement)

    with pytest.raises(StoreAway) as caught:
        await execute()
    assert isinstance(caught.value.__cause__, asyncpg.InsufficientPrivilegeError)


@pytest.mark.parametrize(
    ("statement", "left"),
    [
        ("UPDATE limits SET max = 0", "SELECT application_id FROM limits WHERE max > 0"),
        ("DELETE FROM limits", "SELECT application_id FROM limits"),
        (
            'UPDATE usage SET properties = \'{"a": "b"}\'',
            "SELECT application_id FROM usage WHERE NOT properties ? 'a'",
        ),
        ("DELETE FROM own_prices", "SELECT application_id FROM own_prices"),
    ],
)
async def test_a_tenant_changes_his_own_rows(
    store: Store, two_tenants: tuple[str, str], statement: str, left: str
) -> None:
    """A change without any condition leaves other applications' rows as they were."""
    async with store.acting("{}", two_tenants[0]).transaction() as connection:
        await connection.execute(statement)
    async with store.connection() as connection:
        found = await connection.fetch(left)
    assert [str(record["application_id"]) for record in found] == [two_tenants[1]]


async def test_a_tenant_makes_nothing_for_others(
    store: Store, two_tenants: tuple[str, str]
) -> None:
    """A row that would be another application's is refused, new or moved."""
    acting = store.acting("{}", two_tenants[0])

    async def move() -> None:
        async with acting.transaction() as connection:
            query = "UPDATE limits SET limit_id = 'moved', application_id = $1"
            await connection.execute(query, two_tenants[1])

    for change in (limits.create(acting, limit(two_tenants[1], "b")), move()):
        with pytest.raises(StoreAway) as caught:
            await change
        assert isinstance(caught.value.__cause__, asyncpg.InsufficientPrivilegeError)
    made, _ = await limits.create(acting, limit(two_tenants[0], "b"))
    assert made.application_id == two_tenants[0]


async def test_the_role_ends_with_the_read(store: Store, two_tenants: tuple[str, str]) -> None:
    """A connection that served a tenant is the service's own again, also when the read failed."""
    with pytest.raises(ZeroDivisionError):
        async with store.reader(two_tenants[0]):
            _ = 1 // 0
    async with store.connection() as connection:
        assert await connection.fetchval("SELECT current_user") == "postgres"
        assert await connection.fetchval("SELECT current_setting('xproxy.application')") == ""
        assert await connection.fetchval("SELECT count(*) FROM usage") == 2


async def test_a_query_without_application_condition_is_confined(
    store: Store, two_tenants: tuple[str, str]
) -> None:
    """The fence is the database's: filters that forget the application still stay inside."""
    async with store.reader(two_tenants[0]) as reader:
        everything = (None, 0, usage.END_MS, *[None] * 8, None, None, None, 10)
        found = await reader.rows("page_usage_newest", *everything)
    assert {str(record["application_id"]) for record in found} == {two_tenants[0]}
