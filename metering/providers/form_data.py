"""Requests that come as forms: text fields and files, in the terms in which JSON ones are read.

A form in which a field comes twice that a cost depends on is refused: a provider might take the
other one than we do.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import msgspec
from msgspec import Raw
from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header

from metering.errors import InvalidRequest
from metering.providers import request

PARTS_MAX = 128
FIELD_BYTES_MAX = 256 * 1024
"""The longest text field."""
_LITERALS = frozenset({"n", "stream"})
"""Fields whose text is a JSON value as it stands: a number, or true and false."""
_ONCE = _LITERALS | {"model", "prompt", "quality", "response_format", "size"}
_NUMBER_OR_FLAG = re.compile("0|[1-9][0-9]*|true|false")
_encode = msgspec.json.encode


class Sent(NamedTuple):
    """A request's members, by name, and its files."""

    fields: dict[str, Raw]
    files: dict[str, list[bytes]]
    """By field; of `image[]`, under `image`."""
    is_form: bool


def read(body: bytes, content_type: bytes) -> Sent:
    """A request that is a form or JSON, as its content type says; raises InvalidRequest."""
    kind, options = parse_options_header(content_type.decode("latin-1"))
    if kind != "multipart/form-data":
        return Sent(request.members(body), {}, is_form=False)
    sent = Sent({}, {}, is_form=True)
    try:
        _parse(body, options.get("boundary", ""), sent)
    except MultipartError as error:
        raise InvalidRequest(
            f"Body is not valid multipart/form-data: {error}; send each field and file as a part, "
            "with the boundary that Content-Type names",
            code="invalid_form",
        ) from None
    return sent


def _parse(body: bytes, boundary: str, sent: Sent) -> None:
    part: MultipartSegment | None = None
    value = bytearray()
    with PushMultipartParser(
        boundary, content_length=len(body), max_segment_count=PARTS_MAX, strict=True
    ) as parser:
        for event in parser.parse(body):
            if isinstance(event, MultipartSegment):
                part, value = event, bytearray()
            elif event:
                value += event
            elif part is not None:  # the part has ended
                _add(part, bytes(value), sent)


def _add(part: MultipartSegment, value: bytes, sent: Sent) -> None:
    name = part.name.removesuffix("[]")
    if part.filename is not None:
        sent.files.setdefault(name, []).append(value)
        return
    if len(value) > FIELD_BYTES_MAX:
        raise request.wrong(name, f"at most {FIELD_BYTES_MAX} bytes")
    if name in sent.fields and name in _ONCE:
        raise request.wrong(name, "sent once")
    try:
        text = value.decode()
    except UnicodeDecodeError:
        raise request.wrong(name, "UTF-8 text") from None
    sent.fields[name] = _value(name, text)


def _value(name: str, text: str) -> Raw:
    """A field's text as the JSON value it means; one that means none stays a text."""
    if name in _LITERALS and _NUMBER_OR_FLAG.fullmatch(text):
        return Raw(text.encode())
    return Raw(_encode(text))
