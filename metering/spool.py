"""A local journal, fsynced, for what found no Redis: opened calls, settled calls, releases.

One file per process, locked while the process lives; the next process adopts the files of the dead.
Each frame is `length (4) | crc32 (4) | msgpack entry`; a torn last frame is the end of the file.
What is asked for while a write is under way is written together, by one fsync. What has been
replayed is marked by a `done` frame, and the file is emptied once all of it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import struct
from pathlib import Path
from typing import Literal, Self
from zlib import crc32

import msgspec
import structlog

from metering.core.record import UsageRow

log = structlog.get_logger()
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


def _frame(entry: Entry) -> bytes:
    payload = _encode(entry)
    return FRAME.pack(len(payload), crc32(payload)) + payload


def _frames(data: bytes) -> list[Entry]:
    entries, at = [], 0
    while at + FRAME.size <= len(data):
        length, checksum = FRAME.unpack_from(data, at)
        payload = data[at + FRAME.size : at + FRAME.size + length]
        if not payload or len(payload) < length or crc32(payload) != checksum:
            break
        entries.append(_decode(payload))
        at += FRAME.size + length
    return entries


def _unfinished(entries: list[Entry]) -> dict[tuple[str, int], Entry]:
    """What still has to be replayed: per attempt the last word, unless it is `done`."""
    last: dict[tuple[str, int], Entry] = {}
    for entry in entries:
        _take(last, entry)
    return last


def _take(last: dict[tuple[str, int], Entry], entry: Entry) -> None:
    if entry.kind == "done":
        last.pop((entry.request_id, entry.attempt), None)
    else:
        last[entry.request_id, entry.attempt] = entry


class Orphan:
    """The journal of a process that died, locked: nobody else adopts it meanwhile."""

    def __init__(self, path: Path, fd: int) -> None:
        self._path = path
        self._fd = fd
        with os.fdopen(os.dup(fd), "rb") as file:
            self.entries = list(_unfinished(_frames(file.read())).values())

    def remove(self) -> None:
        """All of it has been replayed."""
        self._path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


class Spool:
    """This process's journal in a folder, and the orphans beside it."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self._path = folder / f"{name}.spool"
        self._fd = _own(self._path)
        self._size = 0
        self._last: dict[tuple[str, int], Entry] = {}
        self._gathered: list[bytes] = []
        self._batch: asyncio.Task[None] | None = None
        self._writing = asyncio.Lock()

    async def append(self, entry: Entry) -> None:
        """Write an entry and wait until it is on the disk.

        OSError: it is not, but this process remembers it and will replay it.
        """
        await asyncio.shield(self._add(entry))

    def done(self, entry: Entry) -> None:
        """An entry was replayed. Nobody waits for the disk: replaying again is harmless."""
        if (entry.request_id, entry.attempt) in self._last:
            mark = Entry(kind="done", request_id=entry.request_id, attempt=entry.attempt)
            self._add(mark).add_done_callback(lambda batch: batch.cancelled() or batch.exception())

    def _add(self, entry: Entry) -> asyncio.Task[None]:
        """Gather an entry; gives the write that it goes with."""
        _take(self._last, entry)
        self._gathered.append(_frame(entry))
        if self._batch is None:
            self._batch = asyncio.get_running_loop().create_task(self._flush())
        return self._batch

    async def _flush(self) -> None:
        async with self._writing:
            self._batch = None
            gathered, self._gathered = self._gathered, []
            if self._last:
                await asyncio.to_thread(self._write, b"".join(gathered))
            else:  # nothing is left in it
                os.ftruncate(self._fd, 0)
                self._size = 0

    def _write(self, data: bytes) -> None:
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(self._fd, left) :]
            os.fsync(self._fd)
        except OSError:
            os.ftruncate(self._fd, self._size)  # a torn frame would hide all that come after it
            raise
        self._size += len(data)

    def waiting(self) -> list[Entry]:
        """Ended calls of this process that Redis has not heard of; open ones are still running."""
        return [entry for entry in self._last.values() if entry.kind != "open"]

    def everyones(self) -> list[Entry]:
        """What is not replayed yet of every process of this folder, dead or alive, as of now."""
        entries = list(self._last.values())
        for path in sorted(self._folder.glob("*.spool")):
            if path != self._path:
                with contextlib.suppress(FileNotFoundError, msgspec.DecodeError):
                    entries += _unfinished(_frames(path.read_bytes())).values()
        return entries

    def adopt(self) -> list[Orphan]:
        """The journals of processes that died, each with what is left to replay."""
        orphans = []
        for path in sorted(self._folder.glob("*.spool")):
            if path == self._path:
                continue
            with contextlib.suppress(FileNotFoundError):  # another process has just adopted it
                fd = os.open(path, os.O_RDWR)
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    os.close(fd)
                    continue
                try:
                    orphans.append(Orphan(path, fd))
                except msgspec.DecodeError:  # whole, but not of this version: keep it, say so
                    log.exception("journal_unreadable", path=str(path))
                    path.rename(path.with_suffix(".unreadable"))
                    os.close(fd)
        return orphans

    def close(self) -> None:
        """Give the journal up; an empty one is removed."""
        if self._batch is not None:
            self._batch.cancel()
        if not self._last:
            self._path.unlink(missing_ok=True)
        elif self._gathered:
            self._write(b"".join(self._gathered))
        os.close(self._fd)


def _own(path: Path) -> int:
    """The file, opened and locked; made anew if it was adopted between the two."""
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)
        if os.fstat(fd).st_nlink:
            return fd
        os.close(fd)
