"""Rows land exactly once, whatever is delivered twice, and poison stops nobody else."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from datetime import UTC, datetime
from typing import Literal

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from metering.core.ids import uuid7
from metering.core.limits import STATES, Charge
from metering.core.record import UsageRow
from metering.store import Store, limits, rollups, usage
from metering.store.rows import Landed
from tests.store.samples import HOUR_MS, NOW_MS, charge, landed, limit, request_id, row


def tenant(application_id: str) -> usage.Filters:
    return usage.Filters(application_id=application_id)


async def stored(store: Store, application_id: str) -> list[Landed]:
    page = await usage.query(store, tenant(application_id), page_size=1_000, ascending=True)
    return [(entry.row, entry.charges) for entry in page.entries]


async def test_a_row_comes_back_as_it_landed(store: Store, application_id: str) -> None:
    """Every field of a row survives, and its charges."""
    full = UsageRow(
        application_id=application_id,
        request_id=request_id(),
        attempt=2,
        entry="call",
        at_ms=NOW_MS + 7,
        key_id="k",
        surface="litellm",
        provider="anthropic",
        category="system.anthropic",
        method="POST",
        endpoint="/v1/messages",
        streamed=True,
        status="ok",
        http_status=200,
        error_code="e",
        pricing="unpriced",
        estimated=True,
        model_requested="claude",
        model="claude-x",
        price_as_category="c",
        price_as_resource="r",
        price_id="anthropic/claude-x@2026-01-01",
        service_tier="priority",
        scope="us",
        units={"input_text": 10, "cache_read": 5, "output_text": 2, "web_search": 1},
        lines={"input_text": 2**62},
        input_pico=2**62,
        output_pico=1,
        cost_pico=2**62 + 1,
        warnings=["estimated"],
        provider_id="msg_1",
        user_id="ümläut",
        account_name="acc",
        use_case_name="chat",
        use_case_id="i",
        use_case_version=3,
        use_case_step="s",
        tags=["a", 'quo"te'],
        properties={"x": None, "y": "{,}"},
        use_case_properties={"p": "q"},
        latency_ms=12,
        ttft_ms=3,
        provider_host="gateway.example:8443",
        price_version="3-1f3a9c0b2d4e",
        credential="env-openai",
        limit_costs={"a b": (2**62, 0), "c": (0, 1)},
        retry_count=2,
        ttfct_ms=321,
    )
    for name, value in msgspec.structs.asdict(full).items():
        default = next(f.default for f in msgspec.structs.fields(UsageRow) if f.name == name)
        assert value != default or name in {"entry", "method", "status"}, f"{name} is not tested"
    charges = (charge("a", 2**62 + 1), charge("b", 1, unit="requests", state="blocked"))
    assert await usage.insert(store, [(full, charges)]) == 1
    assert await stored(store, application_id) == [(full, charges)]
    assert (await usage.sums(store, tenant(application_id))).input_tokens == 15
    assert (await usage.sums(store, tenant(application_id))).output_tokens == 2


async def test_the_same_batch_twice_lands_once(store: Store, application_id: str) -> None:
    """Delivered again, or twice in one batch, a row adds nothing: not to rollups, not to totals."""
    await limits.create(store, limit(application_id, "a"))
    batch = [landed(application_id, "a") for _ in range(10)]
    assert await usage.insert(store, [*batch, *batch[:5]]) == 10
    assert await usage.insert(store, batch) == 0
    assert await usage.insert(store, []) == 0
    assert (await usage.sums(store, tenant(application_id))).cost_pico == 7_500_000_000
    [totals] = await limits.totals(store, application_id, "a", 0)
    assert totals.settled == 7_500_000_000
    assert await rollups.differences(store) == (0, 0)


async def test_a_row_that_is_there_stays_as_it_is(store: Store, application_id: str) -> None:
    """The first to land wins: a replay with other numbers changes nothing."""
    first = landed(application_id, "a")
    other = msgspec.structs.replace(first[0], cost_pico=1), (charge("a", 1),)
    await usage.insert(store, [first])
    assert await usage.insert(store, [other]) == 0
    assert await stored(store, application_id) == [first]


async def test_overlapping_writers_land_each_row_once(store: Store, application_id: str) -> None:
    """Eight writers with shuffled, overlapping batches neither deadlock nor count twice."""
    calls = [landed(application_id, "a", "b", user_id=f"u{n % 7}") for n in range(120)]
    batches = [calls[start : start + 50][::step] for start in range(0, 80, 10) for step in (1, -1)]
    counts = await asyncio.gather(*(usage.insert(store, batch) for batch in batches))
    assert sum(counts) == 120
    assert len(await stored(store, application_id)) == 120
    assert await rollups.differences(store) == (0, 0)


async def test_attempts_and_corrections_are_entries_of_one_call(
    store: Store, application_id: str
) -> None:
    """An entry is named by request, attempt and entry; a correction may be negative."""
    name = request_id()
    entries = [
        landed(application_id, request_id=name, attempt=1, status="failed", cost_pico=0),
        landed(application_id, request_id=name, attempt=2, cost_pico=100),
        landed(application_id, request_id=name, attempt=2, entry="late", cost_pico=-30),
    ]
    assert await usage.insert(store, entries) == 3
    sums = await usage.sums(store, tenant(application_id))
    assert (sums.calls, sums.failed, sums.ok, sums.cost_pico) == (2, 1, 1, 70)


POISON = {
    "a cost below zero": {"cost_pico": -1},
    "a cost beyond 64 bits": {"cost_pico": 2**63},
    "a nul in a text": {"user_id": "a\0b"},
    "a nul in a property": {"properties": {"a": "\0"}},
    "a lone surrogate": {"user_id": "\ud800"},
    "a lone surrogate in a tag": {"tags": ["\ud800"]},
    "no uuid": {"request_id": "nonsense"},
    "an unknown status": {"status": "odd"},
    "attempt zero": {"attempt": 0},
    "a count beyond 64 bits": {"units": {"input_text": 2**70}},
    "an id no index takes": {"provider_id": "".join(chr(0x4E00 + n) for n in range(20_000))},
    "a time beyond the calendar": {"at_ms": 2**62},
    "a text that is none": {"endpoint": 7},
}


@pytest.mark.parametrize("fields", POISON.values(), ids=POISON)
async def test_poison_is_buried_and_the_rest_lands(
    store: Store, application_id: str, fields: dict[str, object]
) -> None:
    """A row that Postgres never takes is kept with its reason; its neighbours land, and count."""
    batch = [landed(application_id, "a") for _ in range(9)]
    batch.insert(4, (row(application_id, **fields), (charge("a", 1),)))
    assert await usage.insert(store, batch) == 9
    (letter,) = await usage.dead_letters(store)
    assert letter.application_id == application_id
    assert letter.reason
    assert letter.payload
    assert await usage.insert(store, batch) == 0
    assert len(await usage.dead_letters(store)) == 1, "redelivered poison is buried once"
    assert await rollups.differences(store) == (0, 0)


async def test_a_buried_row_can_be_read_again(store: Store, application_id: str) -> None:
    """The payload of a dead letter is the row and its charges, as they came."""
    poison = (row(application_id, cost_pico=-1), (charge("a", -1),))
    await usage.insert(store, [poison])
    (letter,) = await usage.dead_letters(store)
    assert (
        msgspec.msgpack.decode(letter.payload, type=tuple[UsageRow, tuple[Charge, ...]]) == poison
    )
    assert "CheckViolationError" in letter.reason
    assert letter.request_id == poison[0].request_id


async def test_no_cost_is_too_large_to_sum(store: Store, application_id: str) -> None:
    """Sums of the largest costs go beyond 64 bits, exactly."""
    largest = 2**63 - 1
    await usage.insert(store, [landed(application_id, "a", cost_pico=largest) for _ in range(3)])
    assert (await usage.sums(store, tenant(application_id))).cost_pico == 3 * largest
    rows = usage.Filters(application_id=application_id, from_ms=1)
    assert (await usage.sums(store, rows)).cost_pico == 3 * largest


def month_ms(year: int, month: int) -> int:
    return int(datetime(year, month, 1, tzinfo=UTC).timestamp()) * 1000


@pytest.mark.parametrize(
    ("at_ms", "partition"),
    [
        (month_ms(2026, 11) - 1, "usage_default"),
        (month_ms(2026, 11), "usage_2026_11"),
        (month_ms(2026, 12) - 1, "usage_2026_11"),
        (month_ms(2026, 12), "usage_2026_12"),
        (month_ms(2027, 1) - 1, "usage_2026_12"),
        (month_ms(2027, 1), "usage_2027_01"),
        (month_ms(2027, 3) - 1, "usage_2027_02"),
        (month_ms(2027, 3), "usage_default"),
        (0, "usage_default"),
    ],
)
async def test_a_month_ends_to_the_millisecond(
    store: Store, application_id: str, at_ms: int, partition: str
) -> None:
    """The time in the request id decides the month, in UTC; other months wait in the default."""
    await usage.insert(store, [landed(application_id, request_id=request_id(at_ms))])
    async with store.connection() as connection:
        assert await connection.fetchval("SELECT tableoid::regclass::text FROM usage") == partition
        admitted_ms = await connection.fetchval("SELECT to_ms(admitted_at) FROM usage")
    assert admitted_ms == at_ms


async def test_rows_move_from_the_default_when_their_month_comes(
    store: Store, application_id: str
) -> None:
    """A partition made late takes its rows along; none is lost, counted or landed twice."""
    early = landed(application_id, "a", request_id=request_id(month_ms(2027, 5)))
    other = landed(application_id, "a", request_id=request_id(month_ms(2027, 7)))
    await usage.insert(store, [early, other])
    assert await usage.ensure_partitions(store, month_ms(2027, 3)) == 4
    assert await usage.ensure_partitions(store, month_ms(2027, 3)) == 0
    async with store.connection() as connection:
        places = await connection.fetch(
            "SELECT tableoid::regclass::text AS place FROM usage ORDER BY request_id"
        )
    assert [place["place"] for place in places] == ["usage_2027_05", "usage_default"]
    assert await usage.insert(store, [early, other]) == 0
    assert await rollups.differences(store) == (0, 0)


async def test_partitions_are_made_once_by_many(store: Store) -> None:
    """Replicas that make the same months at the same time make each once."""
    counts = await asyncio.gather(
        *(usage.ensure_partitions(store, month_ms(2028, 1)) for _ in range(5))
    )
    assert sorted(counts) == [0, 0, 0, 0, 4]


async def test_a_new_partition_has_what_the_others_have(store: Store) -> None:
    """Indexes and checks of a partition are the table's own, so nothing is built twice."""
    async with store.connection() as connection:
        loose = await connection.fetch(
            "SELECT indexrelid::regclass::text FROM pg_index"
            " WHERE indrelid IN"
            " (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'usage'::regclass)"
            " AND indexrelid NOT IN (SELECT inhrelid FROM pg_inherits)"
        )
    assert loose == []


async def test_reports_touch_only_their_months(store: Store, application_id: str) -> None:
    """A time range becomes a range of request ids, so other partitions are never opened."""
    async with store.connection() as connection:
        plan = await connection.fetch(
            "EXPLAIN SELECT * FROM usage_matching($1, uuid7_floor($2), uuid7_floor($3),"
            " NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
            application_id,
            month_ms(2026, 12),
            month_ms(2027, 1),
        )
    text = "\n".join(line[0] for line in plan)
    assert "usage_2026_12" in text
    assert "usage_default" not in text
    assert "usage_2026_11" not in text
    assert "usage_2027_01" not in text
    assert "Index" in text


DIMENSIONS: tuple[usage.GroupBy | Literal[""], ...] = (
    "",
    "model",
    "provider",
    "key",
    "user",
    "use_case",
    "tag",
    "limit",
)
names = st.sampled_from(["a", "b", "c"])
charges = st.lists(
    st.builds(
        Charge,
        names,
        st.integers(1, 2),
        st.sampled_from(["usd", "tokens", "requests"]),
        st.integers(-(10**15), 10**15),
        st.sampled_from(STATES),
    ),
    max_size=3,
)
calls = st.fixed_dictionaries(
    {
        "request_id": st.integers(0, 5),
        "attempt": st.integers(1, 2),
        "entry": st.sampled_from(["call", "late"]),
        "hour": st.integers(0, 2),
        "status": st.sampled_from(["ok", "failed", "blocked", "unresolved"]),
        "pricing": st.sampled_from(["priced", "unpriced"]),
        "estimated": st.booleans(),
        "model": st.none() | names,
        "user_id": st.none() | names,
        "use_case_name": st.none() | names,
        "tags": st.lists(names, max_size=3),
        "cost_pico": st.integers(0, 10**17),
        "input_pico": st.integers(-(10**17), 10**17),
        "units": st.dictionaries(
            st.sampled_from(["input_text", "reasoning", "requests"]), st.integers(0, 10**6)
        ),
    }
)


def built(application_id: str, fields: dict[str, object], charged: list[Charge]) -> Landed:
    values = dict(fields)
    hour, number = values.pop("hour"), values["request_id"]
    assert isinstance(hour, int)
    assert isinstance(number, int)
    at_ms = NOW_MS + hour * HOUR_MS
    values["request_id"] = str(uuid7(at_ms, number.to_bytes(10, "big")))
    return row(application_id, **values), tuple(charged)


def expected(kept: list[Landed]) -> dict[tuple[str, str | None], Counter[str]]:
    """By dimension and value: what the rows come to."""
    found: dict[tuple[str, str | None], Counter[str]] = defaultdict(Counter)
    for call, charged in kept:
        places = {
            ("", None),
            ("provider", call.provider),
            ("key", call.key_id),
            ("model", call.model),
            ("user", call.user_id),
            ("use_case", call.use_case_name),
            *(("tag", tag) for tag in call.tags or (None,)),
            *(("limit", one.limit_id) for one in charged),
            *([] if charged else [("limit", None)]),
        }
        for place in places:
            sums = found[place]
            sums["calls"] += call.entry == "call"
            sums["unpriced"] += call.entry == "call" and call.pricing == "unpriced"
            sums["cost_pico"] += call.cost_pico
            sums["input_pico"] += call.input_pico
            sums["input_tokens"] += call.units.get("input_text", 0)
            sums["output_tokens"] += call.units.get("reasoning", 0)
    return found


@settings(
    max_examples=30,
    phases=[Phase.generate],  # a database per example is slow to shrink with
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(st.lists(st.tuples(calls, charges), max_size=8), max_size=4))
async def test_rollups_are_the_sums_of_rows(
    store: Store, batches: list[list[tuple[dict[str, object], list[Charge]]]]
) -> None:
    """However rows come in batches, again and again, rollups are the sums of what landed."""
    application_id = request_id()
    kept: dict[tuple[str, int, str], Landed] = {}
    for batch in batches:
        made = [built(application_id, *fields) for fields in batch]
        before = len(kept)
        for one in made:
            kept.setdefault((one[0].request_id, one[0].attempt, one[0].entry), one)
        assert await usage.insert(store, made) == len(kept) - before
        assert await usage.insert(store, made[::2]) == 0
    found: dict[tuple[str, str | None], rollups.Sums] = {
        (name, group.values.get(name)): group.sums
        for name in DIMENSIONS
        for group in (
            await usage.query(store, tenant(application_id), group_by=[name] if name else ["month"])
        ).groups
    }
    wanted = expected(list(kept.values()))
    assert found.keys() == wanted.keys()
    for place, sums in wanted.items():
        assert {name: getattr(found[place], name) for name in sums} == sums, place
    assert await rollups.differences(store) == (0, 0)


async def test_a_row_lands_wholly_or_not_at_all(store: Store, application_id: str) -> None:
    """If a rollup cannot be written, no row of the batch is there either."""
    async with store.connection() as connection:
        await connection.execute("ALTER TABLE limit_totals ADD CHECK (charged < 10)")
    good, bad = landed(application_id, "a", cost_pico=5), landed(application_id, "b", cost_pico=50)
    assert await usage.insert(store, [good, bad]) == 1
    assert await stored(store, application_id) == [good]
    (letter,) = await usage.dead_letters(store)
    assert letter.request_id == bad[0].request_id
    assert await rollups.differences(store) == (0, 0)
