"""The OpenAPI document holds: schemathesis makes requests of every route from it, good and bad.

`XPROXY_TEST_SIZE=full` makes many of each.
"""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import pytest

from tests.acceptance.tenant import new_tenant
from tests.standin.service import Service

HOLDS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
)
PARTLY = ("/api/v1/ingest/bulk", "/api/v1/ingest/bulk-upsert")
"""Routes whose bodies may be wrong in part: what is right of them is taken, so that the answer is a
success, and says what is wrong. No other accepts what its schema does not."""
EXAMPLES = {"ci": 5, "full": 200, "soak": 1_000}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """What schemathesis is told: all checks, and where one of them does not apply. Named on its
    command line, checks are made everywhere."""
    checks = ["[checks]", "enabled = false", *(f"{name}.enabled = true" for name in HOLDS), ""]
    without = [
        f'[[operations]]\ninclude-path = "{path}"\nchecks.negative_data_rejection.enabled = false\n'
        for path in PARTLY
    ]
    file = tmp_path / "schemathesis.toml"
    file.write_text("\n".join((*checks, *without)))
    return file


@pytest.mark.skipif(find_spec("schemathesis") is None, reason="schemathesis is not installed")
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("role", ["admin", "app"])
def test_every_route_does_what_the_document_says(
    service: Service,
    config: Path,
    tmp_path: Path,
    size: Literal["ci", "full", "soak"],
    role: str,
) -> None:
    """No server error; status, content type and body as documented; what the schema does not allow
    is refused."""
    key = service.admin_key
    if role == "app":
        key = new_tenant(service, permissions=["ingest", "manage_credentials"]).key
    program = Path(sys.executable).with_name("schemathesis")
    done = subprocess.run(
        [
            str(program),
            f"--config-file={config}",
            "run",
            f"{service.url}/schema/openapi.json",
            f"--header=xProxy-Api-Key:{key}",
            "--phases=coverage,fuzzing",
            f"--max-examples={EXAMPLES[size]}",
            "--suppress-health-check=all",
            "--warnings=off",
            "--continue-on-failure",
            "--seed=1",
            "--no-color",
        ],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-6_000:] + done.stderr[-2_000:]


def test_the_document_is_whole(service: Service) -> None:
    """Every reference in it leads somewhere, and every route has its key, body and answers."""
    schema = service.http.get("/schema/openapi.json").json()
    names = {f"#/components/schemas/{it}" for it in schema["components"]["schemas"]}
    text = json.dumps(schema)
    found = {part.split('"')[0] for part in text.split('"$ref": "')[1:]}
    assert found <= names
    for item in schema["paths"].values():
        for operation in item.values():
            assert any(status.startswith("2") for status in operation["responses"])
