"""Which models a key may call: names, as `gpt-4o` or `openai/gpt-4o`, with `*` for anything.

No list is every model, and so are LiteLLM's words for it. Of a team, a user and a customer the
same: each list that there is must have the model in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

ALL = frozenset({"*", "all-proxy-models", "all-team-models"})
"""Words that stand for every model; a key's `all-team-models` are those that its team may call."""


def allows(models: Iterable[str], provider: str, model: str) -> bool:
    """Whether a list of models has one of a provider's in it."""
    return any(
        it in ALL or it == model or (("*" in it or "/" in it) and _matches(it, provider, model))
        for it in models
    )


def _matches(pattern: str, provider: str, model: str) -> bool:
    found = _pattern(pattern)
    return bool(found.fullmatch(model) or found.fullmatch(f"{provider}/{model}"))


@lru_cache(maxsize=1024)
def _pattern(pattern: str) -> re.Pattern[str]:
    parts = (re.escape(part) for part in re.split(r"\*+", pattern))
    return re.compile(".*".join(parts), re.DOTALL)
