"""One call, planned: who, what, at which price, to where."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from metering.core.annotations import Annotations
from metering.core.limits import Limit
from metering.core.record import UsageRow
from metering.directory import Caller
from metering.meter import Priced
from metering.providers.base import Ask, Dialect, Endpoint
from metering.surfaces import Surface
from metering.translate.base import Answers

Headers = list[tuple[bytes, bytes]]


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about a call that is known before it is made."""

    surface: Surface
    told: Sequence[tuple[bytes, bytes]]
    """Headers of its surface's that every answer to it carries."""
    caller: Caller
    annotations: Annotations
    dialect: Dialect
    endpoint: Endpoint
    ask: Ask
    """Of calls that are not metered: no model, no text."""
    limits: tuple[Limit, ...]
    priced: Priced
    row: UsageRow
    """The usage row as far as it is known: `unresolved` until the truth is."""
    method: str
    url: str
    addresses: tuple[str, ...] | None = None
    """Where alone to connect, if the caller chose the origin."""
    headers: Headers
    body: bytes
    answers: Answers | None = None
    """What comes back, in the form that the client speaks; None: as it comes."""
    timeout_ms: int | None = None
    """How long the provider may take to begin its answer, if the caller says so."""
    host_field: str | None = None
    """Where the host was said, if not in our own header."""
    stored_key: bytes | None
    """The stored key that serves the call, if one does: neither it nor its account is shown."""
    tokens_asked: int = 0
    """What the tokenizer says the prompt is, before any learned factor."""
    started_s: float
    """The monotonic time of arrival."""

    @property
    def metered(self) -> bool:
        """Whether the answer is read for usage."""
        return self.endpoint.kind == "metered"

    @property
    def binding(self) -> bool:
        """Whether a limit can refuse this call."""
        return any(limit.binding for limit in self.limits)
