"""Canary secrets and canary prompts through every path; afterwards they are nowhere but where they
belong: a caller's key upstream, in the slot it stood in; what an operator set, in his environment.

One run of a service of its own, then one test a question. What is stored by design is no secret:
models, paths, provider ids, users, accounts, use cases, tags and properties. The canary `planted`
stands in those, to prove that the search finds what is there.
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, cast
from urllib.parse import quote

import pytest
from redis import Redis

from metering.embedded import Stores
from metering.providers import DIALECTS
from metering.providers.compatible import Compatible
from metering.providers.dialect import FormDialect
from tests.acceptance import canaries
from tests.acceptance.canaries import Canary, Hunt
from tests.acceptance.canary_paths import OWN_SLOTS, PATHS, UNIFIED_SLOTS
from tests.acceptance.canary_routes import BODIES, routes
from tests.acceptance.canary_traffic import PHASES, STORED, Traffic
from tests.chaos.rig import until
from tests.standin.ledger import Came
from tests.standin.process import Standin
from tests.standin.service import Service

MAKING = ("POST /key/generate: 200", "POST /user/new: 200")
"""Answers that make a key, whatever else they were asked for."""
MASTERS = ("master secret", "next master secret", "last master secret")
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def traffic(
    tmp_path_factory: pytest.TempPathFactory, size: Literal["ci", "full", "soak"]
) -> Iterator[Traffic]:
    """A service to which everything has happened that can."""
    traffic = Traffic(tmp_path_factory.mktemp("canaries"), full=size != "ci")
    try:
        traffic.begin()
        for phase in PHASES:
            began_s = time.monotonic()
            phase(traffic)
            print(f"{phase.__name__}: {time.monotonic() - began_s:.1f} s")
        print(len(traffic.answers), "requests,", len(traffic.hunt.places), "places")
        yield traffic
    finally:
        traffic.end()


def test_nothing_callers_or_providers_say_is_kept(traffic: Traffic) -> None:
    """No key, prompt or answer is in a log, a row, a file, Redis, or what a process shows."""
    assert traffic.hunt.seen("callers") == {}


def test_what_the_operator_set_is_in_his_environment_alone(traffic: Traffic) -> None:
    """The admin key and the providers' keys are nowhere but where they were set."""
    seen = traffic.hunt.seen("operator")
    assert {place.rpartition(" of ")[0] for place in seen} == {"environment"}


def test_what_the_service_made_is_kept_as_it_must_be(traffic: Traffic) -> None:
    """Keys nowhere, once they are made; the master secret in its own file, for its owner alone; one
    that was rotated nowhere."""
    assert list(traffic.hunt.seen("keys of ours")) == ["log"]  # see the next test
    for title in MASTERS[:2]:
        assert traffic.hunt.seen(title) == {}
    secret = {place.rpartition(" ")[2] for place in traffic.hunt.seen(MASTERS[2])}
    assert secret == {"master.secret"}
    assert (traffic.service.data_dir / "master.secret").stat().st_mode & 0o077 == 0


def test_stored_credentials_are_nowhere_in_plain_text(traffic: Traffic) -> None:
    """Not in a table, in Redis, in a file, in a log or in what a process shows; and not in any
    answer, whatever a provider repeats."""
    assert traffic.hunt.seen("credentials") == {}
    shown = [(asked, *traffic.sealed.seen_in(answer)) for asked, answer in traffic.answers]
    assert not [it for it in shown if len(it) > 1]


def test_stored_credentials_go_upstream_in_their_slots(traffic: Traffic) -> None:
    """Each to its own provider, as that wants it, and in nothing else of a request."""
    seen = {
        (name, place)
        for came in traffic.standin.wire()
        for place, text in parts(came)
        for name in traffic.sealed.named_in(text)
    }
    assert seen == {
        ("CredentialOpenai", "authorization"),
        ("CredentialAnthropic", "x-api-key"),
        ("Fresh", "authorization"),  # when it was tried
    }


def test_the_first_key_is_said_once(traffic: Traffic) -> None:
    """The keys of the first start are in its welcome, and nowhere else."""
    log = traffic.service.log.read_text()
    welcome, ready, rest = log.partition("Ready at")
    [key] = set(re.findall(r"sk-xproxy-\w+-\w{49}", welcome))
    assert ready
    assert key not in rest


def test_logs_name_no_values(traffic: Traffic) -> None:
    """What went wrong was logged, each time with its trace; the exceptions' texts were not."""
    log = traffic.service.log.read_text()
    for event in ("flow_failed", "api_failed", "outbox_entry_unreadable", "duty_waits"):
        assert f'"event": "{event}"' in log
    assert "in _limit" in log
    assert not [place for place in traffic.hunt.seen("spoilt") if place == "log"]


def test_keys_go_upstream_where_they_stood(traffic: Traffic) -> None:
    """The caller's own in its slot, a stored one in its provider's; prompts are in bodies."""
    seen = {
        (name, place)
        for came in traffic.standin.wire()
        for place, text in parts(came)
        for canary in (traffic.callers, traffic.operator)
        for name in canary.named_in(text)
    }
    slots = (*OWN_SLOTS, *UNIFIED_SLOTS)
    own = {("Own" + slot.name, slot.goes_to) for slot in slots if slot.goes_to}
    stored = {(STORED["openai"], "authorization"), (STORED["anthropic"], "x-api-key")}
    assert seen == own | stored | {("Prompt", "body")}


def test_our_keys_go_upstream_in_no_form(traffic: Traffic) -> None:
    """Not the application's, not the operator's, however written."""
    ours = [Canary(traffic.service.admin_key), Canary(traffic.tenant.key)]
    ours += [Canary("sk-xproxy-"), Canary("xproxy-")]
    leaks = [
        (place, text, list(canary.seen_in(text.encode())))
        for came in traffic.standin.wire()
        for place, text in parts(came)
        for canary in ours
        if list(canary.seen_in(text.encode()))
    ]
    assert leaks == []


def parts(came: Came) -> Iterator[tuple[str, str]]:
    """Where something may stand in a request, and what does."""
    path, _, query = came.target.partition("?")
    yield "path", path
    yield "query", query
    yield "body", came.body.decode("latin-1")
    for name, value in came.headers:
        yield name, value
        yield "names", name


def test_answers_show_no_key_of_ours(traffic: Traffic) -> None:
    """Nor a stored one, whatever the provider repeats; keys are in the answers that make them."""
    for title in ("operator", "keys of ours", *MASTERS):
        canary = traffic.hunt.canaries[title]
        shown = [(asked, *canary.seen_in(answer)) for asked, answer in traffic.answers]
        told = [asked for asked, *places in shown if places]
        assert not [it for it in told if title != "keys of ours" or it not in MAKING], title


def test_all_of_it_happened(traffic: Traffic) -> None:
    """Every kind of answer was given, or the other tests would prove little."""
    answered = {200, 201, 400, 401, 403, 404, 413, 429, 431, 500, 502, 503, 504, None}
    assert traffic.statuses >= answered


def test_the_search_finds_what_is_there(traffic: Traffic) -> None:
    """What is stored by design is seen in rows, on the disk, in Redis and in the spool."""
    seen = traffic.hunt.seen("planted")
    for place in (
        "running, table public.usage",
        "running, table public.rollups",
        "running, file postgres/pg_wal/",
        "running, file valkey/appendonlydir/",
        "stopped, file postgres/base/",
        "stopped, file postgres/pg_wal/",
        "Postgres away, Redis outbox",
        "Postgres away, Redis r",
        "Redis away, spool",
    ):
        forms = [form for found, its in seen.items() if found.startswith(place) for form in its]
        kinds = {form.partition(" b")[0] for form in forms}
        assert {"plain", "hex", "Base64 +0"} <= kinds, place


@pytest.mark.parametrize(
    "written",
    [
        *(str, repr, str.lower, str.upper, quote, json.dumps),
        lambda text: text.encode().hex(),
        lambda text: text.encode().hex().upper(),
        lambda text: "".join(f"%{byte:02X}" for byte in text.encode()),
        lambda text: "".join(f"\\u{ord(letter):04x}" for letter in text),
        lambda text: text.encode("utf-16-le").decode("latin-1"),
        *(
            lambda text, before=before: base64.b64encode((before + text + "-").encode()).decode()
            for before in ("", "k", "ke", "key")
        ),
    ],
)
def test_a_canary_is_known_in_any_form(written: Callable[[str], str]) -> None:
    """Escaped, quoted, in hex, in Base64 at any offset."""
    canary = Canary()
    text = written(f'"{canary("Name")} ü')
    assert list(canary.seen_in(text.encode("latin-1")))
    assert not list(Canary().seen_in(text.encode("latin-1")))


def test_passwords_of_stores_are_in_no_file(tmp_path: Path, standin: Standin) -> None:
    """They are in the operator's environment alone, whether the stores take them or not."""
    hunt = Hunt()
    password = hunt.add("password")("OfAStore")
    with Stores(tmp_path / "stores") as stores:
        redis_url, database_url = (server.url for server in stores.servers)
        urls = {
            "DATABASE_URL": database_url.replace("postgres@", f"postgres:{password}@"),
            "REDIS_URL": redis_url.replace("://", f"://proxy:{password}@"),
            "XPROXY_MASTER_SECRET": "s" * 32,
        }
        everything = ("on", ">" + password, "~*", "&*", "+@all")
        with Redis.from_url(redis_url) as redis:
            redis.execute_command("ACL", "SETUSER", "proxy", *everything)
            with Service(tmp_path / "data", standin.url, **urls) as service:
                assert service.manage("GET", "limits")["items"]
                hunt.look_at_all(canaries.processes(service.pid))
                redis.execute_command("ACL", "DELUSER", "proxy")
                until(lambda: "duty_waits" in service.log.read_text(), 10)
                until((tmp_path / "data" / "run.json").exists, 10)
                hunt.look_at_all(canaries.files(tmp_path, "file"))
    assert "file data/run.json" in hunt.places
    assert {place.rpartition(" of ")[0] for place in hunt.seen("password")} == {"environment"}


def test_every_metered_endpoint_is_tried() -> None:
    """Each that a dialect meters, and of each provider one that is free and one that is neither.
    Hosts that speak OpenAI's form have no more than it."""
    for name, dialect in DIALECTS.items():
        if isinstance(dialect, Compatible):
            continue
        tried = [path.meaning for path in PATHS if path.route[0] == name]
        metered = {it.name for it in cast(FormDialect, dialect).metered.values()}
        assert metered == {it.name for it in tried if it.kind == "metered"}
        assert {it.kind for it in tried} == {"metered", "free", "unmetered"}


def test_every_route_is_tried() -> None:
    """Each route of the management API has a request here that succeeds."""
    assert set(BODIES) == set(routes())
