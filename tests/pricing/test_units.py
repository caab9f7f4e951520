from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.units import (
    INPUTS,
    LINEAGE,
    UNITS,
    UnitError,
    is_free_unless_listed,
    is_input,
    leaves,
    unit_of,
    wire_name,
)


@pytest.mark.parametrize(
    ("counts", "split"),
    [
        ({}, {}),
        ({"input": 0, "output": 0}, {"input_text": 0, "output_text": 0}),
        ({"input": 100, "output": 10}, {"input_text": 100, "output_text": 10}),
        # what a more specific count explains is taken out of the total
        ({"input": 100, "cache_read": 20}, {"input_text": 80, "cache_read": 20}),
        ({"output": 10, "reasoning": 4}, {"output_text": 6, "reasoning": 4}),
        ({"output": 10, "output_audio": 9}, {"output_text": 1, "output_audio": 9}),
        # everything explained: the rest is an explicit zero
        ({"output": 4, "reasoning": 4}, {"output_text": 0, "reasoning": 4}),
        # parts of zero are no leaves
        ({"input": 5, "cache_read": 0, "input_audio": 0}, {"input_text": 5}),
        # overlapping parts: cached audio is both, and is taken out of both once
        (
            {"input": 100, "input_audio": 40, "cache_read": 30, "cache_read_audio": 10},
            {"input_text": 40, "input_audio": 30, "cache_read": 20, "cache_read_audio": 10},
        ),
        # the two lifetimes of a cache write, with and without their sum
        (
            {"input": 60, "cache_read": 20, "cache_write_5m": 15, "cache_write_1h": 5},
            {"input_text": 20, "cache_read": 20, "cache_write_5m": 15, "cache_write_1h": 5},
        ),
        (
            {"input": 60, "cache_write": 20, "cache_write_1h": 5},
            {"input_text": 40, "cache_write": 15, "cache_write_1h": 5},
        ),
        # text that is reported as such joins the rest
        ({"input": 9, "input_text": 5, "input_image": 3}, {"input_text": 6, "input_image": 3}),
        # fees stand beside the tokens
        (
            {"input": 1, "web_search": 2, "requests": 1},
            {"input_text": 1, "web_search": 2, "requests": 1},
        ),
        # images of a size and quality are taken out of the number of images
        ({"images": 2, "image_hd_1024x1792": 2}, {"image_hd_1024x1792": 2}),
        (
            {"images": 4, "image_1024x1024": 3, "image_standard_1024x1024": 2},
            {"images": 1, "image_1024x1024": 1, "image_standard_1024x1024": 2},
        ),
        ({"images": 2}, {"images": 2}),
        ({"image_512x512": 1, "images": 1, "output": 0}, {"image_512x512": 1, "output_text": 0}),
        # sessions and uses of tools stand beside each other
        (
            {"container_1g": 1, "container_64g": 2, "code_execution": 3, "web_fetch": 4},
            {"container_1g": 1, "container_64g": 2, "code_execution": 3, "web_fetch": 4},
        ),
        # a container that was not reported is not a count
        ({"cache_read": 7}, {"cache_read": 7}),
    ],
)  # fmt: skip
def test_overlapping_counts_split_into_disjoint_leaves(
    counts: dict[str, int], split: dict[str, int]
) -> None:
    """A leaf is what is left of a unit once everything more specific is taken out."""
    assert leaves(counts) == split


@pytest.mark.parametrize(
    ("counts", "names"),
    [
        ({"input": 10, "cache_read": 11}, ("cache_read (11)", "input (10)")),
        ({"output": 3, "reasoning": 4}, ("reasoning (4)", "output (3)")),
        ({"input": 0, "cache_write_1h": 1}, ("cache_write_1h (1)", "input (0)")),
        ({"cache_read": 1, "cache_read_audio": 2}, ("cache_read_audio (2)", "cache_read (1)")),
        (
            {"input": 10, "cache_read": 6, "input_audio": 5},
            ("cache_read (6)", "input_audio (5)", "input (10)"),
        ),
        ({"images": 1, "image_256x256": 2}, ("image_256x256 (2)", "images (1)")),
        ({"input": -1}, ("-1 input",)),
        ({"input": 1, "parrots": 2}, ("2 parrots",)),
    ],
)
def test_counts_that_cannot_be_are_refused(counts: dict[str, int], names: tuple[str, ...]) -> None:
    """More of a part than of the whole is an error that names them with their counts."""
    with pytest.raises(UnitError) as error:
        leaves(counts)
    for name in names:
        assert name in str(error.value)


@given(st.dictionaries(st.sampled_from(sorted(UNITS)), st.integers(0, 10**9)))
def test_leaves_are_disjoint_and_complete(parts: dict[str, int]) -> None:
    """Whatever leaves make up the counts are found again: nothing lost, nothing counted twice."""
    names = {unit.leaf or unit.name for unit in UNITS.values()}
    truth = {name: count for name, count in parts.items() if name in names and count}
    whole = {
        unit.name: sum(n for leaf, n in truth.items() if unit.name in LINEAGE[leaf])
        for unit in UNITS.values()
    }
    assert {name: count for name, count in leaves(whole).items() if count} == truth


@pytest.mark.parametrize(
    ("unit", "wire"),
    [
        ("input_text", "text.input"),
        ("output_text", "text.output"),
        ("cache_read", "text_cache_read.input"),
        ("cache_write_5m", "text_cache_write.input"),
        ("cache_write_1h", "text_cache_write_1h.input"),
        ("input_audio", "audio.input"),
        ("input_image", "vision.input"),
        ("reasoning", "reasoning.output"),
        ("output_audio", "audio.output"),
        ("web_search", "web_search_request.output"),
        ("output_image", "vision.output"),
        ("images", "image.output"),
        ("image_256x256", "image_256x256.output"),
        ("image_hd_1024x1792", "image_hd_1024x1792.output"),
        ("container_4g", "container_4g_session.output"),
        ("web_fetch", "web_fetch_request.output"),
        ("code_execution", "code_execution_request.output"),
        ("my_own_unit", "my_own_unit"),
    ],
)
def test_leaves_have_wire_names(unit: str, wire: str) -> None:
    """A leaf is named on the wire as its clients name it; a caller's own unit keeps its name."""
    assert wire_name(unit) == wire


@pytest.mark.parametrize(
    ("wire", "unit"),
    [
        ("text.input", "input_text"),
        ("text.output", "output_text"),
        ("text_large_context.input", "input_text"),
        ("text_cache_write.input", "cache_write"),
        ("text_cache_write_1h_large_context.input", "cache_write_1h"),
        ("vision_large_context.input", "input_image"),
        ("video.input", "input_video"),
        ("video.output", "video_seconds"),
        ("document_cache_read.input", "cache_read_document"),
        ("reasoning_large_context.output", "reasoning"),
        ("web_search_request.output", "web_search"),
        ("guardrail_word_free.input", "guardrail_word_free"),
        ("text.sideways", None),
        ("parrots.input", None),
        ("", None),
    ],
)
def test_names_on_the_wire_are_read(wire: str, unit: str | None) -> None:
    """What Pay-i's clients ingest is read back, whichever context they say it was in."""
    assert unit_of(wire) == unit


def test_every_wire_name_leads_back() -> None:
    """A leaf's name on the wire means that leaf, but for a write of five minutes: any write."""
    for unit in UNITS.values():
        leaf = unit.leaf or unit.name
        assert unit_of(unit.wire) == {"cache_write_5m": "cache_write"}.get(leaf, leaf)


def test_the_vocabulary_is_consistent() -> None:
    """Dimensions are unique, wire names say the direction, lineages climb step by step."""
    assert len({unit.dimensions for unit in UNITS.values()}) == len(UNITS)
    for unit in UNITS.values():
        assert unit.wire.endswith("." + unit.direction)
        assert (unit.name in INPUTS) == (unit.direction == "input")
        sizes = [len(UNITS[name].dimensions) for name in LINEAGE[unit.name]]
        assert sizes == sorted(sizes, reverse=True)
    assert LINEAGE["cache_read_audio"] == ("cache_read_audio", "input_audio", "cache_read", "input")
    # no size lends its price to another, nor one quality to the other
    assert LINEAGE["image_512x512"] == ("image_512x512", "images")
    assert LINEAGE["image_hd_1024x1792"] == ("image_hd_1024x1792", "images")
    hd = ("image_hd_1024x1024", "image_1024x1024", "images")
    assert LINEAGE["image_hd_1024x1024"] == hd
    assert LINEAGE["container_4g"] == ("container_4g",)


def test_a_unit_of_a_callers_own_says_its_direction() -> None:
    """Known units have theirs; others are input unless their name says output, and never free."""
    assert [it for it in UNITS if is_input(it)] == [it for it in UNITS if it in INPUTS]
    own = ("scan.input", "scan.output", "scan")
    assert [is_input(it) for it in own] == [True, False, True]
    assert not any(map(is_free_unless_listed, (*own, "web_search")))
    assert is_free_unless_listed("web_fetch")
