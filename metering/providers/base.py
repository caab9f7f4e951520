"""What every dialect offers: which endpoint this is, what the request asks for, what was used.

Readers and taps are push objects: `feed(bytes)`, then `finish()`; cut at any byte they give the
same result. They raise nothing on a provider's bytes: what cannot be read is reported as missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

from metering.core.reach import PLAIN, Reach

Kind = Literal["metered", "free", "unmetered"]


class Endpoint(msgspec.Struct, frozen=True):
    """What a method and path mean to us. `name` is `chat.completions`, `messages`, ... or
    `other`; of a metered one it is the dialect's name of the form."""

    name: str
    kind: Kind
    restates: bool = False
    """Whether its answers may state what another call, known by the provider's id, has used."""
    model: str = ""
    """What the path names as the model: a deployment."""
    streams_usage: bool = True
    """Whether a stream may be asked to state its usage."""


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """What a metered request asks for, as far as cost depends on it."""

    model: str
    stream: bool = False
    include_usage: bool = False
    """Whether the client itself asked for the usage chunk."""
    max_output_tokens: int | None = None
    choices: int = 1
    service_tier: str | None = None
    end_user: str | None = None
    """Whom the provider is told that the call is for."""
    texts: tuple[str, ...] = ()
    """All text of the prompt (messages, system, tools) in its parts, for the tokenizer."""
    tokens: int = 0
    """How many tokens of the prompt came as such, not as text."""
    audio: bytes = b""
    """A recording that is part of the prompt."""
    counted: dict[str, int] = {}
    """What the request itself shows of units that are not tokens: characters to speak, images to
    make. It is what is charged where the model is priced by them, and the answer says no more."""
    plain: bool = False
    """Whether an answer is asked for that is no JSON: text or sound."""
    reach: Reach = PLAIN
    """What it may come to beyond that; read for hard caps alone."""
    body_bytes: int = 0
    changed_body: bytes | None = None
    """What goes upstream in place of the caller's bytes, where members must be set or were sent
    twice; None: the caller's bytes."""


NOTHING = Ask(model="")
"""What a call asks for that is not metered."""


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider's answer says was used."""

    model: str | None = None
    provider_id: str | None = None
    service_tier: str | None = None
    scope: str | None = None
    """Where it ran, if that changes the price (`inference_geo`)."""
    counts: dict[str, int] | None = None
    """Unit counts as `pricing.units` names them, overlapping; None: the answer did not say.

    `output` alone is missing where a stream that had stated its input was cut off.
    """
    counted: dict[str, int] = {}
    """Units that are not tokens, as the answer itself shows them: images made, characters spoken.
    They are charged where it states no counts and the model is priced by them."""
    output_text: str = ""
    """Delivered output so far, kept only while its count is missing: for an estimate."""
    output_audio: bytes = b""
    """Delivered speech, likewise."""
    finished: bool = False
    """Whether the answer came to its proper end."""
    pending: bool = False
    """Whether the answer is still being made: the request has only been taken in."""
    error: bool = False
    """Whether the stream carried an error event."""
    other_models: dict[str, dict[str, int]] = {}
    """Counts, by model, that the answer used beside its own (Anthropic's advisor tool)."""


class StreamTap(Protocol):
    """Relays a stream while reading it, holding back the event that carries the result."""

    ready: bool
    """The usage is final: price, settle, then `splice`. Bytes fed meanwhile are kept in order."""

    def feed(self, data: bytes) -> bytes:
        """Take bytes of the provider; give the bytes to relay now."""

    def finish(self) -> bytes:
        """The provider ended, cleanly or not: give what may go out now; `ready` becomes true."""

    def usage(self) -> Usage:
        """What is known so far."""

    def splice(self, result: bytes | None) -> bytes:
        """Give all held bytes, with `"xproxy_result":<result>` in the carrier if there is one."""


class Form(Protocol):
    """How the requests and answers of one metered endpoint are written."""

    def ask(self, body: bytes, content_type: bytes, named: str = "") -> Ask:
        """Read a request; InvalidRequest names the member that is missing or wrong. `named` is the
        model of one that names none."""

    def reach(self, body: bytes, ask: Ask) -> Reach:
        """What a request that was read may cost that its bytes do not bound."""

    def read(self, body: bytes, ask: Ask) -> Usage:
        """Read a whole answer: JSON, or what else the request asked for. One that cannot be read
        is not `finished`."""

    def tap(self, ask: Ask) -> StreamTap:
        """A tap for a streamed answer."""


class Dialect(Protocol):
    """One vendor's dialect."""

    name: str
    """`openai`, `anthropic`: the provider in the price book."""
    category: str
    """Pay-i's category: `system.openai`."""

    deployed: bool
    """Whether it serves models as deployments of customers' own: a call says where
    (`xProxy-Provider-BaseUri`), and may say what the model is (`xProxy-PriceAs-Resource`)."""
    needs_resource: bool
    """Whether it must say that."""
    versioned: bool
    """Whether a base URL of it stands for everything up to `/v1`, as OpenAI's does."""
    models_path: str
    """A GET that costs nothing and is answered to those whose credential is good."""

    def endpoint(self, method: str, path: str, query: bytes = b"") -> Endpoint:
        """Classify a provider path, e.g. `/v1/chat/completions`."""

    def ask(self, endpoint: Endpoint, body: bytes, content_type: bytes = b"") -> Ask:
        """Read a metered request; InvalidRequest names the member that is missing or wrong."""

    def reach(self, endpoint: Endpoint, body: bytes, ask: Ask) -> Reach:
        """What a metered request may cost that its bytes do not bound."""

    def upstream_body(self, ask: Ask, body: bytes) -> bytes:
        """The body to send: the caller's bytes, but for members we must set."""

    def read(self, endpoint: Endpoint, body: bytes, ask: Ask = NOTHING) -> Usage:
        """Read a whole answer that is no stream of events."""

    def tap(self, endpoint: Endpoint, ask: Ask) -> StreamTap:
        """A tap for a streamed answer."""

    def credential(self, secret: str) -> tuple[bytes, bytes]:
        """The header a stored secret is sent in."""

    def default_headers(self, headers: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """Headers to add where the caller left them out; `headers` are those going upstream."""
