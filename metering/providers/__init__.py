"""Each vendor's dialect: where model, usage and the last chunk are. Pure."""

from __future__ import annotations

from metering.providers.anthropic import Anthropic
from metering.providers.base import Dialect
from metering.providers.openai import OpenAI

DIALECTS: dict[str, Dialect] = {dialect.name: dialect for dialect in (OpenAI(), Anthropic())}
"""By provider, as the price book and the routes name it."""
PROVIDERS: dict[str, str] = {it.category: it.name for it in DIALECTS.values()}
"""By Pay-i's category."""
