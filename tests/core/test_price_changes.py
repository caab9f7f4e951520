"""What one price list changes of another."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from metering.core.price_changes import added, changes, listed
from pricing.book import midnight_ms
from pricing.catalogue import ModelEntry, PriceFile, PriceRow, Resold
from pricing.changes import drastic
from tests.pricing.builders import entry, file, row, scope

NOW_MS = midnight_ms("2026-12-01")


def one(*rows: PriceRow, name: str = "m", match: list[str] | None = None) -> list[PriceFile]:
    """A list of one model."""
    return [file("p", entry(*rows, name=name, match=match))]


def words(old: list[PriceFile], new: list[PriceFile]) -> list[str]:
    """The changes, `!` before drastic ones."""
    return [
        f"{'!' * it.drastic}{it.model} {it.unit} {it.service_tier} {it.above} "
        f"{it.before} {it.after} {(it.at_ms - NOW_MS) // 86_400_000}"
        for it in changes(old, new, NOW_MS)
    ]


@pytest.mark.parametrize(
    ("after", "found"),
    [
        (row({"input": "2", "output": "10"}), []),
        (row({"input": "3", "output": "10"}), ["p/m input default 0 2 3 0"]),
        (row({"input": "20", "output": "10"}), ["!p/m input default 0 2 20 0"]),
        (row({"input": "19.99", "output": "10"}), ["p/m input default 0 2 19.99 0"]),
        (row({"input": "0.2", "output": "10"}), ["!p/m input default 0 2 0.2 0"]),
        (row({"input": "0.21", "output": "10"}), ["p/m input default 0 2 0.21 0"]),
        (row({"input": "0", "output": "10"}), ["!p/m input default 0 2 0 0"]),
        (row({"input": "2"}), ["!p/m output default 0 10 None 0"]),
        (
            row({"input": "2", "output": "10"}, above={"100": {"input": "30"}}),
            ["!p/m input default 100 2 30 0"],
        ),
        (
            row({"input": "2", "output": "10", "cache_read": "0.1"}),
            ["!p/m cache_read default 0 2 0.1 0"],
        ),
    ],
)
def test_a_price_that_changes(after: PriceRow, found: list[str]) -> None:
    """Tenfold, a tenth, zero and gone are drastic; what lies between is a change."""
    assert words(one(row()), one(after)) == found


def test_a_row_that_begins_later() -> None:
    """A row is compared with what the old list says of its day; one of the past is in force now."""
    later = one(row(), row({"input": "3", "output": "100"}, since="2026-12-11"))
    past = one(row(), row({"input": "3", "output": "10"}, since="2026-11-11"))
    assert words(one(row()), later) == [
        "p/m input default 0 2 3 10",
        "!p/m output default 0 10 100 10",
    ]
    assert words(one(row()), past) == ["p/m input default 0 2 3 0"]
    assert words(later, later) == []


def test_hours_of_the_day() -> None:
    """A price of some hours is compared within them, whenever the list is loaded."""
    night = msgspec.structs.replace(row(), hours={"22:00-04:00": {"input": "0.5"}})
    cheap = msgspec.structs.replace(row(), hours={"22:00-04:00": {"input": "0.05"}})
    assert words(one(row()), one(night)) == ["p/m input default 0 2 0.5 0"]
    assert words(one(night), one(cheap)) == ["!p/m input default 0 0.5 0.05 0"]


def test_a_tier_and_a_scope() -> None:
    """A tier that begins is compared with the base, a scope with none."""
    flex = one(row(), row({"input": "0.1"}, tier="flex"))
    scoped = [file("p", entry(row(), scopes=[scope("us", "1.1")]))]
    wide = [file("p", entry(row(), scopes=[scope("us", "0.11")]))]
    assert words(one(row()), flex) == ["!p/m input flex 0 2 0.1 0"]
    assert words(one(row()), scoped) == ["p/m scope us default 0 1 1.1 0"]
    assert words(scoped, wide) == ["!p/m scope us default 0 1.1 0.11 0"]


def test_a_model_that_goes_or_comes() -> None:
    """What had a price and has none any more is drastic; a new model changes nothing."""
    both = [file("p", entry(row(), name="m"), entry(row(), name="n"))]
    assert words(both, one(row())) == ["!p/n  default 0 None None 0"]
    assert words(one(row()), both) == []
    assert added(one(row()), both) == ["p/n"]


def test_a_name_that_becomes_another_models() -> None:
    """Names are what calls are priced by: one that moves to a dear model is a change of price."""
    cheap, dear = row({"input": "1", "output": "1"}), row({"input": "50", "output": "50"})
    old = [file("p", entry(cheap, name="a", match=["a", "x"]), entry(dear, name="b"))]
    new = [file("p", entry(cheap, name="a"), entry(dear, name="b", match=["b", "x"]))]
    assert words(old, new) == [
        "!p/a input default 0 1 50 0",
        "!p/a output default 0 1 50 0",
    ]


def test_fees_and_what_is_resold() -> None:
    """Fees change once, as `p fees`; what is resold changes where its vendor lists it."""
    dollar, ten = row({"web_search": "1"}), row({"web_search": "10"})
    old = [file("p", entry(row()), fees=[dollar]), file("q", resells=[Resold(vendor="p")])]
    new = [file("p", entry(row()), fees=[ten]), file("q", resells=[Resold(vendor="p")])]
    assert words(old, new) == ["!p fees web_search default 0 1 10 0"]

    own = ModelEntry(id="m", match=["m"], prices=[], scopes=[scope("eu", "1.1")])
    resold = file("q", own, resells=[Resold(vendor="p")])
    dear = row({"input": "2", "output": "11"})
    assert words([*one(row()), resold], [*one(dear), resold]) == ["p/m output default 0 10 11 0"]
    apart = file("q", entry(dear), resells=[Resold(vendor="p")])
    assert words([*one(row()), apart], [*one(row()), resold]) == [
        "q/m output default 0 11 10 0",
        "q/m scope eu default 0 1 1.1 0",
    ]


@pytest.mark.parametrize(
    ("femto", "unit", "usd"),
    [
        (2_500_000_000, "input", "2.5"),
        (1, "input", "0.000000001"),
        (0, "input", "0"),
        (10**13, "web_search", "10"),
        (4 * 10**13, "images", "0.04"),
        (10**12, "input", "1000"),
    ],
)
def test_prices_in_words(femto: int, unit: str, usd: str) -> None:
    """As a list has them: plain digits, for as many of the unit as a price buys."""
    assert listed(femto, unit) == usd


def test_what_was_free_may_get_any_price() -> None:
    """There is no tenfold of nothing."""
    assert not drastic(Decimal(0), Decimal(1000))
    assert not drastic(Decimal(0), Decimal(0))
