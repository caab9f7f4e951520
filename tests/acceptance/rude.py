"""A provider that does not even speak HTTP properly: fixed bytes for every request, then an end."""

from __future__ import annotations

import socket
import struct
import threading
from types import TracebackType
from typing import Self

RESET = struct.pack("ii", 1, 0)
"""Linger for no time: closing sends a reset."""


class Rude:
    """Listens on a loopback port while entered; answers each connection's first bytes the same."""

    def __init__(self, port: int, answer: bytes, *, reset: bool = False) -> None:
        self._answer = answer
        self._reset = reset
        self._listener = socket.create_server(("127.0.0.1", port))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.calls = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # the listener was closed
                return
            with connection:
                connection.recv(65536)
                self.calls += 1
                connection.sendall(self._answer)
                if self._reset:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
