"""What happens to a service with canaries in it: calls of every kind, faults of everybody's.

`PHASES` lists it in order. Whatever is sent carries canaries, secrets in headers and queries and
prompts in bodies; so does whatever a provider says.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar
from zlib import crc32

import httpx
from redis import Redis

from metering.children import residents
from metering.core.credentials import HEADER
from metering.core.keys import _base62
from metering.core.record import encode_row
from metering.redis import share
from tests.acceptance import canaries
from tests.acceptance.canaries import Canary, Hunt
from tests.acceptance.canary_paths import (
    BAD_BODIES,
    BAD_HEADERS,
    ERRORS,
    FAULTS,
    METERED,
    ONE_OF_EACH,
    OUR_SLOTS,
    OWN_SLOTS,
    PATHS,
    PROVIDERS_OWN,
    STANDIN,
    TO_ANTHROPIC,
    TO_OPENAI,
    UNIFIED_SLOTS,
    Endpoint,
    Slot,
    filled,
    written,
)
from tests.acceptance.canary_routes import Everywhere, body_of, parameters, query_of, routes
from tests.acceptance.rude import Rude
from tests.acceptance.tenant import CHAT, Tenant, new_tenant
from tests.builders import APPLICATION, row
from tests.chaos.rig import children, signal_all, until
from tests.standin.process import Standin
from tests.standin.service import Service

T = TypeVar("T")
WITH_A_KEY = ("/api/v1/keys", "/key/generate", "/key/regenerate", "/key/{key}", "/user/new")
SETTINGS = {
    "XPROXY_FAILED_LOGINS_MAX": "0",
    "XPROXY_ALLOW_PRIVATE_ORIGINS": "on",
    "XPROXY_PROVIDER_IDLE_S": "2",
    "XPROXY_DRAIN_S": "1",
    "XPROXY_SHUTDOWN_S": "5",
    "XPROXY_BODY_BYTES_MAX": "40000",
    "XPROXY_JSON_BYTES_MAX": "20000",
    "XPROXY_HOLD_TTL_MS": "2000",
    "XPROXY_HEARTBEAT_MS": "300",
    "XPROXY_REAP_MS": "200",
}
STORED = {"openai": "StoredOpenai", "anthropic": "StoredAnthropic"}
"""The names of the provider keys the service was started with."""
SLUG = {"openai": "kept", "anthropic": "kept-claude"}
"""The credentials that the tenant has stored."""
OWN_SLOT = OWN_SLOTS[0]
FREE_SLOT = Slot("None", {})
LIMITED = {"xProxy-Limit-IDs": "team,soft"}
PATIENCE_S = 10


class Traffic:
    """A service with canaries in it, and what was seen of them."""

    def __init__(self, folder: Path, *, full: bool) -> None:
        """`full`: everything happens to every endpoint; else some of it to each."""
        self.full = full
        self.hunt = Hunt()
        self.callers = self.hunt.add("callers")
        """What callers and providers say: nothing of it may be kept."""
        self.operator = self.hunt.add("operator")
        """What the operator set."""
        self.planted = self.hunt.add("planted")
        """What is stored by design."""
        self.spoilt = self.hunt.add("spoilt")
        """What a hand put into a store, and no code of ours can read."""
        self.sealed = self.hunt.add("credentials")
        """The secrets of stored credentials."""
        self.standin = Standin(folder / "ledger.jsonl", wire=folder / "wire.jsonl")
        self.stored = {
            "openai": "sk-" + self.operator(STORED["openai"]),
            "anthropic": self.operator(STORED["anthropic"]),  # in no format that anyone knows
        }
        settings = {f"{name.upper()}_API_KEY": key for name, key in self.stored.items()}
        self.standin.start()
        self.service = Service(folder / "data", self.standin.url, **SETTINGS, **settings)
        self.service.admin_key = self.operator("AdminKeyOfTheOperator")
        self.service.environment["XPROXY_ADMIN_KEY"] = self.service.admin_key
        self.scripted = True
        """Whether the stand-in runs, and can be told what to say."""
        self.answers: list[tuple[str, bytes]] = []
        """(what was asked, the answer as far as it came), of all but what makes a key."""
        self.statuses: set[int | None] = set()
        self.tenant: Tenant

    def begin(self) -> None:
        """Start it; keys it makes are canaries from then on."""
        self.service.start()
        self.tenant = new_tenant(self.service, permissions=["base_uri"])
        self.tenant.limit("team", "1000")
        self.tenant.limit("soft", "0.001", "allow")
        self.hunt.add("keys of ours", "sk-xproxy-app-")
        for provider in STORED:
            self.keep(SLUG[provider], "Credential" + provider.title(), provider)
        secret = (self.service.data_dir / "master.secret").read_text().strip()
        self.hunt.add("master secret", secret)

    def keep(self, slug: str, name: str, provider: str, **members: Any) -> None:
        """Store a credential of the tenant's, its secret a canary of this name."""
        body = {"slug": slug, "provider": provider, "secret": self.sealed(name)} | members
        whose = {"application": self.tenant.application_id}
        self.service.manage("POST", "credentials", body, **whose)

    def end(self) -> None:
        """Stop what still runs."""
        signal_all([*self.stores("postgres"), *self.stores("valkey")], signal.SIGCONT)
        self.service.stop()
        self.service.http.close()
        self.standin.stop()

    # Calls

    def call(
        self,
        path: Endpoint,
        slot: Slot = OWN_SLOT,
        told: dict[str, Any] | None = None,
        *,
        headers: Mapping[str, str] = LIMITED,
        key: str | None = None,
        stream: bool = False,
        content: str | None = None,
    ) -> None:
        """One call, with a canary wherever the templates have a place for one.

        `key` is what stands in the slot: by default the caller's own canary of that slot. A header
        without a value is left out.
        """
        texts = self.texts(slot)
        secret = key or texts["own"]
        if told is None and path.answer is not None:
            told = {"events": path.events} if stream else {"body": path.answer}
        if self.scripted:
            self.standin.script(filled(told or {}, **texts))
        sent = (
            {"xProxy-Api-Key": self.tenant.key} | slot.headers | dict(path.headers) | dict(headers)
        )
        data = None if content is None else content.encode()
        if content is None and path.body is not None:
            body = filled(path.body, **texts) | ({"stream": True} if stream else {})
            data, sent["Content-Type"] = written(body)
        self.send(
            path.method,
            path.url + ("?" + slot.with_key(slot.query, secret) if slot.query else ""),
            headers={name: self.placed(slot, it, secret) for name, it in sent.items() if it},
            content=data,
        )

    def placed(self, slot: Slot, template: str, secret: str) -> str:
        """A header's value with all in its place."""
        return slot.with_key(template, secret).replace(
            STANDIN, f"http://localhost:{self.standin.port}"
        )

    def texts(self, slot: Slot) -> dict[str, str]:
        """What stands in the places of templates; as hard to quote as texts come."""
        return {
            "own": self.callers("Own" + slot.name),
            "prompt": f'say "{self.callers("Prompt")}" é\\ </s>\n',
            "answer": f'"{self.callers("Answer")}" ü\t',
        }

    def send(self, method: str, url: str, **request: Any) -> int | None:
        """One request; gives the status of its answer, None where none came."""
        status, heard = None, b""
        try:
            with self.service.http.stream(method, url, **request) as answer:
                status = answer.status_code
                heard = b"\n".join(b": ".join(header) for header in answer.headers.raw)
                for chunk in answer.iter_raw():
                    heard += chunk
        except httpx.TransportError:  # as far as it came
            pass
        self.answers.append((f"{method} {url}: {status}", heard))
        self.statuses.add(status)
        return status

    def raw(self, data: bytes, *, read: int = 65_536) -> None:
        """Bytes on a connection of their own, which is closed after so much of an answer."""
        with socket.create_connection(("127.0.0.1", self.service.port)) as connection:
            connection.sendall(data)
            connection.settimeout(0.5)
            with suppress(TimeoutError, ConnectionResetError):
                self.answers.append(("raw", connection.recv(read) if read else b""))

    def wire(self, body: dict[str, Any], *headers: str, cut: int = 0) -> bytes:
        """A chat as it stands on the wire; `cut` bytes are missing at its end."""
        content = json.dumps(filled(body, **self.texts(OWN_SLOT))).encode()
        lines = [f"POST {CHAT} HTTP/1.1", "Host: x", f"xProxy-Api-Key: {self.tenant.key}"]
        lines += [f"Authorization: Bearer {self.callers('OwnBearer')}", *headers]
        head = "\r\n".join([*lines, f"Content-Length: {len(content)}", "", ""]).encode()
        return (head + content)[: -cut or None]

    def plant(self) -> None:
        """Calls with the planted canary where texts are stored by design, in several forms."""
        text = self.planted("Here")
        for form in (text, text.encode().hex(), base64.b64encode(text.encode()).decode()):
            properties = base64.b64encode(json.dumps({"p": form}).encode()).decode()
            headers = {"xProxy-User-ID": form, "xProxy-Account-Name": form}
            headers |= {"xProxy-Request-Tags": form[:64].rstrip("="), "xProxy-UseCase-Step": form}
            self.call(PATHS[0], headers=headers | {"xProxy-Request-Properties": properties})

    @contextmanager
    def reaching(self, count: int = 1) -> Iterator[None]:
        """What is done in here goes on until so many more calls have reached the provider."""
        before = self.standin.stats()["calls"]
        yield
        until(lambda: self.standin.stats()["calls"] >= before + count, PATIENCE_S, 0.01)

    def hang(self, pool: Executor) -> None:
        """A call that is never answered, and a stream that falls silent."""
        for told in ({"hang": True}, {"hang": 2}):
            with self.reaching():
                pool.submit(self.call, PATHS[0], OWN_SLOT, told, stream=told["hang"] is not True)

    def some(self, number: int, everything: Sequence[T], *, of: int) -> Sequence[T]:
        """What happens to an endpoint of this number; the first ones get it all."""
        return everything if self.full or number < 3 else everything[number % of :: of]

    # The service from outside

    @property
    def urls(self) -> tuple[str, str]:
        """(database URL, Redis URL) of the embedded stores."""
        running = json.loads((self.service.data_dir / "run.json").read_text())
        return running["database_url"], running["redis_url"]

    def stores(self, name: str) -> list[int]:
        """The processes of a store: `postgres` or `valkey`."""
        return residents(self.service.data_dir / name, ("postgres", "valkey-server"))

    def worker(self) -> int:
        """The process that takes calls; 0 where there is none just now."""
        for pid in children(self.service.pid):
            with suppress(OSError):
                if b"worker" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                    return pid
        return 0

    def look_at_files(self, when: str) -> None:
        """Everything on the disk: the data directory, and what the service wrote."""
        self.hunt.look_at_all(canaries.files(self.service.data_dir, f"{when}, file"))
        self.hunt.look("log", self.service.log.read_bytes())

    def look_at_stores(self, when: str) -> None:
        """Everything the stores say."""
        found = [*canaries.rows(self.urls[0]), *canaries.keys(self.urls[1])]
        self.hunt.look_at_all((f"{when}, {place}", data) for place, data in found)


# What happens


def keys_in_every_slot(traffic: Traffic) -> None:
    """The caller's own key, our key, the admin key; streamed where it can be."""
    for at, path in enumerate(PATHS):
        for number, slot in enumerate(traffic.some(at, OWN_SLOTS, of=2)):
            stream = path.events is not None and number % 2 == 0
            logging = {"xProxy-Logging-Disable": ("True", "False")[number % 2]}
            traffic.call(path, slot, stream=stream, headers=logging)
    for path in ONE_OF_EACH:
        for slot in OUR_SLOTS:
            for key in (traffic.tenant.key, traffic.service.admin_key):
                traffic.call(path, slot, key=key, headers={})


def any_provider(traffic: Traffic) -> None:
    """The unified surface: translated or not, a provider's key for it to move, and what makes no
    sense of where it should go; answers that are errors, or none."""
    openais, claudes, *others = UNIFIED_SLOTS
    for slot, paths in ((openais, TO_OPENAI), (claudes, TO_ANTHROPIC)):
        for path in paths:
            traffic.call(path, slot)
            traffic.call(path, slot, stream=True)
            traffic.call(path, slot, filled(ERRORS[0], **traffic.texts(slot)))
            traffic.call(path, slot, {"cut_at_byte": 300}, stream=True)
    for slot in others:
        traffic.call(TO_ANTHROPIC[1], slot)
    for body in BAD_BODIES:
        content = body.replace("<prompt>", traffic.callers("Prompt"))
        traffic.call(TO_ANTHROPIC[1], claudes, content=content)


def providers_at_fault(traffic: Traffic) -> None:
    """Answers of every form and in every state; errors that repeat key and prompt."""
    for at, path in enumerate(METERED):
        for fault in traffic.some(at, FAULTS, of=3):
            traffic.call(path, told=fault)
            if path.events is not None:
                traffic.call(path, told=fault, stream=True)
    for at, path in enumerate(PROVIDERS_OWN):
        stored = traffic.stored[path.route[0]]
        for error in traffic.some(at, ERRORS, of=2):
            traffic.call(path, told=error, headers={})
            traffic.call(path, FREE_SLOT, filled(error, own=stored), headers={})
    with ThreadPoolExecutor(2) as pool:
        traffic.hang(pool)


def callers_at_fault(traffic: Traffic) -> None:
    """Bodies and headers that we refuse, keys that nobody has, bytes that are no HTTP."""
    prompt, secret = traffic.callers("Prompt"), traffic.callers("OwnHeader")
    for path in METERED:
        for body in BAD_BODIES:
            traffic.call(path, content=body.replace("<prompt>", prompt))
    for path in ONE_OF_EACH:
        for name, value in BAD_HEADERS:
            traffic.call(path, headers={name: value.replace("<own>", secret)})
        for refused in refused_keys(traffic.callers):
            traffic.call(path, headers={"xProxy-Api-Key": refused})
            traffic.call(path, FREE_SLOT, headers={"xProxy-Api-Key": "", "x-api-key": refused})
    for data in no_http(traffic, traffic.callers("Refused").encode()):
        traffic.raw(data)


def refused_keys(callers: Canary) -> Iterator[str]:
    """Keys that nobody was given: not ours, malformed, and one that is in perfect order."""
    yield "sk-" + callers("Refused")
    yield "sk-xproxy-app-" + callers("Refused")
    body = "sk-xproxy-app-" + callers("Refused").ljust(43, "0")
    yield body + _base62(crc32(body.encode()), 6)


def no_http(traffic: Traffic, secret: bytes) -> Iterator[bytes]:
    """Requests that break off, contradict themselves, or are none."""
    own = b"Authorization: Bearer " + secret + b"\r\n"
    chat = b"POST " + CHAT.encode() + b" HTTP/1.1\r\n"
    yield secret + b" nonsense\r\n\r\n"
    yield b"GET /" + secret + b"?key=" + secret + b" HTTP/9.9\r\n\r\n"
    yield chat + b"Host: a\r\nHost: b\r\n" + own + b"\r\n"
    yield chat + own + b"\r\n"
    yield chat + b"Host: x\r\n" + own[:-2] + b"\0\r\n\r\n"
    yield b"GET /api/v1/limits HTTP/1.1\r\nHost: x\r\nxProxy-Api-Key: " + secret * 2_000
    yield traffic.wire({"a": "<prompt>"}, "Transfer-Encoding: chunked")
    broken = b"Transfer-Encoding: chunked\r\n\r\nzz" + traffic.callers("Prompt").encode() + b"\r\n"
    yield chat + b"Host: x\r\n" + own + broken


def callers_that_leave(traffic: Traffic) -> None:
    """Before the answer, within it, within their own request; patient or not."""
    body = PATHS[0].body
    for told, stream in (("delay_ms", False), ("delay_ms", True), ("chunk_delay_ms", True)):
        answer = filled({told: 100, "text": "<answer>"}, **traffic.texts(OWN_SLOT))
        traffic.standin.script(answer)
        for patience in ("cancel", "drain"):
            data = traffic.wire(body | {"stream": stream}, f"xProxy-On-Disconnect: {patience}")
            with socket.create_connection(("127.0.0.1", traffic.service.port)) as connection:
                with traffic.reaching():
                    connection.sendall(data)
                if told == "chunk_delay_ms":
                    connection.recv(300)
            traffic.standin.wait_idle()
    for cut in (1, 40, 200):
        traffic.raw(traffic.wire(body, cut=cut), read=0)
    traffic.standin.wait_idle()


def management(traffic: Traffic) -> None:
    """Every route: with keys that nobody has, with input that is refused, and as it is meant."""
    secret, own = traffic.callers("Refused"), traffic.callers("OwnBearer")
    headers = {"Authorization": f"Bearer {own}", "Cookie": secret}
    query = dict.fromkeys(("cursor", "user", "key", "tag", "model", "application", "x"), secret)
    wrong = {name: {secret: [secret]} for name in ("name", "max", "limit_name", "properties")}
    for method, path in routes():
        for key in ("", *refused_keys(traffic.callers)):
            traffic.send(method, path, headers=headers | {"xProxy-Api-Key": key}, json=wrong)
            bearer = {"Authorization": f"Bearer {key or secret}"}
            traffic.send(method, path, headers=bearer, params=query)
        for key in (traffic.tenant.key, traffic.service.admin_key):
            ours, url = headers | {"xProxy-Api-Key": key}, path.format_map(Everywhere(secret))
            traffic.send(method, url, headers=ours, params=query)
            traffic.send(method, url, headers=ours, json=wrong)
            traffic.send(method, url, headers=ours, content=b'{"name": "' + secret.encode())
        as_it_is_meant(traffic, method, path, headers)
    huge = {"name": secret * 60_000}
    admin = {"xProxy-Api-Key": traffic.service.admin_key}
    traffic.send("POST", "/api/v1/applications", headers=admin, json=huge)


def as_it_is_meant(traffic: Traffic, method: str, path: str, headers: dict[str, str]) -> None:
    """A request that succeeds, with canaries in all that does not matter to it."""
    secret = headers["Cookie"]
    sent = headers | {"xProxy-Api-Key": traffic.service.admin_key}
    names = parameters(traffic.tenant, path, traffic.sealed("Fresh"))
    body = body_of(method, path, names, traffic.sealed("Made"))
    ignored = {"api_key": secret, "ignored": {"password": [secret]}}
    query = query_of(path, names)
    query |= {"application": traffic.tenant.application_id, "ignored": secret}
    request: dict[str, Any] = {"headers": sent, "params": query, "json": body and body | ignored}
    url = path.format_map(names)
    if method == "POST" and path.startswith(WITH_A_KEY):  # the answers that have a key in them
        made = traffic.service.http.post(url, **request)
        assert made.json()["key"].startswith("sk-xproxy-app-")
    else:
        status = traffic.send(method, url, **request)
        assert status in (200, 201), f"{method} {url}: {status}"


def reports(traffic: Traffic) -> None:
    """Calls that were made elsewhere, with all that was said in them: kept, not kept, refused, told
    again, corrected, and read."""
    prompt, secret = traffic.callers("Prompt"), traffic.callers("OwnHeader")
    headers = [{"name": it, "value": secret} for it in ("authorization", "cookie", "x-own")]
    call = {
        "category": "system.openai",
        "units": {"text": {"input": 1}},
        "provider_response_id": "reported",
        "provider_uri": f"https://user:{secret}@127.0.0.1/{prompt}?key={secret}",
        "provider_request_headers": headers,
        "provider_request_json": prompt,
        "provider_request_reasoning_json": f"{prompt} {{",
        "provider_response_headers": headers,
        "provider_response_json": [prompt, json.dumps({"text": prompt}) * 1_000],
        "provider_response_function_calls": [{"name": prompt, "arguments": prompt}],
    }
    key = {"xProxy-Api-Key": traffic.service.admin_key}
    whose = {"application": traffic.tenant.application_id}
    many = [call, call | {"provider_response_id": "another"}, call | {"units": prompt}]
    asked: tuple[tuple[str, object], ...] = (
        ("ingest", call),
        ("ingest", call | {"units": prompt}),
        ("ingest", call | {"provider_response_id": prompt * 20}),
        ("ingest/bulk", many),
        ("ingest/bulk-upsert", many),
    )
    for logging in ("True", "False"):
        for path, body in asked:
            sent = key | {"xProxy-Logging-Disable": logging}
            traffic.send("POST", f"/api/v1/{path}", headers=sent, params=whose, json=body)
    for name in ("reported", "another"):
        path = f"/api/v1/requests/provider/system.openai/{name}/bodies"
        assert traffic.send("GET", path, headers=key, params=whose) == 200


def stored_credentials(traffic: Traffic) -> None:
    """They serve calls of every kind; providers repeat them; they are changed, moved, spoilt."""
    secret = (traffic.service.data_dir / "master.secret").read_text().strip()
    traffic.hunt.add("next master secret", secret)
    for path in PROVIDERS_OWN:
        provider = path.route[0]
        named = {HEADER: SLUG[provider]}
        own = traffic.sealed("Credential" + provider.title())
        traffic.call(path, FREE_SLOT, headers=named)
        traffic.call(path, FREE_SLOT, headers=named, stream=path.events is not None)
        for error in ERRORS:
            traffic.call(path, FREE_SLOT, filled(error, own=own), headers=named)
        for header in ({HEADER: "nothing"}, {HEADER: traffic.callers("OwnHeader")}):
            traffic.call(path, FREE_SLOT, headers=header)
    url, admin = "/api/v1/credentials", {"xProxy-Api-Key": traffic.service.admin_key}
    whose = {"application": traffic.tenant.application_id}
    traffic.keep("moved", "Moved", "openai", is_default=False)
    traffic.keep("spoilt", "Moved", "openai")
    for body in bad_credentials(traffic):
        traffic.send("POST", url, headers=admin, params=whose, json=body)
        traffic.send("PATCH", f"{url}/moved", headers=admin, params=whose, json=body)
        traffic.send("POST", f"{url}/moved/rotate", headers=admin, params=whose, json=body)
    for body in ({"origin": "https://gateway.example.com"}, {"secret": traffic.sealed("Moved")}):
        traffic.send("PATCH", f"{url}/moved", headers=admin, params=whose, json=body)
    statement = "UPDATE credentials SET origin = 'https://evil.example' WHERE slug = 'spoilt'"
    canaries.execute(traffic.urls[0], statement)
    for slug in ("moved", "spoilt"):
        traffic.call(PATHS[0], FREE_SLOT, headers={HEADER: slug})
        traffic.send("POST", f"{url}/{slug}/test", headers=admin, params=whose)
    traffic.send("POST", "/api/v1/secret/rotate", headers=admin)
    canaries.execute(traffic.urls[0], "DELETE FROM credentials WHERE slug = 'spoilt'")
    traffic.send("POST", "/api/v1/secret/rotate", headers=admin)
    secret = (traffic.service.data_dir / "master.secret").read_text().strip()
    traffic.hunt.add("last master secret", secret)


def bad_credentials(traffic: Traffic) -> Iterator[dict[str, Any]]:
    """Bodies that are refused, with a secret in them."""
    secret = traffic.sealed("Refused")
    yield {"slug": secret, "provider": "openai", "secret": secret}
    yield {"slug": "x", "provider": secret, "secret": secret}
    yield {"slug": "x", "provider": "openai", "secret": secret + " and more"}
    yield {"slug": "x", "provider": "openai", "secret": [secret]}
    yield {"slug": "x", "provider": "openai", "secret": secret, "origin": "https://localhost:1"}
    yield {"slug": "kept", "provider": "openai", "secret": "sk-xproxy-app-" + secret}
    yield {"slug": "x", "provider": "openai", "secret": secret, "name": "\0"}


def bugs_of_ours(traffic: Traffic) -> None:
    """What no code of ours expects: things in the stores that only a hand can have put there."""
    traffic.tenant.limit("broken")
    canaries.execute(traffic.urls[0], "UPDATE limits SET max = 'NaN' WHERE limit_id = 'broken'")
    for path in METERED:
        traffic.call(path, headers={"xProxy-Limit-IDs": "broken"})
    headers = {"xProxy-Api-Key": traffic.tenant.key, "Cookie": traffic.callers("Refused")}
    for url in ("/api/v1/limits", "/api/v1/budgets", "/api/v1/limits/broken"):
        traffic.send("GET", url, headers=headers, params={"x": traffic.callers("Refused")})
    canaries.execute(traffic.urls[0], "DELETE FROM limits WHERE limit_id = 'broken'")
    charge = f"x|{traffic.spoilt('Epoch')}|usd|0|0|ok;"
    entry: dict[Any, Any] = {"kind": "call", "row": encode_row(row()), "lim": charge}
    with Redis.from_url(traffic.urls[1]) as redis:
        redis.xadd(share(APPLICATION).outbox, entry)
        until(lambda: not redis.xlen(share(APPLICATION).outbox), PATIENCE_S)


def postgres_away(traffic: Traffic) -> None:
    """Rows wait in Redis, where they can be looked at."""
    traffic.call(PATHS[0])  # so that limits and key are known
    signal_all(traffic.stores("postgres"), signal.SIGSTOP)
    try:
        traffic.plant()
        for path in METERED:
            if path.route[0] in SLUG:
                traffic.call(path, FREE_SLOT, headers={HEADER: SLUG[path.route[0]]})
            for slot in (OWN_SLOT, FREE_SLOT):
                traffic.call(path, slot)
                traffic.call(path, slot, stream=path.events is not None, headers={})
        *_, unknown = refused_keys(traffic.callers)
        traffic.call(PATHS[0], headers={"xProxy-Api-Key": unknown})
        waiting = list(canaries.keys(traffic.urls[1]))
        traffic.hunt.look_at_all((f"Postgres away, {place}", data) for place, data in waiting)
    finally:
        signal_all(traffic.stores("postgres"), signal.SIGCONT)


def redis_away(traffic: Traffic) -> None:
    """At settlement and at admission; and the worker dies before it is back."""
    told = {"delay_ms": 500, "text": "<answer>"}
    with ThreadPoolExecutor(len(METERED)) as pool:
        with traffic.reaching(len(METERED)):
            for path in METERED:
                pool.submit(traffic.call, path, OWN_SLOT, told)
        signal_all(traffic.stores("valkey"), signal.SIGSTOP)
    try:
        traffic.plant()
        for path in METERED:
            traffic.call(path)
            traffic.call(path, stream=path.events is not None, headers={})
        headers = {"xProxy-Api-Key": traffic.tenant.key, "Cookie": traffic.callers("Refused")}
        traffic.send("GET", "/api/v1/budgets", headers=headers)
        spool = traffic.service.data_dir / "spool"
        traffic.hunt.look_at_all(canaries.files(spool, "Redis away, spool"))
        os.kill(traffic.worker(), signal.SIGKILL)
    finally:
        signal_all(traffic.stores("valkey"), signal.SIGCONT)
    until(traffic.service.ready, 30)


def provider_away(traffic: Traffic) -> None:
    """Nobody listens; then somebody who speaks no HTTP."""
    traffic.standin.stop()
    traffic.scripted = False
    for path in METERED:
        traffic.call(path)
    answer = traffic.callers("Answer").encode()
    for data in (answer + b"\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n" + answer):
        with Rude(traffic.standin.port, data):
            for path in METERED:
                traffic.call(path)
    traffic.standin.start()
    traffic.scripted = True


def a_worker_dies(traffic: Traffic) -> None:
    """`kill -9` within calls: their holds are left, and expire."""
    with ThreadPoolExecutor(2) as pool:
        traffic.hang(pool)
        os.kill(traffic.worker(), signal.SIGKILL)
    until(traffic.service.ready, 30)


def looks(traffic: Traffic) -> None:
    """Everything there is to see while it runs."""
    traffic.plant()
    traffic.tenant.rows(1)
    traffic.look_at_stores("running")
    traffic.look_at_files("running")
    traffic.hunt.look_at_all(canaries.processes(traffic.service.pid))


def the_end(traffic: Traffic) -> None:
    """SIGTERM within a call, which comes to its end; then what is left on the disk."""
    told = {"chunk_delay_ms": 30, "text": "<answer>"}
    with ThreadPoolExecutor(1) as pool:
        with traffic.reaching():
            pool.submit(traffic.call, PATHS[0], OWN_SLOT, told, stream=True)
        assert traffic.service.stop() == 0
    traffic.look_at_files("stopped")


PHASES = (
    keys_in_every_slot,
    any_provider,
    providers_at_fault,
    callers_at_fault,
    callers_that_leave,
    management,
    reports,
    stored_credentials,
    bugs_of_ours,
    postgres_away,
    redis_away,
    provider_away,
    a_worker_dies,
    looks,
    the_end,
)
