"""A local journal, fsynced, for what found no Redis: opened calls, settled calls, releases.

One file per process, locked while the process lives; the next process adopts the files of the dead.
Each frame is `length (4) | crc32 (4) | msgpack entry`; a torn last frame is the end of the file.
What has been replayed is marked by a `done` frame, and the file is emptied once all of it is.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import struct
from pathlib import Path
from typing import Literal
from zlib import crc32

import msgspec

from metering.core.record import UsageRow

Kind = Literal["open", "settle", "release", "expire", "done"]
FRAME = struct.Struct("<II")


class Entry(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """One frame: what happened to a call. `done` says that an earlier entry was replayed."""

    kind: Kind
    request_id: str
    attempt: int = 1
    row: UsageRow | None = None
    limits: list[tuple[str, int]] = []
    """(limit id, epoch; 0 where no hold told it) of the call."""
    tokens: int = 0


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Entry).decode


def _frames(data: bytes) -> list[Entry]:
    entries, at = [], 0
    while at + FRAME.size <= len(data):
        length, checksum = FRAME.unpack_from(data, at)
        payload = data[at + FRAME.size : at + FRAME.size + length]
        if len(payload) < length or crc32(payload) != checksum:
            break
        entries.append(_decode(payload))
        at += FRAME.size + length
    return entries


def unfinished(entries: list[Entry]) -> list[Entry]:
    """What still has to be replayed: per attempt the last word, unless it is `done`."""
    last: dict[tuple[str, int], Entry] = {}
    for entry in entries:
        last[entry.request_id, entry.attempt] = entry
    return [entry for entry in last.values() if entry.kind != "done"]


class Spool:
    """This process's journal in a folder, and the orphans beside it."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self._path = folder / f"{name}.spool"
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._entries: list[Entry] = []
        self._writing = asyncio.Lock()

    async def append(self, entry: Entry) -> None:
        """Write an entry and wait until it is on the disk."""
        payload = _encode(entry)
        frame = FRAME.pack(len(payload), crc32(payload)) + payload
        async with self._writing:
            self._entries.append(entry)
            await asyncio.to_thread(self._write, frame)

    def _write(self, frame: bytes) -> None:
        os.write(self._fd, frame)
        os.fsync(self._fd)

    def waiting(self) -> list[Entry]:
        """Ended calls of this process that Redis has not heard of; open ones are still running."""
        return [entry for entry in unfinished(self._entries) if entry.kind != "open"]

    async def done(self, entry: Entry) -> None:
        """An entry was replayed; the file is emptied once nothing is left in it."""
        await self.append(Entry(kind="done", request_id=entry.request_id, attempt=entry.attempt))
        async with self._writing:
            if not unfinished(self._entries):
                self._entries.clear()
                os.ftruncate(self._fd, 0)

    def adopt(self) -> list[tuple[Path, list[Entry]]]:
        """The journals of processes that died, each with what is left to replay."""
        orphans = []
        for path in sorted(self._folder.glob("*.spool")):
            if path == self._path:
                continue
            with path.open("rb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                orphans.append((path, unfinished(_frames(file.read()))))
        return orphans

    def close(self) -> None:
        """Give the journal up; an empty one is removed."""
        if not unfinished(self._entries):
            self._path.unlink(missing_ok=True)
        os.close(self._fd)
