"""One vendor's form in another's: chat completions and messages, both ways. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from metering.translate.base import Translate
from metering.translate.openai import messages_to_chat

__all__ = ["WAYS", "Translate", "Way", "messages_to_chat"]


class Way(NamedTuple):
    """Where the calls of a path go at a provider that does not serve it itself."""

    path: str
    translate: Translate


WAYS: Mapping[str, Way] = {
    "/v1/messages": Way("/v1/chat/completions", messages_to_chat),
}
"""By the client's path."""
