"""What can go wrong with a provider, in 24 classes, and what becomes of a call each time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Claim:
    """What becomes of a call."""

    status: int
    """That its client gets."""
    row: Literal["ok", "failed", "unresolved"]
    cost: Literal["bill", "estimate", "floor", "nothing"]
    """`bill`: the provider's, to the pico. `estimate`: marked as such. `floor`: the prompt.
    `nothing`: zero. Of an unresolved call, hard caps are charged the ceiling."""
    relayed: Literal["whole", "cut", "none", "error", "ours"]
    """`whole`, `cut`: every byte that came, and nothing else but our result. `none`: a broken
    answer without a byte. `error`: the provider's error with our members. `ours`: one of ours."""


EXACT = Claim(200, "ok", "bill", "whole")
GUESSED = Claim(200, "ok", "estimate", "whole")
CUT = Claim(200, "ok", "estimate", "cut")
EMPTY = Claim(200, "ok", "estimate", "none")
CUT_AFTER_USAGE = Claim(200, "ok", "bill", "cut")
UNREACHED = Claim(502, "failed", "nothing", "ours")
UNREADABLE = Claim(502, "unresolved", "floor", "ours")
BROKEN_EARLY = Claim(502, "unresolved", "nothing", "ours")
BROKEN = Claim(502, "unresolved", "floor", "ours")
SILENT_EARLY = Claim(504, "unresolved", "nothing", "ours")
SILENT = Claim(504, "unresolved", "floor", "ours")


def passed(status: int) -> Claim:
    """The provider's own error."""
    return Claim(status, "failed", "nothing", "error")


@dataclass(frozen=True)
class Case:
    """One way to go wrong."""

    told: dict[str, Any]
    """To the stand-in."""
    unary: Claim | None
    """None: it cannot happen to a whole answer, or a stream."""
    stream: Claim | None
    but: dict[str, Claim] = field(default_factory=dict)
    """What holds instead: by endpoint, or by endpoint and `-stream`."""

    def claim(self, form: str, *, stream: bool) -> Claim | None:
        """What becomes of a call of that kind."""
        if stream:
            return self.but.get(f"{form}-stream", self.stream)
        return self.but.get(form, self.unary)


@dataclass(frozen=True)
class Fault:
    """A class of them. `pace`: how many at once are no matter of time."""

    name: str
    cases: tuple[Case, ...]
    pace: Literal["many", "waiting", "heavy", "alone"] = "many"


def _each(
    told: list[dict[str, Any]], unary: Claim | None, stream: Claim | None, **but: Claim
) -> tuple[Case, ...]:
    named = {name.replace("_", "-"): claim for name, claim in but.items()}
    return tuple(Case(it, unary, stream, named) for it in told)


def _malformed(
    names: str, unary: Claim | None, stream: Claim | None, **but: Claim
) -> tuple[Case, ...]:
    return _each([{"malformed": name} for name in names.split()], unary, stream, **but)


def _usages(names: str, **but: Claim) -> tuple[Case, ...]:
    return _each([{"wrong_usage": name} for name in names.split()], GUESSED, GUESSED, **but)


def _errors(*statuses: int) -> tuple[Case, ...]:
    return tuple(Case({"status": it}, passed(it), passed(it)) for it in statuses)


def _used(count: int) -> dict[str, Any]:
    names = ("prompt_tokens", "completion_tokens", "input_tokens", "output_tokens")
    return {"usage": dict.fromkeys(names, count)}


UMLAUTS = (
    "Übermut tut selten gut: \N{GRINNING FACE} \N{HIRAGANA LETTER A}\N{CJK UNIFIED IDEOGRAPH-4E2D}"
)
MB = 1 << 20
WHOLE_BUT_LATE = [{"delay_ms": 100}, {"delay_ms": 800}]
ENDS: list[dict[str, Any]] = [
    {how: at} for at in (1, 40, 150) for how in ("cut_at_byte", "reset_at_byte")
]
PIECES: list[dict[str, Any]] = [
    {"split": 1},
    {"split": 7},
    {"split_at": [5, 3, 90]},
    {"text": UMLAUTS, "split": 1},
]
PIECES += [{"text": UMLAUTS, "split": 2}, {"text": UMLAUTS, "split": 3}]
BROKEN_ERRORS: list[dict[str, Any]] = [
    {"status": 500, "malformed": "not_sse"},
    {"status": 502, "malformed": "truncated"},
    {"status": 503, "malformed": "empty"},
    {"status": 500, "cut_at_byte": 30},
    {"status": 503, "reset_at_byte": 30},
    {"status": 400, "content_encoding": "br"},
    {"status": 429, "content_encoding": "gzip"},
]
UNKNOWN_ENCODINGS = [
    {"content_encoding": "br"},
    {"content_encoding": "zstd"},
    {"content_encoding": "gzip, gzip"},
]
MISLABELLED = {"headers": {"content-encoding": "gzip"}}
LARGE = {"filler_bytes": 10 * MB}
NO_CARRIER = (LARGE, {"malformed": "bom"})
"""Whole answers that our result is not put into: it is to be had by id."""
BOMB = {"content_encoding": "gzip", "filler_bytes": 32 * MB}
FAULTS = (
    Fault("the connection is refused", (Case({}, UNREACHED, UNREACHED),), "alone"),
    Fault(
        "it ends before the head",
        _each([{"cut_at_byte": 0}, {"reset_at_byte": 0}], BROKEN_EARLY, BROKEN_EARLY),
    ),
    Fault(
        "what comes is no HTTP",
        _each(
            [
                {"instead": it}
                for it in ("tls", "text", "no_status", "no_length", "long_header", "half_a_head")
            ],
            BROKEN_EARLY,
            BROKEN_EARLY,
        ),
    ),
    Fault("silent before the head", (Case({"hang": True}, SILENT_EARLY, SILENT_EARLY),), "waiting"),
    Fault("slow before the head", _each(WHOLE_BUT_LATE, EXACT, EXACT)),
    Fault("it ends in the body", _each(ENDS, BROKEN, CUT)),
    Fault(
        "silent in the body",
        _each([{"split": 50, "hang": 1}, {"split": 50, "hang": 3}], SILENT, CUT),
        "waiting",
    ),
    Fault("the call is refused", _errors(400, 401, 403, 404, 413, 429)),
    Fault("the provider fails", _errors(500, 502, 503, 529)),
    Fault(
        "an error that is broken",
        tuple(Case(it, passed(it["status"]), passed(it["status"])) for it in BROKEN_ERRORS),
    ),
    Fault(
        "an error in a success",
        _malformed("error_object", GUESSED, GUESSED) + _malformed("error_event", None, GUESSED),
    ),
    Fault(
        "no end",
        _malformed("no_end", UNREADABLE, GUESSED, chat_stream=EXACT)
        + _malformed("no_usage_no_end", None, GUESSED),
    ),
    Fault("truncated, and properly ended", _malformed("truncated", UNREADABLE, GUESSED)),
    Fault(
        "no JSON",
        _malformed("not_sse empty", UNREADABLE, GUESSED)
        + _malformed("garbage_json not_utf8", UNREADABLE, EXACT)
        + _each([{"body_bytes": 99}], UNREADABLE, UNREADABLE),
    ),
    Fault("odd line ends", _malformed("crlf cr mixed_line_ends bom no_final_blank", EXACT, EXACT)),
    Fault(
        "odd events",
        _malformed("comments many_data_lines no_space other_fields", None, EXACT)
        + _malformed("unknown_event done_twice array_events null_members", None, EXACT)
        + _each([{"filler_bytes": 1}], EXACT, EXACT),
    ),
    Fault("odd pieces", _each(PIECES, EXACT, EXACT)),
    Fault(
        "long",
        _malformed("long_line", None, EXACT) + _each([LARGE], EXACT, EXACT),
        "heavy",
    ),
    Fault(
        "usage is not stated",
        _usages("missing null array text") + _usages("partial", embeddings=EXACT),
    ),
    Fault("usage is no count", _usages("negative float huge overflow exponent nan bool string")),
    Fault(
        "usage is odd, and true",
        _each([_used(0), _used(100_000)], EXACT, EXACT) + _malformed("usage_twice", EXACT, EXACT),
    ),
    Fault(
        "compressed", _each([{"content_encoding": it} for it in ("gzip", "deflate")], EXACT, EXACT)
    ),
    Fault(
        "compressed beyond reading",
        _each(UNKNOWN_ENCODINGS, UNREADABLE, GUESSED)
        + _each([MISLABELLED], UNREADABLE, EMPTY)
        + _each([BOMB], UNREADABLE, EXACT),
        "heavy",
    ),
    Fault(
        "a wrong length",
        _each([{"length_off": 500}], BROKEN, CUT_AFTER_USAGE)
        + _each([{"length_off": -100}], UNREADABLE, None)
        + _each([{"length_off": -400}], None, GUESSED),
    ),
)
"""The 24 classes."""
