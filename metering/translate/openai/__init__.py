"""Models that are called in OpenAI's form, for clients that speak Anthropic's."""

from __future__ import annotations

from metering.translate.openai.messages_request import messages_to_chat

__all__ = ["messages_to_chat"]
