"""What OpenAI's answers say, whole or in chunks, as the members that Anthropic's have.

Texts stay the provider's bytes. Hosts that speak OpenAI's form differ in what they leave out: an
answer is read for what is there, and what cannot be believed counts as not said.
"""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec
from msgspec import Raw

from metering.translate import reading
from metering.translate.openai import members

What = TypeVar("What")
COUNT_MAX = 10**9
"""Larger numbers are no counts."""
MESSAGE_MAX = 500
"""How much is told of an error that is no JSON, in characters."""

_NOT_SAID = Raw(b"")
_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
_TIERS = {"default": "standard", "priority": "priority"}
_STATUSES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_NAMES = (
    ("rate_limit", 429),
    ("insufficient_quota", 429),
    ("overloaded", 529),
    ("invalid_request", 400),
    ("context_length", 400),
    ("authentication", 401),
    ("permission", 403),
    ("not_found", 404),
    ("timeout", 504),
)
"""What the `type` or `code` of an error within a stream stands for, as it has no status."""


class Function(msgspec.Struct, gc=False):
    """What is called, and with what."""

    name: Raw = _NOT_SAID
    arguments: Raw = _NOT_SAID


class Call(msgspec.Struct):
    """A call of a tool, or what a chunk says of one."""

    index: Raw = _NOT_SAID
    id: Raw = _NOT_SAID
    function: Function | None = None


class Said(msgspec.Struct):
    """A message, or what a chunk adds to it."""

    content: Raw = _NOT_SAID
    refusal: Raw = _NOT_SAID
    reasoning_content: Raw = _NOT_SAID
    reasoning: Raw = _NOT_SAID
    """What Groq and OpenRouter call it."""
    tool_calls: list[Call] | None = None
    function_call: Function | None = None

    @property
    def thought(self) -> Raw | None:
        """The reasoning that is told."""
        return text(self.reasoning_content) or text(self.reasoning)

    @property
    def calls(self) -> list[Call]:
        """The calls, also of the kind from before there were tools."""
        if not self.tool_calls and self.function_call is not None:
            return [Call(function=self.function_call)]
        return self.tool_calls or []


class Choice(msgspec.Struct):
    """The one answer that was asked for."""

    finish_reason: Raw = _NOT_SAID
    stop_reason: Raw = _NOT_SAID
    """The stop sequence that vLLM met."""
    message: Said | None = None
    delta: Said | None = None


class Completion(msgspec.Struct):
    """An answer, or a chunk of one."""

    id: Raw = _NOT_SAID
    model: Raw = _NOT_SAID
    choices: list[Choice] | None = None
    usage: Raw = _NOT_SAID
    service_tier: Raw = _NOT_SAID
    error: Raw = _NOT_SAID
    xproxy_result: Raw = _NOT_SAID


class _Part(msgspec.Struct, gc=False):
    text: Raw = _NOT_SAID


_completion = msgspec.json.Decoder(Completion)
_parts = msgspec.json.Decoder(list[_Part])


def read(data: bytes) -> Completion | None:
    """An answer or a chunk; None where it is none."""
    if not data.isascii():
        data = data.decode(errors="replace").encode()
    try:
        return _completion.decode(data)
    except (ValueError, RecursionError):
        pass
    try:
        return _completion.decode(_strict(data))
    except (ValueError, RecursionError):
        return None


_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+"?|\bNaN\b|-?\bInfinity\b', re.DOTALL)
_ESCAPE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\.",
    re.DOTALL,
)


def _strict(data: bytes) -> bytes:
    """JSON of JSON that some hosts write: less lone surrogates, NaN and infinity. All other bytes
    are as they were."""

    def mended(found: re.Match[bytes]) -> bytes:
        token = found[0]
        if not token.startswith(b'"'):
            return b"null"
        if b"\\u" not in token:
            return token
        return _ESCAPE.sub(lambda it: rb"\ufffd" if it[1] else it[0], token)

    return _TOKEN.sub(mended, data)


def text(raw: Raw) -> Raw | None:
    """A text as the JSON it is, of parts the text in them; None where it says nothing."""
    if len(memoryview(raw)) <= len('""'):
        return None
    first = members.opening(raw)
    if first == members.QUOTE:
        return raw
    if first != members.LIST:
        return None
    try:
        pieces = [found for it in _parts.decode(raw) if (found := text(it.text)) is not None]
    except (ValueError, RecursionError):
        return None
    return members.concat(*pieces) if pieces else None


def arguments(function: Function | None) -> Raw | None:
    """The arguments of a call as JSON in a JSON string; None where none are said."""
    if function is None or not (raw := function.arguments):
        return None
    if members.opening(raw) == members.OBJECT:  # as some hosts send them
        return Raw(reading.encode(bytes(raw).decode()))
    return text(raw)


def tool_input(function: Function | None) -> Raw:
    """The input of a call, its numbers to the last digit.

    What the model wrote that is no JSON object stands in an object of our own: `{"_raw": ".."}`.
    """
    said = arguments(function)
    written = members.value(said)
    if said is None or not isinstance(written, str):
        return Raw(b"{}")
    inner = Raw(written.strip().encode())
    if not inner:
        return Raw(b"{}")
    if members.is_object(inner):
        return inner
    return Raw(reading.encode({"_raw": said}))


def call_id(said: Raw | None, answer: Raw, number: int) -> Raw:
    """The id of a call; made of the answer's where the host gives none."""
    if said is not None and text(said) is not None:
        return said
    tail = "".join(it for it in str(members.value(answer) or "") if it.isascii() and it.isalnum())
    return members.concat(f"toolu_{tail[-24:]}_{number}")


def stop(finish_reason: Raw, matched: Raw, *, called: bool, refused: bool) -> dict[str, object]:
    """The members of an answer that say why it ended.

    OpenAI says `stop` as well where it was told which tool to call; an agent of Anthropic's would
    then not run it.
    """
    said = members.value(finish_reason) if finish_reason else None
    reason = _REASONS.get(str(said), "end_turn")
    if refused:
        reason = "refusal"
    elif reason == "end_turn" and called:
        reason = "tool_use"
    sequence = text(matched) if reason == "end_turn" and matched else None
    if sequence is not None:
        reason = "stop_sequence"
    return {"stop_reason": reason, "stop_sequence": sequence, "stop_details": None}


def usage(raw: Raw) -> dict[str, object]:
    """The counts, as Anthropic parts them: what was read from and written to the cache is no
    `input_tokens`."""
    given = _members(members.value(raw) if raw else None)
    details = _members(given.get("prompt_tokens_details"))
    cached, written = _count(details, "cached_tokens"), _count(details, "cache_write_tokens")
    found: dict[str, object] = {
        "input_tokens": max(0, _count(given, "prompt_tokens") - cached - written),
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": cached,
        "output_tokens": _count(given, "completion_tokens"),
    }
    thought = _count(_members(given.get("completion_tokens_details")), "reasoning_tokens")
    if thought:
        found["output_tokens_details"] = {"thinking_tokens": thought}
    return found


def tier(raw: Raw) -> dict[str, object]:
    """The member of a usage that says how urgently the call was served, if there is a word."""
    named = _TIERS.get(str(members.value(raw))) if raw else None
    return {"service_tier": named} if named else {}


def error(raw: Raw | bytes, status: int | None = None) -> dict[str, object]:
    """An error as Anthropic tells it: of an answer with this status, or of a stream."""
    given = members.value(Raw(raw)) if raw else None
    if isinstance(given, list) and given:  # as Google's hosts send it
        given = given[0]
    inner = _members(given).get("error", given)
    shown = _members(inner)
    message = inner if isinstance(inner, str) else shown.get("message") or shown.get("detail")
    if not isinstance(message, str) or not message:
        plain = " ".join(bytes(raw).decode(errors="replace").split())
        message = plain[:MESSAGE_MAX] or "the provider gave no reason"
    if status is None:
        status = _status(shown)
    kind = _STATUSES.get(status) or ("api_error" if status >= 500 else "invalid_request_error")
    return failure(kind, message)


def failure(kind: str, message: str) -> dict[str, object]:
    """An error of Anthropic's form."""
    return {"type": "error", "error": {"type": kind, "message": message}}


def _status(shown: dict[str, object]) -> int:
    """The status that an error within a stream would have had."""
    code = shown.get("code")
    if type(code) is int and 400 <= code < 600:
        return code
    named = f"{shown.get('type')} {code}"
    return next((status for name, status in _NAMES if name in named), 500)


def _members(given: object) -> dict[str, object]:
    return given if isinstance(given, dict) else {}


def _count(given: dict[str, object], name: str) -> int:
    count = given.get(name)
    return count if type(count) is int and 0 <= count <= COUNT_MAX else 0
