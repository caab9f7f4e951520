"""The turns of a conversation as Anthropic has them, and the system prompt before them.

Results of tools that follow one another are one turn of the user, and what the user says right
after joins them. System messages that come late stay behind the user's turn they came with where
the model takes any there.
"""

from __future__ import annotations

from msgspec import UNSET, Raw

from metering.translate.anthropic.blocks import Content, Text, ToolResult, Turn
from metering.translate.reading import Lost, wrong

EMPTY = Raw(b'""')


class Turns:
    """The turns so far."""

    def __init__(self, lost: Lost, *, late_system: bool) -> None:
        """`late_system`: whether the model takes messages of role system after the first turn."""
        self.system: Content = []
        self.turns: list[Turn] = []
        self._lost = lost
        self._late_system = late_system
        self._late: list[tuple[str, Content]] = []
        self._moved = 0
        """How many of these the user has gone on after."""
        self._results = 0
        """How many results of tools the last turn begins with, if it is theirs."""
        self._open: Content = []
        """The content of that turn."""

    def instruct(self, found: Content, path: str) -> None:
        """Takes a system message."""
        if not self.turns:
            self.system += found
        elif found:
            self._late.append((path, found))

    def say(self, content: Raw | Content) -> None:
        """Takes what the user says: blocks, or a string as it is."""
        self._overtaken()
        if isinstance(content, Raw) and (content == EMPTY or not self._results):
            if content != EMPTY:
                self._turn("user", content)
            return
        found: Content = [Text(content)] if isinstance(content, Raw) else content
        if self._results:
            self._open.extend(found)
        elif found:
            self._turn("user", found)

    def answer(self, found: Content) -> None:
        """Takes what the assistant has said and called."""
        if found:
            self._place_late()
            only = found[0]
            plain = len(found) == 1 and isinstance(only, Text) and only.cache_control is UNSET
            self._turn("assistant", only.text if plain and isinstance(only, Text) else found)

    def result(self, made: ToolResult, content: Raw | Content) -> None:
        """Takes the result of a call; `content` is what it says: blocks, or a string as it is."""
        self._overtaken()
        if not isinstance(content, Raw):
            made.content = content or UNSET
        elif content != EMPTY:
            made.content = content
        if not self._results:
            self._open = []
            self._turn("user", self._open)
        self._open.insert(self._results, made)
        self._results += 1

    def end(self, path: str) -> None:
        """All has been taken. Anthropic asks for a message of the user: where there are only system
        messages, they are it. `path` is where the client has the conversation."""
        self._place_late()
        if not self.turns and self.system:
            self._turn("user", self.system)
            self.system = []
            self._lost.change(path)
        if not self.turns:
            raise wrong(path, "a list with at least one message of a user that says something")

    def _turn(self, role: str, content: Raw | Content) -> None:
        self._results = 0
        self.turns.append(Turn(role, content))

    def _overtaken(self) -> None:
        """The user goes on after system messages, which have to wait for the end of the turn."""
        self._lost.change(*(path for path, _ in self._late[self._moved :]))
        self._moved = len(self._late)

    def _place_late(self) -> None:
        """Puts system messages behind the user's turn that they came with; where there is none, or
        the model takes no such messages, to the others at the front."""
        for path, found in self._late:
            if self._late_system and self.turns[-1].role != "assistant":
                self._turn("system", found)
            else:
                self.system += found
                self._lost.change(path)
        self._late.clear()
        self._moved = 0
