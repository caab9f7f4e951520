from __future__ import annotations

import pytest

from pricing.load import load
from pricing.names import Names, fits, place_of
from tests.pricing.builders import entry

BOOK = load()
NOW_MS = 1_795_000_000_000  # 2026-11-18
SONNET = "anthropic.claude-sonnet-4-5-20250929-v1:0"


@pytest.mark.parametrize(
    ("provider", "name", "version"),
    [
        # Bedrock: a model's price depends on where it may answer
        ("aws", SONNET, f"regional.{SONNET}"),
        ("aws", f"us.{SONNET}", f"regional.{SONNET}"),
        ("aws", f"eu.{SONNET}", f"regional.{SONNET}"),
        ("aws", f"apac.{SONNET}", f"regional.{SONNET}"),
        ("aws", f"global.{SONNET}", f"global.{SONNET}"),
        # one price wherever: profiles of models that have no price of their own by place
        ("aws", "us.amazon.nova-lite-v1:0", "amazon.nova-lite-v1:0"),
        ("aws", "US.Meta.Llama3-3-70b-instruct-v1:0", "meta.llama3-3-70b-instruct-v1:0"),
        # revisions, ARNs, and LiteLLM's way to write a region
        ("aws", "amazon.nova-lite-v1:0:300k", "amazon.nova-lite-v1:0"),
        ("aws", "arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-lite-v1:0",
         "amazon.nova-lite-v1:0"),
        ("aws", f"arn:aws:bedrock:eu-west-1:123456789012:inference-profile/eu.{SONNET}",
         f"regional.{SONNET}"),
        ("aws", "bedrock/us-gov-west-1/amazon.nova-lite-v1:0", "amazon.nova-lite-v1:0"),
        ("aws", "us.nobody.nothing-v1:0", None),
        ("aws", "us.", None),
        # Vertex: Pay-i's names, resource paths, versions; Claude at Anthropic's list price
        ("google", "google.gemini-2.5-pro", "gemini-2.5-pro"),
        ("google", "gemini-2.5-pro-preview-05-06", "gemini-2.5-pro"),
        ("google", "models/gemini-2.5-flash", "gemini-2.5-flash"),
        ("google", "publishers/google/models/gemini-2.5-flash", "gemini-2.5-flash"),
        ("google", "projects/p/locations/eu/publishers/anthropic/models/claude-opus-4-5@20251101",
         "claude-opus-4-5"),
        ("google", "anthropic.claude-sonnet-4-5@20250929", "claude-sonnet-4-5"),
        ("google", "claude-opus-5@default", "claude-opus-5"),
        # speech has prices of its own, and what is not listed none
        ("google", "gemini-2.5-pro-tts", "gemini-2.5-pro-tts"),
        ("google", "gemini-2.5-pro-unheard-tts", None),
        ("google", "gemini-2.5-pro-tts-unheard", None),
        ("google", "publishers/nobody/models/gemini", None),
        # Azure
        ("azure", "azure/gpt-4o-2024-08-06", "gpt-4o"),
        ("azure", "DeepSeek-V3.1", "deepseek-v3.1"),
        # others
        ("openai", "openai/gpt-4o", "gpt-4o"),
        ("openai", "anthropic/gpt-4o", None),
        ("databricks", "databricks-claude-sonnet-4-5", "databricks-claude-sonnet-4-5"),
        ("fireworks", "accounts/fireworks/models/deepseek-v4-flash-0731", "deepseek-v4-flash"),
        ("openrouter", "anthropic/claude-sonnet-4.5", "anthropic/claude-sonnet-4.5"),
        ("openrouter", "somebody/claude-sonnet-4.5", None),
    ],
)  # fmt: skip
def test_clouds_names_are_resolved(provider: str, name: str, version: str | None) -> None:
    """Paths, places, dates and revisions are understood; no spelling leads to another model."""
    found = BOOK.find(provider, name, NOW_MS)
    assert (found.id.partition("@")[0] if found else None) == (version and f"{provider}/{version}")


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("m", "m", True), ("m", "m1", False),
        ("m*", "m-x", True), ("m*", "xm", False),
        ("*m", "x/m", True), ("*m", "mx", False),
        ("*m*", "xmx", True), ("*m*", "x", False),
        ("m-##", "m-12", True), ("m-##", "m-1x", False), ("m-##", "m-123", False),
        ("m-#*", "m-1xy", True), ("*m-#", "am-1", True), ("m.#", "mx1", False),
        ("c[fast=true]", "c[fast=true]", True),
    ],
)  # fmt: skip
def test_patterns_fit(pattern: str, name: str, expected: bool) -> None:  # noqa: FBT001
    """`#` is a digit, `*` anything at an end, everything else itself."""
    assert fits(pattern, name) is expected


def test_the_most_specific_entry_is_meant() -> None:
    """An exact name beats a pattern, a longer pattern a shorter, an exception rules itself out."""
    names = Names(
        "p",
        [
            entry(name="any", match=["g*"]),
            entry(name="pro", match=["g-pro*"], unless=["*-tts", "*-tts-*"]),
            entry(name="one", match=["g-pro-1"]),
        ],
    )
    for name, model in (
        ("g-pro-1", "one"), ("G-PRO-2", "pro"), ("g-x", "any"), ("g-pro-tts", "any"),
        ("p/g-pro-1", "one"), ("g-pro-1-20260101", "pro"), ("g-pro-1@2026-01-01", "pro"),
    ):  # fmt: skip
        found = names.match(name)
        assert found is not None
        assert found.id == model, name
    assert names.match("h") is None


@pytest.mark.parametrize(
    ("provider", "name", "place"),
    [("aws", "us-gov.a.b", "us-gov"), ("aws", "us.a", "us"), ("aws", "usa.b", ""),
     ("google", "us.a", "")],
)  # fmt: skip
def test_bedrocks_names_say_the_place(provider: str, name: str, place: str) -> None:
    """Only Bedrock's names begin with where they answer."""
    assert place_of(provider, name) == place
