"""`/attachments`: what limits bind, whatever headers say; an admin's business."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.conftest import MINE, Bench

ATTACHMENTS = "/api/v1/attachments"
LIMITS = "/api/v1/limits"


async def attach(bench: Bench, path: str, key: str = "admin-key") -> Any:
    """What attaching answers."""
    return await bench.ask("PUT", f"{ATTACHMENTS}/{path}", key=key)


async def listed(bench: Bench, query: str = "", key: str = "app-key") -> list[tuple[str, str, str]]:
    """The attachments."""
    items = (await bench.ask("GET", ATTACHMENTS + query, key=key)).json()["items"]
    return [(it["kind"], it["name"], it["limit_id"]) for it in items]


async def test_attach_and_detach(bench: Bench) -> None:
    """Attaching twice is once, names are percent-encoded, and the workers are told each time."""
    await bench.limit()
    made = await attach(bench, "user/alice/l")
    again = await attach(bench, "user/alice/l")
    await attach(bench, "customer/a%2Fb%20%C3%A9/l")

    assert (made.status_code, again.status_code) == (200, 200)
    assert made.json()["limit_id"] == "l"
    assert await listed(bench) == [("customer", "a/b é", "l"), ("user", "alice", "l")]
    assert await listed(bench, "?kind=user") == [("user", "alice", "l")]
    assert await listed(bench, "?name=a/b%20%C3%A9") == [("customer", "a/b é", "l")]
    assert await listed(bench, "?limit_id=x") == []
    assert await listed(bench, "?limit=1") == [("customer", "a/b é", "l")]
    assert await listed(bench, key="other-key") == []
    assert bench.directory.told == [f"limit:{MINE}:l", *[f"attached:{MINE}"] * 3]

    path = f"{ATTACHMENTS}/user/alice/l"
    detached = await bench.ask("DELETE", path, key="admin-key")
    gone = await bench.ask("DELETE", path, key="admin-key")
    assert detached.status_code == 200
    assert gone.status_code == 404
    assert gone.json()["xproxy_error"]["code"] == "attachment_not_found"
    assert bench.directory.told[-1] == f"attached:{MINE}"


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("user/alice/nope", 404, "'nope'"),
        ("robot/alice/l", 400, "kind is 'robot'"),
        ("key/alice/l", 400, "PATCH /keys"),
        ("user/%20alice/l", 400, "name begins"),
        ("user/a%00/l", 400, "control"),
        ("user/" + "a" * 257 + "/l", 400, "256"),
    ],
)
async def test_bad_attachments(bench: Bench, path: str, status: int, words: str) -> None:
    """What cannot be attached is refused by name."""
    await bench.limit()
    response = await attach(bench, path)
    assert response.status_code == status, response.text
    assert words in response.json()["message"]
    assert await listed(bench) == []


async def test_one_name_has_a_bounded_number_of_limits(bench: Bench) -> None:
    """All of them are decided with each of its calls."""
    for number in range(33):
        await bench.limit(limit_id=f"l{number}", limit_name=f"l{number}")
    answers = [await attach(bench, f"team/t/l{number}") for number in range(33)]
    assert [it.status_code for it in answers] == [200] * 32 + [400]
    assert answers[-1].json()["xproxy_error"]["code"] == "too_many_attachments"


@pytest.mark.parametrize("key", ["app-key", "read-key"])
async def test_only_admins_attach(bench: Bench, key: str) -> None:
    """Others see what binds their application."""
    await bench.limit()
    assert (await attach(bench, "user/alice/l", key)).status_code == 403
    response = await bench.ask("DELETE", f"{ATTACHMENTS}/user/alice/l", key=key)
    assert response.status_code == 403
    assert await listed(bench, key=key) == []


@pytest.mark.parametrize("by", ["attachment", "key"])
async def test_what_is_attached_is_not_loosened(bench: Bench, by: str) -> None:
    """Nobody but an admin changes, resets or deletes a limit that an admin has attached."""
    await bench.limit()
    if by == "attachment":
        await attach(bench, "team/search/l")
    else:
        bound = {"name": "k", "limit_ids": ["l"]}
        await bench.ask("POST", "/api/v1/keys", bound, key="admin-key")
    tries: list[tuple[str, str, Any]] = [
        ("PUT", f"{LIMITS}/l", {"max": 100}),
        ("POST", f"{LIMITS}/l/reset", None),
        ("DELETE", f"{LIMITS}/l", None),
    ]
    for method, path, body in tries:
        refused = await bench.ask(method, path, body)
        assert refused.status_code == 403, refused.text
        assert "admin key" in refused.json()["message"]
    for method, path, body in tries:
        assert (await bench.ask(method, path, body, key="admin-key")).status_code == 200


async def test_a_deleted_limit_takes_its_attachments_along(bench: Bench) -> None:
    """All that it bound is told: keys, and whatever else."""
    await bench.limit()
    await attach(bench, "team/search/l")
    body = {"name": "k", "limit_ids": ["l"]}
    made = (await bench.ask("POST", "/api/v1/keys", body, key="admin-key")).json()
    [key_topic] = bench.directory.told[-1:]
    bench.directory.told.clear()
    await bench.ask("DELETE", f"{LIMITS}/l", key="admin-key")

    read = await bench.ask("GET", f"/api/v1/keys/{made['key_id']}", key="admin-key")
    assert read.json()["limit_ids"] == []
    assert await listed(bench) == []
    assert bench.directory.told == [
        "prices",
        key_topic,
        f"attached:{MINE}",
        f"limit:{MINE}:l",
    ]
