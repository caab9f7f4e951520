"""Makes new payloads of old ones, by a seed: bytes, lines, sizes, and halves of two."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from itertools import pairwise

DANGEROUS = (
    *(b"\r\n", b"\r", b"\n", b"\0", b" ", b"\t", b"\x0b", b"\x0c", b"\x7f", b"\x85", b"\xa0"),
    *(b":", b";", b",", b"=", b'"', b"#", b"?", b"%0d%0a", b"/../", b"\r\n\r\n", b"\r\r\n"),
    *(b"0\r\n\r\n", b"0\r\n", b"chunked", b"HTTP/1.1", b"HTTP/1.0", b"GET / HTTP/1.1\r\n"),
)
FIELDS = (
    *(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", b"Content-Length: 0"),
    *(b"Content-Length: 5", b"Host: y", b"Connection: close", b"Connection: keep-alive"),
    *(b"Connection: Upgrade", b"Upgrade: h2c", b"Expect: 100-continue", b"TE: trailers"),
    *(b"xProxy-Forward-X: y", b"xProxy-Forward-Host: y", b" folded", b":", b"a : b"),
)
Change = Callable[[bytes, random.Random], bytes]


def mutate(seeds: Sequence[bytes], rng: random.Random) -> bytes:
    """One of the seeds, changed in one to three ways."""
    sent = rng.choice(seeds)
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3))):
        if rng.random() < 0.15:
            sent = _splice(sent, rng.choice(seeds), rng)
        else:
            sent = rng.choice(CHANGES)(sent, rng)
    return sent


def pieces(sent: bytes, rng: random.Random) -> list[bytes]:
    """The segments it is sent in: one, or up to three."""
    cuts = sorted(rng.randrange(len(sent) + 1) for _ in range(rng.choice((0, 0, 1, 2))))
    if rng.random() < 0.2 and b"\r\n\r\n" in sent:  # between a head and its body
        cuts = [sent.index(b"\r\n\r\n") + 4]
    ends = [0, *cuts, len(sent)]
    return [piece for a, b in pairwise(ends) if (piece := sent[a:b])]


def _flip(sent: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(sent) or 1)
    changed = bytes(it ^ (1 << rng.randrange(8)) for it in sent[at : at + 1])
    return sent[:at] + changed + sent[at + 1 :]


def _insert(sent: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(sent) + 1)
    return sent[:at] + rng.choice(DANGEROUS) + sent[at:]


def _replace(sent: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(sent) or 1)
    return sent[:at] + rng.choice(DANGEROUS) + sent[at + 1 :]


def _delete(sent: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(sent) or 1)
    return sent[:at] + sent[at + rng.choice((1, 1, 1, 2, 4, 16)) :]


def _duplicate(sent: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(sent) or 1)
    end = at + rng.choice((1, 2, 4, 16, 64))
    return sent[:end] + sent[at:end] + sent[end:]


def _cut(sent: bytes, rng: random.Random) -> bytes:
    return sent[: rng.randrange(len(sent) + 1)]


def _insert_field(sent: bytes, rng: random.Random) -> bytes:
    lines = sent.split(b"\r\n")
    lines.insert(rng.randrange(1, len(lines) + 1), rng.choice(FIELDS))
    return b"\r\n".join(lines)


def _repeat_line(sent: bytes, rng: random.Random) -> bytes:
    lines = sent.split(b"\r\n")
    lines.insert(rng.randrange(len(lines) + 1), rng.choice(lines))
    return b"\r\n".join(lines)


def _swap_lines(sent: bytes, rng: random.Random) -> bytes:
    lines = sent.split(b"\r\n")
    a, b = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[a], lines[b] = lines[b], lines[a]
    return b"\r\n".join(lines)


def _drop_line(sent: bytes, rng: random.Random) -> bytes:
    lines = sent.split(b"\r\n")
    del lines[rng.randrange(len(lines))]
    return b"\r\n".join(lines)


def _change_line_end(sent: bytes, rng: random.Random) -> bytes:
    ends = [found.start() for found in re.finditer(b"\r\n", sent)]
    if not ends:
        return sent
    at = rng.choice(ends)
    return sent[:at] + rng.choice((b"\n", b"\r", b"\r\r\n", b"\n\r", b"\r\n ")) + sent[at + 2 :]


def _change_colon(sent: bytes, rng: random.Random) -> bytes:
    colons = [found.start() for found in re.finditer(b": ", sent)]
    if not colons:
        return sent
    at = rng.choice(colons)
    other = rng.choice((b":", b" :", b" : ", b":\t", b":\x0b", b"::", b":\r\n ", b";", b" "))
    return sent[:at] + other + sent[at + 2 :]


def _change_case(sent: bytes, rng: random.Random) -> bytes:
    names = list(re.finditer(rb"(?m)^[A-Za-z-]+(?=:)", sent))
    if not names:
        return sent
    found = rng.choice(names)
    other = rng.choice((found[0].upper(), found[0].lower(), found[0].replace(b"-", b"_")))
    return sent[: found.start()] + other + sent[found.end() :]


def _change_number(sent: bytes, rng: random.Random) -> bytes:
    """A length, or the size of a chunk."""
    numbers = list(re.finditer(rb"(?i)(?<=length: )\d+|(?<=\r\n)[0-9a-f]{1,4}(?=\r\n)", sent))
    if not numbers:
        return sent
    found = rng.choice(numbers)
    text = found[0]
    value = int(text, 16)
    other = rng.choice(
        (
            *(b"%x" % max(0, value + by) for by in (-16, -2, -1, 1, 2, 16)),
            *(prefix + text for prefix in (b"0", b"+", b"-", b"0x", b" ", b"\t", b"1_", b"1")),
            *(text + suffix for suffix in (b"0", b" ", b",", b";a", b';a="', b"\0", b"h", b".")),
            *(b"0", b"", b"f" * 16, b"8" + b"0" * 15, b"1" + b"0" * 16),
        )
    )
    return sent[: found.start()] + other + sent[found.end() :]


def _splice(first: bytes, second: bytes, rng: random.Random) -> bytes:
    """The beginning of one and the end of another, at any byte or after a line."""
    if rng.random() < 0.5:
        return first[: rng.randrange(len(first) + 1)] + second[rng.randrange(len(second) + 1) :]
    head, tail = first.split(b"\r\n"), second.split(b"\r\n")
    return b"\r\n".join(head[: rng.randrange(1, len(head) + 1)] + tail[rng.randrange(len(tail)) :])


CHANGES: tuple[Change, ...] = (
    *(_flip, _insert, _insert, _replace, _delete, _duplicate, _cut),
    *(_insert_field, _insert_field, _repeat_line, _swap_lines, _drop_line),
    *(_change_line_end, _change_colon, _change_case, _change_number, _change_number),
)
