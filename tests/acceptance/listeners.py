"""What nobody may reach: sockets on loopback addresses that count who connects."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from types import TracebackType
from typing import Self

ADDRESSES = ("127.0.0.1", "127.0.0.2", "::1")
WELL_KNOWN = (443, 80)
"""Where a URI without a port leads; only bound where this user may, and nobody else has."""


class Listeners:
    """Listens on loopback addresses; `connections` are the addresses that were connected to."""

    def __init__(self) -> None:
        self.connections: list[tuple[str, int]] = []
        self.bound: list[tuple[str, int]] = []
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._selector.register(self._woken, selectors.EVENT_READ)
        self.port = self._bind(ADDRESSES[0], 0)
        for address in ADDRESSES:
            for port in (self.port, *WELL_KNOWN):
                if (address, port) != (ADDRESSES[0], self.port):
                    with contextlib.suppress(OSError):
                        self._bind(address, port)
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def _bind(self, address: str, port: int) -> int:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        listener = socket.socket(family)
        try:
            listener.bind((address, port))
        except OSError:
            listener.close()
            raise
        listener.listen(64)
        taken: int = listener.getsockname()[1]
        self.bound.append((address, taken))
        self._selector.register(listener, selectors.EVENT_READ, (address, taken))
        return taken

    def _accept(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._woken:
                    return
                assert isinstance(key.fileobj, socket.socket)
                connection, _ = key.fileobj.accept()
                self.connections.append(key.data)
                connection.close()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._wake.send(b"x")
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()
        self._selector.close()
        self._wake.close()
