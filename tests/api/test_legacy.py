"""What the first SDKs called things: their own types read the answers."""

from __future__ import annotations

from typing import Any

from metering.core.money import PICO_PER_USD
from tests.api.conftest import Bench
from tests.api.test_usage import land, row

BUDGETS, LIMITS = "/api/v1/budgets", "/api/v1/limits"
BUDGET = {
    *("base_cost_estimate", "budget_creation_timestamp", "budget_id", "budget_name"),
    *("budget_response_type", "budget_update_timestamp", "currency", "max", "totals"),
}
"""What 0.1.0a30's `Budget` requires."""


async def asked(bench: Bench, method: str, path: str, body: object = None) -> Any:
    """The body of an answer that is a success."""
    answer = await bench.ask(method, path, body)
    assert answer.status_code in (200, 201), answer.text
    return answer.json()


async def test_the_life_of_a_budget(bench: Bench) -> None:
    """Created (it blocks, other than a limit), read, listed, changed, reset and deleted."""
    body = {
        "budget_name": "team",
        "max": 5,
        "base_cost_estimate": "max",
        "budget_tags": ["a", "b"],
        "currency": "usd",
    }
    made = (await asked(bench, "POST", BUDGETS, body))["budget"]
    assert made.keys() >= BUDGET
    assert (made["budget_response_type"], made["budget_tags"]) == ("block", ["a", "b"])
    path = f"{BUDGETS}/{made['budget_id']}"
    again = (await asked(bench, "POST", BUDGETS, body))["budget"]
    assert again == made
    bench.spend(made["budget_id"], settled=PICO_PER_USD, counts={"ok": 1})
    read = await asked(bench, "GET", path)
    assert read["budget"]["totals"] == read["limit"]["totals"]
    [item] = (await asked(bench, "GET", BUDGETS))["items"]
    assert item.keys() >= BUDGET | {"spent", "remaining", "limit_id"}
    changed = await asked(bench, "PUT", path, {"max": 7, "budget_name": "other"})
    assert (changed["budget"]["max"], changed["budget"]["budget_name"]) == (7, "other")
    reset = (await asked(bench, "POST", f"{path}/reset"))["budget_history"]
    assert reset["totals"]["cost"]["total"]["base"] == 1
    assert (await asked(bench, "DELETE", path))["request_id"]
    assert (await bench.ask("GET", path)).status_code == 404


async def test_budgets_are_listed_by_number(bench: Bench) -> None:
    """0.1.0a30 asks for a page by its number, of a name or with one of some tags, and reads how
    many pages there are."""
    for number, tags in enumerate((["a"], ["a", "b"], ["b"], [], ["ab"])):
        body = {"budget_name": f"n{number}", "max": 1, "budget_tags": tags}
        await asked(bench, "POST", BUDGETS, body)

    async def page(query: str) -> tuple[list[str], dict[str, Any]]:
        found = await asked(bench, "GET", f"{BUDGETS}?{query}")
        return [it["budget_name"] for it in found.pop("items")], found

    names, about = await page("page_number=2&page_size=2&sort_ascending=true&sort_by=budget_name")
    assert names == ["n2", "n3"]
    assert {name: it for name, it in about.items() if name not in ("request_id", "as_of")} == {
        "currentPage": 2,
        "pageSize": 2,
        "totalCount": 5,
        "totalPages": 3,
        "hasNextPage": True,
        "hasPreviousPage": True,
    }
    names, about = await page("page_number=3&page_size=2&sort_ascending=true")
    assert (names, about["hasNextPage"]) == (["n4"], False)
    assert (await page("page_size=3"))[0] == ["n4", "n3", "n2"]
    names, about = await page("page_number=9&page_size=2")
    assert (names, about["totalCount"]) == ([], 5)
    assert (await page("budget_name=n1"))[0] == ["n1"]
    assert (await page("tags=a&sort_ascending=true"))[0] == ["n0", "n1"]
    assert (await page("tags=a,b"))[0] == ["n2", "n1", "n0"]
    assert (await page("page_number=0&page_size=0"))[1]["currentPage"] == 1


async def test_results_are_asked_for_by_either_id(bench: Bench) -> None:
    """0.1.0a38 to a104 call it a request id: the provider's in the category, or ours."""
    recorded = row(1)
    await land(bench, [recorded])
    for which in ("chatcmpl-1", recorded.request_id):
        found = await asked(bench, "GET", f"/api/v1/requests/result/system.openai/{which}")
        assert found["xproxy_result"]["request_id"] == recorded.request_id
    for unknown in ("none", "00000000-0000-7000-8000-0000000000ff"):
        answer = await bench.ask("GET", f"/api/v1/requests/result/system.openai/{unknown}")
        assert (answer.status_code, answer.json()["statusCode"]) == (404, 404)


async def test_tags_of_limits(bench: Bench) -> None:
    """Added, replaced, removed, cleared: of limits and, the same ones, of budgets."""
    limit_id = (await bench.limit(properties={"kept": "x"}))["limit_id"]
    tags, budgets = f"{LIMITS}/{limit_id}/tags", f"{BUDGETS}/{limit_id}/tags"

    async def names(method: str, path: str, *given: str, member: str = "limit_tags") -> list[str]:
        body = {member: list(given)} if given else None
        found = await asked(bench, method, path, body)
        assert [it["tag_id"] for it in found] == list(range(1, len(found) + 1))
        return [it["tag_name"] for it in found]

    assert await names("GET", tags) == []
    assert await names("POST", tags, "a", "b", "a") == ["a", "b"]
    assert await names("POST", budgets, "c", member="budget_tags") == ["a", "b", "c"]
    assert await names("PATCH", f"{tags}/remove", "b", "none") == ["a", "c"]
    assert await names("GET", budgets) == ["a", "c"]
    assert await names("PUT", tags, "d") == ["d"]
    assert await names("DELETE", tags) == []
    limit = (await asked(bench, "GET", f"{LIMITS}/{limit_id}"))["limit"]
    assert limit["properties"] == {"kept": "x"}
    for bad in (["a,b"], [""], [str(n) for n in range(65)]):
        answer = await bench.ask("PUT", tags, {"limit_tags": bad})
        assert answer.status_code == 400
        assert "limit_tags" in answer.text


async def test_properties_of_calls_were_posted(bench: Bench) -> None:
    """0.1.0a100 sends a POST where later ones PUT."""
    recorded = row(1)
    await land(bench, [recorded])
    path = f"/api/v1/requests/{recorded.request_id}/properties"
    answer = await bench.ask("POST", path, {"properties": {"a": "b"}})
    assert (answer.status_code, answer.json()) == (200, {"request_id": recorded.request_id})


async def test_a_key_with_spaces_is_a_key(bench: Bench) -> None:
    """`My API Key`, as the SDK's own tests send it, in either header."""
    spaced = "My API Key"
    bench.directory.callers[spaced] = bench.directory.callers["app-key"]
    for headers in ({"xProxy-api-key": spaced}, {"Authorization": spaced}):
        assert (await bench.ask("GET", LIMITS, key=None, headers=headers)).status_code == 200
