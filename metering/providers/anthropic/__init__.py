"""Anthropic's dialect: which endpoint speaks which form."""

from __future__ import annotations

from collections.abc import Sequence

from metering.providers.anthropic.complete import Complete
from metering.providers.anthropic.messages import Messages
from metering.providers.base import Form
from metering.providers.dialect import FormDialect, metered
from metering.providers.paths import posts

FORMS: dict[str, Form] = {"messages": Messages(), "complete": Complete()}
"""By endpoint name."""
FREE_POSTS = posts(
    "/v1/messages/count_tokens",
    "/v1/messages/batches/*/cancel",
    "/v1/files/**",
    "/v1/skills/**",
)
"""POSTs that cost nothing. A batch does, and so does a session of an agent."""
VERSION = (b"anthropic-version", b"2023-06-01")
OAUTH_PREFIX = "sk-ant-oat"


class Anthropic(FormDialect):
    """See `base.Dialect`."""

    name = "anthropic"
    category = "system.anthropic"
    forms = FORMS
    metered = metered(FORMS)
    free_posts = FREE_POSTS

    def credential(self, secret: str) -> tuple[bytes, bytes]:
        """See `base.Dialect`."""
        if secret.startswith(OAUTH_PREFIX):
            return b"authorization", b"Bearer " + secret.encode()
        return b"x-api-key", secret.encode()

    def default_headers(self, headers: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """See `base.Dialect`."""
        return [] if any(name == VERSION[0] for name, _ in headers) else [VERSION]
