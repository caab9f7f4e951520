"""What the first start prints to be pasted works as it is pasted."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from tests.acceptance.tenant import Tenant
from tests.conftest import ROOT
from tests.standin.ledger import fingerprint
from tests.standin.process import Standin
from tests.standin.service import Service

OWN = {"OPENAI_API_KEY": "sk-pasted-own-1", "ANTHROPIC_API_KEY": "sk-ant-pasted-own-2"}
CALLS = {
    "OpenAI SDK": """
        print(client.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": "Hello"}]
        ).xproxy_result)
    """,
    "Anthropic SDK": """
        print(client.messages.create(
            model="claude-haiku-4-5", max_tokens=9, messages=[{"role": "user", "content": "Hello"}]
        ).xproxy_result)
    """,
}
"""The snippets end with a client; this is the first thing anyone does with it."""


@pytest.fixture
def snippets(service: Service, standin: Standin, tenant: Tenant) -> dict[str, str]:
    """The blocks of the welcome in the service's log, by their title; the books are empty."""
    log = service.log.read_text()
    # it is indented; the next line that is not belongs to something else
    welcome = re.split(r"^(?=\S)", log[log.index(" These keys") :], maxsplit=1, flags=re.MULTILINE)[
        0
    ]
    parts = re.split(r"^  # (.+)\n", welcome, flags=re.MULTILINE)
    return {title: dedent(text) for title, text in zip(parts[1::2], parts[2::2], strict=True)}


def run(command: list[str], place: Path, **environment: str) -> str:
    """What a command prints, in an environment of nothing but a path and these."""
    variables = {"PATH": os.environ["PATH"], "HOME": str(place)} | environment
    done = subprocess.run(
        command, check=False, cwd=place, env=variables, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def check(standin: Standin, printed: str, secret: str) -> None:
    """The caller's own key went to the provider, the demo limit was charged."""
    [call] = standin.ledger()
    assert call.credential is not None
    assert call.credential.sha256 == fingerprint(secret)
    assert call.leaks == []
    assert '"demo":{"state":"ok"}' in printed.replace("'", '"').replace(" ", "")


@pytest.mark.parametrize("title", list(CALLS))
def test_the_sdk_snippets_work(
    title: str, snippets: dict[str, str], standin: Standin, tmp_path: Path
) -> None:
    """Pasted into a file, with one call after it and the caller's own provider key as ever."""
    file = tmp_path / "pasted.py"
    file.write_text(snippets[title] + dedent(CALLS[title]))
    printed = run([sys.executable, str(file)], tmp_path, **OWN)
    check(standin, printed, OWN["OPENAI_API_KEY" if "OpenAI" in title else "ANTHROPIC_API_KEY"])


@pytest.mark.parametrize("title", list(CALLS))
def test_the_application_key_alone_is_enough(
    title: str, snippets: dict[str, str], service: Service, standin: Standin, tmp_path: Path
) -> None:
    """As the welcome says: where the service has a provider key, ours stands in its place."""
    key = re.search(r"sk-xproxy-app-\w+", snippets[title])
    assert key
    file = tmp_path / "pasted.py"
    file.write_text(snippets[title] + dedent(CALLS[title]))
    run([sys.executable, str(file)], tmp_path, **dict.fromkeys(OWN, key[0]))
    stored = service.environment["OPENAI_API_KEY" if "OpenAI" in title else "ANTHROPIC_API_KEY"]
    [call] = standin.ledger()
    assert call.credential is not None
    assert call.credential.sha256 == fingerprint(stored)
    assert call.leaks == []


def test_the_curl_snippet_works(snippets: dict[str, str], standin: Standin, tmp_path: Path) -> None:
    """Pasted into a shell, letter for letter."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed: apt-get install curl")
    printed = run(["bash", "-euc", snippets["curl"]], tmp_path, **OWN)
    check(standin, printed, OWN["OPENAI_API_KEY"])


def test_coding_agents_find_their_way(
    snippets: dict[str, str], standin: Standin, tmp_path: Path
) -> None:
    """The two variables, exported, are all that a program on Anthropic's SDK needs."""
    program = tmp_path / "agent.py"
    program.write_text("from anthropic import Anthropic\nclient = Anthropic()\n")
    with program.open("a") as file:
        file.write(dedent(CALLS["Anthropic SDK"]))
    pasted = snippets["Coding agents"] + shlex.join([sys.executable, str(program)])
    run(["bash", "-euc", pasted], tmp_path, **OWN)
    [call] = standin.ledger()
    assert call.credential is not None
    assert call.credential.sha256 == fingerprint(OWN["ANTHROPIC_API_KEY"])
    assert call.leaks == []


def test_the_command_shows_what_is_left(snippets: dict[str, str], service: Service) -> None:
    """The last line, as printed; where `xproxy` is not installed, as `python -m metering`."""
    line = snippets["What is left"].strip()
    program = line.split()[0]
    if shutil.which(program) is None and not (ROOT / program).exists():
        line = line.replace(program, f"{sys.executable} -m metering", 1)
    environment = {"XPROXY_DATA_DIR": str(service.data_dir), "PATH": os.environ["PATH"]}
    printed = subprocess.check_output(line, shell=True, cwd=ROOT, env=environment, text=True)
    assert "demo" in printed
