"""Anthropic's models as OpenAI lists them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from metering.translate import reading
from metering.translate.anthropic import faults
from metering.translate.base import Stream


class _Model(msgspec.Struct):
    id: str
    created_at: Raw = Raw(b"null")


class _Models(msgspec.Struct):
    data: list[_Model]
    has_more: Raw | UnsetType = UNSET
    first_id: Raw | UnsetType = UNSET
    last_id: Raw | UnsetType = UNSET


_either = msgspec.json.Decoder(dict[str, Raw])
_model = msgspec.json.Decoder(_Model)
_models = msgspec.json.Decoder(_Models)
_time = msgspec.json.Decoder(datetime)
_PAGE = ("has_more", "first_id", "last_id")


class ModelsList:
    """A list of models, or one of them; see `base.Answers`."""

    def whole(self, body: bytes) -> bytes | None:
        """See `base.Answers`."""
        return models_list(body)

    def error(self, status: int, body: bytes) -> bytes:
        """See `base.Answers`."""
        return faults.error(status, body)

    def stream(self) -> Stream:
        """See `base.Answers`. Lists are no streams: one cannot be read."""
        return _Unreadable()


class _Unreadable:
    def feed(self, data: bytes) -> bytes:  # noqa: ARG002
        return b""

    def finish(self, *, cut: bool) -> bytes:  # noqa: ARG002
        return faults.told(faults.UNREADABLE)


def models_list(body: bytes) -> bytes | None:
    """A list of models, or one of them, in OpenAI's form; None: it cannot be read."""
    members = reading.found(_either, body)
    if members is not None and "data" not in members:
        one = reading.found(_model, body)
        return None if one is None else reading.encode(_made(one))
    read = reading.found(_models, body)
    if read is None:
        return None
    made: dict[str, Any] = {"object": "list", "data": [_made(model) for model in read.data]}
    made |= {name: page for name in _PAGE if (page := getattr(read, name)) is not UNSET}
    return reading.encode(made)


def _made(model: _Model) -> dict[str, Any]:
    return {
        "id": model.id,
        "object": "model",
        "created": _seconds(model.created_at),
        "owned_by": faults.PROVIDER,
    }


def _seconds(created_at: Raw) -> int:
    """A time in seconds since 1970; 0 where it is not known."""
    try:
        return int(_time.decode(created_at).timestamp())
    except (ValueError, OverflowError):
        return 0
