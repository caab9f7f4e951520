from __future__ import annotations

from datetime import UTC, datetime

import pytest

from pricing.book import NAMES_CACHED
from pricing.load import load
from tests.pricing.builders import book, entry, row, scope

BOOK = load()
NOW_MS = 1_795_000_000_000  # 2026-11-18


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("provider", "name", "model"),
    [
        # exact names, and any case
        ("openai", "gpt-4o", "gpt-4o"),
        ("openai", "GPT-4o", "gpt-4o"),
        ("openai", "gpt-4", "gpt-4"),
        # dated snapshots: with a price of their own, listed, and never heard of
        ("openai", "gpt-4o-2024-05-13", "gpt-4o-2024-05-13"),
        ("openai", "gpt-4o-20240513", "gpt-4o-2024-05-13"),
        ("openai", "gpt-4o-2024-08-06", "gpt-4o"),
        ("openai", "gpt-4o-2031-01-31", "gpt-4o"),
        ("openai", "gpt-6-sol-2031-01-31", "gpt-6-sol"),
        ("anthropic", "claude-3-opus-20240229", "claude-3-opus-latest"),
        ("anthropic", "claude-3-sonnet-20240229", "claude-3-sonnet"),
        ("anthropic", "claude-opus-4-20250514", "claude-opus-4-0"),
        ("anthropic", "claude-sonnet-4-20250514", "claude-sonnet-4-0"),
        ("anthropic", "claude-sonnet-4-5-20250929", "claude-sonnet-4-5"),
        ("anthropic", "claude-opus-5@20260801", "claude-opus-5"),
        # the longer pattern wins
        ("openai", "gpt-4o-audio-preview-2024-12-17", "gpt-4o-audio-preview"),
        ("openai", "omni-moderation-latest", "moderation"),
        # fine-tuned
        ("openai", "ft:gpt-4o-2024-08-06:org:name:id", "ft:gpt-4o"),
        ("openai", "ft:gpt-4o-mini-2024-07-18:org::id", "ft:gpt-4o-mini"),
        ("openai", "ft:gpt-3.5-turbo-0125:org::id", "ft:gpt-3.5-turbo-"),
        ("openai", "ft:gpt-4.1-2025-04-14:org::id", "ft:gpt-4.1-2025-04-14"),
        # not ours
        ("openai", "gpt-99", None),
        ("openai", "gpt-4o-2024-13-45", None),
        ("openai", "claude-3-opus-20240229", None),
        ("openai", "", None),
        ("nobody", "gpt-4o", None),
    ],
)
def test_names_are_resolved(provider: str, name: str, model: str | None) -> None:
    """Exact names, aliases, snapshots and fine-tuned models find their entry; others find none."""
    found = BOOK.find(provider, name, NOW_MS)
    assert (found.model if found else None) == model


@pytest.mark.parametrize(
    ("at", "version", "input_usd"),
    [
        ("1970-01-01", "p/m@undated", 1),
        ("2026-01-31T23:59:59.999", "p/m@undated", 1),
        ("2026-02-01", "p/m@2026-02-01", 2),
        ("2026-03-01", "p/m@2026-03-01", 2),
        ("2026-04-01", "p/m@2026-04-01", 3),
        ("2031-01-01", "p/m@2026-04-01", 3),
    ],
)
def test_a_price_has_a_date(at: str, version: str, input_usd: int) -> None:
    """A call has the price of its day, from midnight UTC, and the version says which that is."""
    dated = book(
        entry(
            row({"input": "3"}, since="2026-04-01"),
            row({"input": "1"}),
            row({"input": "2"}, since="2026-02-01"),
            row({"input": "9"}, since="2026-03-01", tier="flex"),
        )
    )
    found = dated.find("p", "m", ms(at))
    assert found is not None
    assert found.id == version
    assert found.tiers["default"].at(0)["input"] == input_usd * 10**9
    assert ("flex" in found.tiers) == (at >= "2026-03-01")


def test_the_first_price_holds_for_all_the_time_before() -> None:
    """Where even the first price has a date, an earlier call has that price, not none."""
    dated = book(
        entry(
            row({"input": "1"}, since="2026-02-01"),
            row({"input": "2"}, since="2025-01-01", tier="flex"),
            scopes=[scope("us", "1.1", since="2026-06-01")],
        )
    )
    before, after = dated.find("p", "m", -1), dated.find("p", "m", NOW_MS)
    assert before is not None
    assert after is not None
    assert (before.id, before.scopes) == ("p/m@2026-02-01", {})
    assert (after.id, after.scopes) == ("p/m@2026-06-01", {"us": (11, 10)})
    assert before.tiers["flex"].at(0)["input"] == 2 * 10**9


def test_a_tier_lists_only_what_differs() -> None:
    """What a tier's row does not list costs what the base lists, dates of both respected."""
    dated = book(
        entry(
            row({"input": "2", "web_search": "10"}, above={"100": {"input": "4"}}),
            row({"input": "1"}, tier="flex"),
            row({"input": "2", "web_search": "20"}, since="2026-01-01"),
        )
    )
    for at, search in (("2025-12-31", 10), ("2026-01-01", 20)):
        found = dated.find("p", "m", ms(at))
        assert found is not None
        flex = found.tiers["flex"].at(101)
        assert (flex["input"], flex["web_search"]) == (10**9, search * 10**12)


def test_names_do_not_pile_up() -> None:
    """Names come from callers: the book remembers a bounded number, and answers the rest."""
    small = book(entry(match=["m*"]))
    for number in range(NAMES_CACHED + 10):
        assert small.find("p", f"m{number}", 0) is not None
    assert small._history.cache_info().currsize == NAMES_CACHED


def test_every_entry_can_be_looked_up() -> None:
    """Every name of the shipped catalogue leads to the entry that lists it, and to a bound."""
    for provider, model in BOOK.models():
        for name in model.match:
            found = BOOK.find(provider, name.replace("#", "1").strip("*"), NOW_MS)
            assert found is not None
            assert found.model == model.id, name
            assert found.id.startswith(f"{provider}/{model.id}@")
            assert found.ceiling(1000, 1000) >= found.likely(1000, 1000)
