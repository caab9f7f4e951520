"""What every translation offers: a request in another vendor's form, and its answer's way back.

A translation is of two forms, as `providers` name endpoints: what the client speaks and what the
provider does. It raises InvalidRequest for what makes no sense, naming the member by its path
(`messages[2].tool_calls[0].function.arguments`), and loses nothing in silence: what the other form
cannot say is in `dropped`. On a provider's bytes it raises nothing.

An `xproxy_result` that stands in a streamed event of the provider's goes on with what the event
becomes: on the client's last chunk or event that may carry one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What a translation has to know beside the request."""

    created_s: int
    """When the call came in, in seconds since 1970: OpenAI's `created`."""
    max_output_tokens: int | None = None
    """How much the model writes at most: for where the provider asks for a cap and the client has
    set none."""
    strict: bool = True
    """Whether answers have the members of the client's form alone. Else what has no place in it
    comes beside, under the names Portkey gives it (`content_blocks`)."""


class Stream(Protocol):
    """A provider's stream as the client's. Cut at any byte it gives the same."""

    def feed(self, data: bytes) -> bytes:
        """Take bytes of the provider; give what the client gets now."""

    def finish(self, *, cut: bool) -> bytes:
        """The provider ended. What is missing at the end of a stream that was `cut`, by a fault or
        by the lack of its last event, is told as an error: never as a proper end."""


class Answers(Protocol):
    """What comes back, in the client's form."""

    def whole(self, body: bytes) -> bytes | None:
        """A whole answer; None: it cannot be read."""

    def error(self, status: int, body: bytes) -> bytes:
        """The body of an answer that is no 2xx."""

    def stream(self) -> Stream:
        """A streamed answer."""


class Translated(msgspec.Struct, frozen=True, kw_only=True):
    """A request in the provider's form."""

    body: bytes
    answers: Answers
    dropped: tuple[str, ...] = ()
    """The members that could not be carried, by their paths."""
    changed: tuple[str, ...] = ()
    """Those that came through with another value: `temperature`, where it was beyond what is
    allowed."""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    """Headers that the body depends on, such as `anthropic-beta`."""


Translate = Callable[[bytes, Options], Translated]
"""A request's body in the client's form, in the provider's. Raises InvalidRequest."""
