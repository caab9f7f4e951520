"""LiteLLM's published page on Anthropic's SDK: every example, by curl and by the SDK, as published.

`seeds/litellm_anthropic.md` is the page, letter for letter. Of its examples only base URLs and keys
are ours: LiteLLM's address is this service's, and `https://api.anthropic.com`, which the page says
to replace, is this service's `/anthropic`. They run as the page means them: by anybody on this
machine, before keys are set up, and with keys.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import PATIENT, STORED
from tests.acceptance.tenant import LITELLM, Tenant, new_tenant
from tests.standin.ledger import Entry, fingerprint
from tests.standin.process import Standin
from tests.standin.service import Service

PAGE = (Path(__file__).parent / "seeds" / "litellm_anthropic.md").read_text()
KEYS_WRITTEN_OUT = ("sk-1234ewknldferwedojwojw", "sk-anything")
VIRTUAL_KEYS = "/key/generate"
"""One example makes a key: it is no call to a provider."""
MASTER_KEY = "sk-1234"
TAGS = ["test-tag-1", "test-tag-2"]


@dataclass(frozen=True)
class Example:
    """One example of the page."""

    name: str
    text: str

    @property
    def python(self) -> bool:
        """Whether it is a program; else it is a command."""
        return self.text.startswith("from anthropic")

    @property
    def path(self) -> str:
        """What the provider is called for."""
        found = re.search(r"(?:anthropic|api\.anthropic\.com)(/v1/[a-z_/]+)", self.text)
        return found[1] if found else "/v1/messages"

    @property
    def tags(self) -> list[str]:
        """What the call is tagged with."""
        return TAGS if "litellm_metadata" in self.text else []

    def ours(self, service: Service, key: str) -> str:
        """The example, at this service, with a key in place of those that are written out."""
        text = self.text.replace("http://0.0.0.0:4000", service.url)
        text = text.replace("https://api.anthropic.com", service.url + "/anthropic")
        for written in KEYS_WRITTEN_OUT:
            text = text.replace(written, key)
        return text


def examples() -> list[Example]:
    """All that call the provider, by their place on the page."""
    blocks = re.findall(r"```(?:bash|python)\n(.*?)```", PAGE, re.DOTALL)
    calls = [it for it in blocks if it.startswith(("curl", "from")) and VIRTUAL_KEYS not in it]
    return [
        Example(f"{number}-{'python' if text.startswith('from') else 'curl'}", text)
        for number, text in enumerate(calls)
    ]


EXAMPLES = examples()
each_example = pytest.mark.parametrize("example", EXAMPLES, ids=lambda it: it.name)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, standin: Standin) -> Iterator[Service]:
    """A service that lets anybody on this machine in, and has keys too."""
    data_dir = tmp_path_factory.mktemp("litellm") / "data"
    with Service(
        data_dir, standin.url, XPROXY_ANONYMOUS="loopback", **STORED, **PATIENT
    ) as service:
        yield service


def run(example: Example, service: Service, key: str, place: Path) -> str:
    """Run an example as a process that knows our key from its environment: what it printed."""
    text = example.ours(service, key)
    file = place / ("example.py" if example.python else "example.sh")
    file.write_text(text)
    done = subprocess.run(
        [sys.executable if example.python else "sh", str(file)],
        check=False,
        cwd=place,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(place),
            "NO_PROXY": "*",
            "LITELLM_API_KEY": key,
            "ANTHROPIC_API_KEY": key,
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert key not in done.stdout
    return done.stdout


def check(example: Example, printed: str, standin: Standin) -> Entry:
    """The provider got the call with its own key and nothing of ours; its answer came back."""
    [call] = standin.ledger()
    assert (call.path, call.status, call.leaks) == (example.path, 200, [])
    assert call.credential is not None
    assert call.credential.sha256 == fingerprint(STORED["ANTHROPIC_API_KEY"])
    if example.python:
        assert f"Message(id='{call.id}'" in printed
        assert "xproxy_result={" in printed
        return call
    answer = json.loads(printed, parse_float=Decimal)
    if call.path == "/v1/messages":
        assert answer["id"] == call.id
        cost = answer["xproxy_result"]["cost"]["total"]["base"]
        assert int(cost.scaleb(12)) == call.cost_pico
        assert answer["xproxy_result"].get("request_tags", []) == example.tags
    elif call.path == "/v1/messages/count_tokens":
        assert list(answer) == ["input_tokens"]
    else:
        assert "xproxy_result" not in answer
    return call


def test_the_page_has_what_it_should() -> None:
    """Nothing of the page is overlooked: of each endpoint LiteLLM's example and Anthropic's own."""
    found: dict[str, int] = {}
    for it in EXAMPLES:
        found[it.path] = found.get(it.path, 0) + 1
    batches = "/v1/messages/batches"
    assert found == {"/v1/messages": 8, "/v1/messages/count_tokens": 2, batches: 2}
    assert [it.python for it in EXAMPLES].count(True) == 2
    assert len([it for it in EXAMPLES if it.tags]) == 2


def test_a_key_is_made_and_serves(service: Service, standin: Standin, tmp_path: Path) -> None:
    """The page's three steps: the administrator's key makes one, and that makes the call."""
    standin.wait_idle()
    standin.reset()
    blocks = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    [text] = [it for it in blocks if VIRTUAL_KEYS in it]
    text = text.replace(MASTER_KEY, service.admin_key)
    generated = run(Example("generate", text), service, "sk-anything", tmp_path)
    [call] = [it for it in EXAMPLES if KEYS_WRITTEN_OUT[0] in it.text]
    check(call, run(call, service, json.loads(generated)["key"], tmp_path), standin)


@each_example
def test_anybody_on_this_machine_runs_it(
    example: Example, service: Service, standin: Standin, tmp_path: Path
) -> None:
    """As before keys are set up: `sk-anything`. What is not metered needs a key: the limit of those
    who show none could not hold it."""
    standin.wait_idle()
    standin.reset()
    printed = run(example, service, "sk-anything", tmp_path)
    if example.path != "/v1/messages/batches":
        check(example, printed, standin)
        return
    refused = json.loads(printed)
    assert (refused["type"], refused["error"]["type"]) == ("error", "permission_error")
    assert "permission `unmetered`" in refused["error"]["message"]
    assert standin.ledger() == []


@pytest.fixture
def budgeted(service: Service, standin: Standin) -> Tenant:
    """A tenant whose key has a budget, and may do what is not metered."""
    standin.wait_idle()
    standin.reset()
    tenant = new_tenant(service, permissions=["unmetered"], route=LITELLM)
    budget(tenant, "1")
    return tenant


def budget(tenant: Tenant, usd: str) -> None:
    """Give a tenant's key a hard cap."""
    members = {"limit_id": "budget", "limit_name": "budget", "limit_type": "block"}
    tenant.manage("POST", "limits", members | {"max": float(usd), "hard_cap": True})
    admin: dict[str, Any] = {"limit_ids": ["budget"]}
    tenant.service.manage(
        "PATCH", f"keys/{tenant.key_id}", admin, application=tenant.application_id
    )


@each_example
def test_it_runs_with_a_key_of_ours(
    example: Example, budgeted: Tenant, standin: Standin, tmp_path: Path
) -> None:
    """Our key where the page has LiteLLM's, or Anthropic's: a stored one goes upstream, the call is
    on record, and its cost is the key's."""
    call = check(example, run(example, budgeted.service, budgeted.key, tmp_path), standin)
    row = budgeted.row()
    assert (row["surface"], row["key_id"], row["tags"]) == (
        "litellm",
        budgeted.key_id,
        example.tags,
    )
    assert row["cost_pico"] == str(call.cost_pico)
    pricing = {"/v1/messages": "priced", "/v1/messages/batches": "unmetered"}
    assert row["pricing"] == pricing.get(call.path, "free")
    spent = budgeted.totals("budget")["cost"]["total"]["base"]
    assert int(Decimal(spent).scaleb(12)) == call.cost_pico
