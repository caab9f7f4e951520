"""One vendor's form in another's: chats and responses as messages, messages as chats. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from metering.translate.anthropic.chat_request import chat_to_messages
from metering.translate.anthropic.complete import completions_to_complete
from metering.translate.anthropic.models import ModelsList
from metering.translate.anthropic.responses_request import responses_to_messages
from metering.translate.base import Answers, Translate
from metering.translate.openai import messages_to_chat

__all__ = [
    "MODELS",
    "WAYS",
    "Answers",
    "Translate",
    "Way",
    "chat_to_messages",
    "completions_to_complete",
    "messages_to_chat",
    "responses_to_messages",
]


class Way(NamedTuple):
    """Where the calls of a path go at a provider that does not serve it itself."""

    path: str
    translate: Translate


WAYS: Mapping[str, Way] = {
    "/v1/chat/completions": Way("/v1/messages", chat_to_messages),
    "/v1/completions": Way("/v1/complete", completions_to_complete),
    "/v1/responses": Way("/v1/messages", responses_to_messages),
    "/v1/messages": Way("/v1/chat/completions", messages_to_chat),
}
"""By the client's path."""
MODELS: Answers = ModelsList()
"""Anthropic's list of models for OpenAI's clients."""
