"""Everything that a Redis does, in the order in which it does it, as its own MONITOR tells.

Who asks over two connections does not know which of two commands came first; this does.
"""

from __future__ import annotations

import re
import socket
import threading
from typing import NamedTuple, Self
from urllib.parse import urlsplit

LINE = re.compile(rb'^\+\S+ \[\d+ (\S+)\] "([^"]*)"(.*)$', re.MULTILINE)
END = b"that-is-all"


class Command(NamedTuple):
    """One command, by a client or by a script."""

    name: str
    scripted: bool
    arguments: str
    """As MONITOR quotes them."""


class Monitor:
    """Watches an embedded Redis between `with` and `seen`."""

    def __init__(self, redis_url: str) -> None:
        """`redis_url` is a `unix://` one."""
        self._path = urlsplit(redis_url).path
        self._text = bytearray()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> Self:
        self._socket = self._connect()
        self._socket.sendall(b"MONITOR\r\n")
        assert self._socket.recv(5) == b"+OK\r\n"
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def seen(self) -> list[Command]:
        """All commands up to now."""
        with self._connect() as other:
            other.sendall(b"ECHO " + END + b"\r\n")
            assert other.recv(1)
        assert self._ended.wait(30), "MONITOR does not come to an end"
        commands = [
            Command(name.decode(), client == b"lua", arguments.decode())
            for client, name, arguments in LINE.findall(bytes(self._text))
        ]
        return commands[:-1]

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(60)
        connection.connect(self._path)
        return connection

    def _read(self) -> None:
        while data := self._socket.recv(1 << 20):
            self._text += data
            if END in self._text[-len(data) - len(END) :]:
                self._ended.set()
