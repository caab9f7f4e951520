"""What a request tells the stand-in to do: the members of the control object, and where it stands.

A control object is JSON. Later places win, member by member:

1. the script (`POST /_script`: `default`, then the first of `next`, which is used once),
2. the query, `?standin={...}`,
3. the header `x-standin: {...}`, and `x-standin-recording: openai:12` for its member `recording`,
4. the text of the last user message or input, `[[standin {...}]]`.

An unknown member or a wrong type is answered with 400 and `standin_control`, never overlooked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import parse_qs

import msgspec

from tests.standin.faults import MALFORMED, NOT_HTTP, WRONG_USAGE

MARK = "[[standin "
_MARK_BYTES = MARK.encode()


class Tool(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tool of the caller's that is to be used."""

    name: str
    input: dict[str, Any] = {}


class Control(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one call is to be answered. Times in milliseconds; offsets count bytes of the body."""

    tag: str | None = None
    """Copied to the ledger, so that a test finds its call again."""
    usage: dict[str, Any] | None = None
    """The usage to report and to bill, in the provider's own shape."""
    model: str | None = None
    """The model that answers; the requested one's dated snapshot otherwise."""
    text: str | None = None
    tool: Tool | None = None
    """Claude's answer is to use this, in place of a text."""
    service_tier: str | None = None
    """The tier that served the call."""
    status: int = 200
    error: dict[str, Any] | None = None
    """The whole body of an answer with an error status; the provider's usual one otherwise."""
    headers: dict[str, str] = {}
    """Added to the answer's headers, or put in their place."""
    delay_ms: int = 0
    """Before the first byte of the answer."""
    chunk_delay_ms: int = 0
    """Before every further piece of a stream."""
    chunks: int | None = None
    """How many pieces of text a stream has."""
    split: int | None = None
    """Cut the body into pieces of this many bytes."""
    split_at: list[int] = []
    """Cut the body at these offsets."""
    cut_at_byte: int | None = None
    """Close the connection after this many bytes; 0: without any answer."""
    reset_at_byte: int | None = None
    """The same with a TCP reset."""
    hang: bool | int = False
    """true: never answer; n: fall silent after n pieces of the stream. Until the client leaves."""
    instead: str | None = None
    """A name of `faults.NOT_HTTP`: what is sent in place of any answer."""
    length_off: int = 0
    """How many bytes more, or fewer, the content-length announces than there are."""
    filler_bytes: int = 0
    """At least so many bytes of the body say nothing."""
    malformed: str | None = None
    """A name of `faults.MALFORMED`."""
    wrong_usage: str | None = None
    """A name of `faults.WRONG_USAGE`: what is reported; what is billed stays right."""
    content_encoding: str | None = None
    """gzip, deflate, several of them in their order, or any other name, which is then claimed and
    not done."""
    bill: Literal["full", "delivered", "none"] | None = None
    """What is billed; by default all of an answer that is complete or has stated its usage, and the
    delivered part of another."""
    body: dict[str, Any] | None = None
    """The whole body of a good answer, in place of the provider's usual one; billed nothing."""
    events: list[dict[str, Any]] | None = None
    """The same of a stream: the data of its events, named by their `type` if they have one."""
    recording: str | None = None
    """Answer with a recording, `openai:12`: the file and the line in it, from 0."""
    body_bytes: int | None = None
    """Answer with this many bytes of `content_type` (no JSON)."""
    content_type: str | None = None
    image_bytes: int = 60
    """How large a picture is."""


class ControlError(ValueError):
    """The control object cannot be understood."""


PLAIN = Control()
"""Answer as the provider would."""


def read(
    script: Mapping[str, Any] | None, query: bytes, headers: Mapping[bytes, bytes], body: bytes
) -> Control:
    """The control of one request; raises ControlError."""
    merged: dict[str, Any] = dict(script or {})
    if b"standin" in query:
        for text in parse_qs(query.decode()).get("standin", []):
            merged.update(_object(text))
    if header := headers.get(b"x-standin"):
        merged.update(_object(header.decode()))
    if recording := headers.get(b"x-standin-recording"):
        merged["recording"] = recording.decode()
    if _MARK_BYTES in body:
        merged.update(_in_message(body))
    if not merged:
        return PLAIN
    return checked(merged)


def checked(members: Mapping[str, Any]) -> Control:
    """The control of these members; raises ControlError."""
    try:
        control = msgspec.convert(members, Control)
    except msgspec.ValidationError as error:
        raise ControlError(str(error)) from None
    for name, known in (
        (control.malformed, MALFORMED),
        (control.wrong_usage, WRONG_USAGE),
        (control.instead, NOT_HTTP),
    ):
        if name is not None and name not in known:
            raise ControlError(f"{name!r} is none of {', '.join(known)}")
    return control


def _object(text: str) -> dict[str, Any]:
    try:
        value, _ = json.JSONDecoder().raw_decode(text.strip())
    except ValueError as error:
        raise ControlError(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ControlError("not a JSON object")
    return value


def _in_message(body: bytes) -> dict[str, Any]:
    try:
        members = json.loads(body)
        messages = members.get("messages") or members["input"]
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    for message in reversed(messages):
        if isinstance(message, dict) and message.get("role") == "user":
            text = _text(message.get("content"))
            start = text.find(MARK)
            return _object(text[start + len(MARK) :]) if start >= 0 else {}
    return {}


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(part.get("text") or "" for part in content or [] if isinstance(part, dict))
