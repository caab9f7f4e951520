"""Prices that change while the service runs: the whole service, its commands, calls in flight."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from pricing.load import read
from tests.acceptance.tenant import CHAT, Tenant, new_tenant
from tests.standin.process import Standin
from tests.standin.recordings import ROOT
from tests.standin.service import Service

PACKAGED = read()
MODEL = "gpt-4o-mini"
USAGE = {"prompt_tokens": 1_001, "completion_tokens": 13, "total_tokens": 1_014}
LISTED_PICO = 1_001 * 150_000 + 13 * 600_000
"""At $0.15 and $0.60 a million."""
SECONDS = 5.0
"""How soon a price is live, as it is promised."""


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, standin: Standin) -> Iterator[Service]:
    """A service of this module's own, with two workers: what it charges is changed."""
    data_dir = tmp_path_factory.mktemp("live-prices") / "data"
    keys = {"OPENAI_API_KEY": "sk-stored-openai"}
    with Service(data_dir, standin.url, XPROXY_WORKERS="2", **keys) as service:
        yield service


@pytest.fixture
def tenant(live: Service, standin: Standin) -> Tenant:
    """A fresh application of it."""
    standin.wait_idle()
    standin.reset()
    return new_tenant(live)


def openai(usd_in: str, usd_out: str = "0.6", hours: Sequence[str] = ()) -> bytes:
    """The package's file of OpenAI, but for what gpt-4o-mini costs since November."""
    content = json.loads(PACKAGED["openai.json"])
    [model] = [it for it in content["models"] if it["id"] == MODEL]
    row = {
        "from": "2026-11-01",
        "prices": {"input": usd_in, "cache_read": "0.075", "output": usd_out},
        "hours": {name: {"input": "0.3"} for name in hours},
    }
    model["prices"].append(row | {"source": "the test", "checked": "2026-11-01"})
    return json.dumps(content, indent=1).encode()


def call(tenant: Tenant, delay_ms: int = 0, **control: Any) -> httpx.Response:
    """One chat completion, on a connection of its own: any worker may get it."""
    told = json.dumps({"usage": USAGE, "delay_ms": delay_ms, **control})
    return httpx.post(
        tenant.service.url + CHAT,
        json={"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 20},
        headers={"xProxy-Api-Key": tenant.key, "x-standin": told},
        timeout=30,
    )


def pico(response: httpx.Response) -> int:
    """What a call cost."""
    assert response.status_code == 200, response.text
    whole, _, part = response.headers["xproxy-cost"].partition(".")
    return int(whole) * 10**12 + int(part.ljust(12, "0") or 0)


def until(tenant: Tenant, wanted_pico: int, patience_s: float = SECONDS) -> None:
    """Until eight calls in a row cost this, whichever workers take them."""
    deadline = time.monotonic() + patience_s
    right = 0
    while right < 8:
        right = right + 1 if pico(call(tenant)) == wanted_pico else 0
        assert time.monotonic() < deadline, f"not live within {patience_s} s"


def xproxy(
    service: Service, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """A command, as it is given on the service's machine: no address, no key."""
    kept = {k: v for k, v in service.environment.items() if not k.startswith("XPROXY_ADMIN")}
    return subprocess.run(
        [sys.executable, "-m", "metering", *arguments],
        cwd=ROOT,
        env=kept | {"COLUMNS": "200"} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def loaded(service: Service, content: bytes, tmp_path: Path, *options: str) -> str:
    """Load a file by the command; gives what that printed."""
    path = tmp_path / "openai.json"
    path.write_bytes(content)
    done = xproxy(service, "prices", "load", str(path), *options)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(autouse=True)
def listed(live: Service) -> None:
    """Every test begins with the package's own prices."""
    live.manage("POST", "prices/versions", {"version": 0})


def in_flight(
    tenant: Tenant, count: int, standin: Standin, pool: ThreadPoolExecutor
) -> list[Future[httpx.Response]]:
    """Calls whose provider takes a while to answer."""
    running = [pool.submit(call, tenant, 4_000) for _ in range(count)]
    deadline = time.monotonic() + 10
    while standin.stats()["in_flight"] < count:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return running


def test_a_list_is_live_within_seconds(
    live: Service, tenant: Tenant, standin: Standin, tmp_path: Path
) -> None:
    """In every worker, without a restart; calls under way keep the price they began with."""
    with ThreadPoolExecutor(6) as pool:
        running = in_flight(tenant, 6, standin, pool)
        words = loaded(live, openai("0.2", "0.7"), tmp_path)
        until(tenant, 1_001 * 200_000 + 13 * 700_000)
        before = [it.done() for it in running]
        costs = [pico(it.result()) for it in running]

    assert "Changed 2 prices" in words
    assert not any(before)
    assert costs == [LISTED_PICO] * 6
    rows = tenant.rows(14)
    versions = {row["price_version"] for row in rows}
    assert len(versions) == 2
    for row in rows:
        assert (row["cost_pico"] == str(LISTED_PICO)) is (row["price_version"] != max(versions))
        assert row["price_id"].startswith(f"openai/{MODEL}@")


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")
def test_make_loads_the_packages_own(live: Service, tenant: Tenant, tmp_path: Path) -> None:
    """`make pricing-load` puts the files of the package in force, in every worker; `--dry-run`
    only says what that changes."""
    loaded(live, openai("0.2"), tmp_path)
    until(tenant, 1_001 * 200_000 + 13 * 600_000)
    tried = make_pricing_load(live, "--dry-run")
    assert pico(call(tenant)) != LISTED_PICO
    done = make_pricing_load(live, "--note 'the target'")
    until(tenant, LISTED_PICO)
    assert "Would change 1 prices" in tried
    assert f"openai/{MODEL}  input  default  -      0.2     0.15" in tried
    assert "Changed 1 prices and added 0 models" in done
    assert live.manage("GET", "prices/versions")["items"][0]["note"] == "the target"


def make_pricing_load(service: Service, options: str) -> str:
    """What the target prints; its environment is this interpreter's, so there is none to make."""
    kept = {
        k: v
        for k, v in service.environment.items()
        if not k.startswith(("XPROXY_ADMIN", "MAKE", "MFLAGS"))
    }
    programs = f"BIN={Path(sys.executable).parent}"
    done = subprocess.run(
        ["make", "pricing-load", "RUN=", programs, f"ARGS={options}"],
        cwd=ROOT,
        env=kept | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_restart_keeps_the_list(live: Service, tenant: Tenant, tmp_path: Path) -> None:
    """The first call of a service that starts has the price that was in force when it ended."""
    loaded(live, openai("0.3"), tmp_path)
    assert live.stop() == 0
    live.start()
    assert pico(call(tenant)) == 1_001 * 300_000 + 13 * 600_000
    versions = live.manage("GET", "prices/versions")
    assert versions["items"][0] == versions["in_force"]
    assert versions["packaged"]["newer"] is False


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (openai("1.5"), f": openai/{MODEL} input: 0.15 -> 1.5"),
        (openai("0"), f": openai/{MODEL} input: 0.15 -> 0"),
        (openai("-1"), "input price '-1' is not a plain decimal"),
        (openai("NaN"), "input price 'NaN' is not a plain decimal"),
        (openai("0.2001").replace(b'"0.2001"', b"NaN"), "JSON is malformed"),
        (openai("0.2")[:-200], "truncated"),
        (openai("0.2").replace(b'"2026-11-01"', b"null", 1), "two rows have the same date"),
        (openai("0.2").replace(b'"2026-11-01"', b'"2026-11-31"', 1), "'2026-11-31' is not a date"),
        (openai("0.2", hours=("01:00-04:00", "03:00-05:00")), "'03:00-05:00' overlap with others"),
        (
            openai("0.2001").replace(b'"0.2001"', b'"0.2001", "inputs": "1"'),
            "'inputs' is not a unit",
        ),
        (openai("0.2").replace(b"{", b'{"currency": "EUR",', 1), "in USD, not in 'EUR'"),
        (
            openai("0.2001").replace(b'"0.2001"', b'"0.2001", "input": "0.3"'),
            "'input' is there twice",
        ),
    ],
    ids=[
        "tenfold",
        "to-zero",
        "negative",
        "NaN",
        "bare-NaN",
        "truncated",
        "same-date",
        "no-date",
        "overlapping-hours",
        "unknown-unit",
        "currency",
        "twice",
    ],
)
def test_a_bad_list_changes_nothing(
    live: Service, tenant: Tenant, tmp_path: Path, content: bytes, words: str
) -> None:
    """It is refused with the file, the line and the reason, and calls cost what they did."""
    before = live.manage("GET", "prices/versions")["in_force"]
    path = tmp_path / "openai.json"
    path.write_bytes(content)
    refused = xproxy(live, "prices", "load", str(path))
    assert (refused.returncode, refused.stdout) == (1, "")
    assert re.match(r"Error: openai\.json:\d+: ", refused.stderr), refused.stderr
    assert words in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert live.manage("GET", "prices/versions")["in_force"] == before
    assert [pico(call(tenant)) for _ in range(4)] == [LISTED_PICO] * 4


def test_own_prices_are_charged_to_one_application(live: Service, tenant: Tenant) -> None:
    """To the pico, in every worker, within seconds; hold, limit and row say the same."""
    other = new_tenant(live)
    tenant.limit("team")
    own = ("prices", "own", "set", "openai/*", "--multiplier", "0.85")
    done = xproxy(live, *own, "--application", tenant.application_id)
    assert done.returncode == 0, done.stderr
    mine_pico = LISTED_PICO * 85 // 100
    assert mine_pico * 100 == LISTED_PICO * 85
    until(tenant, mine_pico)

    assert pico(call(other)) == LISTED_PICO
    before = tenant.totals("team")["cost"]["total"]["base"]
    headers = {"xProxy-Limit-IDs": "team", "x-standin": json.dumps({"usage": USAGE})}
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
    charged = tenant.post(CHAT, body, headers)
    assert pico(charged) == mine_pico
    spent = tenant.totals("team")["cost"]["total"]["base"] - before
    assert spent.scaleb(12) == mine_pico
    name = live.manage("GET", "prices/own", application=tenant.application_id)["name"]
    assert tenant.rows(1)[-1]["price_id"].endswith(f"*{name}")

    xproxy(live, "prices", "own", "clear", "--yes", "--application", tenant.application_id)
    until(tenant, LISTED_PICO)


def test_a_list_put_into_the_database(
    live: Service, tenant: Tenant, tmp_path: Path, size: str
) -> None:
    """Where no service is found, DATABASE_URL is written; with REDIS_URL running proxies are told,
    without it they find it by themselves."""
    running = json.loads((live.data_dir / "run.json").read_text())
    stores = {"DATABASE_URL": running["database_url"], "REDIS_URL": running["redis_url"]}
    elsewhere = {"XPROXY_DATA_DIR": str(tmp_path), "XPROXY_MASTER_SECRET": "s" * 32}
    path = tmp_path / "openai.json"
    for usd, pico_each, urls in (
        ("0.4", 400_000, stores),
        ("0.5", 500_000, {"DATABASE_URL": stores["DATABASE_URL"]}),
    ):
        path.write_bytes(openai(usd))
        done = xproxy(live, "prices", "load", str(path), **elsewhere, **urls)
        assert done.returncode == 0, done.stderr
        if "REDIS_URL" in urls:
            until(tenant, 1_001 * pico_each + 13 * 600_000)
        elif size != "ci":
            until(tenant, 1_001 * pico_each + 13 * 600_000, patience_s=30)
    versions = xproxy(live, "prices", "versions").stdout
    assert versions.count("command line") >= 2
