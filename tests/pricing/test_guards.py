"""An update that is broken, shrunk or absurd is refused, whole, and says why."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pricing import update
from pricing.catalogue import PriceDataError, PriceFile
from pricing.changes import Change, changes, refuse_absurd
from pricing.feeds import Taken, appended, last_of, read_log, refuse_shrunk
from pricing.load import load
from tests.pricing.builders import entry, file, row
from tests.pricing.lists import (
    DAY_2,
    FLAT,
    LITELLM,
    TIERED,
    genai,
    model,
    nowhere,
    run,
    wheels,
)

NEWS = {"n": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 1e-06}}


def attempt(data: Path, code: str, prices: dict[str, Any], *accepted: str) -> int:
    """An update that accepts nothing but what it is told to."""
    options = [word for name in accepted for word in ("--accept", name)]
    return update.main(options, data=data, get=nowhere, download=wheels(code, prices), now=DAY_2)


def state(data: Path) -> dict[str, bytes]:
    """Everything in a directory."""
    return {path.name: path.read_bytes() for path in data.iterdir()}


GOOD = genai(", ".join([model(prices=TIERED), model("z", prices=FLAT.format(1))]))


def listed(**fields: object) -> dict[str, Any]:
    """LiteLLM's list with one model said otherwise."""
    return LITELLM | {"ft:m": LITELLM["ft:m"] | fields}


@pytest.mark.parametrize(
    ("code", "prices", "reason"),
    [
        # tenfold, either way, at any tier and context; to zero
        (GOOD.replace("'2'", "'20'"), LITELLM,
         "openai/m: default input moves from 2 to 20; --accept 'openai/m' if that is so"),
        (GOOD.replace("'4'", "'0.4'"), LITELLM, "openai/m: default above 200 input moves from 4"),
        (GOOD.replace("'1'", "'0'"), LITELLM, "openai/z: default input moves from 1 to 0"),
        (GOOD, listed(input_cost_per_token_batches=1.5e-05),
         "openai/ft:m: batch input moves from 1.5 to 15"),
        (GOOD, listed(search_context_cost_per_query={"low": 0.1}, output_cost_per_token=1e-07),
         "openai/ft:m: default output moves from 6 to 0.1"),
        # shrunk by more than a fifth
        (genai(model(prices=TIERED)), LITELLM,
         "genai-prices 9.9 has 2 models, genai-prices 9.9 had"),
        (GOOD, {"m": LITELLM["m"]}, "litellm 8.8 has 1 models, litellm 8.8 had 7"),
        (GOOD, {}, "litellm 8.8 has no models"),
        # no price at all
        (GOOD, listed(input_cost_per_token=-1e-06), "is not a price"),
        (GOOD, listed(input_cost_per_token=float("nan")), "nan is not a price"),
        (GOOD, listed(input_cost_per_token=float("inf")), "inf is not a price"),
        (GOOD, listed(input_cost_per_token="free"), "'free' is not a price"),
        (GOOD.replace("'2'", "'-2'"), LITELLM, "m: '-2' is not a price"),
        (GOOD.replace("'2'", "'NaN'"), LITELLM, "m: 'NaN' is not a price"),
        # no list of ours
        ("providers: list = [Provider(", LITELLM, "genai-prices 9.9 cannot be read: SyntaxError"),
        ("x = 1", LITELLM, "genai-prices 9.9 has no models"),
        ("providers: list = [Provider(id='p', models=[])]", LITELLM, "cannot be read: KeyError"),
        (GOOD, {"m": "two dollars"}, "litellm 8.8 cannot be read: AttributeError"),
    ],
)  # fmt: skip
def test_a_broken_list_is_refused_whole(
    code: str,
    prices: dict[str, Any],
    reason: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Nothing of it is written, not even what is right in it; the prices in force stay."""
    run(tmp_path, GOOD)
    before = state(tmp_path)
    capsys.readouterr()
    news = prices | NEWS if len(prices) > 2 else prices
    assert attempt(tmp_path, code, news) == 1
    said = capsys.readouterr().out
    assert said.startswith("refused, the catalogue stays as it is: ")
    assert reason in said
    assert state(tmp_path) == before
    assert load(tmp_path).find("openai", "n", 0) is None


@pytest.mark.parametrize(
    ("accepted", "code", "prices"),
    [
        ("openai/m", GOOD.replace("'2'", "'20'"), LITELLM),
        ("openai/z", GOOD.replace("'1'", "'0'"), LITELLM),
        ("genai-prices", genai(model(prices=TIERED)), LITELLM),
        ("litellm", GOOD, {}),
    ],
)
def test_what_is_so_is_accepted_by_name(
    accepted: str, code: str, prices: dict[str, Any], tmp_path: Path
) -> None:
    """A price that really moved, or a list that really shrank, is taken when it is named."""
    run(tmp_path, GOOD)
    assert attempt(tmp_path, code, prices, "openai/other") == 1
    assert attempt(tmp_path, code, prices, accepted) == 0
    assert attempt(tmp_path, code, prices) == (not prices)  # it is what the next one is measured by


def test_a_list_that_is_no_json_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A truncated download is refused by name."""
    run(tmp_path, GOOD)

    def cut(url: str) -> bytes:
        return GOOD.encode() if url.endswith("data.py") else b'{"m": '

    assert update.main([], data=tmp_path, get=cut, download=wheels(GOOD, {}), now=DAY_2) == 1
    assert re.search("litellm [0-9a-f]{12}: Expecting value", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda m: m["currency"].update(x="EUR"), "not in 'EUR'"),
        (lambda m: m["price"].update(price=-1), "request_token: -1 is not a price"),
        (lambda m: m["price"].update(price="free"), "request_token: 'free' is not a price"),
    ],
)
def test_a_third_opinion_is_held_to_the_same(
    edit: Callable[[dict[str, Any]], None],
    reason: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Portkey's lists in another currency, or with what is no price, stop the update."""
    parts: dict[str, Any] = {"currency": {}, "price": {"price": 0.0002}}
    edit(parts)
    config = {"pay_as_you_go": {"request_token": parts["price"]}}
    if parts["currency"]:
        config["currency"] = parts["currency"]["x"]
    answer = json.dumps({"m": {"pricing_config": config}}).encode()

    def get(url: str) -> bytes:
        return answer if "portkey" in url else nowhere(url)

    assert run(tmp_path, GOOD, get=get) == 1
    assert reason in capsys.readouterr().out


def test_a_third_opinion_that_is_no_list_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A page of words in place of Portkey's lists is refused by name."""

    def get(url: str) -> bytes:
        return b"<html>" if "portkey" in url else nowhere(url)

    assert run(tmp_path, GOOD, get=get) == 1
    assert "portkey-models" in capsys.readouterr().out


def catalogue(*prices: str) -> PriceFile:
    """A provider's file whose one model has cost these, one a month."""
    rows = [
        row({"input": price}, since=f"2026-0{month}-01" if month else None)
        for month, price in enumerate(prices)
    ]
    return file("p", entry(*rows))


@pytest.mark.parametrize(
    ("after", "absurd"),
    [
        (("2", "19.9"), False), (("2", "20"), True), (("2", "0.21"), False), (("2", "0.2"), True),
        (("2", "0"), True), (("2", "2"), False), (("2", "3", "19"), False),
        (("2", "3", "20"), True),
    ],
)  # fmt: skip
def test_ten_times_is_too_much(after: tuple[str, ...], absurd: bool) -> None:  # noqa: FBT001
    """Each new row is measured by the price that the catalogue has in force."""
    before, later = catalogue("2"), catalogue(*after)
    if not absurd:
        refuse_absurd(before, later)
        return
    with pytest.raises(PriceDataError, match="p/m: default input moves from 2 to"):
        refuse_absurd(before, later)
    refuse_absurd(before, later, {"p/m"})


def test_free_may_become_paid_and_new_is_new() -> None:
    """From zero there is no tenfold, and a model that was not there did not move."""
    refuse_absurd(catalogue("0"), catalogue("0", "5"))
    refuse_absurd(None, catalogue("2"))


def test_changes_say_tier_context_hour_and_fee() -> None:
    """Every price that is new, moved or gone is named by what it is of."""
    hours = {"01:00-04:00": {"input": "4"}}
    before = file(
        "p", entry(row(), row({"input": "1"}, tier="batch")), fees=[row({"web_search": "1"})]
    )
    after = file(
        "p",
        entry(
            *before.models[0].prices,
            row({"input": "2"}, since="2026-01-01", hours=hours),
            row({"input": "1"}, tier="batch", since="2026-01-01", above={"9": {"input": "3"}}),
        ),
        fees=[*before.fees, row({"web_search": "0"}, since="2026-01-01")],
    )
    day = "2026-01-01"
    assert list(changes(before, after)) == [
        Change("p/m", "default output", day, "10", None),
        Change("p/m", "default 01:00-04:00 input", day, None, "4"),
        Change("p/m", "batch above 9 input", day, None, "3"),
        Change("p fees", "default web_search", day, "1", "0"),
    ]
    assert Change("p/m", "", day, "0", "4").percent == "from 0"


def taken(name: str, models: int, content: str = "a") -> Taken:
    """A list as it was taken."""
    return Taken(source=f"{name} 1", models=models, prices=9, sha256=content, checked="2026-01-01")


@pytest.mark.parametrize(("models", "whole"), [(100, True), (80, True), (79, False), (0, False)])
def test_a_fifth_is_too_much(models: int, whole: bool) -> None:  # noqa: FBT001
    """A list may lose a fifth of its models, and no more; the first time there is no measure."""
    log = [taken("a", 10), taken("a", 100), taken("b", 1_000)]
    refuse_shrunk(log, [taken("c", 1)])
    if whole:
        refuse_shrunk(log, [taken("a", models)])
        return
    with pytest.raises(PriceDataError, match="a 1 has"):
        refuse_shrunk(log, [taken("a", models)])
    refuse_shrunk(log, [taken("a", models)], {"a"})


def test_the_log_is_appended() -> None:
    """Only a list that is not what it was gets a line, and the lines of before stay."""
    first = appended([], [taken("a", 1), taken("b", 2)])
    log = read_log(first)
    assert appended(log, [taken("a", 1), taken("b", 2)]) == first
    second = appended(log, [taken("a", 1, "z"), taken("b", 2)])
    assert second == first + second.splitlines(keepends=True)[-1]
    last = last_of(read_log(second), "a")
    assert last is not None
    assert last.sha256 == "z"
    with pytest.raises(PriceDataError, match=r"feeds\.jsonl: "):
        read_log(b'{"source": 1}\n')
