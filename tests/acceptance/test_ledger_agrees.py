"""Four books of one run: the provider's own, our rows, our rollups and our counters, to the pico.

The provider is the stand-in, whose prices and arithmetic are its own and import nothing of ours.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx
import pytest

from metering.store import Store, rollups
from tests.acceptance.recordings_replay import pages, rows_of
from tests.acceptance.tenant import CHAT, MESSAGES, Tenant, new_tenant
from tests.standin.ledger import Entry
from tests.standin.process import Standin
from tests.standin.service import Service

pytestmark = pytest.mark.acceptance
CALLS = 300
AT_ONCE = 8
SEED = 20_261_120
ALWAYS = ("wide", "team")
THIRDS = ("tokens", "calls")
UNITS = {
    "input": "input_text",
    "cache_read": "cache_read",
    "cache_write_5m": "cache_write_5m",
    "cache_write_1h": "cache_write_1h",
    "audio_input": "input_audio",
    "output": "output_text",
    "reasoning": "reasoning",
    "audio_output": "output_audio",
    "web_search": "web_search",
}
"""The provider's name of a billed unit -> ours."""


@dataclass(frozen=True)
class Kind:
    """A kind of call: for which model, what is used, in which tier, and how it ends."""

    model: str
    usage: tuple[int, ...] = ()
    """Upper bounds of the counts: see `usage`."""
    tier: str | None = None
    status: int = 200
    more: str = ""


KINDS = (
    Kind("gpt-4"),
    Kind("gpt-4o", (4_000, 900, 3_000, 0, 0, 0)),
    Kind("gpt-4o", (4_000, 900, 3_000, 0, 0, 0), tier="priority"),
    Kind("gpt-4.1-mini", (2_000, 300, 0, 0, 0, 0)),
    Kind("gpt-5", (9_000, 900, 4_000, 0, 700, 0)),
    Kind("gpt-5", (9_000, 900, 4_000, 0, 700, 0), tier="flex"),
    Kind("gpt-5-mini", (9_000, 900, 4_000, 0, 700, 0), tier="priority"),
    Kind("o4-mini", (900, 900, 400, 0, 800, 0), tier="flex"),
    Kind("o3-mini", (900, 2_000, 0, 0, 1_999, 0)),
    Kind("gpt-4o-audio-preview", (900, 500, 0, 0, 0, 400)),
    Kind("gpt-5.4", (300_000, 900, 3_000, 0, 100, 0)),
    Kind("gpt-5.6-sol", (5_000, 900, 900, 800, 100, 0)),
    Kind("gpt-4o-mini", status=429),
    Kind("gpt-4o-mini", status=500),
    Kind("claude-3-opus-20240229"),
    Kind("claude-sonnet-4-5", (3_000, 700, 9_000, 2_000, 1_000, 0)),
    Kind("claude-sonnet-4-5", (150_000, 700, 99_000, 20_000, 10_000, 0)),
    Kind("claude-haiku-4-5", (3_000, 700, 900, 200, 0, 3), more="web_search"),
    Kind("claude-opus-4-8", (3_000, 700, 900, 0, 500, 0), more="us"),
    Kind("claude-opus-4-1", (3_000, 700, 0, 0, 500, 0)),
    Kind("claude-haiku-4-5", status=529),
    Kind("claude-haiku-4-5", status=400),
)


def usage(kind: Kind, pick: random.Random) -> dict[str, Any] | None:
    """A usage of this kind in the provider's shape; None leaves it to the provider."""
    if not kind.usage:
        return None
    if kind.model.startswith("claude"):
        new, output, read, short, long, searches = (pick.randrange(n + 1) for n in kind.usage)
        counts: dict[str, Any] = {
            "input_tokens": new,
            "output_tokens": output,
            "cache_read_input_tokens": read,
            "cache_creation_input_tokens": short + long,
            "cache_creation": {
                "ephemeral_5m_input_tokens": short,
                "ephemeral_1h_input_tokens": long,
            },
            "service_tier": kind.tier or "standard",
            "inference_geo": "us" if kind.more == "us" else "global",
        }
        return counts | {"server_tool_use": {"web_search_requests": searches}}
    new, output, read, written, thought, audio = (pick.randrange(n + 1) for n in kind.usage)
    return {
        "prompt_tokens": new + read + written + audio,
        "completion_tokens": output + thought + audio,
        "prompt_tokens_details": {
            "cached_tokens": read,
            "audio_tokens": audio,
            **({"cache_write_tokens": written} if written else {}),
        },
        "completion_tokens_details": {"reasoning_tokens": thought, "audio_tokens": audio},
    }


@dataclass(frozen=True)
class Call:
    """One call of the run."""

    kind: Kind
    body: dict[str, Any]
    told: dict[str, Any]
    third: str
    """The third limit it names, beside `ALWAYS`."""


def call(number: int, pick: random.Random) -> Call:
    """A call of the run: a kind, streamed or not, with a third limit."""
    kind = KINDS[number % len(KINDS)]
    how = pick.choice(("json", "stream", "unasked"))
    third = THIRDS[number % 2] if number % 10 else "tiny"
    prompt = f"call {number} " + "x" * pick.randrange(400)
    body: dict[str, Any] = {"model": kind.model, "messages": [{"role": "user", "content": prompt}]}
    if kind.model.startswith("claude"):
        body["max_tokens"] = 900
    if how != "json":
        body["stream"] = True
    if how == "stream" and not kind.model.startswith("claude"):
        body["stream_options"] = {"include_usage": True}
    told: dict[str, Any] = {"tag": third, "status": kind.status, "chunks": 3}
    if (counts := usage(kind, pick)) is not None:
        told["usage"] = counts
    if kind.tier:
        told["service_tier"] = kind.tier
    return Call(kind, body, told, third)


def post(tenant: Tenant, made: Call) -> httpx.Response:
    """Make a call."""
    path = MESSAGES if made.kind.model.startswith("claude") else CHAT
    headers = {
        "xProxy-Limit-IDs": ",".join((*ALWAYS, made.third)),
        "xProxy-Request-Tags": f"third-{made.third}",
        "x-standin": json.dumps(made.told),
    }
    return tenant.post(path, made.body, headers)


@dataclass(frozen=True)
class Books:
    """What everybody wrote down. Costs in pico-USD."""

    calls: list[Call]
    answers: list[httpx.Response]
    bills: dict[str, Entry]
    """The provider's, of what it charged for, by the id in its answer."""
    rows: list[dict[str, Any]]
    budgets: dict[str, dict[str, Any]]
    tenant: Tenant

    def rows_with(self, limit_id: str) -> list[dict[str, Any]]:
        """The rows that name a limit."""
        return [row for row in self.rows if any(it["limit_id"] == limit_id for it in row["limits"])]

    def charged(self, limit_id: str) -> Decimal:
        """What the rows say that a limit was charged."""
        charges = [it for row in self.rows for it in row["limits"] if it["limit_id"] == limit_id]
        return sum((it["amount"] for it in charges), Decimal(0))


@pytest.fixture(scope="module")
def books(service: Service, standin: Standin) -> Books:
    """A mixed run of a few hundred calls, eight at a time; then everybody's books."""
    standin.wait_idle()
    standin.reset()
    tenant = new_tenant(service)
    for limit_id, members in {
        "wide": {"max": 10_000, "limit_type": "block"},
        "team": {"max": 5, "limit_type": "allow", "threshold": 0.8},
        "tokens": {"max": 1_000_000, "limit_type": "allow", "unit": "tokens"},
        "calls": {"max": 1_000, "limit_type": "block", "unit": "requests"},
        "tiny": {"max": 0.000001, "limit_type": "block"},
    }.items():
        tenant.manage("POST", "limits", {"limit_id": limit_id, "limit_name": limit_id, **members})
    pick = random.Random(SEED)
    calls = [call(number, pick) for number in range(CALLS)]
    answers = [post(tenant, calls[0])]  # uses `tiny` up
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers += pool.map(lambda it: post(tenant, it), calls[1:])
    standin.wait_idle()
    rows = rows_of(service, tenant.key, {it.headers["xproxy-request-id"] for it in answers})
    return Books(
        calls=calls,
        answers=answers,
        bills={it.id: it for it in standin.ledger() if it.cost_pico},
        rows=list(rows.values()),
        budgets={it["limit_id"]: it for it in tenant.manage("GET", "budgets")["items"]},
        tenant=tenant,
    )


def test_the_run_is_mixed(books: Books) -> None:
    """Every kind was called; errors came through, refusals were final, the rest is 200."""
    expected = Counter(
        400 if number and it.third == "tiny" else it.kind.status
        for number, it in enumerate(books.calls)
    )
    refusals = [it for it in books.answers if it.headers.get("x-should-retry") == "false"]

    assert Counter(it.status_code for it in books.answers) == expected
    assert {row["status"] for row in books.rows} == {"ok", "failed", "blocked"}
    assert len(refusals) == sum(1 for it in books.calls[1:] if it.third == "tiny")
    assert all(it.json()["xproxy_error"]["code"] == "limit_reached" for it in refusals)
    assert {unit for bill in books.bills.values() for unit in bill.lines_pico} == UNITS.keys()
    tiers = {bill.service_tier for bill in books.bills.values()}
    assert {"default", "flex", "priority", "standard"} <= tiers
    assert any(">" in (bill.price or "") for bill in books.bills.values()), "no long context"


def test_each_row_is_the_providers_bill(books: Books) -> None:
    """Every bill has its one row, line by line the same; no other row costs anything."""
    costing = [row for row in books.rows if row["cost_pico"] != "0"]

    assert len(books.rows) == CALLS
    assert sorted(row["provider_id"] for row in costing) == sorted(books.bills)
    for row in costing:
        bill = books.bills[row["provider_id"]]
        lines = {unit: pico for unit, pico in bill.lines_pico.items() if pico}
        ours = {unit: int(usd * 10**12) for unit, usd in row["lines"].items() if usd}
        assert ours == {UNITS[unit]: pico for unit, pico in lines.items()}, (row["model"], bill)
        assert int(row["cost_pico"]) == bill.cost_pico
        assert (row["input_cost_usd"] + row["output_cost_usd"]) * 10**12 == bill.cost_pico


def test_counters_are_the_providers_bills(books: Books) -> None:
    """Each limit has spent what the provider billed the calls that name it; nothing is held."""
    bills = books.bills.values()
    billed = {limit_id: sum(it.cost_pico or 0 for it in bills) for limit_id in ALWAYS}
    billed["tiny"] = sum(it.cost_pico or 0 for it in bills if it.tag == "tiny")
    for limit_id, pico in billed.items():
        assert books.budgets[limit_id]["spent"] * 10**12 == pico
    tokens = sum(tokens_of(it) for it in bills if it.tag == "tokens")
    assert books.budgets["tokens"]["spent"] == tokens
    assert books.budgets["calls"]["spent"] == sum(1 for it in bills if it.tag == "calls")
    assert {it["held"] for it in books.budgets.values()} == {0}
    assert {it["holds"] for it in books.budgets.values()} == {0}


def tokens_of(bill: Entry) -> int:
    """All tokens of a bill."""
    return sum(count for unit, count in bill.units.items() if unit != "web_search")


@pytest.mark.parametrize("limit_id", [*ALWAYS, *THIRDS, "tiny"])
def test_counters_are_the_rows(books: Books, limit_id: str) -> None:
    """What the rows charged a limit is what it has spent; each of its calls is counted once."""
    rows, totals = books.rows_with(limit_id), books.tenant.totals(limit_id)

    assert books.charged(limit_id) == books.budgets[limit_id]["spent"]
    assert totals["cost"]["total"]["base"] == books.budgets[limit_id]["spent"]
    states = Counter(
        it["state"] for row in rows for it in row["limits"] if it["limit_id"] == limit_id
    )
    assert totals["requests"] == {
        **dict.fromkeys(totals["requests"], 0),
        **states,
        "total": len(rows),
    }
    if limit_id in ALWAYS:
        for member in ("input", "output"):
            assert totals["cost"][member]["base"] == total(rows, f"{member}_cost_usd")


def total(items: Iterable[dict[str, Any]], member: str) -> Decimal:
    """The sum of a member."""
    return sum((item[member] for item in items), Decimal(0))


@pytest.mark.parametrize("dimension", ["model", "provider", "key", "tag", "limit", "hour"])
def test_rollups_are_the_rows(books: Books, dimension: str) -> None:
    """Whole hours are answered by rollups, the same question of part of one by rows: all agree."""
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    listing = {"group_by": dimension, "from": f"{hour.replace(hour=0):%Y-%m-%dT%H:%M:%SZ}"}
    by_rollup = pages(books.tenant.service, "usage", books.tenant.key, **listing)
    by_rows = pages(
        books.tenant.service, "usage", books.tenant.key, **listing, to="2099-01-01T00:00:01Z"
    )

    assert by_rollup == by_rows
    if dimension in ("model", "provider", "hour"):
        for member in ("cost_usd", "input_cost_usd", "output_cost_usd", "input_tokens"):
            assert total(by_rollup, member) == total(books.rows, member)
        assert total(by_rollup, "calls") == len(books.rows)
    if dimension == "limit":
        spent = {it["limit_id"]: it["spent"] for it in books.budgets.values()}
        for group in by_rollup:
            if group["limit"] in (*ALWAYS, "tiny"):
                assert group["cost_usd"] == spent[group["limit"]]


async def test_no_rollup_differs_from_its_rows(books: Books) -> None:
    """The database itself finds no rollup and no limit total that is not the sum of its rows."""
    run_file = json.loads((books.tenant.service.data_dir / "run.json").read_text())
    store = await Store.open(run_file["database_url"], connections=1)
    try:
        assert await rollups.differences(store) == (0, 0)
    finally:
        await store.close()


def test_the_service_finds_no_difference(books: Books) -> None:
    """Its own audit says so of all applications, of counters and holds as well."""
    report = books.tenant.service.manage("POST", "audit/check", {})

    assert report["differences"] == report["repaired"] == []
    assert report["applications"] >= 1


def test_nothing_of_ours_reached_the_provider(books: Books, standin: Standin) -> None:
    """No header, no key of ours in any request of the run; the stored credentials were used."""
    entries = [it for it in standin.ledger() if it.tag]

    assert len(entries) == sum(1 for row in books.rows if row["status"] != "blocked")
    assert not [it.leaks for it in entries if it.leaks]
    assert {(it.provider, it.credential.header) for it in entries if it.credential} == {
        ("openai", "authorization"),
        ("anthropic", "x-api-key"),
    }
