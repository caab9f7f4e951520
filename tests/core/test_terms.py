"""Terms: the limits and rates that they become, and what a budget adds to them."""

from __future__ import annotations

from decimal import Decimal

import pytest

from metering.core.terms import (
    WINDOWS_MAX,
    BudgetWindow,
    Cap,
    Terms,
    caps,
    label,
    part_of,
    prefix,
    window_id,
)
from metering.core.windows import Window
from metering.errors import InvalidRequest

DAY = Window(every="day", zone="UTC")
NOW_MS = 1_790_000_000_000


def span(said: str, usd: str) -> BudgetWindow:
    """One of several budgets."""
    return BudgetWindow(budget_duration=said, max_budget=Decimal(usd))


def test_each_budget_is_a_limit() -> None:
    """Hard caps but for what only warns; amounts to the pico, ids by holder, part and window."""
    terms = Terms(
        max_budget=Decimal("0.000000000001"),
        soft_budget=Decimal("0.5"),
        budget_duration="1d",
        budget_limits=(span("1h", "1"), span("90s", "2")),
    )
    hour, rolling = Window(every="hour", zone="UTC"), Window(rolling="2 minutes")
    usd = 10**12
    assert caps("key", "k", terms, NOW_MS) == (
        Cap(part="budget", limit_id="key:k:budget:day", mode="hard", max=1, window=DAY),
        Cap(part="soft", limit_id="key:k:soft:day", mode="allow", max=usd // 2, window=DAY),
        Cap(part="window", limit_id="key:k:window:hour", mode="hard", max=usd, window=hour),
        Cap(part="window", limit_id="key:k:window:2m", mode="hard", max=2 * usd, window=rolling),
    )
    assert window_id("key:k:", span("60m", "9"), NOW_MS) == "key:k:window:hour"


def test_who_has_no_budget() -> None:
    """A key has no limit then; of others one counts what is spent."""
    assert caps("key", "k", Terms(), NOW_MS) == ()
    [cap] = caps("team", "t", Terms(budget_duration="24h"), NOW_MS)
    assert (cap.part, cap.limit_id, cap.mode, cap.window) == ("spend", "team:t:spend", "allow", DAY)
    [cap] = caps("user", "u", Terms(max_budget=Decimal(0)), NOW_MS)
    assert (cap.limit_id, cap.mode, cap.max, cap.window) == ("user:u:budget", "hard", 0, None)


WRONG = [
    (Terms(max_budget=Decimal(-1)), "max_budget"),
    (Terms(max_budget=Decimal("NaN")), "max_budget"),
    (Terms(soft_budget=Decimal("1e-13")), "soft_budget"),
    (Terms(budget_duration="soon"), "budget_duration"),
    (Terms(budget_limits=(span("soon", "1"),)), "budget_limits"),
    (Terms(budget_limits=(span("1d", "-1"),)), "budget_limits"),
    (Terms(budget_limits=(span("1d", "1"), span("24h", "2"))), "budget_limits"),
    (Terms(budget_limits=(span("1d", "1"),) * (WINDOWS_MAX + 1)), "budget_limits"),
]


@pytest.mark.parametrize(("terms", "field"), WRONG)
def test_terms_that_are_none(terms: Terms, field: str) -> None:
    """The member at fault is named."""
    with pytest.raises(InvalidRequest) as fault:
        caps("key", "k", terms, NOW_MS)
    assert fault.value.field == field


def test_rates() -> None:
    """Those that are said; none may be allowed, which is 0."""
    assert Terms(rpm_limit=0, tpm_limit=5).rates == {"requests": 0, "tokens": 5}
    assert Terms(max_parallel_requests=1).rates == {"parallel": 1}
    assert Terms().rates == {}


def test_a_budgets_terms_fill_in() -> None:
    """One's own go first; money of one's own is not spent in the budget's span of time."""
    budget = Terms(max_budget=Decimal(9), budget_duration="30d", rpm_limit=4, tpm_limit=6)
    assert Terms(budget_id="b", rpm_limit=0).over(budget) == Terms(
        budget_id="b", max_budget=Decimal(9), budget_duration="30d", rpm_limit=0, tpm_limit=6
    )
    own = Terms(max_budget=Decimal(1)).over(budget)
    assert own == Terms(max_budget=Decimal(1), rpm_limit=4, tpm_limit=6)
    assert Terms(max_budget=Decimal(1)).over(None) == Terms(max_budget=Decimal(1))


def test_ids_of_any_name() -> None:
    """Plain names stand in ids; others are hashed, and no name is taken for another's hash."""
    assert prefix("team", "blue-1.x") == "team:blue-1.x:"
    odd = label("team", "a;b|c")
    assert odd.startswith("team:.")
    assert label("team", odd.removeprefix("team:")) != odd
    assert len({label("team", it) for it in ("a;b", "a;c", "a" * 41, "a" * 42, "\ud800", "")}) == 6


def test_whose_limit_it_is() -> None:
    """By its id: a holder's, and which part of his terms it is."""
    assert part_of("key:k:budget:day", "key:k:") == "budget"
    assert part_of("key:k:spend", "key:k:") == "spend"
    for other in ("key:kk:budget", "monthly", "key:k:else", "team:k:budget"):
        assert part_of(other, "key:k:") is None
