"""The page of the OpenAPI document in a browser that reaches nothing but the service."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.standin.service import Service

NAMES = ("chromium", "chromium-browser", "google-chrome")
INSTALL = "apt-get install chromium"
BROWSER = next((found for name in NAMES if (found := shutil.which(name))), None)


@pytest.mark.skipif(BROWSER is None, reason=f"there is no Chromium: {INSTALL}")
def test_the_page_is_whole_without_a_network(service: Service, tmp_path: Path) -> None:
    """Every other name is unknown to the browser: the page shows all routes and bodies all the
    same, and asks nobody for anything."""
    log = tmp_path / "net.json"
    done = subprocess.run(
        [
            str(BROWSER),
            *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
            *("--disable-background-networking", "--disable-component-update", "--no-first-run"),
            f"--user-data-dir={tmp_path / 'profile'}",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            f"--log-net-log={log}",
            "--dump-dom",
            f"{service.url}/schema/page",
        ],
        check=True,
        capture_output=True,
        text=True,
        timeout=90,
    )
    schema = service.http.get("/schema/openapi.json").json()
    for path in schema["paths"]:
        assert f"<code>{path}</code>" in done.stdout
    for name in schema["components"]["schemas"]:
        assert f'id="{name}"' in done.stdout
    asked = pages_requests(log, service.url)
    assert f"{service.url}/schema/page" in asked
    assert {url for url in asked if not url.startswith(f"{service.url}/")} == set()


def pages_requests(log: Path, origin: str) -> set[str]:
    """What was asked for because of the page, by the browser's own log; not what it asks for by
    itself, as browsers do."""
    found = set()
    for event in json.loads(log.read_text())["events"]:
        params = event.get("params", {})
        url, by = params.get("url", ""), params.get("initiator", "")
        if url.startswith(origin) or by.startswith(origin):
            found.add(url)
    return found
