"""`/keys` and `/applications`: made once, shown once, revoked for good, by admins alone."""

from __future__ import annotations

from typing import Any

import pytest

from metering.core.keys import digest, is_ours
from metering.store import keys
from tests.api.conftest import MINE, NOW_MS, OTHER, Bench

KEYS = "/api/v1/keys"
APPLICATIONS = "/api/v1/applications"


async def make(bench: Bench, **members: Any) -> dict[str, Any]:
    """A key that was created, as answered."""
    response = await bench.ask("POST", KEYS, {"name": "k", **members}, key="admin-key")
    assert response.status_code == 201, response.text
    made: dict[str, Any] = response.json()
    return made


async def test_a_key_is_shown_once(bench: Bench) -> None:
    """The answer that makes a key holds it; no other does, and only its digest is stored."""
    made = await make(bench, role="APP")

    read = await bench.ask("GET", f"{KEYS}/{made['key_id']}", key="admin-key")
    listed = await bench.ask("GET", KEYS, key="admin-key")

    stored = await keys.by_digest(bench.services.store, digest(b"pepper", made["key"]), NOW_MS)
    assert is_ours(made["key"])
    assert made["key"].startswith("sk-xproxy-app-")
    assert stored is not None
    assert stored.key_id == made["key_id"]
    for response in (read, listed):
        assert made["key"] not in response.text
        assert made["last4"] == made["key"][-4:]
        assert '"key":' not in response.text


@pytest.mark.parametrize(
    ("members", "application_id"),
    [
        ({}, MINE),
        ({"role": "read"}, MINE),
        ({"application_id": OTHER}, OTHER),
        ({"role": "admin"}, None),
        ({"role": "admin", "application_id": OTHER}, OTHER),
    ],
)
async def test_whose_a_key_is(
    bench: Bench, members: dict[str, Any], application_id: str | None
) -> None:
    """A key belongs to the named application or the acting one; an admin's may have none."""
    assert (await make(bench, **members)).get("application_id") == application_id


async def test_everything_a_key_has(bench: Bench) -> None:
    """Permissions, limits and expiry are kept, each once."""
    await bench.limit()

    made = await make(
        bench,
        permissions=["price_as", "price_as", "credential:my-openai"],
        limit_ids=["l", "l"],
        expires_at="2100-01-01T00:00:00Z",
        unknown="ignored",
    )

    assert made["permissions"] == ["price_as", "credential:my-openai"]
    assert made["limit_ids"] == ["l"]
    assert made["expires_at"] == "2100-01-01T00:00:00Z"
    assert made["blocked"] is False


@pytest.mark.parametrize(
    ("members", "status", "words"),
    [
        ({"name": None}, 400, "name"),
        ({"name": " "}, 400, "name"),
        ({"role": "owner"}, 400, "role must be"),
        ({"role": "none"}, 400, "role must be"),
        ({"permissions": ["fly"]}, 400, "'fly'"),
        ({"permissions": "price_as"}, 400, "permissions"),
        ({"limit_ids": ["nope"]}, 400, "'nope'"),
        ({"limit_ids": ["a\x00"]}, 400, "not found"),
        ({"limit_ids": [str(n) for n in range(33)]}, 400, "32"),
        ({"expires_at": "2001-01-01"}, 400, "past"),
        ({"expires_at": NOW_MS // 1000 - 1}, 400, "past"),
        ({"expires_at": "soon"}, 400, "expires_at"),
        ({"application_id": "00000000-0000-7000-8000-00000000000f"}, 404, "not found"),
        ({"application_id": "what\x00"}, 404, "not found"),
    ],
)
async def test_bad_keys(bench: Bench, members: dict[str, Any], status: int, words: str) -> None:
    """What a key cannot be is refused by name, and no key is made."""
    response = await bench.ask("POST", KEYS, {"name": "k", **members}, key="admin-key")

    assert response.status_code == status, response.text
    assert words in response.json()["message"]
    assert (await bench.ask("GET", KEYS, key="admin-key")).json()["items"] == []


async def test_revoke(bench: Bench) -> None:
    """A revoked key is gone, the directories are told by its digest, and again is a 404."""
    made = await make(bench)
    path = f"{KEYS}/{made['key_id']}"

    revoked = await bench.ask("DELETE", path, key="admin-key")
    again = await bench.ask("DELETE", path, key="admin-key")

    assert revoked.status_code == 200
    assert made["key_id"] in revoked.json()["message"]
    assert bench.directory.told[-1] == topic(made["key"])
    assert again.status_code == 404
    assert again.json()["xproxy_error"]["code"] == "key_not_found"


async def test_keys_of_one_application(bench: Bench) -> None:
    """An admin lists all keys, or those of the application he names by id or name."""
    await make(bench, name="mine")
    await make(bench, name="others", application_id=OTHER)

    found = {}
    for query in ("", f"?application={OTHER}", "?application=other", f"?application={MINE}"):
        items = (await bench.ask("GET", KEYS + query, key="admin-key")).json()["items"]
        found[query] = {item["name"] for item in items}

    assert found[""] == {"mine", "others"}
    assert found[f"?application={OTHER}"] == found["?application=other"] == {"others"}
    assert found[f"?application={MINE}"] == {"mine"}


async def test_a_key_is_changed(bench: Bench) -> None:
    """What a body names changes, null takes away, the rest stays; the workers are told."""
    await bench.limit()
    made = await make(bench, team="search", expires_at="2100-01-01")
    path = f"{KEYS}/{made['key_id']}"
    body = {
        "name": "new",
        "permissions": ["credential:*", "manage_credentials"],
        "limit_ids": ["l"],
        "user_id": "alice",
        "customer": "acme",
        "expires_at": None,
        "blocked": True,
        "unknown": "ignored",
    }
    changed = (await bench.ask("PATCH", path, body, key="admin-key")).json()
    nothing = (await bench.ask("PATCH", path, {}, key="admin-key")).json()
    less = (
        await bench.ask("PATCH", path, {"team": None, "limit_ids": None}, key="admin-key")
    ).json()

    assert changed | body == changed | {"expires_at": None, "unknown": "ignored"}
    assert changed["team"] == "search"
    assert "expires_at" not in changed
    assert {**nothing, "request_id": 0} == {**changed, "request_id": 0}
    assert "team" not in less
    assert less["limit_ids"] == []
    assert less["user_id"] == "alice"
    assert bench.directory.told[-3:] == [topic(made["key"])] * 3


async def test_models_aliases_and_tags_of_a_key(bench: Bench) -> None:
    """Given, changed and taken away; each once, and within bounds."""
    made = await make(bench, models=["gpt-4o", "gpt-4o"], aliases={"a": "b"}, tags=["t", "u"])
    assert (made["models"], made["aliases"], made["tags"]) == (["gpt-4o"], {"a": "b"}, ["t", "u"])
    path, new = f"{KEYS}/{made['key_id']}", {"models": ["o3"], "aliases": None, "tags": []}
    changed = await bench.ask("PATCH", path, new, key="admin-key")
    read = (await bench.ask("GET", path, key="admin-key")).json()
    assert (read["models"], read.get("aliases"), read.get("tags")) == (["o3"], None, None)
    assert changed.json()["models"] == ["o3"]
    for body in (
        {"models": ["a" * 257]},
        {"models": [str(number) for number in range(1_001)]},
        {"models": ["*" * 5]},
        {"aliases": {str(number): "b" for number in range(101)}},
        {"aliases": {"a": ""}},
        {"tags": [str(number) for number in range(65)]},
    ):
        refused = await bench.ask("PATCH", path, body, key="admin-key")
        assert refused.status_code == 400, body
        assert next(iter(body)) in refused.json()["message"]


async def test_rate_limits_of_a_key(bench: Bench) -> None:
    """Each is set, changed and taken away by itself; all of them by null."""
    made = await make(bench, rate_limits={"requests_per_minute": 60, "parallel": 0})
    path = f"{KEYS}/{made['key_id']}"
    assert made["rate_limits"] == {"requests_per_minute": 60, "parallel": 0}
    for asked, expected in (
        ({"tokens_per_minute": 10**6}, [60, 10**6, 0]),
        ({"requests_per_minute": 30, "parallel": None}, [30, 10**6, None]),
        ({}, [30, 10**6, None]),
        ({"requests_per_minute": None, "tokens_per_minute": None}, None),
        ({"parallel": 5}, [None, None, 5]),
        (None, None),
    ):
        body = {"rate_limits": asked}
        changed = (await bench.ask("PATCH", path, body, key="admin-key")).json()
        names = ("requests_per_minute", "tokens_per_minute", "parallel")
        found = changed.get("rate_limits")
        assert (found and [found.get(name) for name in names]) == expected
        read = (await bench.ask("GET", path, key="admin-key")).json()
        assert read.get("rate_limits") == found


def topic(key: str) -> str:
    """What workers are told of a key."""
    return "key:" + digest(b"pepper", key).hex()


@pytest.mark.parametrize(
    ("members", "field", "words"),
    [
        ({"permissions": ["fly"]}, "permissions", "credential:*"),
        ({"permissions": ["credential:"]}, "permissions", "manage_credentials"),
        ({"permissions": ["credential:a b"]}, "permissions", "'credential:a b'"),
        ({"limit_ids": ["nope"]}, "limit_ids", "'nope'"),
        ({"expires_at": "2001-01-01"}, "expires_at", "past"),
        ({"name": ""}, "name", "1 to 256"),
        ({"name": None}, "name", ""),
        ({"user_id": " alice"}, "user_id", "space"),
        ({"user_id": ""}, "user_id", "1 to 256"),
        ({"team": "a\x00"}, "team", "control"),
        ({"customer": "c" * 257}, "customer", "256"),
        ({"rate_limits": {"parallel": -1}}, "rate_limits.parallel", "null for none"),
        (
            {"rate_limits": {"tokens_per_minute": 10**12 + 1}},
            "rate_limits.tokens_per_minute",
            "0 to",
        ),
        ({"rate_limits": {"requests_per_minute": 1.5}}, "rate_limits.requests_per_minute", "int"),
        ({"rate_limits": {"rpm": 1}}, "rate_limits", "rpm"),
        ({"blocked": "yes"}, "blocked", ""),
    ],
)
async def test_bad_changes(bench: Bench, members: dict[str, Any], field: str, words: str) -> None:
    """What a key cannot be is refused by the field's name, when it is made too; nothing changes."""
    made = await make(bench)
    path = f"{KEYS}/{made['key_id']}"
    changed = await bench.ask("PATCH", path, members, key="admin-key")
    refused = [changed]
    if field != "blocked":
        body = {"name": "k", **members}
        refused.append(await bench.ask("POST", KEYS, body, key="admin-key"))

    for response in refused:
        assert response.status_code == 400, response.text
        assert field in response.json()["message"]
        assert words in response.json()["message"]
    after = (await bench.ask("GET", path, key="admin-key")).json()
    told = {"key": made["key"], "request_id": made["request_id"]}
    assert after | told == made


async def test_rotation(bench: Bench) -> None:
    """The same key has another secret, shown once; the one before is good for a while."""
    made = await make(bench)
    path = f"{KEYS}/{made['key_id']}"
    rotated = (await bench.ask("POST", f"{path}/rotate", key="admin-key")).json()
    read = await bench.ask("GET", path, key="admin-key")
    told = list(bench.directory.told)
    again = (await bench.ask("POST", f"{path}/rotate", {"grace_period": 0}, key="admin-key")).json()

    store = bench.services.store
    found = [
        await keys.by_digest(store, digest(b"pepper", it["key"]), NOW_MS)
        for it in (made, rotated, again)
    ]
    assert len({it["key"] for it in (made, rotated, again)}) == 3
    assert {it["key_id"] for it in (made, rotated, again)} == {made["key_id"]}
    assert rotated["last4"] == rotated["key"][-4:]
    assert rotated["previous_ends_at"].startswith("2026-09-22")
    assert "previous_ends_at" not in again
    assert rotated["key"] not in read.text
    assert told[-1] == topic(made["key"])
    assert set(bench.directory.told[-2:]) == {topic(made["key"]), topic(rotated["key"])}
    assert [it is not None for it in found] == [False, False, True]


@pytest.mark.parametrize("grace", ["soon", "-1", -1, "1.5h", "31d", "24 h", "", "9" * 11])
async def test_bad_grace_periods(bench: Bench, grace: object) -> None:
    """Seconds, or a span of at most 30 days; else nothing is rotated."""
    made = await make(bench)
    path = f"{KEYS}/{made['key_id']}/rotate"
    response = await bench.ask("POST", path, {"grace_period": grace}, key="admin-key")

    assert response.status_code == 400
    assert "grace_period" in response.json()["message"]
    hashed = digest(b"pepper", made["key"])
    assert await keys.by_digest(bench.services.store, hashed, NOW_MS) is not None


async def test_what_is_shown_of_a_key(bench: Bench) -> None:
    """Its beginning, which all of a role have in common, its last four characters, and its use."""
    made = await make(bench)
    await keys.note_use(bench.services.store, {made["key_id"]: (NOW_MS, "192.0.2.1")})
    [listed] = (await bench.ask("GET", KEYS, key="admin-key")).json()["items"]

    assert listed["prefix"] == "sk-xproxy-app"
    assert made["key"].startswith(listed["prefix"])
    assert listed["last_used_at"].startswith("2026-09-21T")
    assert listed["last_used_from"] == "192.0.2.1"


@pytest.mark.parametrize("key_id", ["nope", "%2F", "0198c1f2-0000-7000-8000-000000000000"])
async def test_no_such_key(bench: Bench, key_id: str) -> None:
    """An id of nothing is a 404."""
    for method, path in (("GET", ""), ("PATCH", ""), ("POST", "/rotate"), ("DELETE", "")):
        response = await bench.ask(method, f"{KEYS}/{key_id}{path}", key="admin-key")

        assert response.status_code == 404
        assert response.json()["xproxy_error"]["code"] == "key_not_found"


@pytest.mark.parametrize("key", ["app-key", "read-key", "bound-key"])
@pytest.mark.parametrize("path", [KEYS, APPLICATIONS, f"{KEYS}/x", f"{APPLICATIONS}/x"])
async def test_only_admins(bench: Bench, key: str, path: str) -> None:
    """Keys and applications are an admin's business."""
    response = await bench.ask("GET", path, key=key)

    assert response.status_code == 403
    assert response.json()["xproxy_error"]["code"] == "not_allowed"


async def test_an_application_is_changed(bench: Bench) -> None:
    """Its name, and whether repeated calls are made once; what is not named stays."""
    path = f"{APPLICATIONS}/{MINE}"
    changed = await bench.ask("PATCH", path, {"idempotency": True}, key="admin-key")
    assert (changed.json()["name"], changed.json()["idempotency"]) == ("mine", True)
    assert bench.directory.told == ["*"]
    changed = await bench.ask("PATCH", path, {"name": "ours"}, key="admin-key")
    read = await bench.ask("GET", path, key="admin-key")
    assert (read.json()["name"], read.json()["idempotency"]) == ("ours", True)
    taken = await bench.ask("PATCH", path, {"name": "other"}, key="admin-key")
    assert taken.status_code == 409
    for body in ({"name": " "}, {"idempotency": "yes"}):
        refused = await bench.ask("PATCH", path, body, key="admin-key")
        assert refused.status_code == 400
        assert next(iter(body)) in refused.json()["message"]
    unknown = await bench.ask("PATCH", f"{APPLICATIONS}/{path}", {}, key="admin-key")
    assert unknown.status_code == 404


async def test_life_of_an_application(bench: Bench) -> None:
    """An application is made, found, listed newest first, and deleted with its keys and limits."""
    made = await bench.ask("POST", APPLICATIONS, {"name": "shop"}, key="admin-key")
    application_id = made.json()["application_id"]
    await make(bench, application_id=application_id)
    limit = {"limit_name": "l", "limit_id": "l", "max": 1}
    headers = {"xProxy-Application": application_id}
    await bench.ask("POST", "/api/v1/limits", limit, key="admin-key", headers=headers)

    listed = await bench.ask("GET", APPLICATIONS, key="admin-key")
    deleted = await bench.ask("DELETE", f"{APPLICATIONS}/{application_id}", key="admin-key")
    read = await bench.ask("GET", f"{APPLICATIONS}/{application_id}", key="admin-key")

    assert made.status_code == 201
    assert listed.json()["items"][0]["name"] == "shop"
    assert deleted.status_code == 200, deleted.text
    assert read.status_code == 404
    assert read.json()["xproxy_error"]["code"] == "application_not_found"
    assert (application_id, "l") not in bench.ledger.counters
    assert bench.directory.told[-1] == "*"
    assert (await bench.ask("GET", KEYS, key="admin-key")).json()["items"] == []


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "", {"name": "other"}, 409),
        ("POST", "", {"name": ""}, 400),
        ("POST", "", {}, 400),
        ("DELETE", f"/{MINE}", None, 409),
        ("DELETE", "/nope", None, 404),
        ("GET", f"/{OTHER}", None, 200),
        ("GET", "?limit=1&cursor=x", None, 200),
    ],
)
async def test_applications(
    bench: Bench, method: str, path: str, body: object, status: int
) -> None:
    """Names are unique, and the application a key acts for is not deleted under it."""
    response = await bench.ask(method, APPLICATIONS + path, body, key="admin-key")

    assert response.status_code == status, response.text
