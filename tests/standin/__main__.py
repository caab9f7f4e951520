"""`python -m tests.standin --ledger FILE`: run the stand-in and print the port it listens on."""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import threading
from pathlib import Path
from typing import cast

import uvicorn
import uvloop
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tests.standin.server import Provider

SEND_BUFFER_BYTES = 128 * 1024
"""So little waits in the kernel: a client that stops reading is felt soon."""


class Protocol(HttpToolsProtocol):
    """uvicorn's, which lets the application have the connection: to cut it, or see it gone."""

    def on_message_begin(self) -> None:
        """Put the connection into the scope."""
        super().on_message_begin()
        cast("dict[str, object]", self.scope)["standin.transport"] = self.transport


def listen(port: int) -> socket.socket:
    """A socket on the loopback interface; port 0 picks one."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    sock.bind(("127.0.0.1", port))
    sock.listen(4096)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def end_with_parent(server: uvicorn.Server, loop: asyncio.AbstractEventLoop) -> None:
    """Stop when standard input ends: the process that started us is gone."""

    def stop() -> None:
        server.should_exit = True

    def wait() -> None:
        while os.read(0, 4096):
            pass
        loop.call_soon_threadsafe(stop)

    threading.Thread(target=wait, daemon=True).start()


async def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m tests.standin", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    parser.add_argument("--ledger", type=Path, required=True, help="file of JSON lines")
    parser.add_argument("--wire", type=Path, help="file of JSON lines: every request, whole")
    parser.add_argument("--with-parent", action="store_true", help="end when standard input ends")
    options = parser.parse_args()
    sock = listen(options.port)
    config = uvicorn.Config(
        Provider(options.ledger, options.wire),
        http=Protocol,
        lifespan="off",
        log_level="critical",  # a connection cut on purpose is no error
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    if options.with_parent:
        end_with_parent(server, asyncio.get_running_loop())
    print(sock.getsockname()[1], flush=True)
    await server.serve(sockets=[sock])


if __name__ == "__main__":
    uvloop.run(main())
