"""What the headers of a request say, remembered: SDKs send the same ones with call after call."""

from __future__ import annotations

import copy
from collections.abc import Callable

from metering.core.annotations import Annotations
from metering.core.headers import (
    only_key,
    only_placeholders,
    our_key_and_provider_key,
    retry_count,
    slot_key,
    to_provider,
)
from metering.core.keys import looks_ours
from metering.core.routing import Node
from metering.providers.base import Dialect
from metering.proxy.exchange import Headers
from metering.surfaces import Surface

REMEMBERED_MAX = 1_024
REMEMBERED_BYTES_MAX = 4_096
"""Larger heads are read anew each time."""
TARGETS_REMEMBERED_MAX = 10
"""Plans of more targets are, too: a few bytes can say many."""
PROVIDERS_REMEMBERED_MAX = 4
"""For so many the headers to send are remembered; with one more all are forgotten."""


class Said:
    """One set of headers, each thing read when it is first asked for. Never changes."""

    __slots__ = (
        "_annotations",
        "_brought",
        "_headers",
        "_passed",
        "_plan",
        "_surface",
        "content_type",
        "key",
        "our_keys",
        "retry_count",
        "slot_is_free",
    )

    def __init__(
        self,
        headers: Headers,
        surface: Surface,
        is_admin: Callable[[str], bool],
        admin_key: str | None,
    ) -> None:
        self.key, self.slot_is_free = our_key_and_provider_key(
            headers, is_admin, surface.key_headers
        )
        self.content_type = next((value for name, value in headers if name == b"content-type"), b"")
        self.retry_count = retry_count(headers)
        self.our_keys = [key for key in (self.key, admin_key) if key]
        """What must not go upstream, whatever it looks like."""
        self._headers = headers
        self._surface = surface
        self._annotations: Annotations | None = None
        self._plan: Node | None = None
        self._brought: Said | None = None
        self._passed: dict[str, tuple[tuple[bytes, bytes] | None, Headers]] = {}

    def annotations(self) -> Annotations:
        """What the call says about itself; raises InvalidRequest."""
        if self._annotations is None:
            self._annotations = self._surface.annotate(self._headers)
        return self._annotations

    def plan(self) -> Node:
        """Where the call may go; raises InvalidRequest."""
        if self._plan is not None:
            return self._plan
        plan = self._surface.plan(self._headers)
        if len(plan.targets) <= TARGETS_REMEMBERED_MAX:
            self._plan = plan
        return plan

    def provider_key(self) -> str | None:
        """What stands in the provider's slot, if that is not free."""
        if self.slot_is_free:
            return None
        return slot_key(self._headers, self.our_keys)

    def foreign(self, key: str) -> str | None:
        """A key, if it is none of ours: as in a slot, ours stands for a stored one."""
        return None if looks_ours(key) or key in self.our_keys else key

    def where(self) -> bytes:
        """What the headers say of where the call goes, as it came."""
        names = self._surface.where_headers
        return b"\n".join([b": ".join(it) for it in sorted(self._headers) if it[0] in names])

    def has(self, name: bytes) -> bool:
        """Whether a header is there."""
        return any(it == name for it, _ in self._headers)

    @property
    def shows_another_key(self) -> bool:
        """Whether a key is shown, and none that looks like ours."""
        return not looks_ours(self.key) if self.key else not self.slot_is_free

    def brought_along(self) -> Said:
        """The same, the caller's key being the one that stands in the provider's slots, if there
        is none of ours and it may be one of LiteLLM's."""
        if self._brought is None:
            key = None if self.slot_is_free else only_key(self._headers)
            shown = key is not None and self.key in (None, key)
            self._brought = self._shown_by(key) if shown and key else self
        return self._brought

    def _shown_by(self, key: str) -> Said:
        shown = copy.copy(self)
        shown.key, shown.slot_is_free, shown.our_keys = key, True, [*self.our_keys, key]
        shown._passed = {}  # noqa: SLF001 - its own
        return shown

    def without_placeholder(self) -> Said:
        """The same, the provider's slot free if no provider's key can be what stands there."""
        if self.slot_is_free or not only_placeholders(self._headers):
            return self
        freed = copy.copy(self)
        freed.slot_is_free = True
        return freed

    def passed(self, dialect: Dialect, stored: tuple[bytes, bytes] | None) -> Headers:
        """The headers to send upstream, with a stored credential if any; raises InvalidRequest."""
        kept, found = self._passed.get(dialect.category, (None, None))
        if found is None or kept != stored:  # only the latest: a credential that is gone is gone
            passed = to_provider(self._headers, stored, our_keys=self.our_keys)
            found = passed + dialect.default_headers(passed)
            if len(self._passed) >= PROVIDERS_REMEMBERED_MAX:
                self._passed.clear()
            self._passed[dialect.category] = stored, found
        return found


class Reader:
    """Reads the headers of one surface's calls, or remembers what they say; all is forgotten at
    once when memory is full."""

    def __init__(
        self, surface: Surface, is_admin: Callable[[str], bool], admin_key: str | None
    ) -> None:
        """`is_admin`: whether a key is the operator's own `admin_key`, in whatever format."""
        self._surface = surface
        self._is_admin = is_admin
        self._admin_key = admin_key
        self._remembered: dict[tuple[tuple[bytes, bytes], ...], Said] = {}

    def read(self, headers: Headers) -> Said:
        """What these headers say."""
        name = tuple(headers)
        said = self._remembered.get(name)
        if said is None:
            said = Said(headers, self._surface, self._is_admin, self._admin_key)
            if sum(len(key) + len(value) for key, value in headers) <= REMEMBERED_BYTES_MAX:
                if len(self._remembered) >= REMEMBERED_MAX:
                    self._remembered.clear()
                self._remembered[name] = said
        return said
