from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pricing import update
from pricing.catalogue import PriceDataError
from pricing.genai import genai_files
from pricing.litellm import litellm_list
from pricing.load import load
from tests.pricing.lists import (
    DAY_1,
    DAY_2,
    FLAT,
    LITELLM,
    TIERED,
    entries,
    genai,
    image,
    model,
    nowhere,
    row,
    rows,
    run,
)


def test_a_catalogue_is_made_of_its_sources(tmp_path: Path) -> None:
    """Names, dates, tiers and prices come from genai-prices; bounds and gaps from LiteLLM."""
    flex = (
        "[PriceVariant(when={'service_tier': 'default'}, prices=ModelPrice()), "
        "PriceVariant(when={'service_tier': 'flex'}, prices=ModelPrice(input_mtok=Decimal('1')), "
        "constraint=StartDateConstraint(start_date=datetime.date(2026, 10, 2)))]"
    )
    dated = (
        f"[ConditionalPrice(prices={TIERED}), ConditionalPrice(constraint="
        f"StartDateConstraint(start_date=datetime.date(2026, 3, 1)), prices={FLAT.format(3)})]"
    )
    free = (
        "ModelInfo(id='moderation', match=ClauseEquals(equals='moderation'), prices=ModelPrice())"
    )
    assert run(tmp_path, genai(", ".join([model(prices=dated, variants=flex), free]))) == 0
    found = entries(tmp_path)
    assert list(found) == ["ft:m", "m", "moderation"]
    made = found["m"]
    assert made["match"] == ["*+m+*", "m", "m-####", "m-x*", "m@####"]
    assert (made["context_window"], made["max_output_tokens"]) == (100, 128)
    assert rows(tmp_path) == [
        (None, "default", "2"),
        ("2026-03-01", "default", "3"),
        ("2026-10-02", "flex", "1"),
    ]
    base, later, _ = made["prices"]
    assert base["above"] == {"200": {"input": "4"}}
    assert base["prices"]["input_audio"] == later["prices"]["input_audio"] == "40"
    assert base["prices"]["web_search"] == "10"
    assert base["source"] == "genai-prices 9.9; input_audio, web_search from litellm 8.8"
    assert [(s["scope"], s["multiplier"]) for s in made["scopes"]] == [("eu", "1.1")]
    assert rows(tmp_path, "moderation") == [(None, "default", "0")]
    tuned = found["ft:m"]
    assert tuned["match"] == ["ft:m", "ft:m:*"]
    assert rows(tmp_path, "ft:m") == [
        (None, "default", "3"),
        (None, "batch", "1.5"),
        (None, "fast", "6"),
    ]
    assert tuned["prices"][0]["above"] == {"200000": {"input": "4"}}
    assert tuned["scopes"][0]["multiplier"] == "1.1"
    assert load(tmp_path).find("openai", "ft:m:org:1", 0) is not None


def test_a_second_run_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same sources, the next day, leave every byte as it is, and the command says so."""
    run(tmp_path, genai(model()))
    before = (tmp_path / "openai.json").read_bytes()
    capsys.readouterr()
    assert run(tmp_path, genai(model()), now=DAY_2) == 0
    assert (tmp_path / "openai.json").read_bytes() == before
    assert capsys.readouterr().out == "nothing changed\n"


def test_the_hour_of_a_run_changes_nothing(tmp_path: Path) -> None:
    """Where prices are of hours, the report is of the day: a run at noon is one at night."""
    at = "datetime.time({}, 0, tzinfo=datetime.UTC)"
    noon = f"TimeOfDateConstraint(start_time={at.format(11)}, end_time={at.format(13)})"
    hourly = (
        f"[ConditionalPrice(prices={FLAT.format(2)}), "
        f"ConditionalPrice(constraint={noon}, prices={FLAT.format(4)})]"
    )
    pages = []
    for hour in (0, 12):
        assert run(tmp_path, genai(model(prices=hourly)), now=DAY_1.replace(hour=hour)) == 0
        pages.append({path.name: path.read_bytes() for path in tmp_path.iterdir()})
    assert pages[0] == pages[1]
    assert b"output: the catalogue 10, litellm 11" in pages[0]["report.md"]
    assert b"default input: the catalogue" not in pages[0]["report.md"]


def dated(*blocks: tuple[str, int]) -> str:
    """Prices with start dates: (`2026, 12, 1`, input price) pairs after an undated 2."""
    conditional = "".join(
        f", ConditionalPrice(constraint=StartDateConstraint(start_date=datetime.date({day})), "
        f"prices={FLAT.format(price)})"
        for day, price in blocks
    )
    return f"[ConditionalPrice(prices={FLAT.format(2)}){conditional}]"


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        # changed without a date: from today, and yesterday's stays
        (FLAT.format(2), FLAT.format(3), [(None, "2"), ("2026-11-21", "3")]),
        # changed with a date, past or future: from that date
        (FLAT.format(2), dated(("2026, 5, 1", 3)), [(None, "2"), ("2026-05-01", "3")]),
        (FLAT.format(2), dated(("2027, 5, 1", 3)), [(None, "2"), ("2027-05-01", "3")]),
        # a dated price that is what we have says nothing new
        (FLAT.format(2), dated(("2026, 5, 1", 2)), [(None, "2")]),
        # a price in force that the source rewrote: both stay, the new from today
        (
            dated(("2026, 5, 1", 3)),
            dated(("2026, 5, 1", 4)),
            [(None, "2"), ("2026-05-01", "3"), ("2026-11-21", "4")],
        ),
        # one that has not begun may be replaced
        (dated(("2027, 5, 1", 3)), dated(("2027, 5, 1", 4)), [(None, "2"), ("2027-05-01", "4")]),
    ],
)
def test_prices_are_appended(
    before: str, after: str, expected: list[tuple[str | None, str]], tmp_path: Path
) -> None:
    """A price in force is never overwritten: what is new gets a row of its own."""
    run(tmp_path, genai(model(prices=before)))
    run(tmp_path, genai(model(prices=after)), now=DAY_2)
    assert [(since, price) for since, _, price in rows(tmp_path)] == expected
    written = (tmp_path / "openai.json").read_bytes()
    run(tmp_path, genai(model(prices=after)), now=DAY_2)
    assert (tmp_path / "openai.json").read_bytes() == written


def test_the_same_day_may_be_corrected(tmp_path: Path) -> None:
    """Two changes on one day leave one row of that day: the later."""
    run(tmp_path, genai(model()))
    for price in (3, 4):
        run(tmp_path, genai(model(prices=FLAT.format(price))), now=DAY_2)
    assert rows(tmp_path) == [(None, "default", "2"), ("2026-11-21", "default", "4")]


def test_a_new_tier_begins_today(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A tier that appears without a date did not hold yesterday; one that vanishes is kept."""
    fast = "[PriceVariant(when={'speed': 'fast'}, prices=ModelPrice(input_mtok=Decimal('8')))]"
    run(tmp_path, genai(model()))
    run(tmp_path, genai(model(variants=fast)), now=DAY_2)
    assert rows(tmp_path) == [(None, "default", "2"), ("2026-11-21", "fast", "8")]
    assert "m: fast from 2026-11-21: input 8" in capsys.readouterr().out
    run(tmp_path, genai(model()), now=DAY_2)
    assert len(rows(tmp_path)) == 2


def test_models_come_move_and_stay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """New models are added, names follow their model, and what is no longer listed is kept."""
    run(tmp_path, genai(model("m") + ", " + model("gone")))
    moved = model("n").replace("equals='n'", "equals='m'")
    capsys.readouterr()
    run(tmp_path, genai(moved), now=DAY_2, prices={})
    said = capsys.readouterr().out
    assert "m: - m" in said
    assert "n: new, default from the beginning: input 2 output 10" in said
    assert {"m", "n", "gone"} <= entries(tmp_path).keys()
    book = load(tmp_path)
    found = book.find("openai", "m", 0)
    assert found is not None
    assert found.model == "n"
    everything = (
        "ClauseOr(or_=["
        + ", ".join(f"ClauseEquals(equals='{name}')" for name in ("gone", "n"))
        + ", ClauseStartsWith(starts_with='gone-x'), ClauseContains(contains='+gone+'), "
        "ClauseRegex(regex='^gone[-@]\\\\d{4}$')])"
    )
    taker = f"ModelInfo(id='n', match={everything}, prices={FLAT.format(2)})"
    run(tmp_path, genai(taker), now=DAY_2, prices={})
    assert "gone: dropped, its names now belong to other models" in capsys.readouterr().out
    assert "gone" not in entries(tmp_path)


def test_the_lesser_source_takes_nothing_over(tmp_path: Path) -> None:
    """A model genai-prices drops keeps its prices, though LiteLLM's list has others."""
    run(tmp_path, genai(model(prices=FLAT.format(7))))
    run(tmp_path, genai(""), now=DAY_2)
    assert rows(tmp_path) == [(None, "default", "7")]


def test_bounds_and_scopes_follow(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Bounds are what the source says now; a multiplier that changed begins today."""
    run(tmp_path, genai(model()))
    changed = LITELLM | {
        "m": LITELLM["m"] | {
            "max_output_tokens": 256, "regional_processing_uplift_multiplier_eu": 1.2,
        }
    }  # fmt: skip
    capsys.readouterr()
    run(tmp_path, genai(model()), now=DAY_2, prices=changed)
    said = capsys.readouterr().out
    assert "m: max_output_tokens 128 -> 256" in said
    assert "m: scope eu x 1.2, from 2026-11-21" in said
    assert [(s["from"], s["multiplier"]) for s in entries(tmp_path)["m"]["scopes"]] == [
        (None, "1.1"),
        ("2026-11-21", "1.2"),
    ]


def test_a_diff_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--diff` is a table of old, new and percent, and leaves the files alone."""
    run(tmp_path, genai(model(prices=TIERED)))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    changed = TIERED.replace("'4'", "'5'").replace("'9'", "'0.9'").replace("'2'", "'3'")
    news = {"n": row("openai", "chat", (2, 10))}
    capsys.readouterr()
    accept = ("--accept", "openai/m")
    assert run(tmp_path, genai(model(prices=changed)), "--diff", *accept, prices=news) == 0
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert [re.sub(" +", " ", line) for line in capsys.readouterr().out.splitlines()] == [
        "model price from old new change",
        "openai/m default input 2026-11-20 2 3 +50.0 %",
        "openai/m default output 2026-11-20 9 0.9 -90.0 %",
        "openai/m default input_audio 2026-11-20 40 - gone",
        "openai/m default web_search 2026-11-20 10 - gone",
        "openai/m default above 200 input 2026-11-20 4 5 +25.0 %",
        "openai/n default input always - 2 new",
        "openai/n default output always - 10 new",
        "2 changes",
    ]


def test_a_check_reports_disagreements(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--check` validates, and names every price that another list has otherwise."""
    fast = (
        "[PriceVariant(when={'processing': 'batch'}, prices=ModelPrice(input_mtok=Decimal('1')))]"
    )
    run(tmp_path, genai(model(prices=TIERED)))
    run(tmp_path, genai(model("o", variants=fast)), now=DAY_2, prices={})
    capsys.readouterr()
    o = {"o": LITELLM["m"] | {"input_cost_per_audio_token": 4e-05, "input_cost_per_token": 2e-06}}
    assert run(tmp_path, genai(""), "--check", now=DAY_2, prices=LITELLM | o) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("the catalogue is valid: version ")
    assert lines[1:] == [
        "openai/m: default above 200000 input: the catalogue 4, litellm 5",
        "openai/m: default output: the catalogue 9, litellm 11",
        "openai/m: litellm has a batch tier, the catalogue has none",
        "openai/o: batch output: the catalogue 10, litellm 5",
        "openai/o: default above 200000 input: the catalogue 2, litellm 5",
        "openai/o: default input_audio: the catalogue 2, litellm 40",
        "openai/o: default output: the catalogue 10, litellm 11",
        "7 disagreements with the other lists",
    ]
    page = (tmp_path / "report.md").read_text()
    assert "| genai-prices 9.9 | 2 | 5 | 2026-11-21 |" in page
    seconds = (
        FLAT.format(2).replace("input_mtok", "audio_hours").replace("output_mtok", "input_mchars")
    )
    run(tmp_path, genai(model("p", prices=seconds)), now=DAY_2)
    capsys.readouterr()
    p = {"p": {"litellm_provider": "openai", "input_cost_per_token": 1e-06,
               "output_cost_per_token": 0}}  # fmt: skip
    run(tmp_path, genai(""), "--check", now=DAY_2, prices=p)
    said = capsys.readouterr().out
    assert "openai/p: default input: the catalogue none, litellm 1" in said
    assert "default output" not in said


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (model(prices="ModelPrice(parrots=Decimal('1'))"), "m: parrots is not a unit we know"),
        (
            model(variants=f"[PriceVariant(when={{'a': 'b'}}, prices={FLAT.format(1)})]"),
            "{'a': 'b'} is not a service tier",
        ),
        (
            model(prices="[ConditionalPrice(constraint=TimeOfDateConstraint(), prices=1)]"),
            "TimeOfDateConstraint is not a date",
        ),
        (
            f"ModelInfo(id='m', match=ClauseAnd(and_=[]), prices={FLAT.format(1)})",
            "ClauseAnd is not a clause and one exception",
        ),
        (
            f"ModelInfo(id='m', match=ClauseNever(), prices={FLAT.format(1)})",
            "ClauseNever is not a clause we know",
        ),
        (
            f"ModelInfo(id='m', match=ClauseRegex(regex='^m(a|b)$'), prices={FLAT.format(1)})",
            "^m(a|b)$ is not a pattern",
        ),
        (
            f"ModelInfo(id='m', match=ClauseRegex(regex='m'), prices={FLAT.format(1)})",
            "m is not a pattern",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_said_is_refused(
    text: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Upstream news the catalogue has no words for stops the update, whole, and says what it is."""
    assert run(tmp_path, genai(text, model("fine"))) == 1
    assert reason in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_a_source_without_its_list_is_refused() -> None:
    """A data module of another shape is refused, not half read."""
    text = "providers: list = [Provider(id='openai', pricing_urls=[], models=MODELS)]"
    with pytest.raises(PriceDataError, match="line 1: expected a list"):
        genai_files(text, "s", "2026-01-01")


def test_the_list_ignores_what_is_no_model() -> None:
    """Explanations, capacity by the hour and composed names are not taken up."""
    rows = LITELLM | {
        "bedrock/*/1-month-commitment/m": row("bedrock", "chat", (1, 1)),
        "bedrock/nowhere/m": row("bedrock", "chat", (1, 1)),
        "1024-x-1024/50-steps/m": row("bedrock", "image_generation"),
        "together-ai-up-to-4b": row("together_ai", "chat", (1, 1)),
        "azure/global/m": row("azure", "chat", (1, 1)),
    }
    found = litellm_list(json.dumps(rows).encode(), "s")
    assert [(item.provider, item.name) for item in found] == [
        ("openai", "m"), ("openai", "m-xl"), ("openai", "m-xs"), ("openai", "sora"),
        ("openai", "low/image"), ("openai", "ft:m"), ("google", "gemini"),
    ]  # fmt: skip


# As the list has them: floats by the pixel, the character and the second.
MEDIA = {
    "256-x-256/dall-e-2": image("openai", 2.4414e-07),
    "512-x-512/dall-e-2": image("openai", 6.86e-08),
    "1024-x-1024/dall-e-2": image("openai", 1.9e-08),
    "standard/1024-x-1024/dall-e-3": image("openai", 3.81469e-08),
    "hd/1024-x-1792/dall-e-3": image("openai", 6.539e-08),
    "standard/1024-x-1024/free": image("openai", 0.0),
    "hd/77-x-77/odd": image("openai", 1e-06),
    "dall-e-3": row("openai", "image_generation", input_cost_per_image=0.04),
    "speech": row("openai", "audio_speech", input_cost_per_character=1.5e-05),
    "ears": row("openai", "audio_transcription", input_cost_per_second=0.000283333333333),
    # what a second or an image comes to is no price where tokens have one
    "tokens": row("openai", "audio_transcription", (2.5, 10), input_cost_per_second=0.1),
    "1024-x-1024/tokens": image("openai", 1e-06),
    "azure_ai/flux": row("azure_ai", "image_generation", output_cost_per_image=0.04),
    "sora": row("openai", "video_generation", input_cost_per_second=0.1),
    "openai/container": row("openai", "chat", code_interpreter_cost_per_session=0.03),
}


@pytest.mark.parametrize(
    ("provider", "name", "prices"),
    [
        ("openai", "dall-e-2",
         {"image_256x256": "0.016", "image_512x512": "0.018", "image_1024x1024": "0.02"}),
        ("openai", "dall-e-3",
         {"image_standard_1024x1024": "0.04", "image_hd_1024x1792": "0.12"}),
        ("openai", "speech", {"input_characters": "15"}),
        ("openai", "ears", {"audio_seconds": "1.02"}),
        ("openai", "tokens", {"input": "2.5", "output": "10"}),
        ("azure", "flux", {"images": "0.04"}),
        ("openai", "free", None),
        ("openai", "odd", None),
        ("openai", "sora", None),
        ("openai", "container", None),
    ],
)  # fmt: skip
def test_media_have_exact_prices(
    provider: str, name: str, prices: dict[str, str] | None, tmp_path: Path
) -> None:
    """What is billed by the image, second or character comes out of the list's floats exactly."""
    run(tmp_path, genai(model()), prices=MEDIA)
    found = entries(tmp_path, provider).get(name)
    assert (found and found["prices"][0]["prices"]) == prices


def listed(name: str, tokens: tuple[float, float]) -> dict[str, dict[str, Any]]:
    """A model that the list has at one price with OpenAI and with Azure."""
    return {name: row("openai", "chat", tokens), f"azure/{name}": row("azure", "chat", tokens)}


SEARCH: dict[str, Any] = {"search_context_cost_per_query": {"search_context_size_low": 0.014}}
AZURE = {
    **listed("m", (2, 10)),
    "azure/eu/m": row("azure", "chat", (2.2, 11)),
    "azure/us/m": row("azure", "chat", (2.2, 11)),
    # dearer in one zone
    **listed("n", (2, 10)),
    "azure/eu/n": row("azure", "chat", (2.4, 12)),
    "azure/us/n": row("azure", "chat", (2.2, 11)),
    # another's price, in the catalogue and in the list; a zone counts from Azure's
    **listed("o", (2, 10)),
    "azure/o": row("azure", "chat", (4, 10), **SEARCH),
    "azure/us/o": row("azure", "chat", (4.8, 12)),
    # genai-prices says that Azure sells it at list price
    **listed("r", (2, 10)),
    "azure/r": row("azure", "chat", (3, 11)),
    # the list's own mind about the vendor's price, too, and about a cache
    **listed("p", (3, 10)),
    "azure/p": row("azure", "chat", (3, 10), cache_read_input_token_cost=1e-07),
    # zones that are not a multiple, or are of nothing; places that are no zones
    "azure/apac/p": row("azure", "chat", (2.2, 10)),
    "azure/eu/q": row("azure", "chat", (2.2, 10)),
    "azure/us-gov/m": row("azure", "chat", (9, 99)),
    "azure/global/m": row("azure", "chat", (2, 10)),
    # names from before Foundry and after: the later price holds
    "azure/mistral": row("azure", "chat", (8, 24)),
    "azure_ai/Mistral": row("azure_ai", "chat", (2, 6)),
    # tools are Azure's with OpenAI's models
    "azure/m-xl": row("azure", "chat", **SEARCH),
    "azure_ai/claude": row("azure_ai", "chat", search_context_cost_per_query={"low": 0.01}),
}  # fmt: skip
MODELS = ", ".join(model(name) for name in "mnopr")


def test_azure_lists_only_what_differs(tmp_path: Path) -> None:
    """A model at the vendor's list price has no entry, one with dearer zones no prices."""
    azure = ", ".join([model("a"), model("m"), model("r"), model("s", prices=FLAT.format(1))])
    assert run(tmp_path, genai(MODELS, model("claude"), azure), prices=AZURE) == 0
    found = json.loads((tmp_path / "azure.json").read_bytes())
    assert found["resells"] == [
        {"vendor": "openai", "spelt": {"gpt-35-": "gpt-3.5-"}},
        {"vendor": "anthropic", "own_tools": False},
    ]
    assert [(fee["prices"], fee["source"]) for fee in found["fees"]] == [
        ({"web_search": "14"}, "web_search from litellm 8.8")
    ]
    ratios = {scope["scope"]: scope["multiplier"] for scope in found["scopes"]}
    assert ratios == {"datazone": "1.1", "region": "1.1"}
    made = {
        entry["id"]: (
            [row["prices"] for row in entry["prices"]],
            {scope["scope"]: scope["multiplier"] for scope in entry.get("scopes", [])},
        )
        for entry in found["models"]
    }
    assert made == {
        "a": ([{"input": "2", "output": "10"}], {}),
        "mistral": ([{"input": "2", "output": "6"}], {}),
        "n": ([], {"datazone": "1.2", "datazone.us": "1.1"}),
        "o": ([{"input": "4", "output": "10", "web_search": "14"}], {"datazone": "1.2"}),
        "s": ([{"input": "1", "output": "10"}], {}),
    }
    assert load(tmp_path).find("azure", "claude", 0) is not None


def test_azure_without_zones_has_none(tmp_path: Path) -> None:
    """Where the list knows of no zones and tools, the file has none of its own."""
    run(tmp_path, genai(model()), prices={})
    found = json.loads((tmp_path / "azure.json").read_bytes())
    assert [scope["scope"] for scope in found["scopes"]] == ["region"]
    assert "fees" not in found


SEARCHES = "ModelPrice(input_mtok=Decimal('2'), web_searches_kcount=Decimal('{0}'))"


def fees(data: Path) -> list[tuple[str | None, str | None]]:
    """(from, web search) of each row of OpenAI's fees, in file order."""
    rows = json.loads((data / "openai.json").read_bytes())["fees"]
    assert all(row["prices"]["container_4g"] == "0.12" for row in rows)
    return [(row["from"], row["prices"].get("web_search")) for row in rows]


def test_a_fee_is_taken_from_models_that_agree(tmp_path: Path) -> None:
    """What all models that list a tool's price list alike is the provider's fee; else none is."""
    same = [model("m", prices=SEARCHES.format(10)), model("n", prices=SEARCHES.format(10))]
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    run(tmp_path / "a", genai(", ".join([*same, model("o")])), prices={})
    assert fees(tmp_path / "a") == [(None, "10")]
    run(tmp_path / "b", genai(f"{same[0]}, {model('n', prices=SEARCHES.format(25))}"), prices={})
    assert fees(tmp_path / "b") == [(None, None)]


def test_fees_are_appended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A fee that changed begins today, as does a vendor's; the same sources change nothing."""
    run(tmp_path, genai(model(prices=SEARCHES.format(10)), model("claude")), prices=AZURE)
    more = AZURE | {
        "azure/eu/m": row("azure", "chat", (2.4, 12)),
        "azure/us/m": row("azure", "chat", (2.4, 12)),
    }
    text = genai(model(prices=SEARCHES.format(12)), model("claude"))
    capsys.readouterr()
    for expected in (
        ["fees: default from 2026-11-21: web_search 12", "scope datazone x 1.2, from 2026-11-21"],
        ["nothing changed"],
    ):
        assert run(tmp_path, text, now=DAY_2, prices=more) == 0
        said = capsys.readouterr().out
        assert all(line in said for line in expected), said
    assert fees(tmp_path) == [(None, "10"), ("2026-11-21", "12")]


def test_what_is_sold_at_list_price_is_announced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model that gets zones of its own, and vendors whose models a provider begins to sell."""
    run(tmp_path, genai(MODELS), prices={})
    sold = json.loads((tmp_path / "azure.json").read_bytes())
    (tmp_path / "azure.json").write_text(json.dumps(sold | {"resells": []}))
    capsys.readouterr()
    run(tmp_path, genai(MODELS), now=DAY_2, prices=AZURE)
    said = capsys.readouterr().out
    assert "n: new, at list price, with scopes of its own" in said
    assert "resells openai, anthropic" in said
    run(tmp_path, genai(MODELS), now=DAY_2, prices=AZURE)
    assert capsys.readouterr().out == "nothing changed\n"


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (
            subprocess.CalledProcessError(1, "pip", stderr="WARNING: x\nERROR: no route\n"),
            "no route",
        ),
        (subprocess.TimeoutExpired("pip", 300), "no answer within 300 s"),
    ],
)
def test_an_unreachable_index_keeps_the_catalogue(
    failure: Exception,
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without the index the catalogue stays as it is, the command says so, and does not fail."""
    run(tmp_path, genai(model()))
    before = (tmp_path / "openai.json").read_bytes()

    def fail(*_: object, **__: object) -> None:
        raise failure

    monkeypatch.setattr(subprocess, "run", fail)
    capsys.readouterr()
    assert update.main([], data=tmp_path, get=nowhere) == 0
    said = capsys.readouterr().out
    assert "unreachable, the catalogue stays as it is" in said
    assert reason in said
    assert (tmp_path / "openai.json").read_bytes() == before


def test_a_download_without_wheels_is_unreachable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A download that succeeds and brings nothing is no news either."""
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: None)
    assert update.main([], data=tmp_path, get=nowhere) == 0
    assert "there is no wheel of genai_prices" in capsys.readouterr().out


def test_the_module_is_a_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`python -m pricing.update --help` says what it does."""
    monkeypatch.setattr(sys, "argv", ["update", "--help"])
    with pytest.raises(SystemExit, match="0"):
        runpy.run_path(str(update.__file__), run_name="__main__")
    assert "--check" in capsys.readouterr().out
