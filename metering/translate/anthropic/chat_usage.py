"""What Anthropic says was used, as OpenAI says it: parts of the prompt are in its sum."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Raw

Count = Annotated[int, msgspec.Meta(ge=0, le=10**9)]
_NULL = b"null"


class _Details(msgspec.Struct):
    thinking_tokens: Count | None = None


_members = msgspec.json.Decoder(dict[str, Raw])
_count = msgspec.json.Decoder(Count)
_details = msgspec.json.Decoder(_Details)
_word = msgspec.json.Decoder(str)
_TIERS = {"standard": "default", "priority": "priority"}
_EXTRAS = ("cache_read_input_tokens", "cache_creation_input_tokens", "cache_creation")


class Used:
    """The usage of an answer, which a stream states in several events."""

    def __init__(self) -> None:
        self._members: dict[str, Raw] = {}

    def add(self, raw: Raw | bytes) -> None:
        """Takes a `usage`: what it says that is not null holds from now on."""
        try:
            found = _members.decode(raw)
        except (ValueError, RecursionError):
            return
        self._members |= {name: it for name, it in found.items() if bytes(it) != _NULL}

    @property
    def tier(self) -> str | None:
        """The service tier in OpenAI's words, if it has one."""
        try:
            return _TIERS.get(_word.decode(self._members.get("service_tier", b'""')))
        except ValueError:
            return None

    def told(self, *, strict: bool) -> dict[str, Any] | None:
        """OpenAI's `usage`; None where nothing was said."""
        if not self._members.keys() & {"input_tokens", "output_tokens"}:
            return None
        read = self._counted("cache_read_input_tokens")
        written = self._counted("cache_creation_input_tokens")
        prompt = self._counted("input_tokens") + read + written
        completion = self._counted("output_tokens")
        made: dict[str, Any] = {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": read, "cache_write_tokens": written},
        }
        thought = self._thought()
        if thought is not None:
            made["completion_tokens_details"] = {"reasoning_tokens": thought}
        if not strict:
            made |= {name: self._members[name] for name in _EXTRAS if name in self._members}
        return made

    def _counted(self, name: str) -> int:
        raw = self._members.get(name)
        try:
            return _count.decode(raw) if raw is not None else 0
        except ValueError:
            return 0

    def _thought(self) -> int | None:
        raw = self._members.get("output_tokens_details")
        try:
            return _details.decode(raw).thinking_tokens if raw is not None else None
        except (ValueError, RecursionError):
            return None
