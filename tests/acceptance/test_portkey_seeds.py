"""Portkey's published page on Anthropic: every example, in Python, for Node and by curl.

`seeds/portkey_anthropic.md` is the page, letter for letter. Of its examples only address and keys
are ours: Portkey's key is one of this service's, Anthropic's is the caller's own, a virtual key is
the slug of a stored credential; which of the two the provider got, its books tell.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.programs import CURL, NODE, PYTHON, Keys, answer_in, run
from tests.acceptance.tenant import Tenant, new_tenant
from tests.standin.ledger import Entry, fingerprint
from tests.standin.process import Standin
from tests.standin.service import Service

PAGE = (Path(__file__).parent / "seeds" / "portkey_anthropic.md").read_text()
OWN = "sk-ant-api03-" + "q7Rw" * 20
SECRET = "sk-ant-api03-" + "s3Ct" * 20
SLUG = "claude-of-the-team"
MODEL = "claude-3-5-sonnet-20240620"
KINDS = {
    "Chat Completions Call": "chat",
    "Integration via Virtual Key": "virtual-key",
    "Prompt Playground": "prompt",
    "Tool Calling": "tools",
    "Prompt Caching": "caching",
}
"""What an example shows, by the heading above it."""
TOOL: dict[str, Any] = {
    "name": "get_current_weather",
    "input": {"location": "Boston, MA", "unit": "celsius"},
}


@dataclass(frozen=True)
class Example:
    """One example of the page."""

    kind: str
    language: str
    title: str
    text: str

    @property
    def by_openai(self) -> bool:
        """Whether it uses OpenAI's client, with Portkey's headers."""
        return "via OpenAI" in self.title

    @property
    def name(self) -> str:
        """What its test is called."""
        return f"{self.kind}-{self.language}{'-openai' if self.by_openai else ''}"


def examples() -> list[Example]:
    """All of the page, in its order."""
    found = []
    heading = ""
    for part in re.finditer(r"^#+ (.+)$|^```(\w+) (.+)\n((?:.*\n)*?)```$", PAGE, re.MULTILINE):
        heading = part[1] or heading
        if part[2]:
            found.append(Example(KINDS[heading], part[2], part[3], part[4]))
    return found


EXAMPLES = examples()
each_example = pytest.mark.parametrize("example", EXAMPLES, ids=lambda it: it.name)


def test_the_page_has_what_it_should() -> None:
    """Nothing of the page is overlooked: each kind in each language, some by OpenAI's client."""
    assert len(EXAMPLES) == PAGE.count("\n```") // 2
    plain = {(kind, language): 1 for kind in KINDS.values() for language in (PYTHON, NODE, CURL)}
    assert Counter((it.kind, it.language) for it in EXAMPLES if not it.by_openai) == plain
    by_openai = {
        (kind, language): 1
        for kind in ("chat", "virtual-key", "caching")
        for language in (PYTHON, NODE)
    }
    assert Counter((it.kind, it.language) for it in EXAMPLES if it.by_openai) == by_openai


@pytest.fixture
def team(service: Service, standin: Standin) -> Iterator[Tenant]:
    """A tenant with a budget and a virtual key; of providers' keys no others are accepted than that
    one's secret and the caller's own."""
    standin.wait_idle()
    standin.reset()
    tenant = new_tenant(service, "budget", permissions=["own_credential", f"credential:{SLUG}"])
    stored = {"slug": SLUG, "provider": "anthropic", "secret": SECRET}
    service.manage("POST", "credentials", stored, application=tenant.application_id)
    service.manage(
        "PATCH",
        f"keys/{tenant.key_id}",
        {"limit_ids": ["budget"]},
        application=tenant.application_id,
    )
    yield tenant
    standin.reset()


def keys_of(tenant: Tenant) -> Keys:
    """What its caller has."""
    return Keys(portkey=tenant.key, anthropic=OWN, virtual=SLUG)


def came(example: Example, standin: Standin) -> Entry:
    """The one call that came to the provider: with the right key, and nothing of ours."""
    [call] = standin.ledger()
    assert (call.provider, call.path, call.status) == ("anthropic", "/v1/messages", 200)
    assert call.model == MODEL
    assert call.leaks == []
    assert not [it for it in call.headers if it.lower().startswith(("x-portkey", "xproxy"))]
    secret = SECRET if example.kind == "virtual-key" else OWN
    assert call.credential is not None
    assert (call.credential.header, call.credential.sha256) == ("x-api-key", fingerprint(secret))
    return call


def check_answer(answer: dict[str, Any], call: Entry) -> None:
    """OpenAI's form, the provider's numbers, and what it cost to the pico."""
    assert (answer["object"], answer["model"]) == ("chat.completion", MODEL)
    usage = answer["usage"]
    assert call.usage is not None
    assert usage["prompt_tokens"] == call.usage["input_tokens"]
    assert usage["completion_tokens"] == call.usage["output_tokens"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    cost = Decimal(answer["xproxy_result"]["cost"]["total"]["base"])
    assert int(cost.scaleb(12)) == call.cost_pico


def check_message(example: Example, choice: dict[str, Any]) -> None:
    """A text; or the tool that the example offers, to be called."""
    message = choice["message"]
    assert message["role"] == "assistant"
    if example.kind != "tools":
        assert message["content"]
        return
    [called] = message["tool_calls"]
    assert called["type"] == "function"
    assert called["id"].startswith("toolu_")
    assert called["function"]["name"] == TOOL["name"]
    assert json.loads(called["function"]["arguments"]) == TOOL["input"]


@each_example
def test_it_runs_as_published(
    example: Example, team: Tenant, standin: Standin, tmp_path: Path
) -> None:
    """The right key goes upstream, the answer comes in OpenAI's form with its exact cost, and that
    is on record and counts on the key's budget."""
    standin.script({"tool": TOOL} if example.kind == "tools" else {}, auth=[OWN, SECRET])
    printed = run(example.language, example.text, team.service, keys_of(team), tmp_path)
    call = came(example, standin)
    answer = answer_in(printed)
    check_answer(answer, call)
    check_message(example, answer["choices"][0])
    if example.kind == "tools" and example.language != CURL:  # it prints the message itself
        assert TOOL["name"] in printed.rsplit("\n", 2)[0]
    row = team.row()
    assert (row["surface"], row["key_id"]) == ("portkey", team.key_id)
    assert (row["provider"], row["cost_pico"]) == ("anthropic", str(call.cost_pico))
    spent = team.totals("budget")["cost"]["total"]["base"]
    assert int(Decimal(spent).scaleb(12)) == call.cost_pico


@pytest.mark.parametrize(
    "example", [it for it in EXAMPLES if it.kind in {"prompt", "caching"}], ids=lambda it: it.name
)
def test_what_is_for_the_gateway_stays_here(
    example: Example, team: Tenant, standin: Standin, tmp_path: Path
) -> None:
    """A prompt's id and what is said of the cache come in the body, by the SDKs, or in headers: the
    provider, which refuses members it does not know, gets neither."""
    plain = next(it for it in EXAMPLES if it.kind == "chat" and it.language == CURL)
    bodies = []
    for number, it in enumerate((plain, example)):
        place = tmp_path / str(number)
        place.mkdir()
        standin.reset()
        run(it.language, it.text, team.service, keys_of(team), place)
        bodies.append(came(example, standin).body_sha256)
    assert bodies[0] == bodies[1]
