"""Repricing through the running service and its command, from a what-if to the charge."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from pricing.load import read
from tests.acceptance.tenant import CHAT, Tenant
from tests.standin.recordings import ROOT

pytestmark = pytest.mark.acceptance
USAGE = {"prompt_tokens": 1_001, "completion_tokens": 13, "total_tokens": 1_014}
LISTED_PICO = 1_001 * 150_000 + 13 * 600_000
"""At $0.15 and $0.60 a million."""
DEARER_PICO = 1_001 * 300_000 + 13 * 600_000
CALLS = 3


def reprice(tenant: Tenant, *options: str, code: int = 0) -> str:
    """What `xproxy prices reprice` printed, as it is given on the service's machine."""
    environment = tenant.service.environment
    kept = {k: v for k, v in environment.items() if not k.startswith("XPROXY_ADMIN")}
    whose = ("--application", tenant.application_id, "--from", "1h")
    done = subprocess.run(
        [sys.executable, "-m", "metering", "prices", "reprice", *whose, *options],
        cwd=ROOT,
        env=kept | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stdout or done.stderr


def dearer(folder: Path) -> str:
    """The path of OpenAI's file, with an input of gpt-4o-mini that costs twice as much."""
    content = json.loads(read()["openai.json"])
    [model] = [it for it in content["models"] if it["id"] == "gpt-4o-mini"]
    for price in model["prices"]:
        price["prices"]["input"] = "0.3"
    path = folder / "openai.json"
    path.write_text(json.dumps(content))
    return str(path)


def spent_pico(tenant: Tenant) -> int:
    """What the limit has counted."""
    return int(Decimal(str(tenant.totals("team")["cost"]["total"]["base"])).scaleb(12))


def test_from_what_if_to_charge(tenant: Tenant, tmp_path: Path) -> None:
    """A report changes nothing; a run corrects each call once, the limit with it; bad input says
    what is wrong with which file."""
    tenant.limit("team")
    for _ in range(CALLS):
        answer = httpx.post(
            tenant.service.url + CHAT,
            json={"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}]},
            headers={
                "xProxy-Api-Key": tenant.key,
                "xProxy-Limit-IDs": "team",
                "xProxy-User-ID": "ann",
                "x-standin": json.dumps({"usage": USAGE}),
            },
            timeout=30,
        )
        assert answer.status_code == 200, answer.text
    tenant.rows(CALLS)
    assert spent_pico(tenant) == CALLS * LISTED_PICO
    path = dearer(tmp_path)
    time.sleep(1)  # until the second that `--to` is by default

    shown = reprice(tenant, "--prices", path, "--by", "user")
    assert "ann" in shown
    assert "\nAs of 20" in shown
    assert ", by the prices of files-" in shown
    assert format(Decimal(CALLS * DEARER_PICO).scaleb(-12).normalize(), "f") in shown
    assert spent_pico(tenant) == CALLS * LISTED_PICO

    run = ("--prices", path, "--apply", "--run", "may", "--json")
    first: dict[str, Any] = json.loads(reprice(tenant, *run))
    assert first["corrected"] == CALLS
    assert spent_pico(tenant) == CALLS * DEARER_PICO
    rows = tenant.rows(2 * CALLS)
    assert sum(int(row["cost_pico"]) for row in rows) == CALLS * DEARER_PICO
    calls = [row for row in rows if row["entry"] == "call"]
    assert {int(row["cost_pico"]) for row in calls} == {LISTED_PICO}
    again = json.loads(reprice(tenant, *run))
    assert (again["corrected"], again["total"]["changed"]) == (0, 0)

    Path(path).write_text('{"provider": "openai",\n "models": 1}')
    refused = reprice(tenant, *run, code=1)
    assert "openai.json:2" in refused
    Path(path).write_bytes(b'{"provider":\n "open\xff"}')
    assert "Error: openai.json:2: 'utf-8' codec can't decode byte 0xff" in reprice(
        tenant, *run, code=1
    )
    assert len(tenant.rows(2 * CALLS)) == 2 * CALLS
