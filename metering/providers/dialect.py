"""What all dialects share: an endpoint's form does the reading."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from metering.core.reach import Reach
from metering.providers.base import NOTHING, Ask, Endpoint, Form, StreamTap, Usage
from metering.providers.paths import classify


class FormDialect:
    """A `base.Dialect` less its names and its credential."""

    forms: Mapping[str, Form]
    """By endpoint name."""
    metered: Mapping[str, Endpoint]
    """By plain path."""
    free_posts: re.Pattern[str]
    """POSTs that cost nothing."""
    deployed = False
    needs_resource = False
    versioned = False
    models_path = "/v1/models"

    def endpoint(self, method: str, path: str, query: bytes = b"") -> Endpoint:  # noqa: ARG002
        """See `base.Dialect`."""
        return classify(method, path, self.metered, self.free_posts)

    def ask(self, endpoint: Endpoint, body: bytes, content_type: bytes = b"") -> Ask:
        """See `base.Dialect`."""
        return self.forms[endpoint.name].ask(body, content_type, endpoint.model)

    def reach(self, endpoint: Endpoint, body: bytes, ask: Ask) -> Reach:
        """See `base.Dialect`."""
        return self.forms[endpoint.name].reach(body, ask)

    def upstream_body(self, ask: Ask, body: bytes) -> bytes:
        """See `base.Dialect`."""
        return body if ask.changed_body is None else ask.changed_body

    def read(self, endpoint: Endpoint, body: bytes, ask: Ask = NOTHING) -> Usage:
        """See `base.Dialect`."""
        return self.forms[endpoint.name].read(body, ask)

    def tap(self, endpoint: Endpoint, ask: Ask) -> StreamTap:
        """See `base.Dialect`."""
        return self.forms[endpoint.name].tap(ask)

    def default_headers(
        self,
        headers: Sequence[tuple[bytes, bytes]],  # noqa: ARG002
    ) -> list[tuple[bytes, bytes]]:
        """See `base.Dialect`."""
        return []


def metered(forms: Mapping[str, Form]) -> dict[str, Endpoint]:
    """By path, the endpoints of forms whose names are paths below `/v1/`, with dots."""
    return {"/v1/" + name.replace(".", "/"): Endpoint(name, "metered") for name in forms}
