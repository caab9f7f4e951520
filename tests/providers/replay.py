"""What the dialects' tests share: the recordings by endpoint, and a stream run through a tap."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from metering.core.sse import MEDIA_BYTES_MAX, Event, Parser
from metering.providers import DIALECTS
from metering.providers.base import Ask, Dialect, Endpoint, Usage
from tests.standin.recordings import Recording, load

PATHS = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}
"""The endpoint that a provider is known for: meant where no path is named."""
RESULT = b'{"request_id":"r1"}'


def cases(provider: str, path: str | None = None, *, streamed: bool) -> list[Any]:
    """An endpoint's recordings as test parameters; one that skips where there are none."""
    found = [
        pytest.param(recording, id=recording.name)
        for recording in load(provider)
        if recording.path == (path or PATHS[provider]) and recording.streamed is streamed
    ]
    reason = "no recordings; set XPROXY_RECORDINGS to their folder"
    return found or [pytest.param(None, marks=pytest.mark.skip(reason=reason))]


def setting(provider: str, path: str | None = None, **asked: Any) -> tuple[Dialect, Endpoint, Ask]:
    """A dialect, a metered endpoint of it, and what a request asks of that."""
    dialect = DIALECTS[provider]
    endpoint = dialect.endpoint("POST", path or PATHS[provider])
    body = json.dumps({"model": "m", "messages": [], **asked}).encode()
    return dialect, endpoint, dialect.ask(endpoint, body)


def body_of(recording: Recording) -> bytes:
    """A recorded request as SDKs send it."""
    return json.dumps(recording.request, separators=(",", ":"), ensure_ascii=False).encode()


def run(
    provider: str,
    *cuts: bytes,
    result: bytes | None = RESULT,
    path: str | None = None,
    **asked: Any,
) -> tuple[bytes, Usage]:
    """What a client gets of a stream in these cuts, and its usage; settled as soon as it can be."""
    dialect, endpoint, ask = setting(provider, path, stream=True, **asked)
    tap = dialect.tap(endpoint, ask)
    out = b""
    usage: Usage | None = None
    for cut in (*cuts, None):
        out += tap.finish() if cut is None else tap.feed(cut)
        if tap.ready and usage is None:
            usage = tap.usage()
            out += tap.splice(result)
    assert usage is not None
    return out, usage


def events(stream: bytes) -> list[Event]:
    """The events of a stream."""
    parser = Parser(MEDIA_BYTES_MAX)
    return parser.feed(stream) + parser.finish()


def objects(stream: bytes) -> list[dict[str, Any]]:
    """The JSON objects that a stream's events carry."""
    return [json.loads(event.data) for event in events(stream) if event.data.startswith(b"{")]


def without_result(stream: bytes) -> bytes:
    """A stream less the result in it."""
    return stream.replace(b',"xproxy_result":' + RESULT, b"", 1)


def cuts(stream: bytes, most: int) -> Iterator[int]:
    """Every place to cut a stream; of a long one, the last bytes, and a sample of the others."""
    step = max(1, len(stream) // most)
    yield from range(0, len(stream) - most, step)
    yield from range(max(0, len(stream) - most), len(stream) + 1)


def tokens(recording: Recording) -> dict[str, Any]:
    """The usage a recorded JSON answer states."""
    usage: dict[str, Any] = json.loads(bytes(recording.body_json))["usage"]
    return usage
