"""A bug of ours within a call is logged with its trace; the call's secrets and prompt are not."""

from __future__ import annotations

import io
from collections.abc import Awaitable, Callable, Iterator

import httpx
import pytest
import structlog

from metering.app.logs import PROCESSORS
from tests.proxy.rig import ASK, MESSAGES, STREAMED, Pieces, Rig, chunk, streamed

SECRET, PROMPT = "sk-callers-own-1618", "what-nobody-else-may-read"
ASKED = ASK | {"messages": [{"role": "user", "content": PROMPT}]}


class Bug(RuntimeError):
    """What a library might raise: it has all of the request with it."""

    def __init__(self, request: httpx.Request) -> None:
        super().__init__(request.headers, request.content)
        self.request = request


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    """What is logged as the service logs it."""
    lines = io.StringIO()
    structlog.configure(processors=PROCESSORS, logger_factory=structlog.PrintLoggerFactory(lines))
    yield lines
    structlog.reset_defaults()


async def in_the_engine(request: httpx.Request) -> httpx.Response:
    """Fails before there is an answer."""
    copied = dict(request.headers)
    raise Bug(request) from KeyError(copied["authorization"])


async def in_the_answer(request: httpx.Request) -> httpx.Response:
    """Fails within it."""
    return streamed(chunk(PROMPT), Bug(request))


async def in_the_json(request: httpx.Request) -> httpx.Response:
    """Fails before the first byte of the body."""
    return httpx.Response(200, stream=Pieces(Bug(request)))


@pytest.mark.parametrize("answer", [in_the_engine, in_the_answer, in_the_json])
async def test_a_bug_is_logged_without_the_call(
    answer: Callable[[httpx.Request], Awaitable[httpx.Response]], rig: Rig, logged: io.StringIO
) -> None:
    """The trace leads to the place; arguments and locals are not in it, nor in what is answered."""
    headers = {"authorization": f"Bearer {SECRET}", "x-note": SECRET}
    client = await rig.post(answer, ASKED | STREAMED | ASKED, **headers)
    text = logged.getvalue()
    assert '"event": "pump_failed"' in text
    assert client.request_id in text
    assert "test_traces.Bug" in text
    assert f"in {answer.__name__}" in text or "in __aiter__" in text
    for told in (text, client.received.decode()):
        assert SECRET not in told
    assert PROMPT not in text


async def test_a_bug_before_the_call_is_logged_without_it(
    rig: Rig, logged: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One in our own planning is no different: 503 to the caller, a trace to the log."""

    def fail(*arguments: object, **_: object) -> None:
        raise ValueError(f"not a price: {arguments}")

    monkeypatch.setattr(rig.meter, "bounds", fail)
    body = {"model": PROMPT, "messages": [], "max_tokens": 9}
    client = await rig.post(httpx.Response(200), body, MESSAGES, x_api_key=SECRET)
    assert client.status == 503
    assert '"event": "flow_failed"' in logged.getvalue()
    assert "builtins.ValueError" in logged.getvalue()
    assert SECRET not in logged.getvalue()
    assert PROMPT not in logged.getvalue()
