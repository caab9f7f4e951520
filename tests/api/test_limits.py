"""`/limits`: Pay-i's shapes and tolerances, exact amounts, and who may do what."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from urllib.parse import quote

import msgspec
import pytest

from metering.core.money import PICO_PER_USD
from tests.api.conftest import MINE, NOW_MS, Bench

LIMITS = "/api/v1/limits"
INVALID = "create_limit_validation_failed"
MONTHLY = {"window": {"every": "month", "zone": "Asia/Tokyo"}}
EXACT = msgspec.json.Decoder(float_hook=Decimal)


async def test_created_limit_has_payis_shape(bench: Bench) -> None:
    """A new limit is answered with every member the SDK requires, and zero totals."""
    response = await bench.ask("POST", LIMITS, {"limit_name": "team", "max": 10})

    body = response.json()
    zero = {"base": 0}
    counts = dict.fromkeys(
        ("ok", "exceeded", "overrun", "blocked", "blocked_external", "failed", "total"), 0
    )
    assert response.status_code == 201
    assert body["request_id"] == response.headers["xproxy-request-id"]
    assert body["limit"]["limit_id"]
    assert body["limit"]["limit_type"] == "allow"
    assert body["limit"]["max"] == 10
    assert body["limit"]["hard_cap"] is False
    assert body["limit"]["unit"] == "usd"
    assert body["limit"]["limit_creation_timestamp"].startswith("2026-09-21T")
    assert "threshold" not in body["limit"]
    assert body["limit"]["totals"] == {
        "cost": {"input": zero, "output": zero, "total": {"base": 0, "overrun_base": 0}},
        "requests": counts,
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"0", "0"),
        (b"10", "10"),
        (b"10.0", "10"),
        (b"0.000000000001", "0.000000000001"),
        (b"1e-12", "0.000000000001"),
        (b"0.1", "0.1"),
        (b"12345678901.123456789012", "12345678901.123456789012"),
        (b"1000000000000", "1000000000000"),
        (b'"2.50"', "2.5"),
    ],
)
async def test_max_keeps_every_digit(bench: Bench, text: bytes, expected: str) -> None:
    """`max` is taken from the number's text and given back digit for digit, never as a float."""
    body = b'{"limit_name":"exact","limit_id":"exact","max":' + text + b"}"

    created = await bench.ask("POST", LIMITS, body)
    read = await bench.ask("GET", f"{LIMITS}/exact")

    assert created.status_code == 201, created.text
    for response in (created, read):
        assert Decimal(EXACT.decode(response.content)["limit"]["max"]) == Decimal(expected)


@pytest.mark.parametrize(
    ("members", "code", "words"),
    [
        ({"max": -1}, "invalid_max_limit", "max"),
        ({"max": 10**13}, "invalid_max_limit", "max"),
        ({"max": "1.0000000000001"}, "invalid_max_limit", "12 decimal places"),
        ({"max": "0." + "9" * 40}, "invalid_max_limit", "12 decimal places"),
        ({"max": "NaN"}, "invalid_max_limit", "max"),
        ({"max": "sNaN"}, "invalid_max_limit", "max must be between 0 and 10^12"),
        ({"max": "Infinity"}, "invalid_max_limit", "max must be between 0 and 10^12"),
        ({"max": "-Infinity"}, "invalid_max_limit", "max must be between 0 and 10^12"),
        ({"max": 10**30}, "invalid_max_limit", "max must be between 0 and 10^12"),
        ({"max": msgspec.Raw(b"1e999999999")}, "invalid_max_limit", "max must be between"),
        ({"max": msgspec.Raw(b"1e-999999999")}, "invalid_max_limit", "12 decimal places"),
        ({"max": msgspec.Raw(b"NaN")}, "invalid_json", "JSON"),
        ({"max": msgspec.Raw(b"-Infinity")}, "invalid_json", "JSON"),
        ({"max": "NaN", "unit": "tokens"}, "invalid_max_limit", "max of a limit on tokens must be"),
        ({"max": "sNaN", "unit": "requests"}, "invalid_max_limit", "must be an integer between 0"),
        ({"max": "Infinity", "unit": "concurrent"}, "invalid_max_limit", "must be an integer"),
        ({"max": -1, "unit": "tokens"}, "invalid_max_limit", "must be an integer between 0"),
        ({"max": msgspec.Raw(b"1e999999999"), "unit": "tokens"}, "invalid_max_limit", "integer"),
        ({"max": "abc"}, "request_processing_error", "max"),
        ({"max": None}, "request_processing_error", "max"),
        ({"max": True}, "request_processing_error", "max"),
        ({"max": 1.5, "unit": "tokens"}, "invalid_max_limit", "integer"),
        ({"max": 10**16, "unit": "requests"}, "invalid_max_limit", "integer"),
        ({"threshold": "NaN"}, INVALID, "threshold must be between 0.75 and 0.99, or 0"),
        ({"threshold": "sNaN"}, INVALID, "threshold must be between 0.75 and 0.99, or 0"),
        ({"threshold": "Infinity"}, INVALID, "threshold must be between 0.75 and 0.99, or 0"),
        ({"threshold": -0.8}, INVALID, "threshold must be between 0.75 and 0.99, or 0"),
        ({"threshold": 80}, INVALID, "threshold must be between 0.75 and 0.99, or 0"),
        ({"threshold": msgspec.Raw(b"1e999999999")}, INVALID, "threshold must be between"),
        ({"threshold": msgspec.Raw(b"1e-999999999")}, INVALID, "threshold must be between"),
        ({"threshold": 0.74}, "create_limit_validation_failed", "threshold"),
        ({"threshold": 1}, "create_limit_validation_failed", "threshold"),
        ({"threshold": "0.8000001"}, "create_limit_validation_failed", "6 decimal places"),
        ({"threshold": "0.8" + "0" * 40 + "1"}, "create_limit_validation_failed", "6 decimal"),
        ({"limit_type": "deny"}, "create_limit_validation_failed", "limit_type"),
        ({"hard_cap": True}, "create_limit_validation_failed", "hard_cap"),
        ({"hard_cap": True, "limit_type": "Allow"}, "create_limit_validation_failed", "hard_cap"),
        ({"unit": "eur"}, "create_limit_validation_failed", "unit"),
        ({"limit_name": ""}, "request_processing_error", "limit_name"),
        ({"limit_name": "a\x00b"}, "request_processing_error", "limit_name"),
        ({"limit_name": 5}, "request_processing_error", "limit_name"),
        ({"limit_id": "a,b"}, "request_processing_error", "limit_id"),
        ({"limit_id": "a b"}, "request_processing_error", "limit_id"),
        ({"limit_id": "a|b"}, "request_processing_error", "limit_id"),
        ({"limit_id": "a;b"}, "request_processing_error", "limit_id"),
        ({"limit_id": "é"}, "request_processing_error", "limit_id"),
        ({"limit_id": "x" * 129}, "request_processing_error", "limit_id"),
        ({"properties": {"a": 4}}, "request_processing_error", "properties"),
        ({"window": {}}, INVALID, 'window must have either "every" or "rolling"'),
        ({"window": {"every": "eon"}}, INVALID, "window.every must be hour, day"),
        (
            {"window": {"every": "day", "zone": "Mars/Base"}},
            INVALID,
            "window.zone 'Mars/Base' is no",
        ),
        ({"window": {"every": "10 days"}}, INVALID, "window.anchor must be a day"),
        ({"window": {"rolling": "soon"}}, INVALID, "window.rolling must be such as"),
        ({"window": {"every": "day", "timezone": "UTC"}}, "request_processing_error", "'timezone'"),
        ({"window": {"every": 7}}, "request_processing_error", "window.every"),
        ({"window": "month"}, "request_processing_error", "window"),
        (
            {"window": {"every": "day"}, "unit": "concurrent"},
            INVALID,
            "window goes with what adds up",
        ),
        ({"properties": {"a": "\x00"}}, "request_processing_error", "'a'"),
        ({"properties": {str(n): "" for n in range(65)}}, "request_processing_error", "64"),
    ],
)
async def test_bad_limits_are_refused(
    bench: Bench, members: dict[str, Any], code: str, words: str
) -> None:
    """A limit that cannot be kept is a 400 that names the member."""
    body = {"limit_name": "bad", "max": 1, **members}

    response = await bench.ask("POST", LIMITS, body)

    fault = response.json()
    assert response.status_code == 400, response.text
    assert fault["statusCode"] == 400
    assert fault["xproxy_error"]["code"] == code
    assert words in fault["message"]
    assert (await bench.ask("GET", LIMITS)).json()["items"] == []


@pytest.mark.parametrize(
    "body",
    [
        {"limit_name": "limit_name", "max": 0},
        {
            "limit_name": "limit_name",
            "max": 0,
            "limit_id": "limit_id",
            "limit_type": "block",
            "properties": {"foo": "string"},
            "threshold": 0,
        },
        {"limit_name": "n", "max": 1, "limit_type": None, "threshold": None, "properties": None},
        {"limit_name": "n", "max": 1, "limit_type": "Block", "hard_cap": True, "unit": "USD"},
        {
            "limit_name": "n",
            "max": 1,
            "limit_tags": ["a"],
            "currency": "usd",
            "limit_basis": "base",
        },
        {"limit_name": "n", "max": 1, "threshold": 0.75},
        {"limit_name": "n", "max": 1, "threshold": 0.99},
    ],
)
async def test_tolerated_limits(bench: Bench, body: dict[str, Any]) -> None:
    """What Pay-i's clients send is taken: zero max and threshold, nulls, any case, old members."""
    response = await bench.ask("POST", LIMITS, body)

    assert response.status_code == 201, response.text


@pytest.mark.parametrize(
    ("first", "again", "status", "code"),
    [
        ({}, {}, 201, None),
        ({}, {"limit_name": "renamed"}, 201, None),
        ({"threshold": 0.8}, {"threshold": 0.80}, 201, None),
        ({}, {"max": 11}, 400, "create_limit_validation_failed"),
        ({}, {"threshold": 0.8}, 400, "create_limit_validation_failed"),
        ({}, {"limit_type": "block"}, 400, "create_limit_validation_failed"),
        ({}, {"unit": "tokens"}, 400, "create_limit_validation_failed"),
        ({}, {"window": {"every": "day"}}, 400, "create_limit_validation_failed"),
        (MONTHLY, {"window": None}, 400, "create_limit_validation_failed"),
        (MONTHLY, {"window": {"every": "month"}}, 400, "create_limit_validation_failed"),
        (MONTHLY, {"window": {"every": "MONTH", "zone": "Asia/Tokyo"}}, 201, None),
        (
            {"window": {"every": "week"}},
            {"window": {"every": "week", "first_day": "Monday"}},
            201,
            None,
        ),
        ({}, {"limit_id": "m"}, 400, "limit_name_already_exist"),
        ({}, {"limit_id": None}, 201, None),
        ({}, {"limit_id": None, "max": 11}, 400, "limit_name_already_exist"),
        ({}, {"limit_id": "m", "limit_name": "m"}, 201, None),
    ],
)
async def test_creating_again(
    bench: Bench, first: dict[str, Any], again: dict[str, Any], status: int, code: str | None
) -> None:
    """The same limit again is the one there is; the same id or name with another meaning is not."""
    body = {"limit_name": "l", "limit_id": "l", "max": 10}
    await bench.ask("POST", LIMITS, {**body, **first})

    response = await bench.ask("POST", LIMITS, {**body, **first, **again})

    assert response.status_code == status, response.text
    if code:
        assert response.json()["xproxy_error"]["code"] == code
    elif "limit_id" not in again or again["limit_id"] is None:
        assert response.json()["limit"]["limit_name"] == "l"
        assert response.json()["limit"]["limit_id"] == "l"


async def test_overrun_is_what_lies_beyond_max(bench: Bench) -> None:
    """7.30 + 5.21 spent against a max of 10.00 is an overrun of 2.51, exactly."""
    await bench.limit()
    first, second = 7_300_000_000_000, 5_210_000_000_000
    bench.spend(
        "l",
        settled=first + second,
        settled_input=first,
        settled_output=second,
        counts={"ok": 1, "overrun": 1},
    )

    response = await bench.ask("GET", f"{LIMITS}/l")

    totals = EXACT.decode(response.content)["limit"]["totals"]
    assert totals["cost"] == {
        "input": {"base": Decimal("7.3")},
        "output": {"base": Decimal("5.21")},
        "total": {"base": Decimal("12.51"), "overrun_base": Decimal("2.51")},
    }
    assert totals["requests"]["total"] == 2


@pytest.mark.parametrize(
    ("body", "status", "expected"),
    [
        ({}, 200, {"max": 10, "limit_name": "l"}),
        ({"max": None, "limit_name": None}, 200, {"max": 10}),
        ({"max": 12.5}, 200, {"max": 12.5, "limit_name": "l"}),
        ({"max": 4}, 200, {"max": 4}),
        ({"max": 3.999999999999}, 400, "invalid_max_limit_update"),
        ({"max": -1}, 400, "invalid_max_limit"),
        ({"max": "NaN"}, 400, "invalid_max_limit"),
        ({"max": "sNaN"}, 400, "invalid_max_limit"),
        ({"max": "-Infinity"}, 400, "invalid_max_limit"),
        ({"max": 10**13}, 400, "invalid_max_limit"),
        ({"limit_name": "renamed"}, 200, {"limit_name": "renamed"}),
        ({"limit_name": "taken"}, 400, "limit_name_already_exist"),
        ({"limit_name": ""}, 400, "request_processing_error"),
    ],
)
async def test_updates(bench: Bench, body: dict[str, Any], status: int, expected: Any) -> None:
    """PUT changes max, not below what is spent, and name; an empty body changes nothing."""
    await bench.limit()
    await bench.limit(limit_id="taken", limit_name="taken")
    bench.spend("l", settled=4 * PICO_PER_USD)

    response = await bench.ask("PUT", f"{LIMITS}/l", body)

    assert response.status_code == status, response.text
    if status == 200:
        limit = response.json()["limit"]
        assert {name: limit[name] for name in expected} == expected
    else:
        assert response.json()["xproxy_error"]["code"] == expected


async def test_update_without_a_body(bench: Bench) -> None:
    """PUT with no body at all is PUT {}."""
    await bench.limit()

    assert (await bench.ask("PUT", f"{LIMITS}/l")).status_code == 200


async def test_reset_answers_what_was(bench: Bench) -> None:
    """Reset gives the totals before it and zero after; id, name and creation stay."""
    before = await bench.limit()
    bench.spend("l", settled=3 * PICO_PER_USD, counts={"ok": 2})

    response = await bench.ask("POST", f"{LIMITS}/l/reset?resetDate=2019-12-27T18:11:19.117Z")
    after = (await bench.ask("GET", f"{LIMITS}/l")).json()["limit"]

    history = response.json()["limit_history"]
    assert response.status_code == 200
    assert response.json()["message"] == "Limit has been successfully reset."
    assert history["totals"]["cost"]["total"]["base"] == 3
    assert history["totals"]["requests"]["ok"] == 2
    assert history["limit_reset_timestamp"] == "2019-12-27T18:11:19.117000Z"
    assert after["totals"]["cost"]["total"]["base"] == 0
    assert after["totals"]["requests"]["total"] == 0
    assert after["limit_creation_timestamp"] == before["limit_creation_timestamp"]
    assert bench.ledger.counters[MINE, "l"].epoch > NOW_MS


@pytest.mark.parametrize("date", ["2100-01-01T00:00:00Z", "yesterday"])
async def test_reset_in_the_future_is_refused(bench: Bench, date: str) -> None:
    """A reset happens now; a date that says otherwise is a 400 that names the parameter."""
    await bench.limit()

    response = await bench.ask("POST", f"{LIMITS}/l/reset?resetDate={date}")

    assert response.status_code == 400
    assert "resetDate" in response.json()["message"]


async def test_properties_are_merged(bench: Bench) -> None:
    """PUT properties merges, a null deletes, and the answer is a list of one."""
    await bench.limit(properties={"a": "1", "b": "2", "c": None})

    response = await bench.ask(
        "PUT", f"{LIMITS}/l/properties", {"properties": {"b": None, "d": "4"}}
    )

    [answer] = response.json()
    assert answer["limit"]["properties"] == {"a": "1", "d": "4"}
    assert answer["request_id"]


async def test_delete(bench: Bench) -> None:
    """A deleted limit is gone from store, counters and directory."""
    await bench.limit()

    response = await bench.ask("DELETE", f"{LIMITS}/l")

    assert response.json()["message"] == "Limit was deleted."
    assert (await bench.ask("GET", f"{LIMITS}/l")).status_code == 404
    assert (MINE, "l") not in bench.ledger.counters
    assert bench.directory.told[-1] == f"limit:{MINE}:l"


async def test_pages(bench: Bench) -> None:
    """Pages go newest first or oldest first, the cursor ends, and each limit comes once."""
    for name in "abcde":
        await bench.limit(limit_id=name, limit_name=name)

    found = {}
    for ascending in ("false", "true"):
        names, query = [], f"limit=2&sort_ascending={ascending}"
        cursor: str | None = ""
        while cursor is not None:
            page = (await bench.ask("GET", f"{LIMITS}?{query}&cursor={cursor}")).json()
            names += [limit["limit_name"] for limit in page["items"]]
            cursor = page.get("cursor")
        found[ascending] = "".join(names)

    assert found == {"false": "edcba", "true": "abcde"}


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", "cba"),
        ("limit=0", "cba"),
        ("limit=-5", "cba"),
        ("limit=0&cursor=cursor&limit_name=&sort_ascending=true", "abc"),
        ("cursor=cursor", "cba"),
        ("cursor=%F0%9F%92%A9", "cba"),
        ("limit_name=b", "b"),
        ("limit_name=zzz", ""),
    ],
)
async def test_listing_tolerates(bench: Bench, query: str, names: str) -> None:
    """Limit 0 means the default and an unreadable cursor the first page; names filter exactly."""
    for name in "abc":
        await bench.limit(limit_id=name, limit_name=name)

    response = await bench.ask("GET", f"{LIMITS}?{query}")

    assert response.status_code == 200, response.text
    assert "".join(limit["limit_name"] for limit in response.json()["items"]) == names


async def test_a_cursor_is_bound_to_its_application(bench: Bench) -> None:
    """A cursor of another application, or an altered one, is the first page."""
    for name in "abc":
        await bench.limit(limit_id=name, limit_name=name)
    cursor = (await bench.ask("GET", f"{LIMITS}?limit=1")).json()["cursor"]

    altered = ("A" if cursor[0] != "A" else "B") + cursor[1:]
    page = (await bench.ask("GET", f"{LIMITS}?limit=1&cursor={altered}")).json()

    assert page["items"][0]["limit_name"] == "c"


@pytest.mark.parametrize("limit_id", ["a/b", "a%2Fb", "50%", "a:b.c", "~x", "..", "reset"])
async def test_ids_of_any_kind(bench: Bench, limit_id: str) -> None:
    """An id with slashes or percent signs is one path segment, decoded once."""
    await bench.limit(limit_id=limit_id)
    path = f"{LIMITS}/{quote(limit_id, safe='').replace('..', '%2E%2E')}"

    read = await bench.ask("GET", path)
    reset = await bench.ask("POST", f"{path}/reset")

    assert read.json()["limit"]["limit_id"] == limit_id
    assert reset.status_code == 200


@pytest.mark.parametrize(
    ("key", "method", "path", "status"),
    [
        ("app-key", "GET", "/l", 200),
        ("read-key", "GET", "/l", 200),
        ("admin-key", "GET", "/l", 200),
        ("other-key", "GET", "/l", 404),
        ("other-key", "PUT", "/l", 404),
        ("other-key", "DELETE", "/l", 404),
        ("other-key", "POST", "/l/reset", 404),
        ("other-key", "PUT", "/l/properties", 404),
        ("read-key", "POST", "", 403),
        ("read-key", "PUT", "/l", 403),
        ("read-key", "DELETE", "/l", 403),
        ("read-key", "POST", "/l/reset", 403),
        ("bound-key", "PUT", "/bound", 403),
        ("bound-key", "DELETE", "/bound", 403),
        ("bound-key", "POST", "/bound/reset", 403),
        ("bound-key", "GET", "/bound", 200),
        ("bound-key", "PUT", "/l", 200),
        (None, "GET", "/l", 401),
        ("wrong", "GET", "/l", 401),
    ],
)
async def test_roles(bench: Bench, key: str | None, method: str, path: str, status: int) -> None:
    """Another application's limits are not there, readers only read, nobody loosens his bond."""
    await bench.limit()
    await bench.limit(limit_id="bound", limit_name="bound")

    response = await bench.ask(method, f"{LIMITS}{path}", {} if method != "GET" else None, key=key)

    assert response.status_code == status, response.text


async def test_counters_away(bench: Bench) -> None:
    """A store that is away is a 503 to try again; the same request then completes the limit."""
    body = {"limit_name": "l", "limit_id": "l", "max": 1}
    bench.ledger.away = True

    refused = await bench.ask("POST", LIMITS, body)
    bench.ledger.away = False
    again = await bench.ask("POST", LIMITS, body)

    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "1"
    assert again.status_code == 201
    assert (MINE, "l") in bench.ledger.counters


@pytest.mark.parametrize(
    ("members", "totals", "expected"),
    [
        ({}, {}, {"spent": 0, "held": 0, "remaining": 10, "percent": 0, "state": "ok"}),
        (
            {"threshold": 0.8},
            {"settled": 8 * PICO_PER_USD, "held_likely": PICO_PER_USD, "holds": 3},
            {"spent": 8, "held": 1, "remaining": 1, "percent": 80, "state": "exceeded"},
        ),
        (
            {"limit_type": "block"},
            {"settled": 12 * PICO_PER_USD},
            {"spent": 12, "remaining": 0, "percent": 120, "state": "overrun", "mode": "block"},
        ),
        (
            {"limit_type": "block", "hard_cap": True},
            {"settled": PICO_PER_USD, "held_likely": 1, "held_ceiling": 2 * PICO_PER_USD},
            {"held": 2, "remaining": 7, "mode": "hard", "resets_at": None},
        ),
        (
            {"unit": "tokens", "max": 3},
            {"settled": 1},
            {"unit": "tokens", "max": 3, "spent": 1, "remaining": 2, "percent": 33.33},
        ),
        ({"max": 0}, {}, {"max": 0, "remaining": 0, "percent": 100}),
    ],
)
async def test_budgets(
    bench: Bench, members: dict[str, Any], totals: dict[str, Any], expected: dict[str, Any]
) -> None:
    """A budget says what is spent, held by calls in flight, and left, in the limit's unit."""
    await bench.limit(**members)
    bench.spend("l", **totals)

    response = await bench.ask("GET", "/api/v1/budgets", key="read-key")

    [budget] = response.json()["items"]
    assert response.json()["as_of"]
    assert {name: budget[name] for name in expected} == expected


async def test_old_name_of_a_limit(bench: Bench) -> None:
    """`/budgets/{id}` is Pay-i's first name of `/limits/{id}`."""
    await bench.limit()

    response = await bench.ask("GET", "/api/v1/budgets/l")

    assert response.json()["limit"]["limit_id"] == "l"
