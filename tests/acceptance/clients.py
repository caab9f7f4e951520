"""The providers' own SDKs, pointed at the service as its users point them."""

from __future__ import annotations

from typing import Any

from anthropic import Anthropic, AsyncAnthropic
from openai import AsyncOpenAI, OpenAI

from tests.acceptance.tenant import Tenant

CHAT_MODEL, MESSAGES_MODEL = "gpt-4o-mini", "claude-haiku-4-5"


def openai_client(tenant: Tenant, *, key: str | None = None, **options: Any) -> OpenAI:
    """OpenAI's client; `key` is what stands in the provider's slot, by default the tenant's own."""
    return OpenAI(base_url=tenant.openai_url, **_options(tenant, key, options))


def anthropic_client(tenant: Tenant, *, key: str | None = None, **options: Any) -> Anthropic:
    """Anthropic's client; see `openai_client`."""
    return Anthropic(base_url=tenant.anthropic_url, **_options(tenant, key, options))


def async_openai_client(tenant: Tenant, *, key: str | None = None, **options: Any) -> AsyncOpenAI:
    """OpenAI's asynchronous client; see `openai_client`."""
    return AsyncOpenAI(base_url=tenant.openai_url, **_options(tenant, key, options))


def async_anthropic_client(
    tenant: Tenant, *, key: str | None = None, **options: Any
) -> AsyncAnthropic:
    """Anthropic's asynchronous client; see `openai_client`."""
    return AsyncAnthropic(base_url=tenant.anthropic_url, **_options(tenant, key, options))


def _options(tenant: Tenant, key: str | None, options: dict[str, Any]) -> dict[str, Any]:
    return {"api_key": key or tenant.key, "timeout": 20} | options


def chat(client: OpenAI, text: str = "Hello.", **members: Any) -> Any:
    """One chat completion."""
    return client.chat.completions.create(**_body(CHAT_MODEL, text, members))


def message(client: Anthropic, text: str = "Hello.", **members: Any) -> Any:
    """One message."""
    return client.messages.create(**_body(MESSAGES_MODEL, text, members))


async def async_chat(client: AsyncOpenAI, text: str = "Hello.", **members: Any) -> Any:
    """One chat completion."""
    return await client.chat.completions.create(**_body(CHAT_MODEL, text, members))


async def async_message(client: AsyncAnthropic, text: str = "Hello.", **members: Any) -> Any:
    """One message."""
    return await client.messages.create(**_body(MESSAGES_MODEL, text, members))


def _body(model: str, text: str, members: dict[str, Any]) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    return {"model": model, "messages": messages, "max_tokens": 100} | members
