"""OpenAI's dialect: which endpoint speaks which form."""

from __future__ import annotations

from collections.abc import Sequence

from metering.providers.base import Ask, Endpoint, Form, StreamTap, Usage
from metering.providers.openai.chat import Chat, Completions
from metering.providers.openai.embeddings import Embeddings
from metering.providers.openai.responses import Responses
from metering.providers.paths import classify, posts

FORMS: dict[str, Form] = {
    "chat.completions": Chat(),
    "completions": Completions(),
    "embeddings": Embeddings(),
    "responses": Responses(),
    "responses.compact": Responses(),
}
"""By endpoint name. A compaction asks and answers as a response does."""
METERED = {"/v1/" + name.replace(".", "/"): Endpoint(name, "metered") for name in FORMS}
RETRIEVED = Endpoint("responses", "free", restates=True)
"""A response that is looked at again: of one made in the background, its end."""
RETRIEVALS = {"GET": posts("/v1/responses/*"), "POST": posts("/v1/responses/*/cancel")}
FREE_POSTS = posts(
    "/v1/moderations",
    "/v1/files/**",
    "/v1/uploads/**",
    "/v1/responses/input_tokens",
    "/v1/responses/*/cancel",
    "/v1/chat/completions/*",  # the metadata of a stored one
    "/v1/conversations/**",
    "/v1/vector_stores/**",
    "/v1/assistants/**",
    "/v1/threads",
    "/v1/threads/thread_*",
    "/v1/threads/*/messages/**",
    "/v1/containers/*/files",
    "/v1/fine_tuning/jobs/*/*",  # to cancel, pause or resume one
    "/v1/batches/*/cancel",
)
"""POSTs that cost nothing. A run of a thread, a fine-tuning job, a batch or a container does."""


class OpenAI:
    """See `base.Dialect`."""

    name = "openai"
    category = "system.openai"

    def endpoint(self, method: str, path: str) -> Endpoint:
        """See `base.Dialect`."""
        found = classify(method, path, METERED, FREE_POSTS)
        again = RETRIEVALS.get(method)
        return RETRIEVED if again is not None and again.fullmatch(path) else found

    def ask(self, endpoint: Endpoint, body: bytes) -> Ask:
        """See `base.Dialect`."""
        return FORMS[endpoint.name].ask(body)

    def upstream_body(self, ask: Ask, body: bytes) -> bytes:
        """See `base.Dialect`."""
        return body if ask.changed_body is None else ask.changed_body

    def read(self, endpoint: Endpoint, body: bytes) -> Usage:
        """See `base.Dialect`."""
        return FORMS[endpoint.name].read(body)

    def tap(self, endpoint: Endpoint, ask: Ask) -> StreamTap:
        """See `base.Dialect`."""
        return FORMS[endpoint.name].tap(ask)

    def credential(self, secret: str) -> tuple[bytes, bytes]:
        """See `base.Dialect`."""
        return b"authorization", b"Bearer " + secret.encode()

    def default_headers(
        self,
        headers: Sequence[tuple[bytes, bytes]],  # noqa: ARG002
    ) -> list[tuple[bytes, bytes]]:
        """See `base.Dialect`."""
        return []
