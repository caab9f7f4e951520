"""The blocks of Anthropic's content that are made here; others pass as the bytes they are."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, Raw, UnsetType

Given = Raw | UnsetType
"""A member that goes on as it came, if it was there."""


class Base64(msgspec.Struct, tag_field="type", tag="base64"):
    """A file in the request itself."""

    media_type: str
    data: Raw


class Url(msgspec.Struct, tag_field="type", tag="url"):
    """A file that the provider fetches."""

    url: Raw


class PlainText(msgspec.Struct, tag_field="type", tag="text"):
    """A text as a document."""

    data: Raw
    media_type: str = "text/plain"


class Uploaded(msgspec.Struct, tag_field="type", tag="file"):
    """A file that the provider has."""

    file_id: Raw


Source = Base64 | Url | PlainText | Uploaded


class Text(msgspec.Struct, tag_field="type", tag="text"):
    """Text."""

    text: Raw
    citations: Given = UNSET
    cache_control: Given = UNSET


class Image(msgspec.Struct, tag_field="type", tag="image"):
    """An image."""

    source: Source
    cache_control: Given = UNSET


class Document(msgspec.Struct, tag_field="type", tag="document"):
    """A PDF or a text."""

    source: Source
    title: Given = UNSET
    context: Given = UNSET
    citations: Given = UNSET
    cache_control: Given = UNSET


class ToolUse(msgspec.Struct, tag_field="type", tag="tool_use"):
    """A call of a tool."""

    id: Raw
    name: Raw
    input: Raw
    cache_control: Given = UNSET


Made = Text | Image | Document | ToolUse
Content = list["Made | ToolResult | Raw"]


class ToolResult(msgspec.Struct, tag_field="type", tag="tool_result"):
    """What a tool has answered."""

    tool_use_id: Raw
    content: Raw | Content | UnsetType = UNSET
    is_error: Given = UNSET
    cache_control: Given = UNSET


class Turn(msgspec.Struct):
    """A message."""

    role: str
    content: Raw | Content
