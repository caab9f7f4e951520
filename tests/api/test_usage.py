"""`/usage` and `/requests`: exact money in every form, safe cells, results at once and for good."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from metering.api.text import time_ms
from metering.api.usage_shapes import cell
from metering.core.ids import uuid7
from metering.core.limits import Charge
from metering.core.record import UsageRow
from metering.core.windows import Window
from metering.errors import InvalidRequest
from metering.store import usage
from tests.api.conftest import MINE, NOW_MS, OTHER, Bench
from tests.builders import limit

USAGE = "/api/v1/usage"
EXACT = msgspec.json.Decoder(float_hook=Decimal)
HOUR_MS = 3_600_000


def row(number: int, **members: Any) -> UsageRow:
    """A call, `number` minutes ago."""
    at_ms = members.pop("at_ms", NOW_MS - number * 60_000)
    return UsageRow(
        **{
            "application_id": MINE,
            "request_id": str(uuid7(at_ms, number.to_bytes(10, "big"))),
            "at_ms": at_ms,
            "key_id": "k-app",
            "provider": "openai",
            "category": "system.openai",
            "endpoint": "/v1/chat/completions",
            "model": "gpt-4o",
            "provider_id": f"chatcmpl-{number}",
            "units": {"input_text": 11, "output_text": 26},
            "lines": {"input_text": 27_500_000, "output_text": 260_000_001},
            "input_pico": 27_500_000,
            "output_pico": 260_000_001,
            "cost_pico": 287_500_001,
            **members,
        }
    )


async def land(bench: Bench, rows: Iterable[UsageRow], *charges: Charge) -> None:
    """Put rows into the ledger, each with these charges."""
    await usage.insert(bench.services.store, [(one, charges) for one in rows])


async def asked(bench: Bench, query: str = "", key: str = "app-key") -> dict[str, Any]:
    """The answer to a question, numbers exact."""
    response = await bench.ask("GET", f"{USAGE}?{query}", key=key)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = EXACT.decode(response.content)
    return answer


async def test_an_entry(bench: Bench) -> None:
    """An entry tells who, what and how much, in exact USD; unknowns are left out."""
    await land(bench, [row(1, tags=["a"])], Charge("l", 1, "usd", 287_500_001, "ok"))

    answer = await asked(bench)

    [entry] = answer["items"]
    assert answer["as_of"]
    assert entry["cost_usd"] == Decimal("0.000287500001")
    assert entry["input_cost_usd"] == Decimal("0.0000275")
    assert entry["cost_pico"] == "287500001"
    assert (entry["input_tokens"], entry["output_tokens"]) == (11, 26)
    assert entry["tags"] == ["a"]
    assert entry["limits"] == [
        {"limit_id": "l", "unit": "usd", "amount": Decimal("0.000287500001"), "state": "ok"}
    ]
    assert "user_id" not in entry


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ("", {1, 2, 3}),
        ("model=gpt-4o", {1, 2}),
        ("model=claude&provider=anthropic", {3}),
        ("status=BLOCKED", {2}),
        ("user=alice", {1}),
        ("key=k-app", {1, 2}),
        ("use_case=chat", {3}),
        ("tag=red", {1, 3}),
        ("tag=red&user=alice", {1}),
        ("limit=none", set()),
        ("limit=l", {1, 2, 3}),
        ("from=2001-01-01", {1, 2, 3, 4}),
        ("from=2001-01-01&to=2001-01-02", set()),
        (f"from={(NOW_MS - 150_000) // 1000}", {1, 2}),
        (f"from={NOW_MS - 150_000}", {1, 2}),
        (f"to={datetime.fromtimestamp((NOW_MS - 90_000) // 1000, UTC).isoformat()}", {2, 3}),
    ],
)
async def test_filters(bench: Bench, query: str, numbers: set[int]) -> None:
    """Each filter narrows; without `from` the last 24 hours, and never another application's."""
    rows = [
        row(1, user_id="alice", tags=["red", "blue"]),
        row(2, status="blocked"),
        row(
            3, model="claude", provider="anthropic", key_id="k2", tags=["red"], use_case_name="chat"
        ),
        row(4, at_ms=NOW_MS - 25 * HOUR_MS),
        row(5, application_id=OTHER),
    ]
    await land(bench, rows, Charge("l", 1, "usd", 1, "ok"))

    answer = await asked(bench, query)

    assert {
        int(item["provider_id"].removeprefix("chatcmpl-")) for item in answer["items"]
    } == numbers


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("group_by=color", "color"),
        ("status=great", "status"),
        ("from=soon", "from"),
        ("from=2026-01-02&to=2026-01-01", "later"),
        ("format=xml", "format"),
        ("page_size=x", "page_size"),
    ],
)
async def test_bad_questions(bench: Bench, query: str, words: str) -> None:
    """A question that makes no sense is a 400 that names the parameter."""
    response = await bench.ask("GET", f"{USAGE}?{query}")

    assert response.status_code == 400
    assert words in response.json()["message"]


async def test_groups(bench: Bench) -> None:
    """Sums by dimension are exact, and name their dimensions."""
    await land(bench, [row(n) for n in (1, 2)] + [row(3, model="claude", status="failed")])

    answer = await asked(bench, "group_by=model,status")

    groups = {(item["model"], item["status"]): item for item in answer["items"]}
    assert set(groups) == {("gpt-4o", "ok"), ("claude", "failed")}
    assert groups["gpt-4o", "ok"]["calls"] == 2
    assert groups["gpt-4o", "ok"]["cost_usd"] == Decimal("0.000575000002")
    assert groups["gpt-4o", "ok"]["output_tokens"] == 52


@pytest.mark.parametrize("query", ["", "group_by=hour,key", "sort_ascending=true"])
async def test_pages(bench: Bench, query: str) -> None:
    """Pages cover everything once; a cursor of another kind of question is the first page."""
    await land(bench, [row(n, key_id=f"k{n}") for n in range(1, 6)])

    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        answer = await asked(bench, f"{query}&page_size=2&cursor={cursor}")
        seen += [item.get("key") or item["key_id"] for item in answer["items"]]
        foreign, cursor = cursor, answer.get("cursor")
    other = await asked(bench, f"group_by=provider&page_size=2&cursor={foreign}")

    assert sorted(seen) == ["k1", "k2", "k3", "k4", "k5"]
    assert other["items"][0]["provider"] == "openai"


async def test_an_admin_sees_all(bench: Bench) -> None:
    """An admin's question without an application is about all of them."""
    await land(bench, [row(1), row(2, application_id=OTHER)])

    everything = await asked(bench, "group_by=application", key="admin-key")
    one = await asked(bench, f"application={OTHER}", key="admin-key")

    assert {item["application"] for item in everything["items"]} == {MINE, OTHER}
    assert [item["provider_id"] for item in one["items"]] == ["chatcmpl-2"]


async def test_csv(bench: Bench) -> None:
    """CSV has every column, exact costs, and the page's cursor and moment in headers."""
    await land(bench, [row(1, user_id="=cmd()", tags=["a", "b"]), row(2)])

    response = await bench.ask("GET", f"{USAGE}?page_size=1&sort_ascending=true&format=csv")
    accepted = await bench.ask("GET", f"{USAGE}?group_by=tag", headers={"Accept": "text/csv"})
    following = await bench.ask(
        "GET",
        f"{USAGE}?page_size=1&sort_ascending=true&format=csv"
        f"&cursor={response.headers['xproxy-cursor']}",
    )

    [cells] = csv.DictReader(io.StringIO(following.text))
    assert response.headers["content-type"] == "text/csv; charset=utf-8"
    assert response.headers["xproxy-as-of"]
    assert cells["user_id"] == "'=cmd()"
    assert cells["tags"] == "a;b"
    assert cells["cost_usd"] == "0.000287500001"
    assert "xproxy-cursor" not in following.headers
    assert accepted.text.startswith("tag,calls,")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\r=1"),
        (["=a", "b"], "'=a;b"),
        ("plain", "plain"),
        (-5, "-5"),
        (Decimal("-0.000000000001"), "-0.000000000001"),
        (Decimal("1E-12"), "0.000000000001"),
        (None, ""),
        (True, "true"),
        ({"a": Decimal("0.1")}, '{"a":0.1}'),
        (datetime(2026, 1, 1, tzinfo=UTC), "2026-01-01T00:00:00Z"),
    ],
)
def test_cells(value: object, text: str) -> None:
    """A text cell never begins as a formula does; numbers stay numbers."""
    assert cell(value) == text


@pytest.mark.parametrize(
    ("text", "expected_ms"),
    [
        ("0", 0),
        ("1790000000", 1_790_000_000_000),
        ("1790000000.1234", 1_790_000_000_123),
        ("1790000000123", 1_790_000_000_123),
        ("1970-01-02", 86_400_000),
        ("1970-01-01T00:00:01.5Z", 1500),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1970-01-01T01:00:00 01:00", 0),
        ("1969-12-31T23:59:59Z", -1000),
    ],
)
def test_times(text: str, expected_ms: int) -> None:
    """ISO 8601 (UTC by default; `+` may come as a space) or Unix time."""
    assert time_ms(text, "from") == expected_ms


@pytest.mark.parametrize("text", ["", "now", "2026-13-01", "-5", "1" * 17, "\u0661"])
def test_no_times(text: str) -> None:
    """Anything else is refused."""
    with pytest.raises(InvalidRequest, match="from"):
        time_ms(text, "from")


async def test_result_at_once_and_for_good(bench: Bench) -> None:
    """A result comes from the ledger while it is live, then from the rows, by either id."""
    recorded, live = row(1, tags=["a"]), row(2)
    await land(bench, [recorded], Charge("l", 1, "usd", 287_500_001, "exceeded"))
    bench.ledger.records[MINE, live.request_id] = live, (Charge("l", 1, "usd", 1, "ok"),)
    bench.ledger.ids[MINE, "system.openai", "chatcmpl-2"] = live.request_id

    for one, state in ((recorded, "exceeded"), (live, "ok")):
        for path in (
            f"/api/v1/requests/{one.request_id}/result",
            f"/api/v1/requests/{one.request_id.upper()}/result",
            f"/api/v1/requests/provider/system.openai/{one.provider_id}/result",
            f"/api/v1/requests/result/system.openai/{one.provider_id}",
        ):
            response = await bench.ask("GET", path)
            result = EXACT.decode(response.content)["xproxy_result"]
            assert result["request_id"] == one.request_id
            assert result["limits"] == {"l": {"state": state}}
            assert result["cost"]["total"]["base"] == Decimal("0.000287500001")


@pytest.mark.parametrize("landed", [True, False])
async def test_a_result_says_when_windows_end(bench: Bench, *, landed: bool) -> None:
    """Those that the call was charged in, over or not; of a limit that was made again under its id,
    or that nobody can be asked about, nothing is said, and it is not waited for."""
    month = Window(every="month", zone="UTC")
    described = limit("month", window=month, epoch=NOW_MS, created_ms=NOW_MS, application_id=MINE)
    again = msgspec.structs.replace(described, limit_id="again", created_ms=NOW_MS + 1)
    directory = bench.directory
    directory.definitions = {(MINE, it.limit_id): it for it in (described, again, limit("none"))}
    names = ("month", "again", "gone", "none")
    charges = tuple(Charge(name, NOW_MS, "usd", 1, "ok") for name in names)
    call = row(1)
    if landed:
        await land(bench, [call], *charges)
    else:
        bench.ledger.records[MINE, call.request_id] = call, charges
    path = f"/api/v1/requests/{call.request_id}/result"

    found = (await bench.ask("GET", path)).json()["xproxy_result"]["limits"]
    assert found.pop("month") == {"state": "ok", "resets_at": "2026-10-01T00:00:00Z"}
    assert list(found.values()) == [{"state": "ok"}] * 3
    directory.away = True
    found = (await bench.ask("GET", path)).json()["xproxy_result"]["limits"]
    assert found["month"] == {"state": "ok"}


async def test_result_of_a_blocked_call(bench: Bench) -> None:
    """A recorded refusal still says which limit refused."""
    refused = row(1, status="blocked", cost_pico=0, input_pico=0, output_pico=0, lines={})
    charges = (Charge("a", 1, "usd", 0, "blocked"), Charge("b", 1, "usd", 0, "blocked_external"))
    await land(bench, [refused], *charges)

    response = await bench.ask("GET", f"/api/v1/requests/{refused.request_id}/result")

    result = response.json()["xproxy_result"]
    assert result["blocked_limit_ids"] == ["a"]
    assert "cost" not in result


@pytest.mark.parametrize("key", ["app-key", "other-key"])
@pytest.mark.parametrize(
    "path", ["nope/result", "{id}/result", "provider/system.openai/{pid}/result"]
)
async def test_no_such_request(bench: Bench, key: str, path: str) -> None:
    """Calls that are not there, or another application's, are a 404."""
    theirs = row(1, application_id=MINE if key == "other-key" else OTHER)
    await land(bench, [theirs])
    path = path.format(id=theirs.request_id, pid=theirs.provider_id)

    response = await bench.ask("GET", f"/api/v1/requests/{path}", key=key)

    assert response.status_code == 404
    assert response.json()["xproxy_error"]["code"] == "request_not_found"


async def test_properties_of_a_request(bench: Bench) -> None:
    """Properties are merged into a recorded call by either id; a live one asks to try again."""
    recorded, live = row(1, properties={"a": "1"}), row(2)
    await land(bench, [recorded])
    bench.ledger.records[MINE, live.request_id] = live, ()
    base = "/api/v1/requests"

    first = await bench.ask(
        "PUT", f"{base}/{recorded.request_id}/properties", {"properties": {"b": "2"}}
    )
    second = await bench.ask(
        "PUT",
        f"{base}/provider/system.openai/chatcmpl-1/properties",
        {"properties": {"a": None, "system.user_id": "u"}},
    )
    early = await bench.ask("PUT", f"{base}/{live.request_id}/properties", {"properties": {}})
    missing = await bench.ask("PUT", f"{base}/provider/c/x/properties", {"properties": {}})

    [entry] = (await asked(bench))["items"]
    assert first.json() == second.json() == {"request_id": recorded.request_id}
    assert entry["properties"] == {"b": "2", "system.user_id": "u"}
    assert early.status_code == 503
    assert early.headers["retry-after"] == "1"
    assert early.headers["x-should-retry"] == "true"
    assert missing.status_code == 404
