"""`/credentials` and `/secret`, on the real directory: secrets come in, and none ever comes out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import httpx
import msgspec
import pytest

from metering import api
from metering.api.services import Services
from metering.core.keys import local_token
from metering.directory import Directory
from metering.redis import Redis
from metering.settings import Settings
from metering.store import audit, credentials
from metering.store.audit import Asked
from metering.upstream import Resolver, Upstream
from tests.api.conftest import MASTER, MINE, NOW_MS, OTHER, Bench

URL = "/api/v1/credentials"
SECRET, ANOTHER = "sk-proj-canary-of-the-first-Ab12", "sk-proj-canary-of-the-second-Cd34"
ADMIN = local_token(MASTER.encode(), NOW_MS // 1000)
ORIGIN = "https://gateway.example.com/v1"
MAIN = {"slug": "main", "provider": "openai", "secret": SECRET}
Answer = Callable[[httpx.Request], httpx.Response]


class Provider:
    """What the probe calls."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []
        self.answer: Answer = lambda _: httpx.Response(200, json={"data": [SECRET]})

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return self.answer(request)


class Managed:
    """The control plane, and every answer it gave."""

    def __init__(self, bench: Bench, provider: Provider, directory: Directory) -> None:
        self.bench = bench
        self.provider = provider
        self.directory = directory
        self.answers: list[str] = []

    async def ask(
        self, method: str, path: str, body: object = None, key: str = ADMIN, **headers: str
    ) -> httpx.Response:
        """A request."""
        response = await self.bench.ask(method, URL + path, body, key=key, headers=headers)
        self.answers.append(response.text)
        return response

    async def made(self, **members: Any) -> dict[str, Any]:
        """A credential that was stored, as answered."""
        response = await self.ask("POST", "", MAIN | members)
        assert response.status_code == 201, response.text
        made: dict[str, Any] = response.json()
        return made

    async def key(self, *permissions: str, role: str = "app", application: str = MINE) -> str:
        """A key of an application's."""
        body = {"name": "k", "role": role, "permissions": permissions}
        body["application_id"] = application
        answer = await self.bench.ask("POST", "/api/v1/keys", body, key=ADMIN)
        key: str = answer.json()["key"]
        return key

    async def secret(self, slug: str = "main", application_id: str = MINE) -> str | None:
        """What calls would be served with."""
        found = await self.directory.credential(application_id, slug)
        return found.revealed() if found and found.secret else None


@pytest.fixture
async def managed(services: Services, redis_url: str) -> AsyncIterator[Managed]:
    """The control plane on a real directory; no answer has had a secret in it, in the end."""
    redis, provider = Redis(redis_url, 5_000), Provider()
    directory = Directory(
        services.store,
        redis,
        pepper=services.pepper,
        keyring=services.vault.keyring,
        admin_key=None,
        default_application=MINE,
        clock_ms=lambda: NOW_MS,
    )
    settings = Settings(openai_base_url="https://openai.test/v1")

    async def look_up(host: str) -> list[str]:
        return ["127.0.0.1" if host.startswith("private") else "93.184.215.14"]

    upstream = Upstream(httpx.MockTransport(provider))
    probe = api.Probe(settings, upstream, Resolver(lookup=look_up))
    bench = Bench(replace(services, settings=settings, directory=directory, probe=probe))
    async with bench.http:
        managed = Managed(bench, provider, directory)
        yield managed
    await redis.close()
    for answer in managed.answers:
        assert "canary" not in answer


async def test_a_secret_goes_in_and_never_comes_out(managed: Managed) -> None:
    """Made, read, listed, changed: its last characters are all that is said of it."""
    made = await managed.made(name="Main", is_default=True)
    read = (await managed.ask("GET", "/main")).json()
    [listed] = (await managed.ask("GET", "")).json()["items"]
    for its in (made, read, listed):
        assert its | {"request_id": ""} == made | {"request_id": ""}
    assert made | {"credential_id": "", "request_id": ""} == {
        "request_id": "",
        "credential_id": "",
        "application_id": MINE,
        "slug": "main",
        "name": "Main",
        "provider": "openai",
        "is_default": True,
        "state": "ready",
        "last4": "Ab12",
        "secret_set_at": made["created_at"],
        "created_at": made["created_at"],
        "created_by": "operator",
        "updated_at": made["created_at"],
    }
    assert await managed.secret() == SECRET
    assert "name" in made
    assert (await managed.made(slug="plain"))["name"] == "plain"
    assert (await managed.made(slug="short", secret="12345678"))["last4"] == ""


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"slug": "Main"}, "slug"),
        ({"slug": ""}, "slug"),
        ({"slug": "a/b"}, "slug"),
        ({"slug": "env-openai"}, "slug"),
        ({"slug": "env-mine"}, "slug"),
        ({"provider": "azure"}, "provider"),
        ({"provider": "OpenAI"}, "provider"),
        ({"name": "a\x00"}, "name"),
        ({"secret": "short"}, "secret"),
        ({"secret": "canary with a space"}, "secret"),
        ({"secret": "canary-with-a-break\r\nX: y"}, "secret"),
        ({"secret": "canary-in-Kyrillisch-ключ"}, "secret"),
        ({"secret": "c" * 4097}, "secret"),
        ({"secret": "sk-xproxy-app-canary"}, "secret"),
        ({"secret": None}, "secret"),
        ({"secret": ["canary"]}, "secret"),
        ({"origin": "gateway.example.com"}, "origin"),
        ({"origin": "http://gateway.example.com"}, "origin"),
        ({"origin": "https://127.0.0.1"}, "origin"),
        ({"origin": "https://localhost/v1"}, "origin"),
        ({"origin": "https://user:canary@gateway.example.com"}, "origin"),
        ({"origin": "https://gateway.example.com:8443"}, "origin"),
        ({"origin": "https://gateway.example.com/?a=b"}, "origin"),
        ({"provider": "azure.openai"}, "origin"),
        ({"provider": "azure.anthropic", "origin": None}, "origin"),
        ({"is_default": "yes"}, "is_default"),
    ],
)
async def test_bad_input_is_refused_by_name(
    managed: Managed, members: dict[str, Any], field: str
) -> None:
    """400, and the message names the member; nothing is stored, and nothing secret is repeated."""
    answer = await managed.ask("POST", "", MAIN | members)
    assert answer.status_code == 400, answer.text
    assert field in answer.json()["message"]
    assert "xProxy-Provider-BaseUri" not in answer.text
    assert (await managed.ask("GET", "")).json()["items"] == []


async def test_a_slug_is_taken_once(managed: Managed) -> None:
    """409; the one that is there stays."""
    await managed.made()
    assert (await managed.ask("POST", "", MAIN | {"secret": ANOTHER})).status_code == 409
    assert await managed.secret() == SECRET


async def test_one_default_takes_the_place_of_another(managed: Managed) -> None:
    """In the same change; its application's calls know at once."""
    await managed.made(slug="a", is_default=True)
    assert (await managed.directory.default_credential(MINE, "openai")).slug == "a"  # type: ignore[union-attr]
    await managed.made(slug="b", is_default=True)
    assert (await managed.directory.default_credential(MINE, "openai")).slug == "b"  # type: ignore[union-attr]
    items = (await managed.ask("GET", "")).json()["items"]
    assert {it["slug"]: it["is_default"] for it in items} == {"a": False, "b": True}
    await managed.ask("PATCH", "/b", {"is_default": False})
    assert await managed.directory.default_credential(MINE, "openai") is None


async def test_another_origin_voids_the_secret(managed: Managed) -> None:
    """It was given for the one it had: the new one needs it again, in the request or after it."""
    await managed.made()
    answer = (await managed.ask("PATCH", "/main", {"origin": ORIGIN})).json()
    assert (answer["state"], answer["origin"]) == ("needs_secret", ORIGIN)
    assert "last4" not in answer
    assert await managed.secret() is None
    sealed = await credentials.sealed(managed.bench.services.store, MINE, "main")
    assert sealed is not None
    assert sealed.sealed is None
    answer = (await managed.ask("PATCH", "/main", {"secret": ANOTHER})).json()
    assert (answer["state"], answer["last4"]) == ("ready", "Cd34")
    assert await managed.secret() == ANOTHER
    same = (await managed.ask("PATCH", "/main", {"origin": ORIGIN + "/"})).json()
    assert same["state"] == "ready"
    both = {"origin": None, "secret": SECRET}
    answer = (await managed.ask("PATCH", "/main", both)).json()
    assert "origin" not in answer
    assert await managed.secret() == SECRET
    answer = (await managed.ask("PATCH", "/main", {"origin": f"{ORIGIN}/other"})).json()
    assert answer["state"] == "needs_secret"
    answer = (await managed.ask("PATCH", "/main", {"origin": None})).json()
    assert answer["state"] == "needs_secret"


async def test_what_is_absent_stays(managed: Managed) -> None:
    """A change of one thing is a change of nothing else; an empty one is none."""
    made = await managed.made(origin=ORIGIN, is_default=True)
    for body, member in (({}, {}), ({"name": "n"}, {"name": "n"}), ({"blocked": True}, {})):
        answer = (await managed.ask("PATCH", "/main", body)).json()
        kept = {"origin", "is_default", "last4", "credential_id", "created_at", "secret_set_at"}
        assert {it: answer[it] for it in kept} == {it: made[it] for it in kept}
        assert answer | member == answer
    assert answer["state"] == "blocked"
    assert (await managed.ask("PATCH", "/main", {"blocked": False})).json()["state"] == "ready"


async def test_rotation_keeps_the_slug(managed: Managed) -> None:
    """Calls get the new secret at once; the old one is stored no more."""
    made = await managed.made()
    assert await managed.secret() == SECRET
    answer = (await managed.ask("POST", "/main/rotate", {"secret": ANOTHER})).json()
    assert (answer["slug"], answer["last4"]) == ("main", "Cd34")
    assert answer["secret_set_at"] > made["secret_set_at"]
    assert await managed.secret() == ANOTHER
    assert (await managed.ask("POST", "/main/rotate", {})).status_code == 400
    assert (await managed.ask("POST", "/other/rotate", {"secret": ANOTHER})).status_code == 404


async def test_deleted_is_gone(managed: Managed) -> None:
    """For calls and for answers; again is a 404, and the slug is free."""
    await managed.made()
    assert await managed.secret() == SECRET
    assert (await managed.ask("DELETE", "/main")).status_code == 200
    assert await managed.secret() is None
    for method, path in (("DELETE", ""), ("GET", ""), ("PATCH", ""), ("POST", "/test")):
        answer = await managed.ask(method, "/main" + path, {} if method != "GET" else None)
        assert answer.json()["xproxy_error"]["code"] == "credential_not_found"
    await managed.made(secret=ANOTHER)
    assert await managed.secret() == ANOTHER


CHANGES: tuple[tuple[str, str, dict[str, Any] | None], ...] = (
    ("POST", "", MAIN | {"slug": "more"}),
    ("PATCH", "/main", {"name": "n"}),
    ("POST", "/main/rotate", {"secret": ANOTHER}),
    ("POST", "/main/test", {}),
    ("DELETE", "/main", None),
)


async def test_who_may_do_what(managed: Managed) -> None:
    """Every key sees its application's; an admin changes them, and who has the permission."""
    await managed.made()
    plain, reader = await managed.key("credential:main"), await managed.key(role="read")
    for key in (plain, reader):
        assert len((await managed.ask("GET", "", key=key)).json()["items"]) == 1
        assert (await managed.ask("GET", "/main", key=key)).status_code == 200
        for method, path, body in CHANGES:
            assert (await managed.ask(method, path, body, key=key)).status_code == 403
    manager = await managed.key("manage_credentials")
    for method, path, body in CHANGES:
        answer = await managed.ask(method, path, body, key=manager)
        assert answer.status_code in (200, 201), answer.text
    made = (await managed.ask("GET", "/more", key=manager)).json()
    assert made["created_by"] != "operator"


async def test_another_applications_do_not_exist(managed: Managed) -> None:
    """Not by its slug, not in a listing, not for a manager of one's own; an admin names whose."""
    await managed.made()
    theirs = await managed.key("manage_credentials", application=OTHER)
    assert (await managed.ask("GET", "", key=theirs)).json()["items"] == []
    for method, path, body in (("GET", "/main", None), *CHANGES[1:]):
        assert (await managed.ask(method, path, body, key=theirs)).status_code == 404
    made = await managed.ask("POST", "", MAIN | {"secret": ANOTHER}, key=theirs)
    assert made.json()["application_id"] == OTHER
    assert (await managed.secret(), await managed.secret("main", OTHER)) == (SECRET, ANOTHER)
    everybodys = (await managed.ask("GET", "")).json()["items"]
    assert {it["application_id"] for it in everybodys} == {MINE, OTHER}
    named = {"xProxy-Application": OTHER}
    assert (await managed.ask("DELETE", "/main", **named)).status_code == 200
    assert await managed.secret() == SECRET


@pytest.mark.parametrize(
    ("members", "url", "header", "value"),
    [
        ({}, "https://openai.test/v1/models", "authorization", f"Bearer {SECRET}"),
        ({"origin": ORIGIN}, ORIGIN + "/models", "authorization", f"Bearer {SECRET}"),
        (
            {"provider": "anthropic"},
            "https://api.anthropic.com/v1/models",
            "x-api-key",
            SECRET,
        ),
        (
            {"provider": "azure.openai", "origin": "https://eu.openai.azure.com"},
            "https://eu.openai.azure.com/openai/v1/models",
            "api-key",
            SECRET,
        ),
        (
            {"provider": "azure.openai", "origin": "https://eu.openai.azure.com/openai"},
            "https://eu.openai.azure.com/openai/v1/models",
            "api-key",
            SECRET,
        ),
        (
            {"provider": "azure.anthropic", "origin": "https://eu.services.ai.azure.com/anthropic"},
            "https://eu.services.ai.azure.com/anthropic/v1/models",
            "x-api-key",
            SECRET,
        ),
    ],
)
async def test_a_try_asks_where_calls_would_go(
    managed: Managed, members: dict[str, Any], url: str, header: str, value: str
) -> None:
    """One GET that costs nothing, with the secret in its provider's slot; Anthropic's version."""
    await managed.made(**members)
    answer = (await managed.ask("POST", "/main/test")).json()
    assert (answer["outcome"], answer["status"], answer["slug"]) == ("accepted", 200, "main")
    assert answer["latency_ms"] >= 0
    [request] = managed.provider.requests
    assert (request.method, str(request.url), request.headers[header]) == ("GET", url, value)
    assert ("anthropic-version" in request.headers) == ("anthropic" in members.get("provider", ""))


def fails(_: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused")


def silent(_: httpx.Request) -> httpx.Response:
    raise httpx.ReadTimeout("silent")


@pytest.mark.parametrize(
    ("answered", "outcome"),
    [
        (httpx.Response(200), "accepted"),
        (httpx.Response(401, text=SECRET), "refused"),
        (httpx.Response(403, headers={"x-note": SECRET}), "refused"),
        (httpx.Response(404), "unclear"),
        (httpx.Response(302, headers={"location": "https://evil.example.com"}), "unclear"),
        (httpx.Response(500), "unclear"),
        (fails, "unreachable"),
        (silent, "unreachable"),
    ],
)
async def test_what_comes_of_a_try(
    managed: Managed, answered: httpx.Response | Answer, outcome: str
) -> None:
    """The status, and nothing else that the provider says; redirects are answers."""
    await managed.made()
    managed.provider.answer = answered if callable(answered) else lambda _: answered
    answer = await managed.ask("POST", "/main/test")
    assert answer.status_code == 200
    assert answer.json()["outcome"] == outcome
    assert len(managed.provider.requests) == 1
    if isinstance(answered, httpx.Response):
        assert answer.json()["status"] == answered.status_code
    else:
        assert "status" not in answer.json()


async def test_a_try_goes_to_public_addresses_alone(managed: Managed) -> None:
    """A name that means this machine is not called, and the answer says so."""
    await managed.made(origin="https://private.example.com")
    answer = (await managed.ask("POST", "/main/test")).json()
    assert answer["outcome"] == "unreachable"
    assert "origin: the host 'private.example.com' has an address" in answer["reason"]
    assert managed.provider.requests == []


async def test_a_voided_one_is_not_tried(managed: Managed) -> None:
    """There is nothing to show."""
    await managed.made()
    await managed.ask("PATCH", "/main", {"origin": ORIGIN})
    assert (await managed.ask("POST", "/main/test")).status_code == 409


async def test_the_record_says_who_and_not_what(managed: Managed) -> None:
    """Created, voided, rotated, deleted: with the key that did it, without a secret."""
    manager = await managed.key("manage_credentials")
    for method, path, body in (
        ("POST", "", MAIN),
        ("PATCH", "/main", {"origin": ORIGIN}),
        ("POST", "/main/rotate", {"secret": ANOTHER}),
        ("DELETE", "/main", None),
    ):
        await managed.ask(method, path, body, key=manager)
    store = managed.bench.services.store
    found = (await audit.page(store, Asked(object="credential"))).items
    assert [it.action for it in reversed(found)] == ["created", "updated", "updated", "deleted"]
    assert {it.object_id for it in found} == {"main"}
    assert len({it.actor.key_id for it in found}) == 1
    assert {it.actor.role for it in found} == {"app"}
    assert "canary" not in msgspec.json.encode(found).decode()


# The master secret


async def test_the_master_secret_is_an_admins_business(managed: Managed) -> None:
    """Who has every other permission may neither look nor rotate."""
    key = await managed.key("manage_credentials", "credential:*")
    for method, path in (("GET", "/secret"), ("POST", "/secret/rotate")):
        answer = await managed.bench.ask(method, "/api/v1" + path, key=key)
        assert answer.status_code == 403


async def test_what_it_wraps_and_that_there_must_be_a_next_one(managed: Managed) -> None:
    """Ids alone; the operator's own is rotated to one that he sets, and the answer says how."""
    await managed.made()
    [held] = managed.bench.services.vault.keyring.masters
    shown = await managed.bench.ask("GET", "/api/v1/secret", key=ADMIN)
    assert shown.json()["held"] == [held.id]
    assert shown.json()["wrapped"] == {held.id: 3}
    answer = await managed.bench.ask("POST", "/api/v1/secret/rotate", key=ADMIN)
    assert answer.status_code == 409
    assert "XPROXY_MASTER_SECRET_PREVIOUS" in answer.json()["message"]
    for text in (shown.text, answer.text):
        assert MASTER not in text
