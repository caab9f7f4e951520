"""LiteLLM's spans of time: which windows they are, and when they end."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from metering.core.durations import ends_ms, tag, window
from metering.core.windows import Window, checked
from metering.errors import InvalidRequest

NOW_MS = int(datetime(2026, 1, 31, 12, 30, tzinfo=UTC).timestamp()) * 1000
WINDOWS = [
    ("1h", Window(every="hour", zone="UTC"), "hour"),
    ("60m", Window(every="hour", zone="UTC"), "hour"),
    ("hourly", Window(every="hour", zone="UTC"), "hour"),
    ("24h", Window(every="day", zone="UTC"), "day"),
    ("1d", Window(every="day", zone="UTC"), "day"),
    ("86400s", Window(every="day", zone="UTC"), "day"),
    (" Daily ", Window(every="day", zone="UTC"), "day"),
    ("7d", Window(every="week", zone="UTC", first_day="monday"), "week"),
    ("1w", Window(every="week", zone="UTC", first_day="monday"), "week"),
    ("30d", Window(every="month", zone="UTC"), "month"),
    ("1mo", Window(every="month", zone="UTC"), "month"),
    ("monthly", Window(every="month", zone="UTC"), "month"),
    ("3mo", Window(every="quarter", zone="UTC"), "quarter"),
    ("12mo", Window(every="year", zone="UTC"), "year"),
    ("10d", Window(every="10 days", zone="UTC", anchor="2026-01-31"), "10d"),
    ("2w", Window(every="14 days", zone="UTC", anchor="2026-01-31"), "14d"),
    ("12h", Window(rolling="720 minutes"), "720m"),
    ("5m", Window(rolling="5 minutes"), "5m"),
    ("90s", Window(rolling="2 minutes"), "2m"),
    ("1s", Window(rolling="1 minutes"), "1m"),
]


@pytest.mark.parametrize(("said", "expected", "letters"), WINDOWS)
def test_a_budgets_window(said: str, expected: Window, letters: str) -> None:
    """As LiteLLM's calendar has it, in the spelling that limits have; windows differ in letters."""
    found = window(said, NOW_MS, "budget_duration")
    assert found == expected
    assert found == checked(found)
    assert tag(found) == letters
    same = [its for _, its, other in WINDOWS if other == letters]
    assert set(same) == {expected}


def test_no_window() -> None:
    """What is never reset has no letters."""
    assert tag(None) == ""


ENDS = [
    ("30s", datetime(2026, 1, 31, 12, 30, 30, tzinfo=UTC)),
    ("2h", datetime(2026, 1, 31, 14, 30, tzinfo=UTC)),
    ("30d", datetime(2026, 3, 2, 12, 30, tzinfo=UTC)),
    ("1mo", datetime(2026, 2, 28, 12, 30, tzinfo=UTC)),
    ("12mo", datetime(2027, 1, 31, 12, 30, tzinfo=UTC)),
    ("weekly", datetime(2026, 2, 7, 12, 30, tzinfo=UTC)),
]


@pytest.mark.parametrize(("said", "expected"), ENDS)
def test_when_it_is_over(said: str, expected: datetime) -> None:
    """From now on, exactly; a month later is the same day, or the last one there is."""
    assert ends_ms(said, NOW_MS, "duration") == int(expected.timestamp()) * 1000


WRONG = ["", "soon", "1y", "-1d", "0d", "1.5h", "h", "1d ", "1 d", "9999999s"]


@pytest.mark.parametrize("said", WRONG)
def test_what_is_no_span_of_time(said: str) -> None:
    """It is refused, with the field's name."""
    for read in (window, ends_ms):
        with pytest.raises(InvalidRequest, match=f"Invalid field '{said}'") as fault:
            read(said, NOW_MS, "field")
        assert fault.value.field == "field"


@pytest.mark.parametrize("said", ["2mo", "1001d", "144w", "9999h", "999999m"])
def test_windows_there_are_none_of(said: str) -> None:
    """Longer ones, and months that make no quarter or year."""
    with pytest.raises(InvalidRequest):
        window(said, NOW_MS, "budget_duration")


@pytest.mark.parametrize("said", ["999999w", "999999mo"])
def test_after_the_last_year(said: str) -> None:
    """What ends in no year that there is does not begin."""
    with pytest.raises(InvalidRequest, match="9999"):
        ends_ms(said, NOW_MS, "duration")
