"""A provider that keeps every byte it gets, and takes nothing but single well-formed requests."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any, Self

from tests.smuggling.strict import Reader, Request

KEY = b"sk-stored-for-the-recorder"
"""The provider key that the service was started with."""
CONNECTION = {
    *("connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"),
    *("expect", "http2-settings", "forwarded", "via", "cookie", "x-real-ip"),
}
"""What belongs to a connection, its client or a front proxy, and must not go on."""
OURS = ("xproxy-", "x-portkey-", "x-litellm-", "x-forwarded-", "proxy-")


class Recorder:
    """Listens on a loopback port while entered."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port: int = self._socket.getsockname()[1]
        self.requests: list[Request] = []
        """Every request, in the order in which they were whole."""
        self.problems: list[str] = []
        """What a strict provider would not have taken, with the bytes of its connection."""
        self.connections: list[Reader] = []
        self._open: dict[asyncio.StreamWriter, asyncio.Task[None]] = {}

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, sock=self._socket)
        return self

    async def __aexit__(self, *error: object) -> None:
        self._server.close()
        tasks = list(self._open.values())
        for writer in self._open:
            writer.close()
        await asyncio.gather(*tasks)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def leftovers(self) -> list[bytes]:
        """Bytes that are no whole request, of every connection."""
        return [it.rest for it in self.connections if it.rest]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open[writer] = task
        connection = Reader()
        self.connections.append(connection)
        log = b""
        try:
            while data := await reader.read(65536):
                log += data
                requests = connection.feed(data)
                self.requests += requests
                faults = [fault for it in requests for fault in self._faults(it)]
                if len(requests) > 1:
                    faults.append("two requests before an answer")
                if connection.problem is not None:
                    faults.append(connection.problem)
                if faults:
                    self.problems.append(f"{', '.join(faults)}: {log!r}")
                    return
                for request in requests:
                    writer.write(_answer(request))
        except ConnectionError:  # ours to drop
            return
        finally:
            del self._open[writer]
            writer.close()

    def _faults(self, request: Request) -> list[str]:
        """What is wrong with a request although it is well-formed."""
        faults = []
        if request.values(b"host") != [b"127.0.0.1:%d" % self.port]:
            faults.append("another host")
        if not request.target.startswith(b"/"):
            faults.append("another form of target")
        if request.closes:
            faults.append("another version")
        for name, _ in request.fields:
            plain = name.decode().replace("_", "-")
            if plain in CONNECTION or plain.startswith(OURS):
                faults.append(f"{plain} went on")
        if KEY not in b" ".join(value for _, value in request.fields):
            faults.append("not with the stored key")
        if b"sk-xproxy-" in request.raw[: len(request.raw) - len(request.body)]:
            faults.append("a key of ours")
        return faults


def _answer(request: Request) -> bytes:
    """A whole answer that says which request it is for."""
    body = {"seen": seen(request)} | _usage(request.target)
    content = json.dumps(body).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % len(content) + (b"" if request.method == b"HEAD" else content)


def seen(request: Request) -> str:
    """What the answer calls a request."""
    return (request.method + b" " + request.target).decode()


def _usage(target: bytes) -> dict[str, Any]:
    """The members a metered answer has."""
    counts = {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}
    if b"messages" in target:
        return {"type": "message", "model": "claude-haiku-4-5"} | {
            "usage": {"input_tokens": 9, "output_tokens": 1},
            "stop_reason": "end_turn",
        }
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": ""}}
    return {"model": "gpt-4o-mini", "choices": [choice], "usage": counts}
