"""Recorded traffic through the running service: the provider's bytes, our result, the true cost."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from genai_prices import Usage, calc_price, extract_usage
from genai_prices.types import PriceCalculation

from tests.acceptance.recordings_replay import (
    Replay,
    Variant,
    data_of,
    events,
    replay,
    rows_of,
    variants,
    without_result,
)
from tests.acceptance.tenant import LITELLM, PAYI
from tests.standin.process import Standin
from tests.standin.recordings import Recording
from tests.standin.service import Service

pytestmark = pytest.mark.acceptance
ALL = variants()
NO_RECORDINGS = [
    pytest.param(
        None, marks=pytest.mark.skip(reason="no recordings; set XPROXY_RECORDINGS to their folder")
    )
]
MEMBERS_OF_OURS = {
    PAYI: ["message", "statusCode", "xproxy_error", "xproxy_result"],
    LITELLM: ["xproxy_result"],
}
"""In a provider's error, by the route that it came by."""
ADVISED = {"anthropic:42": ("claude-opus-4-8", Usage(input_tokens=2529, output_tokens=38))}
"""Answers that used a second model (Anthropic's advisor tool), which is billed beside the first.

genai-prices reads the first one's usage alone; `usage.iterations` of the answer states both.
"""


def params(*, status: int, streamed: bool) -> list[Any]:
    """The variants of metered calls with this status and kind of answer, as test parameters."""
    return named(
        it
        for it in ALL
        if (it.recording.status == 200) is (status == 200)
        and it.recording.streamed is streamed
        and it.metered
        and not it.pending
    )


def named(variants: Iterable[Variant]) -> list[Any]:
    """Variants as test parameters."""
    return [pytest.param(it, id=it.name) for it in variants] or NO_RECORDINGS


@dataclass(frozen=True)
class Run:
    """All replays, and their usage rows by request id."""

    route: str
    replays: dict[str, Replay]
    rows: dict[str, dict[str, Any]]

    def row(self, variant: Variant) -> dict[str, Any]:
        """The usage row of a replay."""
        return self.rows[self.replays[variant.name].request_id]


@pytest.fixture(scope="module", params=[PAYI, LITELLM], ids=["payi", "litellm"])
def run(request: pytest.FixtureRequest, standin: Standin, service: Service) -> Run:
    """Everything replayed once by each route, one after the other; all rows landed."""
    standin.reset()
    route: str = request.param
    key = service.application_key("recordings" + route.replace("/", "-"))
    replays = {it.name: replay(service, key, it, route) for it in ALL}
    assert not [entry.leaks for entry in standin.ledger() if entry.leaks]
    return Run(route, replays, rows_of(service, key, {it.request_id for it in replays.values()}))


@pytest.mark.parametrize("variant", params(status=200, streamed=False))
def test_json_answers(run: Run, variant: Variant) -> None:
    """Status, content type and every byte are the provider's; ours is one member, the last."""
    answer, recording = run.replays[variant.name], variant.recording
    body, result = without_result(answer.body)

    assert (answer.status, answer.headers["content-type"]) == (200, recording.content_type)
    assert body == recording.body
    agrees_with_row(result, run.row(variant))
    assert answer.headers["xproxy-cost"] == answer.headers["x-litellm-response-cost"]
    assert Decimal(answer.headers["xproxy-cost"]) == result["cost"]["total"]["base"]


@pytest.mark.parametrize("variant", params(status=200, streamed=True))
def test_streams(run: Run, variant: Variant) -> None:
    """Every event is the provider's; one carries our result; the usage chunk comes if asked for."""
    answer, recording = run.replays[variant.name], variant.recording
    theirs, given = events(recording.body), events(answer.body)
    carriers = [event for event in given if b'"xproxy_result"' in event]
    [carrier] = carriers
    plain, result = without_result(carrier)
    if not variant.asked:
        theirs = [event for event in theirs if data_of(event).get("choices") != []]

    assert (answer.status, answer.headers["content-type"]) == (200, recording.content_type)
    assert [plain if event is carrier else event for event in given] == theirs
    agrees_with_row(result, run.row(variant))
    data = data_of(carrier)
    if recording.provider == "anthropic":
        assert data["type"] == "message_delta"
        assert data["delta"]["stop_reason"]
    elif recording.path == "/v1/responses":
        assert (data["type"], carrier) == ("response.completed", given[-1])
    elif variant.asked:
        assert (data["choices"], bool(data["usage"])) == ([], True)
    else:
        assert carrier == [event for event in given if data_of(event).get("choices")][-1]
        assert all(data_of(event)["choices"][0] for event in given[:-1])


@pytest.mark.parametrize("variant", params(status=400, streamed=False))
def test_errors(run: Run, variant: Variant) -> None:
    """Every member of a provider's error is there, first and unchanged; then come ours."""
    answer, recording = run.replays[variant.name], variant.recording
    body, theirs = json.loads(answer.body), json.loads(recording.body)
    row = run.row(variant)

    assert (answer.status, answer.headers["content-type"]) == (
        recording.status,
        recording.content_type,
    )
    assert list(body) == [*theirs, *(it for it in MEMBERS_OF_OURS[run.route] if it not in theirs)]
    assert {name: body[name] for name in theirs} == theirs
    assert body["xproxy_result"]["request_id"] == answer.request_id
    assert "cost" not in body["xproxy_result"]
    assert (row["status"], row["http_status"]) == ("failed", recording.status)
    assert (row["cost_pico"], row["units"]) == ("0", {})


@pytest.mark.parametrize("variant", named(it for it in ALL if it.pending))
def test_background_answers(run: Run, variant: Variant) -> None:
    """What is only taken in is charged as it may come out, and says so."""
    answer, row = run.replays[variant.name], run.row(variant)
    body, result = without_result(answer.body)

    assert body == variant.recording.body
    assert result["warnings"] == [
        "the answer is still being made: the units are what it may come to"
    ]
    assert (row["status"], row["estimated"]) == ("ok", True)
    assert row["units"]["input_text"] > 0
    assert row["units"]["output_text"] > 0
    assert result["cost"]["total"]["base"] == row["cost_usd"] > 0


@pytest.mark.parametrize("variant", named(it for it in ALL if not it.metered))
def test_free_calls(run: Run, variant: Variant) -> None:
    """They pass as they are, cost nothing, and are on record."""
    answer, recording, row = run.replays[variant.name], variant.recording, run.row(variant)

    assert (answer.status, answer.headers["content-type"]) == (200, recording.content_type)
    assert answer.body == recording.body
    assert (row["pricing"], row["cost_pico"], row["status"]) == ("free", "0", "ok")
    assert (row["method"], row["endpoint"]) == (recording.method, recording.path)


def agrees_with_row(result: dict[str, Any], row: dict[str, Any]) -> None:
    """What the caller was told is what the row says."""
    cost = result["cost"]
    assert result["request_id"] == row["request_id"]
    assert cost["currency"] == "usd"
    assert cost["input"]["base"] == row["input_cost_usd"]
    assert cost["output"]["base"] == row["output_cost_usd"]
    assert cost["total"]["base"] == row["cost_usd"]
    assert cost["total"]["base"] * 10**12 == int(row["cost_pico"])
    assert not result.get("warnings")
    assert (row["status"], row["estimated"], row["http_status"]) == ("ok", False, 200)


@pytest.mark.parametrize(
    "variant", params(status=200, streamed=False) + params(status=200, streamed=True)
)
def test_rows_are_what_an_independent_count_says(run: Run, variant: Variant) -> None:
    """Units and cost of the row are what genai-prices reads in the answer, and its price."""
    row, answer = run.row(variant), final_answer(variant.recording)
    lines = {unit: int(usd * 10**12) for unit, usd in row["lines"].items()}
    usage = counts(variant.recording, answer)
    model = answer.get("model", variant.recording.request["model"])
    prices = [price(variant.recording.provider, model, usage, tier_of(answer))]
    if variant.recording.name in ADVISED:
        prices.append(price("anthropic", *ADVISED[variant.recording.name]))

    assert (row["model"], row.get("provider_id")) == (model, answer.get("id"))
    assert row["streamed"] is variant.recording.streamed
    for ours, theirs in UNITS.items():
        found = row[ours] if ours in row else row["units"].get(ours, 0)
        assert found == usage._reported_values().get(theirs, 0), ours
    hour = (answer["usage"].get("cache_creation") or {}).get("ephemeral_1h_input_tokens", 0)
    written = sum(row["units"].get(it, 0) for it in ("cache_write_5m", "cache_write_1h"))
    assert written == usage._reported_values().get("cache_write_tokens", 0)
    assert row["units"].get("cache_write_1h", 0) == hour
    assert sum(lines.values()) == int(row["cost_pico"])
    # output here, as Pay-i counts it; neither, there
    fee = lines.get("web_search", 0) + lines.get("file_search", 0)
    costs = [int(row[it] * 10**12) for it in ("input_cost_usd", "output_cost_usd", "cost_usd")]
    opened = containers(variant.recording, answer)
    assert row["units"].get("container_1g", 0) == opened
    sessions = opened * CONTAINER_USD
    expected = (
        sum((it.input_price for it in prices), Decimal(0)),
        sum((it.output_price for it in prices), Decimal(fee).scaleb(-12) + sessions),
        sum((it.total_price for it in prices), sessions),
    )
    for cost_pico, expected_usd in zip(costs, expected, strict=True):
        assert abs(expected_usd * 10**12 - cost_pico) <= len(lines), row["lines"]


def final_answer(recording: Recording) -> dict[str, Any]:
    """The answer as one object with model, id and usage; a stream's is put together."""
    if not recording.streamed:
        answer: dict[str, Any] = json.loads(recording.body)
        return answer
    found: dict[str, Any] = {"usage": {}}
    for event in map(data_of, events(recording.body)):
        holder = event.get("message") or event.get("response") or event
        found |= {"output": holder["output"]} if "output" in holder else {}
        found |= {name: holder[name] for name in ("model", "id") if name in holder}
        found["usage"] = found["usage"] | (holder.get("usage") or {})
    return found


CONTAINER_USD = Decimal("0.03")
"""OpenAI's price of a session of its smallest container, for which genai-prices has none."""


def containers(recording: Recording, answer: dict[str, Any]) -> int:
    """How many containers an answer ran code in that its request did not bring along."""
    ran_in = {item.get("container_id") for item in answer.get("output") or []} - {None}
    return len({it for it in ran_in if it not in json.dumps(recording.request)})


UNITS = {
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cache_read": "cache_read_tokens",
    "reasoning": "output_reasoning_tokens",
    "input_audio": "input_audio_tokens",
    "output_audio": "output_audio_tokens",
    "web_search": "web_searches",
    "file_search": "storage_searches",
}
"""Our name in a usage row -> genai-prices'."""


FLAVORS = {
    "/v1/chat/completions": "chat",
    "/v1/responses": "responses",
    "/v1/responses/compact": "responses",
    "/v1/embeddings": "embeddings",
}
"""OpenAI's path -> genai-prices' name of its form."""


def counts(recording: Recording, answer: dict[str, Any]) -> Usage:
    """What genai-prices reads in an answer.

    Of responses it reads the tokens alone, but has prices for calls of tools. OpenAI's web search
    guide: "search actions incur a tool call cost", opening a page and finding in it do not.
    """
    flavor = FLAVORS.get(recording.path, "default")
    usage = extract_usage(answer, provider_id=recording.provider, api_flavor=flavor).usage
    items = answer.get("output") or []
    searches = [it["action"]["type"] for it in items if it.get("type") == "web_search_call"]
    fees = {
        "web_searches": searches.count("search"),
        "storage_searches": sum(it.get("type") == "file_search_call" for it in items),
    }
    return Usage(**usage._reported_values() | {name: n for name, n in fees.items() if n})


def tier_of(answer: dict[str, Any]) -> str | None:
    """The service tier that changes an answer's price."""
    tier = answer.get("service_tier") or answer["usage"].get("service_tier")
    return tier if tier in ("flex", "priority", "batch") else None


def price(provider: str, model: str, usage: Usage, tier: str | None = None) -> PriceCalculation:
    """What genai-prices says that it costs now."""
    return calc_price(
        usage,
        model,
        provider_id=provider,
        genai_request_timestamp=datetime.now(UTC),
        price_context={"service_tier": tier} if tier else None,
    )


def test_pieces_make_no_difference(run: Run) -> None:
    """A stream handed out in pieces of 1, 7 or 64 bytes has the row of the whole one."""
    compared = 0
    for variant in ALL:
        if variant.split:
            whole = Variant(variant.recording, asked=variant.asked)
            row, expected = run.row(variant), run.row(whole)
            for member in ("units", "lines", "cost_pico", "model", "provider_id", "status"):
                assert row[member] == expected[member], (variant.name, member)
            compared += 1
    assert compared == sum(1 for it in ALL if it.split)
