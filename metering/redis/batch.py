"""What waits for a reply: one command, or many calls that one run of a script takes together."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import hiredis

from metering.errors import StoreAway
from metering.redis.scripts import Script

Argument = str | bytes | int
Reply = Any
CALLS_MAX = 64
"""So many calls go into one run: a script holds up everybody else while it runs."""
UNREADABLE = -2
"""What a script says of a call whose keys are not what they should be; the others are not kept."""


class CommandRefused(StoreAway):
    """Redis refused a command; it wrote nothing."""


class UnknownScript(CommandRefused):
    """Redis does not know this script; nothing ran."""


def refusal(text: str) -> CommandRefused:
    """An error reply as a fault."""
    unknown = text.startswith("NOSCRIPT") or "Function not found" in text
    return UnknownScript(text) if unknown else CommandRefused(f"Redis: {text}")


def pack(*arguments: Argument) -> bytes:
    """A command as it goes over the wire."""
    packed: bytes = hiredis.pack_command(arguments)  # type: ignore[arg-type]
    return packed


class Single:
    """One command and who waits for its reply."""

    __slots__ = ("_command", "_future")

    def __init__(self, command: bytes, future: asyncio.Future[Reply]) -> None:
        """`command` is packed already."""
        self._command = command
        self._future = future

    def command(self) -> bytes:
        """The bytes to send."""
        return self._command

    def answer(self, reply: Reply) -> None:
        """The reply has come; an error reply is an exception."""
        if self._future.done():
            return
        if isinstance(reply, CommandRefused):
            self._future.set_exception(reply)
        else:
            self._future.set_result(reply)

    def fail(self, fault: StoreAway, cause: BaseException) -> None:
        """No reply will come."""
        _fail(self._future, fault, cause)


class Batch:
    """Calls of one shard for a script that takes many: its keys, arguments and replies in order."""

    __slots__ = ("_arguments", "_futures", "_keys", "_script", "repeated")

    def __init__(
        self, script: Script, shared: Iterable[Argument], first: Iterable[Argument]
    ) -> None:
        """`shared` and `first`: the keys and arguments before those of the first call."""
        self._script = script
        self._keys: list[Argument] = list(shared)
        self._arguments: list[Argument] = list(first)
        self._futures: list[asyncio.Future[Reply]] = []
        self.repeated = False
        """Whether it was sent again, after Redis did not know the script."""

    def add(
        self,
        keys: Iterable[Argument],
        arguments: Iterable[Argument],
        future: asyncio.Future[Reply],
    ) -> bool:
        """Take in a call; whether that was the last there is room for."""
        self._keys += keys
        self._arguments += arguments
        self._futures.append(future)
        return len(self._futures) >= CALLS_MAX

    def command(self) -> bytes:
        """The bytes to send."""
        return pack(*self._script.running, len(self._keys), *self._keys, *self._arguments)

    def loading(self, future: asyncio.Future[Reply]) -> Single:
        """The command that makes the script known."""
        future.add_done_callback(_retrieved)
        return Single(pack(*self._script.loading), future)

    def answer(self, replies: Reply) -> None:
        """The script's replies to all calls have come, or its refusal to run."""
        refused = isinstance(replies, CommandRefused)
        for at, future in enumerate(self._futures):
            if future.done():
                continue
            if refused:
                future.set_exception(type(replies)(replies.message))
            elif _is_unreadable(replies[at]):
                future.set_exception(refusal(replies[at][1].decode(errors="replace")))
            else:
                future.set_result(replies[at])

    def fail(self, fault: StoreAway, cause: BaseException) -> None:
        """No reply will come."""
        for future in self._futures:
            _fail(future, type(fault)(fault.message), cause)


def _is_unreadable(reply: Reply) -> bool:
    return isinstance(reply, list) and reply[0] == UNREADABLE


def _fail(future: asyncio.Future[Reply], fault: StoreAway, cause: BaseException) -> None:
    if not future.done():
        fault.__cause__ = cause
        future.set_exception(fault)


def _retrieved(future: asyncio.Future[Reply]) -> None:
    """Nobody waits for this one: a fault of it shows in what comes after."""
    if not future.cancelled():
        future.exception()
