"""Virtual keys' budgets and rates in Portkey's words: the limits that they become."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from metering.core.credentials import SLUG, Deployment, ModelConfig
from metering.core.routing import Azure
from metering.core.terms import Cap
from metering.core.virtual_keys import (
    USAGE_LIMITS_MAX,
    RateLimit,
    Terms,
    UsageLimit,
    caps,
    slug_of,
)
from metering.core.windows import Window
from metering.errors import InvalidRequest

USD = 10**12
NOW_MS = 1_790_000_000_000  # 2026-09-21, a Monday
MONTH = Window(every="month", zone="UTC")


def usage(limit: str | int, **members: Any) -> UsageLimit:
    """A usage limit."""
    return UsageLimit(credit_limit=Decimal(limit), **members)


def cap(part: Any, ending: str, mode: Any, most: int, window: Window | None, **members: Any) -> Cap:
    """A limit of the virtual key `a-1`."""
    limit_id = "virtual_key:a-1:" + ending
    return Cap(part=part, limit_id=limit_id, mode=mode, max=most, window=window, **members)


def test_each_is_a_limit() -> None:
    """Hard caps, in USD to the pico or in tokens; rates in rolling windows. Ids tell which is what:
    a refusal's `:rate:` is one of a rate."""
    terms = Terms(
        usage_limits=(
            usage("0.000000000001"),
            usage(10, alert_threshold=Decimal(9), periodic_reset="monthly", mode="block"),
            usage(100, type="tokens", periodic_reset_days=1),
        ),
        rate_limits=(
            RateLimit(type="requests", unit="rpm", value=60),
            RateLimit(type="tokens", unit="rpd", value=0),
        ),
        listed=True,
    )
    daily = Window(every="day", zone="UTC")
    minute, day = Window(rolling="1 minutes"), Window(rolling="24 hours")
    assert caps("a-1", terms, NOW_MS) == (
        cap("budget", "budget", "hard", 1, None),
        cap("budget", "budget:month", "block", 10 * USD, MONTH, threshold_ppm=900_000),
        cap("budget", "budget:tokens:day", "hard", 100, daily, unit="tokens"),
        cap("rate", "rate:requests:rpm", "block", 60, minute, unit="requests"),
        cap("rate", "rate:tokens:rpd", "block", 0, day, unit="tokens"),
    )
    assert caps("a-1", Terms(), NOW_MS) == ()


WINDOWS: list[tuple[dict[str, Any], dict[str, str] | None, str]] = [
    ({}, None, "budget"),
    ({"periodic_reset": "monthly"}, {"every": "month"}, "budget:month"),
    (
        {"periodic_reset": "monthly", "next_usage_reset_at": "2026-10-01T00:00:00Z"},
        {"every": "month"},
        "budget:month",
    ),
    (
        {"periodic_reset": "weekly"},
        {"every": "week", "first_day": "sunday"},
        "budget:week-sunday",
    ),
    (
        {"periodic_reset": "weekly", "next_usage_reset_at": "2026-09-23"},
        {"every": "week", "first_day": "wednesday"},
        "budget:week-wednesday",
    ),
    (
        {"periodic_reset_days": 365},
        {"every": "365 days", "anchor": "1970-10-05"},
        "budget:365d-1970-10-05",
    ),
    (
        {"periodic_reset_days": 10, "next_usage_reset_at": "2026-12-14"},
        {"every": "10 days", "anchor": "1970-01-02"},
        "budget:10d-1970-01-02",
    ),
    (
        {"periodic_reset_days": 10, "next_usage_reset_at": "2026-09-25T02:00:00+02:00"},
        {"every": "10 days", "anchor": "1970-01-02"},
        "budget:10d-1970-01-02",
    ),
]


@pytest.mark.parametrize(("members", "window", "ending"), WINDOWS)
def test_windows(members: dict[str, Any], window: dict[str, str] | None, ending: str) -> None:
    """Days begin at midnight UTC; windows that differ are limits of other ids, and such as do not
    have one spelling, from whichever of their days they are counted."""
    [made] = caps("k", Terms(usage_limits=(usage(1, **members),)), NOW_MS)
    assert made.window == (None if window is None else Window(zone="UTC", **window))
    assert made.limit_id == "virtual_key:k:" + ending


@pytest.mark.parametrize(
    ("limit", "alert", "ppm"),
    [
        # limit, alert, ppm of max, rounded down: it is told no later than it was asked for
        (10, "5", 500_000),
        (3, "1", 333_333),
        (1, "0.99", 990_000),
        (10**9, "0.000001", 1),
    ],
)
def test_alert_thresholds(limit: int, alert: str, ppm: int) -> None:
    """Amounts here, shares of max there."""
    [made] = caps("k", Terms(usage_limits=(usage(limit, alert_threshold=Decimal(alert)),)), NOW_MS)
    assert made.threshold_ppm == ppm


WRONG_USAGE: list[tuple[UsageLimit, str]] = [
    (usage(-1), "credit_limit"),
    (usage("1e-13"), "credit_limit"),
    (usage("NaN"), "credit_limit"),
    (usage(99, type="tokens"), "credit_limit"),
    (usage("100.5", type="tokens"), "credit_limit"),
    (usage("Infinity", type="tokens"), "credit_limit"),
    (usage(10**15 + 1, type="tokens"), "credit_limit"),
    (usage(1, alert_threshold=Decimal(1)), "alert_threshold"),
    (usage(1, alert_threshold=Decimal(0)), "alert_threshold"),
    (usage(1, periodic_reset="weekly", periodic_reset_days=7), "periodic_reset_days"),
    (usage(1, periodic_reset_days=0), "periodic_reset_days"),
    (usage(1, periodic_reset_days=366), "periodic_reset_days"),
    (usage(1, next_usage_reset_at="2026-10-01"), "next_usage_reset_at"),
    (usage(1, periodic_reset="monthly", next_usage_reset_at="2026-10-02"), "next_usage_reset_at"),
    (usage(1, periodic_reset="weekly", next_usage_reset_at="soon"), "next_usage_reset_at"),
    (usage(1, periodic_reset_days=2, next_usage_reset_at="2026-10-02T12:00Z"), "next_usage_reset"),
    (usage(1, periodic_reset_days=2, next_usage_reset_at="0001-01-01T00:00+09:00"), "next_usage"),
    (usage(1, periodic_reset_days=2, next_usage_reset_at="2101-01-01"), "next_usage_reset_at"),
]


@pytest.mark.parametrize(("asked", "member"), WRONG_USAGE)
def test_usage_limits_that_are_none(asked: UsageLimit, member: str) -> None:
    """The member at fault is named, with its place in a list."""
    for terms, name in (
        (Terms(usage_limits=(asked,)), "usage_limits."),
        (Terms(usage_limits=(usage(5), asked), listed=True), "usage_limits[1]."),
    ):
        with pytest.raises(InvalidRequest) as fault:
            caps("k", terms, NOW_MS)
        assert (fault.value.field or "").startswith(name + member)
        assert fault.value.message.startswith(name + member)


WRONG: list[tuple[Terms, str]] = [
    (Terms(usage_limits=(usage(1), usage(2))), "usage_limits"),
    (Terms(usage_limits=(usage(1),) * (USAGE_LIMITS_MAX + 1)), "usage_limits"),
    (Terms(rate_limits=(RateLimit(type="tokens", unit="rps", value=1),)), "rate_limits[0].unit"),
    (Terms(rate_limits=(RateLimit(type="tokens", unit="rpm", value=-1),)), "rate_limits[0].value"),
    (Terms(rate_limits=(RateLimit(type="tokens", unit="rpm", value=1),) * 2), "rate_limits"),
]


@pytest.mark.parametrize(("terms", "field"), WRONG)
def test_terms_that_are_none(terms: Terms, field: str) -> None:
    """Two of one kind, too many, units that there are not."""
    with pytest.raises(InvalidRequest) as fault:
        caps("k", terms, NOW_MS)
    assert fault.value.field == field


def test_units_are_listed() -> None:
    """A rate by the second is refused with those that there are."""
    terms = Terms(rate_limits=(RateLimit(type="requests", unit="rps", value=1),))
    with pytest.raises(InvalidRequest, match="rpm, rph, rpd, rpw"):
        caps("k", terms, NOW_MS)


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("Open AI (prod)", "open-ai-prod-3fb2a1"),
        ("  Zürich, 2 ", "z-rich-2-3fb2a1"),
        ("日本", "3fb2a1"),
        ("env-openai", "openai-3fb2a1"),
        ("env env prod", "prod-3fb2a1"),
        ("env", "3fb2a1"),
        ("x" * 300, "x" * 57 + "-3fb2a1"),
    ],
)
def test_slugs_of_names(name: str, slug: str) -> None:
    """Lower case, dashes, six characters by chance; never one of the operator's own."""
    made = slug_of(name, bytes.fromhex("3fb2a1"))
    assert made == slug
    assert SLUG.fullmatch(made)


def test_deployments() -> None:
    """The one that is called so, or has it for an alias, else the default, else what stands at the
    top; without its own version that of the resource."""
    blue = Deployment(name="blue", api_version="v2", is_default=True)
    green = Deployment(name="green", alias="gpt-4o")
    config = ModelConfig(resource="eu", deployment="only", api_version="v1")
    assert config.azure("gpt-4o") == Azure("eu", "only", "v1")
    config = ModelConfig(resource="eu", api_version="v1", deployments=(green, blue))
    assert config.azure("gpt-4o") == config.azure("green") == Azure("eu", "green", "v1")
    assert config.azure("") == config.azure("else") == Azure("eu", "blue", "v2")
