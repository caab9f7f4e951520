"""Each vendor's dialect: where model, usage and the last chunk are. Pure."""

from __future__ import annotations

from metering.providers.anthropic import Anthropic
from metering.providers.azure import AzureAnthropic, AzureOpenAI
from metering.providers.base import Dialect
from metering.providers.openai import OpenAI

DIALECTS: dict[str, Dialect] = {
    "openai": OpenAI(),
    "anthropic": Anthropic(),
    "azure.openai": AzureOpenAI(),
    "azure.anthropic": AzureAnthropic(),
}
"""By the name that the routes have for it."""
_PROVIDERS = {dialect.category: dialect.name for dialect in DIALECTS.values()}


def provider_of(category: str | None, default: str) -> str:
    """The provider in the price book of a category; one we have no dialect for is its own."""
    return _PROVIDERS.get(category, category) if category else default
