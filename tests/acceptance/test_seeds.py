"""Pay-i's published examples, as they were published: only base URLs and keys are ours.

Each file of `seeds/` is one example, letter for letter. It finds URLs and keys in the environment;
where its text has a key written out (`KEY_LITERAL`), our key is put in its place and nothing else
is changed. They pass `request_tags`, which newer releases of `payi` dropped: those that pass it run
in an environment of their own (`make payi-tags`), and once more, without it, beside the newest.
They run as processes because newer SDKs warn about the models they name.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import pytest

from tests.acceptance.tenant import Tenant
from tests.conftest import ROOT
from tests.standin.ledger import fingerprint
from tests.standin.process import Standin

SEEDS = Path(__file__).parent / "seeds"
KEY_LITERAL = "your-anthropic-api-key"
TAGS_ARGUMENT = re.compile(r",\n    request_tags=\[.*\]\n")
OWN_KEYS = {"openai": "sk-caller-openai-55", "anthropic": "sk-ant-caller-77"}
"""What the caller's own provider keys are in the examples that bring one beside ours."""


@dataclass(frozen=True)
class Seed:
    """One example and what it says about its call."""

    name: str
    provider: str
    limit_id: str
    user_id: str
    use_case_name: str
    tags: list[str]
    proxied: bool = False
    """It brings the caller's own provider key, and ours in a header of its own."""

    @property
    def text(self) -> str:
        """The example as published."""
        return (SEEDS / f"{self.name}.py").read_text()


# name, provider, limit, user, use case, tags, proxied
SEEDS_OF = [
    Seed(
        "anthropic_basic",
        "anthropic",
        "monthly_anthropic_budget",
        "user_456",
        "content_generation",
        ["creative", "blog"],
    ),
    Seed(
        "anthropic_proxy",
        "anthropic",
        "creative_team_budget",
        "writer_789",
        "creative_writing",
        ["fiction", "story"],
        proxied=True,
    ),
    Seed(
        "anthropic_tools",
        "anthropic",
        "research_budget",
        "researcher_123",
        "research_assistant",
        ["research", "tools"],
    ),
    Seed(
        "openai_basic",
        "openai",
        "monthly_budget",
        "user_123",
        "document_summarization",
        ["summary", "document"],
    ),
    Seed(
        "openai_proxy",
        "openai",
        "department_budget",
        "user123",
        "document_summary",
        ["summary", "document"],
        proxied=True,
    ),
    Seed(
        "openai_streaming",
        "openai",
        "monthly_usage",
        "customer_456",
        "chat_assistant",
        ["chat", "streaming"],
    ),
]
each_seed = pytest.mark.parametrize("seed", SEEDS_OF, ids=lambda seed: seed.name)


@pytest.fixture(scope="session")
def tags_python(request: pytest.FixtureRequest) -> str:
    """The interpreter of the second environment, which is made when it is missing or outdated."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():  # its progress is for whoever waits
        subprocess.run(["make", "-s", "payi-tags"], cwd=ROOT, check=True)
    return str(ROOT / ".venv-payi-tags/bin/python")


def run(
    python: str, seed: Seed, tenant: Tenant, text: str, place: Path
) -> subprocess.CompletedProcess[str]:
    """Run an example's text as a process that knows our URLs and keys from its environment."""
    file = place / f"{seed.name}.py"
    file.write_text(text.replace(KEY_LITERAL, tenant.key))
    keys = OWN_KEYS if seed.proxied else dict.fromkeys(OWN_KEYS, tenant.key)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(place),
        "OPENAI_BASE_URL": tenant.openai_url,
        "ANTHROPIC_BASE_URL": tenant.anthropic_url,
        "PAYI_BASE_URL": tenant.service.url,
        "OPENAI_API_KEY": keys["openai"],
        "ANTHROPIC_API_KEY": keys["anthropic"],
        "PAYI_API_KEY": tenant.key,
    }
    command = [python, str(file)]
    return subprocess.run(
        command,
        check=False,
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def check(
    seed: Seed,
    tenant: Tenant,
    standin: Standin,
    done: subprocess.CompletedProcess[str],
    tags: list[str],
) -> None:
    """The example ran to its end, and its call is everywhere it should be."""
    assert done.returncode == 0, done.stderr
    [call] = standin.ledger()
    assert (call.provider, call.status, call.complete) == (seed.provider, 200, True)
    assert call.leaks == []
    assert call.credential is not None
    own = fingerprint(OWN_KEYS[seed.provider])
    assert (call.credential.sha256 == own) == seed.proxied
    row = tenant.row()
    assert row["cost_pico"] == str(call.cost_pico)
    assert row["user_id"] == seed.user_id
    assert row["use_case_name"] == seed.use_case_name
    assert row["tags"] == tags
    assert row["provider_id"] == call.id
    spent = tenant.totals(seed.limit_id)
    assert spent["cost"]["total"]["base"] == Decimal(row["cost_pico"]).scaleb(-12) > 0
    assert spent["requests"]["ok"] == 1
    if seed.proxied:
        assert f"Request ID: {row['request_id']}\n" in done.stdout
        assert "Cost: {'currency': 'usd', 'input': {'base': " in done.stdout
    if seed.name == "openai_streaming":
        assert "A robot kept the ledger" in done.stdout


@pytest.mark.timeout(600)
@each_seed
def test_each_example_runs_as_published(
    seed: Seed, tenant: Tenant, standin: Standin, tags_python: str, tmp_path: Path
) -> None:
    """With the payi of its day an example runs letter for letter, request tags and all."""
    tenant.limit(seed.limit_id)
    done = run(tags_python, seed, tenant, seed.text, tmp_path)
    check(seed, tenant, standin, done, seed.tags)


@each_seed
def test_each_example_runs_on_the_newest_payi_less_its_tags(
    seed: Seed, tenant: Tenant, standin: Standin, tmp_path: Path
) -> None:
    """The newest payi has no `request_tags`; without that argument the example is the same."""
    tenant.limit(seed.limit_id)
    text, replaced = TAGS_ARGUMENT.subn("\n", seed.text)
    assert replaced == 1
    done = run(sys.executable, seed, tenant, text, tmp_path)
    check(seed, tenant, standin, done, [])


@pytest.mark.timeout(600)
@each_seed
def test_without_its_limit_an_example_is_told_how_to_create_it(
    seed: Seed, tenant: Tenant, standin: Standin, tags_python: str, tmp_path: Path
) -> None:
    """A limit nobody made is refused before the provider is called; the refusal says what to do."""
    done = run(tags_python, seed, tenant, seed.text, tmp_path)
    assert done.returncode == 1
    assert "BadRequestError: Error code: 400" in done.stderr
    assert f"xProxy-Limit-IDs names limits that do not exist: {seed.limit_id}" in done.stderr
    assert f'POST /api/v1/limits {{"limit_id": "{seed.limit_id}"' in done.stderr
    assert f"xproxy limits create {seed.limit_id} --max 10" in done.stderr
    assert tenant.key not in done.stderr
    assert standin.ledger() == []


@pytest.mark.parametrize("seed", [SEEDS_OF[0], SEEDS_OF[-1]], ids=lambda seed: seed.name)
def test_the_refusals_remedy_works(
    seed: Seed, tenant: Tenant, standin: Standin, tmp_path: Path
) -> None:
    """The body that a refusal prints, sent as printed, makes the example run."""
    text = TAGS_ARGUMENT.sub("\n", seed.text)
    refused = run(sys.executable, seed, tenant, text, tmp_path)
    printed = re.search(r"POST /api/v1/limits (\{.*?\})", refused.stderr)
    assert printed, refused.stderr
    headers = {"Content-Type": "application/json"}
    made = tenant.post("/api/v1/limits", headers=headers, content=printed[1])
    assert made.status_code == 201, made.text
    done = run(sys.executable, seed, tenant, text, tmp_path)
    check(seed, tenant, standin, done, [])
