"""A client that says bytes as they are, in pieces, and reads what is answered."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tests.smuggling.strict import Reader, Request

PATIENCE_S = 15.0
"""How long an answer, or an end that is due, may take."""
QUIET_S = 0.03
"""How long to listen after the last answer that is due."""
NUDGE_S = 0.5
NUDGE = b"\r\n\r\n"
"""What ends a head that a lenient parser may still be waiting for."""
PLACES = {
    b"/api/v1/proxy/openai/v1/": b"/v1/",
    b"/api/v1/proxy/anthropic/": b"/",
}
"""Where the paths of the data plane lead."""


@dataclass(frozen=True)
class Answer:
    """One answer. `body` is None where it has no end."""

    status: int
    body: bytes | None

    @property
    def seen(self) -> str | None:
        """Which request the recorder answered; None if the answer is our own."""
        try:
            found: str | None = json.loads(self.body or b"").get("seen")
        except (ValueError, AttributeError):
            return None
        return found


@dataclass(frozen=True)
class Heard:
    """What came back."""

    answers: list[Answer]
    closed: bool
    raw: bytes


def read(sent: bytes) -> Reader:
    """A payload as a strict server reads it, that tolerates what ours may."""
    reader = Reader(tolerant=True)
    reader.feed(sent)
    return reader


def upstream(request: Request) -> bytes | None:
    """The target that a request has to have at the provider; None if it must not get there."""
    target = request.target.partition(b"#")[0]
    if not target.startswith(b"/"):
        target = b"/" + target.partition(b"://")[2].partition(b"/")[2]
    path, _, query = target.partition(b"?")
    if path.startswith(b"//"):
        path = b"/" + path.lstrip(b"/")
    for place, there in PLACES.items():
        if path.startswith(place) and path != place:
            kept = [it for it in query.split(b"&") if not _secret(it)] if query else []
            query = b"&".join(kept)
            return there + path.removeprefix(place) + (b"?" + query if query else b"")
    return None


def _secret(part: bytes) -> bool:
    return b"sk-xproxy-" in part or part.startswith((b"key=", b"api_key="))


async def say(port: int, pieces: Sequence[bytes]) -> Heard:
    """Say these pieces on one connection; leave once every answer that is due has come."""
    due = read(b"".join(pieces))
    end = due.problem is not None or due.closed
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    ear = _Ear(reader)
    await _write(writer, pieces)
    if end and not await ear.listen(lambda: False, NUDGE_S):
        await _write(writer, [NUDGE])
    if await ear.listen(
        lambda: not end and len(_answers(ear.heard, due)) >= len(due.requests), PATIENCE_S
    ):
        await ear.listen(lambda: False, QUIET_S)
    writer.transport.abort()
    return Heard(_answers(ear.heard, due), ear.closed, ear.heard)


class _Ear:
    """What has come back so far."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self.heard = b""
        self.closed = False

    async def listen(self, enough: Callable[[], bool], patience_s: float) -> bool:
        """Listen until it is enough or the connection ends; False if neither came in time."""
        try:
            async with asyncio.timeout(patience_s):
                while not self.closed and not enough():
                    data = await self._reader.read(65536)
                    self.heard, self.closed = self.heard + data, not data
        except TimeoutError:
            return False
        except ConnectionError:
            self.closed = True
        return True


async def _write(writer: asyncio.StreamWriter, pieces: Sequence[bytes]) -> None:
    """Write pieces, as long as the service takes them."""
    for number, piece in enumerate(pieces):
        if number:
            await asyncio.sleep(0.002)  # so that it is a segment of its own
        if writer.is_closing():  # the service has closed
            return
        writer.write(piece)
        with contextlib.suppress(ConnectionError):
            await writer.drain()


def _answers(data: bytes, due: Reader) -> list[Answer]:
    """The answers in what came back, interim ones left out."""
    asked = [*due.requests, *([due.begun] if due.begun else [])]
    return list(_split(data, [it.method for it in asked]))


def _split(data: bytes, methods: list[bytes]) -> Iterator[Answer]:
    number = 0
    while data:
        head, blank, rest = data.partition(b"\r\n\r\n")
        if not blank:
            return
        line, *fields = head.split(b"\r\n")
        assert line.startswith(b"HTTP/1.1 "), f"no answer begins at {data!r}"
        named = {name.lower(): value for name, _, value in (it.partition(b": ") for it in fields)}
        status = int(line[9:12])
        if status < 200:
            data = rest
            continue
        body, data = _body(rest, named, methods[number : number + 1] == [b"HEAD"])
        yield Answer(status, body)
        number += 1


def _body(data: bytes, named: dict[bytes, bytes], bare: bool) -> tuple[bytes | None, bytes]:  # noqa: FBT001
    """The body that data begins with, if it is whole, and what follows."""
    if bare:
        return b"", data
    if b"transfer-encoding" in named:
        whole = b""
        while True:
            size, found, data = data.partition(b"\r\n")
            length = int(size, 16) if found else 0
            if not found or len(data) < length + 2:
                return None, b""
            whole, data = whole + data[:length], data[length + 2 :]
            if not length:
                return whole, data
    length = int(named[b"content-length"])
    return (data[:length], data[length:]) if len(data) >= length else (None, b"")
