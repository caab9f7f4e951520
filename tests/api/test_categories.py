"""Categories and resources: the catalogue's, read only, and an application's own, with versions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from metering.api.services import Services
from metering.core.keys import local_token
from tests.api.conftest import NOW_MS
from tests.api.house import SECRET, House, built

CATEGORIES = "/api/v1/categories"
PAGES = f"{CATEGORIES}/scans/resources/pages"
UNITS = {"page": {"input_price": 0.0015}, "text": {"input_price": 1e-6, "output_price": 4e-6}}


@pytest.fixture
async def house(services: Services, redis_url: str, tmp_path: Path) -> AsyncIterator[House]:
    """The control plane with nothing doubled, and an `app` key that may report."""
    async with built(services, redis_url, tmp_path) as house:
        yield house


async def get(house: House, path: str, status: int = 200) -> Any:
    """The body of a GET's answer."""
    answer = await house.bench.ask("GET", path, key=house.key)
    assert answer.status_code == status, answer.text
    return answer.json()


async def test_what_an_application_prices_is_what_its_calls_cost(house: House) -> None:
    """Units of its own and units that lists have; a type that is not priced is unknown."""
    made = await house.ask(PAGES, {"units": UNITS, "max_input_units": 9})
    assert made["active"]
    assert made["units"] == UNITS
    assert (made["category"], made["resource"], made["max_input_units"]) == ("scans", "pages", 9)
    body = {
        "category": "scans",
        "resource": "pages",
        "units": {
            "page": {"input": 3, "output": 1},
            "text": {"input": 1_000, "output": 100},
            "vision": {"input": 5},
        },
    }
    result = (await house.ask("/api/v1/ingest", body))["xproxy_result"]
    assert result["resource_id"] == made["resource_id"]
    assert result["cost"] == {
        "currency": "usd",
        "input": {"base": 0.0055},
        "output": {"base": 0.0004},
        "total": {"base": 0.0059},
    }
    assert result["unknown_units"] == {
        "page": {"input": 0, "output": 1},
        "vision": {"input": 5, "output": 0},
    }
    [row] = await house.rows()
    assert row.price_id == made["resource_id"]
    assert row.lines["pages"] == 4_500_000_000


async def test_a_later_version_holds_from_its_date_on(house: House) -> None:
    """Calls cost what the version says that held then; before the first there is no price."""
    for price, start_s in ((1, 1_700_000_000), (2, 1_750_000_000), (4, 1_900_000_000)):
        body = {"units": {"page": {"input_price": price}}, "start_timestamp": str(start_s)}
        await house.ask(PAGES, body)
    costs = []
    for at_s in (1_699_999_999, 1_700_000_000, 1_749_999_999, 1_750_000_000, NOW_MS // 1000):
        body = {
            "category": "scans",
            "resource": "pages",
            "units": {"page": {"input": 1}},
            "event_timestamp": str(at_s),
        }
        result = (await house.ask("/api/v1/ingest", body))["xproxy_result"]
        costs.append(result["cost"]["total"]["base"] if "cost" in result else None)
    assert costs == [None, 1, 1, 2, 2]
    listed = (await get(house, PAGES))["items"]
    assert [it["active"] for it in listed] == [False, True, False]
    assert listed[1]["end_timestamp"] == listed[0]["start_timestamp"]
    assert "end_timestamp" not in listed[0]
    oldest_first = (await get(house, f"{PAGES}?sort_ascending=true"))["items"]
    assert oldest_first == listed[::-1]
    assert (await get(house, f"{PAGES}?Active=true"))["items"] == [listed[1]]
    pages = [await get(house, f"{PAGES}?limit=2")]
    pages.append(await get(house, f"{PAGES}?limit=2&cursor={pages[0]['cursor']}"))
    assert [it for page in pages for it in page["items"]] == listed
    assert "cursor" not in pages[1]
    [current] = (await get(house, f"{CATEGORIES}/scans/resources"))["items"]
    assert current == listed[1]
    assert await get(house, f"{PAGES}/{current['resource_id']}") == current


async def test_what_is_deleted_is_given_back_and_prices_nothing(house: House) -> None:
    """A version, a resource, a category; a version that goes leaves the one before in force."""
    versions = [await house.ask(PAGES, {"units": UNITS, "start_timestamp": str(n)}) for n in (1, 2)]
    other = await house.ask(f"{CATEGORIES}/scans/resources/other", {"units": {"foo": {}}})

    async def delete(path: str) -> Any:
        answer = await house.bench.ask("DELETE", path, key=house.key)
        assert answer.status_code == 200, answer.text
        return answer.json()

    gone = await delete(f"{PAGES}/{versions[1]['resource_id']}")
    assert gone["resource_id"] == versions[1]["resource_id"]
    body = {"category": "scans", "resource": "pages", "units": {"page": {"input": 1}}}
    result = (await house.ask("/api/v1/ingest", body))["xproxy_result"]
    assert result["resource_id"] == versions[0]["resource_id"]
    assert [it["resource_id"] for it in await delete(PAGES)] == [versions[0]["resource_id"]]
    result = (await house.ask("/api/v1/ingest", body))["xproxy_result"]
    assert "resource_id" not in result
    left = await delete(f"{CATEGORIES}/scans")
    assert [it["resource_id"] for it in left] == [other["resource_id"]]
    for path in (f"{PAGES}/{versions[0]['resource_id']}", PAGES, f"{CATEGORIES}/scans"):
        answer = await house.bench.ask("DELETE", path, key=house.key)
        assert answer.status_code == 404, path
    assert (await get(house, PAGES, 404))["xproxy_error"]["code"] == "category_resource_not_found"
    gone = await get(house, f"{CATEGORIES}/scans/resources", 404)
    assert gone["xproxy_error"]["code"] == "category_not_found"


async def test_the_catalogue_is_read_and_not_written(house: House) -> None:
    """Its categories have Pay-i's names, its models their dated prices for one unit."""
    names, page = [], await get(house, f"{CATEGORIES}?limit=50")
    while True:
        names += [it["category"] for it in page["items"]]
        if "cursor" not in page:
            break
        page = await get(house, f"{CATEGORIES}?limit=50&cursor={page['cursor']}")
    assert names == sorted(set(names))
    known = {"system.openai", "system.anthropic", "system.azureopenai", "system.aws.bedrock"}
    assert known | {"system.google.vertex", "system.databricks.azure", "system.groq"} <= set(names)
    mini = f"{CATEGORIES}/system.openai/resources/gpt-4o-mini"
    [version] = (await get(house, f"{mini}?Active=true"))["items"]
    assert version["units"]["text"] == {"input_price": 1.5e-7, "output_price": 6e-7}
    assert version["units"]["text_cache_read"] == {"input_price": 7.5e-8}
    assert version["proxy_allowed"]
    encoded = version["resource_id"].replace("/", "%2F")
    assert await get(house, f"{mini}/{encoded}") == version
    listed = (await get(house, f"{CATEGORIES}/system.openai/resources?limit=1000"))["items"]
    assert version in listed
    alias = f"{CATEGORIES}/system.openai/resources/gpt-4o-mini-2024-07-18"
    assert (await get(house, alias))["items"][0]["aliased_resource"] == "gpt-4o-mini"
    for method, path in (
        ("POST", mini),
        ("DELETE", mini),
        ("DELETE", f"{mini}/{encoded}"),
        ("DELETE", f"{CATEGORIES}/system.openai"),
        ("POST", f"{CATEGORIES}/system.mine/resources/x"),
    ):
        answer = await house.bench.ask(method, path, {"units": {}}, key=house.key)
        assert answer.status_code == 403, (method, path, answer.text)
    await get(house, f"{CATEGORIES}/system.nobody/resources", 404)
    await get(house, f"{CATEGORIES}/system.openai/resources/none", 404)


async def test_a_long_context_has_a_name_of_its_own(house: House) -> None:
    """Prices beyond a threshold are of `text_large_context`, as Pay-i's clients name it."""
    page = await get(house, f"{CATEGORIES}/system.google.vertex/resources?limit=1000")
    long = [it for it in page["items"] if "large_context_threshold" in it]
    assert long
    assert all("text_large_context" in it["units"] for it in long)


async def test_applications_see_and_price_by_their_own_alone(house: House) -> None:
    """A name that another application has priced is priced by nobody else, nor is it there."""
    await house.ask(PAGES, {"units": UNITS})
    other = "00000000-0000-7000-8000-000000000002"
    admin = local_token(SECRET, NOW_MS // 1000)
    body = {"category": "scans", "resource": "pages", "units": {"page": {"input": 1}}}
    answer = await house.bench.ask("POST", f"/api/v1/ingest?application={other}", body, key=admin)
    assert "cost" not in answer.json()["xproxy_result"]
    for method, path in (("GET", PAGES), ("DELETE", PAGES), ("DELETE", f"{CATEGORIES}/scans")):
        answer = await house.bench.ask(method, f"{path}?application={other}", key=admin)
        assert answer.status_code == 404


@pytest.mark.parametrize(
    ("body", "code", "word"),
    [
        ({}, "required_field_missing", "units"),
        ({"units": {"page": {"input_price": -1}}}, "request_processing_error", "page.input_price"),
        ({"units": {"page": {"output_price": 1e7}}}, "request_processing_error", "output_price"),
        ({"units": {"page": {"input_price": "x"}}}, "request_processing_error", "units"),
        ({"units": {"": {}}}, "request_processing_error", "units"),
        ({"units": {str(n): {} for n in range(65)}}, "request_processing_error", "units"),
        ({"units": {}, "max_input_units": -1}, "request_processing_error", "max_input_units"),
        ({"units": {}, "start_timestamp": "soon"}, "request_processing_error", "start_timestamp"),
        ({"units": {}, "start_timestamp": "1969-01-01"}, "request_processing_error", "start_"),
    ],
)
async def test_what_cannot_be_a_price_is_refused_by_name(
    house: House, body: dict[str, Any], code: str, word: str
) -> None:
    """Nothing of it is kept."""
    status, found, message = await house.refused(PAGES, body)
    assert (status, found) == (400, code)
    assert word in message
    await get(house, PAGES, 404)


async def test_the_first_sdks_price_text_alone(house: House) -> None:
    """`input_price` and `output_price` without units are those of text."""
    made = await house.ask(PAGES, {"input_price": 1, "output_price": 2})
    assert made["units"] == {"text": {"input_price": 1, "output_price": 2}}


async def test_what_an_administrator_has_priced_only_one_changes(house: House) -> None:
    """His versions price proxied calls; a key of the application adds none to them and takes none
    away, alone or with their category, while what it has priced itself stays its own."""
    admin = local_token(SECRET, NOW_MS // 1000)
    mine = await house.ask(PAGES, {"units": UNITS})
    assert mine["proxy_allowed"] is False
    body = {"units": {"page": {"input_price": 2}}}
    theirs = (await house.bench.ask("POST", PAGES, body, key=admin)).json()
    assert theirs["proxy_allowed"] is True
    other = f"{CATEGORIES}/scans/resources/other"
    await house.ask(other, {"units": UNITS})
    for method, path in (
        ("POST", PAGES),
        ("DELETE", PAGES),
        ("DELETE", f"{PAGES}/{theirs['resource_id']}"),
        ("DELETE", f"{CATEGORIES}/scans"),
    ):
        answer = await house.bench.ask(method, path, body, key=house.key)
        assert answer.status_code == 403, (method, path)
        assert "administrator" in answer.json()["message"]
    assert len((await get(house, PAGES))["items"]) == 2
    assert (await house.bench.ask("DELETE", other, key=house.key)).status_code == 200
    gone = await house.bench.ask("DELETE", f"{CATEGORIES}/scans", key=admin)
    assert {it["resource_id"] for it in gone.json()} == {
        mine["resource_id"],
        theirs["resource_id"],
    }
