"""What limits with own rates are charged: by another arithmetic, over usages of every shape."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metering.core.estimate import Learned
from metering.core.limits import Limit
from metering.core.prices import LimitRates, Negotiated, OwnRate, OwnRates, PriceList
from metering.core.record import UsageRow
from metering.ledger import Ledger
from metering.meter import Meter, Priced, price_of
from metering.meter.pricing import priced_row, true_price
from metering.providers.base import Ask, Usage
from pricing.book import PriceBook
from tests.builders import APPLICATION, NOW_MS, limit, row
from tests.pricing.builders import entry, file
from tests.pricing.builders import row as prices

LIST = {"input": "2.5", "cache_read": "1.25", "output": "10"}
OTHER = {"input": "0.15", "output": "0.6"}
BOOK = PriceBook(
    [
        file(
            "openai",
            entry(prices(LIST, above={"1000": {"input": "5"}}), name="gpt-4o"),
            entry(prices(OTHER), name="gpt-4o-mini"),
            entry(prices({"images": "0.04"}), name="painter"),
        )
    ],
    "1-test",
)
MILLION = 10**6
PPM = 10**6


def rates(*given: OwnRate) -> OwnRates:
    """Own rates."""
    return OwnRates(given, "own-1")


def own(match: str = "*", **members: object) -> OwnRate:
    """One."""
    return msgspec.convert({"match": match, **members}, OwnRate)


def rounded(numerator: int, denominator: int) -> int:
    """Half to even."""
    whole, rest = divmod(numerator, denominator)
    twice = rest * 2
    return whole + (twice > denominator or (twice == denominator and whole % 2 == 1))


def line(count: int, usd_each_million: str, *ppm: int) -> int:
    """Pico-USD of so many tokens at a price and some multipliers, in ppm; rounded once."""
    whole, _, part = usd_each_million.partition(".")
    micro = int(whole) * MILLION + int((part + "0" * 6)[:6])
    numerator, denominator = count * micro, 1  # micro-USD a million tokens is a pico-USD a token
    for each in ppm:
        numerator, denominator = numerator * each, denominator * PPM
    return rounded(numerator, denominator)


def multiplier(ppm: int) -> str:
    """A multiplier as it is negotiated."""
    return f"{ppm // PPM}.{ppm % PPM:06d}"


def expected(
    counts: dict[str, int], table: dict[str, str], *ppm: int, fixed: dict[str, str]
) -> tuple[int, int]:
    """Input and output of some tokens: `fixed` prices are not multiplied by the first ratio."""
    sums = {"input": 0, "output": 0}
    cached = counts.get("cache_read", 0)
    parts = {"input": counts["input"] - cached, "cache_read": cached, "output": counts["output"]}
    for unit, count in parts.items():
        lender = unit if unit in table or unit in fixed else "input"
        price = fixed.get(lender)
        found = line(count, table[lender], *ppm) if price is None else line(count, price, *ppm[1:])
        sums["output" if unit == "output" else "input"] += found
    return sums["input"], sums["output"]


counted = st.fixed_dictionaries(
    {"input": st.integers(0, 3_000), "output": st.integers(0, 5_000)}
).flatmap(lambda it: st.integers(0, it["input"]).map(lambda cached: {**it, "cache_read": cached}))
ratios = st.integers(1, 9_999_999)
fixed_prices = st.dictionaries(
    st.sampled_from(["input", "output", "cache_read"]),
    st.integers(0, 30 * MILLION).map(lambda it: f"{it // MILLION}.{it % MILLION:06d}"),
    min_size=1,
)


@settings(max_examples=300, deadline=None)
@given(
    counts=counted,
    others=st.none() | counted,
    mine=st.none() | ratios,
    its=ratios,
    fixed=fixed_prices,
    estimated=st.booleans(),
)
def test_each_limit_is_charged_its_own(
    counts: dict[str, int],
    others: dict[str, int] | None,
    mine: int | None,
    its: int,
    fixed: dict[str, str],
    *,
    estimated: bool,
) -> None:
    """A multiplier and replaced prices are those of the price the call has, to the pico; neither
    the call's cost nor another limit knows of them."""
    negotiated = Negotiated(
        None if mine is None else rates(own(multiplier=multiplier(mine))),
        limits={
            "times": LimitRates(NOW_MS, rates(own(multiplier=multiplier(its)))),
            "fixed": LimitRates(NOW_MS, rates(own("openai/gpt-4o", prices=fixed))),
            "none": LimitRates(NOW_MS, rates(own("anthropic/*", multiplier="2"))),
        },
    )
    limits = [limit(name) for name in ("times", "fixed", "none", "plain")]
    admitted = priced(negotiated, limits)
    usage = Usage(other_models={} if others is None else {"gpt-4o-mini": others})
    found = priced_row(row(), usage, admitted, counts, estimated=estimated)

    ratio = PPM if mine is None else mine
    table = LIST | ({"input": "5"} if counts["input"] > 1_000 else {})
    beside = others or {"input": 0, "output": 0, "cache_read": 0}

    def both(*ppm: int, agreed: dict[str, str]) -> tuple[int, int]:
        one = expected(counts, table, ratio, *ppm, fixed=agreed)
        other = expected(beside, OTHER, ratio, *ppm, fixed={})
        return one[0] + other[0], one[1] + other[1]

    assert (found.input_pico, found.output_pico) == both(agreed={})
    assert found.cost_pico == found.input_pico + found.output_pico
    assert found.limit_costs == {
        "times": both(its, agreed={}),
        "fixed": both(agreed=fixed),
        "none": (found.input_pico, found.output_pico),
    }
    assert found.cost_for("plain") == (found.input_pico, found.output_pico)
    alone = priced(negotiated._replace(limits={}), limits)
    bare = priced_row(row(), usage, alone, counts, estimated=estimated)
    without = msgspec.structs.replace(found, limit_costs={}, request_id=bare.request_id)
    assert bare == without


def priced(negotiated: Negotiated, limits: list[Limit], model: str = "gpt-4o") -> Priced:
    """The price of a call at admission."""
    listed = PriceList(BOOK, {APPLICATION: negotiated})
    return price_of(listed, APPLICATION, "openai", model, NOW_MS, limits=limits)


@settings(max_examples=200, deadline=None)
@given(
    prompt=st.integers(0, 2_000),
    out=st.integers(0, 400),
    its=ratios,
    fixed=fixed_prices,
    mine=st.none() | ratios,
)
def test_the_ceiling_is_a_bound_at_own_rates(
    prompt: int, out: int, its: int, fixed: dict[str, str], mine: int | None
) -> None:
    """Whatever is used within the caps, no limit is charged more than its ceiling."""
    negotiated = Negotiated(
        None if mine is None else rates(own(multiplier=multiplier(mine))),
        limits={
            "times": LimitRates(NOW_MS, rates(own(multiplier=multiplier(its)))),
            "fixed": LimitRates(NOW_MS, rates(own(prices=fixed))),
        },
    )
    admitted = priced(negotiated, [limit("times"), limit("fixed")])
    meter = Meter(PriceList(BOOK), Ledger.__new__(Ledger), Learned())
    ask = Ask(model="gpt-4o", max_output_tokens=400, body_bytes=2_000)
    bounds = meter.bounds(row(), ask, admitted, prompt, ceiling=True)
    counts = {"input": prompt, "output": out, "cache_read": prompt // 3}
    found = priced_row(row(), Usage(), admitted, counts, estimated=False)
    assert found.cost_pico <= bounds.ceiling_pico
    for name, (likely, ceiling) in bounds.limits.items():
        assert sum(found.cost_for(name)) <= ceiling
        assert likely <= ceiling
    assert set(bounds.limits) == {"times", "fixed"}


@pytest.mark.parametrize(
    ("prices_", "counts", "charged", "ceiling"),
    [
        ({"images": "0.08"}, {"images": 2}, 160_000_000_000, 160_000_000_000),
        ({"requests": "10"}, {"images": 2}, 90_000_000_000, 90_000_000_000),
        # tokens that the answer may state have a price for this limit alone
        ({"input": "2"}, {"images": 2, "input": 9}, 80_018_000_000, None),
    ],
)
def test_what_is_no_token(
    prices_: dict[str, str], counts: dict[str, int], charged: int, ceiling: int | None
) -> None:
    """Of a model priced by images a limit may have a rate for them, for the call, or for tokens."""
    negotiated = Negotiated(limits={"team": LimitRates(NOW_MS, rates(own(prices=prices_)))})
    admitted = priced(negotiated, [limit("team")], "painter")
    meter = Meter(PriceList(BOOK), Ledger.__new__(Ledger), Learned())
    ask = Ask(model="painter", counted={"images": 2}, body_bytes=100)
    bounds = meter.bounds(row(), ask, admitted, 9, ceiling=True)
    found = priced_row(row(), Usage(), admitted, counts, estimated=False)
    assert found.cost_pico == bounds.ceiling_pico == 80_000_000_000
    assert sum(found.cost_for("team")) == charged
    assert bounds.limits["team"][1] >= charged
    assert ceiling in (None, bounds.limits["team"][1])


def test_unpriced_and_zero() -> None:
    """Of a call without a price a limit is charged nothing either; explicit zero stays zero."""
    half = {"team": LimitRates(NOW_MS, rates(own(multiplier="0.5")))}
    unknown = priced(Negotiated(limits=half), [limit("team")], "nobodys")
    found = priced_row(row(), Usage(), unknown, {"input": 9}, estimated=False)
    assert (found.limit_costs, found.cost_for("team")) == ({}, (0, 0))
    known = priced(Negotiated(limits=half), [limit("team")])
    zero = priced_row(row(), Usage(), known, {"input": 0, "output": 0}, estimated=False)
    assert zero.limit_costs == {"team": (0, 0)}


@pytest.mark.parametrize(
    ("one", "pinned"),
    [
        (limit("team"), True),
        (limit("other"), False),
        (limit("team", unit="tokens"), False),
        (limit("team", unit="requests"), False),
        (limit("team", created_ms=NOW_MS + 1), False),
        (limit("team", created_ms=NOW_MS - 1), False),
        (limit("team", epoch=NOW_MS + 9), True),
    ],
)
def test_which_limits_have_own_rates(one: Limit, *, pinned: bool) -> None:
    """The very limit they were set for, reset or not, if it counts usd; no later one of its id."""
    negotiated = Negotiated(limits={"team": LimitRates(NOW_MS, rates(own(multiplier="2")))})
    assert [it for it, _ in priced(negotiated, [one]).limits] == ["team"] * pinned


@pytest.mark.parametrize(
    ("credential", "match", "pico"),
    [
        ("env-openai", "openai/gpt-4o", 3 * 1_250_000),
        ("env-openai", "openai/*", 3 * 1_250_000),
        ("env-openai", "anthropic/*", 3 * 2_000_000),
        ("env-other", "*", 3 * 2_000_000),
        (None, "*", 3 * 2_000_000),
    ],
)
def test_a_credentials_rates_come_first(credential: str | None, match: str, pico: int) -> None:
    """Before the application's, alone, where one of them is of the model; nobody else's."""
    negotiated = Negotiated(
        rates(own("openai/gpt-4o", multiplier="0.8")),
        {"env-openai": rates(own(match, multiplier="0.5"))},
    )
    listed = PriceList(BOOK, {APPLICATION: negotiated})
    found = price_of(listed, APPLICATION, "openai", "gpt-4o", NOW_MS, credential=credential)
    called: UsageRow = row(credential=credential)
    assert priced_row(called, Usage(), found, {"input": 3}, estimated=False).cost_pico == pico
    other = price_of(listed, APPLICATION, "openai", "gpt-4o-mini", NOW_MS)
    usage = Usage(model="gpt-4o")
    answered = true_price(called, usage, other)
    assert priced_row(called, usage, answered, {"input": 3}, estimated=False).cost_pico == pico
