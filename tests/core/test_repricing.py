"""What a call would cost by other prices is said exactly or not at all."""

from __future__ import annotations

from typing import Any

import pytest

from metering.core import repricing
from metering.core.record import UsageRow
from metering.core.repricing import OTHERS, Report, repriced
from pricing.load import load
from tests.builders import NOW_MS, row

RATES = load().find("openai", "gpt-4o", NOW_MS)


def call(**values: Any) -> UsageRow:
    """A call of a thousand tokens in, that was charged something else than they cost."""
    defaults = {"units": {"input_text": 1_000}, "lines": {"input_text": 7}, "cost_pico": 7}
    return row(**{"status": "ok", "model": "gpt-4o", **defaults, **values})


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"status": "unresolved"}, "unresolved"),
        ({"estimated": True}, "estimated"),
        ({"units": {}}, "no_units"),
        ({"units": {"input_text": 0}}, "no_units"),
        ({"lines": {"claude-x:input_text": 1}}, "other_models"),
        ({"units": {"pages": 1}, "lines": {"pages": 7}}, "unpriced"),
        ({"units": {"pages": 1}, "lines": {}}, "unpriced"),
    ],
)
def test_what_cannot_be_said(values: dict[str, Any], reason: str) -> None:
    """Each has its reason."""
    assert repriced(call(**values), lambda _: RATES) == reason


@pytest.mark.parametrize(
    ("values", "pico"),
    [
        ({}, 1_000 * 2_500_000),
        ({"units": {"input_text": 1_000, "requests": 1}}, 1_000 * 2_500_000),
        ({"units": {"input_text": 1_000, "pages": 1}}, 1_000 * 2_500_000),
        ({"pricing": "unpriced", "lines": {}, "cost_pico": 0}, 1_000 * 2_500_000),
    ],
)
def test_priced_anew(values: dict[str, Any], pico: int) -> None:
    """A fee that these prices do not have falls away; a unit that was never priced stays so; what
    was unpriced is priced now."""
    after = repriced(call(**values), lambda _: RATES)
    assert isinstance(after, UsageRow)
    assert (after.cost_pico, after.pricing) == (pico, "priced")


def test_a_fee_for_the_call_itself() -> None:
    """It is charged once, whether the row had it or not."""
    assert RATES is not None
    fee = RATES.replaced({"requests": "5"})
    after = repriced(call(), lambda _: fee)
    assert isinstance(after, UsageRow)
    assert after.lines["requests"] == 5 * 10**9


def test_many_values_are_summed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report does not grow with its calls."""
    monkeypatch.setattr(repricing, "VALUES_MAX", 2)
    report = Report()
    for user in "abcdab":
        report.add(call(user_id=user), (), call(cost_pico=9))
    users = {value: it.calls for value, it in report.groups["user"].items()}
    assert users == {"a": 2, "b": 2, OTHERS: 2}
    assert report.groups["limit"].keys() == {None}
