"""Pay-i's categories are providers of the price book."""

from __future__ import annotations

import pytest

from metering.providers import provider_of
from pricing.load import load

BOOK = load()
CATEGORIES = [
    # category                      provider      a model of its
    ("system.openai", "openai", "gpt-4o"),
    ("system.anthropic", "anthropic", "claude-haiku-4-5"),
    ("system.azureopenai", "azure", "gpt-4o"),
    ("system.azure", "azure", "claude-haiku-4-5"),
    ("system.aws.bedrock", "aws", "anthropic.claude-haiku-4-5-20251001-v1:0"),
    ("system.bedrock", "aws", "anthropic.claude-haiku-4-5-20251001-v1:0"),
    ("system.google.vertex", "google", "gemini-2.5-pro"),
    ("system.databricks.azure", "databricks", "databricks-claude-sonnet-4"),
    ("system.groq", "groq", "llama-3.3-70b-versatile"),
    ("groq", "groq", "llama-3.3-70b-versatile"),
]


@pytest.mark.parametrize(("category", "provider", "model"), CATEGORIES)
def test_a_category_is_a_provider_with_prices(category: str, provider: str, model: str) -> None:
    """Each of Pay-i's leads to prices; one of a caller's own is its own, none is the default."""
    assert provider_of(category, "openai") == provider
    assert BOOK.find(provider, model, 1_795_000_000_000) is not None
    assert provider_of("mine", "openai") == "mine"
    assert provider_of(None, "openai") == provider_of("", "openai") == "openai"
