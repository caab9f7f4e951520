"""Each vendor's dialect: where model, usage and the last chunk are. Pure."""

from __future__ import annotations

from metering.providers.anthropic import Anthropic
from metering.providers.azure import AzureAnthropic, AzureOpenAI
from metering.providers.base import Dialect
from metering.providers.compatible import Compatible
from metering.providers.hosts import HOSTS
from metering.providers.openai import OpenAI

DIALECTS: dict[str, Dialect] = {
    "openai": OpenAI(),
    "anthropic": Anthropic(),
    "azure.openai": AzureOpenAI(),
    "azure.anthropic": AzureAnthropic(),
    **{host.name: Compatible(host) for host in HOSTS},
}
"""By the name that the routes have for it."""
_PROVIDERS = {
    **{dialect.category: dialect.name for dialect in DIALECTS.values()},
    "system.aws.bedrock": "aws",
    "system.bedrock": "aws",
    "system.google.vertex": "google",
}
_DATABRICKS = "system.databricks."


def provider_of(category: str | None, default: str) -> str:
    """The provider in the price book of a category of Pay-i's; another category is its own, with
    `system.` before it or without."""
    if not category:
        return default
    if category.startswith(_DATABRICKS):
        return "databricks"
    return _PROVIDERS.get(category) or category.removeprefix("system.")
