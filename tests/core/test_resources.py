"""What applications price themselves: units, versions, and what cannot be a price."""

from __future__ import annotations

from decimal import Decimal

import pytest

from metering.core.resources import (
    PRICE_MAX,
    Resource,
    UnitPrices,
    by_application,
    checked_price,
    is_system,
    rates_at,
    rates_of,
    unit_for,
)
from metering.errors import InvalidRequest
from pricing.catalogue import BASE
from pricing.cost import cost


def resource(
    units: dict[str, tuple[str | None, str | None]], starts_ms: int = 0, **members: object
) -> Resource:
    """A version; prices are (in, out), in USD for one."""
    its = {
        kind: UnitPrices(
            input_price=None if into is None else Decimal(into),
            output_price=None if out is None else Decimal(out),
        )
        for kind, (into, out) in units.items()
    }
    values = {
        "application_id": "a",
        "resource_id": "r",
        "category": "c",
        "resource": "n",
        **members,
    }
    return Resource(units=its, starts_ms=starts_ms, **values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "direction", "unit"),
    [
        ("text", "input", "input_text"),
        ("text", "output", "output_text"),
        ("text_large_context", "input", "input_text"),
        ("text_cache_write", "input", "cache_write"),
        ("web_search_request", "output", "web_search"),
        ("web_search_request", "input", "web_search_request.input"),
        ("scan", "input", "scan.input"),
        ("scan.fast", "output", "scan.fast.output"),
    ],
)
def test_types_are_the_units_of_lists_or_the_callers_own(
    kind: str, direction: str, unit: str
) -> None:
    """What a list has a name for is that; everything else keeps the name it came with."""
    assert unit_for(kind, direction) == unit
    assert unit_for(kind, direction, rates_of(resource({"other": ("1", "1")}))) == unit


def test_a_type_that_is_priced_by_its_own_name_is_not_taken_for_another() -> None:
    """A resource may price a long context apart, where lists have it from the counts."""
    rates = rates_of(resource({"text": ("1", None), "text_large_context": ("3", None)}))
    assert unit_for("text_large_context", "input", rates) == "text_large_context.input"
    assert unit_for("text", "input", rates) == "input_text"
    charged = cost({"input_text": 2, "text_large_context.input": 5}, rates)
    assert (charged.input_pico, charged.output_pico) == (17 * 10**12, 0)


def test_each_direction_has_its_sum_and_no_price_is_no_zero() -> None:
    """A price of zero is a price; a side without one is unpriced."""
    rates = rates_of(resource({"scan": ("0.5", "0"), "foo": (None, "0.25"), "bar": (None, None)}))
    units = {"scan.input": 3, "scan.output": 7, "foo.input": 1, "foo.output": 2, "bar.input": 1}
    charged = cost(units, rates)
    assert charged.input_pico == 1_500_000_000_000
    assert charged.output_pico == 500_000_000_000
    assert charged.unpriced == ("foo.input", "bar.input")
    assert charged.lines["scan.output"] == 0


def test_prices_are_exact_to_the_femto() -> None:
    """They are quantised once, half to even, as a list's are."""
    rates = rates_of(resource({"scan": ("0.0000000000000015", "0.0000000000000025")}))
    assert rates.tiers[BASE].brackets[0]["scan.input"] == 2
    assert rates.tiers[BASE].brackets[0]["scan.output"] == 2


def test_proxied_units_find_their_price() -> None:
    """What providers report in more detail has the price of what contains it."""
    rates = rates_of(resource({"text": ("1", "2"), "text_cache_write": ("3", None)}))
    assert rates.by_tokens
    assert cost({"cache_write_5m": 1, "input_text": 1}, rates).input_pico == 4 * 10**12


def test_the_version_that_began_last_holds() -> None:
    """By date, then by revision; before the first there is none, and others' are others'."""
    found = by_application(
        [
            resource({}, 20, resource_id="late", revision=1),
            resource({}, 10, resource_id="first", revision=2),
            resource({}, 20, resource_id="later", revision=3),
            resource({}, 5, resource_id="theirs", application_id="b"),
            resource({}, 5, resource_id="another", resource="m"),
        ]
    )
    assert found.keys() == {"a", "b"}
    versions = found["a"]["c", "n"]
    held = [rates_at(versions, at_ms, reported=True) for at_ms in (9, 10, 19, 20, 10**15)]
    assert [it and it.id for it in held] == [None, "first", "first", "later", "later"]
    assert found["a"].keys() == {("c", "n"), ("c", "m")}


def test_proxied_calls_are_priced_by_what_an_administrator_set() -> None:
    """By that version of an administrator that began last, whatever keys have set since."""
    found = by_application(
        [
            resource({}, 10, resource_id="key 1"),
            resource({}, 20, resource_id="admin 1", proxy_allowed=True),
            resource({}, 30, resource_id="key 2"),
            resource({}, 40, resource_id="admin 2", proxy_allowed=True),
        ]
    )
    versions = found["a"]["c", "n"]
    times = (9, 10, 20, 30, 40)
    proxied = [rates_at(versions, at_ms, reported=False) for at_ms in times]
    reported = [rates_at(versions, at_ms, reported=True) for at_ms in times]
    assert [it and it.id for it in proxied] == [None, None, "admin 1", "admin 1", "admin 2"]
    assert [it and it.id for it in reported] == [None, "key 1", "admin 1", "key 2", "admin 2"]


@pytest.mark.parametrize("price", ["-0.1", str(PRICE_MAX + 1), "NaN", "Infinity"])
def test_what_cannot_be_a_price(price: str) -> None:
    """The member is named."""
    with pytest.raises(InvalidRequest, match=r"units\.scan") as refused:
        checked_price(Decimal(price), "units.scan")
    assert refused.value.field == "units.scan"
    assert checked_price(Decimal(PRICE_MAX), "x") == PRICE_MAX


def test_the_catalogues_categories_are_told_by_their_name() -> None:
    """`system.` and nothing else."""
    assert [is_system(it) for it in ("system.openai", "systems", "openai")] == [True, False, False]
