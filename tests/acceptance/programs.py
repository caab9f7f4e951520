"""Portkey's clients, as its users run them: example programs in Python, for Node and by curl."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.standin.recordings import ROOT
from tests.standin.service import Service

PUBLISHED = "https://api.portkey.ai/v1"
NODE_MODULES = ROOT / ".venv-node" / "node_modules"
PYTHON, NODE, CURL = "python", "js", "bash"
PRINTS = {
    PYTHON: "print(response.model_dump_json())",
    NODE: "console.log(JSON.stringify(response));",
    CURL: "",
}
"""What is added to an example, so that it shows the whole answer."""


@dataclass(frozen=True)
class Keys:
    """What stands in an example where it says `$NAME`."""

    portkey: str
    """A key of ours."""
    anthropic: str
    """The provider's own."""
    virtual: str
    """The slug of a stored credential."""

    def named(self) -> dict[str, str]:
        """By the names that examples have for them."""
        return {
            "PORTKEY_API_KEY": self.portkey,
            "ANTHROPIC_API_KEY": self.anthropic,
            "VIRTUAL_KEY": self.virtual,
        }


def needs(language: str) -> None:
    """Skip a test where its language is not installed."""
    if language == NODE and (
        shutil.which("node") is None or not (NODE_MODULES / "portkey-ai").is_dir()
    ):
        pytest.skip("needs node and npm, and their packages, which `make test` installs")


def run(language: str, text: str, service: Service, keys: Keys, place: Path) -> str:
    """Run an example as a process, with our address and these keys alone: what it printed.

    Portkey's clients take the address from their environment; where an example passes it on, or
    curl has it, it is replaced.
    """
    needs(language)
    ours = service.url + "/v1"
    text = text.replace("=PORTKEY_GATEWAY_URL", f'="{ours}"')
    text = text.replace(": PORTKEY_GATEWAY_URL", f': "{ours}"').replace(PUBLISHED, ours)
    if language != CURL:  # whose shell does it
        for name, value in keys.named().items():
            text = text.replace(f'"${name}"', json.dumps(value))
    command, ending = {
        PYTHON: ([sys.executable], "py"),
        NODE: (["node"], "mjs"),
        CURL: (["sh"], "sh"),
    }[language]
    if language == NODE:
        _install(place / "node_modules")
    file = place / f"example.{ending}"
    file.write_text(f"{text}\n{PRINTS[language]}\n")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(place),
        "NO_PROXY": "*",
        "PORTKEY_PROXY": ours,
        "PORTKEY_BASE_URL": ours,
    }
    done = subprocess.run(
        [*command, str(file)],
        check=False,
        cwd=place,
        env=environment | (keys.named() if language == CURL else {}),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert keys.portkey not in done.stdout
    return done.stdout


def _install(place: Path) -> None:
    """Make the clients importable as the examples import them.

    Portkey's package is CommonJS: its default export is what bundlers and TypeScript make of its
    `default`, and Node by itself does not.
    """
    (place / "portkey-ai").mkdir(parents=True)
    (place / "openai").symlink_to(NODE_MODULES / "openai")
    real = json.dumps(str(NODE_MODULES / "portkey-ai" / "dist" / "src" / "index.js"))
    package = {"name": "portkey-ai", "type": "module", "exports": "./index.js"}
    (place / "portkey-ai" / "package.json").write_text(json.dumps(package))
    (place / "portkey-ai" / "index.js").write_text(
        f"import portkey from {real};\nexport * from {real};\nexport default portkey.default;\n"
    )


def answer_in(printed: str) -> dict[str, Any]:
    """The answer that an example printed last; numbers as they stand there."""
    answer: dict[str, Any] = json.loads(printed.strip().splitlines()[-1], parse_float=Decimal)
    return answer
