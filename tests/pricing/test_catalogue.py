from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pricing.catalogue import PriceDataError, in_force, render
from pricing.load import DATA, load, place_in, put
from pricing.validation import parse
from tests.pricing.builders import entry, row, scope


def content() -> dict[str, Any]:
    """A file with one of everything, as JSON."""
    return {
        "provider": "p",
        "pricing_urls": ["https://example.com"],
        "models": [
            {
                "id": "m",
                "match": ["m", "m-####", "m-mini*", "*moderation*"],
                "max_output_tokens": 10,
                "prices": [
                    {
                        "from": None,
                        "prices": {"input": "1"},
                        "source": "s",
                        "checked": "2026-01-01",
                    },
                    {
                        "from": "2026-02-01",
                        "service_tier": "flex",
                        "prices": {"input": "0.5"},
                        "above": {"200000": {"input": "0.75"}},
                        "source": "s",
                        "checked": "2026-01-01",
                    },
                ],
                "scopes": [
                    {
                        "from": None,
                        "scope": "us",
                        "multiplier": "1.1",
                        "source": "s",
                        "checked": "2026-01-01",
                    }
                ],
            },
            {
                "id": "n",
                "match": ["n"],
                "prices": [
                    {"from": None, "prices": {"input": "1"}, "source": "s", "checked": "2026-01-01"}
                ],
            },
        ],
    }


def change(path: str, value: object) -> Callable[[dict[str, Any]], None]:
    """An edit: set what a dotted path leads to."""

    def edit(data: dict[str, Any]) -> None:
        *steps, last = (int(step) if step.isdecimal() else step for step in path.split("."))
        target: Any = data
        for step in steps:
            target = target[step]
        target[last] = value

    return edit


def test_a_file_is_rendered_stably() -> None:
    """What is rendered reads back the same, with one line per price row."""
    read = parse(json.dumps(content()).encode(), "p.json")
    assert parse(render(read), "p.json") == read
    assert render(parse(render(read), "p.json")) == render(read)
    assert sum(b'"prices": {' in line for line in render(read).splitlines()) == 3


@pytest.mark.parametrize("path", sorted(DATA.glob("*.json")), ids=lambda path: path.name)
def test_shipped_files_are_as_rendered(path: Path) -> None:
    """The shipped files are in the form the updater writes, so that diffs show changes only."""
    assert render(parse(path.read_bytes(), path.name)) == path.read_bytes()


M, ROW, ABOVE = "models.0", "models.0.prices.0", "models.0.prices.1.above"


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (change("models", {}), "p.json:1: Expected `array`"),
        (change("extra", 1), "unknown field `extra`"),
        (change(f"{M}.extra", 1), "Object contains unknown field `extra` - at `$.models[0]`"),
        (change(f"{M}.prices", []), "models[0] (m): it has no base price"),
        (change(f"{M}.match", []), "it matches no name"),
        (change(f"{M}.match", ["M"]), "match 'M' is not a lower-case name"),
        (change(f"{M}.match", ["a*b"]), "match 'a*b' is not"),
        (change(f"{M}.match", ["m", "n"]), "models[1] (n): 'n' already names m"),
        (change("models.1.id", "m"), "models[1] (m): two entries have the same id"),
        (change(f"{M}.prices.1.from", None), ""),
        (change(f"{M}.prices.1.service_tier", "default"), ""),
        (change(f"{ROW}.service_tier", "flex"), "it has no base price"),
        (change(f"{M}.prices.1.service_tier", "Flex Tier"), "service tier 'Flex Tier' is not"),
        (change(f"{ROW}.from", "2026-02-30"), "prices[0]: '2026-02-30' is not a date"),
        (change(f"{ROW}.from", "20260201"), "'20260201' is not a date"),
        (change(f"{ROW}.checked", "today"), "'today' is not a date"),
        (change(f"{ROW}.prices", {}), "prices[0]: it has no prices"),
        (change(f"{ROW}.prices", {"input": 1.5}), "Expected `str`, got `float`"),
        (change(f"{ROW}.prices", {"input": "-1"}), "input price '-1' is not a plain decimal"),
        (change(f"{ROW}.prices", {"input": "NaN"}), "input price 'NaN' is not"),
        (change(f"{ROW}.prices", {"input": "1e3"}), "input price '1e3' is not"),
        (change(f"{ROW}.prices", {"parrots": "1"}), "'parrots' is not a unit"),
        (change(ABOVE, {"many": {"input": "1"}}), "above 'many' is not a number"),
        (change(ABOVE, {"9": {}}), "above '9' is not a number of tokens with prices"),
        (change(ABOVE, {"9": {"output": "1"}}), "above '9': output has no price below"),
        (change(f"{M}.scopes.0.multiplier", "0"), "scopes[0]: multiplier '0' is not"),
        (change(f"{M}.scopes.0.multiplier", "ten"), "multiplier 'ten' is not"),
        (change(f"{M}.scopes.0.from", "soon"), "scopes[0]: 'soon' is not a date"),
        (change(f"{M}.scopes.0.multiplier", "12/11"), ""),
        (change(f"{M}.scopes.0.multiplier", "12/0"), "multiplier '12/0' is not"),
        (change(f"{M}.scopes.0.multiplier", "NaN"), "multiplier 'NaN' is not"),
        (change("currency", "USD"), ""),
        (change("currency", "EUR"), "p.json:1: prices are in USD, not in 'EUR'"),
        (change(f"{ROW}.currency", "EUR"), "unknown field `currency`"),
        (change(f"{ROW}.prices", {"input": "0.0000000000001"}), "is not a plain decimal"),
        (change(f"{ROW}.prices", {"input": "Infinity"}), "is not a plain decimal"),
        (change(f"{M}.unless", ["M*"]), "match 'M*' is not a lower-case name"),
        (change(f"{M}.unless", ["m-x*"]), ""),
        (change(f"{M}.match", ["*m", "c[x=1]*"]), ""),
        (change(f"{M}.at_least", {"input": 10}), ""),
        (change(f"{M}.at_least", {"input": 0}), "at_least {'input': 0} is not of units"),
        (change(f"{M}.at_least", {"parrots": 1}), "at_least {'parrots': 1} is not of units"),
        (change(f"{ROW}.service_tier", "route:a/eu"), "it has no base price"),
        (change(f"{M}.prices.1.service_tier", "route:a/eu"), ""),
        (change(f"{ROW}.hours", {"01:00-04:00": {"input": "2"}}), ""),
        (change(f"{ROW}.hours", {"23:00-01:00": {"input": "2"}}), ""),
        (change(f"{ROW}.hours", {"25:00-04:00": {"input": "2"}}), "hours '25:00-04:00' are not"),
        (change(f"{ROW}.hours", {"01:00-04:00": {}}), "hours '01:00-04:00' are not"),
        (change(f"{ROW}.hours", {"01:00-04:00": {"output": "2"}}), "output has no price below"),
        (change(f"{ROW}.hours", {"01:00-04:00": {"input": "x"}}), "input price 'x' is not"),
        (
            change(f"{ROW}.hours", {"01:00-04:00": {"input": "2"}, "03:59-05:00": {"input": "3"}}),
            "hours '03:59-05:00' overlap with others",
        ),
        (
            change(f"{ROW}.hours", {"22:00-02:00": {"input": "2"}, "01:00-01:30": {"input": "3"}}),
            "hours '01:00-01:30' overlap with others",
        ),
        (change(f"{M}.prices.1.hours", {"01:00-04:00": {"input": "2"}}), "beside no `above`"),
        # digits of other scripts, which Python reads as numbers
        (change(f"{ROW}.prices", {"input": "\u0661"}), "is not a plain decimal"),
        (change(f"{M}.scopes.0.multiplier", "1.\u0661"), "is not a decimal above 0"),
        (change(f"{ROW}.hours", {"0\u0661:00-04:00": {"input": "2"}}), "are not like 22:30-04:00"),
        (change(ABOVE, {"\u0662": {"input": "1"}}), "is not a number of tokens"),
        # one context must have one spelling, and the first one has none
        (change(ABOVE, {"0": {"input": "1"}}), "above '0' is not a number of tokens"),
        (change(ABOVE, {"0200000": {"input": "1"}}), "above '0200000' is not a number of tokens"),
        (change(f"{M}.max_output_tokens", -1), "models[0] (m): -1 is not a bound in tokens"),
        (change(f"{M}.max_output_tokens", 10**30), "is not a bound in tokens"),
        (change(f"{M}.context_window", 0), "0 is not a bound in tokens"),
        (change(f"{M}.id", ""), "models[0] (): id '' is not a name"),
        (change(f"{M}.id", "m\0"), "is not a name"),
        (change("provider", ""), "p.json:1: provider '' is not a lower-case word"),
        (change("provider", "../P"), "provider '../P' is not a lower-case word"),
        (change(f"{ROW}.from", "1969-12-31"), "'1969-12-31' is not a date"),
        (change(f"{ROW}.prices", {"input": float("nan")}), "JSON is malformed"),
    ],
)
def test_malformed_data_is_refused(edit: Callable[[dict[str, Any]], None], reason: str) -> None:
    """One bad entry refuses the file, naming the file, the entry and the reason."""
    data = content()
    edit(data)
    if not reason:
        parse(json.dumps(data).encode(), "p.json")
        return
    with pytest.raises(PriceDataError) as error:
        parse(json.dumps(data).encode(), "p.json")
    assert re.match(r"p\.json:\d+: ", str(error.value))
    assert reason in str(error.value)


@pytest.mark.parametrize(
    ("find", "put", "line"),
    [
        ('"id": "n"', '"id": "m"', 17),
        ('"2026-02-01"', '"2026-02-31"', 11),
        ('"multiplier": "1.1"', '"multiplier": "0"', 14),
        ('"input": "0.75"', '"input": -0.75', 11),
        ('"input": "0.75"', '"output": "0.75"', 11),
        ('"provider": "p",', '"provider": "p", "extra": 1,', 1),
        ('"max_output_tokens": 10', '"max_output_tokens": ten', 8),
        ('"models"', '"modelz"', 1),
        ('"provider": "p",', '"provider": "p", "currency": "EUR",', 2),
        ('"provider": "p"', '"provider": "P"', 2),
        ('"max_output_tokens": 10', '"max_output_tokens": 0', 5),
        ('"input": "0.75"', '"input": "NaN"', 11),
        ('"input": "0.75"', '"input": "0.75", "inp\\u0075t": "7.5"', 11),
        ('"match": ["n"],', '"match": ["n"], "prices": [],', 20),
        ('"id": "n"', '"id": "m\\"{:", "id": "n"', 18),
    ],
)
def test_the_line_of_a_fault_is_named(find: str, put: str, line: int) -> None:
    """Who has to mend a file is told on which line."""
    text = render(parse(json.dumps(content()).encode(), "p.json")).decode()
    assert text.count(find) >= 1
    with pytest.raises(PriceDataError, match=rf"^p\.json:{line}: "):
        parse(text.replace(find, put, 1).encode(), "p.json")


def test_what_is_no_text_is_refused_with_its_line() -> None:
    """A byte that is no UTF-8 has a line as well."""
    text = render(parse(json.dumps(content()).encode(), "p.json"))
    with pytest.raises(PriceDataError, match=r"^p\.json:11: .*can't decode byte 0xff"):
        parse(text.replace(b'"flex"', b'"fle\xff"'), "p.json")


def test_a_file_without_an_end_is_refused_at_its_end() -> None:
    """A truncated file, and one that is no object, are refused by name and line."""
    text = render(parse(json.dumps(content()).encode(), "p.json"))
    lines = text.count(b"\n")
    with pytest.raises(PriceDataError, match=rf"^p\.json:{lines - 1}: .*truncated"):
        parse(text[: text.rindex(b"]")], "p.json")
    with pytest.raises(PriceDataError, match=r"^p\.json:1: Expected `object`"):
        parse(b"[]", "p.json")


FEE = {"from": None, "prices": {"web_search": "10"}, "source": "s", "checked": "2026-01-01"}
SCOPE = {"from": None, "scope": "zone", "multiplier": "1.1", "source": "s", "checked": "2026-01-01"}
NO_FEE = "fees[0]: a fee has no service tier, no context tier, no hours and is not of tokens"


@pytest.mark.parametrize(
    ("member", "rows", "reason"),
    [
        ("fees", [FEE], ""),
        ("fees", [FEE, FEE | {"from": "2026-02-01"}], ""),
        ("fees", [FEE, FEE], "two rows of fees have the same date"),
        ("fees", [FEE | {"from": "soon"}], "fees[0]: 'soon' is not a date"),
        ("fees", [FEE | {"prices": {"parrots": "1"}}], "fees[0]: 'parrots' is not a unit"),
        ("fees", [FEE | {"prices": {"input": "1"}}], NO_FEE),
        ("fees", [FEE | {"service_tier": "flex"}], NO_FEE),
        ("fees", [FEE | {"above": {"9": {"web_search": "1"}}}], NO_FEE),
        ("scopes", [SCOPE], ""),
        ("scopes", [SCOPE | {"multiplier": "0"}], "scopes[0]: multiplier '0' is not"),
        ("scopes", [SCOPE, SCOPE | {"from": "2026-02-01"}, SCOPE | {"scope": "x"}], ""),
        ("scopes", [SCOPE, SCOPE], "scopes[1]: two rows have the same date and scope"),
        ("fees", [FEE | {"hours": {"01:00-04:00": {"web_search": "1"}}}], NO_FEE),
        ("resells", [{"vendor": "v", "own_tools": False, "spelt": {"a-": "b-"}}], ""),
        ("resells", [{"vendor": "v", "parrots": 1}], "unknown field `parrots`"),
    ],
)
def test_what_holds_for_all_models_is_checked(
    member: str, rows: list[dict[str, Any]], reason: str
) -> None:
    """A file's fees and scopes are held to what those of a model are, and are rendered stably."""
    data = json.dumps(content() | {member: rows}).encode()
    if not reason:
        read = parse(data, "p.json")
        assert parse(render(read), "p.json") == read
        assert len(getattr(read, member)) == len(rows)
        assert (
            render(read).count(b"\n")
            == render(parse(json.dumps(content()).encode(), "")).count(b"\n") + len(rows) + 2
        )
        return
    with pytest.raises(PriceDataError, match=r"^p\.json:\d+: ") as error:
        parse(data, "p.json")
    assert reason in str(error.value)


def test_only_a_reseller_has_models_without_prices() -> None:
    """An entry without prices is of a model that is sold at another's list price."""
    data = content()
    data["models"][1]["prices"] = []
    with pytest.raises(PriceDataError, match=r"\(n\): it has no base price"):
        parse(json.dumps(data).encode(), "p.json")
    read = parse(json.dumps(data | {"resells": [{"vendor": "v"}]}).encode(), "p.json")
    assert read.models[1].prices == []
    assert parse(render(read), "p.json") == read


def test_a_day_has_one_row_a_tier() -> None:
    """Two rows of one tier that begin on the same day contradict each other."""
    data = content()
    data["models"][0]["prices"].append(data["models"][0]["prices"][1])
    with pytest.raises(PriceDataError, match="two rows have the same date and service tier"):
        parse(json.dumps(data).encode(), "p.json")


def test_no_json_is_refused() -> None:
    """A truncated file is refused by name."""
    with pytest.raises(PriceDataError, match=r"p\.json:1: .*truncated"):
        parse(b'{"provider": "p"', "p.json")


def test_loading_is_all_or_nothing(tmp_path: Path) -> None:
    """Nothing to load, a bad file, two files of a provider, or none of a vendor: no book at all."""
    with pytest.raises(PriceDataError, match="there is no price data"):
        load(tmp_path)
    (tmp_path / "a.json").write_text(json.dumps(content()))
    assert load(tmp_path).find("p", "m", 0) is not None
    (tmp_path / "b.json").write_text(json.dumps(content()))
    with pytest.raises(
        PriceDataError, match=r"^b\.json:1: two files .* provider, and a\.json is one"
    ):
        load(tmp_path)
    sold = content() | {"provider": "q", "resells": [{"vendor": "p"}, {"vendor": "v"}]}
    (tmp_path / "b.json").write_text(json.dumps(sold))
    with pytest.raises(PriceDataError, match=r"^b\.json:1: q resells v, which has no file"):
        load(tmp_path)
    (tmp_path / "b.json").write_text("[]")
    with pytest.raises(PriceDataError, match=r"b\.json:1: "):
        load(tmp_path)


def test_files_take_their_providers_place() -> None:
    """Whatever they are called; two of one provider are refused, and nothing is put anywhere."""
    old, new = (json.dumps(content() | {"pricing_urls": [it]}).encode() for it in ("a", "b"))
    other = json.dumps(content() | {"provider": "q"}).encode()
    assert put({"mine.json": new}, {"p.json": old, "q.json": other}) == {
        "p.json": new,
        "q.json": other,
    }
    with pytest.raises(PriceDataError, match=r"^z\.json:1: two files are of the same provider"):
        put({"mine.json": new, "z.json": old}, {})


@pytest.mark.parametrize(
    ("model", "day", "tier", "place"),
    [
        ("p/m", "2026-01-31", "default", "mine.json:13"),
        ("p/m", "2026-01-31", "flex", "mine.json:8"),
        ("p/m", "2026-02-01", "flex", "mine.json:14"),
        ("q/m", "2026-02-01", "flex", "mine.json:14"),
        ("r/m", "2026-02-01", "default", "r.json"),
        ("s/m", "2026-02-01", "default", "mine.json:13"),
        ("p/gone", "2026-02-01", "default", "mine.json"),
        ("p fees", "2026-02-01", "default", "mine.json:4"),
        ("q fees", "2026-02-01", "default", ""),
        ("q/gone", "2026-02-01", "default", ""),
    ],
)
def test_a_price_has_its_place(model: str, day: str, tier: str, place: str) -> None:
    """The line of the row in force, else of the entry; what is resold is its vendor's."""
    fees = [{"from": None, "prices": {"web_search": "1"}, "source": "s", "checked": "2026-01-01"}]
    text = render(parse(json.dumps(content() | {"fees": fees}).encode(), ""))
    files = {"mine.json": text}
    if model[0] in "rs":
        resells = [{"vendor": "p"}] if model[0] == "s" else []
        other = {"provider": model[0], "pricing_urls": [], "resells": resells, "models": []}
        files[f"{model[0]}.json"] = json.dumps(other).encode()
    assert place_in(files, model, day, tier) == place


def test_the_version_follows_the_content(tmp_path: Path) -> None:
    """The same data is the same version; other data is another."""
    (tmp_path / "a.json").write_text(json.dumps(content()))
    first = load(tmp_path).version
    assert load(tmp_path).version == first
    (tmp_path / "a.json").write_text(json.dumps(content() | {"pricing_urls": []}))
    assert load(tmp_path).version != first


def test_rows_in_force_are_those_that_have_begun() -> None:
    """In force on a day is what began on it or before, oldest first."""
    rows = [row(since="2026-03-01"), row(), row(since="2026-02-01")]
    assert [r.since for r in in_force(rows, "2026-02-28")] == [None, "2026-02-01"]
    assert in_force([scope("us", "1.1", since="2026-01-01")], "") == []
    assert entry(row()).prices[0].source == "the test"
