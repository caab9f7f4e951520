"""Misbehaviour on request: usage that is not usage, and streams that are not as they should be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

Pieces = list[bytes]
Raw = msgspec.Raw

WRONG_USAGE: dict[str, Any] = {
    "missing": None,
    "null": None,
    "partial": None,
    "array": [],
    "text": "a lot",
    "zero": 0,
    "negative": -5,
    "float": 12.5,
    "huge": 10**12,
    "overflow": Raw(b"18446744073709551616"),
    "exponent": Raw(b"1e400"),
    "nan": Raw(b"NaN"),
    "bool": True,
    "string": "17",
}
"""By name: what stands where a count of tokens should. `missing` leaves the usage out, `null` says
null, `partial` leaves the output out, `array` and `text` replace the whole object; `zero` is a
truthful-looking zero."""


def spoil(usage: dict[str, Any], kind: str | None) -> dict[str, Any]:
    """The member `usage` as it is to be reported: `{"usage": ...}`, or nothing at all."""
    if kind is None:
        return {"usage": usage}
    wrong = WRONG_USAGE[kind]
    if kind == "missing":
        return {}
    if kind in ("null", "array", "text"):
        return {"usage": wrong}
    outputs = ("completion_tokens", "output_tokens", "total_tokens")
    if kind == "partial":
        return {"usage": {k: v for k, v in usage.items() if k not in outputs}}
    counts = {k: wrong for k, v in usage.items() if k.endswith("_tokens") and isinstance(v, int)}
    return {"usage": usage | counts}


def _each(change: Callable[[bytes], bytes]) -> Callable[[Pieces], Pieces]:
    return lambda pieces: [change(piece) for piece in pieces]


def _swap(old: bytes, new: bytes) -> Callable[[Pieces], Pieces]:
    return _each(lambda piece: piece.replace(old, new))


def _mixed(pieces: Pieces) -> Pieces:
    ends = (b"\n", b"\r\n", b"\r")
    return [piece.replace(b"\n", ends[i % 3]) for i, piece in enumerate(pieces)]


def _many_data_lines(pieces: Pieces) -> Pieces:
    # The lines of one event's data are joined with a newline, which JSON allows between tokens.
    return [piece.replace(b'{"', b'{\ndata: "', 1) for piece in pieces]


def _insert(extra: bytes, at: int) -> Callable[[Pieces], Pieces]:
    return lambda pieces: [*pieces[:at], extra, *pieces[at:]]


def _comments(pieces: Pieces) -> Pieces:
    return [part for piece in pieces for part in (b": keep-alive\n\n", piece)]


def _tail_off(pieces: Pieces) -> Pieces:
    return [*pieces[:-1], pieces[-1].rstrip(b"\n")]


def _half_an_event(pieces: Pieces) -> Pieces:
    middle = len(pieces) // 2
    return [*pieces[:middle], pieces[middle][: len(pieces[middle]) // 2]]


_ERROR_OPENAI = (
    b'data: {"error":{"message":"The server had an error.","type":"server_error",'
    b'"param":null,"code":null}}\n\n'
)
_ERROR_RESPONSES = (
    b'event: error\ndata: {"type":"error","code":"server_error",'
    b'"message":"The server had an error.","param":null,"sequence_number":9}\n\n'
)
_ERROR_ANTHROPIC = (
    b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error",'
    b'"message":"Overloaded"}}\n\n'
)


def _error_event(pieces: Pieces) -> Pieces:
    middle = max(1, len(pieces) // 2)
    error = _ERROR_OPENAI
    if pieces[0].startswith(b"event:"):
        error = _ERROR_RESPONSES if b"event: response." in pieces[0] else _ERROR_ANTHROPIC
    return [*pieces[:middle], error]


_FORGED = {"prompt_tokens": 1, "completion_tokens": 1, "input_tokens": 1, "output_tokens": 1}


def _usage_twice(pieces: Pieces) -> Pieces:
    forged = b'"usage":' + msgspec.json.encode(_FORGED)
    return [piece.replace(b'"usage":{', forged + b',"usage":{') for piece in pieces]


LEGAL: dict[str, Callable[[Pieces], Pieces]] = {
    "crlf": _swap(b"\n", b"\r\n"),
    "cr": _swap(b"\n", b"\r"),
    "mixed_line_ends": _mixed,
    "bom": _insert(b"\xef\xbb\xbf", 0),
    "comments": _comments,
    "many_data_lines": _many_data_lines,
    "no_space": _swap(b"data: ", b"data:"),
    "other_fields": _each(lambda piece: b"id: 7\nretry: 10\n" + piece),
    "unknown_event": _insert(b'event: news\ndata: {"type":"news","x":1}\n\n', 1),
    "no_final_blank": _tail_off,
    "done_twice": lambda pieces: [*pieces, pieces[-1]],
    "usage_twice": _usage_twice,
}
"""Odd, but its events and its usage can be read."""
BROKEN: dict[str, Callable[[Pieces], Pieces]] = {
    "garbage_json": _insert(b'data: {"choices":[{"delta":\n\n', 2),
    "not_utf8": _insert(b'data: {"x":"\xff\xfe\xc3"}\n\n', 2),
    "not_sse": lambda pieces: [b"<html><body><h1>502 Bad Gateway</h1></body></html>"],
    "empty": lambda pieces: [],
    "long_line": _insert(b"data: " + b"x" * (10 * 1024 * 1024) + b"\n\n", 1),
    "no_end": lambda pieces: pieces[:-1],
    "no_usage_no_end": lambda pieces: pieces[: max(1, len(pieces) - 3)],
    "truncated": _half_an_event,
    "error_event": _error_event,
    "error_object": lambda pieces: [b'{"error":{"message":"No capacity.","type":"server_error"}}'],
    "array_events": _insert(b"data: [1,2,3]\n\n", 1),
    "null_members": _insert(b'data: {"id":null,"choices":null,"usage":null}\n\n', 1),
}
"""Something is lost, or was never an event. All ends with a proper end of the HTTP body."""
MALFORMED = LEGAL | BROKEN
"""By name: what is done to the events of a stream, or to the one piece of a JSON body."""
NOT_HTTP = {
    "tls": b"\x16\x03\x01 this is not HTTP\r\n\r\n",
    "text": b"ERR unknown command 'POST'\r\n",
    "no_status": b"HTTP/1.1 abc\r\n\r\n",
    "no_length": b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n{}",
    "long_header": b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n{}",
    "half_a_head": b"HTTP/1.1 200 OK\r\nContent-Ty",
}
"""By name: bytes that are no answer at all."""
FILLER_BYTES = 64 * 1024


def fill(pieces: Pieces, size: int) -> Pieces:
    """The pieces with at least so many bytes between the first and the others that say nothing:
    comments in a stream, blanks behind the first brace of a JSON object. They share memory."""
    if not size:
        return pieces
    count = -(-size // FILLER_BYTES)
    first, *others = pieces
    if first.startswith(b"{"):
        return [first[:1], *[b" " * FILLER_BYTES] * count, first[1:], *others]
    return [first, *[b": " + b"." * (FILLER_BYTES - 4) + b"\n\n"] * count, *others]


def malform(pieces: Pieces, kind: str | None) -> Pieces:
    """The pieces as they go out."""
    return MALFORMED[kind](pieces) if kind else pieces
