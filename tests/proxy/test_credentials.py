"""Stored credentials on the way: which serves a call, who may use it, and where alone it goes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from metering.core.sealing import Master
from metering.errors import StoreAway
from metering.store import Store, attachments, credentials, limits
from metering.store.credentials import Change, CredentialRow
from metering.surfaces import PAYI
from tests.builders import APPLICATION, NOW_MS, limit
from tests.proxy.rig import (
    ASK,
    CHAT,
    MESSAGES,
    Answer,
    Client,
    Rig,
    answer,
    completion,
)

AZURE = "/api/v1/proxy/azure.openai/openai/deployments/dep/chat/completions?api-version=2024-10-21"
FOUNDRY = "/api/v1/proxy/azure.anthropic/v1/messages"
MESSAGE = {"model": "claude-haiku-4-5", "max_tokens": 9, "messages": []}
HEADER = "xProxy-Credential"
BASE_URI = "xProxy-Provider-BaseUri"
HOST, ORIGIN = "gateway.example.com", "https://gateway.example.com/v1"
MAIN, TEAM = "sk-main-0123456789", "sk-team-0123456789"
ENV = "sk-stored-openai"
OWN = {"authorization": "Bearer sk-callers-own"}


@pytest.fixture(autouse=True)
async def stored(store: Store) -> AsyncIterator[None]:
    """There are no credentials but a test's own."""
    yield
    async with store.connection() as connection:
        await connection.execute("DELETE FROM credentials")


async def call(
    rig: Rig,
    headers: dict[str, str] | None = None,
    path: str = CHAT,
    answered: Answer | None = None,
) -> Client:
    """A call that brings no key of the provider's; one public host is known."""
    rig.names.setdefault(HOST, ["93.184.215.14"])
    rig.answer = answered or answer(completion())
    body = MESSAGE if path in (MESSAGES, FOUNDRY) else ASK
    return await rig.call(Client(path, body, headers=(headers or {}).items()))


def served_by(rig: Rig) -> str:
    """The secret that the provider got with the only call, which is forgotten."""
    [request] = rig.requests
    rig.requests.clear()
    assert not [name for name in request.headers if name.startswith("xproxy")]
    names = ("authorization", "x-api-key", "api-key")
    [value] = [request.headers[name] for name in names if name in request.headers]
    return value.removeprefix("Bearer ")


def refusal(client: Client) -> tuple[int | None, str]:
    """Status and code of a fault."""
    return client.status, client.json["xproxy_error"]["code"]


async def test_which_one_serves_a_call(rig: Rig) -> None:
    """The one it names, else the application's default, else the operator's; whatever stands in
    the slot where it names one, else the caller's own."""
    await rig.credential("team", TEAM)
    await call(rig)
    assert served_by(rig) == ENV
    await rig.credential("main", MAIN, is_default=True)
    for headers, secret in (
        ({}, MAIN),
        ({HEADER: "team"}, TEAM),
        ({HEADER: "main"}, MAIN),
        ({HEADER: "env-openai"}, ENV),
        (OWN, "sk-callers-own"),
        (OWN | {HEADER: "team"}, TEAM),
        ({"x-api-key": "sk-callers-own", HEADER: "team"}, TEAM),
    ):
        client = await call(rig, headers)
        assert client.status == 200, client.body
        assert served_by(rig) == secret


async def test_the_default_of_another_provider_serves_nothing(rig: Rig) -> None:
    """Each provider has its own; the other one is the operator's still."""
    await rig.credential("main", MAIN, is_default=True)
    await call(rig, path=MESSAGES)
    assert served_by(rig) == "sk-ant-stored"


async def test_without_any_it_says_what_to_do(make_rig: Callable[..., Rig]) -> None:
    """401 that names the command."""
    client = await call(make_rig(openai_api_key=None))
    assert refusal(client) == (401, "provider_key_missing")
    assert "xproxy credentials create main --provider openai --default" in client.json["message"]


@pytest.mark.parametrize(
    ("permissions", "headers", "served"),
    [
        ((), {}, MAIN),
        ((), {HEADER: "team"}, TEAM),
        ((), OWN, "sk-callers-own"),
        (("credential:team",), {HEADER: "team"}, TEAM),
        (("credential:team",), {HEADER: "main"}, "credential_not_permitted"),
        (("credential:team",), {HEADER: "nothing"}, "credential_not_permitted"),
        (("credential:team",), {HEADER: "env-openai"}, "credential_not_permitted"),
        (("credential:team",), {}, "credential_not_permitted"),
        (("credential:team",), OWN, "not_allowed"),
        (("credential:team",), OWN | {HEADER: "team"}, TEAM),
        (("credential:env-openai",), {}, ENV),
        (("credential:*",), {}, MAIN),
        (("credential:*",), {HEADER: "team"}, TEAM),
        (("credential:*",), OWN, "not_allowed"),
        (("own_credential",), OWN, "sk-callers-own"),
        (("own_credential",), {}, "credential_not_permitted"),
        (("own_credential", "credential:main"), {}, MAIN),
        (("own_credential", "credential:main"), OWN, "sk-callers-own"),
    ],
)
async def test_who_may_use_which(
    rig: Rig, permissions: tuple[str, ...], headers: dict[str, str], served: str
) -> None:
    """By the key's permissions; a refusal reaches no provider, and does not say what there is."""
    await rig.credential("main", MAIN, is_default=True)
    await rig.credential("team", TEAM)
    client = await call(rig, {"xproxy-api-key": await rig.key(*permissions)} | headers)
    if client.status == 200:
        assert served_by(rig) == served
    else:
        assert refusal(client) == (403, served)
        assert not rig.requests


async def test_another_applications_does_not_exist(rig: Rig) -> None:
    """Nor one that was never made: 400 that names the header and the command."""
    client = await call(rig, {HEADER: "theirs"})
    assert refusal(client) == (400, "unknown_credential")
    assert HEADER in client.json["message"]
    assert "xproxy credentials create theirs --provider openai" in client.json["message"]


async def test_what_cannot_serve_is_refused(rig: Rig) -> None:
    """Of another provider, blocked, or voided: no other one steps in, the operator's included."""
    await rig.credential("claude", MAIN, provider="anthropic")
    assert refusal(await call(rig, {HEADER: "claude"})) == (403, "credential_of_another_provider")
    named = {HEADER: "env-anthropic"}
    assert refusal(await call(rig, named)) == (403, "credential_of_another_provider")
    row = await rig.credential("main", MAIN, is_default=True)
    for members, code in (
        ({"blocked": True}, "credential_blocked"),
        ({"last4": None, "secret_ms": None}, "credential_needs_secret"),
    ):
        await change(rig, row, **members)
        for headers in ({}, {HEADER: "main"}):
            assert refusal(await call(rig, headers)) == (403, code)
    assert not rig.requests


async def change(rig: Rig, row: CredentialRow, **members: Any) -> None:
    """Change a credential, and say so."""
    values = {name: getattr(row, name) for name in row.__struct_fields__}
    after = CredentialRow(**(values | members))
    await credentials.change(rig.store, APPLICATION, row.slug, lambda _: Change(after))
    await rig.tell(row.slug)


async def test_changes_are_known_at_once(rig: Rig) -> None:
    """Blocked, unblocked, no default any more, deleted: with the next call."""
    row = await rig.credential("main", MAIN, is_default=True)
    await call(rig)
    assert served_by(rig) == MAIN
    await change(rig, row, blocked=True)
    assert (await call(rig)).status == 403
    await change(rig, row, is_default=False)
    await call(rig)
    assert served_by(rig) == ENV
    await credentials.delete(rig.store, APPLICATION, "main")
    await rig.tell("main")
    assert refusal(await call(rig, {HEADER: "main"})) == (400, "unknown_credential")


async def test_once_known_nothing_is_asked(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls after the first find key, default and secret in memory."""
    await rig.credential("main", MAIN, is_default=True)
    headers = {"xproxy-api-key": await rig.key()}
    await call(rig, headers)

    async def away(*_: object) -> None:
        raise StoreAway

    for name in ("row", "rows", "value"):
        monkeypatch.setattr(rig.store, name, away)
    assert (await call(rig, headers)).status == 200
    rig.requests.clear()
    await call(rig, headers | {HEADER: "main"})
    assert served_by(rig) == MAIN


# Where it goes


@pytest.mark.parametrize(
    ("origin", "base_uri", "url"),
    [
        (None, None, "https://openai.test/v1/chat/completions"),
        (None, "https://openai.test/v1", "https://openai.test/v1/chat/completions"),
        (ORIGIN, None, ORIGIN + "/chat/completions"),
        (ORIGIN, ORIGIN, ORIGIN + "/chat/completions"),
        (ORIGIN, f"https://{HOST}", ORIGIN + "/chat/completions"),
        (ORIGIN, f"https://{HOST}:443/other", f"https://{HOST}/other/chat/completions"),
        ("https://openai.test/v1", None, "https://openai.test/v1/chat/completions"),
    ],
)
async def test_it_goes_to_its_origin(
    rig: Rig, origin: str | None, base_uri: str | None, url: str
) -> None:
    """Its own, or the operator's base URL; a caller without any permission may say the same."""
    await rig.credential("main", MAIN, origin=origin, is_default=True)
    headers = {"xproxy-api-key": await rig.key()} | ({BASE_URI: base_uri} if base_uri else {})
    client = await call(rig, headers)
    assert client.status == 200, client.body
    assert str(rig.requests[0].url) == url
    bound = origin == ORIGIN
    assert rig.requests[0].extensions["addresses"] == (("93.184.215.14",) if bound else None)
    assert (await rig.row(client)).provider_host == (HOST if bound else None)
    assert served_by(rig) == MAIN


@pytest.mark.parametrize("origin", [None, ORIGIN])
@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize(
    "base_uri",
    [
        "https://evil.example.com",
        "https://evil.example.com/v1",
        f"https://{HOST}:8443/v1",
        f"http://{HOST}/v1",
        f"https://{HOST}.evil.example.com/v1",
        f"https://evil.{HOST}/v1",
        f"https://api.{HOST}",
    ],
)
async def test_it_goes_nowhere_else(
    make_rig: Callable[..., Rig], origin: str | None, base_uri: str, *, named: bool
) -> None:
    """Whoever asks, an admin too: refused by the header's name, before anything is looked up."""
    rig = make_rig(allow_private_origins="on")
    await rig.credential("main", MAIN, origin=origin, is_default=True)
    client = await call(rig, {BASE_URI: base_uri} | ({HEADER: "main"} if named else {}))
    code = "provider_key_missing" if origin is None else "credential_of_another_origin"
    assert refusal(client) == (401 if origin is None else 400, code)
    assert BASE_URI in client.json["message"]
    assert not rig.requests
    assert not rig.looked_up


@pytest.mark.parametrize(
    ("settings", "origin", "words"),
    [
        ({}, "http://gateway.example.com", "https://"),
        ({}, "https://localhost", "private"),
        ({}, "https://10.0.0.1", "not public"),
        ({"provider_origins": "other.example.com"}, ORIGIN, "XPROXY_PROVIDER_ORIGINS"),
    ],
)
async def test_rules_hold_when_it_is_used(
    make_rig: Callable[..., Rig], settings: dict[str, str], origin: str, words: str
) -> None:
    """An origin that was fine when it was stored is judged by what the operator allows today."""
    rig = make_rig(**settings)
    await rig.credential("main", MAIN, origin=origin)
    client = await call(rig, {HEADER: "main"})
    assert client.status == 400
    assert words in client.json["message"]
    assert not rig.requests


async def test_an_origins_name_must_be_public(rig: Rig) -> None:
    """A name that has come to mean this machine is not called."""
    rig.names[HOST] = ["127.0.0.1"]
    await rig.credential("main", MAIN, origin=ORIGIN)
    assert refusal(await call(rig, {HEADER: "main"})) == (400, "invalid_provider_host")
    assert not rig.requests


@pytest.mark.parametrize(
    ("provider", "path", "slot"),
    [("azure.openai", AZURE, "api-key"), ("azure.anthropic", FOUNDRY, "x-api-key")],
)
async def test_azures_keys_are_stored_with_their_resource(
    rig: Rig, provider: str, path: str, slot: str
) -> None:
    """The origin says where the resource is, so that the call need not; its slot is Azure's."""
    await rig.credential("eu", MAIN, provider=provider, origin=f"https://{HOST}")
    client = await call(rig, {HEADER: "eu", "xProxy-PriceAs-Resource": "claude-haiku-4-5"}, path)
    assert client.status in (200, 502), client.body  # an answer of another form is not understood
    [request] = rig.requests
    assert request.url.host == HOST
    assert request.headers[slot] == MAIN
    assert "authorization" not in request.headers


# What is shown


async def test_nothing_of_it_is_shown(rig: Rig) -> None:
    """A provider that repeats it, in its body or its headers, repeats it to nobody."""
    await rig.credential("main", "no-format-anyone-knows-4711", is_default=True)
    body = b'{"error":{"message":"Incorrect API key provided: no-format-anyone-knows-4711"}}'
    theirs = {"openai_organization": "org-123", "x_note": "no-format-anyone-knows-4711"}
    client = await call(rig, answered=answer(body, 401, **theirs))
    assert client.status == 401
    assert b"no-format" not in client.received
    assert b"org-123" not in client.received


async def test_the_call_says_what_served_it(rig: Rig) -> None:
    """Its slug: for its row, and for what is attached to it."""
    await rig.credential("main", MAIN)
    for headers, slug in (({}, "env-openai"), ({HEADER: "main"}, "main"), (OWN, None)):
        client = Client(CHAT, ASK, headers=headers.items())
        exchange = client.head()
        client.rest()
        heard = await rig.flow._planner.hear(
            exchange, request_id="r", now_ms=1_790_000_000_000, started_s=0.0
        )
        planned = await rig.flow._planner.plan(heard)
        assert planned.row.credential == slug


async def test_limits_of_a_credential_bind_the_calls_it_serves(rig: Rig) -> None:
    """Whatever their headers say; others are not bound."""
    await rig.credential("main", MAIN)
    await limits.create(rig.store, limit("of-main", application_id=APPLICATION))
    bound = attachments.Attachment(
        kind="credential", name="main", limit_id="of-main", attached_ms=NOW_MS
    )
    await attachments.attach(rig.store, APPLICATION, bound)
    for headers, charged in (({HEADER: "main"}, ["of-main"]), ({}, [])):
        _, charges = await rig.record(await call(rig, headers))
        assert [charge.limit_id for charge in charges] == charged
    await limits.delete(rig.store, APPLICATION, "of-main")


# What cannot be opened


async def test_what_was_altered_is_not_used(rig: Rig) -> None:
    """A row whose origin a hand has changed opens nowhere: 503, and the log says which."""
    await rig.credential("main", MAIN, origin=ORIGIN)
    async with rig.store.connection() as connection:
        await connection.execute("UPDATE credentials SET origin = 'https://evil.example.com'")
    client = await call(rig, {HEADER: "main"})
    assert refusal(client) == (503, "credential_not_opened")
    assert "xproxy credentials rotate main" in client.json["message"]
    assert not rig.requests


async def test_what_was_copied_is_not_used(rig: Rig) -> None:
    """The secret of one row in the place of another's."""
    await rig.credential("main", MAIN)
    await rig.credential("team", TEAM)
    async with rig.store.connection() as connection:
        await connection.execute(
            "UPDATE credentials SET (sealed, row_key) ="
            " (SELECT sealed, row_key FROM credentials WHERE slug = 'team') WHERE slug = 'main'"
        )
    assert refusal(await call(rig, {HEADER: "main"})) == (503, "credential_not_opened")


async def test_what_a_worker_cannot_open_yet_is_what_it_was(rig: Rig) -> None:
    """Wrapped by a master secret that this worker does not have: it goes on with what it knows,
    but for what it never knew, or what goes somewhere else now."""
    row = await rig.credential("main", MAIN)
    await call(rig, {HEADER: "main"})
    assert served_by(rig) == MAIN
    other = Master("another-master-secret-of-forty-characters")
    async with rig.store.connection() as connection:
        await connection.execute("UPDATE credentials SET wrapped_by = $1", other.id)
    rig.directory._names._doubt()
    await call(rig, {HEADER: "main"})
    assert served_by(rig) == MAIN
    rig.directory._names._doubt()
    await change(rig, row, blocked=True)
    assert refusal(await call(rig, {HEADER: "main"})) == (503, "credential_not_opened")
    await rig.credential("new", TEAM, by="another-master-secret-of-forty-characters")
    assert refusal(await call(rig, {HEADER: "new"})) == (503, "credential_not_opened")


async def test_only_the_latest_secret_stays_with_remembered_headers(rig: Rig) -> None:
    """What a call's headers become is remembered without the secrets that served it before."""
    row = await rig.credential("main", MAIN, is_default=True)
    await call(rig)
    await credentials.delete(rig.store, APPLICATION, row.slug)
    await rig.credential("main", TEAM, is_default=True)
    await call(rig)
    said = rig.flow._planner._callers._readers[PAYI]._remembered
    remembered = [its._passed for its in said.values() if its._passed]
    assert TEAM in str(remembered)
    assert MAIN not in str(remembered)
