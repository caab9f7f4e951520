"""Thinking in `encrypted_content`, by which it comes back in the next request as it was.

What a client gets is the block itself, with its signature, as JSON in base64. OpenAI's own, which
nobody else can read, is none.
"""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode

import msgspec
from msgspec import Raw


class _Thinking(msgspec.Struct, tag_field="type", tag="thinking"):
    thinking: str
    signature: str


class _Redacted(msgspec.Struct, tag_field="type", tag="redacted_thinking"):
    data: str


_text = msgspec.json.Decoder(str)
_block = msgspec.json.Decoder(_Thinking | _Redacted)


def sealed_thinking(thinking: bytes, signature: bytes) -> str:
    """A thinking block; both as the JSON strings they are."""
    made = b'{"type":"thinking","thinking":%b,"signature":%b}'
    return b64encode(made % (thinking, signature)).decode()


def sealed_redacted(data: bytes) -> str:
    """One that is encrypted by the provider; its data as the JSON string it is."""
    return b64encode(b'{"type":"redacted_thinking","data":%b}' % data).decode()


def unsealed(encrypted_content: Raw | None) -> Raw | None:
    """The block that was given out in this; None where it is another's, or there is none."""
    if encrypted_content is None:
        return None
    try:
        block = b64decode(_text.decode(encrypted_content), validate=True)
        _block.decode(block)
    except (ValueError, RecursionError, binascii.Error):
        return None
    return Raw(block)
