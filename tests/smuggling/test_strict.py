"""The judges themselves: what the strict reader takes, and what the recorder complains of."""

from __future__ import annotations

import asyncio

import pytest

from tests.smuggling.corpus import HOST, Wire, corpus
from tests.smuggling.recorder import KEY, Recorder
from tests.smuggling.strict import TOLERATED, Reader

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
TOLERABLE = {
    "blank lines": b"\n\r" + GET,
    "spaces": GET.replace(b" /a ", b"  /a   "),
    "RTSP": GET.replace(b"HTTP", b"RTSP"),
    "fragments": GET.replace(b"/a", b"/a#b"),
    "chunk extensions": Wire(b"key").chunked(b"0;;=\r\n\r\n"),
}
STRICTER = {
    "too many fields": "clear, but more than we take",
    "too large a head": "clear, but more than we take",
    "close in a trailer, and a request behind it": "the parser heeds it, so that we must close",
}
"""Where our server ends a connection that a strict one would not have to."""


@pytest.mark.parametrize("name", TOLERATED)
def test_what_is_tolerated(name: str) -> None:
    """Each exception is one: the strict reader refuses what the tolerant one reads."""
    strict, tolerant = Reader(), Reader(tolerant=True)
    strict.feed(TOLERABLE[name])
    tolerant.feed(TOLERABLE[name])

    assert (len(strict.requests), strict.problem is None) == (0, False)
    assert (len(tolerant.requests), tolerant.problem, tolerant.rest) == (1, None, b"")


def test_read_in_pieces() -> None:
    """Cut at any byte it is the same; what must be refused has no whole request, or another reason
    that is listed."""
    for payload in corpus(b"key"):
        whole, bitwise = Reader(tolerant=True), Reader(tolerant=True)
        whole.feed(payload.sent)
        for it in payload.sent[:2_000]:
            bitwise.feed(bytes([it]))
        bitwise.feed(payload.sent[2_000:])

        assert (bitwise.requests, bitwise.problem) == (whole.requests, whole.problem), payload.name
        assert len(whole.requests) >= payload.forwarded, payload.name
        if payload.closes and payload.name not in STRICTER:
            assert whole.problem is not None or whole.closed, payload.name
        else:
            assert (whole.problem, whole.rest) == (None, b""), payload.name


def test_bodies() -> None:
    """A body is what its length or its chunks say, and nothing after it is lost."""
    wire = Wire(b"key")
    chunk = b"3;a\r\nabc\r\n0002\r\nde\r\n0\r\nx: y\r\n\r\n"
    reader = Reader()
    reader.feed(wire.sized(wire.hidden) + wire.chunked(chunk) + wire.get() + b"GET")

    assert [it.body for it in reader.requests] == [wire.hidden, b"abcde", b""]
    assert reader.rest == b"GET"


RIGHT = b"Host: 127.0.0.1:%d"
STORED = b"Authorization: Bearer " + KEY


@pytest.mark.parametrize(
    ("complaint", "fields", "more"),
    [
        (None, [RIGHT, STORED], b""),
        ("another host", [HOST, STORED], b""),
        ("not with the stored key", [RIGHT], b""),
        ("connection went on", [RIGHT, STORED, b"Connection: x"], b""),
        ("transfer-encoding went on", [RIGHT, STORED, b"transfer_encoding: x"], b""),
        ("xproxy-a went on", [RIGHT, STORED, b"xProxy-A: b"], b""),
        ("a key of ours", [RIGHT, STORED, b"a: sk-xproxy-app-1"], b""),
        ("another version", [RIGHT, STORED, b"Connection: close"], b""),
        ("no field line", [RIGHT, STORED, b"a: b\0"], b""),
        ("two requests before an answer", [RIGHT, STORED], GET.replace(b"x", RIGHT[6:])),
    ],
)
async def test_the_recorder_complains(
    complaint: str | None, fields: list[bytes], more: bytes
) -> None:
    """Of whatever a careless proxy could send it, and of nothing else."""
    async with Recorder() as recorder:
        sent = Wire(b"").head(b"GET /v1/files HTTP/1.1", *fields) + more
        reader, writer = await asyncio.open_connection("127.0.0.1", recorder.port)
        writer.write(sent.replace(b"%d", b"%d" % recorder.port))
        answer = await reader.read(12)
        writer.close()

    if complaint is None:
        assert (answer, recorder.problems) == (b"HTTP/1.1 200", [])
    else:
        assert answer == b""
        assert complaint in recorder.problems[0]
