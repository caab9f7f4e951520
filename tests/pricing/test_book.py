from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from pricing.book import NAMES_CACHED, PriceBook
from pricing.catalogue import ModelEntry, Resold
from pricing.cost import cost
from pricing.load import load
from pricing.units import leaves
from tests.pricing.builders import book, entry, file, row, scope

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
        # images and speech
        ("openai", "dall-e-3", "dall-e-3"),
        ("openai", "tts-1-1106", "tts-1-1106"),
        ("openai", "gpt-4o-mini-transcribe-2025-12-15", "gpt-4o-mini-transcribe"),
        ("openai", "gpt-4o-mini-tts-2025-12-15", "gpt-4o-mini-tts"),
        # Azure's own, and what it sells of others under their names or its spelling
        ("azure", "gpt-4-turbo-2024-04-09", "gpt-4-turbo-2024-04-09"),
        ("azure", "Phi-4", "phi-4"),
        ("azure", "whisper", "whisper"),
        ("azure", "gpt-4o-2024-08-06", "gpt-4o"),
        ("azure", "gpt-35-turbo", "gpt-3.5-turbo"),
        ("azure", "GPT-35-Turbo-16k-0613", "gpt-3.5-turbo-16k"),
        ("azure", "gpt-6-sol-2026-09-22", "gpt-6-sol"),
        ("azure", "claude-sonnet-4-5-20250929", "claude-sonnet-4-5"),
        ("azure", "gpt-99", None),
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


def test_a_models_history_is_every_rate_it_has_had() -> None:
    """When each began, and what it was; of what nobody sells there is none."""
    dated = book(entry(row({"input": "1"}), row({"input": "2"}, since="2026-02-01")))
    found = dated.history("p", "m")
    assert [rates.id for _, rates in found] == ["p/m@undated", "p/m@2026-02-01"]
    assert all(dated.find("p", "m", max(0, since)) == rates for since, rates in found)
    assert found[1][0] == ms("2026-02-01")
    assert dated.history("p", "other") == []


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
            assert (found.provider == provider) == bool(model.prices)
            assert found.ceiling(1000, 1000) >= found.likely(1000, 1000)


@pytest.mark.parametrize(
    ("provider", "name", "where", "counts", "usd"),
    [
        ("openai", "dall-e-2", None, {"images": 1, "image_256x256": 1}, "0.016"),
        ("openai", "dall-e-2", None, {"images": 2, "image_512x512": 2}, "0.036"),
        ("openai", "dall-e-2", None, {"images": 1, "image_1024x1024": 1}, "0.02"),
        ("openai", "dall-e-3", None, {"images": 1, "image_standard_1024x1024": 1}, "0.04"),
        ("openai", "dall-e-3", None, {"images": 1, "image_standard_1024x1792": 1}, "0.08"),
        ("openai", "dall-e-3", None, {"images": 1, "image_hd_1024x1024": 1}, "0.08"),
        ("openai", "dall-e-3", None, {"images": 1, "image_hd_1792x1024": 1}, "0.12"),
        ("openai", "gpt-5.4", None, {"container_1g": 1, "container_64g": 1}, "1.95"),
        ("openai", "o1", None, {"container_4g": 1, "container_16g": 2}, "1.08"),
        # tokens of text and of images, in and out, whichever of them a model has
        ("openai", "gpt-image-1", None,
         {"input": 1_100, "input_image": 1_000, "output": 4_160, "output_image": 4_160}, "0.1769"),
        ("openai", "gpt-image-1.5", None,
         {"input": 100, "output": 4_260, "output_image": 4_160}, "0.13462"),
        ("openai", "gpt-image-2", None,
         {"input": 300, "input_image": 200, "cache_read": 200, "cache_read_image": 200,
          "output": 1_000, "output_image": 1_000}, "0.0309"),
        ("openai", "gpt-4o-transcribe", None,
         {"input": 110, "input_audio": 100, "output": 20}, "0.000825"),
        ("openai", "gpt-4o-mini-tts", None, {"input": 10, "output": 500, "output_audio": 500},
         "0.006006"),
        ("openai", "whisper-1", None, {"audio_seconds": 61}, "0.0061"),
        ("openai", "gpt-transcribe", None, {"audio_seconds": 60}, "0.0045"),
        ("openai", "tts-1-hd-1106", None, {"input_characters": 1_000}, "0.03"),
        # Claude's tools
        ("anthropic", "claude-opus-5", None,
         {"input": 100, "web_search": 1, "web_fetch": 5, "code_execution": 5}, "0.0105"),
        # at list price, dearer in zones and regions; search is Azure's, or Anthropic's with Claude
        ("azure", "gpt-4o", None, {"input": 1_000}, "0.0025"),
        ("azure", "gpt-4o", "global", {"input": 1_000}, "0.0025"),
        ("azure", "gpt-4o", "datazone", {"input": 1_000}, "0.00275"),
        ("azure", "gpt-4o", "datazone.us", {"input": 1_000}, "0.00275"),
        ("azure", "gpt-4o", "region", {"input": 1_000}, "0.00275"),
        ("azure", "gpt-6-sol", "datazone.us", {"input": 1_000}, "0.0022"),
        ("azure", "gpt-6-sol", "datazone.eu", {"input": 1_000}, "0.0024"),
        ("azure", "gpt-6-sol", "datazone", {"input": 1_000}, "0.0024"),
        ("azure", "gpt-5.4", None, {"web_search": 1, "container_4g": 1}, "0.134"),
        ("azure", "o3-mini", None, {"web_search": 1, "container_1g": 1}, "0.044"),
        ("azure", "claude-opus-5", "datazone.us", {"input": 1_000, "web_search": 1}, "0.0155"),
        # Azure's own
        ("azure", "gpt-4-turbo", None, {"input": 1_000, "output": 1_000}, "0.044"),
        ("azure", "dall-e-3", None, {"images": 1, "image_hd_1024x1792": 1}, "0.132"),
        ("azure", "text-embedding-3-small", "datazone.eu", {"input": 1_000}, "0.000022"),
    ],
)  # fmt: skip
def test_the_catalogue_prices_every_endpoint(
    provider: str, name: str, where: str | None, counts: dict[str, int], usd: str
) -> None:
    """Images, speech, transcripts, tools and Azure's scopes cost what the vendors' lists say."""
    found = BOOK.find(provider, name, NOW_MS)
    assert found is not None
    charged = cost(leaves(counts), found, scope=where)
    assert charged.unpriced == ()
    assert charged.total_pico == Decimal(usd) * 10**12


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("dall-e-3", {"images": 2}),
        ("dall-e-3", {"images": 1, "image_1024x1024": 1}),
        ("dall-e-3", {"images": 1, "image_256x256": 1}),
        ("dall-e-2", {"images": 1}),
        ("dall-e-2", {"images": 1, "image_hd_1024x1792": 1}),
    ],
)
def test_an_image_of_unknown_price_is_unpriced(name: str, counts: dict[str, int]) -> None:
    """A size and quality that the model has no price for costs nothing, and says so."""
    found = BOOK.find("openai", name, NOW_MS)
    assert found is not None
    charged = cost(leaves(counts), found)
    assert charged.total_pico == 0
    assert charged.unpriced == tuple(leaves(counts))


VENDOR = file(
    "v",
    entry(row({"input": "1", "web_search": "9"}), name="listed", scopes=[scope("us", "1.5")]),
    entry(row({"input": "2"}), row({"input": "8"}, tier="priority"), name="plain"),
    entry(row({"input": "3"}), name="v.1", match=["v.1-x", "v.1-alias"]),
    entry(row({"input": "99", "output": "99"}), name="dearest"),
    fees=[row({"web_search": "10", "container_1g": "0.03"})],
)
OTHER = file("w", entry(row({"input": "4"}), name="claude"), fees=[row({"web_search": "11"})])
RESOLD = [Resold(vendor="v", spelt={"v1-": "v.1-"}), Resold(vendor="w", own_tools=False)]


def reseller(*entries: ModelEntry) -> PriceBook:
    """A book of a provider `r` that sells the models of `v` and `w`."""
    sold = file(
        "r",
        *entries,
        fees=[row({"web_search": "14"})],
        scopes=[scope("zone", "1.1")],
        resells=RESOLD,
    )
    return PriceBook([VENDOR, OTHER, sold], "test")


@pytest.mark.parametrize(
    ("name", "version", "owner", "input_usd", "search_usd", "container_usd", "scopes"),
    [
        # another's model: its price, this provider's tools and scopes
        ("listed", "r/listed@undated", "v", 1, 14, "0.03", {"zone": (11, 10)}),
        ("plain", "r/plain@undated", "v", 2, 14, "0.03", {"zone": (11, 10)}),
        ("V1-X", "r/v.1@undated", "v", 3, 14, "0.03", {"zone": (6, 5)}),
        ("v.1-alias", "r/v.1@undated", "v", 3, 14, "0.03", {"zone": (6, 5)}),
        # whose tools come with it
        ("claude", "r/claude@undated", "w", 4, 11, None, {"zone": (11, 10)}),
        # its own: its fees give way to the entry's, and the vendors' to its
        ("own", "r/own@undated", "r", 5, 14, "0.03", {"zone": (11, 10)}),
        ("fee", "r/fee@undated", "r", 6, 7, "0.03", {"zone": (11, 10), "far": (2, 1)}),
    ],
)  # fmt: skip
def test_a_reseller_sells_at_list_price(
    name: str,
    version: str,
    owner: str,
    input_usd: int,
    search_usd: int,
    container_usd: str | None,
    scopes: dict[str, tuple[int, int]],
) -> None:
    """What a provider does not list costs what its vendor lists, but for its tools and scopes."""
    sold = reseller(
        entry(row({"input": "5"}), name="own"),
        entry(row({"input": "6", "web_search": "7"}), name="fee", scopes=[scope("far", "2")]),
        ModelEntry(id="v.1", match=["v.1"], prices=[], scopes=[scope("zone", "1.2")]),
    )
    found = sold.find("r", name, NOW_MS)
    assert found is not None
    assert (found.id, found.provider, found.scopes) == (version, owner, scopes)
    prices = found.tiers["default"].at(0)
    assert prices["input_text"] == input_usd * 10**9
    assert prices["web_search"] == search_usd * 10**12
    expected = None if container_usd is None else Decimal(container_usd) * 10**15
    assert prices.get("container_1g") == expected


def test_a_reseller_has_the_tiers_of_the_vendor() -> None:
    """A service tier is resold too, with the reseller's tools in it."""
    found = reseller().find("r", "plain", NOW_MS)
    assert found is not None
    priority = found.tiers["priority"].at(0)
    assert (priority["input"], priority["web_search"]) == (8 * 10**9, 14 * 10**12)


def test_the_dearest_of_a_reseller_may_be_another_s() -> None:
    """What an unknown model is estimated by is looked for in all that a provider sells."""
    found = reseller(entry(row({"input": "5"}), name="own")).dearest("r", NOW_MS)
    assert found is not None
    assert found.id == "r/dearest@undated"
    placed = ModelEntry(id="dearest", match=["dearest"], prices=[], scopes=[scope("zone", "2")])
    found = reseller(placed).dearest("r", NOW_MS)
    assert found is not None
    assert (found.id, found.scopes["zone"]) == ("r/dearest@undated", (2, 1))
    assert reseller().dearest("nobody", NOW_MS) is None


@pytest.mark.parametrize(
    ("at", "version", "search_usd"),
    [
        ("2025-12-31", "p/m@undated", 10),
        ("2026-03-01", "p/m@undated", 10),
        ("2026-06-01", "p/m@2026-06-01", 12),
        ("2026-09-01", "p/m@2026-09-01", 12),
    ],
)
def test_a_fee_has_a_date(at: str, version: str, search_usd: int) -> None:
    """A fee's first row holds for all the time before; a later one makes a new price version."""
    fees = [
        row({"web_search": "12"}, since="2026-06-01"),
        row({"web_search": "10"}, since="2026-03-01"),
    ]
    scopes = [scope("us", "1.1", since="2026-09-01")]
    dated = PriceBook([file("p", entry(row()), fees=fees, scopes=scopes)], "test")
    found = dated.find("p", "m", ms(at))
    assert found is not None
    assert found.id == version
    assert found.tiers["default"].at(0)["web_search"] == search_usd * 10**12
    assert found.scopes == ({"us": (11, 10)} if at == "2026-09-01" else {})


@pytest.mark.parametrize(
    ("at", "version", "input_usd", "output_usd"),
    [
        ("2026-03-01T00:59:59.999", "p/m@undated", 2, 10),
        ("2026-03-01T01:00", "p/m@undated+01:00-04:00", 4, 10),
        ("2026-03-01T03:59:59.999", "p/m@undated+01:00-04:00", 4, 10),
        ("2026-03-01T04:00", "p/m@undated", 2, 10),
        ("2026-03-01T23:30", "p/m@undated+22:00-00:30", 5, 20),
        ("2026-03-02T00:29", "p/m@undated+22:00-00:30", 5, 20),
        ("2026-03-02T00:30", "p/m@undated", 2, 10),
        ("2026-06-01T02:00", "p/m@2026-06-01", 3, 10),
    ],
)
def test_a_price_may_have_hours(at: str, version: str, input_usd: int, output_usd: int) -> None:
    """At some hours of every day, past midnight too, other prices hold; a new row ends them."""
    hours = {"01:00-04:00": {"input": "4"}, "22:00-00:30": {"input": "5", "output": "20"}}
    timed = book(
        entry(
            row(hours=hours),
            row({"input": "1"}, tier="batch"),
            row({"input": "3", "output": "10"}, since="2026-06-01"),
        )
    )
    found = timed.find("p", "m", ms(at))
    assert found is not None
    assert found.id == version
    prices = found.tiers["default"].at(0)
    assert (prices["input"], prices["output"]) == (input_usd * 10**9, output_usd * 10**9)
    assert found.tiers["batch"].at(0)["input"] == 10**9


def test_of_several_vendors_the_first_one_lends_its_fees() -> None:
    """A reseller's own model has the vendors' fees, of two that differ the first vendor's."""
    vendors = [
        file(name, entry(name=name), fees=[row({"web_search": price, fee: "1"})])
        for name, price, fee in (("v", "10", "file_search"), ("w", "20", "social_search"))
    ]
    sold = file("r", entry(name="own"), resells=[Resold(vendor="v"), Resold(vendor="w")])
    found = PriceBook([*vendors, sold], "test").find("r", "own", NOW_MS)
    assert found is not None
    prices = found.tiers["default"].at(0)
    fees = [prices[unit] // 10**12 for unit in ("web_search", "file_search", "social_search")]
    assert fees == [10, 1, 1]


def test_the_dearest_is_found_without_compiling_all() -> None:
    """The dearest tokens of the day, in and out together, whatever else costs more."""
    models = book(
        entry(row({"input": "1", "output": "9"}), name="a"),
        entry(
            row({"input": "5", "output": "5"}),
            row({"input": "7", "output": "9"}, since="2026-06-01"),
            name="b",
        ),
        entry(row({"input": "2", "output": "10"}), row({"input": "99"}, tier="fast"), name="c"),
        entry(row({"images": "100"}), name="d"),
    )
    before, after = models.dearest("p", ms("2026-05-31")), models.dearest("p", ms("2026-06-01"))
    assert before is not None
    assert after is not None
    assert (before.model, after.model) == ("c", "b")
    assert len(models._compiled) == 2
    assert book(entry(row({"images": "1"}))).dearest("p", NOW_MS) is None
    assert book().dearest("p", NOW_MS) is None
    # also where it is not called by its id
    odd = book(entry(name="regional.m", match=["us.m"])).dearest("p", NOW_MS)
    assert odd is not None
    assert odd.id == "p/regional.m@undated"


def test_a_tool_that_is_called_by_itself_costs_its_fee() -> None:
    """The model `tools` has its provider's fees and nothing else."""
    found = PriceBook([VENDOR], "test").find("v", "tools", NOW_MS)
    assert found is not None
    assert found.id == "v/tools@undated"
    assert set(found.tiers["default"].at(0)) == {"web_search", "container_1g"}
    assert not found.by_tokens
