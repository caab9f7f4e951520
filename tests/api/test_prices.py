"""`/prices`: search and show, price lists, and what applications negotiated."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.api.conftest import MINE, OTHER, PACKAGED, Bench

PRICES, VERSIONS, OWN = (f"/api/v1/prices{it}" for it in ("", "/versions", "/own"))


def openai(**prices: str) -> str:
    """The package's file of OpenAI, with other prices of gpt-4o from 2026-09-01 on."""
    content = json.loads(PACKAGED["openai.json"])
    [model] = [it for it in content["models"] if it["id"] == "gpt-4o"]
    listed = {"input": "2.5", "cache_read": "1.25", "output": "10"}
    row = {"from": "2026-09-01", "prices": listed | prices, "source": "the contract"}
    model["prices"].append(row | {"checked": "2026-09-01"})
    return json.dumps(content, indent=1)


async def ask(bench: Bench, method: str, path: str, body: object = None) -> Any:
    """What an admin is answered; it must have succeeded."""
    response = await bench.ask(method, path, body, key="admin-key")
    assert response.status_code in {200, 201}, response.text
    return response.json()


async def load(bench: Bench, *files: str, **members: Any) -> Any:
    """Load files."""
    named = {f"{number}.json": text for number, text in enumerate(files)}
    return await ask(bench, "POST", VERSIONS, {"files": named} | members)


def unit(model: dict[str, Any], name: str, **members: Any) -> dict[str, Any]:
    """What one unit costs, at the base unless told."""
    wanted = {"unit": name, "service_tier": None, "above": None} | members
    [found] = [
        it for it in model["prices"] if all(it.get(key) == value for key, value in wanted.items())
    ]
    return dict(found)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("q=gpt-4o-mini&provider=openai", "openai/gpt-4o-mini"),
        ("q=GPT-4o-mini-2024-07-18&provider=openai", "openai/gpt-4o-mini"),
        ("q=opus&provider=anthropic", "anthropic/claude-opus-4-0"),
        ("q=anthropic/claude-opus", "anthropic/claude-opus-4-0"),
        ("q=anthropic/claude-opus-4-20250514", "anthropic/claude-opus-4-0"),
    ],
)
async def test_search(bench: Bench, query: str, found: str) -> None:
    """By part of a name, in any case, by provider, or by a name that stands for a model."""
    answer = (await bench.ask("GET", f"{PRICES}?{query}", key="read-key")).json()
    assert found in [it["model"] for it in answer["items"]]
    assert len(answer["items"]) < 100
    assert answer["version"] == bench.services.prices.now.version
    assert answer["packaged_newer"] is False


async def test_pages_meet(bench: Bench) -> None:
    """All models, each once, in order of their names, whatever the size of a page."""
    seen: list[str] = []
    cursor = ""
    while True:
        answer = await ask(bench, "GET", f"{PRICES}?limit=150&cursor={cursor}")
        seen += (it["model"] for it in answer["items"])
        if not (cursor := answer.get("cursor", "")):
            break
    assert seen == sorted(set(seen))
    assert {it.partition("/")[0] for it in seen} >= {"openai", "anthropic", "azure"}


async def test_a_model_and_its_history(bench: Bench) -> None:
    """By any of its names: what it costs now, as a list has it and each, and every row there is."""
    await load(bench, openai(input="2"))
    answer = await ask(bench, "GET", f"{PRICES}/openai/gpt-4o-2024-08-06")
    assert answer["model"] == "openai/gpt-4o"
    assert unit(answer, "input") == {
        "unit": "input",
        "per": 1_000_000,
        "usd": "2",
        "usd_each": 0.000002,
    }
    assert answer["price_id"].startswith("openai/gpt-4o@2026-")
    assert answer["version"].startswith("1-")
    bases = [it for it in answer["history"] if "service_tier" not in it]
    assert [it["prices"]["input"] for it in bases] == ["2.5", "2"]
    assert {it["unit"] for it in answer["fees"]} >= {"web_search", "container_1g"}
    assert b'"usd_each":0.000002' in (await bench.ask("GET", f"{PRICES}/openai/gpt-4o")).content


async def test_what_is_resold(bench: Bench) -> None:
    """A model that Azure sells at its vendor's price has its history, and Azure's scopes."""
    answer = await ask(bench, "GET", f"{PRICES}/azure/gpt-4o-mini")
    assert answer["model"] == "azure/gpt-4o-mini"
    assert answer["price_id"].startswith("azure/gpt-4o-mini@")
    assert answer["scopes"]["datazone"]
    refused = await bench.ask("GET", f"{PRICES}/azure/nobodys-model")
    assert (refused.status_code, refused.json()["xproxy_error"]["code"]) == (404, "price_not_found")


async def test_a_list_is_loaded_and_listed(bench: Bench) -> None:
    """What it changes is in the answer; it is in force at once, and the other workers are told."""
    loaded = await load(bench, openai(input="3", output="12"), note="the contract")
    assert [(it["model"], it["unit"], it["before"], it["after"]) for it in loaded["changes"]] == [
        ("openai/gpt-4o", "input", "2.5", "3"),
        ("openai/gpt-4o", "output", "10", "12"),
    ]
    assert bench.directory.told == ["prices"]
    again = await load(bench, openai(input="3", output="12"))
    assert (again["unchanged"], again["in_force"]) == (True, loaded["in_force"])
    listed = await ask(bench, "GET", VERSIONS)
    assert listed["items"] == [loaded["in_force"]]
    assert listed["in_force"] == loaded["in_force"]
    assert listed["packaged"]["newer"] is False
    assert loaded["in_force"]["note"] == "the contract"
    assert loaded["in_force"]["name"] == bench.services.prices.now.version

    back = await ask(bench, "POST", VERSIONS, {"version": 0})
    assert back["in_force"]["version"] == 2
    assert [it["version"] for it in (await ask(bench, "GET", VERSIONS))["items"]] == [2, 1]


async def test_a_dry_run_changes_nothing(bench: Bench) -> None:
    """It says what would change."""
    tried = await load(bench, openai(input="3"), dry_run=True)
    assert (tried["changed"], tried["in_force"]["version"]) == (1, 0)
    assert (await ask(bench, "GET", VERSIONS))["items"] == []
    assert bench.directory.told == []


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        ({}, "request_processing_error", "either files or a version"),
        ({"files": {"a.json": "{}"}, "version": 1}, "request_processing_error", "either files"),
        ({"version": 7}, "price_version_not_found", "no price version 7"),
        ({"files": {"../a": "{}"}}, "request_processing_error", "not the name of a price file"),
        ({"files": {"a.json": "{"}}, "invalid_prices", "a.json"),
        (
            {"files": {"a.json": openai(input="-1")}},
            "invalid_prices",
            "'-1' is not a plain decimal",
        ),
        ({"files": {"a.json": openai(input="NaN")}}, "invalid_prices", "(gpt-4o)"),
        ({"files": {"a.json": openai(inputs="1")}}, "invalid_prices", "'inputs' is not a unit"),
        ({"files": {"a.json": openai(input="25")}}, "drastic_price_change", "openai/gpt-4o input"),
        ({"files": {"a.json": openai(input="0")}}, "drastic_price_change", "2.5 -> 0"),
        ({"files": {"a.json": 1}}, "request_processing_error", "files"),
        ({"files": {"a.json": "{}"}, "note": "a\u0000"}, "request_processing_error", "note"),
    ],
)
async def test_a_bad_list_is_refused(
    bench: Bench, body: dict[str, Any], code: str, words: str
) -> None:
    """The answer says what is wrong where; nothing is loaded, nobody is told."""
    refused = await bench.ask("POST", VERSIONS, body, key="admin-key")
    assert refused.status_code in {400, 404}
    assert refused.json()["xproxy_error"]["code"] == code
    assert words in refused.json()["message"]
    assert bench.directory.told == []
    assert bench.services.prices.version.version == 0


async def test_large_lists_are_taken(bench: Bench) -> None:
    """A catalogue is larger than other bodies may be."""
    padded = openai(input="3") + " " * 2_000_000
    assert (await load(bench, padded))["changed"] == 1


async def test_own_prices(bench: Bench) -> None:
    """They are set for the named application, shown in its prices alone, and ended."""
    other = f"?application={OTHER}"
    rates = [{"match": f"{it}/*", "multiplier": "0.8"} for it in ("openai", "anthropic")]
    made = await ask(bench, "PUT", OWN + other, {"rates": rates})
    assert made["application_id"] == OTHER
    assert (await ask(bench, "GET", OWN + other)) == made | {"request_id": ANY}
    assert (await ask(bench, "GET", OWN))["rates"] == []
    assert bench.directory.told == ["prices"]

    theirs = (await bench.ask("GET", f"{PRICES}/openai/gpt-4o", key="other-key")).json()
    mine = (await bench.ask("GET", f"{PRICES}/openai/gpt-4o", key="app-key")).json()
    assert (unit(theirs, "input")["usd"], unit(mine, "input")["usd"]) == ("2", "2.5")
    assert theirs["price_id"] == f"{mine['price_id']}*{made['name']}"
    assert theirs["own"] == {"match": "openai/*", "multiplier": "0.8"}
    assert "own" not in mine

    ended = await ask(bench, "DELETE", OWN + other)
    assert ended["rates"] == []
    theirs = (await bench.ask("GET", f"{PRICES}/openai/gpt-4o", key="other-key")).json()
    assert unit(theirs, "input")["usd"] == "2.5"


ANY: Any = type("Any", (), {"__eq__": lambda *_: True, "__hash__": None})()


@pytest.mark.parametrize(
    ("rates", "code", "words"),
    [
        (None, "required_field_missing", "rates"),
        ([{"match": "openai/*"}], "invalid_own_prices", "rates[0].multiplier: give either"),
        ([{"match": "openai/*", "multiplier": "-1"}], "invalid_own_prices", "rates[0].multiplier"),
        ([{"match": "openai/*", "multiplier": 0.5}], "request_processing_error", "multiplier"),
        ([{"match": "openai/*", "multiplyer": "1"}], "request_processing_error", "multiplyer"),
        ([{"match": "x/*", "prices": {"inputs": "1"}}], "invalid_own_prices", "prices.inputs"),
        (
            [{"match": "openai/gpt-4o", "prices": {"input": "25"}}],
            "drastic_price_change",
            "openai/gpt-4o input: 2.5 -> 25",
        ),
        (
            [{"match": "openai/gpt-4o", "prices": {"input": "0"}}],
            "drastic_price_change",
            "2.5 -> 0",
        ),
    ],
)
async def test_bad_own_prices_are_refused(
    bench: Bench, rates: object, code: str, words: str
) -> None:
    """The answer names the member; those in force stay in force."""
    before = await ask(bench, "PUT", OWN, {"rates": [{"match": "*", "multiplier": "0.9"}]})
    refused = await bench.ask(
        "PUT", OWN, {} if rates is None else {"rates": rates}, key="admin-key"
    )
    assert refused.status_code == 400, refused.text
    assert refused.json()["xproxy_error"]["code"] == code
    assert words in refused.json()["message"]
    assert (await ask(bench, "GET", OWN))["rates"] == before["rates"]


async def test_a_drastic_own_price_is_accepted_by_its_match(bench: Bench) -> None:
    """Somebody who pays nothing is meant, if it is said."""
    rates = [{"match": "openai/gpt-4o", "prices": {"input": "0"}}]
    made = await ask(bench, "PUT", OWN, {"rates": rates, "accept": ["openai/gpt-4o"]})
    assert (made["application_id"], made["rates"]) == (MINE, rates)


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", VERSIONS), ("GET", VERSIONS), ("PUT", OWN), ("GET", OWN), ("DELETE", OWN)],
)
async def test_lists_and_own_prices_are_an_admins(bench: Bench, method: str, path: str) -> None:
    """No other key sees or changes them."""
    body = None if method in {"GET", "DELETE"} else {"rates": [], "files": {"a.json": "{}"}}
    for key in ("app-key", "other-key"):
        refused = await bench.ask(method, path, body, key=key)
        assert (refused.status_code, refused.json()["xproxy_error"]["code"]) == (403, "not_allowed")
    assert bench.services.prices.version.version == 0


async def test_own_prices_of_a_credential_and_a_limit(bench: Bench) -> None:
    """Each is set, read and ended by itself, and says whose it is."""
    await bench.limit(limit_id="team", limit_name="team")
    for whose, names in (
        ("", {}),
        ("?credential=env-openai", {"credential": "env-openai"}),
        ("?limit=team", {"limit": "team"}),
    ):
        rates = [{"match": "*", "multiplier": f"0.{len(whose) + 10}"}]
        made = await ask(bench, "PUT", OWN + whose, {"rates": rates})
        assert {k: v for k, v in made.items() if k in ("credential", "limit")} == names
        assert (await ask(bench, "GET", OWN + whose)) == made | {"request_id": ANY}
    own = bench.services.prices.now.own[MINE]
    assert (set(own.credentials), set(own.limits)) == ({"env-openai"}, {"team"})
    assert (await ask(bench, "DELETE", f"{OWN}?limit=team"))["rates"] == []
    assert (await ask(bench, "GET", OWN))["rates"] != []
    own = bench.services.prices.now.own[MINE]
    assert (set(own.credentials), set(own.limits)) == ({"env-openai"}, set())


async def test_a_limits_prices_end_with_it(bench: Bench) -> None:
    """One that is made later under its id has none; the others are told."""
    await bench.limit(limit_id="team", limit_name="team")
    rates = {"rates": [{"match": "*", "multiplier": "2"}]}
    await ask(bench, "PUT", f"{OWN}?limit=team", rates)
    bench.directory.told.clear()
    await bench.ask("DELETE", "/api/v1/limits/team", key="admin-key")
    assert bench.services.prices.now.own == {}
    assert "prices" in bench.directory.told
    gone = await bench.ask("PUT", f"{OWN}?limit=team", rates, key="admin-key")
    assert gone.status_code == 404
    await bench.limit(limit_id="team", limit_name="team")
    assert (await ask(bench, "GET", f"{OWN}?limit=team"))["rates"] == []


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ("?limit=nobodys", 404, "Limit Id 'nobodys' not found"),
        ("?limit=team&credential=env-openai", 400, "give credential or limit, not both"),
        ("?credential=Env", 400, "credential must be the slug of a credential"),
        ("?credential=", 400, "credential must be the slug of a credential"),
        ("?credential=" + "a" * 65, 400, "credential must be the slug"),
        ("?limit=words", 400, "counts tokens: only a limit in usd has prices"),
    ],
)
@pytest.mark.parametrize("method", ["PUT", "GET", "DELETE"])
async def test_nobodys_own_prices(
    bench: Bench, method: str, query: str, status: int, words: str
) -> None:
    """What there is not, or has no prices, is refused by name, and nothing is set."""
    await bench.limit(limit_id="team", limit_name="team")
    await bench.limit(limit_id="words", limit_name="words", unit="tokens")
    body = {"rates": [{"match": "*", "multiplier": "0.9"}]} if method == "PUT" else None
    refused = await bench.ask(method, OWN + query, body, key="admin-key")
    assert refused.status_code == status, refused.text
    assert words in refused.json()["message"]
    assert bench.services.prices.now.own == {}


async def test_a_drastic_price_of_a_limit(bench: Bench) -> None:
    """It is guarded as an application's is, and accepted in the same way."""
    await bench.limit(limit_id="team", limit_name="team")
    body: dict[str, Any] = {"rates": [{"match": "openai/gpt-4o", "prices": {"input": "0"}}]}
    refused = await bench.ask("PUT", f"{OWN}?limit=team", body, key="admin-key")
    assert refused.json()["xproxy_error"]["code"] == "drastic_price_change"
    await ask(bench, "PUT", f"{OWN}?limit=team", body | {"accept": ["openai/gpt-4o"]})
