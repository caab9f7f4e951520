"""Windows: every moment is in one, whatever a zone's clocks do. The laws: `core.windows`."""

from __future__ import annotations

import timeit
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from importlib.resources import files
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metering.core.windows import CALENDAR, Window, checked, rule, zones
from metering.errors import InvalidRequest

ZONES = sorted(zones())
HOUR, DAY = 3_600_000, 86_400_000
KINDS = [
    *(Window(every=every) for every in CALENDAR),
    Window(every="week", first_day="sunday"),
    Window(every="10 days", anchor="2026-01-31"),
]
LONGEST = {"hour": 1, "day": 49, "week": 193, "month": 769, "quarter": 2233, "year": 8809}
"""Hours: a day more than usual, since Samoa has had one twice."""


def ms(text: str) -> int:
    """Unix milliseconds of an ISO time."""
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def local(at_ms: int, zone: str) -> datetime:
    """What a zone's clocks show."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(ZoneInfo(zone))


def in_zone(kind: Window, zone: str) -> Window:
    """The same window in a zone."""
    return checked(
        Window(every=kind.every, zone=zone, first_day=kind.first_day, anchor=kind.anchor)
    )


def fits(window: Window, start: int, end: int) -> None:
    """Whether a window is as long as it may be, and begins with a first day, or on the hour."""
    kind = window.every or ""
    zone = window.zone or ""
    hours = LONGEST.get(kind, 265)
    assert 0 < end - start <= hours * HOUR
    before, first = local(start - 1, zone), local(start, zone)
    if kind == "hour":
        on_the_hour = (first.minute, first.second) == (0, 0)
        assert on_the_hour or before.utcoffset() != first.utcoffset()
        return
    assert first.date() > before.date() or first.utcoffset() != before.utcoffset()
    midnight = (first.hour, first.minute, first.second) == (0, 0, 0)
    assert midnight or before.utcoffset() != first.utcoffset()
    days = [before.date() + timedelta(days=n) for n in range(1, 3) if n == 1 or not midnight]
    if before.utcoffset() == first.utcoffset():
        days = [first.date()]
    starts: dict[str, Callable[[date], bool]] = {
        "day": lambda day: True,
        "week": lambda day: day.weekday() == (6 if window.first_day == "sunday" else 0),
        "month": lambda day: day.day == 1,
        "quarter": lambda day: day.day == 1 and day.month % 3 == 1,
        "year": lambda day: (day.month, day.day) == (1, 1),
        "10 days": lambda day: (day - date(2026, 1, 31)).days % 10 == 0,
    }
    assert any(starts[kind](day) for day in (*days, first.date()))


def walk(window: Window, low: int, high: int) -> int:
    """From window to window: each begins where the one before ends, and has its own moments."""
    by = rule(window)
    start, end = by.bounds(low)
    assert start <= low
    count = 0
    while end <= high:
        fits(window, start, end)
        assert (
            by.bounds(start) == by.bounds(end - 1) == by.bounds((start + end) // 2) == (start, end)
        )
        following = by.bounds(end)
        assert following[0] == end
        start, end = following
        count += 1
    return count


def changes(zone: str, low: int, high: int) -> list[int]:
    """Moments near which a zone's clocks are set."""
    days = range(low, high, DAY)
    offsets = [(at, local(at, zone).utcoffset()) for at in days]
    return [one for (one, was), (_, now) in pairwise(offsets) if was != now]


def distinct() -> list[str]:
    """The zones less those that are another's by a second name."""
    data = {(files("tzdata.zoneinfo") / zone).read_bytes(): zone for zone in ZONES}
    return sorted(data.values())


@pytest.mark.timeout(7200)
def test_no_window_has_a_gap_or_an_overlap_in_any_zone_in_ten_years(size: str) -> None:
    """Months, quarters and years all through; days, weeks and hours around each change of clocks
    and, at full size, all through."""
    low, high = ms("2020-01-01T00:00Z"), ms("2030-01-01T00:00Z")
    zones_, windows, clocks = distinct(), 0, 0
    for zone in zones_:
        turns = changes(zone, low, high)
        clocks += len(turns)
        for kind in KINDS:
            window, every = in_zone(kind, zone), kind.every
            if every in ("month", "quarter", "year") or size != "ci":
                walked = walk(window, low, high)
                assert walked > 8
                windows += walked
                continue
            days = {"hour": 1, "day": 2}.get(every or "", 11)
            for turn in turns:
                windows += walk(window, turn - (days - 1) * DAY, turn + days * DAY)
    print(
        f"{len(ZONES)} zones, {len(zones_)} of them distinct, {windows} windows, {clocks} changes"
    )


@pytest.mark.parametrize(
    ("zone", "low", "high"),
    [
        ("Pacific/Apia", "2011-12-20", "2012-01-10"),  # the 30th of December has never been
        ("Pacific/Kwajalein", "1993-08-10", "1993-09-01"),  # nor the 21st of August
        ("Pacific/Kiritimati", "1994-12-20", "1995-01-10"),
        ("America/Sao_Paulo", "2017-10-01", "2019-03-01"),  # clocks are set at midnight
        ("America/Havana", "2020-01-01", "2024-01-01"),
        ("Asia/Beirut", "2020-01-01", "2024-01-01"),
        ("Africa/Cairo", "2014-01-01", "2024-12-01"),
        ("Asia/Gaza", "2015-01-01", "2024-01-01"),
        ("America/Scoresbysund", "2020-01-01", "2026-01-01"),
        ("Australia/Lord_Howe", "2020-01-01", "2024-01-01"),  # by half an hour
        ("Antarctica/Troll", "2020-01-01", "2024-01-01"),  # by two hours
        ("Africa/Casablanca", "2018-01-01", "2026-01-01"),  # twice more for Ramadan
        ("Asia/Kathmandu", "1985-12-20", "1986-01-10"),  # by a quarter
        ("America/Toronto", "1918-01-01", "1921-01-01"),  # set at 23:30: midnight comes twice
        ("America/St_Johns", "1987-01-01", "2012-01-01"),  # at one minute past midnight
        ("Africa/Monrovia", "1971-12-01", "1972-02-01"),  # by 44 minutes and a half
        ("Asia/Manila", "1844-12-20", "1845-01-10"),
        ("America/Juneau", "1867-10-01", "1867-11-01"),  # a day came twice
    ],
)
def test_clocks_that_are_set_oddly(zone: str, low: str, high: str) -> None:
    """Over midnight, by days or by minutes: no gap, no overlap."""
    for kind in KINDS:
        first, last = ms(low + "T00:00Z"), ms(high + "T00:00Z")
        long = kind.every == "hour" and last - first > 400 * DAY
        for turn in changes(zone, first, last) if long else [None]:
            from_, to = (turn - DAY, turn + 2 * DAY) if turn else (first, last)
            walk(in_zone(kind, zone), from_, to)


@pytest.mark.parametrize(
    ("window", "at", "start", "end"),
    [
        # kind, zone, more               a moment                     the window it is in
        (("hour", "Asia/Kolkata"), "2026-03-01T10:10Z", "2026-03-01T09:30Z", "2026-03-01T10:30Z"),
        (("day", "Europe/Berlin"), "2026-03-29T12:00Z", "2026-03-28T23:00Z", "2026-03-29T22:00Z"),
        (("day", "Europe/Berlin"), "2026-10-25T12:00Z", "2026-10-24T22:00Z", "2026-10-25T23:00Z"),
        (("day", "America/Havana"), "2026-03-08T12:00Z", "2026-03-08T05:00Z", "2026-03-09T04:00Z"),
        (("day", "America/Havana"), "2026-11-01T05:30Z", "2026-11-01T04:00Z", "2026-11-02T05:00Z"),
        (("day", "Pacific/Apia"), "2011-12-30T09:59Z", "2011-12-29T10:00Z", "2011-12-30T10:00Z"),
        (("day", "Pacific/Apia"), "2011-12-30T10:00Z", "2011-12-30T10:00Z", "2011-12-31T10:00Z"),
        (("week", "UTC"), "2026-11-28T00:00Z", "2026-11-23T00:00Z", "2026-11-30T00:00Z"),
        (("week", "UTC", "sunday"), "2026-11-28T00:00Z", "2026-11-22T00:00Z", "2026-11-29T00:00Z"),
        (("month", "Asia/Tokyo"), "2026-01-31T15:00Z", "2026-01-31T15:00Z", "2026-02-28T15:00Z"),
        (("month", "Asia/Tokyo"), "2026-01-31T14:59Z", "2025-12-31T15:00Z", "2026-01-31T15:00Z"),
        (("quarter", "UTC"), "2026-12-31T23:59Z", "2026-10-01T00:00Z", "2027-01-01T00:00Z"),
        (("year", "America/Lima"), "2026-01-01T04:59Z", "2025-01-01T05:00Z", "2026-01-01T05:00Z"),
        (("10 days", "UTC", None, "2026-01-31"), "2026-02-10T00:00Z", "2026-02-10", "2026-02-20"),
        (("10 days", "UTC", None, "2026-01-31"), "2026-01-30T23:59Z", "2026-01-21", "2026-01-31"),
    ],
)  # fmt: skip
def test_the_window_of_a_moment(window: tuple[str, ...], at: str, start: str, end: str) -> None:
    """It begins with the first moment of its first day where its zone is."""
    names = ("every", "zone", "first_day", "anchor")
    one = checked(Window(**dict(zip(names, window, strict=False))))
    assert one.bounds(ms(at)) == tuple(
        ms(it if "T" in it else it + "T00:00Z") for it in (start, end)
    )


@settings(max_examples=300, deadline=None)
@given(
    zone=st.sampled_from(ZONES),
    kind=st.sampled_from(KINDS),
    at_ms=st.integers(ms("1975-01-01T00:00Z"), ms("2099-01-01T00:00Z")),
)
def test_a_moment_is_in_its_window_and_three_starts_follow(
    zone: str, kind: Window, at_ms: int
) -> None:
    """What the scripts are given: the window before, the present and the next."""
    window = in_zone(kind, zone)
    starts = window.starts(at_ms)
    assert starts.before < starts.present <= at_ms < starts.next
    assert window.starts(starts.present - 1).present == starts.before
    assert window.starts(starts.next).before == starts.present
    assert window.start(at_ms) == starts.present
    assert window.bounds(at_ms) == (starts.present, starts.next)


@given(at_ms=st.integers(0, 4 * 10**12), minutes=st.integers(1, 366 * 1440))
def test_a_rolling_window_is_never_shorter_and_at_most_a_sixtieth_longer(
    at_ms: int, minutes: int
) -> None:
    """It begins with a part, and has no end."""
    window = checked(Window(rolling=f"{minutes} minutes"))
    start, end = window.bounds(at_ms)
    length = minutes * 60_000
    assert end is None
    assert length <= at_ms - start < length + length / 60
    assert start <= window.start(at_ms) <= at_ms < window.start(at_ms) + window.part_ms


@pytest.mark.parametrize(
    ("asked", "field", "says"),
    [
        ({}, "window", 'either "every" or "rolling"'),
        ({"every": "day", "rolling": "1 day"}, "window", 'either "every" or "rolling"'),
        ({"every": "fortnight"}, "window.every", '"N days"'),
        ({"every": "0 days", "anchor": "2026-01-01"}, "window.every", "from 1 to 1000"),
        ({"every": "1001 days", "anchor": "2026-01-01"}, "window.every", "from 1 to 1000"),
        ({"every": "day", "zone": "Europe/Atlantis"}, "window.zone", "'Europe/Atlantis'"),
        ({"every": "day", "zone": "europe/berlin"}, "window.zone", "IANA"),
        ({"every": "day", "zone": "../../etc/passwd"}, "window.zone", "no time zone"),
        ({"every": "day", "zone": "Europe"}, "window.zone", "no time zone"),
        ({"every": "day", "zone": "right/UTC"}, "window.zone", "no time zone"),
        ({"every": "day", "zone": "+02:00"}, "window.zone", "no time zone"),
        ({"every": "week", "first_day": "Mon"}, "window.first_day", "name of a day"),
        ({"every": "month", "first_day": "monday"}, "window.first_day", '"week" only'),
        ({"every": "10 days"}, "window.anchor", "2026-01-31"),
        ({"every": "10 days", "anchor": "2026-02-30"}, "window.anchor", "must be a day"),
        ({"every": "10 days", "anchor": "0001-01-01"}, "window.anchor", "must be a day"),
        ({"every": "month", "anchor": "2026-01-01"}, "window.anchor", '"N days" only'),
        ({"rolling": "24h"}, "window.rolling", '"24 hours"'),
        ({"rolling": "0 hours"}, "window.rolling", '"24 hours"'),
        ({"rolling": "367 days"}, "window.rolling", "at most 366 days"),
        ({"rolling": "24 hours", "zone": "UTC"}, "window.zone", '"every" only'),
    ],
)
def test_what_is_no_window_is_refused_by_the_members_name(
    asked: dict[str, str], field: str, says: str
) -> None:
    """The rule is said with it."""
    with pytest.raises(InvalidRequest, match=r"^window") as refused:
        checked(Window(**asked))
    assert refused.value.field == field
    assert refused.value.message.startswith(f"{field} ")
    assert says in refused.value.message


def test_a_window_has_one_spelling() -> None:
    """What is left out is what it means, so that asking again asks for the same."""
    assert checked(Window(every="Week")) == Window(every="week", zone="UTC", first_day="monday")
    assert checked(Window(rolling="24 Hours")) == Window(rolling="24 hours")
    assert checked(checked(Window(every="day"))) == checked(Window(every="day", zone="UTC"))


def test_the_present_windows_are_remembered() -> None:
    """A call asks for them: that must cost about a microsecond, not a calendar's hundred."""
    window = in_zone(Window(every="month"), "Europe/Berlin")
    at_ms = ms("2026-11-28T12:00Z")
    window.starts(at_ms)
    assert window.starts(at_ms) is window.starts(at_ms + 1000)
    assert min(timeit.repeat(lambda: window.starts(at_ms), number=1000, repeat=5)) < 0.05
