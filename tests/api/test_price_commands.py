"""`xproxy prices` against the control plane on a socket, and against a database alone."""

from __future__ import annotations

import json
from pathlib import Path

import asyncpg
import pytest

from tests.api.conftest import OTHER, PACKAGED, Bench
from tests.api.test_commands import Run, output, url, xproxy
from tests.api.test_prices import openai

__all__ = ["url", "xproxy"]


@pytest.fixture
def contract(tmp_path: Path) -> Path:
    """A file in which gpt-4o costs $3."""
    path = tmp_path / "contract.json"
    path.write_text(openai(input="3"))
    return path


async def test_looking_prices_up(xproxy: Run) -> None:
    """A table for people, JSON for machines; without a command it is the list."""
    listed = await output(xproxy("prices", "list", "gpt-4o-mini"))
    everything = json.loads(await output(xproxy("prices", "list", "--json")))
    shown = await output(xproxy("prices", "show", "openai/gpt-4o-2024-08-06"))
    bare = await xproxy("prices")

    assert "openai/gpt-4o-mini" in listed
    assert "0.15" in listed
    assert len(everything) > 150
    assert "cache_read" in shown
    assert bare.exit_code in {0, 1}


async def test_loading_a_list(bench: Bench, xproxy: Run, contract: Path) -> None:
    """What it would change, then what it changed; it is in force, and going back is one command."""
    tried = await output(xproxy("prices", "load", str(contract), "--dry-run"))
    loaded = await output(xproxy("prices", "load", str(contract), "--note", "since May"))
    again = await output(xproxy("prices", "load", str(contract)))
    versions = await output(xproxy("prices", "versions"))
    back = await output(xproxy("prices", "load", "--version", "0", "--json"))

    assert "Would change 1 prices" in tried
    assert "openai/gpt-4o  input  default  -      2.5     3" in loaded
    assert "Changed 1 prices and added 0 models" in loaded
    assert "Nothing to load" in again
    assert "since May" in versions
    assert json.loads(back.splitlines()[-1])["in_force"]["version"] == 2
    assert bench.services.prices.version.version == 2


async def test_the_packages_own_list_is_the_default(bench: Bench, xproxy: Run) -> None:
    """`make pricing-load` says so when there is nothing newer than what is in force."""
    assert "Nothing to load: version 0-" in await output(xproxy("prices", "load"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (openai(input="30"), "accepted by name: openai/gpt-4o (400 drastic_price_change)"),
        (openai(input="-3"), "contract.json"),
        ("{", "contract.json"),
    ],
)
async def test_a_bad_list_is_one_line(xproxy: Run, contract: Path, text: str, words: str) -> None:
    """Exit code 1 and what is wrong where; accepted by name it is loaded."""
    contract.write_text(text)
    refused = await xproxy("prices", "load", str(contract))
    assert refused.exit_code == 1
    assert words in refused.output
    assert refused.output.count("\n") == 1
    if "drastic" in words:
        accepted = ("--accept", "openai/gpt-4o")
        assert "Changed" in await output(xproxy("prices", "load", str(contract), *accepted))


async def test_a_file_that_is_no_text(xproxy: Run, contract: Path) -> None:
    """It is refused with its name and the line, before anybody is asked."""
    contract.write_bytes(openai(input="3").encode().replace(b"gpt-4o", b"gpt-\xe9", 1))
    refused = await xproxy("prices", "load", str(contract))
    assert (refused.exit_code, refused.output.count("\n")) == (1, 1)
    assert "contract.json:" in refused.output
    assert "can't decode byte 0xe9" in refused.output


async def test_two_files_of_one_name_are_refused(xproxy: Run, contract: Path) -> None:
    """One of them would be forgotten."""
    refused = await xproxy("prices", "load", str(contract), str(contract.parent / "contract.json"))
    assert "contract.json is given twice" in refused.output


async def test_own_prices(xproxy: Run) -> None:
    """A rate is set, replaced by one of the same match, listed, removed; the others stay."""
    mine = ("--application", OTHER)
    await output(xproxy("prices", "own", "set", "openai/*", "--multiplier", "0.8", *mine))
    await output(xproxy("prices", "own", "set", "openai/*", "--multiplier", "0.7", *mine))
    price = ("--price", "input=2", "--from", "2027-01-01")
    listed = await output(xproxy("prices", "own", "set", "openai/gpt-4o", *price, *mine))
    await output(xproxy("prices", "own", "remove", "openai/*", *mine))
    left = json.loads(await output(xproxy("prices", "own", "list", "--json", *mine)))["rates"]
    await output(xproxy("prices", "own", "clear", "--yes", *mine))

    assert "0.7" in listed
    assert "0.8" not in listed
    assert left == [{"match": "openai/gpt-4o", "from": "2027-01-01", "prices": {"input": "2"}}]
    assert await output(xproxy("prices", "own", "list", *mine)) == "Nothing here yet.\n"


@pytest.mark.parametrize("whose", [("--credential", "env-openai"), ("--limit", "team")])
async def test_own_prices_of_a_credential_or_a_limit(
    bench: Bench, xproxy: Run, whose: tuple[str, str]
) -> None:
    """Every command is about the one that is named, and no other's rates change."""
    await bench.limit(limit_id="team", limit_name="team")
    own = ("prices", "own")
    await output(xproxy(*own, "set", "*", "--multiplier", "0.9"))
    await output(xproxy(*own, "set", "openai/*", "--multiplier", "1.5", *whose))
    await output(xproxy(*own, "set", "*", "--multiplier", "1.2", *whose))
    await output(xproxy(*own, "remove", "openai/*", *whose))
    listed = json.loads(await output(xproxy(*own, "list", "--json", *whose)))
    await output(xproxy(*own, "clear", "--yes", *whose))

    assert listed["rates"] == [{"match": "*", "multiplier": "1.2"}]
    assert listed[whose[0].removeprefix("--")] == whose[1]
    assert await output(xproxy(*own, "list", *whose)) == "Nothing here yet.\n"
    assert "0.9" in await output(xproxy(*own, "list"))
    both = await xproxy(*own, "list", "--credential", "env-openai", "--limit", "team")
    assert "not both" in both.output


async def test_an_own_price_that_is_drastic(xproxy: Run) -> None:
    """It takes --accept, and then can be kept while others change."""
    free = ("prices", "own", "set", "openai/gpt-4o", "--price", "input=0")
    assert "drastic_price_change" in (await xproxy(*free)).output
    await output(xproxy(*free, "--accept"))
    await output(xproxy("prices", "own", "set", "*", "--multiplier", "0.9"))
    assert "openai/gpt-4o" in await output(xproxy("prices", "own", "remove", "*"))


async def test_a_database_without_a_service(
    xproxy: Run, contract: Path, database: str, redis_url: str
) -> None:
    """With DATABASE_URL and no service to ask, the list is put into the database itself."""
    nobody = {"XPROXY_URL": None, "XPROXY_API_KEY": None}
    stores = {"DATABASE_URL": database, "REDIS_URL": redis_url}
    load = ("prices", "load", str(contract))
    assert "Changed 1 prices" in await output(xproxy(*load, **nobody, **stores))
    answer = json.loads(await output(xproxy(*load, "--json", **nobody, **stores)))
    drastic = await xproxy("prices", "load", "--version", "5", **nobody, **stores)

    assert (answer["unchanged"], answer["in_force"]["loaded_by"]) == (True, "command line")
    assert "There is no price version 5" in drastic.output
    assert "No running service found" in (await xproxy(*load, **nobody)).output
    connection = await asyncpg.connect(database)
    files = json.loads(await connection.fetchval("SELECT files FROM price_versions"))
    await connection.close()
    assert set(files) == set(PACKAGED)
