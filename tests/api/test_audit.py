"""`/audit`: who changed what, as the routes that change things leave it."""

from __future__ import annotations

from typing import Any

from metering.core.difference import Difference, Pair
from metering.duties.audit import Report
from tests.api.conftest import MINE, OTHER, Bench

AUDIT = "/api/v1/audit"


async def changes(bench: Bench, query: str = "", key: str = "app-key") -> list[dict[str, Any]]:
    """What is on record, newest first."""
    response = await bench.ask("GET", f"{AUDIT}?{query}", key=key)
    assert response.status_code == 200, response.text
    items: list[dict[str, Any]] = response.json()["items"]
    return items


async def test_a_change_says_who_and_what(bench: Bench) -> None:
    """The key, its role, from where, by which request; of an update what differs, in USD."""
    await bench.limit()
    changed = await bench.ask("PUT", "/api/v1/limits/l", {"max": 2.5})
    latest, first = await changes(bench, "object=limit")
    assert latest["actor"] == {
        "role": "app",
        "key_id": "k-app",
        "address": "127.0.0.1",
        "request_id": changed.headers["xproxy-request-id"],
    }
    assert (latest["action"], latest["object_id"]) == ("updated", "l")
    assert (latest["before"], latest["after"]) == ({"max": 10}, {"max": 2.5})
    assert first["action"] == "created"
    assert "before" not in first
    assert first["after"]["limit_name"] == "l"
    assert first["after"]["max"] == 10


async def test_reading_leaves_nothing(bench: Bench) -> None:
    """Looking at things, and what is refused, changes nothing."""
    await bench.limit()
    before = await changes(bench)
    for path in ("limits", "limits/l", "usage", "budgets"):
        await bench.ask("GET", f"/api/v1/{path}")
    assert (await bench.ask("PUT", "/api/v1/limits/l", {"max": 3}, key="read-key")).is_error
    assert (await bench.ask("PUT", "/api/v1/limits/l", {"max": -3})).is_error
    assert (await bench.ask("DELETE", "/api/v1/limits/other")).is_error
    assert await changes(bench) == before


async def test_everybody_reads_his_own(bench: Bench) -> None:
    """An application's keys see its changes; an admin key that names none sees all."""
    await bench.limit()
    await bench.ask("POST", "/api/v1/limits", {"limit_name": "theirs", "max": 1}, key="other-key")
    for key, owners in (
        ("app-key", {MINE}),
        ("read-key", {MINE}),
        ("other-key", {OTHER}),
        ("admin-key", {MINE, OTHER}),
    ):
        found = await changes(bench, "object=limit", key)
        assert {it["application_id"] for it in found} == owners, key
    assert {
        it["application_id"] for it in await changes(bench, f"application={OTHER}", "admin-key")
    } == {OTHER}


async def test_keys_are_on_record_without_secrets(bench: Bench) -> None:
    """A key that was made and revoked: neither it nor its digest can be read."""
    made = await bench.ask("POST", "/api/v1/keys", {"name": "n"}, key="admin-key")
    key_id = made.json()["key_id"]
    await bench.ask("DELETE", f"/api/v1/keys/{key_id}", key="admin-key")
    response = await bench.ask("GET", f"{AUDIT}?object=key&object_id={key_id}")
    gone, first = response.json()["items"]
    assert (first["action"], gone["action"]) == ("created", "deleted")
    assert first["after"]["digest"] == gone["before"]["digest"] == "secret"
    assert first["actor"]["role"] == "admin"
    assert "key_id" not in first["actor"]
    assert made.json()["key"] not in response.text


async def test_pages_and_questions(bench: Bench) -> None:
    """By kind, thing, key and time, in pages; a cursor of another listing is the first page."""
    await bench.limit()
    for maximum in (11, 12, 13):
        await bench.ask("PUT", "/api/v1/limits/l", {"max": maximum}, key="admin-key")
    page = (await bench.ask("GET", f"{AUDIT}?object=limit&limit=3")).json()
    assert [it["after"]["max"] for it in page["items"]] == [13, 12, 11]
    rest = await changes(bench, f"object=limit&cursor={page['cursor']}")
    assert [it["action"] for it in rest] == ["created"]
    assert len(await changes(bench, "object=limit&cursor=other")) == 4
    assert len(await changes(bench, "object=limit&key=k-app")) == 1
    assert len(await changes(bench, "object=limit&object_id=m")) == 0
    assert len(await changes(bench, "object=limit&to=2020-01-01")) == 0
    assert len(await changes(bench, "object=limit&from=2020-01-01")) == 4


async def test_times_that_are_none_are_refused(bench: Bench) -> None:
    """The parameter at fault is named."""
    response = await bench.ask("GET", f"{AUDIT}?from=yesterday")
    assert response.status_code == 400
    assert "from" in response.text


async def test_repairs_are_on_record(bench: Bench) -> None:
    """An admin audits the books; what was repaired is told in USD, and is on record."""
    difference = Difference(
        kind="hold",
        application_id=MINE,
        about="team",
        unit="usd",
        numbers={"held_likely": Pair(1, 0), "holds": Pair(1, 0)},
        cause="why",
        repair="how",
    )
    bench.auditor.report = Report(differences=[difference], applications=2)
    looked = await bench.ask("POST", f"{AUDIT}/check", key="admin-key")
    done = await bench.ask("POST", f"{AUDIT}/check", {"repair": True}, key="admin-key")
    assert looked.json()["repaired"] == done.json()["differences"] == []
    assert looked.json()["differences"] == done.json()["repaired"]
    assert b'"held_likely":{"found":1E-12,"expected":0}' in done.content
    assert b'"holds":{"found":1,"expected":0}' in done.content
    [entry] = await changes(bench, "object=books")
    assert (entry["action"], entry["object_id"], entry["actor"]["role"]) == (
        "repaired",
        MINE,
        "admin",
    )
    assert entry["after"]["differences"][0]["numbers"]["holds"] == [1, 0]
    for key in ("app-key", "read-key"):
        assert (await bench.ask("POST", f"{AUDIT}/check", key=key)).status_code == 403
