"""The event parser: what an event is, that no byte is lost, and that cuts do not matter."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.core import sse
from metering.core.sse import Event, Parser, splice_event

CASES = [
    # stream                                events: (name, data)
    (b"data: a\n\n", [(None, b"a")]),
    (b"data: a\n\ndata: b\n\n", [(None, b"a"), (None, b"b")]),
    (b"data: a\r\n\r\ndata: b\r\n\r\n", [(None, b"a"), (None, b"b")]),
    (b"data: a\r\rdata: b\r\r", [(None, b"a"), (None, b"b")]),
    (b"data: a\n\r\ndata: b\r\n\ndata: c\r\r\n", [(None, b"a"), (None, b"b"), (None, b"c")]),
    (b"event: x\ndata: a\n\n", [(b"x", b"a")]),
    (b"event:x\ndata:a\n\n", [(b"x", b"a")]),
    (b"data:  a\n\n", [(None, b" a")]),
    (b"data: a\ndata: b\n\n", [(None, b"a\nb")]),
    (b"data: a\r\ndata: b\r\n\r\n", [(None, b"a\nb")]),
    (b"data\n\n", [(None, b"")]),
    (b": comment\n\ndata: a\n\n", [(None, b""), (None, b"a")]),
    (b"id: 1\nretry: 5\ndata: a\n\n", [(None, b"a")]),
    (b"\xef\xbb\xbfdata: a\n\ndata: b\n\n", [(None, b"a"), (None, b"b")]),
    (b"\xef\xbb\xbfdata: a\r\n\r\n", [(None, b"a")]),
    (b"\ndata: a\n\n", [(None, b"a")]),
    (b"\n\n\n\ndata: a\n\n", [(None, b""), (None, b""), (None, b"a")]),
    (b"data: a\n\n\ndata: b\n\n", [(None, b"a"), (None, b"b")]),
    (b"data: a", [(None, b"a")]),
    (b"data: a\n", [(None, b"a")]),
    (b"data: a\n\ndata: b", [(None, b"a"), (None, b"b")]),
    (b"data: a\r\n\r", [(None, b"a")]),
    (b"data: \xf0\x9f\x98\x80\n\n", [(None, b"\xf0\x9f\x98\x80")]),
    (b"data: [DONE]\n\n", [(None, b"[DONE]")]),
    (b"", []),
]


def read(*cuts: bytes) -> list[Event]:
    parser = Parser()
    return [event for cut in cuts for event in parser.feed(cut)] + parser.finish()


def merged(events: list[Event]) -> list[Event]:
    """The events, with what was passed on unread in pieces made one."""
    result: list[Event] = []
    for event in events:
        if result and not (event.data or event.event or result[-1].data or result[-1].event):
            result[-1] = Event(result[-1].raw + event.raw)
        else:
            result.append(event)
    return result


@pytest.mark.parametrize(("stream", "expected"), CASES)
def test_events(stream: bytes, expected: list[tuple[bytes | None, bytes]]) -> None:
    """An event ends at two line ends of any kind; its fields are read as the standard says."""
    events = read(stream)

    assert [(event.event, event.data) for event in events] == expected
    assert b"".join(event.raw for event in events) == stream


@pytest.mark.parametrize("stream", [stream for stream, _ in CASES])
def test_every_cut_gives_the_same_events(stream: bytes) -> None:
    """Two cuts anywhere, or every byte on its own, change nothing."""
    whole = read(stream)

    assert read(*(stream[i : i + 1] for i in range(len(stream)))) == whole
    for i in range(len(stream) + 1):
        for j in range(i, len(stream) + 1):
            assert read(stream[:i], stream[i:j], stream[j:]) == whole


PIECES = st.sampled_from(
    [
        b"data: x",
        b"data:",
        b"event: e",
        b":c",
        b"\n",
        b"\n\n",
        b"\r",
        b"\r\n",
        b"\xef\xbb\xbf",
        b"y",
    ]
)


@given(st.lists(PIECES, max_size=30), st.lists(st.integers(0, 200), max_size=8))
def test_random_streams_and_cuts(pieces: list[bytes], cuts: list[int]) -> None:
    """Whatever the stream and wherever it is cut: same events, no byte lost, none added."""
    stream = b"".join(pieces)
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    events = read(*(stream[i:j] for i, j in pairwise(places)))

    assert events == read(stream)
    assert b"".join(event.raw for event in events) == stream


@given(st.lists(PIECES, max_size=30), st.lists(st.integers(0, 200), max_size=8), st.integers(1, 30))
def test_random_streams_with_a_low_cap(pieces: list[bytes], cuts: list[int], cap: int) -> None:
    """What is too long to read does not depend on the cuts either, nor do the events after it."""
    stream = b"".join(pieces)
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sse, "EVENT_BYTES_MAX", cap)
        events = read(*(stream[i:j] for i, j in pairwise(places)))

        assert merged(events) == merged(read(stream))
    assert b"".join(event.raw for event in events) == stream


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r"])
@pytest.mark.parametrize("step", [1000, 65536, 5_000_000])
def test_an_event_that_is_too_long_passes_unread(end: bytes, step: int) -> None:
    """It is relayed in pieces and not kept; the next event is read again."""
    stream = b"data: " + b"x" * 3_000_000 + end + b"data: a" + end
    parser = Parser()
    events = []
    for start in range(0, len(stream), step):
        events += parser.feed(stream[start : start + step])
        assert len(parser._pending) <= sse.EVENT_BYTES_MAX + step
    events += parser.finish()

    assert [event.data for event in events if event.data] == [b"a"]
    assert b"".join(event.raw for event in events) == stream


def test_one_byte_at_a_time_is_not_quadratic() -> None:
    """A long event that trickles in is searched once."""
    parser = Parser()
    stream = b"data: " + b"x" * 300_000 + b"\n\n"
    events = [event for i in range(len(stream)) for event in parser.feed(stream[i : i + 1])]

    assert [len(event.data) for event in events] == [300_000]


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b'data: {"a":1}\n\n', b'data: {"a":1,"r":2}\n\n'),
        (b'data: {"a":1}  \n\n', b'data: {"a":1,"r":2}  \n\n'),
        (b"data: {}\n\n", b'data: {"r":2}\n\n'),
        (b'event: e\ndata: {"a":"}"}\nid: {}\n\n', b'event: e\ndata: {"a":"}","r":2}\nid: {}\n\n'),
        (
            b'data: {"a":\r\ndata: 1}\r\nid: }\r\n\r\n',
            b'data: {"a":\r\ndata: 1,"r":2}\r\nid: }\r\n\r\n',
        ),
        (b'data: {"a":1\ndata: }\ndata:\n\n', b'data: {"a":1\ndata: ,"r":2}\ndata:\n\n'),
        (b'\xef\xbb\xbfdata: {"a":1\ndata: }\n\n', b'\xef\xbb\xbfdata: {"a":1\ndata: ,"r":2}\n\n'),
        (b"data: [DONE]\n\n", b"data: [DONE]\n\n"),
        (b": comment\n\n", b": comment\n\n"),
    ],
)
def test_splice(stream: bytes, expected: bytes) -> None:
    """Members go to the end of the event's JSON object, every byte of the provider's kept."""
    (event,) = read(stream)

    assert splice_event(event, b'"r":2') == expected


def test_splice_leaves_what_it_cannot_place() -> None:
    """An event whose JSON object cannot be found in its bytes stays as it is."""
    event = Event(b"data: {\ndata: x\n\n", None, b"{\n}")

    assert splice_event(event, b'"r":2') == event.raw
